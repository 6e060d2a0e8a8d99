"""The pool to select from, its wrong captions, and the pairs of the scoring model, by seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

POOL = 100_000  #: pairs to select from
SCORING = 60_000  #: pairs that the scoring model learns from
#: Pairs of one set among these at most. The largest set would be half of them otherwise, and a
#: model that has learnt from few sets does not know the pictures of others.
OF_ONE_SET = 5_000


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
    *, pool: int = POOL, scoring: int = SCORING, of_one_set: int = OF_ONE_SET,
) -> Pool:  # fmt: skip
    """Draw the sets of the scoring model, the pool from the other sets, and wrong captions.

    Sets are drawn until they have `scoring` rows. A set gives at most `of_one_set` of them. Only
    the wrong captions depend on `noise`.

    Args:
        training: (t,) rows that can be drawn.
        sets, captions: (n,) of all rows.
        seed, noise: the share `noise` of the pool has its captions permuted.
        pool, scoring, of_one_set: numbers of rows.
    """
    rng = np.random.default_rng((seed, 4))
    shuffled = rng.permutation(training)
    names, place = np.unique(sets[shuffled], return_inverse=True)
    by_set = [shuffled[place == one] for one in rng.permutation(len(names))]
    offered = np.cumsum([min(len(rows), of_one_set) for rows in by_set])
    taken = int(np.searchsorted(offered, scoring)) + 1
    scores_from = np.concatenate([rows[:of_one_set] for rows in by_set[:taken]])[:scoring]
    rows = rng.permutation(np.concatenate([[], *by_set[taken:]]).astype(np.int64))[:pool]
    if len(rows) < pool or len(scores_from) < scoring:
        raise ValueError(f"the sets have too few rows for {scoring:,} and {pool:,}")
    rows = np.sort(rows)
    given = with_wrong_captions(captions[rows], noise, seed)
    return Pool(rows, given, given != captions[rows], np.sort(scores_from))


def with_wrong_captions(captions: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Permute the captions of the share `noise` of the rows among these rows."""
    rng = np.random.default_rng((seed, 5))
    rows = rng.permutation(len(captions))[: round(noise * len(captions))]
    given = captions.copy()
    given[rows] = captions[np.roll(rows, 1)]
    return given
