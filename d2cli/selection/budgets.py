"""Counts of rows: budgets, class quotas and cutoffs; and the hardest rows."""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Balance
from d2cli.errors import DataError, UsageError


def exactly(share: float | str, n: int) -> Fraction:
    """`share` · n, exact for the decimal number `share`: 0.29 · 50 is 14.5, not a little less."""
    return Fraction(str(share)) * n


def budget_of(ratio: float | str, n: int) -> int:
    """``max(1, ⌊ratio · n + 1/2⌋)`` rows; a UsageError unless 0 < ratio <= 1."""
    if not 0 < float(ratio) <= 1:
        hint = None
        if 1 < float(ratio) <= 100:
            share = float(Fraction(str(ratio)) / 100)
            hint = f"the fraction that is kept: --ratio {share:g} keeps {ratio} % of the rows"
        elif float(ratio) > 100:
            hint = "for a number of rows use --size"
        raise UsageError(f"ratio must be above 0 and at most 1, not {ratio}", hint)
    return max(1, math.floor(exactly(ratio, n) + Fraction(1, 2)))


def check_size(size: int, included: int, taking_part: int) -> None:
    """Refuse a budget below 1, below the `included` rows, or above the rows that take part."""
    if size < 1:
        raise UsageError(f"a budget must be at least 1, not {size}")
    if size < included:
        raise UsageError(f"a budget of {size:,} has no room for {included:,} included rows")
    if size > taking_part:
        raise UsageError(
            f"a budget of {size:,} is more than the {taking_part:,} rows that take part",
            "ask for less, or cut off and exclude less",
        )


def check_cutoff(beta: float) -> None:
    """Raise a UsageError unless 0 <= β < 1."""
    if not 0 <= beta < 1:
        raise UsageError(f"cutoff must be at least 0 and below 1, not {beta:g}")


def cutoff_count(beta: float, n: int) -> int:
    """``⌊β · n⌋`` rows; a UsageError unless 0 <= β < 1."""
    check_cutoff(beta)
    return math.floor(exactly(beta, n))


def hardest(
    values: NDArray[np.float64], count: int, eligible: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The `count` eligible rows with the highest `values`, as (n,) bool; ties: the lowest row."""
    rows = np.flatnonzero(eligible)
    found = np.zeros(values.size, np.bool_)
    found[rows[np.argsort(-values[rows], kind="stable")[:count]]] = True
    return found


def class_quotas(
    available: NDArray[np.int64], budget: int, balance: Balance, included: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The number of picks of each class; they sum to `budget` exactly.

    Args:
        available: (C,) int64, rows of each class that take part.
        budget: a DataError if it is more than the sum of `available`.
        balance: ``proportional``: quotas in proportion to `available`, rounded by largest
            remainder. ``uniform``: equal quotas; a class with too few rows passes the rest on to
            the others. Ties go to the lowest class.
        included: (C,) int64, included rows of each class. A class that has more of them than its
            share keeps them all, and the other classes share the remaining budget.
    """
    total = int(available.sum())
    if budget > total:
        raise DataError(f"{budget:,} of {total:,} rows cannot be picked")
    share = _proportional if balance == "proportional" else _uniform
    free = np.ones(available.size, np.bool_)
    while True:
        quotas = included.copy()
        quotas[free] = share(available[free], budget - int(included[~free].sum()))
        short = free & (quotas < included)
        if not short.any():
            return quotas
        free &= ~short


def _proportional(available: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Largest remainder, in integers: rounding errors cannot decide a tie."""
    total = int(available.sum())
    if total == 0:
        return np.zeros_like(available)
    exact = available.astype(object) * budget  # Python integers: products may exceed int64
    quotas, rests = (exact // total).astype(np.int64), (exact % total).astype(np.int64)
    quotas[np.argsort(-rests, kind="stable")[: budget - int(quotas.sum())]] += 1
    return quotas


def _uniform(available: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Water-filling: all quotas rise to one level, or to the size of the class if that is less."""
    levels = range(int(available.max(initial=0)) + 1)
    level = bisect_right(levels, budget, key=lambda q: int(np.minimum(available, q).sum())) - 1
    quotas = np.minimum(available, level)
    quotas[np.flatnonzero(available > level)[: budget - int(quotas.sum())]] += 1
    return quotas
