"""The outputs of ``select``: their names, their columns, their provenance, and the summary."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.defaults import WrittenAs
from d2cli.errors import OutputError, UsageError
from d2cli.graph import Csr, KnnGraph
from d2cli.io.atomic import Outputs
from d2cli.io.graph_file import build_record
from d2cli.io.provenance import record, sidecar, write_sidecar
from d2cli.io.selection_file import Kept, check_form, print_selection, store_selection
from d2cli.pipeline.graph import describe_graph
from d2cli.pipeline.propagate import describe_messages, message_record
from d2cli.pipeline.requests import Budget, OutputOptions, SelectRequest, given
from d2cli.pipeline.select_inputs import Inputs
from d2cli.pipeline.summary import Clock, Summary, last_line
from d2cli.sampling import GAMMA_HIGH, GAMMA_LOW, Selection


@dataclass(frozen=True)
class Picked:
    """One budget's selection and where it goes."""

    target: str
    budget: Budget
    selection: Selection


def plan_targets(
    options: OutputOptions, budgets: list[tuple[Budget, int]], ids: pa.Array | None
) -> list[str]:
    """The output of each budget, its form checked.

    Raises:
        UsageError: if several budgets would go to one file, or the form is not known.
    """
    out = options.out
    if out is None:
        out = "selected.npy"
        if len(budgets) > 1:
            out = (
                "selected_{size}.npy" if any(b.size for b, _ in budgets) else "selected_{ratio}.npy"
            )
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
    for target in targets:
        check_form(target, options.written_as, ids, options.order == "rank")
    return targets


def write_all(
    request: SelectRequest,
    inputs: Inputs,
    graph: KnnGraph,
    csr: Csr,
    sigma: float,
    u: NDArray[np.float64],
    picked: list[Picked],
    clock: Clock,
    threads: int,
    notices: list[str],
    stdout: IO[str] | None,
) -> Summary:
    """Write every selection, all or none, and say what was done."""
    base = _parameters(request, inputs)
    common = {
        "inputs": inputs.described,
        "messages": {"sigma": sigma},
        "graph": build_record(graph),
    }
    entries = [
        record(
            "select",
            {**base, **_budget(p)},
            **common,
            counts=_counts(inputs, csr, p.selection),
            selection=_selection_record(p.selection),
        )
        for p in picked
    ]
    columns = _Columns(inputs, u, request.output.complement)
    written_as: WrittenAs = request.output.written_as
    with Outputs() as outputs:
        for p, entry in zip(picked, entries, strict=True):
            kept = columns.of(p.selection, request.output.order == "rank")
            if p.target == "-":
                _print(stdout, kept, written_as)
                continue
            note = outputs.place(sidecar(p.target))
            data = outputs.place(p.target)
            with clock.stage("write"):
                store_selection(data, Path(p.target).suffix.lower(), kept, written_as, entry)
            write_sidecar(note, data, entry, clock.run(threads))
    run = clock.run(threads)
    n = inputs.frame.n

    def of(p: Picked) -> str:
        """Which of several budgets a line is about."""
        return f"{p.target}: " if len(picked) > 1 else ""

    lines = [
        (
            "kept" if not request.output.complement else "dropped",
            f"{_written(p, n, request):,} of {n:,} rows ({_written(p, n, request) / n:.1%})"
            f" → {'standard output' if p.target == '-' else p.target}",
        )
        for p in picked
    ]
    lines += [
        ("graph", describe_graph(graph)),
        ("messages", describe_messages(inputs.messages, sigma, csr)),
        *(("gamma_r", of(p) + _describe_gamma(p.selection, inputs.gamma_reverse)) for p in picked),
        last_line(run),
    ]
    for p in picked:
        said = _selection_notices(p.selection, inputs.gamma_reverse, inputs.messages.clamped)
        notices = [*notices, *(of(p) + notice for notice in said)]
    record_of_all = (
        entries[0]
        if len(entries) == 1
        else {
            **{k: v for k, v in entries[0].items() if k not in ("counts", "selection")},
            "parameters": base,
            "selections": [
                {"out": p.target, **e["counts"], **e["selection"]}
                for p, e in zip(picked, entries, strict=True)
            ],
        }
    )
    return Summary([p.target for p in picked], record_of_all, run, lines, notices)


