"""Tables: parquet, Arrow files and streams, CSV. Columns come out as fields.

A column of lists never becomes Python lists: each batch's flat buffer of values is checked and
reshaped.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from d2cli.files.formats.fields import Field
from d2cli.files.paths import Format

#: Rows are decoded in batches of about so many bytes. Arrow holds several times as much for a
#: batch, and what fits into a processor's cache is decoded sooner.
BATCH_BYTES = 1 << 22
#: Of columns that are one matrix, so many are decoded together.
COLUMNS_AT_A_TIME = 16
#: Parquet's text is binary where its writer did not say what it is.
_TEXT = ("string", "large_string", "string_view", "binary", "large_binary", "binary_view")
#: Digits of a number that columns `emb_0 … emb_767` may end in.
_DIGITS_MOST = 9
#: Of what Arrow says of a file no more is repeated.
_REASON_MOST = 300


@contextmanager
def arrow_errors(where: object) -> Iterator[None]:
    """Turn what Arrow raises into one line that names the place."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{where}: cannot be read ({reason[:_REASON_MOST]})") from None


class TableFile:
    """One open table: its schema and number of rows, and batches of some of its columns."""

    def __init__(self, path: Path, kind: Format) -> None:
        self.path, self.kind = path, kind
        with arrow_errors(path):
            self._open()
        if self.n < 0:
            raise DataError(f"{path}: claims to have {self.n:,} rows")

    def _open(self) -> None:
        if self.kind == "parquet":
            # As bytes: Arrow's own paths are UTF-8, and the system's need not be.
            source = pa.OSFile(os.fsencode(self.path))
            file = pa.parquet.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20)
            self.schema, self.n = file.schema_arrow, file.metadata.num_rows
            self._read: Callable[[list[str], int], Iterator[pa.RecordBatch]] = lambda names, rows: (
                file.iter_batches(batch_size=rows, columns=names)
            )
        elif self.kind == "csv":
            table = read_csv(self.path)
            self.schema, self.n = table.schema, table.num_rows
            self._read = lambda names, rows: iter(table.select(names).to_batches(rows))
        else:
            source = pa.memory_map(os.fsencode(self.path))
            opened = (pa.ipc.open_file if self.kind == "arrow" else pa.ipc.open_stream)(source)
            self.schema = opened.schema
            table = opened.read_all()  # a view of the mapped file, unless that is compressed
            self.n = table.num_rows
            self._read = lambda names, rows: iter(table.select(names).to_batches(rows))

    def batches(self, names: list[str], rows: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """(first row, batch of at most about `rows` rows) over the whole table."""
        start = 0
        with arrow_errors(self.path):
            for batch in self._read(names, max(1, rows)):
                if self.kind.startswith("arrow"):  # a damaged one could make Arrow crash
                    batch.validate(full=True)
                yield start, batch
                start += batch.num_rows

    def fields(self) -> list[Field]:
        """Every column, and every family of numbered columns as one matrix."""
        with arrow_errors(self.path):
            times = Counter(self.schema.names)  # a name that stands twice cannot be asked for
            columns = [
                ColumnField(self, column.name, column.type)
                for column in self.schema
                if times[column.name] == 1
            ]
        if not columns:
            raise DataError(f"{self.path}: has no columns, or only some of the same name")
        return [*columns, *_families(self, columns)]


def read_csv(path: Path, head: bytes | None = None) -> pa.Table:
    """A CSV, TSV or plain list. A first line of numbers is data, unless it counts 0, 1, 2, ….

    Of `head`, the beginning of the file, where that is given; its last row may be cut off.
    """
    with path.open("rb") as file:
        first = file.readline(1 << 20).decode("utf-8", "replace").strip("\r\n\ufeff")
    separator = "\t" if "\t" in first else ","
    cells = [cell.strip().strip('"') for cell in first.split(separator)]
    counted = len(cells) > 1 and cells == [str(i) for i in range(len(cells))]  # by pandas
    headless = (all(_is_number(cell) for cell in cells) and not counted) or (
        len(cells) == 1 and path.suffix.lower() not in (".csv", ".tsv")
    )
    options = {
        "read_options": pa.csv.ReadOptions(autogenerate_column_names=headless),
        # Captions have line breaks.
        "parse_options": pa.csv.ParseOptions(
            delimiter=separator,
            newlines_in_values=True,
            invalid_row_handler=None if head is None else lambda row: "skip",
        ),
    }

    def content() -> pa.NativeFile:
        return pa.OSFile(os.fsencode(path)) if head is None else pa.BufferReader(head)

    table = pa.csv.read_csv(content(), **options)
    times = Counter(table.schema.names)
    whole = [
        column.name
        for column in table.schema
        if pa.types.is_integer(column.type) and times[column.name] == 1
    ]
    if not whole:
        return table
    # 007 is a name and not a number: such columns keep their text.
    as_text = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(whole, pa.string()), include_columns=whole
    )
    texts = pa.csv.read_csv(content(), **options, convert_options=as_text)
    named = {
        name: texts[name]
        for name in whole
        if pc.any(pc.match_substring_regex(texts[name], "^0[0-9]")).as_py()
    }
    if not named:
        return table
    columns = [named.get(name, table.column(i)) for i, name in enumerate(table.schema.names)]
    return pa.table(columns, names=table.schema.names)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _families(table: TableFile, columns: list[ColumnField]) -> list[FamilyField]:
    """The columns numbered 0, 1, 2 and so on, of each prefix.

    A member that is not float still belongs: a column of a CSV may happen to hold whole numbers.
    """
    found: dict[str, dict[int, ColumnField]] = {}
    for column in columns:
        number = _trailing_number(column.name)
        if number and len(number) <= _DIGITS_MOST and len(column.shape) == 1:
            prefix = column.name[: -len(number)]
            prefix = prefix[:-1] if prefix.endswith(("_", ".")) else prefix
            found.setdefault(prefix, {})[int(number)] = column
    families = []
    for prefix, members in found.items():
        ordered = [members[i] for i in range(len(members)) if i in members]
        floats = [m.dtype for m in ordered if m.dtype.kind == "f"]
        if len(ordered) == len(members) > 1 and (floats or table.kind == "csv"):
            families.append(FamilyField(table, prefix, ordered))
    return families


