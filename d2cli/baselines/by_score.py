"""Baselines that look at scores only, or at nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import STRATA
from d2cli.errors import UsageError
from d2cli.messages.forward import check_scores
from d2cli.selection.budgets import check_size, cutoff_rows


def highest(scores: NDArray[np.floating], size: int) -> NDArray[np.int64]:
    """The rows with the highest scores, ties to the lowest row.

    Args:
        scores: (n,) finite, higher = more wanted; not changed.
        size: how many to keep, 1 … n.

    Returns:
        (size,) int64, highest first. With EL2N this is what Paul et al. 2021 (arXiv 2107.07075)
        propose, with forgetting what Toneva et al. 2019 (arXiv 1812.05159) do.
    """
    return highest_after_cutoff(scores, size, 0.0)


def highest_after_cutoff(
    scores: NDArray[np.floating], size: int, cutoff: float
) -> NDArray[np.int64]:
    """The highest scores of what is left when the ⌊β·n⌋ highest, which may be mislabelled, are cut.

    Args:
        scores: (n,) finite, higher = harder; not changed.
        size: how many to keep, 1 … n - ⌊β·n⌋.
        cutoff: β, 0 <= β < 1.

    Returns:
        (size,) int64, highest first, ties to the lowest row.
    """
    values, kept = _after_cutoff(scores, size, cutoff)
    return kept[np.argsort(-values[kept], kind="stable")[:size]]


def coverage_centric(
    scores: NDArray[np.floating],
    size: int,
    cutoff: float = 0.0,
    *,
    strata: int = STRATA,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Coverage-centric coreset selection (CCS): random rows from every stratum of the scores.

    The ⌊β·n⌋ highest scores are cut. The range of the others is divided into strata of equal width;
    from the smallest stratum up, each gives an equal share of what is left of the budget, or all
    that it has, so that what a small one cannot fill goes to the larger ones.

    Source: Zheng, Liu, Lai, Prakash: Coverage-centric coreset selection for high pruning rates,
    ICLR 2023, arXiv 2210.15809, algorithm 1. β is to be tuned for each ratio.

    Args:
        scores: (n,) finite, higher = harder; not changed.
        size: how many to keep, 1 … n - ⌊β·n⌋.
        cutoff: β, 0 <= β < 1.
        strata: how many, at least 1.
        seed: of the choice within the strata.

    Returns:
        (size,) int64, in no order that means anything.
    """
    if strata < 1:
        raise UsageError(f"strata must be at least 1, not {strata}")
    values, kept = _after_cutoff(scores, size, cutoff)
    low, high = values[kept].min(), values[kept].max()
    # Halved, since high - low may overflow where neither does.
    width = high / 2 - low / 2
    place = (values[kept] / 2 - low / 2) / width if width > 0 else np.zeros(kept.size)
    stratum = np.minimum((place * strata).astype(np.int64), strata - 1)
    rng = np.random.default_rng(seed)
    counts = np.bincount(stratum, minlength=strata)
    smallest_first = [s for s in np.argsort(counts, kind="stable") if counts[s]]
    chosen = []
    left = size
    for at, s in enumerate(smallest_first):
        share = min(int(counts[s]), left // (len(smallest_first) - at))
        chosen.append(rng.choice(kept[stratum == s], share, replace=False))
        left -= share
    return np.concatenate(chosen)


def _after_cutoff(
    scores: NDArray[np.floating], size: int, cutoff: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Scores in float64, and the rows that the cutoff leaves, which must hold the budget."""
    values = np.asarray(scores, np.float64)
    check_scores(values, values.size)
    kept = np.flatnonzero(~cutoff_rows(values, cutoff, np.zeros(values.size, np.bool_)))
    check_size(size, 0, kept.size)
    return values, kept
