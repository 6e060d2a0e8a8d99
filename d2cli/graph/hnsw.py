"""Approximate neighbours from one HNSW index (Malkov and Yashunin, arXiv 1603.09320; hnswlib).

One thread builds the index, because the index depends on the order of insertion. All threads share
the queries, because a query does not change the index.
"""

from functools import partial

import hnswlib
import numpy as np

from d2cli.engine.checkpoints import Checkpoint, State, as_bytes, from_bytes
from d2cli.engine.threads import Progress, for_blocks
from d2cli.graph.distances import nearest_of_all, rank_rows
from d2cli.graph.recall import ApproximateLists, Truth
from d2cli.graph.settings import SearchSettings
from d2cli.graph.sizes import INDEX_BLOCK
from d2cli.graph.vectors import Group, power_of_two_scale
from d2cli.runtime import stopping
from d2cli.runtime.arrays import Float32, Int32, Int64
from d2cli.runtime.decisions import Decision


def hnsw_neighbors(
    group: Group, settings: SearchSettings, truth: Truth, progress: Progress, checkpoint: Checkpoint
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
    n, k, threads, recall = len(group), settings.n_neighbors, settings.threads, settings.recall
    scale = power_of_two_scale(threads, group)
    ef, done, reached = settings.ef, 0, 0.0
    neighbors, distances = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    if (state := checkpoint.load("hnsw")) is not None:
        index = _restored(state)
        ef, reached, done = int(state["ef"]) or ef, float(state["reached"]), int(state["done"])
        neighbors[:done], distances[:done] = state["neighbors"], state["distances"]
    else:
        index = hnswlib.Index("l2", group.vectors.shape[1])
        index.init_index(n, settings.hnsw_m, settings.ef_construction, random_seed=settings.seed)
        for start in range(0, n, INDEX_BLOCK):
            stop = min(start + INDEX_BLOCK, n)
            block = (group.block(start, stop) * scale).astype(np.float32, copy=False)
            index.add_items(block, group.rows_at(np.arange(start, stop)), num_threads=1)
            progress("index", stop, n)
            stopping.check()

    def save(ef: int, done: int) -> None:
        numbers = {"ef": np.int64(ef), "reached": np.float64(reached), "done": np.int64(done)}
        lists = {"neighbors": neighbors[:done], "distances": distances[:done]}
        checkpoint.save("hnsw", lambda: {**_state_of(index), **numbers, **lists})

    save(ef or 0, done)
    search = partial(_search, index, group, scale, k, threads)
    if ef is None:
        ef, most = k, max(1600, 2 * k)
        while reached < recall and ef < most:
            ef *= 2
            index.set_ef(ef)
            reached = truth.recall(search(truth.rows)[1])
    index.set_ef(max(ef, k + 1))
    for start in range(done, n, INDEX_BLOCK):
        stop = min(start + INDEX_BLOCK, n)
        neighbors[start:stop], distances[start:stop] = search(np.arange(start, stop))
        progress("neighbors", stop, n)
        stopping.check()
        save(ef, stop)
    if settings.ef is not None:
        return neighbors, distances, ()
    rule = "first of 2k, 4k, 8k, … that reaches the recall on a sample"
    numbers = {"recall": reached, "recall_target": recall, "sample_rows": len(truth.rows)}
    return neighbors, distances, (Decision("ef", ef, rule, numbers),)


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


def _search(
    index: hnswlib.Index, group: Group, scale: float, k: int, threads: int, numbers: Int64
) -> tuple[Int32, Float32]:
    """The k nearest neighbours of these rows of the group, ranked by true distance."""
    vectors, rows = group.vectors, group.rows_at(numbers)
    neighbors, distances = np.empty((rows.size, k), np.int32), np.empty((rows.size, k), np.float32)
    queries = (vectors[rows] * scale).astype(np.float32, copy=False)
    candidates, lost = _candidates(index, queries, k + 1, threads)

    def rank(a: int, b: int) -> None:
        neighbors[a:b], distances[a:b] = rank_rows(vectors, rows[a:b], candidates[a:b], k)

    for_blocks(rank, rows.size, 1024, threads)
    if lost.size:
        neighbors[lost], distances[lost] = nearest_of_all(rows[lost], group, k)
    return neighbors, distances


def _candidates(
    index: hnswlib.Index, queries: Float32, wanted: int, threads: int
) -> tuple[Int32, Int64]:
    """Candidates (m, wanted) of queries (m, d), and the places of those for which hnswlib fails.

    hnswlib raises for a whole batch if it finds fewer than `wanted` candidates for one row, so the
    rows of such a batch are queried one by one.
    """
    try:
        labels, _ = index.knn_query(queries, k=wanted, num_threads=threads)
        return labels.astype(np.int32), np.empty(0, np.int64)
    except RuntimeError:
        found, lost = np.full((len(queries), wanted), -1, np.int32), []
        for r, query in enumerate(queries):
            try:
                found[r] = index.knn_query(query, k=wanted, num_threads=1)[0][0]
            except RuntimeError:
                lost.append(r)
        return found, np.array(lost, np.int64)
