"""The comparison of kNN graphs: true distances, recall by distance, and costs at a recall."""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(scope="module")
def bench():
    """The modules families, knn and knn_worker."""
    sys.path.insert(0, str(BENCH))
    try:
        import families
        import knn
        import knn_worker
    finally:
        sys.path.remove(str(BENCH))
    return families, knn, knn_worker


def brute_force(rows, sample):
    """Ascending distances to all other rows, by differences."""
    rows = rows.astype(np.float64)
    found = []
    for row in sample:
        others = np.delete(rows, row, axis=0)
        found.append(np.sort(np.sqrt(((others - rows[row]) ** 2).sum(axis=1))))
    return np.array(found)


@pytest.mark.parametrize("offset", [0.0, 1e5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_true_distances_equal_brute_force(bench, offset, dtype):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1500, 5))
    rows[::2] += offset  # two groups far from each other
    rows[700:740] = rows[3]  # copies
    rows = rows.astype(dtype)
    sample = np.array([0, 3, 5, 710, 1499])
    found = bench[0].nearest(rows, sample, 30)
    np.testing.assert_allclose(found, brute_force(rows, sample)[:, :30], rtol=1e-12, atol=1e-12)


def test_true_distances_do_not_depend_on_blocks(bench, monkeypatch):
    families = bench[0]
    rows = np.random.default_rng(1).standard_normal((5000, 4096)).astype(np.float16)
    sample = np.array([1, 1023, 1024, 4999])
    assert 2**25 // rows.shape[1] // 8 <= 1024 < len(rows)  # several blocks
    found = families.nearest(rows, sample, 10)
    np.testing.assert_allclose(found, brute_force(rows, sample)[:, :10], rtol=1e-12)


def test_recall_counts_equal_rows_and_not_the_row_itself(bench, tmp_path):
    rows = np.array([[0.0], [0.0], [1.0], [2.0], [9.0]])
    np.savez(tmp_path / "t.npz", rows=[0, 4], distances=[[0.0, 1.0], [7.0, 8.0]])

    def recall(*lists):
        neighbors = np.full((5, 2), -1)
        neighbors[[0, 4]] = lists
        return bench[2].recall_by_distance(rows, neighbors, str(tmp_path / "t.npz"), 2)

    assert recall([1, 2], [3, 2]) == 1.0
    assert recall([0, 2], [3, 2]) == 0.75  # the row itself
    assert recall([2, 2], [3, 2]) == 0.75  # twice the same
    assert recall([1, 3], [3, 1]) == 0.5  # too far
    assert recall([1, -1], [-1, -1]) == 0.25


def test_cost_is_linear_in_logarithms(bench):
    points = [(0.90, 1.0), (0.99, 10.0)]
    middle = 1 - math.sqrt(0.1 * 0.01)
    assert bench[1].cost_at(points, middle) == pytest.approx(math.sqrt(10.0))


def test_cost_leaves_out_dominated_settings(bench):
    points = [(0.90, 1.0), (0.95, 30.0), (0.99, 10.0), (0.99, 12.0)]
    assert bench[1].cost_at(points, 0.95) == bench[1].cost_at([points[0], points[2]], 0.95)


def test_cost_outside_the_settings(bench):
    cost_at = bench[1].cost_at
    assert cost_at([(0.97, 2.0), (0.99, 3.0)], 0.95) == 2.0
    assert math.isnan(cost_at([(0.97, 2.0)], 0.99))
    assert cost_at([(0.5, 1.0), (1.0, 4.0)], 1.0) == 4.0


points = st.lists(st.tuples(st.floats(0.5, 1.0), st.floats(0.1, 100.0)), min_size=1, max_size=6)


@given(points, st.floats(0.5, 1.0), st.floats(0.5, 1.0))
def test_cost_rises_with_recall_and_stays_between_settings(bench, points, one, other):
    low, high = sorted((one, other))
    cheap, dear = bench[1].cost_at(points, low), bench[1].cost_at(points, high)
    reached = [cost for recall, cost in points if recall >= high]
    assert math.isnan(dear) == (not reached)
    if reached:
        assert cheap <= dear * (1 + 1e-9)
        assert min(cost for _, cost in points) <= cheap * (1 + 1e-9)
        assert dear <= min(reached) * (1 + 1e-9)
