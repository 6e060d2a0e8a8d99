"""Weights, the bandwidth and the forward pass against plain loops; one case worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli import own_scores, propagate
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages.edges import edges_of
from d2cli.messages.forward import resolve_bandwidth, vanished_share
from tests import naive
from tests.strategies import knn_graphs, scores

# Three points on a line, at 0, 1 and 3, each listing its nearest; so the edges are 0-1 and 1-2.
LINE = KnnGraph(np.array([[1], [0], [1]], np.int32), np.array([[1.0], [1.0], [2.0]], np.float32))


def test_three_points_by_hand():
    """The median of (1, 1, 2) is σ = 1, so weights are e^-1 over 0-1 and e^-4 over 1-2."""
    near, far = math.exp(-1), math.exp(-4)
    expected = [1 + 2 * near, 2 + 1 * near + 4 * far, 4 + 2 * far]
    found = propagate(LINE, [1.0, 2.0, 4.0], gamma_forward=1.0)
    np.testing.assert_allclose(found, expected, rtol=1e-15)


@given(
    knn_graphs(),
    st.sampled_from(["union", "directed", "mutual"]),
    st.sampled_from(["gaussian", "exponential"]),
    st.sampled_from(["median", 1.0, 0.3]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.integers(0, 3),
    st.sampled_from([None, 1e-7]),
    st.integers(1, 4),
    st.data(),
)
def test_forward_is_the_plain_loop_to_the_last_bit(
    graph, edges, kernel, bandwidth, gamma, hops, floor, threads, data
):
    neighbors, distances = graph
    s = data.draw(scores(len(neighbors)))
    before = s.copy()
    u = propagate(
        KnnGraph(neighbors, distances), s, edges=edges, kernel=kernel, bandwidth=bandwidth,
        gamma_forward=gamma, hops=hops, floor=floor, threads=threads,
    )  # fmt: skip
    sigma = naive.bandwidth(distances) if bandwidth == "median" else bandwidth
    plain = naive.edges(neighbors, distances, edges)
    expected = naive.forward(plain, s, kernel, sigma, gamma, hops, floor)
    assert u.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(s, before)


@given(
    knn_graphs(),
    st.sampled_from(["union", "directed", "mutual"]),
    st.sampled_from(["gaussian", "exponential"]),
    st.sampled_from([0.0, 1.0, 4.0]),
    st.integers(0, 3),
    st.sampled_from([None, 1e-7]),
    st.data(),
)
def test_own_scores_are_the_plain_loop(graph, edges, kernel, gamma, hops, floor, data):
    neighbors, distances = graph
    u = data.draw(scores(len(neighbors)))
    before = u.copy()
    found = own_scores(
        KnnGraph(neighbors, distances), u, edges=edges, kernel=kernel, bandwidth=0.7,
        gamma_forward=gamma, hops=hops, floor=floor, threads=2,
    )  # fmt: skip
    plain = naive.edges(neighbors, distances, edges)
    expected = naive.own_scores(plain, u, kernel, 0.7, gamma, hops, floor)
    assert found.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(u, before)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # said by NumPy with the JIT off
@given(knn_graphs(), st.sampled_from([0.5, 1e-300, 1e307]), st.integers(0, 2))
def test_own_scores_undo_the_pass_where_scores_are_alike(graph, score, hops):
    graph = KnnGraph(*graph)
    alike = np.full(graph.n, score)
    options = {"bandwidth": 1.0, "gamma_forward": 4.0, "hops": hops}
    try:
        u = propagate(graph, alike, **options)
    except DataError:  # beyond float64
        return
    own = own_scores(graph, u, **options)
    assert len({*own.tolist()}) == 1  # traces of sums would be differences to a cutoff
    np.testing.assert_allclose(own, alike, rtol=0, atol=2.0**-31 * u.max())


def test_own_scores_where_a_hard_row_is_alone():
    """Weights are e^-1 over 0-1 and e^-4 over 1-2, each row's pass of ones one more than theirs."""
    near, far = math.exp(-1), math.exp(-4)
    u = propagate(LINE, [0.1, 5.0, 0.2], gamma_forward=1.0)
    m = u / np.array([1 + near, 1 + near + far, 1 + far])
    expected = [u[0] - near * m[1], u[1] - near * m[0] - far * m[2], u[2] - far * m[1]]
    np.testing.assert_allclose(
        own_scores(LINE, u, gamma_forward=1.0), expected, atol=2.0**-31 * u.max()
    )
    # The middle one stays the hardest, by more than the means have it.
    own = own_scores(LINE, u, gamma_forward=1.0)
    assert own[1] / max(own[0], own[2]) > m[1] / max(m[0], m[2]) > 1


