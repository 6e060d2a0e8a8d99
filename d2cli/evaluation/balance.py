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
    def full_share(self) -> NDArray[np.float64]:
        """(C,) `full` divided by its sum."""
        return self.full / self.full.sum()

    @property
    def kept_share(self) -> NDArray[np.float64]:
        """(C,) `kept` divided by its sum."""
        return self.kept / self.kept.sum()

    @property
    def retention(self) -> NDArray[np.float64]:
        """(C,) `kept` / `full`; NaN for a class without rows."""
        return np.divide(self.kept, self.full, out=np.full(self.full.size, np.nan),
                         where=self.full > 0)  # fmt: skip

    @property
    def shift(self) -> float:
        """Total variation distance of the two distributions, 0 … 1."""
        return float(np.abs(self.kept_share - self.full_share).sum() / 2)

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence D(kept_share ‖ full_share), in nats."""
        p, q = self.kept_share, self.full_share
        some = p > 0
        return float((p[some] * np.log(p[some] / q[some])).sum()) + 0.0

    @property
    def entropy(self) -> float:
        """Entropy of `kept_share`, in nats."""
        p = self.kept_share[self.kept > 0]
        return float(-(p * np.log(p)).sum()) + 0.0

    @property
    def lost(self) -> int:
        """Number of classes with rows in the full set and none in the selection."""
        return int(((self.full > 0) & (self.kept == 0)).sum())


def class_balance(
    codes: NDArray[np.integer], selected: NDArray[np.integer], classes: int | None = None
) -> BinCounts:
    """Count rows per class.

    Args:
        codes: (n,) class numbers 0 … C-1.
        selected: (N,) row numbers, N >= 1, each at most once.
        classes: C; default: the highest class number plus 1.
    """
    rows = check_selection(selected, codes.size)
    least = 0 if classes is None else classes
    full = np.bincount(codes, minlength=least)
    return BinCounts(full, np.bincount(codes[rows], minlength=full.size))


def score_balance(
    scores: NDArray[np.floating], selected: NDArray[np.integer], edges: NDArray[np.floating]
) -> BinCounts:
    """Count rows per bin of the score.

    Args:
        scores: (n,) finite.
        selected: (N,) row numbers, N >= 1, each at most once.
        edges: (C + 1,) ascending; a bin includes its lower edge, the last bin both edges.
    """
    rows = check_selection(selected, scores.size)
    full, _ = np.histogram(scores, edges)
    kept, _ = np.histogram(np.asarray(scores)[rows], edges)
    return BinCounts(full.astype(np.int64), kept.astype(np.int64))


def rank_groups(scores: NDArray[np.floating], groups: int) -> NDArray[np.int64]:
    """Assign each row to a group 0 … `groups` - 1 by the rank of its score, lowest first.

    Group sizes differ by at most 1. Ties are ranked by row, so equal scores may be in two groups.
    """
    n = scores.size
    place = np.empty(n, np.int64)
    place[np.argsort(scores, kind="stable")] = np.arange(n)
    return place * groups // n
