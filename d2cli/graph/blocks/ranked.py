"""Lists of the nearest rows of a group that was searched: in memory, or in parts of a store."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from d2cli.engine.store import PartStore
from d2cli.graph.blocks.sizes import PART_ROWS
from d2cli.runtime.arrays import Float32, Int32, Int64

#: Rows between two that are read together.
_NEAR_ROWS = 64


class Ranked(Protocol):
    """Neighbours, numbers of the group, and distances of every row of a group, by number."""

    def rows(self, start: int, stop: int) -> tuple[Int32, Float32]:
        """Neighbours and distances (stop - start, k) of the rows numbered start … stop."""

    def take(self, numbers: Int64) -> tuple[Int32, Float32]:
        """Neighbours and distances (m, k) of the rows with these numbers (m,), which ascend."""


class Held:
    """Lists in memory."""

    def __init__(self, neighbors: Int32, distances: Float32) -> None:
        self.neighbors, self.distances = neighbors, distances

    def rows(self, start: int, stop: int) -> tuple[Int32, Float32]:
        return self.neighbors[start:stop], self.distances[start:stop]

    def take(self, numbers: Int64) -> tuple[Int32, Float32]:
        return self.neighbors[numbers], self.distances[numbers]


class Stored:
    """Lists in the parts ``ranked`` of a store, PART_ROWS rows each."""

    def __init__(self, store: PartStore, n: int, k: int) -> None:
        self._store, self._n, self._k = store, n, k

    def rows(self, start: int, stop: int) -> tuple[Int32, Float32]:
        stop = min(stop, self._n)
        found = _empty(max(0, stop - start), self._k)
        at = start
        while at < stop:
            part, first = at // PART_ROWS, at % PART_ROWS
            count = min(stop - at, PART_ROWS - first)
            for array, key in zip(found, ("neighbors", "distances"), strict=True):
                array[at - start : at - start + count] = self._store.get(
                    "ranked", part, key, first, first + count
                )
            at += count
        return found

    def take(self, numbers: Int64) -> tuple[Int32, Float32]:
        found = _empty(len(numbers), self._k)
        parts = numbers // PART_ROWS
        for part in np.unique(parts):
            mine = np.flatnonzero(parts == part)
            at = numbers[mine] - part * PART_ROWS
            # Rows that lie far apart are read by themselves.
            cuts = np.flatnonzero(np.diff(at) > _NEAR_ROWS) + 1
            for some in np.split(np.arange(len(at)), cuts):
                first, last = int(at[some[0]]), int(at[some[-1]]) + 1
                for array, key in zip(found, ("neighbors", "distances"), strict=True):
                    near = self._store.get("ranked", int(part), key, first, last)
                    array[mine[some]] = near[at[some] - first]
        return found


def _empty(n: int, k: int) -> tuple[Int32, Float32]:
    return np.empty((n, k), np.int32), np.empty((n, k), np.float32)
