"""A budget in cost: its limits, the number of rows that it stands for, and what fits in it.

The order of the picks is walked, and the selection ends before the first pick that would exceed the
budget. Later rows that would still fit are not taken: so smaller budgets give prefixes of the same
order. With a balance, each class ends so at its share.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Balance
from d2cli.errors import DataError, UsageError
from d2cli.runtime.decisions import Decision
from d2cli.selection.costs.limits import CostLimits, rounded_down, shares_of_cost
from d2cli.selection.costs.sums import as_text, total_cost
from d2cli.selection.greedy import Rules, Selection
from d2cli.selection.thinning import evenly, kept_of_classes

_RULE = (
    "N = Σ_c N_c with N_c = included_c + min(m_c, ⌊b_c m_c / C_c⌋), the second term at least 1 if "
    "b_c > 0: the rows that b_c buys at the mean cost C_c / m_c of the rows that may be picked; "
    "b_c = the share of class c in the budget, less the cost of its included rows"
)


class InRows(NamedTuple):
    """A budget in cost, as the automatic rules need it."""

    size: int  # N, included rows counted in
    rules: Rules  # with the limits of cost, and quotas of each class if there are classes
    decision: Decision  # that N stands for the budget


def check_costs(costs: NDArray[np.float64], n: int) -> None:
    """Refuse costs that are not (n,) finite numbers of at least 0, or whose sum is infinite."""
    if costs.shape != (n,):
        raise DataError(f"costs must be ({n},), not {costs.shape}", argument="costs")
    bad = ~(np.isfinite(costs) & (costs >= 0))
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"cost is {costs[row]:g}", argument="costs", row=row)
    with np.errstate(over="ignore"):
        total = costs.sum()
    if not np.isfinite(total):
        raise DataError("costs add up beyond float64", argument="costs")


def check_cost_budget(budget: float) -> None:
    """Raise a UsageError unless a budget in cost is above 0 and finite."""
    if not 0 < budget < np.inf:
        raise UsageError(f"a cost budget must be a number above 0, not {budget:g}")


def budget_in_cost(
    rules: Rules, costs: NDArray[np.float64], budget: float, balance: Balance = "none",
    classes: NDArray[np.int64] | None = None,
) -> InRows:  # fmt: skip
    """Turn a budget in cost into limits, and into a size N for the automatic rules.

    ``N = Σ_c N_c``, ``N_c = |I_c| + min(m_c, ⌊b_c m_c / C_c⌋)``, with one class c unless there is a
    balance; the second term is at least 1 if b_c > 0. Of class c, I_c are the included rows, m_c is
    the number of rows that may be picked and C_c their cost, and b_c is the share of the budget
    less the cost of I_c.

    Args:
        rules: which rows can be picked, without quotas.
        costs: (n,) float64, see :func:`check_costs`.
        budget: what all picks may cost, included rows counted in.
        balance: how the classes share it (:func:`d2cli.selection.costs.limits.shares_of_cost`).
        classes: (n,) class numbers 0 … C-1, needed for a balance.

    Raises:
        DataError: for costs that cannot be used.
        UsageError: if the budget is not above 0, if the included rows cost more, or if no row can
            be picked.
    """
    check_costs(costs, rules.include.size)
    check_cost_budget(budget)
    of_class = np.zeros(costs.size, np.int64) if classes is None else classes
    count = int(of_class.max(initial=0)) + 1

    def cost_of(rows: NDArray[np.bool_]) -> list[float]:
        return np.bincount(of_class[rows], costs[rows], count).tolist()

    eligible = rules.eligible
    included, free = cost_of(rules.include), cost_of(eligible)
    held = sum(map(Fraction, included))
    _left(held, budget)
    if not (eligible.any() or rules.included):
        raise UsageError("no row can be picked", "cut off and exclude less")
    taking_part = cost_of(~rules.left_out)
    shares = shares_of_cost(taking_part, budget, balance, included)
    left = [share - Fraction(cost) for share, cost in zip(shares, included, strict=True)]
    fits = [share >= cost for share, cost in zip(shares, taking_part, strict=True)]
    limits = [np.inf if f else rounded_down(b) for f, b in zip(fits, left, strict=True)]
    rows = np.bincount(of_class[eligible], minlength=count)
    quotas = np.bincount(of_class[rules.include], minlength=count)
    for c in np.flatnonzero(rows):
        bought = rows[c] if fits[c] else int(left[c] * int(rows[c]) / Fraction(free[c]))
        quotas[c] += min(rows[c], max(bought, left[c] > 0))
    size = int(quotas.sum())
    if classes is not None:
        rules = replace(rules, classes=classes, quotas=quotas)
    numbers = {
        "cost_budget": float(budget),
        "included": rules.included,
        "cost_of_included": float(held),
        "rows": int(rows.sum()),
        "cost_of_rows": float(sum(map(Fraction, free))),
        "classes": 1 if classes is None else count,
    }
    decision = Decision("size", size, _RULE, numbers)
    return InRows(size, replace(rules, cost_limits=CostLimits(costs, np.array(limits))), decision)


def thinned_to_cost(selection: Selection, rules: Rules) -> Selection:
    """Keep the included rows and, of each class, as many evenly spaced picks as its limit allows.

    Of W picks of a class, those at the places ``⌊i·W/N⌋``, i = 0 … N − 1, are kept, with N found
    by bisection: N picks fit, and N + 1 do not. `rules` hold the limits.
    """
    assert rules.cost_limits is not None
    costs, limits = rules.cost_limits.costs, rules.cost_limits.limits

    def fitting(c: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        fits, beyond = 0, places.size + 1
        while beyond - fits > 1:
            middle = (fits + beyond) // 2
            if total_cost(costs, selection.order[evenly(places, middle)]) <= limits[c]:
                fits = middle
            else:
                beyond = middle
        return evenly(places, fits)

    return kept_of_classes(selection, rules, fitting)


def prefix(selection: Selection, costs: NDArray[np.float64], budget: float) -> Selection:
    """The selection of a smaller budget, for the same γ_r and without a balance.

    Raises:
        UsageError: if the budget is not above 0, or the included rows cost more.
    """
    check_cost_budget(budget)
    at = selection.included
    limit = rounded_down(_left(total_cost(costs, np.sort(selection.order[:at])), budget))
    count = np.count_nonzero(np.cumsum(costs[selection.order[at:]]) <= limit)
    return selection.prefix(at + int(count))


def _left(included: Fraction | float, budget: float) -> Fraction:
    """What is left of a budget if the included rows cost `included`."""
    left = Fraction(budget) - Fraction(included)
    if left < 0:
        raise UsageError(
            f"the included rows cost {as_text(float(included))}, more than the budget of "
            f"{as_text(budget)}"
        )
    return left
