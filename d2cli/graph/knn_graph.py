"""The two forms of a graph, and what each promises.

:class:`KnnGraph` is what is built and kept on disk: for each row its k nearest, a fixed width.
:class:`Edges` is what messages travel along: for each row its neighbours under one rule of
edges, in compressed sparse rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import MAX_ROWS
from d2cli.errors import DataError
from d2cli.runtime.jit import kernel

#: Stands in `neighbors` where a row has fewer than k neighbours; its distance is +inf.
MISSING = -1


class Edges(NamedTuple):
    """A sparse graph in compressed sparse rows.

    - the neighbours of row i are ``indices[indptr[i]:indptr[i + 1]]``, at the distances beside;
    - `indptr` int64 (n + 1,), `indices` int32 (m,), `distances` float32 (m,);
    - within a row `indices` ascend, none repeats, and none is i;
    - distances are finite and >= 0.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    distances: NDArray[np.float32]


@dataclass(frozen=True)
class BuildInfo:
    """How a graph was built. `recall` is recall@k as measured (None: exact, nothing to measure)."""

    metric: str
    method: str
    seed: int = 0
    recall: float | None = None
    recall_target: float | None = None
    recall_sample: int = 0
    settings: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class KnnGraph:
    """For each row its k nearest other rows.

    Attributes:
        neighbors: (n, k) int32. Row numbers, -1 where there are fewer than k. Never the row itself.
        distances: (n, k) float32. Metric distances (never squared), ascending in each row with
            ties by row number; +inf where the neighbour is missing.
        excluded: (n,) bool, or None. Rows that take no part: they list nobody and nobody lists
            them.
        info: how it was built.
    """

    neighbors: NDArray[np.int32]
    distances: NDArray[np.float32]
    excluded: NDArray[np.bool_] | None = None
    info: BuildInfo = field(default_factory=lambda: BuildInfo("unknown", "unknown"))

    @property
    def n(self) -> int:
        """The number of rows."""
        return int(self.neighbors.shape[0])

    @property
    def n_neighbors(self) -> int:
        """k, the width of the lists."""
        return int(self.neighbors.shape[1])

    def __post_init__(self) -> None:
        """Hold the graph against its contract: kernels trust it, and would read beyond arrays.

        Raises:
            DataError: naming the first row that breaks it.
        """
        neighbors, distances = self.neighbors, self.distances
        if neighbors.ndim != 2 or neighbors.shape != distances.shape or not neighbors.shape[1]:
            raise DataError(
                f"neighbors {neighbors.shape} and distances {distances.shape} must both be (n, k)",
                argument="graph",
            )
        if neighbors.dtype != np.int32 or distances.dtype != np.float32:
            raise DataError(
                f"neighbors must be int32 and distances float32, not {neighbors.dtype} and "
                f"{distances.dtype}",
                argument="graph",
            )
        if self.excluded is not None and self.excluded.shape != (self.n,):
            raise DataError(
                f"excluded must be ({self.n},), not {self.excluded.shape}", argument="graph"
            )
        row, fault = _first_fault(neighbors, distances)
        if row >= 0:
            raise DataError(_FAULTS[fault], argument="graph", row=int(row))
        if self.excluded is not None:
            gone = self.excluded
            used = gone & (neighbors[:, 0] != MISSING)
            if used.any():
                row = int(np.argmax(used))
                raise DataError("is excluded but lists neighbours", argument="graph", row=row)
            lists_gone = (gone[neighbors] & (neighbors != MISSING)).any(axis=1)
            if lists_gone.any():
                row = int(np.argmax(lists_gone))
                raise DataError("lists an excluded row", argument="graph", row=row)


_OUT_OF_RANGE, _SELF, _BAD_DISTANCE, _UNSORTED, _REPEATED, _NOT_AT_END = range(6)
_FAULTS = {
    _OUT_OF_RANGE: "lists a neighbour that is no row of the graph",
    _SELF: "lists itself as a neighbour",
    _BAD_DISTANCE: "has a distance that is negative, NaN or infinite",
    _UNSORTED: "is not sorted by distance with ties by row number",
    _REPEATED: "lists a neighbour twice",
    _NOT_AT_END: "has a missing place (-1, +inf) before a neighbour, or only half of one",
}


@kernel
def _first_fault(neighbors, distances):
    """(row, fault) of the first row that breaks KnnGraph's contract, or (-1, 0)."""
    n, k = neighbors.shape
    listed_by = np.full(n, -1, np.int32)
    for i in range(n):
        ended = False
        for p in range(k):
            j = neighbors[i, p]
            d = distances[i, p]
            if j == -1:
                if d != np.inf:
                    return i, _NOT_AT_END
                ended = True
                continue
            if ended:
                return i, _NOT_AT_END
            if j < 0 or j >= n:
                return i, _OUT_OF_RANGE
            if j == i:
                return i, _SELF
            if not (d >= 0.0 and d < np.inf):
                return i, _BAD_DISTANCE
            if p > 0:
                before = distances[i, p - 1]
                if d < before or (d == before and j < neighbors[i, p - 1]):
                    return i, _UNSORTED
            if listed_by[j] == i:
                return i, _REPEATED
            listed_by[j] = i
    return -1, 0


def check_edges(edges: Edges) -> None:
    """Refuse edges that kernels could not walk: see :class:`Edges`.

    Raises:
        DataError: if shapes or types are off, or a neighbour is no row.
    """
    indptr, indices, distances = edges
    n = indptr.size - 1
    if (
        indptr.dtype != np.int64
        or indices.dtype != np.int32
        or distances.dtype != np.float32
        or n < 1
        or indices.shape != distances.shape
        or indptr[0] != 0
        or indptr[-1] != indices.size
        or (np.diff(indptr) < 0).any()
    ):
        raise DataError("edges are not in compressed sparse rows", argument="graph")
    if indices.size and (indices.min() < 0 or indices.max() >= n):
        raise DataError("edges lead to a row that is not there", argument="graph")
    if not (distances >= 0).all():
        raise DataError("an edge's distance is negative or NaN", argument="graph")


def check_rows(n: int) -> None:
    """Refuse an empty set, and one whose row numbers do not fit int32."""
    if n == 0:
        raise DataError("there are no rows", argument="embeddings")
    if n > MAX_ROWS:
        raise DataError(f"{n:,} rows are more than {MAX_ROWS:,}", argument="embeddings")