def test_own_scores_of_the_smallest_numbers():
    u = np.array([5e-324, 0.0, 1e-323])
    found = own_scores(LINE, u, gamma_forward=1.0)
    assert np.isfinite(found).all()
    plain = naive.edges(LINE.neighbors, LINE.distances, "union")
    assert found.tobytes() == naive.own_scores(plain, u, "gaussian", 1.0, 1.0).tobytes()


@pytest.mark.parametrize("top", [1.5e308, 1.7e308])
def test_own_scores_stay_within_float64(top):
    """The sum of means is beyond it: each is about as large as the largest score."""
    star = KnnGraph(np.array([[1], [0], [0], [0]], np.int32), np.zeros((4, 1), np.float32))
    found = own_scores(star, [top, top, top, top], bandwidth=1.0)
    assert np.isfinite(found).all()


@given(knn_graphs())
def test_median_bandwidth(graph):
    assert resolve_bandwidth(KnnGraph(*graph), "median") == naive.bandwidth(graph[1])


def test_bandwidth_does_not_change_the_graph():
    distances = np.array([[3.0, 5.0], [1.0, 3.0], [1.0, 5.0]], "f4")
    graph = KnnGraph(np.array([[1, 2], [2, 0], [1, 0]], "i4"), distances.copy())
    resolve_bandwidth(graph, "median")
    np.testing.assert_array_equal(graph.distances, distances)


def test_weights_too_small_to_be_felt_are_noticed():
    edges = edges_of(LINE)
    assert vanished_share(edges, "gaussian", 1.0, 1.0) == 0.0
    assert vanished_share(edges, "gaussian", 1.0, 0.25) == 0.5
    assert vanished_share(edges, "exponential", 1.0, 0.001) == 1.0
    assert vanished_share(edges, "gaussian", 0.0, 1e-9) == 0.0
    alone = KnnGraph(np.array([[-1]], "i4"), np.array([[np.inf]], "f4"))
    assert vanished_share(edges_of(alone), "gaussian", 1.0, 1.0) == 0.0


@pytest.mark.parametrize(
    "options",
    [
        {"kernel": "linear"},
        {"bandwidth": 0.0},
        {"bandwidth": -1.0},
        {"bandwidth": math.nan},
        {"gamma_forward": -1.0},
        {"gamma_forward": math.inf},
        {"hops": -1},
        {"edges": "none"},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(UsageError):
        propagate(LINE, [1.0, 2.0, 3.0], **options)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # said by NumPy with the JIT off
@pytest.mark.parametrize(
    ("values", "said", "row"),
    [
        ([1.0, 2.0], "one number for each", None),
        ([[1.0], [2.0], [3.0]], "one number for each", None),
        ([1.0, math.nan, 2.0], "score is nan", 1),
        ([1.0, 2.0, -3.0], "negative", 2),
        ([1e308, 1e308, 1e308], "beyond float64", None),
    ],
)
def test_bad_scores_are_refused(values, said, row):
    with pytest.raises(DataError, match=said) as caught:
        propagate(LINE, values, gamma_forward=0.1)
    assert caught.value.argument == "scores"
    if row is not None:
        assert caught.value.row == row


def test_edges_alone_need_a_number():
    with pytest.raises(UsageError, match="bandwidth a number"):
        propagate(edges_of(LINE), [1.0, 2.0, 3.0])
