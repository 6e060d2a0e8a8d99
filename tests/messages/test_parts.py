"""Edges in parts of rows equal the edges in memory, bit by bit."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.engine.store import PartStore
from d2cli.errors import UsageError
from d2cli.files.output.work_files import WorkFiles
from d2cli.files.output.work_folder import LocalFolder
from d2cli.graph import lists
from d2cli.graph.knn_graph import Edges, KnnGraph
from d2cli.graph.lists import RangedLists
from d2cli.messages import parts as module
from d2cli.messages.edges import edges_of
from d2cli.messages.forward import bandwidth_decision, forward, resolve_bandwidth, vanished_share
from d2cli.messages.parts import in_parts, marked_neighbours, stored_edges
from tests import naive
from tests.strategies import knn_graphs, masks


@st.composite
def stored_graphs(draw):
    """(edges in memory, the same in parts of few edges)."""
    neighbors, distances = draw(knn_graphs())
    rule = draw(st.sampled_from(["union", "directed", "mutual"]))
    left_out = draw(st.none() | masks(len(neighbors)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_EDGES", draw(st.sampled_from([1, 7, 40])))
        patch.setattr(lists, "RANGE_NUMBERS", draw(st.sampled_from([1, 9, 1000])))
        graph = KnnGraph(neighbors, distances)
        found = stored_edges(graph, rule, left_out, PartStore())
        ranged = RangedLists(graph.n, graph.n_neighbors, None, graph.rows)
        assert resolve_bandwidth(ranged, "median") == naive.bandwidth(distances)
        assert bandwidth_decision(ranged, 1.0) == bandwidth_decision(graph, 1.0)
        return edges_of(graph, rule, left_out), found


def together(parts):
    """The parts as edges in memory."""
    loaded = [part for _, part in parts.loaded()]
    ends = np.cumsum([0, *(part.indices.size for part in loaded)])
    indptr = [part.indptr[1:] + end for part, end in zip(loaded, ends, strict=False)]
    return Edges(
        np.concatenate([[0], *indptr]).astype(np.int64),
        np.concatenate([part.indices for part in loaded]),
        np.concatenate([part.distances for part in loaded]),
    )


@given(stored_graphs())
def test_stored_edges_equal_edges_in_memory(stored):
    edges, parts = stored
    for mine, theirs in zip(together(parts), edges, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.tobytes() == theirs.tobytes()
    assert parts.n == in_parts(edges).n == edges.indptr.size - 1
    assert parts.degrees().tolist() == in_parts(edges).degrees().tolist()
    assert parts.degrees().tolist() == np.diff(edges.indptr).tolist()
    assert sum(parts.sizes) == edges.indices.size
    for (first, part), stop in zip(parts.loaded(), parts.starts[1:], strict=True):
        assert part.indptr[0] == 0
        assert part.indptr.size - 1 == stop - first


@given(stored_graphs(), st.data())
def test_messages_of_parts_equal_those_of_edges_in_memory(stored, data):
    edges, parts = stored
    n = parts.n
    scores = np.array(data.draw(st.lists(st.floats(-3, 9), min_size=n, max_size=n)))
    options = {"kernel_name": "gaussian", "sigma": 0.7, "gamma": 0.5, "floor": 0.0, "threads": 1}
    hops = data.draw(st.integers(0, 3))
    mine, theirs = (forward(one, scores, hops=hops, **options) for one in (parts, edges))
    assert mine.tobytes() == theirs.tobytes()
    for gamma in (0.1, 30.0, 1e9):
        shares = [vanished_share(one, "gaussian", gamma, 1.0) for one in (parts, edges)]
        assert shares[0] == shares[1]
    marked, rows = data.draw(masks(n)), np.flatnonzero(data.draw(masks(n)))
    expected = [
        int(marked[edges.indices[edges.indptr[i] : edges.indptr[i + 1]]].sum()) for i in rows
    ]
    assert marked_neighbours(parts, marked, rows).tolist() == expected
    assert marked_neighbours(edges, marked, rows).tolist() == expected


def test_unknown_rule_is_refused_before_anything_is_stored():
    graph = KnnGraph(np.array([[-1]], "i4"), np.array([[np.inf]], "f4"))
    with pytest.raises(UsageError, match="edges"):
        stored_edges(graph, "both", None, PartStore())


def test_work_files_keep_parts_until_the_end(tmp_path):
    with WorkFiles(LocalFolder(tmp_path)) as files:
        files.put("a", 3, x=np.arange(9), y=np.ones(2, np.float32))
        files.put("b", 0, x=np.arange(2))
        assert files.get("a", 3, "x").tolist() == [*range(9)]
        found = files.some("a", 3, x=(3, 5), y=(0, 1))
        assert {key: array.tolist() for key, array in found.items()} == {"x": [3, 4], "y": [1.0]}
        files.drop("b")
        files.drop("b")
        assert not files.has("b")
        assert len(list(tmp_path.iterdir())) == 2  # the lock, and a folder
    assert list(tmp_path.iterdir()) == []


def test_a_copy_of_work_files_writes_parts(tmp_path):
    with WorkFiles(LocalFolder(tmp_path)) as files:
        files.put("a", 0, x=np.arange(3))
        copy = pickle.loads(pickle.dumps(files))
        for _ in range(2):  # a task may run twice
            copy.put("b", 1, x=np.arange(5, dtype=np.int32))
        assert copy.get("a", 0, "x").tolist() == [0, 1, 2]
        copy.end()
        assert files.get("b", 1, "x").tolist() == [*range(5)]
    assert list(tmp_path.iterdir()) == []
