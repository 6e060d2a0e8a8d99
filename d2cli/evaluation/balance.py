"""What a selection does to the shares of classes and to the distribution of scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.evaluation.coverage import check_selection


@dataclass(frozen=True)
class Balance:
    """Counts by class or by bin, (C,) int64 each: of the full set and of what was selected."""

    full: NDArray[np.int64]
    kept: NDArray[np.int64]

    @property
    def full_share(self) -> NDArray[np.float64]:
        """(C,) of the full set."""
        return self.full / self.full.sum()

    @property
    def kept_share(self) -> NDArray[np.float64]:
        """(C,) of the selection."""
        return self.kept / self.kept.sum()

    @property
    def retention(self) -> NDArray[np.float64]:
        """(C,) the part of each class that was kept; NaN for a class that has no rows."""
        return np.divide(self.kept, self.full, out=np.full(self.full.size, np.nan),
                         where=self.full > 0)  # fmt: skip

    @property
    def shift(self) -> float:
        """Total variation distance of the shares, 0 (the same) … 1: the part that moved."""
        return float(np.abs(self.kept_share - self.full_share).sum() / 2)

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence of the selection's shares from the full set's, in nats."""
        p, q = self.kept_share, self.full_share
        some = p > 0
        return float((p[some] * np.log(p[some] / q[some])).sum()) + 0.0

    @property
    def entropy(self) -> float:
        """Entropy of the selection's shares, in nats."""
        p = self.kept_share[self.kept > 0]
        return float(-(p * np.log(p)).sum()) + 0.0

    @property
    def lost(self) -> int:
        """How many classes of the full set have no row in the selection."""
        return int(((self.full > 0) & (self.kept == 0)).sum())


def class_balance(
    codes: NDArray[np.integer], selected: NDArray[np.integer], classes: int | None = None
) -> Balance:
    """Counts by class.

    Args:
        codes: (n,) class numbers 0 … C-1.
        selected: (N,) row numbers, at least one, none twice.
        classes: C; by default the highest number and one.
    """
    rows = check_selection(selected, codes.size)
    least = 0 if classes is None else classes
    full = np.bincount(codes, minlength=least)
    return Balance(full, np.bincount(codes[rows], minlength=full.size))


def score_balance(
    scores: NDArray[np.floating], selected: NDArray[np.integer], edges: NDArray[np.floating]
) -> Balance:
    """Counts by bins of the score.

    Args:
        scores: (n,) finite.
        selected: (N,) row numbers, at least one, none twice.
        edges: (C + 1,) ascending; each bin has its lower edge, the last one both.
    """
    rows = check_selection(selected, scores.size)
    full, _ = np.histogram(scores, edges)
    kept, _ = np.histogram(np.asarray(scores)[rows], edges)
    return Balance(full.astype(np.int64), kept.astype(np.int64))


def rank_groups(scores: NDArray[np.floating], groups: int) -> NDArray[np.int64]:
    """Groups 0 … `groups` - 1 of (nearly) equal size in the order of the scores, lowest first.

    Equal scores may be split, by row; with fewer rows than groups some stay empty.
    """
    n = scores.size
    place = np.empty(n, np.int64)
    place[np.argsort(scores, kind="stable")] = np.arange(n)
    return place * groups // n
