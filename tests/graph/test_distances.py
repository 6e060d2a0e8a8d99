"""Lists of nearest rows against a full sort."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from d2cli.graph import distances
from d2cli.graph.distances import LANES, keep_nearest, keep_nearest_across, rank_rows


def nearest(scores, size):
    """The first `size` rows by (score, row)."""
    order = np.lexsort((np.arange(len(scores)), scores))[:size]
    return order.tolist(), scores[order].tolist()


@given(
    st.integers(1, 9 * LANES),
    st.integers(1, LANES),
    st.integers(0, 10_000),
    st.sampled_from([2, 40, 10**6]),
)
@example(4 * LANES, LANES // 2, 0, 2)
@example(8 * LANES + 5, 15, 1, 10**6)
def test_keep_nearest_equals_a_full_sort(count, size, seed, values):
    """In one block and in two; few or many distinct scores, negative ones included."""
    rng = np.random.default_rng(seed)
    products = (rng.integers(0, values, (3, count)) - values // 2).astype(np.float32)
    halves = rng.integers(0, values, count).astype(np.float32)
    size = min(size, count)
    for cut in (count, count // 2):
        best = np.full((3, size), np.inf, np.float32)
        rows = np.full((3, size), -1, np.int32)
        for start, stop in ((0, cut), (cut, count)):
            block = np.ascontiguousarray(products[:, start:stop])
            keep_nearest(block, halves[start:stop], start, best, rows)
        for q in range(3):
            assert (rows[q].tolist(), best[q].tolist()) == nearest(halves - products[q], size)


@given(
    st.integers(1, 3 * LANES),
    st.integers(1, 90),
    st.integers(1, 20),
    st.integers(0, 10_000),
    st.sampled_from([2, 40, 10**6]),
)
@example(2 * LANES + 1, 40, 9, 0, 2)
def test_keep_nearest_across_equals_a_full_sort(columns, count, size, seed, values):
    rng = np.random.default_rng(seed)
    products = (rng.integers(0, values, (count, columns)) - values // 2).astype(np.float32)
    halves = rng.integers(0, values, count).astype(np.float32)
    size = min(size, count)
    best = np.full((columns, size), np.inf, np.float32)
    rows = np.full((columns, size), -1, np.int32)
    for part in (slice(0, count // 2), slice(count // 2, count)):
        keep_nearest_across(products[part], halves[part], part.start, best, rows)
    for c in range(columns):
        assert (rows[c].tolist(), best[c].tolist()) == nearest(halves - products[:, c], size)


@pytest.mark.parametrize("value", [0.0, -3e38, 3e38, 1e-45, -1e-45])
def test_lists_are_full_if_all_scores_are_equal(value):
    products = np.full((1, 4 * LANES), -value, np.float32)
    best, rows = np.full((1, 9), np.inf, np.float32), np.full((1, 9), -1, np.int32)
    keep_nearest(products, np.zeros(4 * LANES, np.float32), 0, best, rows)
    assert rows[0].tolist() == [*range(9)]


class Gathered:
    """Vectors that are no array and can only be taken."""

    def __init__(self, vectors):
        self.vectors, self.shape, self.dtype = vectors, vectors.shape, vectors.dtype

    def __getitem__(self, rows):
        return self.vectors[rows].copy()


@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 10_000))
@example(1, 1, 3, 0)
def test_rank_rows_equals_a_sort_by_distance_and_row(n, count, k, seed):
    """Of an array and of gathered rows; with ties, empty places and the row itself."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 3, (n, 2)).astype(np.float32)
    rows = rng.integers(0, n, 5)
    candidates = np.array(
        [rng.permutation(np.append(np.arange(n), count * [-1]))[:count] for _ in rows], np.int32
    )
    for gathered in (1, 12, 1 << 23):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(distances, "GATHERED", gathered)
            found = [rank_rows(v, rows, candidates, k) for v in (vectors, Gathered(vectors))]
        for neighbors, lengths in found:
            assert neighbors.dtype == np.int32 and lengths.dtype == np.float32
            for r, i in enumerate(rows):
                away = np.linalg.norm(vectors.astype(float) - vectors[i], axis=1).astype(np.float32)
                best = sorted((away[j], j) for j in candidates[r] if j not in (-1, i))[:k]
                assert neighbors[r].tolist() == [j for _, j in best] + (k - len(best)) * [-1]
                assert lengths[r].tolist() == [x for x, _ in best] + (k - len(best)) * [np.inf]
