"""What the picks of each class may cost, and shares of a budget in cost."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Balance
from d2cli.selection.picks import Purse


@dataclass(frozen=True)
class CostLimits:
    """Limits of the cost of the picks besides the included rows.

    Attributes:
        costs: (n,) float64, the cost of each row, at least 0.
        limits: (C,) float64, for the picks of each class; (1,) without class quotas; infinite where
            all rows fit.
    """

    costs: NDArray[np.float64]
    limits: NDArray[np.float64]

    def purse(self, rows: int) -> Purse:
        """The limits, nothing spent yet, as the loops need them; `rows` can be picked."""
        room = np.array([rows], np.int64)
        return Purse(self.costs, self.limits, np.zeros(self.limits.size), room)

    def raised(self, picks: NDArray[np.int64], more: NDArray[np.int64]) -> CostLimits:
        """Limits for `more` picks of each class in place of `picks`, (C,) each, in proportion."""
        with np.errstate(over="ignore"):  # no limit is as good as one beyond float64
            limits = self.limits * np.maximum(more, 1) / np.maximum(picks, 1)
        return replace(self, limits=limits)


def shares_of_cost(
    available: list[float], budget: float, balance: Balance, included: list[float]
) -> list[Fraction]:
    """What the rows of each class may cost, included rows counted in; exact.

    Args:
        available: the cost of the rows of each class that take part. If they cost less than
            `budget`, the shares are these costs; else the shares sum to `budget`.
        balance: ``proportional``: shares in proportion to `available`. ``uniform``: equal shares; a
            class whose rows cost less passes the rest on to the others. ``none``: one class.
        included: the cost of the included rows of each class, together at most `budget`. A class
            whose included rows cost more than its share keeps them all, and the other classes share
            the remaining budget.
    """
    total, left = [Fraction(cost) for cost in available], Fraction(budget)
    if left >= sum(total):
        return total
    share = _uniform if balance == "uniform" else _proportional
    shares, free = [Fraction(cost) for cost in included], list(range(len(total)))
    while True:
        found = dict(zip(free, share([total[c] for c in free], left), strict=True))
        short = [c for c in free if found[c] < shares[c]]
        if not short:
            return [found.get(c, shares[c]) for c in range(len(total))]
        left -= sum(shares[c] for c in short)
        free = [c for c in free if c not in short]


def _proportional(available: list[Fraction], budget: Fraction) -> list[Fraction]:
    total = sum(available)
    return [budget * cost / total if total else Fraction(0) for cost in available]


def _uniform(available: list[Fraction], budget: Fraction) -> list[Fraction]:
    """Water-filling: all shares rise to one level, or to the cost of the class if that is less."""
    level, left = Fraction(0), budget
    for place, cost in enumerate(sorted(available)):
        level = left / (len(available) - place)
        if cost >= level:
            break
        left -= cost
    return [min(cost, level) for cost in available]


def rounded_down(share: Fraction) -> float:
    """The largest float64 that is at most `share`."""
    found = float(share)
    return found if Fraction(found) <= share else float(np.nextafter(found, -np.inf))
