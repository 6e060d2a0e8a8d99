"""Edges of a span of parts, in local numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.engine.store import PartStore
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages import parts as module
from d2cli.messages.edges import edges_of
from d2cli.messages.local_edges import LocalEdges
from d2cli.messages.parts import stored_edges


@given(st.sampled_from([1, 2, 31, 32, 33, 64, 70]), st.integers(1, 3), st.integers(0, 2**30))
def test_local_numbers_are_places_among_own_rows_and_neighbours(n, k, seed):
    rng = np.random.default_rng(seed)
    neighbors = np.full((n, k), -1, np.int32)
    for i in range(n):
        others = rng.permutation(np.delete(np.arange(n), i))[: rng.integers(0, k + 1)]
        neighbors[i, : others.size] = others
    distances = np.where(neighbors < 0, np.inf, np.arange(1, k + 1)).astype(np.float32)
    graph = KnnGraph(neighbors, distances)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_EDGES", 8)
        parts = stored_edges(graph, "union", None, PartStore())
    edges = edges_of(graph)
    for span in parts.spans(3):
        here = LocalEdges.of(parts, span)
        first, stop = parts.starts[span[0]], parts.starts[span[1]]
        a, b = edges.indptr[first], edges.indptr[stop]
        local = np.unique(np.concatenate([np.arange(first, stop), edges.indices[a:b]]))
        assert (here.first, here.stop, here.size) == (first, stop, local.size)
        assert local[here.own].tolist() == list(range(first, stop))
        assert here.of_rows(np.arange(n)).tolist() == local.tolist()
        some = np.flatnonzero(rng.random(n) < 0.5).astype(np.int32)
        ghosts = np.setdiff1d(np.intersect1d(some, local), np.arange(first, stop))
        values, expected = np.zeros(local.size), np.zeros(local.size)
        expected[np.searchsorted(local, ghosts)] = 1.0 + ghosts
        assert here.set_ghosts(some, 1.0 + some, values) == ghosts.size
        assert values.tolist() == expected.tolist()
        rows = np.arange(n + 1)
        assert here.before(rows).tolist() == np.searchsorted(local, rows).tolist()
        assert local[here.edges.indices].tolist() == edges.indices[a:b].tolist()
        assert here.edges.distances.tobytes() == edges.distances[a:b].tobytes()
        assert here.edges.indptr[here.own].tolist() == (edges.indptr[first:stop] - a).tolist()
        assert np.diff(here.edges.indptr).sum() == b - a
