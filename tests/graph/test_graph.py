"""The contract of a graph, and its edges under every rule."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages.edges import edges_of
from tests import naive
from tests.strategies import knn_graphs, masks

RULES = ("union", "directed", "mutual")


def as_dict(csr):
    found = {}
    for i in range(csr.indptr.size - 1):
        row = slice(csr.indptr[i], csr.indptr[i + 1])
        found[i] = dict(zip(csr.indices[row].tolist(), csr.distances[row].tolist(), strict=True))
    return found


@given(knn_graphs(), st.sampled_from(RULES), st.data())
def test_edges_equal_the_naive_loop(graph, rule, data):
    neighbors, distances = graph
    drop = data.draw(st.none() | masks(len(neighbors)))
    csr = edges_of(KnnGraph(neighbors, distances), rule, drop)
    assert as_dict(csr) == naive.edges(neighbors, distances, rule, drop)
    assert csr.indptr.dtype == np.int64
    assert csr.indices.dtype == np.int32
    assert csr.distances.dtype == np.float32
    for i in range(len(neighbors)):
        row = csr.indices[csr.indptr[i] : csr.indptr[i + 1]]
        assert (np.diff(row) > 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_edges_of_a_hub_listed_by_every_row(rule):
    n = 400
    neighbors = np.zeros((n, 1), np.int32)
    neighbors[0] = 1
    distances = np.linspace(1, 2, n, dtype="f4")[::-1].reshape(n, 1).copy()
    csr = edges_of(KnnGraph(neighbors, distances), rule)
    assert as_dict(csr) == naive.edges(neighbors, distances, rule)


@pytest.mark.parametrize("rule", RULES)
def test_edges_of_lists_with_different_distances_for_a_pair(rule):
    neighbors = np.array([[1], [0]], np.int32)
    distances = np.array([[2.0], [1.0]], np.float32)
    found = as_dict(edges_of(KnnGraph(neighbors, distances), rule))
    assert found == naive.edges(neighbors, distances, rule)


def test_unknown_edge_rule_is_refused():
    with pytest.raises(UsageError, match="union, directed, mutual"):
        edges_of(KnnGraph(np.array([[-1]], "i4"), np.array([[np.inf]], "f4")), "both")


@given(knn_graphs())
def test_valid_graphs_pass_the_contract(graph):
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


@pytest.mark.parametrize(("neighbors", "distances", "message"), FAULTS)
def test_broken_contract_names_the_row_and_the_fault(neighbors, distances, message):
    with pytest.raises(DataError, match=message) as caught:
        KnnGraph(np.array(neighbors, "i4"), np.array(distances, "f4"))
    assert caught.value.row == 1


def test_wrong_shapes_and_dtypes_are_refused():
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
        KnnGraph(*good, excluded=np.array([True, False]))
    with pytest.raises(DataError, match="lists an excluded"):
        KnnGraph(*good, excluded=np.array([False, True]))


def test_importing_the_graph_classes_loads_no_compiler():
    code = "import sys, d2cli.graph.knn_graph, d2cli.graph.sizes; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
