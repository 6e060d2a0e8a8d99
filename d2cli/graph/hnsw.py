"""Approximate neighbours from one HNSW index (Malkov and Yashunin, arXiv 1603.09320; hnswlib).

One thread builds the index, because the index depends on the order of insertion. All threads share
the queries, because a query does not change the index.
"""

from __future__ import annotations

import hnswlib
import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import NONE, Checkpoint, State, as_bytes, from_bytes
from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.distances import nearest_of_all, rerank
from d2cli.graph.recall import ApproximateLists, Truth
from d2cli.graph.sizes import INDEX_BLOCK
from d2cli.graph.vectors import Group, power_of_two_scale
from d2cli.runtime import stopping
from d2cli.runtime.decisions import Decision

#: The largest ef that is tried to reach a recall.
_EF_MOST = 1600
#: Rows ranked by true distance in one block.
_RANK_BLOCK = 1024
#: The arrays in the pickled state of an index; the other entries are numbers.
_INDEX_ARRAYS = (
    "label_lookup_external",
    "label_lookup_internal",
    "element_levels",
    "data_level0",
    "link_lists",
)


def hnsw_neighbors(
    group: Group,
    n_neighbors: int,
    *,
    m: int,
    ef_construction: int,
    ef: int | None,
    recall: float,
    truth: Truth,
    seed: int,
    threads: int,
    progress: Progress = silent,
    checkpoint: Checkpoint = NONE,
) -> ApproximateLists:
    """The k nearest neighbours of every row of a group, approximately.

    Args:
        group: n > n_neighbors rows.
        m: links per node (hnswlib's M).
        ef_construction: width of the search list while the index is built.
        ef: width of the search list of a query. None: the first of 2k, 4k, 8k, … that reaches
            `recall` on `truth`, at most 1600.
        truth: exact neighbours of some rows, in numbers of the group.
        checkpoint: stores the finished index and the lists of the blocks queried so far. A
            half-built index cannot be stored: hnswlib does not expose its random state.

    Returns:
        The lists. Memory: one float32 copy of the vectors and about 8·m + 20 bytes per row.
    """
    n, d = len(group), group.vectors.shape[1]
    scale = power_of_two_scale(threads, group)
    done, reached, given = 0, 0.0, ef is not None
    neighbors = np.empty((n, n_neighbors), np.int32)
    distances = np.empty((n, n_neighbors), np.float32)
    if (state := checkpoint.load("hnsw")) is not None:
        index = _restored(state)
        ef, reached, done = int(state["ef"]) or ef, float(state["reached"]), int(state["done"])
        neighbors[:done], distances[:done] = state["neighbors"], state["distances"]
    else:
        index = hnswlib.Index("l2", d)
        index.init_index(n, M=m, ef_construction=ef_construction, random_seed=seed)
        for start in range(0, n, INDEX_BLOCK):
            stop = min(start + INDEX_BLOCK, n)
            block = (group.block(start, stop) * scale).astype(np.float32, copy=False)
            index.add_items(block, group.rows_at(np.arange(start, stop)), num_threads=1)
            progress("index", stop, n)
            stopping.check()

    def save(ef: int, done: int) -> None:
        checkpoint.save(
            "hnsw",
            lambda: {
                **_state_of(index),
                "ef": np.int64(ef),
                "reached": np.float64(reached),
                "done": np.int64(done),
                "neighbors": neighbors[:done],
                "distances": distances[:done],
            },
        )

    save(ef or 0, done)
    search = _IndexSearch(index, group, scale, n_neighbors, threads)
    if ef is None:
        ef, reached = _smallest_ef(search, truth, recall)
    index.set_ef(max(ef, n_neighbors + 1))
    for start in range(done, n, INDEX_BLOCK):
        stop = min(start + INDEX_BLOCK, n)
        neighbors[start:stop], distances[start:stop] = search(np.arange(start, stop))
        progress("neighbors", stop, n)
        stopping.check()
        save(ef, stop)
    decision = Decision(
        "ef",
        ef,
        f"first of 2k, 4k, 8k, … that reaches the recall on a sample, at most {_EF_MOST}",
        {"recall": reached, "recall_target": recall, "sample_rows": len(truth.rows)},
    )
    return ApproximateLists(
        neighbors,
        distances,
        {"hnsw_m": m, "ef_construction": ef_construction, "ef": ef},
        () if given else (decision,),
    )


def _state_of(index: hnswlib.Index) -> State:
    """A finished index as arrays."""
    (whole,) = index.__getstate__()
    arrays = {name: value for name, value in whole.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in whole.items() if name not in arrays}
    return {**arrays, "rest": as_bytes(rest)}


def _restored(state: State) -> hnswlib.Index:
    rest = from_bytes(state["rest"])
    arrays = {name: state[name] for name in _INDEX_ARRAYS}
    index = hnswlib.Index.__new__(hnswlib.Index)
    index.__setstate__(({**rest, **arrays},))
    return index


def _smallest_ef(search: _IndexSearch, truth: Truth, recall: float) -> tuple[int, float]:
    """The first ef of 2k, 4k, 8k, … that reaches `recall` on `truth`, and its recall."""
    ef = 2 * search.n_neighbors
    while True:
        search.index.set_ef(ef)
        reached = truth.recall(search(truth.rows)[1])
        if reached >= recall or ef >= _EF_MOST:
            return ef, reached
        ef *= 2


class _IndexSearch:
    """Queries of one index."""

    def __init__(
        self,
        index: hnswlib.Index,
        group: Group,
        scale: float,
        n_neighbors: int,
        threads: int,
    ) -> None:
        self.index, self.group, self.scale = index, group, scale
        self.n_neighbors, self.threads = n_neighbors, threads

    def __call__(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The k nearest neighbours of these rows of the group, ranked by true distance."""
        vectors, rows = self.group.vectors, self.group.rows_at(numbers)
        neighbors = np.empty((rows.size, self.n_neighbors), np.int32)
        distances = np.empty((rows.size, self.n_neighbors), np.float32)
        candidates, lost = self._candidates(rows)

        def rank(start: int, stop: int) -> None:
            rerank(
                vectors, rows[start:stop], candidates[start:stop],
                neighbors[start:stop], distances[start:stop],
            )  # fmt: skip

        for_blocks(rank, rows.size, _RANK_BLOCK, self.threads)
        if lost.size:
            again = np.empty((lost.size, self.n_neighbors), np.int32)
            longer = np.empty((lost.size, self.n_neighbors), np.float32)
            nearest_of_all(vectors, rows[lost], self.group.all_rows(), again, longer)
            neighbors[lost], distances[lost] = again, longer
        return neighbors, distances

    def _candidates(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Candidates (m, k + 1) of rows (m,), and the places of rows for which hnswlib fails.

        hnswlib raises for a whole batch if it finds fewer than k + 1 candidates for one row, so the
        rows of such a batch are queried one by one.
        """
        wanted = self.n_neighbors + 1
        queries = (self.group.vectors[rows] * self.scale).astype(np.float32, copy=False)
        try:
            labels, _ = self.index.knn_query(queries, k=wanted, num_threads=self.threads)
            return labels.astype(np.int64), np.empty(0, np.int64)
        except RuntimeError:
            found = np.full((rows.size, wanted), -1, np.int64)
            lost = []
            for r in range(rows.size):
                try:
                    found[r] = self.index.knn_query(queries[r], k=wanted, num_threads=1)[0][0]
                except RuntimeError:
                    lost.append(r)
            return found, np.array(lost, np.int64)
