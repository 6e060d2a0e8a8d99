"""The two forms of a graph and their contracts.

:class:`KnnGraph` holds the k nearest neighbours of each row; it is built and stored on disk.
:class:`Edges` holds the edges under one rule in CSR form; messages are sent along them.

The module loads no compiler until a graph is made, so that the plan can import it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import MAX_ROWS
from d2cli.errors import DataError
from d2cli.runtime.decisions import Decision

#: Fills `neighbors` where a row has fewer than k neighbours; the distance there is +inf.
MISSING = -1


class Edges(NamedTuple):
    """A sparse graph in CSR form (compressed sparse rows).

    - `indptr` is int64 (n + 1,), `indices` int32 (m,), `distances` float32 (m,);
    - the neighbours of row i are ``indices[indptr[i]:indptr[i + 1]]``; `distances` has the same
      layout;
    - within a row, `indices` ascend without repeats and without i;
    - distances are finite and >= 0.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    distances: NDArray[np.float32]


@dataclass(frozen=True)
class BuildInfo:
    """How a graph was built.

    Attributes:
        method: the methods used, joined by ``+``.
        recall: recall@k measured on `recall_sample` rows; None if every search was exact.
        recall_target: the recall@k aimed at; None if every search was exact.
        settings: what an approximate search chose, by name; empty if several groups had one.
        decisions: the automatic choices. They are empty for a graph that was read from a file.
    """

    metric: str
    method: str
    seed: int = 0
    recall: float | None = None
    recall_target: float | None = None
    recall_sample: int = 0
    settings: dict[str, object] = field(default_factory=dict)
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True)
class KnnGraph:
    """The k nearest other rows of each row.

    Attributes:
        neighbors: (n, k) int32 row numbers, without repeats and without the row itself. A row with
            fewer than k neighbours ends in -1.
        distances: (n, k) float32 distances (not squared), ascending in each row with ties by row
            number; +inf where the neighbour is -1.
        excluded: (n,) bool, or None. Excluded rows have no neighbours and are not listed by others.
        info: how the graph was built.

    Raises:
        DataError: if an array breaks this contract, naming the first such row.
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
        """Check the contract, because kernels index arrays by these numbers without checks."""
        from d2cli.graph.contract import first_fault  # noqa: PLC0415, loads the compiler

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
        if (fault := first_fault(neighbors, distances)) is not None:
            raise DataError(fault[1], argument="graph", row=fault[0])
        if self.excluded is not None:
            lists = self.excluded & (neighbors[:, 0] != MISSING)
            if lists.any():
                row = int(np.argmax(lists))
                raise DataError("is excluded but lists neighbours", argument="graph", row=row)
            lists = (self.excluded[neighbors] & (neighbors != MISSING)).any(axis=1)
            if lists.any():
                row = int(np.argmax(lists))
                raise DataError("lists an excluded row", argument="graph", row=row)


def check_edges(edges: Edges) -> None:
    """Check what kernels rely on: see :class:`Edges`.

    Raises:
        DataError: for a wrong shape or dtype, an index out of range, or a bad distance.
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
        raise DataError("edges lead to a row that does not exist", argument="graph")
    if not (distances >= 0).all():
        raise DataError("an edge's distance is negative or NaN", argument="graph")


def check_rows(n: int) -> None:
    """Check that there are rows and that row numbers fit int32.

    Raises:
        DataError: otherwise.
    """
    if n == 0:
        raise DataError("there are no rows", argument="embeddings")
    if n > MAX_ROWS:
        raise DataError(f"{n:,} rows are more than {MAX_ROWS:,}", argument="embeddings")
