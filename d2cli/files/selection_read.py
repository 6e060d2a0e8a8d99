"""Selections read back: every form that ``select`` writes, as row numbers of the same data."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.choice import ID_NAMES, NO_IDS
from d2cli.files.formats.fields import Field
from d2cli.files.formats.numpy_files import NpyField
from d2cli.files.formats.tables import TableFile
from d2cli.files.frame import Frame
from d2cli.files.paths import sniff
from d2cli.files.provenance.record import FORMAT_VERSION, KEY, describe_files, read_sidecar
from d2cli.files.sources import Source, file_fields, open_source

_DATACOMP = np.dtype("u8,u8")


@dataclass(frozen=True)
class SelectionFile:
    """What was selected of a set of n rows.

    Attributes:
        path: the file.
        rows: (N,) int64 row numbers of what is kept, ascending.
        order: (N,) int64 the same in the order of the picks, or None where it is not known.
        gains: (N,) float64 the score that each pick had left, in that order, or None.
        by_id: whether the file names rows by id.
        dropped: whether the file lists what is dropped, so that `rows` are the others.
        provenance: what ``select`` recorded; empty where there is nothing of it.
        described: path, size, rows and fingerprint of the file.
    """

    path: Path
    rows: NDArray[np.int64]
    order: NDArray[np.int64] | None = None
    gains: NDArray[np.float64] | None = None
    by_id: bool = False
    dropped: bool = False
    provenance: dict[str, Any] = field(default_factory=dict)
    described: dict[str, Any] = field(default_factory=dict)

    def recorded(self, *path: str) -> Any:
        """What provenance says at this place, or None."""
        found: Any = self.provenance
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found


def read_selection(path: Path, frame: Frame) -> SelectionFile:
    """Read one selection of the rows of `frame`.

    Row numbers, a mask, ids or DataComp uids, in ``.npy``, text or a table: what the values mean is
    as the provenance says and, where there is none, as they look.

    Raises:
        DataError: if the file cannot be understood, or is of other data.
    """
    provenance = selection_provenance(path)
    rows_then = provenance.get("counts", {}).get("rows")
    if rows_then is not None and rows_then != frame.n:
        raise DataError(
            f"{path}: was selected from {rows_then:,} rows, and {frame.name} has {frame.n:,}",
            "give the embeddings that it was selected from",
        )
    parameters = provenance.get("parameters", {})
    written_as = parameters.get("as", "index")
    fields = file_fields(path, sniff(path))
    table = {f.name: f for f in fields if f.name and len(f.shape) == 1}
    if not fields[0].n:
        listed, by_id = np.empty(0, np.int64), False
    elif isinstance(fields[0], NpyField) and fields[0].dtype == _DATACOMP:
        listed, by_id = _with_uids(fields[0], frame), True
    else:
        listed, by_id = _listed(path, table, written_as, frame)
    if np.unique(listed).size < listed.size:
        first = np.unique(listed, return_index=True)[1]
        again = int(np.setdiff1d(np.arange(listed.size), first)[0])
        raise DataError(f"{path}: row {listed[again]} stands twice (again at place {again})")
    dropped = bool(parameters.get("complement"))
    rows = np.setdiff1d(np.arange(frame.n), listed) if dropped else np.sort(listed)
    if not rows.size:
        raise DataError(f"{path}: nothing is kept")
    order = gains = None
    if not dropped and "rank" in table:
        place = np.argsort(_ranks(path, table["rank"]))
        order = listed[place]
        if "gain" in table:
            gains = np.concatenate(list(table["gain"].blocks())).astype(np.float64)[place]
    elif not dropped and parameters.get("order") == "rank":
        order = listed
    described = describe_files([path], int(listed.size))
    return SelectionFile(path, rows, order, gains, by_id, dropped, provenance, described)


def selection_provenance(path: Path) -> dict[str, Any]:
    """What is beside a file, else what is in a table's metadata, if ``select`` made it."""
    found = read_sidecar(path)
    if found is None:
        kind = sniff(path)
        if kind in ("parquet", "arrow", "arrow-stream"):
            metadata = TableFile(path, kind).schema.metadata or {}
            found = _parsed(path, metadata.get(KEY))
    if found is None:
        return {}
    if found.get("command") != "select":
        raise DataError(f"{path}: is no selection: d2prune {found.get('command')} made it")
    return found


def _parsed(path: Path, metadata: bytes | None) -> dict[str, Any] | None:
    if metadata is None:
        return None
    try:
        found = json.loads(metadata)
        known = found["format_version"] == FORMAT_VERSION and isinstance(found["parameters"], dict)
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise DataError(f"{path}: its provenance is damaged, or of another version of d2prune")
    return dict(found)


def _listed(
    path: Path, table: dict[str, Field], written_as: str, frame: Frame
) -> tuple[NDArray[np.int64], bool]:
    """The rows in the order of the file, and whether ids named them."""
    id_name = next((name for name in ID_NAMES if name in table), None)
    by_id = id_name is not None and (frame.ids is not None or "index" not in table)
    id_column = id_name if by_id else NO_IDS
    source = open_source([str(path)], "rows", "selected", None, id_column, key_option=None)
    values = source.id_values() if source.id_parts else source.column()
    assert values is not None
    if pa.types.is_boolean(values.type) or written_as == "mask":
        return _from_mask(values, source, frame), False
    if by_id or written_as == "id" or source.parts[0].is_text:
        return frame.rows_with_ids(values, source), True
    return frame.row_numbers(values, source), False


def _from_mask(values: pa.Array, source: Source, frame: Frame) -> NDArray[np.int64]:
    if len(values) != frame.n:
        raise DataError(
            f"{source.name}: the mask has {len(values):,} values, {frame.name} has {frame.n:,} rows"
        )
    return np.flatnonzero(values.to_numpy(zero_copy_only=False)).astype(np.int64)


def _with_uids(part: Field, frame: Frame) -> NDArray[np.int64]:
    """The rows of DataComp's ``u8,u8``: the two halves of each uid's 32 hexadecimal digits."""
    if frame.ids is None or not pa.types.is_large_string(frame.ids.type):
        raise DataError(
            f"{part.where}: names rows by DataComp uid, but no input has such ids",
            "name the ids with --id-column",
        )
    halves = np.concatenate(list(part.blocks()))
    row_of = {uid.lower(): row for row, uid in enumerate(frame.ids.to_pylist())}
    rows = np.empty(halves.size, np.int64)
    for place, (high, low) in enumerate(halves.tolist()):
        row = row_of.get(f"{high:016x}{low:016x}")
        if row is None:
            raise DataError(f"{part.where}: row {place}: {frame.name} has no such uid")
        rows[place] = row
    return rows


def _ranks(path: Path, part: Field) -> NDArray[np.int64]:
    ranks = np.concatenate(list(part.blocks()))
    if ranks.dtype.kind not in "iu" or not np.array_equal(np.sort(ranks), np.arange(ranks.size)):
        raise DataError(f"{path}: rank must count 0 … {ranks.size - 1:,}, each once")
    return ranks.astype(np.int64)
