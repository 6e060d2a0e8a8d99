"""One Arrow file of a graph: its header, its columns, and the places of its lists."""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.defaults import MAX_ROWS
from d2cli.errors import DataError
from d2cli.files.formats.arrow_types import list_matrix, refuse_nulls
from d2cli.files.formats.recognise import sniff
from d2cli.files.formats.tables import TableFile, arrow_errors
from d2cli.files.keys import broadened
from d2cli.files.output.remote_folder import place_of
from d2cli.files.parts.part_folders import kind_of_part
from d2cli.files.parts.records import Part, PartRecord
from d2cli.files.provenance.sidecar import from_metadata
from d2cli.files.raw.arrow_places import list_places
from d2cli.files.raw.numbers import FilePlace, OpenFile
from d2cli.files.regular import check_regular, system_errors
from d2cli.graph.knn_graph import BuildInfo

#: The columns of lists.
LISTS = ("neighbors", "distances")
#: The types of what provenance records of a graph; a missing entry has a default.
RECORDED: dict[str, tuple[type, ...]] = {
    "metric": (str,), "method": (str,), "seed": (int,), "recall": (int, float, type(None)),
    "recall_target": (int, float, type(None)), "recall_sample": (int,), "settings": (dict,),
}  # fmt: skip
#: The types of numbers in the lists. Programs with more rows than int32 counts write int64.
_NUMBERS = {"neighbors": (pa.int32(), pa.int64()), "distances": (pa.float32(),)}
_MAKE = "make one with: d2prune graph --emb EMB --out GRAPH.arrow"
#: Numbers of int64 that are converted at a time.
_CONVERTED = 1 << 19


