"""What approximate searches share: recall@k on a sample of rows, and the form of their result."""

from functools import partial
from typing import NamedTuple

import numpy as np

from d2cli.engine.store import PartStore
from d2cli.engine.tasks import Engine
from d2cli.engine.threads import Progress
from d2cli.graph.exact.search import Lists, exact_neighbors_of
from d2cli.graph.sizes import SPAN_BYTES
from d2cli.graph.vectors import Group, Span, block_rows, for_spans, spans_of
from d2cli.runtime.arrays import Bools, Float32, Floats, Int32, Int64
from d2cli.runtime.decisions import Decision
from d2cli.runtime.floats.products import one_thread_per_product

#: Blocks of rows that a task compares with the sample at a time, at most: new lists are filled each
#: time.
_BLOCKS = 4

#: neighbors (n, k), rows of all vectors; distances (n, k); and what the search chose itself.
ApproximateLists = tuple[Int32, Float32, tuple[Decision, ...]]


class Truth(NamedTuple):
    """Exact neighbours of a sample of rows."""

    rows: Int64  # (m,), numbers within one group
    neighbors: Int32  # (m, k), numbers within the group
    distances: Float32  # (m, k), as in a graph

    @classmethod
    def of(cls, group: Group, k: int, numbers: Int64, threads: int, progress: Progress) -> "Truth":
        """Search exactly, within a group, for the rows with these numbers."""
        neighbors, distances = exact_neighbors_of(
            group.rows_at(numbers), group, k, threads=threads, progress=progress, stage="sample"
        )
        return cls(numbers, group.number(neighbors), distances)

    @classmethod
    def in_spans(
        cls, group: Group, k: int, numbers: Int64, engine: Engine, store: PartStore,
        progress: Progress,
    ) -> "Truth":  # fmt: skip
        """As :meth:`of`, by tasks on spans of the group, which is read once.

        Parts ``nearest`` of `store` are the nearest rows in each span.
        """
        d = group.vectors.shape[1]
        spans, step = spans_of(len(group), d, _BLOCKS), _BLOCKS * block_rows(d)
        if store.room is not None:
            fits = store.room // (SPAN_BYTES * engine.threads * d)
            step = min(step, max(block_rows(d), fits))
        work = partial(_nearest_in_span, group, numbers, group.vectors_at(numbers), k, store, step)
        with one_thread_per_product():
            for_spans(engine, store, work, spans, "nearest", progress, "sample")
        best = _no_lists(len(numbers), k)
        for span in spans:
            found = store.whole("nearest", span.number)
            best = _nearest_of(numbers, best, (found["neighbors"], found["distances"]))
        store.forget("nearest")
        return cls(numbers, *best)

    def first(self, k: int) -> "Truth":
        """The k nearest neighbours only."""
        return Truth(self.rows, self.neighbors[:, :k], self.distances[:, :k])

    def some(self, which: Bools | slice) -> "Truth":
        """Some rows of the sample: those that are marked in `which` (m,), or a run of them."""
        return Truth(self.rows[which], self.neighbors[which], self.distances[which])

    def recall(self, distances: Float32) -> float:
        """recall@k of lists for `rows` that have these distances (m, k).

        A listed neighbour counts if it is no farther than the true k-th neighbour, so ties count as
        found (the definition of ann-benchmarks).
        """
        possible = np.isfinite(self.distances)
        if not possible.any():
            return 1.0
        hits = np.isfinite(distances) & (distances <= self.distances.max(axis=1, keepdims=True))
        return float(hits.sum() / possible.sum())


def _nearest_in_span(
    group: Group, numbers: Int64, asking: Floats, k: int, store: PartStore, step: int, span: Span
) -> None:  # fmt: skip
    """Store the k nearest rows, of those of a span, to rows with these `numbers` and vectors.

    `step` rows of the span are in memory at a time.
    """
    m, best = len(numbers), _no_lists(len(numbers), k)
    for start in range(span.start, span.stop, step):
        stop = min(start + step, span.stop)
        vectors = np.concatenate([asking, group.block(start, stop)])
        there = Group(vectors, np.arange(m, len(vectors)))
        # One more, because a row may be in the block itself.
        near, distances = exact_neighbors_of(np.arange(m), there, k + 1)
        near = np.where(near < 0, np.int32(-1), near + np.int32(start - m))
        best = _nearest_of(numbers, best, (near, distances))
    store.put("nearest", span.number, neighbors=best[0], distances=best[1])


def _no_lists(m: int, k: int) -> Lists:
    return np.full((m, k), -1, np.int32), np.full((m, k), np.inf, np.float32)


def _nearest_of(numbers: Int64, best: Lists, more: Lists) -> Lists:
    """The nearest of two lists of other rows, for each row with one of `numbers` (m,)."""
    near, distances = (np.concatenate(pair, axis=1) for pair in zip(best, more, strict=True))
    empty = (near < 0) | (near == numbers[:, None])
    near, distances = np.where(empty, np.int32(-1), near), np.where(empty, np.inf, distances)
    order = np.lexsort((near, distances, empty))[:, : best[0].shape[1]]
    return (
        np.take_along_axis(near, order, axis=1).astype(np.int32, copy=False),
        np.take_along_axis(distances, order, axis=1).astype(np.float32),
    )


def sample_rows(n: int, aim: int, judge: int, seed: int) -> tuple[Int64, Int64]:
    """Two disjoint random samples of the rows 0 … n-1, sorted: to tune with, and to measure with.

    If n < `aim` + `judge`, the first sample gets a third of the rows.
    """
    shuffled = np.random.default_rng(seed).permutation(n)
    if n < aim + judge:
        aim = -(-n // 3)
    return np.sort(shuffled[:aim]), np.sort(shuffled[aim : aim + judge])
