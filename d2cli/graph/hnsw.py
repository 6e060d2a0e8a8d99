"""Approximate neighbours from one HNSW index (Malkov and Yashunin, arXiv 1603.09320; hnswlib).

Insertion into the index depends on the order in which threads get there, so one thread builds it;
queries of a finished index do not, so all threads share those.
"""

from __future__ import annotations

import hnswlib
import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import NONE, Checkpoint, State, as_bytes, from_bytes
from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.distances import nearest_of_all, rerank
from d2cli.graph.recall import Truth
from d2cli.graph.vectors import Group, power_of_two_scale
from d2cli.runtime import stopping

#: Rows added, or queried, in one call: the grain of progress.
_BLOCK = 8192
#: The widest search list that aiming at a recall will try.
_EF_MOST = 1600
#: What hnswlib makes of an index to be pickled; the rest are numbers.
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
) -> tuple[NDArray[np.int32], NDArray[np.float32], dict[str, object]]:
    """The k nearest of every row, approximately.

    Args:
        group: n > n_neighbors rows.
        m: links of each node (hnswlib's M).
        ef_construction: width of the search list while the index is built.
        ef: width of the search list of a query; where None, the narrowest of a doubling series
            that reaches `recall` on `truth`.
        truth: exact neighbours, in numbers of the group, of some rows to aim with.
        checkpoint: keeps the index once it is built, and the blocks of queries that are done. (An
            index that is half built could not go on: nobody can ask hnswlib for the state of its
            random numbers.)

    Returns:
        neighbors (n, k) int32, as rows, and distances (n, k) float32 as in
        :class:`~d2cli.graph.knn_graph.KnnGraph`, and the settings used. Memory: the index holds one float32
        copy of the vectors, and about 8·m + 20 bytes a row.
    """
    n, d = len(group), group.vectors.shape[1]
    scale = power_of_two_scale(threads, group)
    done, state = 0, checkpoint.load("hnsw")
    neighbors = np.empty((n, n_neighbors), np.int32)
    distances = np.empty((n, n_neighbors), np.float32)
    if state is not None:
        index = _restored(state)
        ef, done = int(state["ef"]) or ef, int(state["done"])
        neighbors[:done], distances[:done] = state["neighbors"], state["distances"]
    else:
        index = hnswlib.Index("l2", d)
        index.init_index(n, M=m, ef_construction=ef_construction, random_seed=seed)
        for start in range(0, n, _BLOCK):
            stop = min(start + _BLOCK, n)
            block = (group.block(start, stop) * scale).astype(np.float32, copy=False)
            index.add_items(block, group.rows_at(np.arange(start, stop)), num_threads=1)
            progress("index", stop, n)
            stopping.check()

    def save(ef: int, done: int) -> None:
        checkpoint.save(
            "hnsw",
            lambda: {
                **_kept(index),
                "ef": np.int64(ef),
                "done": np.int64(done),
                "neighbors": neighbors[:done],
                "distances": distances[:done],
            },
        )

    save(ef or 0, done)
    search = _Search(index, group, scale, n_neighbors, threads)
    if ef is None:
        ef = _aim(search, truth, recall)
    index.set_ef(max(ef, n_neighbors + 1))
    for start in range(done, n, _BLOCK):
        stop = min(start + _BLOCK, n)
        found = search(np.arange(start, stop))
        neighbors[start:stop], distances[start:stop] = found
        progress("neighbors", stop, n)
        stopping.check()
        save(ef, stop)
    return neighbors, distances, {"hnsw_m": m, "ef_construction": ef_construction, "ef": ef}


def _kept(index: hnswlib.Index) -> State:
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


def _aim(search: _Search, truth: Truth, recall: float) -> int:
    """The narrowest search list that reaches `recall` on the rows of `truth`."""
    ef = 2 * search.n_neighbors
    while True:
        search.index.set_ef(ef)
        if truth.recall(search(truth.rows)[1]) >= recall or ef >= _EF_MOST:
            return ef
        ef *= 2


class _Search:
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
        """The k nearest of each: self dropped by number, true distances, in final order."""
        vectors, rows = self.group.vectors, self.group.rows_at(numbers)
        neighbors = np.empty((rows.size, self.n_neighbors), np.int32)
        distances = np.empty((rows.size, self.n_neighbors), np.float32)
        candidates, lost = self._candidates(rows)

        def finish(start: int, stop: int) -> None:
            rerank(
                vectors, rows[start:stop], candidates[start:stop],
                neighbors[start:stop], distances[start:stop],
            )  # fmt: skip

        for_blocks(finish, rows.size, 1024, self.threads)
        if lost.size:
            again = np.empty((lost.size, self.n_neighbors), np.int32)
            longer = np.empty((lost.size, self.n_neighbors), np.float32)
            nearest_of_all(vectors, rows[lost], self.group.all_rows(), again, longer)
            neighbors[lost], distances[lost] = again, longer
        return neighbors, distances

    def _candidates(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """K + 1 labels for each row, and the places of those for which the index has fewer.

        hnswlib answers a whole batch or, if one row of it comes back short, none.
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