def _trailing_number(name: str) -> str:
    """The digits at the end of a name, from the first that is not 0; one 0 if all are."""
    digits = name[len(name.rstrip("0123456789")) :]
    return digits.lstrip("0") or digits[-1:]


def _numpy_type(kind: pa.DataType) -> np.dtype:
    """NumPy's type for a column's values; text is 'U', anything else that is no number object."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if str(kind) in _TEXT:
        return np.dtype("U")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return pa.array([], kind).to_numpy(zero_copy_only=False).dtype
    return np.dtype(object)


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


class ColumnField(Field):
    """One column: numbers, text, or a list of numbers a row."""

    def __init__(self, table: TableFile, name: str, kind: pa.DataType) -> None:
        if isinstance(kind, pa.BaseExtensionType):  # such as fixed_shape_tensor
            kind = kind.storage_type
        self.table, self.kind = table, kind
        shape: tuple[int, ...] = (table.n,)
        dtype = _numpy_type(kind)
        self._is_list = _is_list(kind)
        self._width: int | None = None
        if self._is_list:
            self.width_shows_late = not pa.types.is_fixed_size_list(kind)
            shape = (table.n, 0 if self.width_shows_late else kind.list_size)
            dtype = _numpy_type(kind.value_type)
        super().__init__(table.path, name, shape, dtype)

    def width(self) -> int:
        if not self.width_shows_late:
            return super().width()
        if self._width is None:
            self._width = 0
            for _, batch in self.table.batches([self.name], 1024):
                if batch.num_rows:
                    first = batch.column(self.name)[0]
                    self._width = len(first) if first.is_valid else 0
                    break
        return self._width

    def blocks(self) -> Iterator[NDArray[Any]]:
        rows = BATCH_BYTES // (4 * max(1, self.width() if self._is_list else 1))
        width = self.width() if self._is_list else 0
        for start, batch in self.table.batches([self.name], rows):
            values = self._values(batch, start)
            if self._is_list:
                yield self._matrix(values, start, width)
            else:
                yield values.to_numpy(zero_copy_only=False)

    def column(self) -> pa.Array:
        """The whole column, text or numbers, as one Arrow array without nulls."""
        pieces = []
        for start, batch in self.table.batches([self.name], 1 << 20):
            pieces.append(self._values(batch, start))
        if not pieces:
            return pa.array([], self.kind)
        whole = pa.chunked_array(pieces).combine_chunks()
        return whole.combine_chunks() if isinstance(whole, pa.ChunkedArray) else whole

    def _values(self, batch: pa.RecordBatch, start: int) -> pa.Array:
        """The column in a batch, spelled out, refusing nulls."""
        values = batch.column(self.name)  # not by place: parquet also reads "name.part"
        if isinstance(values, pa.ExtensionArray):
            values = values.storage
        values = _plain(values)
        _refuse_nulls(values, self.where, start)
        return values

    def _matrix(self, lists: pa.Array, start: int, width: int) -> NDArray[Any]:
        if not pa.types.is_fixed_size_list(self.kind):
            lengths = np.diff(lists.offsets.to_numpy())
            ragged = lengths != width
            if ragged.any():
                row = int(np.argmax(ragged))
                raise DataError(
                    f"{self.where}: row {start + row} has {lengths[row]} values, "
                    f"the rows before it {width}"
                )
        values = _plain(lists.flatten())
        if values.null_count:
            at = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            raise DataError(f"{self.where}: row {start + at // width}, column {at % width} is null")
        return values.to_numpy(zero_copy_only=False).reshape(len(lists), width)


class FamilyField(Field):
    """Columns numbered 0, 1, 2, … read as one matrix."""

    def __init__(self, table: TableFile, prefix: str, members: list[ColumnField]) -> None:
        numbers = [m.dtype for m in members if m.is_number]
        dtype = np.result_type(*numbers) if numbers else np.dtype(object)
        if dtype.kind in "iub" and table.kind == "csv":  # there, whole numbers say no type
            dtype = np.dtype(np.float64)
        super().__init__(table.path, prefix, (table.n, len(members)), dtype)
        self.table, self.names = table, [m.name for m in members]
        odd = next((m for m in members if not m.is_number), None)
        if odd is not None:
            self.refusal = DataError(f"{odd.where}: holds {odd.kind}, and not numbers")

    def blocks(self) -> Iterator[NDArray[Any]]:
        return (block for _, block in self._blocks(self.names))

    def pieces(self) -> Iterator[tuple[int, int, NDArray[Any]]]:
        # For each column that it reads at a time, a parquet reader holds pages and a dictionary.
        for column in range(0, len(self.names), COLUMNS_AT_A_TIME):
            for start, block in self._blocks(self.names[column : column + COLUMNS_AT_A_TIME]):
                yield start, column, block

    def _blocks(self, names: list[str]) -> Iterator[tuple[int, NDArray[Any]]]:
        rows = BATCH_BYTES // (self.dtype.itemsize * len(names))
        for start, batch in self.table.batches(names, rows):
            block = np.empty((batch.num_rows, len(names)), self.dtype)
            for c, name in enumerate(names):
                values = _plain(batch.column(name))
                _refuse_nulls(values, f"{self.path}: {name}", start)
                block[:, c] = values.to_numpy(zero_copy_only=False)
            yield start, block


def _plain(values: pa.Array) -> pa.Array:
    """Dictionary-encoded values, spelled out; a dictionary may hold a null of its own."""
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _refuse_nulls(values: pa.Array, where: str, start: int) -> None:
    if values.null_count:
        row = start + int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
        raise DataError(f"{where}: row {row} is null")
