"""Weights, bandwidth, the forward pass and own scores against plain loops and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from d2cli import own_scores, propagate
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages import sizes
from d2cli.messages.edges import edges_of
from d2cli.messages.forward import bandwidth_decision, resolve_bandwidth, vanished_share
from d2cli.runtime.ledger import Ledger
from tests import naive
from tests.strategies import knn_graphs, scores

# Points at 0, 1 and 3 on a line, k = 1: the edges are 0-1 and 1-2.
LINE = KnnGraph(np.array([[1], [0], [1]], np.int32), np.array([[1.0], [1.0], [2.0]], np.float32))


def test_forward_pass_of_three_points_by_hand():
    """σ = median(1, 1, 2) = 1, so the weights are e^-1 on edge 0-1 and e^-4 on edge 1-2."""
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
def test_forward_equals_the_plain_loop(
    graph, edges, kernel, bandwidth, gamma, hops, floor, threads, data
):
    neighbors, distances = graph
    s = data.draw(scores(len(neighbors), negative=True))
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
def test_own_scores_equal_the_plain_loop(graph, edges, kernel, gamma, hops, floor, data):
    neighbors, distances = graph
    u = data.draw(scores(len(neighbors), negative=True))
    before = u.copy()
    found = own_scores(
        KnnGraph(neighbors, distances), u, edges=edges, kernel=kernel, bandwidth=0.7,
        gamma_forward=gamma, hops=hops, floor=floor, threads=2,
    )  # fmt: skip
    plain = naive.edges(neighbors, distances, edges)
    expected = naive.own_scores(plain, u, kernel, 0.7, gamma, hops, floor)
    assert found.tobytes() == expected.tobytes()
    np.testing.assert_array_equal(u, before)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # NumPy warns with the JIT off
@given(knn_graphs(), st.sampled_from([0.5, 1e-300, 1e307]), st.integers(0, 2))
def test_own_scores_of_equal_scores_are_equal(graph, score, hops):
    graph = KnnGraph(*graph)
    alike = np.full(graph.n, score)
    options = {"bandwidth": 1.0, "gamma_forward": 4.0, "hops": hops}
    overflow = score == 1e307 and hops > 0
    try:
        u = propagate(graph, alike, **options)
    except DataError:
        assert overflow
        reject()
    own = own_scores(graph, u, **options)
    assert len({*own.tolist()}) == 1  # rounding errors of sums would look like differences
    np.testing.assert_allclose(own, alike, rtol=0, atol=2.0**-31 * u.max())


def test_own_scores_of_three_points_by_hand():
    """Weights are e^-1 and e^-4; the pass of ones gives 1 + the sum of a row's weights."""
    near, far = math.exp(-1), math.exp(-4)
    u = propagate(LINE, [0.1, 5.0, 0.2], gamma_forward=1.0)
    m = u / np.array([1 + near, 1 + near + far, 1 + far])
    expected = [u[0] - near * m[1], u[1] - near * m[0] - far * m[2], u[2] - far * m[1]]
    np.testing.assert_allclose(
        own_scores(LINE, u, gamma_forward=1.0), expected, atol=2.0**-31 * u.max()
    )
    # Row 1 stays the hardest, and stands out more than in the means m.
    own = own_scores(LINE, u, gamma_forward=1.0)
    assert own[1] / max(own[0], own[2]) > m[1] / max(m[0], m[2]) > 1


def test_own_scores_of_subnormal_scores():
    u = np.array([5e-324, 0.0, 1e-323])
    found = own_scores(LINE, u, gamma_forward=1.0)
    assert np.isfinite(found).all()
    plain = naive.edges(LINE.neighbors, LINE.distances, "union")
    assert found.tobytes() == naive.own_scores(plain, u, "gaussian", 1.0, 1.0).tobytes()


@pytest.mark.parametrize("top", [1.5e308, 1.7e308])
def test_own_scores_of_scores_near_the_largest_float64(top):
    """The sum of the means would overflow: each is about as large as the largest score."""
    star = KnnGraph(np.array([[1], [0], [0], [0]], np.int32), np.zeros((4, 1), np.float32))
    found = own_scores(star, [top, top, top, top], bandwidth=1.0)
    assert np.isfinite(found).all()


