"""Tables: parquet, Arrow files and streams, CSV. Columns become fields."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.fields import SKIMMED_BYTES, Field
from d2cli.files.formats.recognise import Format

#: Bytes of a batch of rows, approximately. Arrow uses several times as much memory for a batch,
#: and a batch that fits into the processor's cache is decoded faster.
BATCH_BYTES = 1 << 22
#: The number of columns of one matrix that are decoded together.
COLUMNS_AT_A_TIME = 16
#: Arrow types that are read as text. Parquet gives text as binary if its writer set no type.
_TEXT = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
#: The prefix and the number of a column name such as ``emb_767``.
_NUMBERED = re.compile(r"((?:.*[^0-9])?0*?)([1-9][0-9]{0,8}|0)", re.DOTALL)


@contextmanager
def arrow_errors(where: object) -> Iterator[None]:
    """Turn an Arrow error into a DataError of one line that names the place."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{where}: cannot be read ({reason[:300]})") from None


class TableFile:
    """One open table: its `schema` and `n` rows; batches of its columns on request.

    Opening reads headers only, except of CSV, which has none: a CSV is read whole, or if `skim` is
    true only at its beginning; then `n` is not `exact`.
    """

    def __init__(self, path: Path, kind: Format, *, skim: bool = False) -> None:
        self.path, self.kind, self.exact = path, kind, True
        with arrow_errors(path):
            if kind == "parquet":
                # An open file, because Arrow's own paths must be UTF-8.
                source = pa.OSFile(os.fsencode(path))
                options = {"pre_buffer": False, "buffer_size": 1 << 20}
                self._parquet = pa.parquet.ParquetFile(source, **options)
                self.schema, self.n = self._parquet.schema_arrow, self._parquet.metadata.num_rows
            elif kind == "csv":
                self._open_csv(skim)
            else:
                self._open_arrow()
        if self.n < 0:
            raise DataError(f"{path}: claims to have {self.n:,} rows")

    def _open_csv(self, skim: bool) -> None:
        size, head = self.path.stat().st_size, None
        if skim and size > SKIMMED_BYTES:
            with self.path.open("rb") as file:
                head = file.read(SKIMMED_BYTES)
            head = head[: head.rfind(b"\n") + 1] or head
        self.table = _read_csv(self.path, head)
        self.schema, self.exact = self.table.schema, head is None
        rows = self.table.num_rows
        self.n = rows if head is None else round(rows * size / len(head))

    def _open_arrow(self) -> None:
        self.schema = self._ipc().schema
        names = self.schema.names
        if self.kind == "arrow" and len(set(names)) == len(names):  # else Arrow cannot count
            from pyarrow import dataset  # noqa: PLC0415, only needed here

            source = pa.memory_map(os.fsencode(self.path))
            self.n = dataset.IpcFileFormat().make_fragment(source).count_rows()
        else:
            self.n = sum(batch.num_rows for batch in self.ipc_batches(0))

    def _ipc(self, columns: list[int] | None = None) -> Any:
        """A reader of an Arrow file or stream, of some columns or of all."""
        source = pa.memory_map(os.fsencode(self.path))
        options = pa.ipc.IpcReadOptions(included_fields=columns)
        opener = pa.ipc.open_file if self.kind == "arrow" else pa.ipc.open_stream
        return opener(source, options=options)

    def ipc_batches(self, column: int) -> Iterator[pa.RecordBatch]:
        """The batches of an Arrow file or stream, with one column."""
        reader = self._ipc([column])
        if self.kind == "arrow":
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            yield from reader

    @cached_property
    def table(self) -> pa.Table:
        """The whole table. For Arrow files this is a view of the mapped file if not compressed."""
        return self._ipc().read_all()

    def batches(self, names: list[str], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(first row, batch of at most about `rows` rows) over the whole table."""
        start, rows = 0, max(1, rows)
        with arrow_errors(self.path):
            if self.kind == "parquet":
                found = self._parquet.iter_batches(batch_size=rows, columns=names)
            else:
                found = iter(self.table.select(names).to_batches(rows))
            for batch in found:
                if self.kind.startswith("arrow"):  # Arrow can crash on a damaged batch
                    batch.validate(full=True)
                yield start, batch
                start += batch.num_rows

    def fields(self) -> list[Field]:
        """Every column, and every family of numbered columns as one matrix."""
        with arrow_errors(self.path):
            times = Counter(self.schema.names)  # Arrow cannot select a repeated name
            once = [column for column in self.schema if times[column.name] == 1]
            columns = [ColumnField(self, column.name, column.type) for column in once]
        if not columns:
            raise DataError(f"{self.path}: has no columns, or only columns of the same name")
        return [*columns, *_families(self, columns)]

    # -- sizes from headers, computed only when a plan asks ----------------------------------------
    @cached_property
    def column_sizes(self) -> dict[str, tuple[int, float]]:
        """Values and uncompressed bytes of a row by parquet column, in the first group of rows."""
        if self.kind != "parquet":
            return {}
        about = self._parquet.metadata
        groups = (about.row_group(i) for i in range(about.num_row_groups))
        group: Any = next((group for group in groups if group.num_rows), None)
        names, sizes = set(self.schema.names), {}
        for column in range(group.num_columns if group else 0):
            chunk = group.column(column)
            name = chunk.path_in_schema  # of a list "name.list.element"
            while name not in names and "." in name:
                name = name.rpartition(".")[0]
            size = chunk.total_uncompressed_size / group.num_rows
            sizes[name] = chunk.num_values // group.num_rows, size
        return sizes

    def buffer_bytes(self, names: list[str]) -> int:
        """Bytes of the buffers while these columns are read together.

        As measured, a parquet column takes 6 times its size (pages, dictionaries, a batch, memory
        that the allocator keeps), a large one at most 56 MiB, and many at most 4 MiB each.
        """
        if self.kind == "csv":  # the whole table, and its integers as text
            return 3 * self.path.stat().st_size
        if self.kind != "parquet":
            return BATCH_BYTES
        size = sum(self.column_sizes.get(name, (0, 0.0))[1] * self.n for name in names)
        return min(round(6 * size), max(56, 4 * len(names)) << 20)


def write_table(table: pa.Table, path: Path, ending: str) -> None:
    """Write a table as ``.csv``, ``.parquet`` or ``.arrow``, as `ending` says."""
    # An open file, because Arrow's own paths must be UTF-8.
    with pa.OSFile(os.fsencode(path), "wb") as sink:
        if ending == ".csv":
            pa.csv.write_csv(table, sink)
        elif ending == ".parquet":
            pa.parquet.write_table(table, sink, compression="zstd")
        else:
            with pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)


def _read_csv(path: Path, head: bytes | None) -> pa.Table:
    """A CSV, TSV or plain list, or only its `head`, whose last row may be cut.

    A first line of numbers is data, unless it counts 0, 1, 2, … as pandas writes it.
    """
    with path.open("rb") as file:
        first = file.readline(1 << 20).decode("utf-8", "replace").strip("\r\n\ufeff")
    separator = "\t" if "\t" in first else ","
    cells = [cell.strip().strip('"') for cell in first.split(separator)]
    counted = len(cells) > 1 and cells == [str(i) for i in range(len(cells))]
    plain = len(cells) == 1 and path.suffix.lower() not in (".csv", ".tsv")
    headless = plain or (all(_is_number(cell) for cell in cells) and not counted)
    parsing = pa.csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    if head is not None:
        parsing.invalid_row_handler = lambda row: "skip"
    naming = pa.csv.ReadOptions(autogenerate_column_names=headless)

    def read(options: pa.csv.ConvertOptions | None = None) -> pa.Table:
        content = pa.OSFile(os.fsencode(path)) if head is None else pa.BufferReader(head)
        return pa.csv.read_csv(content, naming, parsing, options)

    table = read()
    # 007 is a name, not a number: a column with leading zeros stays text.
    times = Counter(table.schema.names)
    whole = [c.name for c in table.schema if pa.types.is_integer(c.type) and times[c.name] == 1]
    if whole:
        types = dict.fromkeys(whole, pa.string())
        texts = read(pa.csv.ConvertOptions(column_types=types, include_columns=whole))
        for name in whole:
            if pc.any(pc.match_substring_regex(texts[name], "^0[0-9]")).as_py():
                table = table.set_column(table.schema.get_field_index(name), name, texts[name])
    return table


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _families(table: TableFile, columns: list[ColumnField]) -> list[FamilyField]:
    """For each prefix, the columns that are numbered 0, 1, 2, … without a gap.

    A column of integers is a member too: a float column of a CSV can contain whole numbers only.
    """
    found: dict[str, dict[int, ColumnField]] = {}
    for column in columns:
        numbered = _NUMBERED.fullmatch(column.name)
        if numbered and len(column.shape) == 1:
            prefix = numbered[1][:-1] if numbered[1].endswith(("_", ".")) else numbered[1]
            found.setdefault(prefix, {})[int(numbered[2])] = column
    families = []
    for prefix, members in found.items():
        ordered = [members[i] for i in range(len(members)) if i in members]
        floats = any(member.dtype.kind == "f" for member in ordered)
        if len(ordered) == len(members) > 1 and (floats or table.kind == "csv"):
            families.append(FamilyField(table, prefix, ordered))
    return families


def _numpy_type(kind: pa.DataType) -> np.dtype:
    """NumPy's type of a column: 'U' for text; object for types that are not supported."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if str(kind) in _TEXT:
        return np.dtype("U")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return pa.array([], kind).to_numpy(zero_copy_only=False).dtype
    return np.dtype(object)


class ColumnField(Field):
    """One column: numbers, text, or one list of numbers per row."""

    def __init__(self, table: TableFile, name: str, kind: pa.DataType) -> None:
        if isinstance(kind, pa.BaseExtensionType):  # such as fixed_shape_tensor
            kind = kind.storage_type
        self.table, self.kind, self.exact = table, kind, table.exact
        fixed = pa.types.is_fixed_size_list(kind)
        self.width_shows_late = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        shape: tuple[int, ...] = (table.n,)
        if fixed or self.width_shows_late:
            shape, kind = (table.n, kind.list_size if fixed else 0), kind.value_type
        super().__init__(table.path, name, shape, _numpy_type(kind))

    def header_width(self) -> int:
        """The length of the lists: the mean of a parquet row group, or that of the first list."""
        if not self.width_shows_late:
            return super().width()
        with arrow_errors(self.where):
            if self.table.kind == "parquet":
                return self.table.column_sizes.get(self.name, (0, 0.0))[0]
            for batch in self.table.ipc_batches(self.table.schema.get_field_index(self.name)):
                if batch.num_rows:
                    batch.validate()  # the offsets of a damaged batch can be missing
                    first, second = batch.column(0).offsets[:2].to_pylist()
                    return int(second - first)
        return 0

    def id_bytes(self) -> float:
        found = self.table.column_sizes.get(self.name) if self.is_text else None
        # A parquet page stores the length of each text in 4 bytes.
        return max(found[1] - 4, 1.0) if found else super().id_bytes()

    def buffer_bytes(self, by_rows: bool) -> int:
        return self.table.buffer_bytes([self.name])

    def width(self) -> int:
        return self._late_width if self.width_shows_late else super().width()

    @cached_property
    def _late_width(self) -> int:
        """The length of the first list."""
        batches = self.table.batches([self.name], 1024)
        batch = next((batch for _, batch in batches if batch.num_rows), None)
        first = None if batch is None else batch.column(self.name)[0]
        return len(first) if first is not None and first.is_valid else 0

    def blocks(self) -> Iterator[NDArray[Any]]:
        width = self.width() if len(self.shape) == 2 else None
        for start, values in self._batches(BATCH_BYTES // (4 * max(1, width or 1))):
            if width is None:
                yield values.to_numpy(zero_copy_only=False)
            else:
                yield list_matrix(values, width, self.where, start)

    def arrays(self) -> Iterator[pa.Array]:
        for _, batch in self.table.batches([self.name], 1 << 20):
            yield _decoded(batch, self.name)

    def column(self, nulls: bool = False) -> pa.Array:
        pieces = list(self.arrays() if nulls else (v for _, v in self._batches(1 << 20)))
        return pa.concat_arrays(pieces) if pieces else pa.array([], self.kind)

    def _batches(self, rows: int) -> Iterator[tuple[int, pa.Array]]:
        """(first row, values without nulls) of batches of about `rows` rows."""
        for start, batch in self.table.batches([self.name], rows):
            yield start, _values(batch, self.name, self.where, start)


class FamilyField(Field):
    """Columns numbered 0, 1, 2, … read as one matrix."""

    def __init__(self, table: TableFile, prefix: str, members: list[ColumnField]) -> None:
        numbers = [m.dtype for m in members if m.is_number]
        dtype = np.result_type(*numbers) if numbers else np.dtype(object)
        if dtype.kind in "iub" and table.kind == "csv":  # whole numbers in text can be floats
            dtype = np.dtype(np.float64)
        super().__init__(table.path, prefix, (table.n, len(members)), dtype)
        self.table, self.names, self.exact = table, [m.name for m in members], table.exact
        odd = next((m for m in members if not m.is_number), None)
        if odd is not None:
            self.refusal = DataError(f"{odd.where}: holds {odd.kind}, not numbers")

    def buffer_bytes(self, by_rows: bool) -> int:
        return self.table.buffer_bytes(self.names if by_rows else self.names[:COLUMNS_AT_A_TIME])

    def blocks(self) -> Iterator[NDArray[Any]]:
        return (block for _, block in self._blocks(self.names))

    def pieces(self) -> Iterator[tuple[int, int, NDArray[Any]]]:
        # A parquet reader holds pages and a dictionary for each column that it reads together.
        for column in range(0, len(self.names), COLUMNS_AT_A_TIME):
            for start, block in self._blocks(self.names[column : column + COLUMNS_AT_A_TIME]):
                yield start, column, block

    def _blocks(self, names: list[str]) -> Iterator[tuple[int, NDArray[Any]]]:
        rows = BATCH_BYTES // (self.dtype.itemsize * len(names))
        for start, batch in self.table.batches(names, rows):
            block = np.empty((batch.num_rows, len(names)), self.dtype)
            for c, name in enumerate(names):
                values = _values(batch, name, f"{self.path}: {name}", start)
                block[:, c] = values.to_numpy(zero_copy_only=False)
            yield start, block


def _values(batch: pa.RecordBatch, name: str, where: str, start: int) -> pa.Array:
    """A column of a batch, decoded; nulls are refused."""
    values = _decoded(batch, name)
    refuse_nulls(values, where, start)
    return values


def _decoded(batch: pa.RecordBatch, name: str) -> pa.Array:
    """A column of a batch, decoded; nulls are kept."""
    values = batch.column(name)  # by name, because parquet also reads "name.part"
    return _plain(values.storage if isinstance(values, pa.ExtensionArray) else values)


def _plain(values: pa.Array) -> pa.Array:
    """Dictionary-encoded values, decoded; a dictionary can contain a null."""
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def list_matrix(lists: pa.Array, width: int, where: str, start: int = 0) -> NDArray[Any]:
    """Lists of `width` numbers as a matrix, without a copy; others and nulls are refused.

    `where` and `start` are the place of the first list, for messages.
    """
    if not pa.types.is_fixed_size_list(lists.type):
        lengths = np.diff(lists.offsets.to_numpy())
        ragged = lengths != width
        if ragged.any():
            row = int(np.argmax(ragged))
            says = f"row {start + row} has {lengths[row]} values, the rows before have {width}"
            raise DataError(f"{where}: {says}")
    values = _plain(lists.flatten())
    if values.null_count:
        row, column = divmod(first_null(values), width)
        raise DataError(f"{where}: row {start + row}, column {column} is null")
    return values.to_numpy(zero_copy_only=False).reshape(len(lists), width)


def refuse_nulls(values: pa.Array | pa.ChunkedArray, where: str, start: int = 0) -> None:
    """Refuse a null; `where` and `start` as of :func:`list_matrix`."""
    if values.null_count:
        raise DataError(f"{where}: row {start + first_null(values)} is null")


def first_null(values: pa.Array | pa.ChunkedArray) -> int:
    """The place of the first null."""
    return int(pc.index(values.is_null(), True).as_py())
