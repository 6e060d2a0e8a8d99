"""The graph on disk: an Arrow IPC file that any Arrow tool reads and that can be memory-mapped.

Columns ``neighbors: fixed_size_list<int32>[k]``, ``distances: fixed_size_list<float32>[k]``, and
optionally ``id`` and ``excluded: bool``; one record batch; provenance as JSON under the schema's
metadata key ``d2prune``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.arrow_types import list_matrix, refuse_nulls
from d2cli.files.formats.recognise import sniff
from d2cli.files.formats.tables import TableFile, arrow_errors
from d2cli.files.frame import Frame
from d2cli.files.keys import broadened, check_unique
from d2cli.files.output.atomic import Outputs, resolve
from d2cli.files.output.temporary import opened, sweep
from d2cli.files.provenance.fingerprint import fingerprint_of
from d2cli.files.provenance.sidecar import as_metadata, from_metadata, new_provenance, read_sidecar
from d2cli.files.raw.arrow_places import list_places
from d2cli.files.raw.numbers import read_numbers, write_at
from d2cli.files.regular import check_regular
from d2cli.files.sizes import Ids
from d2cli.files.sources import blame
from d2cli.graph.knn_graph import BuildInfo, KnnGraph
from d2cli.graph.lists import NeighborLists, check_lists, ranges

_MAKE = "make one with: d2prune graph --emb EMB --out GRAPH.arrow"
#: The columns of lists.
_LISTS = ("neighbors", "distances")
#: The types of what provenance records of a graph; a missing entry has a default.
_RECORDED: dict[str, tuple[type, ...]] = {
    "metric": (str,), "method": (str,), "seed": (int,), "recall": (int, float, type(None)),
    "recall_target": (int, float, type(None)), "recall_sample": (int,), "settings": (dict,),
}  # fmt: skip


class GraphFile:
    """An opened graph file: the header is read and checked, the rows are not.

    Attributes:
        path, paths, size: the file, also as a list, and its bytes on disk.
        n, n_neighbors: the shape of the lists of neighbours.
        info, method: how the graph was built, and how neighbours were searched, or "unknown".
        id_sizes: the sizes of the ids; None if the file has none.
        provenance: how the graph was built; its sections ``graph`` and ``inputs`` are dicts.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`; errors as of :func:`open_graph`."""
        check_regular(path)
        if sniff(path) != "arrow":
            raise DataError(f"{path}: is not a graph, which is an Arrow file", _MAKE)
        self.path, self.paths, self.size = path, [path], path.stat().st_size
        self._table = TableFile(path, "arrow")
        with arrow_errors(path):
            schema = self._table.schema
            kinds = {column.name: column.type for column in schema}
            found = from_metadata(path, schema.metadata, _MAKE)
        if found is None:
            raise DataError(f"{path}: is not a graph: its metadata has no 'd2prune'", _MAKE)
        self.provenance = {**found, **{part: found.get(part) or {} for part in ("graph", "inputs")}}
        self.info = _build_info(path, self.provenance["graph"])
        self.method = self.info.method
        for name, kind in (("neighbors", pa.int32()), ("distances", pa.float32())):
            if name not in kinds:
                raise DataError(f"{path}: is not a graph: it has no column {name!r}", _MAKE)
            lists = kinds[name]
            if not pa.types.is_fixed_size_list(lists) or lists.value_type != kind:
                raise DataError(f"{path}: {name} must be fixed_size_list<{kind}>, not {lists}")
        if not pa.types.is_boolean(kinds.get("excluded", pa.bool_())):
            raise DataError(f"{path}: excluded must be bool, not {kinds['excluded']}")
        self.n, self.n_neighbors = self._table.n, int(kinds["neighbors"].list_size)
        if self.n == 0:
            raise DataError(f"{path}: there are no rows")
        self.id_sizes: Ids | None = None
        if "id" in kinds:
            text = not pa.types.is_integer(kinds["id"])
            beyond = max(0.0, self.size - self.n * self.n_neighbors * 8.0) / self.n
            self.id_sizes = Ids(self.n, beyond if text else 8.0, text)

    @property
    def read_sizes(self) -> Ids | None:
        """The sizes of what is read to join the rows."""
        return self.id_sizes

    def load(self) -> StoredGraph:
        """Read the rows and check them against the contract of :class:`KnnGraph`.

        Raises:
            DataError: naming the file, and the first row that breaks the contract.
        """
        path, excluded = self.path, None
        with arrow_errors(path):
            table = self._table.table
            table.validate(full=True)
            neighbors = _lists(table["neighbors"], f"{path}: neighbors")
            distances = _lists(table["distances"], f"{path}: distances")
            if "excluded" in table.column_names:
                flags = _whole(table["excluded"], f"{path}: excluded")
                excluded = flags.to_numpy(zero_copy_only=False)
            ids = self._ids_of(table)
        with blame(graph=str(path)):
            graph = KnnGraph(neighbors, distances, excluded, self.info)
        return StoredGraph(graph, ids)

    def ids(self) -> pa.Array | None:
        """Read the (n,) ids alone, as :meth:`load` does; None if there are none.

        Raises:
            DataError: naming the file, if they cannot be used.
        """
        if self.id_sizes is None:
            return None
        with arrow_errors(self.path):
            column = self._table.table.select(["id"])
            column.validate(full=True)
            return self._ids_of(column)

    def _ids_of(self, table: pa.Table) -> pa.Array | None:
        return _ids(self.path, table["id"]) if "id" in table.column_names else None

    def ranged(self) -> StoredLists | None:
        """The lists, to be read in ranges of rows; None if the file is not laid out for that.

        A file that d2prune wrote is: one batch without nulls, not compressed. All rows are checked
        against the contract of :class:`KnnGraph`, in ranges.

        Raises:
            DataError: naming the file, and the first row that breaks the contract.
        """
        with arrow_errors(self.path):
            places, excluded = list_places(self.path, _LISTS), None
            if places is None or len(places) != 1:
                return None
            if (at := self._table.schema.get_field_index("excluded")) >= 0:
                [flags] = [batch.column(0) for batch in self._table.ipc_batches(at) if len(batch)]
                if flags.null_count:
                    return None
                excluded = flags.to_numpy(zero_copy_only=False)
        found = StoredLists(
            self.path, self.n, self.n_neighbors, excluded, self.info, *places[0].offsets
        )
        with blame(graph=str(self.path)):
            check_lists(found)
        return found

    def frame(self, ids: pa.Array | None, id_column: str | None = None) -> Frame:
        """A frame of the rows, with the ids of :meth:`load`."""
        about = self.provenance.get("ids")
        about = about if isinstance(about, dict) else {}
        name, unkept = about.get("column"), about.get("unkept")
        unkept = unkept if isinstance(unkept, list) else []
        return Frame(
            self.n,
            str(self.path),
            ids,
            id_column=id_column,
            made_from=name if isinstance(name, str) else None,
            paths=self.paths,
            fingerprints=[found] if (found := fingerprint_of(self.provenance, "emb")) else [],
            unkept=[one for one in unkept if isinstance(one, str)],
        )

    def provenance_of_run(self) -> dict[str, Any]:
        """The provenance, with the section ``run`` of the sidecar if that describes this file."""
        try:
            beside = read_sidecar(self.path) or {}
        except DataError:  # the sidecar of another graph; the metadata has everything else
            beside = {}
        return {**self.provenance, "run": beside.get("run", {})}


class StoredLists(NamedTuple):
    """:class:`~d2cli.graph.lists.NeighborLists` in a file, which are read and not mapped."""

    path: Path
    n: int
    n_neighbors: int
    excluded: NDArray[np.bool_] | None
    info: BuildInfo
    neighbors_at: int  # bytes from the start of the file
    distances_at: int

    def rows(self, start: int, stop: int, /) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Neighbours and distances of the rows ``start … stop``, as in a :class:`KnnGraph`."""
        k = self.n_neighbors
        shape, skipped = (stop - start, k), 4 * start * k
        neighbors = read_numbers(self.path, np.int32, shape, self.neighbors_at + skipped)
        distances = read_numbers(self.path, np.float32, shape, self.distances_at + skipped)
        return neighbors, distances


class StoredGraph(NamedTuple):
    """The content of a graph file: the graph, memory-mapped if possible, and the (n,) ids."""

    graph: KnnGraph
    ids: pa.Array | None


def open_graph(path: str | Path) -> GraphFile:
    """Open a graph file; reads its header only, and refuses what is no graph (DataError)."""
    return GraphFile(Path(path))


def read_graph(path: str | Path) -> KnnGraph:
    """Read a graph file, memory-mapped; :meth:`GraphFile.load` checks it."""
    return open_graph(path).load().graph


def write_graph(
    path: str | Path, graph: NeighborLists, ids: pa.Array | None = None,
    provenance: dict[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write a graph to `path`; an existing file is replaced when the new one is complete.

    `ids` are (n,), one a row; `provenance` for the metadata is by default how the graph was built.
    """
    sweep(resolve(Path(path)).parent)
    with Outputs() as outputs:
        store_graph(outputs.place(path), graph, ids, provenance)


def store_graph(
    path: Path, graph: NeighborLists, ids: pa.Array | None, provenance: dict[str, Any] | None
) -> None:
    """:func:`write_graph`, but not atomic: `path` is written directly.

    Lists that are not in memory are written in ranges of rows; the bytes of the file are the same.
    """
    if provenance is None:
        provenance = new_provenance("graph", {}, graph=graph_section(graph))
    k, size = graph.n_neighbors, graph.n * graph.n_neighbors
    if isinstance(graph, KnnGraph):
        lists = [graph.neighbors.ravel(), graph.distances.ravel()]
    else:  # zeros that are never written to take no memory
        lists = [np.zeros(size, np.int32), np.zeros(size, np.float32)]
    columns: dict[str, pa.Array] = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(numbers), k)
        for name, numbers in zip(_LISTS, lists, strict=True)
    }
    if ids is not None:
        columns["id"] = ids
    if graph.excluded is not None:
        columns["excluded"] = pa.array(graph.excluded)
    batch = pa.record_batch(columns, metadata=as_metadata(provenance))
    with pa.OSFile(os.fsencode(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    if not isinstance(graph, KnnGraph):
        _fill(path, graph)


def _fill(path: Path, graph: NeighborLists) -> None:
    """Write the lists of a graph in place of the zeros in its file."""
    places = list_places(path, _LISTS)
    assert places is not None
    with opened(path, os.O_WRONLY) as handle:
        for first, *lists in ranges(graph):
            for numbers, offset in zip(lists, places[0].offsets, strict=True):
                at = offset + first * graph.n_neighbors * numbers.itemsize
                write_at(handle, np.ascontiguousarray(numbers), at)


def graph_section(graph: NeighborLists) -> dict[str, Any]:
    """The section ``graph`` of provenance: how the graph was built."""
    recorded = {name: getattr(graph.info, name) for name in _RECORDED}
    return {"n_neighbors": graph.n_neighbors, **recorded}


def _build_info(path: Path, section: dict[str, Any]) -> BuildInfo:
    """The inverse of :func:`graph_section`; values of a wrong type are refused."""
    for name, types in _RECORDED.items():
        if name in section and type(section[name]) not in types:
            says = f"its 'd2prune' metadata says {name} is {str(section[name])[:40]!r}"
            raise DataError(f"{path}: {says}", _MAKE)
    known = {name: section[name] for name in _RECORDED if name in section}
    return BuildInfo(**{"metric": "unknown", "method": "unknown", **known})


def _ids(path: Path, column: pa.ChunkedArray) -> pa.Array:
    """The id column: text or integers, without nulls and repeats."""
    if pa.types.is_dictionary(column.type):  # a dictionary can contain a null
        column = column.cast(column.type.value_type)
    ids = _whole(column, f"{path}: id")
    if not (pa.types.is_integer(ids.type) or str(ids.type) in ("string", "large_string")):
        raise DataError(f"{path}: ids must be integers or text, not {ids.type}")
    ids = broadened(ids)
    check_unique(ids, lambda row: f"{path}: id: row {row}")
    return ids


def _lists(column: pa.ChunkedArray, where: str) -> NDArray[Any]:
    return list_matrix(_whole(column, where), column.type.list_size, where)


def _whole(column: pa.ChunkedArray, where: str) -> pa.Array:
    """A column as one array, without a copy if it is one batch; nulls are refused."""
    refuse_nulls(column, where)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