@given(knn_graphs())
def test_median_bandwidth_equals_the_plain_loop(graph):
    assert resolve_bandwidth(KnnGraph(*graph), "median") == naive.bandwidth(graph[1])


def test_median_bandwidth_does_not_change_the_graph():
    distances = np.array([[3.0, 5.0], [1.0, 3.0], [1.0, 5.0]], "f4")
    graph = KnnGraph(np.array([[1, 2], [2, 0], [1, 0]], "i4"), distances.copy())
    resolve_bandwidth(graph, "median")
    np.testing.assert_array_equal(graph.distances, distances)


def test_vanished_share_by_hand():
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
def test_propagate_refuses_bad_options(options):
    with pytest.raises(UsageError):
        propagate(LINE, [1.0, 2.0, 3.0], **options)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # NumPy warns with the JIT off
@pytest.mark.parametrize(
    ("values", "message", "row"),
    [
        ([1.0, 2.0], "one number for each", None),
        ([[1.0], [2.0], [3.0]], "one number for each", None),
        ([1.0, math.nan, 2.0], "score is nan", 1),
        ([1e308, 1e308, 1e308], "beyond float64", None),
    ],
)
def test_propagate_refuses_bad_scores(values, message, row):
    with pytest.raises(DataError, match=message) as caught:
        propagate(LINE, values, gamma_forward=0.1)
    assert caught.value.argument == "scores"
    if row is not None:
        assert caught.value.row == row


def test_edges_without_a_bandwidth_number_are_refused():
    with pytest.raises(UsageError, match="bandwidth a number"):
        propagate(edges_of(LINE), [1.0, 2.0, 3.0])


def test_negative_scores_by_hand():
    """Row 1 sends its score of -2, or the floor; rows 0 and 2 send their scores."""
    near, far = math.exp(-1), math.exp(-4)
    found = propagate(LINE, [1.0, -2.0, 4.0], gamma_forward=1.0, floor=0.5)
    np.testing.assert_allclose(found, [1 + 0.5 * near, -2 + near + 4 * far, 4 + 0.5 * far])
    found = propagate(LINE, [1.0, -2.0, 4.0], gamma_forward=1.0)
    np.testing.assert_allclose(found, [1 - 2 * near, -2 + near + 4 * far, 4 - 2 * far])


@pytest.mark.parametrize(
    ("distances", "sigma", "share", "rule"),
    [
        ([[1.0], [1.0], [2.0]], 1.0, 0.0, "median of the listed distances"),
        ([[0.0], [0.0], [2.0]], 2.0, 2 / 3, "above 0, because more than half are 0"),
        ([[0.0], [0.0], [0.0]], 1.0, 1.0, "σ = 1"),
    ],
)
def test_bandwidth_decision(distances, sigma, share, rule):
    graph = KnnGraph(LINE.neighbors, np.array(distances, np.float32))
    found = bandwidth_decision(graph, resolve_bandwidth(graph, "median"))
    assert (found.name, found.value) == ("bandwidth", sigma)
    assert found.numbers == {"distances": 3, "zero_share": pytest.approx(share)}
    assert rule in found.rule


@pytest.mark.parametrize("rule", ["union", "directed", "mutual"])
def test_predicted_memory_covers_the_edges(rule):
    """The arrays of ``union`` and ``directed`` have exactly the predicted room."""
    n, k = 50, 3
    neighbors = np.sort((np.arange(n)[:, None] + np.arange(1, k + 1)) % n, axis=1)
    graph = KnnGraph(neighbors.astype(np.int32), np.ones((n, k), np.float32))
    edges = edges_of(graph, rule)
    ledger = Ledger()
    sizes.edges(ledger, n, k, rule)
    room = edges.indices.base.nbytes + edges.distances.base.nbytes
    assert ledger.held["edges"] == room + edges.indptr.nbytes - 8
