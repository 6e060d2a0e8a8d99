"""The graph on disk: Arrow IPC files that any Arrow tool reads.

One file, or a folder of parts whose name ends in ``.d2`` (:mod:`d2cli.files.parts.part_kinds`).
Columns ``neighbors: fixed_size_list<int32>[k]``, ``distances: fixed_size_list<float32>[k]``, and
optionally ``id`` and ``excluded: bool``; one record batch; provenance as JSON under the schema's
metadata key ``d2prune``. A file can be memory-mapped. Neighbours of int64 are read if their values
fit in int32, and are never written.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from d2cli.defaults import MAX_ROWS
from d2cli.errors import DataError
from d2cli.files.formats.tables import arrow_errors
from d2cli.files.frame import Frame
from d2cli.files.keys import check_unique
from d2cli.files.locate.copies import CopyPath
from d2cli.files.locate.paths import locate
from d2cli.files.output.atomic import Outputs, resolve
from d2cli.files.output.temporary import opened, sweep
from d2cli.files.parts.arrow_graph import LISTS, RECORDED, ArrowGraph, ListPlace, fill_lists
from d2cli.files.parts.part_kinds import GRAPH, names_folder
from d2cli.files.parts.records import check_parts, records_of, whole_name
from d2cli.files.provenance.fingerprint import fingerprint_of
from d2cli.files.provenance.sidecar import as_metadata, new_provenance, read_sidecar_of
from d2cli.files.raw.arrow_places import list_places
from d2cli.files.raw.numbers import write_at
from d2cli.files.sizes import Ids
from d2cli.graph.knn_graph import BuildInfo, KnnGraph
from d2cli.graph.lists import NeighborLists, RangedLists, check_lists, ranges

#: Pieces of a graph that its digest covers, and bytes of lists in one of them.
_PIECES, _PIECE = 128, 1 << 16

_Lists = tuple[NDArray[np.int32], NDArray[np.float32]]


class GraphFile:
    """An opened graph, one file or all parts: headers are read and checked, the rows are not.

    Attributes:
        name: the file, or the folder of the parts, for messages.
        paths, size: the files in the order of rows, and their bytes on disk.
        n, n_neighbors: the shape of the lists of neighbours.
        info, method: how the graph was built, and how neighbours were searched, or "unknown".
        id_sizes: the sizes of the ids; None if the graph has none.
        provenance: how the graph was built; its sections ``graph`` and ``inputs`` are dicts.
        notices: what the user should know about files that are not read.
    """

    def __init__(self, paths: Sequence[Path], notices: Sequence[str] = ()) -> None:
        """Open the files; errors as of :func:`open_graph`."""
        files = [ArrowGraph(path) for path in paths]
        self.paths, self.notices = [file.path for file in files], list(notices)
        parts = [file.part for file in files]
        self.name = whole_name(parts)
        check_parts(parts, GRAPH)
        first = files[0]
        for file in files[1:]:
            if file.columns != first.columns:
                says = f"{file.path}: has other columns, or another k, than {first.path}"
                raise DataError(says, "make the graph again")
        self._files, self._firsts = files, np.cumsum([0, *(file.n for file in files)]).tolist()
        self.size, self.n = sum(file.size for file in files), self._firsts[-1]
        if self.n > MAX_ROWS:
            raise DataError(f"{self.name}: {self.n:,} rows are more than {MAX_ROWS:,}")
        self.n_neighbors, self.provenance = first.n_neighbors, first.provenance
        self.info, self.method = first.info, first.info.method
        self.id_sizes: Ids | None = None
        if "id" in first.columns:
            text = not pa.types.is_integer(first.columns["id"])
            length = sum(file.id_bytes * file.n for file in files) / self.n if text else 8.0
            self.id_sizes = Ids(self.n, length, text)

    @property
    def read_sizes(self) -> Ids | None:
        """The sizes of what is read to join the rows."""
        return self.id_sizes

    @property
    def mapped(self) -> bool:
        """Whether the lists can be mapped: those of several parts are read into memory."""
        return len(self._files) == 1

    def load(self) -> StoredGraph:
        """Read the rows and check them against the contract of :class:`KnnGraph`.

        Raises:
            DataError: naming the file, and the first row that breaks the contract.
        """
        neighbors, distances = self._lists()
        with self._naming_rows():
            graph = KnnGraph(neighbors, distances, self._excluded, self.info)
        return StoredGraph(graph, self.ids())

    def _lists(self) -> _Lists:
        if len(self._files) == 1:
            return self._files[0].lists()
        shape = (self.n, self.n_neighbors)
        neighbors, distances = np.empty(shape, np.int32), np.empty(shape, np.float32)
        for file, start in zip(self._files, self._firsts, strict=False):
            rows = slice(start, start + file.n)
            place = file.place(start)
            if place is not None:
                place.read(0, neighbors[rows], distances[rows])
            else:
                neighbors[rows], distances[rows] = file.lists()
        return neighbors, distances

    def ids(self) -> pa.Array | None:
        """Read the (n,) ids; None if there are none.

        Raises:
            DataError: naming the file, if they cannot be used.
        """
        if self.id_sizes is None:
            return None
        columns = [file.ids() for file in self._files]
        with arrow_errors(self.name):
            ids = columns[0] if len(columns) == 1 else pa.concat_arrays(columns)
        check_unique(ids, lambda row: self._place(row, "id: "))
        return ids

    @cached_property
    def _excluded(self) -> NDArray[np.bool_] | None:
        found = [flags for file in self._files if (flags := file.excluded()) is not None]
        return None if not found else found[0] if len(found) == 1 else np.concatenate(found)

    def ranged(self) -> StoredLists | None:
        """The lists, to be read in ranges of rows; None if a file is not laid out for that.

        Files that d2prune wrote are: one batch without nulls, not compressed. All rows are checked
        against the contract of :class:`KnnGraph`, in ranges.

        Raises:
            DataError: naming the file, and the first row that breaks the contract.
        """
        places = []
        for file, start in zip(self._files, self._firsts, strict=False):
            place = file.place(start)
            if place is None:
                return None
            places.append(place)
        found = StoredLists(places, self.n, self.n_neighbors, self._excluded, self.info)
        with self._naming_rows():
            check_lists(found)
        return found

    def _place(self, row: int | None, column: str = "") -> str:
        """The file and the row in it, for messages; None: the whole graph."""
        if row is None:
            return self.name
        number = int(np.searchsorted(self._firsts, row, side="right")) - 1
        return f"{self._files[number].path}: {column}row {row - self._firsts[number]}"

    @contextmanager
    def _naming_rows(self) -> Iterator[None]:
        """Put the file in front of an error of numerical code, with the row as it is there."""
        try:
            yield
        except DataError as error:
            if error.argument != "graph":
                raise
            raise DataError(f"{self._place(error.row)}: {error.message}", error.hint) from error

    def frame(self, ids: pa.Array | None, id_column: str | None = None) -> Frame:
        """A frame of the rows, with the ids of :meth:`load`."""
        about = self.provenance.get("ids")
        about = about if isinstance(about, dict) else {}
        name, unkept = about.get("column"), about.get("unkept")
        unkept = unkept if isinstance(unkept, list) else []
        return Frame(
            self.n,
            self.name,
            ids,
            id_column=id_column,
            made_from=name if isinstance(name, str) else None,
            paths=self.paths,
            fingerprints=[found] if (found := fingerprint_of(self.provenance, "emb")) else [],
            unkept=[one for one in unkept if isinstance(one, str)],
        )

    def provenance_of_run(self) -> dict[str, Any]:
        """The provenance, with the section ``run`` of the sidecar if that describes this graph."""
        beside = None
        try:
            beside = read_sidecar_of(self.name, self.paths)
        except DataError:  # the sidecar of another graph; the metadata has everything else
            beside = None
        return {**self.provenance, "run": (beside or {}).get("run", {})}


class StoredLists(NamedTuple):
    """:class:`~d2cli.graph.lists.NeighborLists` in files, which are read and not mapped."""

    places: list[ListPlace]
    n: int
    n_neighbors: int
    excluded: NDArray[np.bool_] | None
    info: BuildInfo

    def rows(self, start: int, stop: int, /) -> _Lists:
        """Neighbours and distances of the rows ``start … stop``, as in a :class:`KnnGraph`."""
        shape = (stop - start, self.n_neighbors)
        neighbors, distances = np.empty(shape, np.int32), np.empty(shape, np.float32)
        fill_lists(self.places, start, neighbors, distances)
        return neighbors, distances


class StoredGraph(NamedTuple):
    """The content of a graph file: the graph, memory-mapped if possible, and the (n,) ids."""

    graph: KnnGraph
    ids: pa.Array | None


def open_graph(*places: str | Path) -> GraphFile:
    """Open a graph: a file, a folder of parts, a glob of parts, or several parts in order.

    Only headers are read.

    Raises:
        DataError: for what is no graph, and if parts are missing, of another graph, repeated or out
            of order.
    """
    paths: list[Path] = []
    notices: list[str] = []
    for place in places:
        if isinstance(place, CopyPath):
            paths.append(place)
            continue
        found = locate(str(place), "graph")
        paths += [file.path for file in found.files]
        notices += found.notices
    return GraphFile(paths, notices)


def read_graph(*places: str | Path) -> KnnGraph:
    """Read a graph: a file, which is memory-mapped, or parts, which are read into memory.

    `places` as of :func:`open_graph`; :meth:`GraphFile.load` checks the rows.
    """
    return open_graph(*places).load().graph


def write_graph(
    path: str | Path, graph: NeighborLists, ids: pa.Array | None = None,
    provenance: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write a graph to `path`; an existing graph is replaced when the new one is complete.

    A name that ends in ``.d2`` is a folder of parts. `ids` are (n,), one a row; `provenance` for
    the metadata is by default how the graph was built.
    """
    sweep(resolve(Path(path)).parent)
    with Outputs() as outputs:
        place = outputs.place(path, GRAPH.of_output(path))
        store_graph(place, graph, ids, provenance)


