"""Lift: how much of the attainable mean score a selection keeps."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.evaluation.selections import check_selection
from d2cli.runtime.arrays import exact_sum


class LiftScale(NamedTuple):
    """The sums of N scores at which lift is 0 and 1, without rounding errors.

    Attributes:
        random: expected sum of a random selection (:func:`expected_sum`).
        best: sum of the N highest scores; with class quotas, of the highest that they admit.
    """

    random: Fraction
    best: Fraction

    @property
    def flat(self) -> bool:
        """Whether all selections have the same sum: then every lift is 1."""
        return self.best == self.random

    def lift(self, total: Fraction) -> Fraction:
        """The lift of a selection whose scores have this sum; at most 1."""
        return Fraction(1) if self.flat else (total - self.random) / (self.best - self.random)


def expected_sum(
    scores: NDArray[np.float64],
    asked: NDArray[np.int64],
    classes: NDArray[np.integer] | None = None,
) -> Fraction:
    """The expected sum of the scores of a random selection.

    Args:
        scores: (m,) finite, of the rows that can be picked.
        asked: (C,) how many rows of each class are picked, at most the rows of the class.
        classes: (m,) the class of each row, 0 … C - 1; None: one class.
    """
    if classes is None:
        ordered, ends = scores, np.array([scores.size])
    else:
        ordered = scores[np.argsort(classes, kind="stable")]
        ends = np.cumsum(np.bincount(classes, minlength=asked.size))
    total, start = Fraction(0), 0
    for picks, end in zip(asked.tolist(), ends.tolist(), strict=True):
        if picks:
            total += picks * exact_sum(ordered[start:end]) / (end - start)
        start = end
    return total


def lift(scores: NDArray[np.floating], selected: NDArray[np.integer]) -> float:
    """``(mean of the selected − mean of all) / (mean of the N highest − mean of all)``.

    1 is the selection of the N highest scores, 0 is what random selections have on average. Where
    all selections of N rows have the same mean, it is 1.

    Args:
        scores: (n,) finite, higher = keep.
        selected: (N,) row numbers, N >= 1, each at most once; others are a DataError.
    """
    values = np.asarray(scores, np.float64)
    rows = check_selection(selected, values.size)
    best = np.partition(values, values.size - rows.size)[values.size - rows.size :]
    scale = LiftScale(expected_sum(values, np.array([rows.size])), exact_sum(best))
    return float(scale.lift(exact_sum(values[rows])))
