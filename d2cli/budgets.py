"""How much to keep: of the whole, of each class, and who may be picked at all."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Balance
from d2cli.errors import DataError, UsageError


def budget_of(ratio: float, n: int) -> int:
    """`ratio` of n rows, to the nearest whole count: half up, at least 1.

    Raises:
        UsageError: unless 0 < ratio <= 1.
    """
    if not 0 < ratio <= 1:
        raise UsageError(f"ratio must be above 0 and at most 1, not {ratio:g}")
    return max(1, math.floor(ratio * n + 0.5))


def cutoff_rows(
    difficulty: NDArray[np.float64], beta: float, spared: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The ⌊β·n⌋ hardest rows, which hold the mislabelled ones.

    Args:
        difficulty: (n,) higher = harder; of equals the lowest row is dropped first.
        beta: the share of all n rows, 0 <= β < 1.
        spared: (n,) bool, rows that are not looked at (already chosen, or excluded).

    Returns:
        (n,) bool, True where dropped.
    """
    if not 0 <= beta < 1:
        raise UsageError(f"cutoff must be at least 0 and below 1, not {beta:g}")
    n = difficulty.size
    # 0.29 * 100 is 28.999…: the rounding of the product must not cost a row.
    count = math.floor(round(beta * n, 9))
    candidates = np.flatnonzero(~spared)
    hardest = candidates[np.argsort(-difficulty[candidates], kind="stable")[:count]]
    dropped = np.zeros(n, np.bool_)
    dropped[hardest] = True
    return dropped


def class_quotas(
    available: NDArray[np.int64],
    budget: int,
    balance: Balance,
    at_least: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """How many to pick of each class; they sum to the budget exactly.

    Args:
        available: (classes,) int64, rows of each class that may be picked.
        budget: at most their sum.
        balance: ``proportional`` to `available`, whole counts by largest remainder; ``uniform``,
            as equal as the classes allow: one that is too small to fill its share passes the rest
            on. Ties go to the lowest class.
        at_least: (classes,) rows already chosen. A class that has more than its share keeps them,
            and the others share what is left.
    """
    total = int(available.sum())
    if budget > total:
        raise DataError(f"{budget:,} of {total:,} rows cannot be picked")
    fixed = np.zeros(available.size, np.int64) if at_least is None else at_least
    share = _proportional if balance == "proportional" else _uniform
    free = np.ones(available.size, np.bool_)
    while True:
        quotas = fixed.copy()
        quotas[free] = share(available[free], budget - int(fixed[~free].sum()))
        short = free & (quotas < fixed)
        if not short.any():
            return quotas
        free &= ~short


def _proportional(available: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Largest remainder, in whole numbers so that no rounding can decide."""
    total = int(available.sum())
    if total == 0:
        return np.zeros_like(available)
    exact = [int(a) * budget for a in available]
    quotas = np.array([e // total for e in exact], np.int64)
    remainders = np.array([-(e % total) for e in exact], np.int64)
    quotas[np.argsort(remainders, kind="stable")[: budget - int(quotas.sum())]] += 1
    return quotas


def _uniform(available: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    """Water-filling: one level rises for all until the budget is used; full classes stay behind."""
    quotas = np.zeros_like(available)
    left = budget
    while left:
        open_ = np.flatnonzero(quotas < available)
        level = left // open_.size
        if level == 0:
            quotas[open_[:left]] += 1
            break
        step = np.minimum(level, available[open_] - quotas[open_])
        quotas[open_] += step
        left -= int(step.sum())
    return quotas
