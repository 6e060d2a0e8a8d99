"""How many of the hardest rows to leave out when so many are kept: a cutoff that sets itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.budgets import cutoff_rows


def automatic_cutoff(
    difficulty: NDArray[np.float64], size: int, spared: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """The hardest rows, the fewer the more is kept: ⌊h − `size` / 2⌋ of them, or none.

    Among the m rows that are not spared, h are hard: those above Otsu's threshold, which divides
    their scores into two groups of the least variance (:func:`hard_rows`), but at most half. So
    much goes that the `size` hardest of the others lie around the threshold, half of them above it
    and half below; nothing goes where no more than `size` / 2 are above it. Never more than
    half of what is dropped.

    Why: a small training set has no room for what a model learns last or never, wrong labels among
    it; a large one gains by it. Measured in evidence/README.md.

    Args:
        difficulty: (n,) float64, finite, higher = harder; of equals the lowest row goes first.
        size: how many are to be picked of the rows that are not spared, 0 … m.
        spared: (n,) bool, rows that are not looked at (already chosen, or excluded).

    Returns:
        (n,) bool, True where dropped.
    """
    looked_at = difficulty[~spared]
    rows = looked_at.size
    hard = min(hard_rows(looked_at), rows // 2)
    return cutoff_rows(difficulty, 0.0, spared, count=max(0, hard - -(-size // 2)))


def hard_rows(scores: NDArray[np.float64]) -> int:
    """How many scores are above Otsu's threshold; 0 where all are equal.

    The threshold is the one for which the variance between the two groups, and so that within
    them is least, is greatest; of equals the highest. Equal scores are never divided. Scale and
    origin of the scores do not matter.

    Source: Otsu: A threshold selection method from gray-level histograms, IEEE Transactions on
    Systems, Man, and Cybernetics 9 (1979), equation 14; on the scores themselves, not a histogram.

    Args:
        scores: (n,) float64, finite; not changed.
    """
    n = scores.size
    if n < 2:
        return 0
    ordered = np.sort(scores)
    low, high = ordered[0], ordered[-1]
    if low == high:
        return 0
    # To 0 … 1, halved since high - low may overflow where neither does.
    ordered = (ordered / 2 - low / 2) / (high / 2 - low / 2)
    below = np.arange(1, n)
    # n² times the variance between is (Σ below · (n − i) − Σ above · i)² / (i (n − i)).
    excess = np.cumsum(ordered - ordered.mean())[:-1]
    between = excess**2 / (below * (n - below))
    between[ordered[1:] == ordered[:-1]] = -1.0
    return int(np.argmax(between[::-1])) + 1
