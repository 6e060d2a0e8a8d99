"""The names of the outputs of ``select``."""

from __future__ import annotations

from d2cli.commands.requests import Budget, OutputOptions
from d2cli.errors import UsageError


def name_targets(options: OutputOptions, budgets: list[tuple[Budget, int]]) -> list[str]:
    """The output of each budget, which stands beside its size in rows.

    Raises:
        UsageError: if several budgets would go to one file.
    """
    out = options.out
    if out is None:
        out = "selected.npy"
        if len(budgets) > 1:
            by_size = any(budget.size for budget, _ in budgets)
            out = "selected_{size}.npy" if by_size else "selected_{ratio}.npy"
    targets = []
    for budget, size in budgets:
        if "{ratio}" in out and budget.ratio is None:
            raise UsageError("{ratio} in --out needs every budget to be a --ratio", "use {size}")
        targets.append(out.replace("{ratio}", str(budget.ratio)).replace("{size}", str(size)))
    if len(set(targets)) < len(targets):
        raise UsageError(
            f"several budgets would be written to {targets[0]}",
            "put {ratio} or {size} into --out, for example --out kept_{ratio}.npy",
        )
    return targets
