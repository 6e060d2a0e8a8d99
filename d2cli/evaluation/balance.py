"""Balance: class shares and score distribution of a selection, compared with the full set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.evaluation.selections import check_selection


@dataclass(frozen=True)
class BinCounts:
    """Rows per class or per bin, (C,) int64: `full` of the full set, `kept` of the selection."""

    full: NDArray[np.int64]
    kept: NDArray[np.int64]

    @property
    def retention(self) -> NDArray[np.float64]:
        """(C,) `kept` / `full`; NaN for a class without rows."""
        with np.errstate(invalid="ignore"):
            return self.kept / self.full

    @property
    def shift(self) -> float:
        """Total variation distance of the two distributions, 0 … 1."""
        p, q = self._shares()
        return float(np.abs(p - q).sum() / 2)

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence of the kept shares from the full ones, in nats."""
        p, q = self._shares(self.kept > 0)
        return float((p * np.log(p / q)).sum()) + 0.0

    @property
    def entropy(self) -> float:
        """Entropy of the kept shares, in nats."""
        p = self._shares(self.kept > 0)[0]
        return float(-(p * np.log(p)).sum()) + 0.0

    def _shares(self, bins: slice | NDArray[np.bool_] = slice(None)) -> list[NDArray[np.float64]]:
        """`kept` and `full` of these bins, each divided by its sum over all bins."""
        return [counts[bins] / counts.sum() for counts in (self.kept, self.full)]

    @property
    def lost(self) -> int:
        """Number of classes with rows in the full set and none in the selection."""
        return int(((self.full > 0) & (self.kept == 0)).sum())


def class_balance(
    codes: NDArray[np.integer], selected: NDArray[np.integer], classes: int | None = None
) -> BinCounts:
    """Count rows per class, for class numbers `codes` (n,) and row numbers `selected` (N,), N >= 1.

    `classes` is the number of classes; default: the highest class number plus 1.
    """
    rows = check_selection(selected, codes.size)
    full = np.bincount(codes, minlength=classes or 0)
    return BinCounts(full, np.bincount(codes[rows], minlength=full.size))


def score_balance(
    scores: NDArray[np.floating], selected: NDArray[np.integer], edges: NDArray[np.floating]
) -> BinCounts:
    """Count rows per bin of finite `scores` (n,); `selected`: as in :func:`class_balance`.

    `edges` (C + 1,) ascend. A bin includes its lower edge, the last bin both edges.
    """
    rows = check_selection(selected, scores.size)
    return BinCounts(np.histogram(scores, edges)[0], np.histogram(scores[rows], edges)[0])


def rank_groups(scores: NDArray[np.floating], groups: int) -> NDArray[np.int64]:
    """Assign each row to a group 0 … `groups` - 1 by the rank of its score, lowest first.

    Group sizes differ by at most 1. Ties are ranked by row, so equal scores may be in two groups.
    """
    place = np.empty(scores.size, np.int64)
    place[np.argsort(scores, kind="stable")] = np.arange(scores.size)
    return place * groups // scores.size
