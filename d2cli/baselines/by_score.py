"""Baselines that use scores only. Arguments are described in :mod:`d2cli.baselines`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import STRATA
from d2cli.errors import UsageError
from d2cli.messages.utility import check_scores
from d2cli.selection.budgets import check_size, cutoff_count, hardest

Rows = NDArray[np.int64]


def highest(scores: NDArray[np.floating], size: int) -> Rows:
    """Select the rows with the highest scores, highest first, ties to the lowest row.

    Paul et al. 2021 (arXiv 2107.07075) propose this with EL2N, Toneva et al. 2019 (arXiv
    1812.05159) with forgetting.
    """
    return highest_after_cutoff(scores, size, 0.0)


def highest_after_cutoff(scores: NDArray[np.floating], size: int, cutoff: float) -> Rows:
    """Cut the ⌊β·n⌋ rows with the highest scores, then select the highest of the others.

    The rows with the highest scores are often mislabelled. The order is that of :func:`highest`.
    """
    values, kept = _after_cutoff(scores, size, cutoff)
    return kept[np.argsort(-values[kept], kind="stable")[:size]]


def coverage_centric(
    scores: NDArray[np.floating], size: int, cutoff: float = 0.0, *, strata: int = STRATA,
    seed: int = 0,
) -> Rows:  # fmt: skip
    """Coverage-centric coreset selection (CCS): random rows from every stratum of the scores.

    1. Cut the ⌊β·n⌋ rows with the highest scores.
    2. Divide the range of the other scores into `strata` >= 1 strata of equal width.
    3. From the smallest non-empty stratum to the largest, draw min(rows in the stratum,
       ⌊remaining budget / remaining strata⌋) rows at random.

    Rows are returned stratum by stratum; their order has no meaning.

    Source: Zheng, Liu, Lai, Prakash: Coverage-centric coreset selection for high pruning rates,
    ICLR 2023, arXiv 2210.15809, algorithm 1. The authors tune β for each ratio.
    """
    if strata < 1:
        raise UsageError(f"strata must be at least 1, not {strata}")
    values, kept = _after_cutoff(scores, size, cutoff)
    low, high = values[kept].min(), values[kept].max()
    width = high / 2 - low / 2  # halved, because high - low may overflow
    place = (values[kept] / 2 - low / 2) / width if width > 0 else np.zeros(kept.size)
    stratum = np.minimum((place * strata).astype(np.int64), strata - 1)
    rng = np.random.default_rng(seed)
    counts = np.bincount(stratum, minlength=strata)
    smallest_first = [s for s in np.argsort(counts, kind="stable") if counts[s]]
    chosen, remaining = [], size
    for at, s in enumerate(smallest_first):
        share = min(int(counts[s]), remaining // (len(smallest_first) - at))
        chosen.append(rng.choice(kept[stratum == s], share, replace=False))
        remaining -= share
    return np.concatenate(chosen)


def _after_cutoff(
    scores: NDArray[np.floating], size: int, cutoff: float
) -> tuple[NDArray[np.float64], Rows]:
    """Return the scores as float64 and the rows that are not cut, at least `size`."""
    values = np.asarray(scores, np.float64)
    check_scores(values, values.size)
    cut = hardest(values, cutoff_count(cutoff, values.size), np.ones(values.size, np.bool_))
    kept = np.flatnonzero(~cut)
    check_size(size, 0, kept.size)
    return values, kept
