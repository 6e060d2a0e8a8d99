"""What approximate searches share: recall@k on a sample of rows, and the form of their result."""

from typing import NamedTuple

import numpy as np

from d2cli.engine.threads import Progress
from d2cli.graph.exact.search import exact_neighbors_of
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Bools, Float32, Int32, Int64
from d2cli.runtime.decisions import Decision

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


def sample_rows(n: int, aim: int, judge: int, seed: int) -> tuple[Int64, Int64]:
    """Two disjoint random samples of the rows 0 … n-1, sorted: to tune with, and to measure with.

    If n < `aim` + `judge`, the first sample gets a third of the rows.
    """
    shuffled = np.random.default_rng(seed).permutation(n)
    if n < aim + judge:
        aim = -(-n // 3)
    return np.sort(shuffled[:aim]), np.sort(shuffled[aim : aim + judge])