def _print(stdout: IO[str] | None, kept: Kept, written_as: WrittenAs) -> None:
    if stdout is None:  # the shell closed it: >&-
        raise OutputError("standard output is closed")
    try:
        print_selection(stdout, kept, written_as)
        stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: cannot be written ({error.strerror})") from None


def _budget(p: Picked) -> dict[str, Any]:
    ratio = p.budget.ratio
    return {"ratio": None if ratio is None else float(ratio), "size": p.budget.size}


def _written(p: Picked, n: int, request: SelectRequest) -> int:
    size = p.selection.order.size
    return n - size if request.output.complement else size


def _parameters(request: SelectRequest, inputs: Inputs) -> dict[str, Any]:
    """Every option that shapes the result."""
    parameters: dict[str, Any] = {
        **given(inputs.score_options),
        **message_record(inputs.messages),
        "gamma_reverse": inputs.gamma_reverse,
        "balance": request.balance,
        "cutoff": request.cutoff,
        "cutoff_higher_is": request.cutoff_higher_is,
        "id_column": request.id_column,
        "order": request.output.order,
        "as": request.output.written_as,
        "complement": request.output.complement,
    }
    if request.graph is None:
        parameters = {**given(request.graph_options), **parameters}
    return parameters


def _counts(inputs: Inputs, csr: Csr, selection: Selection) -> dict[str, int]:
    n = inputs.frame.n
    dropped = 0 if inputs.drop is None else int(inputs.drop.sum())
    return {
        "rows": n,
        "edges": int(csr.indices.size),
        "included": selection.included,
        "cut_off": inputs.cut,
        "excluded": dropped - inputs.cut,
        "kept": int(selection.order.size),
    }


def _selection_record(selection: Selection) -> dict[str, Any]:
    return {
        "gamma_reverse": selection.gamma_reverse,
        "gamma_reverse_at_bound": selection.at_bound,
        "messages_ran_out_at": selection.ran_out_at,
    }


class _Columns:
    """Turns a selection into rows to write, with their columns, in the order of writing."""

    def __init__(self, inputs: Inputs, u: NDArray[np.float64], complement: bool) -> None:
        self.inputs, self.u, self.complement = inputs, u, complement

    def of(self, selection: Selection, by_rank: bool) -> Kept:
        n = self.inputs.frame.n
        columns: dict[str, pa.Array] = {}
        if self.complement:
            kept = np.zeros(n, np.bool_)
            kept[selection.order] = True
            index = np.flatnonzero(~kept)
        else:
            rank = np.arange(selection.order.size)
            if not by_rank:
                rank = np.argsort(selection.order)
            index = selection.order[rank]
            columns["rank"] = pa.array(rank.astype(np.int64))
        if self.inputs.scores is not None:
            columns["score"] = pa.array(self.inputs.scores[index])
        columns["propagated"] = pa.array(self.u[index])
        if not self.complement:
            columns["gain"] = pa.array(selection.gains[rank])
        return Kept(index.astype(np.int64), n, self.inputs.frame.ids, columns)


def _describe_gamma(selection: Selection, asked: Any) -> str:
    text = f"{selection.gamma_reverse:.4g}" + (" (auto)" if asked == "auto" else "")
    if selection.ran_out_at is None:
        return f"{text}, messages lasted to the last pick"
    return (
        f"{text}, messages ran out after {selection.ran_out_at:,} of {selection.order.size:,} picks"
    )


def _selection_notices(selection: Selection, asked: Any, clamped: bool) -> list[str]:
    size, at = selection.order.size, selection.ran_out_at
    if at is not None and not clamped:
        return [
            f"after {at:,} of {size:,} picks the best score is no longer above zero: from there "
            "each pick raises its neighbours; raise --gamma-reverse (now "
            f"{selection.gamma_reverse:g}), or use --mode default"
        ]
    if at is not None and asked != "auto":
        return [
            f"the messages ran out after {at:,} of {size:,} picks: the other {size - at:,} had no "
            f"score left to decide by; raise --gamma-reverse (now {selection.gamma_reverse:g}), "
            "or let it be auto"
        ]
    if at is not None:
        return [
            f"the messages ran out after {at:,} of {size:,} picks even at gamma_reverse = "
            f"{GAMMA_HIGH:g}, the upper bound of auto: scores of 0 and exact duplicates do that"
        ]
    if selection.at_bound == "low":
        return [
            f"gamma_reverse = {GAMMA_LOW:g}, the lower bound of auto: so little is kept that the "
            "strongest messages leave scores to decide by"
        ]
    return []
