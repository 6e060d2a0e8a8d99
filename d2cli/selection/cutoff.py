"""The automatic cutoff: how many of the hardest rows are left out for a given budget."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.graph.knn_graph import Edges
from d2cli.messages.parts import EdgeParts, in_parts, marked_neighbours
from d2cli.runtime.decisions import Decision
from d2cli.selection.budgets import hardest

ALONE = 4  #: a row stands alone if at most 1/ALONE of its neighbours are hard
#: Hard rows must have at least CONTRAST times the share of hard neighbours that other rows have.
CONTRAST = 2
LEAST_ALONE = 5  #: hard rows are scattered only if at least 1/LEAST_ALONE of them stand alone
#: Scores form two groups if the variance between the groups is at least this share of all variance.
#: Two halves of a normal distribution have 2/π = 0.64, and an exponential distribution has 0.65.
TWO_GROUPS = 0.7

Numbers = dict[str, Any]

_RULE = (
    "cut min(max(min(h, ⌊m/2⌋) − ⌈N/2⌉, a, 0), ⌊m/2⌋, m − N) of m rows; h = rows above Otsu's "
    f"threshold (0 if the variance between the groups is below {TWO_GROUPS} of all variance), "
    "a = scattered hard rows"
)


class Cutoff(NamedTuple):
    """The rows that an automatic cutoff leaves out, (n,) bool, and the decision behind them."""

    cut_rows: NDArray[np.bool_]
    decision: Decision


def automatic_cutoff(
    difficulty: NDArray[np.float64],
    size: int,
    eligible: NDArray[np.bool_],
    edges: Edges | EdgeParts,
) -> Cutoff:
    """Cut the ``min(max(min(h, ⌊m/2⌋) − ⌈N/2⌉, a, 0), ⌊m/2⌋, m − N)`` hardest eligible rows.

    - m: eligible rows; N = `size`: rows to pick of them.
    - h: rows above Otsu's threshold (:func:`two_groups`); 0 if the scores do not form two groups.
      With h − ⌈N/2⌉, half of the N hardest remaining rows lie above the threshold.
    - a: scattered hard rows (:func:`scattered`), probably wrong labels; 0 if no row is hard.

    Reason: a small training set gains nothing from examples that a model learns last or never; a
    large one gains from them, wrong labels excepted. Scores without two groups give no reason to
    cut. Measurements: evidence/README.md.

    Args:
        difficulty: (n,) float64, finite, higher = harder; of equal rows the lowest is cut first.
        size: N, 0 … m.
        eligible: (n,) bool, rows that can be cut: neither included nor excluded.
        edges: the graph of n rows.
    """
    scores = difficulty[eligible]
    rows = scores.size
    above, numbers = two_groups(scores)
    numbers = {"rows": rows, "size": int(size), **numbers, "hard": above}
    count = min(above, rows // 2) - -(-int(size) // 2)
    if above:
        threshold = float(np.partition(scores, rows - above)[rows - above])
        estimate, more = scattered(edges, difficulty >= threshold, eligible)
        numbers |= {"lowest_hard_score": threshold, **more, "scattered": estimate}
        count = max(count, estimate)
    numbers["cut"] = count = max(0, min(count, rows // 2, rows - int(size)))
    cut_rows = hardest(difficulty, count, eligible)
    return Cutoff(cut_rows, Decision("cutoff", count, _RULE, numbers))


def scattered(
    edges: Edges | EdgeParts, hard: NDArray[np.bool_], eligible: NDArray[np.bool_]
) -> tuple[int, Numbers]:
    """Estimate how many `hard` rows lie anywhere in the graph, as wrong labels do.

    A row *stands alone* if at most 1/4 of its neighbours are hard. Scattered hard rows stand alone
    as often as all rows do, and clustered hard rows hardly ever. So the estimate is
    ``a = min(⌊alone_hard / (alone_all / rows_all)⌋, rows_hard)``. It is 0 unless both hold:

    - the share of hard rows among the neighbours of hard rows is at least twice that among the
      neighbours of the other rows (else the graph does not separate hard rows);
    - at least 1/5 of the hard rows stand alone (some do in any data).

    Rows that are not `eligible` or have no neighbours are not counted. They still count as
    neighbours of other rows. Returns the estimate, and the numbers behind it.
    """
    degrees = in_parts(edges).degrees()
    counted = np.flatnonzero(eligible & (degrees > 0))
    near, degrees, hard = marked_neighbours(edges, hard, counted), degrees[counted], hard[counted]
    alone = ALONE * near <= degrees
    near_hard, near_others = int(near[hard].sum()), int(near[~hard].sum())
    ends_hard, ends_others = int(degrees[hard].sum()), int(degrees[~hard].sum())
    alone_hard, alone_all = int(alone[hard].sum()), int(alone.sum())
    rows_hard, rows_all = int(hard.sum()), counted.size
    estimate = 0
    separated = near_hard * ends_others >= CONTRAST * near_others * ends_hard
    if separated and LEAST_ALONE * alone_hard >= rows_hard:
        estimate = min(alone_hard * rows_all // max(1, alone_all), rows_hard)
    return estimate, {
        "hard_share_near_hard": near_hard / max(1, ends_hard),
        "hard_share_near_others": near_others / max(1, ends_others),
        "hard_alone": alone_hard,
        "alone_share": alone_all / max(1, rows_all),
    }


def give_back_for_quotas(
    cutoff: Cutoff, difficulty: NDArray[np.floating], excluded: NDArray[np.bool_],
    classes: NDArray[np.int64], quotas: NDArray[np.int64],
) -> Cutoff:  # fmt: skip
    """Give back the easiest cut rows of each class that could not fill its quota otherwise.

    Of equally difficult rows the highest is given back first. `excluded` is (n,) bool, rows that
    take no part; `classes` and `quotas` are those of :class:`d2cli.selection.greedy.Rules`.
    """
    cut_rows = cutoff.cut_rows.copy()
    short = quotas - np.bincount(classes[~(cut_rows | excluded)], minlength=quotas.size)
    rows = np.flatnonzero(cut_rows & (short > 0)[classes])
    rows = rows[np.lexsort((-rows, difficulty[rows], classes[rows]))]
    of_class = np.bincount(classes[rows], minlength=quotas.size)
    place = np.arange(rows.size) - np.repeat(np.cumsum(of_class) - of_class, of_class)
    back = rows[place < short[classes[rows]]]
    cut_rows[back] = False
    numbers = {**cutoff.decision.numbers, "given_back_for_balance": int(back.size)}
    decision = replace(cutoff.decision, value=int(cut_rows.sum()), numbers=numbers)
    return Cutoff(cut_rows, decision)


def two_groups(scores: NDArray[np.float64]) -> tuple[int, Numbers]:
    """Divide (n,) finite scores by Otsu's threshold: it maximises the variance between the groups.

    Of equally good thresholds the highest is taken. Equal scores are never divided. The result does
    not depend on scale and origin of the scores.

    Source: Otsu, A threshold selection method from gray-level histograms, IEEE Transactions on
    Systems, Man, and Cybernetics 9 (1979): equation 14 for the threshold, equation 12 for the share
    of the variance; here on the scores themselves, without a histogram.

    Returns:
        The number of scores above the threshold, or 0 if the variance between the groups is below
        TWO_GROUPS of all variance; and the numbers behind it.
    """
    n = scores.size
    numbers = {"above_threshold": 0, "variance_share": 0.0, "least_variance_share": TWO_GROUPS}
    # Scaled by a power of two to below 1, so that differences neither overflow nor vanish.
    scale = -int(np.frexp(np.abs(scores).max(initial=0.0))[1])
    ordered = np.sort(np.ldexp(scores, scale))
    if n < 2 or ordered[0] == ordered[-1]:
        return 0, numbers
    ordered = (ordered - ordered[0]) / (ordered[-1] - ordered[0])
    below = np.arange(1, n)
    # Variance between, with i scores below: (Σ of the lowest i (x − mean))² / (i (n − i)).
    centred = ordered - ordered.mean()
    between = np.cumsum(centred)[:-1] ** 2 / (below * (n - below))
    between[ordered[1:] == ordered[:-1]] = -1.0
    above = int(np.argmax(between[::-1])) + 1
    largest, variance = between[n - 1 - above], np.square(centred).mean()
    numbers |= {"above_threshold": above, "variance_share": float(largest / variance)}
    return above if largest >= TWO_GROUPS * variance else 0, numbers
