"""Approximate neighbours from one HNSW index (Malkov and Yashunin, arXiv 1603.09320; hnswlib).

One thread builds the index, because the index depends on the order of insertion. All threads share
the queries, because a query does not change the index.
"""

from __future__ import annotations

from dataclasses import dataclass

import hnswlib
import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import NONE, Checkpoint, State, as_bytes, from_bytes
from d2cli.engine.threads import Progress, for_blocks, silent
from d2cli.graph.distances import nearest_of_all, rerank
from d2cli.graph.recall import ApproximateLists, Truth
from d2cli.graph.settings import SearchSettings
from d2cli.graph.sizes import INDEX_BLOCK
from d2cli.graph.vectors import Group, power_of_two_scale
from d2cli.runtime import stopping
from d2cli.runtime.decisions import Decision

#: The doubling series of ef ends at the first value of at least this.
_EF_MOST = 1600
#: Rows ranked by true distance in one block.
_RANK_BLOCK = 1024


def hnsw_neighbors(
    group: Group,
    settings: SearchSettings,
    truth: Truth,
    progress: Progress = silent,
    checkpoint: Checkpoint = NONE,
) -> ApproximateLists:
    """The k nearest neighbours of every row of a group, approximately.

    Args:
        group: n > n_neighbors rows.
        settings: if `ef` is None, the first of 2k, 4k, 8k, … that reaches `recall` on `truth` is
            used; the series ends at the first ef >= 1600.
        truth: exact neighbours of some rows, in numbers of the group.
        checkpoint: stores the finished index and the lists of the blocks queried so far. A
            half-built index cannot be stored: hnswlib does not expose its random state.

    Returns:
        The lists. Memory: one float32 copy of the vectors and about 8·M + 124 bytes per row.
    """
    n, d, k, threads = len(group), group.vectors.shape[1], settings.n_neighbors, settings.threads
    scale = power_of_two_scale(threads, group)
    ef, done, reached = settings.ef, 0, 0.0
    neighbors, distances = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    if (state := checkpoint.load("hnsw")) is not None:
        index = _restored(state)
        ef, reached, done = int(state["ef"]) or ef, float(state["reached"]), int(state["done"])
        neighbors[:done], distances[:done] = state["neighbors"], state["distances"]
    else:
        index = hnswlib.Index("l2", d)
        index.init_index(n, settings.hnsw_m, settings.ef_construction, random_seed=settings.seed)
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
    search = _IndexSearch(index, group, scale, k, threads)
    if ef is None:
        ef, reached = _smallest_ef(search, truth, settings.recall)
    index.set_ef(max(ef, k + 1))
    for start in range(done, n, INDEX_BLOCK):
        stop = min(start + INDEX_BLOCK, n)
        neighbors[start:stop], distances[start:stop] = search(np.arange(start, stop))
        progress("neighbors", stop, n)
        stopping.check()
        save(ef, stop)
    decision = Decision(
        "ef",
        ef,
        "first of 2k, 4k, 8k, … that reaches the recall on a sample",
        {"recall": reached, "recall_target": settings.recall, "sample_rows": len(truth.rows)},
    )
    return neighbors, distances, (decision,) if settings.ef is None else ()


def _state_of(index: hnswlib.Index) -> State:
    """A finished index as arrays; its numbers are one array, ``rest``."""
    (whole,) = index.__getstate__()
    arrays = {name: value for name, value in whole.items() if isinstance(value, np.ndarray)}
    rest = {name: value for name, value in whole.items() if name not in arrays}
    return {**arrays, "rest": as_bytes({"arrays": [*arrays], **rest})}


def _restored(state: State) -> hnswlib.Index:
    rest = from_bytes(state["rest"])
    arrays = {name: state[name] for name in rest.pop("arrays")}
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


@dataclass(frozen=True)
class _IndexSearch:
    """Queries of one index."""

    index: hnswlib.Index
    group: Group
    scale: float
    n_neighbors: int
    threads: int

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
            found, lengths = neighbors[lost], distances[lost]
            nearest_of_all(vectors, rows[lost], self.group.all_rows(), found, lengths)
            neighbors[lost], distances[lost] = found, lengths
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
