"""The two forms of a graph and their contracts.

:class:`KnnGraph` holds the k nearest neighbours of each row; it is built and stored on disk.
:class:`Edges` holds the edges under one rule in CSR form; messages are sent along them.
The module loads no compiler until a graph is made, so that the plan can import it.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from d2cli.errors import DataError
from d2cli.runtime.arrays import Bools, Float32, Int32, Int64
from d2cli.runtime.decisions import Decision

#: Fills `neighbors` where a row has fewer than k neighbours; the distance there is +inf.
MISSING = -1

_GraphError = partial(DataError, argument="graph")


class Edges(NamedTuple):
    """A sparse graph in CSR form (compressed sparse rows).

    - `indptr` is int64 (n + 1,), `indices` int32 (m,), `distances` float32 (m,);
    - row i has the neighbours ``indices[indptr[i]:indptr[i + 1]]``; `distances` is laid out alike;
    - within a row, `indices` ascend without repeats and without i;
    - distances are finite and >= 0.
    """

    indptr: Int64
    indices: Int32
    distances: Float32


@dataclass(frozen=True)
class BuildInfo:
    """How a graph was built.

    Attributes:
        method: the methods used, joined by ``+``.
        recall: recall@k measured on `recall_sample` rows; None if every search was exact.
        recall_target: the recall@k aimed at; None if every search was exact.
        settings: what an approximate search chose, by name; empty if several groups had one.
        decisions: the automatic choices; empty for a graph that was read from a file.
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

    neighbors: Int32
    distances: Float32
    excluded: Bools | None = None
    info: BuildInfo = field(default_factory=lambda: BuildInfo("unknown", "unknown"))

    @property
    def n(self) -> int:
        """The number of rows."""
        return int(self.neighbors.shape[0])

    @property
    def n_neighbors(self) -> int:
        """k, the width of the lists."""
        return int(self.neighbors.shape[1])

    def rows(self, start: int, stop: int, /) -> tuple[Int32, Float32]:
        """Views of the neighbours and distances of the rows ``start … stop``."""
        return self.neighbors[start:stop], self.distances[start:stop]

    def __post_init__(self) -> None:
        """Check the contract, because kernels index arrays by these numbers without checks."""
        from d2cli.graph.contract import first_fault  # noqa: PLC0415, loads the compiler

        neighbors, distances, excluded = self.neighbors, self.distances, self.excluded
        if neighbors.ndim != 2 or neighbors.shape != distances.shape or not neighbors.shape[1]:
            shapes = f"neighbors {neighbors.shape} and distances {distances.shape}"
            raise _GraphError(f"{shapes} must both be (n, k)")
        if neighbors.dtype != np.int32 or distances.dtype != np.float32:
            dtypes = f"{neighbors.dtype} and {distances.dtype}"
            raise _GraphError(f"neighbors must be int32 and distances float32, not {dtypes}")
        if excluded is not None and excluded.shape != (self.n,):
            raise _GraphError(f"excluded must be ({self.n},), not {excluded.shape}")
        if (fault := first_fault(neighbors, distances, excluded)) is not None:
            raise _GraphError(fault[1], row=fault[0])


def check_edges(edges: Edges) -> None:
    """Check what kernels rely on: see :class:`Edges`.

    Raises:
        DataError: for a wrong shape or dtype, an index out of range, or a bad distance.
    """
    indptr, indices, distances = edges
    n = indptr.size - 1
    if (
        [array.dtype for array in edges] != [np.int64, np.int32, np.float32]
        or n < 1
        or indices.shape != distances.shape
        or (indptr[0], indptr[-1]) != (0, indices.size)
        or (np.diff(indptr) < 0).any()
    ):
        raise _GraphError("edges are not in compressed sparse rows")
    if indices.size and (indices.min() < 0 or indices.max() >= n):
        raise _GraphError("edges lead to a row that does not exist")
    if not (distances >= 0).all():
        raise _GraphError("an edge's distance is negative or NaN")
