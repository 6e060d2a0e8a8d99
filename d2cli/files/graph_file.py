"""The graph on disk: an Arrow IPC file that any Arrow tool reads and that can be memory-mapped.

Columns ``neighbors: fixed_size_list<int32>[k]``, ``distances: fixed_size_list<float32>[k]``, and,
where there is such a thing, ``id`` and ``excluded: bool``; one record batch; provenance as JSON
under the schema's metadata key ``d2prune``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.tables import arrow_errors
from d2cli.files.output.atomic import Outputs, resolve
from d2cli.files.output.temporary import sweep
from d2cli.files.paths import check_regular, sniff
from d2cli.files.provenance.record import FORMAT_VERSION, KEY, as_metadata, read_sidecar, record
from d2cli.files.sources import blame, broadened, check_unique
from d2cli.graph.knn_graph import BuildInfo, KnnGraph

_MAKE = "make one with: d2prune graph --emb EMB --out GRAPH.arrow"


@dataclass(frozen=True)
class GraphFile:
    """A graph with its rows' ids, if it has any, and its provenance."""

    graph: KnnGraph
    ids: pa.Array | None
    provenance: dict[str, Any]


def build_record(graph: KnnGraph) -> dict[str, Any]:
    """What the file says of how the graph was built; :func:`_info` reads it back."""
    info = graph.info
    return {
        "n_neighbors": graph.n_neighbors,
        "metric": info.metric,
        "method": info.method,
        "seed": info.seed,
        "recall": info.recall,
        "recall_target": info.recall_target,
        "recall_sample": info.recall_sample,
        "settings": info.settings,
    }


def write_graph(
    path: str | Path,
    graph: KnnGraph,
    ids: pa.Array | None = None,
    provenance: dict[str, Any] | None = None,
) -> None:
    """Write a graph; an existing file is replaced once the new one is whole.

    Args:
        path: the file, usually ``….arrow``.
        graph: what to write.
        ids: (n,) one id a row, or None.
        provenance: what the metadata is to say; by default how the graph was built.
    """
    sweep(resolve(Path(path)).parent)
    with Outputs() as outputs:
        store_graph(outputs.place(path), graph, ids, provenance)


def store_graph(
    path: Path, graph: KnnGraph, ids: pa.Array | None, provenance: dict[str, Any] | None
) -> None:
    """:func:`write_graph` without the care for an existing file."""
    entry = provenance or record("graph", {}, graph=build_record(graph))
    k = graph.n_neighbors
    columns: dict[str, pa.Array] = {
        "neighbors": pa.FixedSizeListArray.from_arrays(pa.array(graph.neighbors.ravel()), k),
        "distances": pa.FixedSizeListArray.from_arrays(pa.array(graph.distances.ravel()), k),
    }
    if ids is not None:
        columns["id"] = ids
    if graph.excluded is not None:
        columns["excluded"] = pa.array(graph.excluded)
    batch = pa.record_batch(columns)
    schema = batch.schema.with_metadata(as_metadata(entry))
    with pa.OSFile(os.fsencode(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=schema))


def read_graph(path: str | Path) -> KnnGraph:
    """Read a graph file, memory-mapped, and hold it against its contract.

    Raises:
        DataError: naming the file, and the first row that breaks the contract.
    """
    return load_graph(path).graph


