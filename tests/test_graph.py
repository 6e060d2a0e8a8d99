"""The contract of a graph, and edges under every rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages.edges import edges_of
from tests import naive
from tests.strategies import knn_graphs, masks

KINDS = ("union", "directed", "mutual")


def as_dict(csr):
    found = {}
    for i in range(csr.indptr.size - 1):
        row = slice(csr.indptr[i], csr.indptr[i + 1])
        found[i] = dict(zip(csr.indices[row].tolist(), csr.distances[row].tolist(), strict=True))
    return found


@given(knn_graphs(), st.sampled_from(KINDS), st.data())
def test_edges_are_the_plain_loop(graph, kind, data):
    neighbors, distances = graph
    drop = data.draw(st.none() | masks(len(neighbors)))
    csr = edges_of(KnnGraph(neighbors, distances), kind, drop)
    assert as_dict(csr) == naive.edges(neighbors, distances, kind, drop)
    assert csr.indptr.dtype == np.int64
    assert csr.indices.dtype == np.int32
    assert csr.distances.dtype == np.float32
    for i in range(len(neighbors)):
        row = csr.indices[csr.indptr[i] : csr.indptr[i + 1]]
        assert (np.diff(row) > 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_hub_that_everyone_lists(kind):
    n = 400
    neighbors = np.zeros((n, 1), np.int32)
    neighbors[0] = 1
    distances = np.linspace(1, 2, n, dtype="f4")[::-1].reshape(n, 1).copy()
    csr = edges_of(KnnGraph(neighbors, distances), kind)
    assert as_dict(csr) == naive.edges(neighbors, distances, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_lists_that_disagree_on_a_distance(kind):
    neighbors = np.array([[1], [0]], np.int32)
    distances = np.array([[2.0], [1.0]], np.float32)
    found = as_dict(edges_of(KnnGraph(neighbors, distances), kind))
    assert found == naive.edges(neighbors, distances, kind)


def test_unknown_edges_are_refused():
    with pytest.raises(UsageError, match="union, directed, mutual"):
        edges_of(KnnGraph(np.array([[-1]], "i4"), np.array([[np.inf]], "f4")), "both")


@given(knn_graphs())
def test_what_is_built_keeps_the_contract(graph):
    KnnGraph(*graph)


INF = np.inf
FAULTS = [
    ([[1], [2]], [[1.0], [1.0]], "no row of the graph"),
    ([[1], [-2]], [[1.0], [1.0]], "no row of the graph"),
    ([[1], [1]], [[1.0], [1.0]], "lists itself"),
    ([[1], [0]], [[1.0], [-1.0]], "negative"),
    ([[1], [0]], [[1.0], [np.nan]], "negative, NaN"),
    ([[1], [0]], [[1.0], [INF]], "negative, NaN"),
    ([[1], [-1]], [[1.0], [1.0]], "missing place"),
    ([[1, 2], [-1, 0], [0, 1]], [[1.0, 1.0], [INF, 1.0], [1.0, 1.0]], "missing place"),
    ([[1, 2], [0, 2], [0, 1]], [[1.0, 1.0], [2.0, 1.0], [1.0, 1.0]], "not sorted"),
    ([[1, 2], [2, 0], [0, 1]], [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]], "ties by row"),
    ([[1, 2], [0, 0], [0, 1]], [[1.0, 1.0], [1.0, 2.0], [1.0, 1.0]], "twice"),
]


@pytest.mark.parametrize(("neighbors", "distances", "said"), FAULTS)
def test_what_breaks_the_contract_is_named(neighbors, distances, said):
    with pytest.raises(DataError, match=said) as caught:
        KnnGraph(np.array(neighbors, "i4"), np.array(distances, "f4"))
    assert caught.value.row == 1


def test_shapes_and_types_are_checked():
    good = np.array([[1], [0]], "i4"), np.ones((2, 1), "f4")
    with pytest.raises(DataError, match="must both be"):
        KnnGraph(good[0], np.ones((2, 2), "f4"))
    with pytest.raises(DataError, match="must both be"):
        KnnGraph(np.empty((2, 0), "i4"), np.empty((2, 0), "f4"))
    with pytest.raises(DataError, match="int32"):
        KnnGraph(good[0].astype("i8"), good[1])
    with pytest.raises(DataError, match="excluded must be"):
        KnnGraph(*good, excluded=np.zeros(3, bool))
    with pytest.raises(DataError, match="excluded but lists"):
        KnnGraph(*good, excluded=np.array([False, True]))
