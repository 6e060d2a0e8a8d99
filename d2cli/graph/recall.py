"""What approximate searches share: recall@k on a sample of rows, and the form of their result."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import Progress, silent
from d2cli.graph.exact.search import exact_neighbors_of
from d2cli.graph.vectors import Group
from d2cli.runtime.decisions import Decision

#: What an approximate search returns: neighbors (n, k) int32, rows of all vectors; distances (n, k)
#: float32; and the settings that it chose itself.
ApproximateLists = tuple[NDArray[np.int32], NDArray[np.float32], tuple[Decision, ...]]


@dataclass(frozen=True)
class Truth:
    """Exact neighbours of a sample of rows.

    Attributes:
        rows: (m,) int64, numbers within one group.
        neighbors: (m, k) int32, numbers within the group.
        distances: (m, k) float32, as in a graph.
    """

    rows: NDArray[np.int64]
    neighbors: NDArray[np.int32]
    distances: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        group: Group,
        n_neighbors: int,
        numbers: NDArray[np.int64],
        threads: int,
        progress: Progress = silent,
    ) -> Truth:
        """Search exactly, within a group, for the rows with these numbers."""
        neighbors, distances = exact_neighbors_of(
            group.rows_at(numbers), group, n_neighbors,
            threads=threads, progress=progress, stage="sample",
        )  # fmt: skip
        return cls(numbers, group.number(neighbors), distances)

    def part(self, start: int, stop: int) -> Truth:
        """Rows start … stop of the sample."""
        return Truth(self.rows[start:stop], self.neighbors[start:stop], self.distances[start:stop])

    def recall(self, distances: NDArray[np.float32]) -> float:
        """recall@k of lists for `rows` that have these distances (m, k).

        A listed neighbour counts if it is no farther than the true k-th neighbour, so ties count as
        found (the definition of ann-benchmarks).
        """
        possible = np.isfinite(self.distances)
        if not possible.any():
            return 1.0
        hits = np.isfinite(distances) & (distances <= self.distances.max(axis=1, keepdims=True))
        return float(hits.sum() / possible.sum())

    def share_among(self, candidates: NDArray[np.int32]) -> float:
        """The share of true neighbours that are among the candidates (m, c) of their row."""
        return float((self.neighbors[:, :, None] == candidates[:, None, :]).any(axis=2).mean())


def sample_rows(
    n: int, aim: int, judge: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two disjoint random samples of the rows 0 … n-1, sorted: to tune with, and to measure with.

    If n < `aim` + `judge`, the first sample gets a third of the rows.
    """
    shuffled = np.random.default_rng(seed).permutation(n)
    if n < aim + judge:
        aim = -(-n // 3)
    return np.sort(shuffled[:aim]), np.sort(shuffled[aim : aim + judge])