def load_graph(path: str | Path) -> GraphFile:
    """:func:`read_graph`, with the ids and the provenance."""
    path = Path(path)
    check_regular(path)
    if sniff(path) != "arrow":
        raise DataError(f"{path}: is not a graph, which is an Arrow file", _MAKE)
    with arrow_errors(path):
        with pa.memory_map(os.fsencode(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
        entry = _metadata(path, table.schema)
        neighbors = _lists(path, table, "neighbors", pa.int32())
        distances = _lists(path, table, "distances", pa.float32())
        if neighbors.shape[0] == 0:
            raise DataError(f"{path}: there are no rows")
        excluded = None
        if "excluded" in table.column_names:
            column = _whole(path, table, "excluded")
            if not pa.types.is_boolean(column.type):
                raise DataError(f"{path}: excluded must be bool, not {column.type}")
            excluded = column.to_numpy(zero_copy_only=False)
        ids = _ids(path, table) if "id" in table.column_names else None
    with blame(graph=str(path)):
        graph = KnnGraph(neighbors, distances, excluded, _info(path, entry))
    return GraphFile(graph, ids, entry)


def whole_provenance(stored: GraphFile, path: str | Path) -> dict[str, Any]:
    """The provenance of a graph, with that of its run where the file beside it has it."""
    try:
        beside = read_sidecar(Path(path)) or {}
    except DataError:  # beside another graph: the graph itself says all but that
        beside = {}
    return {**stored.provenance, "run": beside.get("run", {})}


def _metadata(path: Path, schema: pa.Schema) -> dict[str, Any]:
    raw = (schema.metadata or {}).get(KEY)
    if raw is None:
        raise DataError(f"{path}: is not a graph: its metadata has no 'd2prune'", _MAKE)
    try:
        entry = json.loads(raw)
        version = entry["format_version"]
        # What later steps look into must be there to be looked into.
        entry = {**entry, **{part: dict(entry.get(part) or {}) for part in ("graph", "inputs")}}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise DataError(f"{path}: its 'd2prune' metadata cannot be read", _MAKE) from None
    if type(version) is not int or version != FORMAT_VERSION:
        raise DataError(
            f"{path}: has format version {str(version)[:40]}, this program reads {FORMAT_VERSION}",
            "install a newer d2prune, or make the graph again",
        )
    return entry


#: The types of what is recorded of a graph; what is not recorded has a default.
_RECORDED: dict[str, tuple[type, ...]] = {
    "metric": (str,),
    "method": (str,),
    "seed": (int,),
    "recall": (int, float, type(None)),
    "recall_target": (int, float, type(None)),
    "recall_sample": (int,),
    "settings": (dict,),
}


def _info(path: Path, entry: dict[str, Any]) -> BuildInfo:
    built = entry["graph"]
    for name, types in _RECORDED.items():
        if name in built and type(built[name]) not in types:
            raise DataError(
                f"{path}: its 'd2prune' metadata says {name} is {str(built[name])[:40]!r}", _MAKE
            )
    return BuildInfo(
        metric=built.get("metric", "unknown"),
        method=built.get("method", "unknown"),
        seed=built.get("seed", 0),
        recall=built.get("recall"),
        recall_target=built.get("recall_target"),
        recall_sample=built.get("recall_sample", 0),
        settings=built.get("settings", {}),
    )


def _ids(path: Path, table: pa.Table) -> pa.Array:
    """The column of ids, spelled out: text or integers, none missing, none twice."""
    column = table.column("id")
    if pa.types.is_dictionary(column.type):  # which may hold a null of its own
        at = table.column_names.index("id")
        table = table.set_column(at, "id", column.cast(column.type.value_type))
    ids = _whole(path, table, "id")
    if not (
        pa.types.is_integer(ids.type)
        or pa.types.is_string(ids.type)
        or pa.types.is_large_string(ids.type)
    ):
        raise DataError(f"{path}: ids must be integers or text, not {ids.type}")
    ids = broadened(ids)
    check_unique(ids, lambda row: f"{path}: id: row {row}")
    return ids


def _whole(path: Path, table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    if column.null_count:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise DataError(f"{path}: {name}: row {row} is null")
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _lists(path: Path, table: pa.Table, name: str, kind: pa.DataType) -> NDArray[Any]:
    """A column of fixed-size lists as (n, k), without a copy where it is one batch."""
    if name not in table.column_names:
        raise DataError(f"{path}: is not a graph: it has no column {name!r}", _MAKE)
    column = _whole(path, table, name)
    if not pa.types.is_fixed_size_list(column.type) or column.type.value_type != kind:
        raise DataError(f"{path}: {name} must be fixed_size_list<{kind}>, not {column.type}")
    values = column.flatten()
    if values.null_count:
        at = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(f"{path}: {name}: row {at // column.type.list_size} holds a null")
    return values.to_numpy().reshape(len(column), column.type.list_size)