def store_graph(
    path: Path, graph: NeighborLists, ids: pa.Array | None, provenance: dict[str, Any] | None
) -> None:
    """:func:`write_graph`, but not atomic: `path`, which does not exist yet, is written directly.

    Lists that are not in memory are written in ranges of rows; the bytes of the files are the same.
    """
    if provenance is None:
        provenance = new_provenance("graph", {}, graph=graph_section(graph))
    metadata = as_metadata(provenance)
    if not names_folder(path):
        _store_file(path, graph, _in_memory(graph, 0, graph.n), ids, metadata)
        return
    path.mkdir()
    for record, stop in records_of(graph.n, GRAPH, _digest(graph, metadata)):
        start = record.first_row
        _store_file(
            path / GRAPH.part_name(record.part),
            _rows_of(graph, start, stop),
            _in_memory(graph, start, stop),
            None if ids is None else ids.slice(start, stop - start),
            {**metadata, **record.as_metadata()},
        )


def _rows_of(graph: NeighborLists, start: int, stop: int) -> NeighborLists:
    """The lists of some rows, as they are; their neighbours are rows of the whole graph."""
    excluded = None if graph.excluded is None else graph.excluded[start:stop]
    return RangedLists(
        stop - start, graph.n_neighbors, excluded,
        lambda first, last: graph.rows(start + first, start + last), graph.info,
    )  # fmt: skip


