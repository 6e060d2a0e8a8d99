"""Baselines that use scores only. Arguments are described in :mod:`d2cli.baselines`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import DUAL_SHAPE, STRATA
from d2cli.errors import DataError, UsageError
from d2cli.messages.utility import check_scores, refuse_scores
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


#: Number of rows with the highest scores whose mean probability places the Beta distribution.
_ANCHORS = 10


def dual_sampling(
    scores: NDArray[np.floating], confidence: NDArray[np.floating], size: int, *,
    shape: float = DUAL_SHAPE, seed: int = 0,
) -> Rows:  # fmt: skip
    """DUAL's Beta sampling: random rows, by score and mean probability of the label.

    Rows are drawn one after the other without replacement; the chance of row i is proportional to
    s_i · Beta(μ_i; a, b), with ``b = 15 (1 - m) (1 - r^c)``, ``a = 16 - b``. Beta is the density of
    the Beta distribution, r = 1 - size / n the share that is pruned, and m the mean μ of the 10
    rows with the highest scores, ties to the lowest row. If much is pruned, easier rows are drawn
    than the scores alone would give. Rows are returned in the order of the draws. The chances
    depend on `size`, so selections of several sizes do not nest.

    Args:
        scores: (n,) finite, at least 0; made for scores of kind ``dual``.
        confidence: (n,) μ, the mean probability of the label over the epochs, 0 … 1: scores of kind
            ``confidence``. The density is 0 or infinite at 0 and 1: these are moved inside by less
            than 2⁻⁵².
        shape: c > 0. The authors take 4 on CIFAR and 11 on ImageNet.

    Source: Cho, Shin, Kang, Yun: Lightweight dataset pruning without full training via example
    difficulty and prediction uncertainty, 2025, arXiv 2502.06905, and their program
    (behaapyy/dual-pruning). There a row of score 0 is never drawn; here such rows come last.
    """
    weights, means = np.asarray(scores, np.float64), np.asarray(confidence, np.float64)
    n = weights.size
    check_scores(weights, n)
    refuse_scores(weights, weights < 0, "score is negative ({:g})")
    check_confidence(means, n)
    check_size(size, 0, n)
    if not (np.isfinite(shape) and shape > 0):
        raise UsageError(f"shape must be a number above 0, not {shape:g}")
    anchors = np.argsort(-weights, kind="stable")[:_ANCHORS]
    b = 15 * (1 - float(means[anchors].mean())) * (1 - (1 - size / n) ** shape)
    a = 16 - b
    inside = np.clip(means, np.finfo(np.float64).tiny, 1 - 2.0**-53)
    with np.errstate(divide="ignore"):  # a score of 0
        chances = np.log(weights) + (a - 1) * np.log(inside) + (b - 1) * np.log1p(-inside)
    # The highest of log(w_i) + Gumbel noise is row i with a chance proportional to w_i, and so is
    # each next one among the others (Gumbel-max trick; Efraimidis, Spirakis 2006).
    noise = np.random.default_rng(seed).gumbel(size=n)
    return np.lexsort((-noise, -(chances + noise)))[:size]


def check_confidence(means: NDArray[np.float64], n: int) -> None:
    """Raise a DataError unless these are (n,) probabilities."""
    if means.shape != (n,):
        raise DataError(f"confidence must be ({n},), not {means.shape}", argument="confidence")
    outside = ~((means >= 0) & (means <= 1))
    if outside.any():
        row = int(np.argmax(outside))
        message = f"confidence is {means[row]:g}, which is no probability"
        raise DataError(message, argument="confidence", row=row)


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
