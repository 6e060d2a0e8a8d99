"""recall@k on a sample of rows, against exact search."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import Progress, silent
from d2cli.graph.exact.search import exact_neighbors_of
from d2cli.graph.vectors import Group


@dataclass(frozen=True)
class Truth:
    """Exact neighbours of some rows.

    Attributes:
        rows: (m,) int64 and neighbors: (m, k) int32, numbers of one group.
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
        """Search exactly, in a group, for the rows with these numbers."""
        neighbors, distances = exact_neighbors_of(
            group.rows_at(numbers), group, n_neighbors,
            threads=threads, progress=progress, stage="sample",
        )  # fmt: skip
        return cls(numbers, group.number(neighbors), distances)

    def part(self, start: int, stop: int) -> Truth:
        """Some of the rows."""
        return Truth(self.rows[start:stop], self.neighbors[start:stop], self.distances[start:stop])

    def recall(self, distances: NDArray[np.float32]) -> float:
        """recall@k of lists with these distances (m, k), one row for each of `rows`.

        A listed neighbour counts if it is no farther than the true k-th: of equally distant ones
        any will do (as ann-benchmarks counts).
        """
        possible = np.isfinite(self.distances)
        if not possible.any():
            return 1.0
        hits = np.isfinite(distances) & (distances <= self.distances.max(axis=1, keepdims=True))
        return float(hits.sum() / possible.sum())

    def share_among(self, candidates: NDArray[np.int32]) -> float:
        """The share of true neighbours that stand among each row's candidates (m, c)."""
        return float((self.neighbors[:, :, None] == candidates[:, None, :]).any(axis=2).mean())


def sample_rows(
    n: int, aim: int, judge: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two disjoint random samples of rows: one to aim with, one to measure with.

    Of fewer than `aim` + `judge` rows a third goes to the first.
    """
    shuffled = np.random.default_rng(seed).permutation(n)
    if n < aim + judge:
        aim = -(-n // 3)
    return np.sort(shuffled[:aim]), np.sort(shuffled[aim : aim + judge])