def _in_memory(graph: NeighborLists, start: int, stop: int) -> _Lists | None:
    """The lists of some rows if they are in memory, else None."""
    return graph.rows(start, stop) if isinstance(graph, KnnGraph) else None


def _digest(graph: NeighborLists, metadata: dict[bytes, bytes]) -> str:
    """A hash of a graph: its provenance, its shape, and its lists.

    Of a large graph it covers 128 pieces of 64 KiB, evenly spaced: graphs of other data or options
    differ nearly everywhere.
    """
    digest = hashlib.blake2b(json.dumps([graph.n, graph.n_neighbors]).encode(), digest_size=16)
    for content in metadata.values():
        digest.update(content)
    step = max(1, _PIECE // (8 * graph.n_neighbors))
    starts: Sequence[int] = range(0, graph.n, step)
    if len(starts) > _PIECES:
        starts = [(graph.n - step) * piece // (_PIECES - 1) for piece in range(_PIECES)]
    for start in starts:
        for numbers in graph.rows(start, min(graph.n, start + step)):
            digest.update(np.ascontiguousarray(numbers).data)
    return digest.hexdigest()


def _store_file(
    path: Path, graph: NeighborLists, lists: _Lists | None, ids: pa.Array | None,
    metadata: dict[bytes, bytes],
) -> None:  # fmt: skip
    """Write all rows as one file; `lists` are None if they are to be read in ranges."""
    shape = (graph.n, graph.n_neighbors)
    # Zeros that are never written to take no memory.
    held = (np.zeros(shape, np.int32), np.zeros(shape, np.float32)) if lists is None else lists
    columns: dict[str, pa.Array] = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), graph.n_neighbors)
        for name, numbers in zip(LISTS, held, strict=True)
    }
    if ids is not None:
        columns["id"] = ids
    if graph.excluded is not None:
        columns["excluded"] = pa.array(graph.excluded)
    batch = pa.record_batch(columns, metadata=metadata)
    with pa.OSFile(os.fsencode(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    if lists is None:
        _fill(path, graph)


def _fill(path: Path, graph: NeighborLists) -> None:
    """Write the lists of a graph in place of the zeros in its file."""
    places = list_places(path, LISTS)
    assert places is not None
    with opened(path, os.O_WRONLY) as handle:
        for first, *lists in ranges(graph):
            for numbers, offset in zip(lists, places[0].offsets, strict=True):
                at = offset + first * graph.n_neighbors * numbers.itemsize
                write_at(handle, np.ascontiguousarray(numbers), at)


def graph_section(graph: NeighborLists) -> dict[str, Any]:
    """The section ``graph`` of provenance: how the graph was built."""
    recorded = {name: getattr(graph.info, name) for name in RECORDED}
    return {"n_neighbors": graph.n_neighbors, **recorded}
