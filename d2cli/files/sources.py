"""An input as a whole: the files of one option, the chosen field of each, and their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.defaults import MAX_ROWS
from d2cli.errors import DataError, UsageError
from d2cli.files.formats.choice import NO_IDS, Role, Wanted, choose, find_ids, why_chosen
from d2cli.files.formats.composed import JoinedField
from d2cli.files.formats.converted import AS_STORED, Reading
from d2cli.files.formats.fields import Field, MappedField
from d2cli.files.formats.opening import KINDS, file_fields
from d2cli.files.formats.recognise import Format, sniff
from d2cli.files.keys import (
    Key,
    check_unique,
    common_keys,
    flat_fields,
    joined,
    refuse_lost_keys,
    usual_names,
)
from d2cli.files.locate.hives import integer_names, partition_field
from d2cli.files.locate.located import Found, Located
from d2cli.files.locate.own_outputs import is_foreign_table
from d2cli.files.locate.paths import locate
from d2cli.files.locate.splits import check_splits
from d2cli.files.locate.survey import outputs_notice
from d2cli.files.output.remote_folder import place_of
from d2cli.files.output.work_folder import WorkFolder
from d2cli.files.parts.part_folders import kind_of_part
from d2cli.files.parts.part_kinds import SELECTION
from d2cli.files.parts.row_lists import RowList, is_parted, row_lists
from d2cli.files.raw.row_files import RawRows, RowFiles, copy_rows
from d2cli.files.sizes import Ids
from d2cli.runtime.memory import allocate


@dataclass(frozen=True)
class Layout:
    """What the headers of an input say; a plan needs nothing else.

    Attributes:
        option, role, name, paths: as of the :class:`Source`.
        size: bytes of all files on disk.
        rows, width: the number of rows, and of values in a row; 1 for scores and labels.
        exact: whether `rows` is counted; if not, it is estimated from the beginning of a file.
        dtype: NumPy's type of the values.
        mapped, plain: whether the data are one memory-mapped array; in C order and native bytes.
        largest_mapped: bytes of the largest single file that is mapped.
        reading: bytes of the buffers while the files are read.
        id_sizes: the sizes of the ids; None if the files carry none.
        key_sizes: those of the column that is compared with other inputs if there are no ids.
        copied: whether :meth:`Source.reader` copies the rows first.
    """

    option: str
    role: Role
    name: str
    paths: list[Path]
    size: int
    rows: int
    exact: bool
    width: int
    dtype: np.dtype
    mapped: bool
    plain: bool
    largest_mapped: int
    reading: int
    id_sizes: Ids | None
    key_sizes: Ids | None = None
    copied: bool = False

    @property
    def read_sizes(self) -> Ids | None:
        """The sizes of what may be read to join the rows."""
        return self.id_sizes or self.key_sizes

    @property
    def type_name(self) -> str:
        """The type of the values, for messages."""
        return "text" if self.dtype.kind in "US" else str(self.dtype)


class Source:
    """The rows of one option, in order.

    Attributes:
        role, option: what the rows are, and the option's name without dashes.
        parts, id_parts: the field of each file, and its id field; empty if the files carry no ids.
        chosen: why the field was chosen: by "key", by its "usual" name, or as the "only" one.
        column_name: the name of the field; empty for a plain array.
        recorded_ids, recorded_fingerprints: of an output of d2prune without ids: the column of ids
            of the rows that it was made from, or None; the fingerprints of its inputs.
        recorded_out_of_order: whether these inputs were in different orders, or their ids do not
            ascend.
        recorded_by_rank: whether it is a selection whose rows are in the order of the picks.
        keys: every column of integers or text, besides the field itself, that each file has.
        n, paths: the number of rows of all files; the files, in order, each once.
        name: the name of the input in messages.
        reading: how the user says that embeddings are to be read.
        has_columns: whether the files are tables, which can carry ids.
        left_out: notices of files that were left out.
    """

    def __init__(
        self,
        role: Role,
        option: str,
        parts: list[Field],
        id_parts: list[Field] | None = None,
        keys: dict[str, Key] | None = None,
        n: int | None = None,
        chosen: Literal["key", "usual", "only"] = "usual",
        reading: Reading = AS_STORED,
    ) -> None:
        self.role, self.option, self.parts, self.id_parts = role, option, parts, id_parts or []
        self.recorded_ids: str | None = None
        self.recorded_fingerprints: frozenset[str] = frozenset()
        self.recorded_out_of_order = self.recorded_by_rank = False
        self.keys, self.chosen, self.column_name = keys or {}, chosen, parts[0].name
        self.n = sum(part.n for part in parts) if n is None else n
        self.paths = list(dict.fromkeys(file for part in parts for file in part.files))
        more = f" … ({len(parts)} files)" if len(parts) > 1 else ""
        self.name = f"{parts[0].where}{more}"
        self.reading = reading
        self.has_columns = any(part.from_table for part in parts)
        self.left_out: list[str] = []

    def place(self, row: int | None) -> str:
        """The file and the row in it, for messages."""
        if row is None:
            return self.name
        for part in self.parts:
            if row < part.n:
                break
            row -= part.n
        return part.place(row)

    def layout(self, rows: int | None = None, width: int | None = None) -> Layout:
        """What the headers say; `rows` and `width` if they are not those of the joined files.

        Raises:
            DataError: if the files have rows of several widths.
        """
        parts, ids = self.parts, self.id_parts
        usual = [name for name in usual_names(self.keys) if self.keys[name].can_be_ids]
        key = self.keys[usual[0]] if usual and not ids else None
        if width is None and self.role == "rows":
            width = 1
        elif width is None:
            width = self._common_width({part: part.header_width() for part in parts if part.n})
        numbers = [part.dtype for part in parts if part.is_number]
        rows = self.n if rows is None else rows
        mapped = [part for part in parts if isinstance(part, MappedField)]
        alone = len(parts) == len(mapped) == 1 and self._as_it_is(mapped[0])
        return Layout(
            option=self.option, role=self.role, name=self.name, paths=self.paths,
            size=sum({part.path: part.disk_bytes for part in parts}.values()),
            rows=rows, exact=all(part.exact for part in parts), width=width,
            dtype=np.result_type(*numbers) if numbers else parts[0].dtype,
            mapped=alone, plain=not alone or mapped[0].is_plain,
            largest_mapped=max((part.mapped_bytes for part in mapped), default=0),
            reading=max(part.buffer_bytes(self.role == "outputs") for part in parts),
            id_sizes=_id_sizes(ids[0], rows) if ids else None,
            key_sizes=_id_sizes(key.parts[0], rows) if key else None,
            copied=self._in_order() is None,
        )  # fmt: skip

    def _as_it_is(self, part: Field) -> bool:
        """Whether a memory map of the file is what the run takes."""
        return self.role != "embeddings" or part.dtype.kind == "f"

    def _in_order(self) -> list[MappedField] | None:
        """The parts, if all are floats that lie in their files row by row."""
        parts = [part for part in self.parts if isinstance(part, MappedField)]
        fit = all(self._as_it_is(part) and not part.fortran for part in parts)
        return parts if fit and len(parts) == len(self.parts) else None

    @property
    def notices(self) -> list[str]:
        """What the user should know about which files are read, and how; each notice once."""
        about_parts = [notice for part in self.parts for notice in part.notices]
        return list(dict.fromkeys([*self.left_out, *about_parts]))

    def scale_parts(self, metric: str) -> None:
        """Before reading: give joined matrices the same weight if the metric is ``cosine``."""
        for part in self.parts:
            if isinstance(part, JoinedField):
                part.unit = metric == "cosine"

    @staticmethod
    def _common_width(widths: dict[Field, int]) -> int:
        """The width of all parts; parts of different widths are refused."""
        first = next(iter(widths))
        for part, width in widths.items():
            if width != widths[first]:
                others = f"those of {first.where} have {widths[first]}"
                raise DataError(f"{part.where}: rows have {width} values, {others}")
        return widths[first]

    def matrix(self) -> NDArray[np.floating]:
        """All rows, (n, d): memory-mapped if they are one array of floats in a file, else one copy.

        The copy is float64 if a file holds float64 or integers of 32 bits or more, else float32.
        """
        if len(self.parts) == 1 and self._as_it_is(self.parts[0]):
            mapped = self.parts[0].mapped()
            if mapped is not None:
                return mapped
        return self._gather((self.n, self._width()), self._copied_as())

    def _width(self) -> int:
        return self._common_width({part: part.width() for part in self.parts if part.n})

    def _copied_as(self) -> np.dtype:
        types = {part.dtype.newbyteorder("=") for part in self.parts}
        return np.result_type(np.float32, *types)

    def reader(self, work_dir: WorkFolder | None = None) -> RowFiles:
        """The rows of :meth:`matrix`, to be read in ranges; the caller closes the reader.

        Floats in C order are read where they lie. Others are first copied to a temporary file of
        `work_dir`, which is removed when the reader is closed.

        Raises:
            UsageError: if there is no `work_dir` and rows must be copied.
            DataError: if a file cannot be read, or its rows are not what its header claims.
            OSError: if the temporary file cannot be written.
        """
        width, dtype = self._width(), self._copied_as()
        if (parts := self._in_order()) is not None:
            raw = [RawRows(place_of(p.path), p.offset, p.n, p.dtype) for p in parts]
            return RowFiles(raw, width, dtype)
        if work_dir is None:
            says = "rows that are not floats in C order are copied to a file first"
            raise UsageError(f"{self.name}: {says}: they need a work_dir")
        with ExitStack() as failed:
            work, rows, raw = work_dir.temporary(), 0, []
            failed.callback(work.end)
            for number, part in enumerate(self.parts):
                pieces = self._pieces_of(part, rows)
                raw.append(copy_rows(work.folder, f"rows {number}", pieces, width, dtype, part.n))
                rows += raw[-1].rows
            self._check_rows(rows)
            found = RowFiles(raw, width, dtype, work)
            failed.pop_all()
        return found

    def rows_of_matrix(self, rows: NDArray[np.int64] | None) -> NDArray[np.floating]:
        """Some `rows` of :meth:`matrix`, copied; None: all, as they are."""
        return self.matrix() if rows is None else self.matrix()[rows]

    def vector(self) -> NDArray[np.float64]:
        """All rows as float64, (n,)."""
        return self._gather((self.n,), np.dtype(np.float64))

    def _gather(self, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
        out = allocate(shape, dtype, self.name)
        rows = 0
        for part in self.parts:
            for first, column, block in self._pieces_of(part, rows):
                rows = first + len(block)
                place = out[first:rows]
                if block.ndim == 2:
                    place = place[:, column : column + block.shape[1]]
                with np.errstate(over="ignore"):  # the check of the values refuses infinities
                    place[:] = block
        self._check_rows(rows)
        return out

    def _pieces_of(self, part: Field, start: int) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """The pieces of a part whose first row is `start` of all."""
        for first, column, block in part.pieces():
            if start + first + len(block) > self.n:
                says = f"has more rows than its header claims ({part.n:,})"
                raise DataError(f"{part.where}: {says}")
            yield start + first, column, block

    def _check_rows(self, rows: int) -> None:
        if rows != self.n:
            says = f"{rows:,} rows were read, and the headers claim {self.n:,}"
            raise DataError(f"{self.name}: {says}")

    def column(self, nulls: bool = False) -> pa.Array:
        """All rows of a one-dimensional field; nulls are refused unless `nulls` is true."""
        return joined(self.parts, nulls)

    def id_values(self) -> pa.Array | None:
        """The values of the id column, repeated ones included, or None."""
        return joined(self.id_parts) if self.id_parts else None

    def ids(self) -> pa.Array | None:
        """The id of each row, or None; a repeated id raises DataError."""
        ids = self.id_values()
        if ids is not None:
            check_unique(ids, self.place)
        return ids


def _id_sizes(field: Field, rows: int) -> Ids:
    return Ids(rows, field.id_bytes(), field.is_text)


def open_source(
    arguments: list[str], role: Role, option: str, key: str | tuple[str, ...] | None = None,
    id_column: str | None = None, *, key_option: str | None = "", skim: bool = False,
    reading: Reading = AS_STORED,
) -> Source:  # fmt: skip
    """Find the files of an option and choose the field of each. Reads headers only, except of CSV.

    Args:
        arguments, option: paths, folders and globs, and the option they were given to.
        role, key, id_column, skim, reading: see :class:`~d2cli.files.formats.choice.Wanted`.
            Several keys of embeddings are joined side by side.
        key_option: the option that takes the key; by default ``{option}-key``.

    Raises:
        DataError: if a file cannot be used; the message names it.
    """
    key_option = f"{option}-key" if key_option == "" else key_option
    keys: tuple[str | None, ...] = (key or (None,)) if isinstance(key, tuple) else (key,)
    wanted = Wanted(role, key_option, keys[0], id_column, skim, reading)
    parts: list[Field] = []
    id_parts: list[Field] = []
    flat: list[dict[str, Field]] = []
    found = {argument: locate(argument, option) for argument in arguments}
    integers = integer_names(file for one in found.values() for file in one.files)
    for argument in arguments:
        for file, fields in _one_kind(argument, found[argument], wanted, option):
            chosen = _chosen(file, fields, wanted, keys, integers)
            parts.append(chosen)
            id_parts.extend(find_ids(fields, id_column))
            flat.append(flat_fields(fields, chosen))
    if id_parts and len(id_parts) != len(parts):
        says = f"only some files of --{option} have the column {id_parts[0].name}"
        raise DataError(f"{parts[0].path}: {says}")
    if role == "outputs" and id_column != NO_IDS:
        refuse_lost_keys(flat, parts)
    source = Source(
        role,
        option,
        parts,
        id_parts,
        common_keys(flat),
        chosen=why_chosen(parts[0], wanted),
        reading=reading,
    )
    source.left_out = [notice for one in found.values() for notice in one.notices]
    if source.n == 0 and role != "rows":  # a list of rows may be empty
        raise DataError(f"{source.name}: there are no rows")
    if source.n > MAX_ROWS:
        raise DataError(f"{source.name}: {source.n:,} rows are more than {MAX_ROWS:,}")
    return source


def _chosen(
    file: Located, fields: list[Field], wanted: Wanted, keys: tuple[str | None, ...],
    integers: set[str],
) -> Field:  # fmt: skip
    """The field of one file, or the fields of several keys joined."""
    chosen = [
        choose([*fields, *partition_field(file, key, fields, integers)], replace(wanted, key=key))
        for key in keys
    ]
    return chosen[0] if len(chosen) == 1 else JoinedField(chosen)


def _one_kind(
    argument: str, found: Found, wanted: Wanted, option: str
) -> Iterator[tuple[Located, list[Field]]]:
    """The fields of each file; in a folder with several formats, of the first format that fits.

    Tables that are outputs of d2prune by their metadata are left out of folders and globs, unless
    there is nothing but parts of a selection. Lists of rows in parts must be complete.
    """
    if wanted.role == "rows" and any(is_parted(file.path) for file in found.files):
        yield from _complete(found.files, wanted.skim)
        return
    by_kind: dict[Format, list[Located]] = {}
    for file in found.files:
        by_kind.setdefault(sniff(file.path, wanted), []).append(file)
    *kinds, last = (kind for kind in KINDS if kind in by_kind)
    for kind in kinds:
        fields = file_fields(by_kind[kind][0].path, kind, wanted.skim)
        with suppress(DataError):
            choose(fields, wanted)
            last = kind
            break
    check_splits([str(file.path) for file in by_kind[last]], argument, option)
    outputs = []
    for file in by_kind[last]:
        fields = file_fields(file.path, last, wanted.skim)
        table = getattr(fields[0], "table", None)
        if not file.by_name and table and is_foreign_table(file.path, table.schema, option):
            outputs.append(file)
        else:
            yield file, fields
    if len(outputs) == len(by_kind[last]):
        if all(kind_of_part(file.path) == SELECTION for file in outputs):
            yield from _complete(outputs, wanted.skim)
            return
        says = f"{argument}: holds no data for --{option}, only outputs of d2prune"
        raise DataError(f"{says} ({outputs[0].path})", "a file that is given by name is read")
    if outputs:
        found.notices.append(outputs_notice(argument, [str(file.path) for file in outputs]))


def _complete(files: Sequence[Located], skim: bool) -> Iterator[tuple[Located, list[Field]]]:
    """The fields of each file of lists of rows, which must be complete if they are in parts."""
    located = {file.path: file for file in files}
    for paths in row_lists(located):
        opened = RowList(paths, skim).files
        yield from zip((located[path] for path in paths), opened, strict=True)


@dataclass(frozen=True)
class Reordered:
    """A source in the order of a frame: row i of the frame is row ``rows[i]`` of the source."""

    source: Source | Reordered
    rows: NDArray[np.int64]

    @property
    def has_columns(self) -> bool:
        """As of the source."""
        return self.source.has_columns

    def place(self, row: int | None) -> str:
        """The file and the row in it, for messages."""
        return self.source.place(None if row is None else int(self.rows[row]))


def in_order(origin: Source | Reordered, rows: NDArray[np.int64] | None) -> Source | Reordered:
    """Some `rows` of an origin, in this order; None: all, as they are."""
    return origin if rows is None else Reordered(origin, rows)


@contextmanager
def blame(**inputs: Source | Reordered | str | None) -> Iterator[None]:
    """Put the file's name in front of an error of numerical code, which knows argument names only.

    `inputs` are the origins of the arguments' values: sources, or names for messages.
    """
    try:
        yield
    except DataError as error:
        origin = inputs.get(error.argument or "")
        if origin is None:
            raise
        if isinstance(origin, str):
            place = origin if error.row is None else f"{origin}: row {error.row}"
        else:
            place = origin.place(error.row)
        raise DataError(f"{place}: {error.message}", error.hint) from error