class ArrowGraph:
    """An opened Arrow file, a graph or a part of one: the header is checked, the rows are not.

    Attributes:
        path, size: the file, and its bytes on disk.
        n, n_neighbors: the shape of its lists.
        part: the file as a part, with what it records of the whole graph.
        info: how the graph was built.
        provenance: the same in full; its sections ``graph`` and ``inputs`` are dicts.
        columns: the type of each column, by name.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`.

        Raises:
            DataError: if it is no graph, or has no rows.
        """
        check_regular(path)
        if sniff(path) != "arrow":
            kind, says = kind_of_part(path), "is not a graph, which is an Arrow file"
            if kind is not None:
                says = f"is a part of a {kind.name}, not of a graph"
            raise DataError(f"{path}: {says}", _MAKE)
        self.path, self.size = path, path.stat().st_size
        self._table = TableFile(path, "arrow")
        with arrow_errors(path):
            schema = self._table.schema
            self.columns = {column.name: column.type for column in schema}
            found = from_metadata(path, schema.metadata, _MAKE)
        if found is None:
            raise DataError(f"{path}: is not a graph: its metadata has no 'd2prune'", _MAKE)
        record = PartRecord.of(path, schema.metadata)
        self.provenance = {**found, **{part: found.get(part) or {} for part in ("graph", "inputs")}}
        self.info = _build_info(path, self.provenance["graph"])
        self._check_columns()
        self.n, self.n_neighbors = self._table.n, int(self.columns["neighbors"].list_size)
        if self.n == 0:
            raise DataError(f"{path}: there are no rows")
        self.part = Part(path, self.n, record)

    def _check_columns(self) -> None:
        for name, numbers in _NUMBERS.items():
            if name not in self.columns:
                raise DataError(f"{self.path}: is not a graph: it has no column {name!r}", _MAKE)
            lists = self.columns[name]
            if not pa.types.is_fixed_size_list(lists) or lists.value_type not in numbers:
                wanted = f"fixed_size_list<{numbers[0]}>"
                raise DataError(f"{self.path}: {name} must be {wanted}, not {lists}")
        k, other = (int(self.columns[name].list_size) for name in LISTS)
        if k != other or not k:
            says = f"lists of {k} neighbours and of {other} distances must both be (n, k), k >= 1"
            raise DataError(f"{self.path}: {says}")
        if not pa.types.is_boolean(self.columns.get("excluded", pa.bool_())):
            says = f"excluded must be bool, not {self.columns['excluded']}"
            raise DataError(f"{self.path}: {says}")

    @property
    def id_bytes(self) -> float:
        """The mean bytes of an id that is text."""
        wide = self.columns["neighbors"].value_type.bit_width // 8 + 4
        return max(0.0, self.size - float(self.n * self.n_neighbors * wide)) / self.n

    def lists(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """(n, k) neighbours and distances, checked as columns; memory-mapped if possible."""
        with arrow_errors(self.path):
            table = self._columns(*LISTS)
            neighbors, distances = (
                list_matrix(
                    self._whole(table[name], name), self.n_neighbors, f"{self.path}: {name}"
                )
                for name in LISTS
            )
        if neighbors.dtype != np.int32:
            converted = np.empty(neighbors.shape, np.int32)
            step = max(1, _CONVERTED // self.n_neighbors)
            for start in range(0, self.n, step):
                rows = slice(start, start + step)
                _narrow(neighbors[rows], converted[rows], self.path, start)
            neighbors = converted
        return neighbors, distances

    def excluded(self) -> NDArray[np.bool_] | None:
        """(n,) bool, or None if the file has no such column."""
        if "excluded" not in self.columns:
            return None
        with arrow_errors(self.path):
            flags = self._whole(self._columns("excluded")["excluded"], "excluded")
            found: NDArray[np.bool_] = flags.to_numpy(zero_copy_only=False)
        return found

    def ids(self) -> pa.Array | None:
        """(n,) integers or text, without nulls; None if the file has no ids."""
        if "id" not in self.columns:
            return None
        with arrow_errors(self.path):
            column = self._columns("id")["id"]
            if pa.types.is_dictionary(column.type):  # a dictionary can contain a null
                column = column.cast(column.type.value_type)
            ids = self._whole(column, "id")
            if not (pa.types.is_integer(ids.type) or str(ids.type) in ("string", "large_string")):
                raise DataError(f"{self.path}: ids must be integers or text, not {ids.type}")
            return broadened(ids)

    def _columns(self, *names: str) -> pa.Table:
        table = self._table.table.select(list(names))
        table.validate(full=True)
        return table

    def _whole(self, column: pa.ChunkedArray, name: str) -> pa.Array:
        """A column as one array, without a copy if it is one batch; nulls are refused."""
        refuse_nulls(column, f"{self.path}: {name}")
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

    def place(self, first: int) -> ListPlace | None:
        """Where the lists lie, if the file is laid out to be read in ranges of rows; or None.

        A file that d2prune wrote is: one batch without nulls, not compressed.

        Args:
            first: the number of its first row in the whole graph.
        """
        with arrow_errors(self.path):
            places = list_places(self.path, LISTS)
        if places is None or len(places) != 1:
            return None
        kind = np.dtype(self.columns["neighbors"].value_type.to_pandas_dtype())
        file = place_of(self.path)
        return ListPlace(file, first, self.n, self.n_neighbors, kind, *places[0].offsets)


class ListPlace(NamedTuple):
    """Lists of consecutive rows in a file.

    Attributes:
        file, first, rows: the file, the number of its first row, and its rows.
        n_neighbors, kind: k, and the integers of the neighbours.
        neighbors_at, distances_at: in bytes from the start of the file.
    """

    file: FilePlace
    first: int
    rows: int
    n_neighbors: int
    kind: np.dtype
    neighbors_at: int
    distances_at: int

    def read(
        self, start: int, neighbors: NDArray[np.int32], distances: NDArray[np.float32]
    ) -> None:
        """Fill (m, k) arrays with the lists from row `start` of the file on.

        Raises:
            DataError: if the file has become shorter, or a neighbour does not fit in int32.
        """
        with system_errors(self.file):
            opened = self.file.open()
        with opened:
            skipped = start * self.n_neighbors
            at = self.neighbors_at + skipped * self.kind.itemsize
            if self.kind == neighbors.dtype:
                opened.read_into(neighbors, at)
            else:
                self._convert(opened, at, start, neighbors)
            opened.read_into(distances, self.distances_at + 4 * skipped)

    def _convert(self, opened: OpenFile, at: int, first: int, out: NDArray[np.int32]) -> None:
        step = max(1, _CONVERTED // self.n_neighbors)
        for start in range(0, len(out), step):
            place = out[start : start + step]
            wide = np.empty(place.shape, self.kind)
            opened.read_into(wide, at + start * self.n_neighbors * self.kind.itemsize)
            _narrow(wide, place, self.file, first + start)


def fill_lists(
    places: list[ListPlace], start: int, neighbors: NDArray[np.int32],
    distances: NDArray[np.float32],
) -> None:  # fmt: skip
    """Fill (m, k) arrays with the lists of the rows from `start` on, which lie in `places`."""
    stop, row = start + len(neighbors), start
    while row < stop:
        place = places[bisect_right(places, row, key=lambda one: one.first) - 1]
        end = min(stop, place.first + place.rows)
        rows = slice(row - start, end - start)
        place.read(row - place.first, neighbors[rows], distances[rows])
        row = end


def _narrow(wide: NDArray[Any], out: NDArray[np.int32], path: object, first: int) -> None:
    """Copy neighbours to int32; `first` is the row of the file where they begin."""
    fits = (wide >= -1) & (wide < MAX_ROWS)
    if not fits.all():
        row, place = (int(one) for one in np.argwhere(~fits)[0])
        says = f"row {first + row} lists {wide[row, place]}, which is no row of the graph"
        raise DataError(f"{path}: {says}")
    out[:] = wide


def _build_info(path: Path, section: dict[str, Any]) -> BuildInfo:
    """How a graph was built; values of a wrong type are refused."""
    for name, types in RECORDED.items():
        if name in section and type(section[name]) not in types:
            says = f"its 'd2prune' metadata says {name} is {str(section[name])[:40]!r}"
            raise DataError(f"{path}: {says}", _MAKE)
    known = {name: section[name] for name in RECORDED if name in section}
    return BuildInfo(**{"metric": "unknown", "method": "unknown", **known})
