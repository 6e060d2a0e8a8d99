"""``select --cost``: what rows cost, and what is said of a budget in cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.bad_rows import BadRows
from d2cli.commands.requests import Budget, SelectRequest
from d2cli.errors import UsageError
from d2cli.files.frame import Frame
from d2cli.files.sources import Source
from d2cli.selection.costs.sums import as_text, total_cost

if TYPE_CHECKING:
    from d2cli.selection.greedy import Selection  # loads the compiler


def check_cost_options(request: SelectRequest) -> None:
    """Refuse options that do not fit a budget in cost."""
    if request.cost_budget and (request.ratio or request.size):
        other = "--ratio" if request.ratio else "--size"
        raise UsageError(
            f"--cost-budget and {other} are two kinds of budget",
            "give one of them; a run with the other can use the same --graph",
        )
    if request.cost_budget and request.cost is None:
        raise UsageError("--cost-budget needs --cost", "a file with the cost of each row")
    if request.cost is not None and not request.cost_budget:
        raise UsageError("--cost needs --cost-budget", "which is what the kept rows may cost")


def read_costs(source: Source, frame: Frame, bad: BadRows) -> NDArray[np.float64]:
    """(n,) costs in the order of the frame; adds rows without a usable cost to `bad`."""
    costs, origin = frame.vector(source)
    bad.settle_numbers(costs, source.option, origin, "cost")
    bad.settle(costs < 0, source.option, origin, lambda row: f"cost is negative ({costs[row]:g})")
    return costs


class Bill:
    """What the rows of one selection cost.

    Attributes:
        budget: what they may cost.
        spent, left: what they cost, and what is left of the budget.
        everything: whether all rows that may be picked are kept.
    """

    def __init__(
        self, budget: Budget, costs: NDArray[np.float64], selection: Selection, most: int
    ) -> None:
        """`costs` are (n,); `most` is how many rows may be kept."""
        assert budget.cost is not None
        self.budget = float(budget.cost)
        self.spent = total_cost(costs, selection.order)
        self.left = max(0.0, self.budget - self.spent)
        self.everything = selection.order.size == most - selection.cut

    @property
    def section(self) -> dict[str, Any]:
        """For the section ``selection`` of provenance."""
        return {"cost_spent": self.spent, "cost_left": self.left}

    @property
    def line(self) -> str:
        """For people."""
        return f"{as_text(self.spent)} of {as_text(self.budget)} spent"

    def notices(self, balanced: bool) -> list[str]:
        """How much is left, and why."""
        if not self.left:
            return []
        why = "the next pick would exceed it"
        if self.everything:
            why = "every row that can be picked is kept"
        elif balanced:
            why = "each class ends before the pick that would exceed its share"
        return [f"{as_text(self.left)} of the cost budget of {as_text(self.budget)} is left: {why}"]
