"""The selection on disk, in every format that ``select`` writes: writing it and reading it back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from d2cli.defaults import WrittenAs
from d2cli.errors import DataError, UsageError
from d2cli.files.formats.arrow_types import first_null
from d2cli.files.formats.choice import ID_NAMES, NO_IDS, Wanted, choose, find_ids
from d2cli.files.formats.fields import Field
from d2cli.files.formats.numpy_files import NpyField
from d2cli.files.formats.tables import ColumnField, write_table
from d2cli.files.frame import Frame
from d2cli.files.locate.copies import CopyPath
from d2cli.files.locate.paths import expand
from d2cli.files.parts.part_kinds import FOLDER_ENDING, SELECTION
from d2cli.files.parts.records import records_of
from d2cli.files.parts.row_lists import RowList
from d2cli.files.provenance.sidecar import KEY, as_metadata, from_metadata, read_sidecar_of
from d2cli.files.regular import check_regular
from d2cli.files.sources import Layout, Source

#: The endings of tables, which have columns, and of all formats.
_TABLE_ENDINGS = (".csv", ".parquet", ".arrow", FOLDER_ENDING)
_FORMS = (".npy", ".txt", *_TABLE_ENDINGS)
#: The number of lines that are written at a time.
_LINES = 1 << 16
#: NumPy's type of DataComp uids: the two halves of 32 hexadecimal digits.
_DATACOMP = np.dtype("u8,u8")
#: The types of recorded values, by section and name; each value may be missing or null.
_RECORDED: dict[tuple[str, str], tuple[type, ...]] = {
    ("counts", "kept"): (int,), ("counts", "rows"): (int,), ("graph", "metric"): (str,),
    ("parameters", "as"): (str,), ("parameters", "complement"): (bool,),
    ("parameters", "gamma_reverse"): (str, int, float), ("parameters", "higher_is"): (str,),
    ("parameters", "order"): (str,), ("selection", "gamma_reverse"): (int, float),
    ("selection", "messages_ran_out_at"): (int,), ("selection", "kept_lift"): (int, float),
    ("selection", "selected_neighbours"): (int, float),
    ("selection", "selected_neighbours_by_score"): (int, float),
}  # fmt: skip


# -- writing --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Kept:
    """The N rows to write, of n, in the order of writing: `index` holds their numbers, (N,) int64.

    `ids` are those of the whole set, (n,), or None; `columns` are more columns of tables, (N,).
    """

    index: NDArray[np.int64]
    n: int
    ids: pa.Array | None
    columns: dict[str, pa.Array]

    def rows(self, start: int, stop: int) -> Kept:
        """Those at the places ``start … stop`` in the order of writing; nothing is copied."""
        columns = {name: values[start:stop] for name, values in self.columns.items()}
        return Kept(self.index[start:stop], self.n, self.ids, columns)


def is_table(target: str) -> bool:
    """Whether an output of this name is written as a table, which has columns."""
    return Path(target).suffix.lower() in _TABLE_ENDINGS


def check_form(target: str, written_as: WrittenAs, ids: pa.Array | None, by_rank: bool) -> None:
    """Check, before any work, that the selection can be written as asked.

    Args:
        target, written_as: the output, or ``-``, and what its values are.
        ids: (n,) the ids of the whole set, or None.
        by_rank: whether rows are written in the order of the picks.

    Raises:
        UsageError: if the options exclude each other.
        DataError: if the ids are no DataComp uids and must be.
    """
    ending = Path(target).suffix.lower()
    if target != "-" and ending not in _FORMS:
        says = f"the ending gives the format, and {ending or 'none'} is not known"
        hint = f"use one of {', '.join(_FORMS)}, or - for text on standard output"
        raise UsageError(f"{target}: {says}", hint)
    if written_as != "index" and is_table(target):
        raise UsageError(f"{target}: --as is for .npy and text; tables have all columns")
    if written_as in ("id", "datacomp-uid") and ids is None:
        hint = "name them with --id-column"
        raise UsageError(f"--as {written_as} needs ids, and no input has them", hint)
    if written_as == "datacomp-uid" and ending != ".npy":
        raise UsageError(f"{target}: --as datacomp-uid is written to .npy only")
    if by_rank and written_as in ("mask", "datacomp-uid"):
        raise UsageError(f"--order rank has no meaning with --as {written_as}")
    if written_as == "datacomp-uid" and ids is not None:
        good = np.zeros(len(ids), np.bool_)
        if pa.types.is_large_string(ids.type):
            matches = pc.match_substring_regex(ids, "^[0-9a-fA-F]{32}$")
            good = matches.to_numpy(zero_copy_only=False)
        if not good.all():
            odd = int(np.argmin(good))
            says = "is no DataComp uid, which has 32 hexadecimal digits"
            raise DataError(f"{target}: the id of row {odd}, {ids[odd].as_py()!r}, {says}")


def store_selection(
    path: Path, ending: str, kept: Kept, written_as: WrittenAs, provenance: dict[str, Any]
) -> None:
    """Write `kept` to `path` in the format of `ending`; of ``.d2``, to a new folder of parts."""
    if ending == ".npy":
        with path.open("wb") as file:
            np.save(file, _values(kept, written_as), allow_pickle=False)
    elif ending == ".txt":
        with path.open("w", encoding="utf-8", newline="\n") as text:
            print_selection(text, kept, written_as)
    elif ending == FOLDER_ENDING:
        _store_parts(path, kept, provenance)
    else:
        write_table(_table(kept, as_metadata(provenance)), path, ending)


def _store_parts(folder: Path, kept: Kept, provenance: dict[str, Any]) -> None:
    """Write `kept` to a new folder of parts."""
    folder.mkdir()
    metadata = as_metadata(provenance)
    digest = hashlib.blake2b(metadata[KEY], digest_size=16)
    digest.update(np.ascontiguousarray(kept.index).data)
    for record, stop in records_of(kept.index.size, SELECTION, digest.hexdigest()):
        table = _table(kept.rows(record.first_row, stop), {**metadata, **record.as_metadata()})
        write_table(table, folder / SELECTION.part_name(record.part), SELECTION.ending)


def _table(kept: Kept, metadata: dict[bytes, bytes]) -> pa.Table:
    columns: dict[str, pa.Array] = {"index": pa.array(kept.index)}
    if "rank" in kept.columns:
        columns["rank"] = kept.columns["rank"]
    if kept.ids is not None:
        columns["id"] = kept.ids.take(columns["index"])
    return pa.table({**columns, **kept.columns}, metadata=metadata)


def print_selection(file: IO[str], kept: Kept, written_as: WrittenAs) -> None:
    """Write `kept` as text, one value per line."""
    values = _values(kept, written_as)
    values = values.astype(np.int8) if written_as == "mask" else values
    for start in range(0, values.size, _LINES):
        lines = [str(value) for value in values[start : start + _LINES].tolist()]
        broken = next((line for line in lines if "\n" in line or "\r" in line), None)
        if broken is not None:
            says = f"the id {broken!r} has a line break and cannot be written as a line of text"
            raise DataError(says, "write .npy or a table instead")
        file.write("\n".join(lines) + "\n")


def _values(kept: Kept, written_as: WrittenAs) -> NDArray[Any]:
    """The values that go into ``.npy`` and text."""
    if written_as == "index":
        return kept.index
    if written_as == "mask":
        mask = np.zeros(kept.n, np.bool_)
        mask[kept.index] = True
        return mask
    assert kept.ids is not None, "check_form refuses --as id without ids"
    ids = kept.ids.take(pa.array(kept.index))
    if written_as == "datacomp-uid":  # the two 16-digit halves of each uid, sorted and unique
        halves = bytes.fromhex("".join(ids.to_pylist()))
        return np.unique(np.frombuffer(halves, ">u8,>u8").astype(_DATACOMP))
    if pa.types.is_integer(ids.type):
        return ids.to_numpy(zero_copy_only=False)
    return np.array(ids.to_pylist(), dtype=np.str_)


# -- reading --------------------------------------------------------------------------------------
class SelectionFile:
    """An opened selection: the header and the provenance are read, the rows are not.

    Attributes:
        name: the file, or the folder of the parts, for messages.
        paths, n: the files in the order of rows, and the number of values in them.
        kept: the number of kept rows; None if only reading a mask can tell.
        dropped: whether the file lists the dropped rows.
        provenance: of ``select``; empty if there is none.
    """

    def __init__(self, paths: Sequence[Path], skim: bool = False) -> None:
        """Open one file, or all parts in order; see :func:`open_selection`."""
        for path in paths:
            check_regular(path)
        found = RowList(paths, skim)
        self.name, self.paths, self._files = found.name, list(paths), found.files
        first = self._files[0][0]
        self.n = sum(fields[0].n for fields in self._files)
        self.provenance = _provenance(self.name, self.paths, first)
        self.dropped = bool(self.recorded("parameters", "complement"))
        self.kept: int | None = self.recorded("counts", "kept")
        if self.kept is None and first.dtype.kind != "b":
            self.kept = self.n

    def recorded(self, *path: str) -> Any:
        """The value at this place of the provenance, or None."""
        found: Any = self.provenance
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def layout(self) -> Layout:
        """What the header says."""
        firsts = [fields[0] for fields in self._files]
        return Source("rows", "selected", firsts).layout(width=1)

    def read(self, frame: Frame) -> StoredSelection:
        """Read the selection as rows of `frame`.

        Values are row numbers, a mask, ids or DataComp uids, as the provenance says; without
        provenance, their type decides.

        Raises:
            DataError: if the values cannot be understood, or are of other data.
        """
        name, first = self.name, self._files[0][0]
        rows = self.recorded("counts", "rows")
        if rows is not None and rows != frame.n:
            says = f"was selected from {rows:,} rows, and {frame.name} has {frame.n:,}"
            raise DataError(f"{name}: {says}", "give the embeddings that it was selected from")
        columns = {f.name for f in self._files[0] if f.name and len(f.shape) == 1}
        if not self.n:
            listed, by_id = np.empty(0, np.int64), False
        elif isinstance(first, NpyField) and first.dtype == _DATACOMP:
            listed, by_id = _with_uids(first, frame), True
        else:
            listed, by_id = self._listed(columns, frame)
        if np.unique(listed).size < listed.size:
            first_places = np.unique(listed, return_index=True)[1]
            again = int(np.setdiff1d(np.arange(listed.size), first_places)[0])
            raise DataError(f"{name}: row {listed[again]} is repeated (at place {again})")
        rows = np.setdiff1d(np.arange(frame.n), listed) if self.dropped else np.sort(listed)
        if not rows.size:
            raise DataError(f"{name}: no row is kept")
        order = gains = None
        if not self.dropped and "rank" in columns:
            ranks = self._column("rank")
            counted = np.array_equal(np.sort(ranks), np.arange(ranks.size))
            if ranks.dtype.kind not in "iu" or not counted:
                raise DataError(f"{name}: rank must count 0 … {ranks.size - 1:,}, each once")
            place = np.argsort(ranks)
            order = listed[place]
            if "gain" in columns:
                gains = self._column("gain").astype(np.float64)[place]
        elif not self.dropped and self.recorded("parameters", "order") == "rank":
            order = listed
        return StoredSelection(self, rows, order, gains, by_id)

    def _column(self, name: str) -> NDArray[Any]:
        """All values of a one-dimensional field that every file has."""
        fields = (f for file in self._files for f in file if f.name == name and len(f.shape) == 1)
        return np.concatenate([block for field in fields for block in field.blocks()])

    def _listed(self, columns: set[str], frame: Frame) -> tuple[NDArray[np.int64], bool]:
        """The rows in the order of the file, and whether the file lists ids."""
        id_name = next((name for name in ID_NAMES if name in columns), None)
        by_id = id_name is not None and (frame.ids is not None or "index" not in columns)
        id_column = id_name if by_id else NO_IDS
        wanted = Wanted("rows", None, None, id_column)
        parts = [choose(fields, wanted) for fields in self._files]
        ids = [field for fields in self._files for field in find_ids(fields, id_column)]
        source = Source("rows", "selected", parts, ids)
        values = source.id_values() if source.id_parts else source.column()
        assert values is not None
        written_as = self.recorded("parameters", "as")
        mask = pa.types.is_boolean(values.type) or written_as == "mask"
        if not mask and (by_id or written_as == "id" or parts[0].is_text):
            return frame.rows_with_ids(values, source), True
        return frame.listed(values, source, mask), False


class StoredSelection(NamedTuple):
    """The content of a selection file, as rows of a frame.

    Attributes:
        rows: (N,) int64 row numbers of the kept rows, ascending.
        order: (N,) int64 the same rows in the order of the picks, or None if it is not known.
        gains: (N,) float64 the score of each pick when it was picked, in that order, or None.
        by_id: whether the file lists ids.
    """

    file: SelectionFile
    rows: NDArray[np.int64]
    order: NDArray[np.int64] | None
    gains: NDArray[np.float64] | None
    by_id: bool


def open_selection(*places: str | Path, skim: bool = False) -> SelectionFile:
    """Open a selection: a file, a folder of parts, a glob of parts, or several parts in order.

    Reads headers and provenance only (`skim`: the beginning of a CSV).

    Raises:
        DataError: if the file is no selection or has changed, if its provenance is damaged, and if
            parts are missing, of another selection, repeated or out of order.
    """
    paths: list[Path] = []
    for place in places:
        paths += [place] if isinstance(place, CopyPath) else expand([str(place)], "selected")
    return SelectionFile(paths, skim)


def _provenance(name: str, paths: list[Path], field: Field) -> dict[str, Any]:
    """The provenance of a selection: the sidecar's, else that in the metadata, else empty.

    `name`, `paths`: as of the :class:`SelectionFile`; `field` is the first of the first file.
    """
    found = read_sidecar_of(name, paths)
    if found is None and isinstance(field, ColumnField):
        found = from_metadata(paths[0], field.table.schema.metadata)
    if found is None:
        return {}
    if found.get("command") != "select":
        raise DataError(f"{name}: is no selection: d2prune {found.get('command')} made it")
    hint = "make the selection again with d2prune select"
    damaged = f"{name}: its provenance is damaged"
    for (section, key), types in _RECORDED.items():
        value = (found.get(section) or {}).get(key)
        if value is not None and type(value) not in types:
            raise DataError(f"{damaged}: {section}.{key} is {str(value)[:40]!r}", hint)
    # A null section is the same as a missing one.
    found = {key: value for key, value in found.items() if value is not None}
    for option, described in found.get("inputs", {}).items():
        for one in described if isinstance(described, list) else [described]:
            place = one.get("path", "") if isinstance(one, dict) else ""
            if not (place is None or isinstance(place, str) or (isinstance(place, list) and place)):
                raise DataError(f"{damaged}: {option} has no path", hint)
    return found


def _with_uids(part: Field, frame: Frame) -> NDArray[np.int64]:
    """(N,) int64, the row in the frame of each DataComp uid."""
    if frame.ids is None or not pa.types.is_large_string(frame.ids.type):
        hint = "name the id column with --id-column"
        raise DataError(f"{part.where}: lists DataComp uids, but no input has such ids", hint)
    halves = np.concatenate(list(part.blocks())).tolist()
    uids = pa.array([f"{high:016x}{low:016x}" for high, low in halves], pa.large_string())
    rows = pc.index_in(uids, value_set=pc.utf8_lower(frame.ids))
    if rows.null_count:
        raise DataError(f"{part.where}: row {first_null(rows)}: {frame.name} has no such uid")
    return rows.to_numpy().astype(np.int64)
