"""What the requests for pages may be: checked where they are planned, and where they are run."""

from __future__ import annotations

import math
from importlib.util import find_spec

from d2cli.commands.requests import Budget, CompareRequest, ReportRequest
from d2cli.errors import D2Error, UsageError
from d2cli.selection.budgets import budget_of, check_size, exactly

#: What the pages need of the extra `report`: how each is imported, and what it is called.
COMPARE_NEEDS = {"matplotlib": "matplotlib", "jinja2": "Jinja2", "PIL": "pillow"}
REPORT_NEEDS = {**COMPARE_NEEDS, "sklearn": "scikit-learn"}
#: More of them would not fit side by side.
MOST_SELECTIONS = 8


def check_report(request: ReportRequest) -> None:
    """Refuse what makes no sense, and what cannot be done, before anything is read."""
    _check_page(request.out, "a report")
    options = request.options
    for name, value, least in (
        ("measured-rows", options.measured_rows, 1),
        ("map-rows", options.map_rows, 1),
        ("examples", options.examples, 0),
        ("seed", options.seed, 0),
    ):
        if value < least:
            raise UsageError(f"--{name} must be at least {least}, not {value}")
    _check_needs("report", REPORT_NEEDS)


def check_compare(request: CompareRequest) -> None:
    """Refuse what makes no sense, and what cannot be done, before anything is read."""
    _check_page(request.out, "a comparison")
    if not request.budgets:
        raise UsageError("compare needs --ratio or --size")
    if request.options.measured_rows < 1:
        raise UsageError(f"--measured-rows must be at least 1, not {request.options.measured_rows}")
    _check_needs("compare", COMPARE_NEEDS)


def check_count(count: int) -> None:
    """Refuse more selections than a page holds."""
    if count > MOST_SELECTIONS:
        raise UsageError(f"{count} selections are more than the {MOST_SELECTIONS} of a page")


def compared_size(budget: Budget, request: CompareRequest, n: int) -> int:
    """A budget in rows, which every method must be able to spend."""
    size = budget_of(budget.ratio or "nan", n) if budget.size is None else budget.size
    check_size(size, 0, n)
    beta = request.options.cutoff
    if not 0 <= beta < 1:
        raise UsageError(f"cutoff must be at least 0 and below 1, not {beta:g}")
    left = n - math.floor(exactly(beta, n))
    cut = [m for m in request.options.methods if m in ("cutoff", "ccs")]
    if cut and size > left:
        raise UsageError(
            f"a budget of {size:,} is more than the {left:,} rows that a cutoff of {beta:g} leaves",
            f"lower --cutoff, or leave {' and '.join(cut)} out of --methods",
        )
    return size


def _check_page(out: str, what: str) -> None:
    if not out.lower().endswith((".html", ".htm")):
        raise UsageError(f"{out}: {what} is a web page", "end its name in .html")


def _check_needs(command: str, needs: dict[str, str]) -> None:
    missing = [name for module, name in needs.items() if find_spec(module) is None]
    if missing:
        raise D2Error(
            f"d2prune {command} needs {', '.join(missing)}, not installed here",
            "pip install 'd2prune[report]'",
        )
