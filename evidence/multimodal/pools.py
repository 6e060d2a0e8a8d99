"""The pool to select from, its wrong captions, and the pairs of the scoring model, by seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POOL = 100_000  #: pairs to select from
SCORING = 60_000  #: pairs that the scoring model learns from


@dataclass(frozen=True)
class Pool:
    """The pairs of one seed; rows are those of the icons.

    Attributes:
        rows: (POOL,) int64, ascending: the pictures to select from.
        captions: (POOL,) int64, the caption of each, with noise.
        wrong: (POOL,) bool, True for a caption that is not the picture's own.
        scoring: (SCORING,) int64, ascending: rows of other sets, for the scoring model.
    """

    rows: np.ndarray
    captions: np.ndarray
    wrong: np.ndarray
    scoring: np.ndarray


def draw(
    training: np.ndarray, sets: np.ndarray, captions: np.ndarray, seed: int, noise: float,
    *, pool: int = POOL, scoring: int = SCORING,
) -> Pool:  # fmt: skip
    """Draw the sets of the scoring model, the pool from the other sets, and wrong captions.

    Sets are drawn whole until they have `scoring` rows. Only the wrong captions depend on `noise`.

    Args:
        training: (t,) rows that can be drawn.
        sets, captions: (n,) of all rows.
        seed, noise: the share `noise` of the pool has its captions permuted.
        pool, scoring: numbers of rows.
    """
    rng = np.random.default_rng((seed, 4))
    names, place, counts = np.unique(sets[training], return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    last = int(np.searchsorted(np.cumsum(counts[order]), scoring))
    of_scoring = np.isin(place, order[: last + 1])
    scores_from = np.sort(rng.permutation(training[of_scoring])[:scoring])
    rows = np.sort(rng.permutation(training[~of_scoring])[:pool])
    if len(rows) < pool or len(scores_from) < scoring:
        raise ValueError(f"the sets have too few rows for {scoring:,} and {pool:,}")
    given = with_wrong_captions(captions[rows], noise, seed)
    return Pool(rows, given, given != captions[rows], scores_from)


def with_wrong_captions(captions: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Permute the captions of the share `noise` of the rows among these rows."""
    rng = np.random.default_rng((seed, 5))
    rows = rng.permutation(len(captions))[: round(noise * len(captions))]
    given = captions.copy()
    given[rows] = captions[np.roll(rows, 1)]
    return given
