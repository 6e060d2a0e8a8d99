"""How many of the hardest rows to leave out when so many are kept: a cutoff that sets itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.graph.knn_graph import Edges
from d2cli.runtime.jit import kernel
from d2cli.selection.budgets import cutoff_rows

#: A row of whose neighbours at most one in so many is hard stands alone. That says something only
#: where hard rows have so many times as many hard neighbours as the others have, and where at least
#: one hard row in so many stands alone.
ALONE, TELLING, MANY = 4, 2, 5
#: Scores fall into two groups where these account for at least so much of their variance. Of a bell
#: curve the halves account for 2/π = 0.64.
TWO_GROUPS = 0.7


def automatic_cutoff(
    difficulty: NDArray[np.float64], size: int, spared: NDArray[np.bool_], edges: Edges
) -> NDArray[np.bool_]:
    """The hardest rows, the fewer the more is kept: ⌊h − `size` / 2⌋ of them, or none.

    Among the m rows that are not spared, h are hard: those above Otsu's threshold, which divides
    their scores into two groups of the least variance, if they fall into two (:func:`hard_rows`);
    but at most half. So much goes that the `size` hardest of the others lie around the threshold,
    half of them above it and half below; nothing goes where no more than `size` / 2 are above it.

    But never fewer than the hard rows that seem to lie anywhere, as wrong labels do
    (:func:`scattered`); as far as `size` rows are left. Never more than half of the m.

    Why: a small training set has no room for what a model learns last or never, wrong labels among
    it; a large one gains by it, but for these. Scores that show no such rows, as those that know
    nothing but embeddings, are no reason to cut. Measured in evidence/README.md.

    Args:
        difficulty: (n,) float64, finite, higher = harder; of equals the lowest row goes first.
        size: how many are to be picked of the rows that are not spared, 0 … m.
        spared: (n,) bool, rows that are not looked at (already chosen, or excluded).
        edges: the graph of n rows.

    Returns:
        (n,) bool, True where dropped.
    """
    looked_at = difficulty[~spared]
    rows = looked_at.size
    above = hard_rows(looked_at)
    count = min(above, rows // 2) - -(-size // 2)
    if above:
        least = np.partition(looked_at, rows - above)[rows - above]
        count = max(count, scattered(edges, difficulty >= least, spared))
    return cutoff_rows(difficulty, 0.0, spared, count=max(0, min(count, rows // 2, rows - size)))


def scattered(edges: Edges, hard: NDArray[np.bool_], spared: NDArray[np.bool_]) -> int:
    """How many hard rows seem to lie anywhere, as wrong labels do; 0 where nothing says so.

    A row stands alone where at most a quarter of its neighbours is hard. Of hard rows that lie
    anywhere the same share stands alone as of all rows, and hardly any of those that lie together:
    so there are as many as stand alone, over the share of all rows that does; at most all.

    That holds where the graph knows what is hard: where of the neighbours of hard rows at least
    twice as large a share is hard as of those of the others. And it counts where a fifth of the
    hard rows stand alone; some do in any data. Rows without neighbours count nowhere.

    Args:
        edges: the graph of n rows.
        hard: (n,) bool.
        spared: (n,) bool, rows that are not counted, though they may be neighbours.
    """
    ends, near, rows, found = _neighbours(edges.indptr, edges.indices, hard, spared)
    if near[1] * ends[0] < TELLING * near[0] * ends[1] or MANY * found[1] < rows[1]:
        return 0
    anywhere = int(found[1]) * int(rows.sum()) // max(1, int(found.sum()))
    return min(anywhere, int(rows[1]))


@kernel
def _neighbours(indptr, indices, hard, spared):
    """Of rows that are not hard, and of those that are: their neighbours, and the hard ones among
    these; how many rows they are, and how many of them stand alone.
    """
    ends, hard_ends = np.zeros(2, np.int64), np.zeros(2, np.int64)
    rows, found = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for i in range(hard.shape[0]):
        degree = indptr[i + 1] - indptr[i]
        if spared[i] or degree == 0:
            continue
        near = 0
        for e in range(indptr[i], indptr[i + 1]):
            near += hard[indices[e]]
        kind = int(hard[i])
        ends[kind] += degree
        hard_ends[kind] += near
        rows[kind] += 1
        found[kind] += ALONE * near <= degree
    return ends, hard_ends, rows, found


def within_quotas(
    cut: NDArray[np.bool_],
    difficulty: NDArray[np.floating],
    dropped: NDArray[np.bool_] | None,
    classes: NDArray[np.int64],
    quotas: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """A cut that leaves each class as many rows as its quota: of a class that would be short, the
    easiest rows of those that were cut stay.

    Args:
        cut: (n,) bool, the rows that would be cut.
        difficulty: (n,) finite; of equals the highest row stays first, as it is cut last.
        dropped: (n,) bool, rows that take no part, or None.
        classes: (n,) int64, 0 … C-1.
        quotas: (C,) int64, how many of each are kept, no more than take part.
    """
    left = ~cut if dropped is None else ~(cut | dropped)
    short = quotas - np.bincount(classes[left], minlength=quotas.size)
    if (short <= 0).all():
        return cut
    rows = np.flatnonzero(cut)
    rows = rows[np.lexsort((-rows, difficulty[rows], classes[rows]))]
    of_class = np.bincount(classes[rows], minlength=quotas.size)
    place = np.arange(rows.size) - np.repeat(np.cumsum(of_class) - of_class, of_class)
    cut = cut.copy()
    cut[rows[place < short[classes[rows]]]] = False
    return cut


def hard_rows(scores: NDArray[np.float64]) -> int:
    """How many scores are above Otsu's threshold; 0 where they do not fall into two groups.

    The threshold is the one for which the variance between the two groups, and so that within
    them is least, is greatest; of equals the highest. Equal scores are never divided. The scores
    fall into two groups where the variance between these is at least TWO_GROUPS of all; of bell
    curves and exponential tails it is 0.64 and 0.65. Scale and origin of the scores do not matter.

    Source: Otsu: A threshold selection method from gray-level histograms, IEEE Transactions on
    Systems, Man, and Cybernetics 9 (1979), equation 14, and equation 12 for how far they are apart;
    on the scores themselves, not a histogram.

    Args:
        scores: (n,) float64, finite; not changed.
    """
    n = scores.size
    if n < 2:
        return 0
    # By a power of two to below 1, where differences neither overflow nor vanish.
    ordered = np.sort(np.ldexp(scores, -int(np.frexp(np.abs(scores).max())[1])))
    low, high = ordered[0], ordered[-1]
    if low == high:
        return 0
    ordered = (ordered - low) / (high - low)
    below = np.arange(1, n)
    # The variance between is (Σ below (x - mean))² / (i (n - i)).
    centred = ordered - ordered.mean()
    between = np.cumsum(centred)[:-1] ** 2 / (below * (n - below))
    between[ordered[1:] == ordered[:-1]] = -1.0
    above = int(np.argmax(between[::-1])) + 1
    return above if between[n - 1 - above] >= TWO_GROUPS * np.square(centred).mean() else 0
