"""Lists of neighbours that are read in ranges of rows, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from d2cli.errors import DataError
from d2cli.graph.knn_graph import BuildInfo
from d2cli.graph.sizes import RANGE_NUMBERS
from d2cli.runtime.arrays import Bools, Float32, Int32


class NeighborLists(Protocol):
    """A :class:`~d2cli.graph.knn_graph.KnnGraph`, or lists that keep its contract elsewhere."""

    @property
    def n(self) -> int:
        """The number of rows."""

    @property
    def n_neighbors(self) -> int:
        """k, the width of the lists."""

    @property
    def excluded(self) -> Bools | None:
        """(n,) bool, or None."""

    @property
    def info(self) -> BuildInfo:
        """How the graph was built."""

    def rows(self, start: int, stop: int, /) -> tuple[Int32, Float32]:
        """Neighbours and distances of the rows ``start … stop``."""


@dataclass(frozen=True)
class RangedLists:
    """:class:`NeighborLists` that a function reads; attributes as there."""

    n: int
    n_neighbors: int
    excluded: Bools | None
    rows: Callable[[int, int], tuple[Int32, Float32]]
    info: BuildInfo = field(default_factory=lambda: BuildInfo("unknown", "unknown"))


def ranges(
    lists: NeighborLists, numbers: int | None = None
) -> Iterator[tuple[int, Int32, Float32]]:
    """The first row, the neighbours and the distances of each of some ranges of all rows.

    A range has at most `numbers` neighbours, or one row; None: RANGE_NUMBERS.
    """
    step = max(1, (RANGE_NUMBERS if numbers is None else numbers) // lists.n_neighbors)
    for start in range(0, lists.n, step):
        yield start, *lists.rows(start, min(lists.n, start + step))


def check_lists(lists: NeighborLists) -> None:
    """Check the contract of :class:`~d2cli.graph.knn_graph.KnnGraph`, in ranges of rows.

    Raises:
        DataError: naming the first row that breaks it.
    """
    from d2cli.graph.contract import first_fault  # noqa: PLC0415, loads the compiler

    for first, neighbors, distances in ranges(lists):
        fault = first_fault(neighbors, distances, lists.excluded, first, lists.n)
        if fault is not None:
            raise DataError(fault[1], argument="graph", row=fault[0])
