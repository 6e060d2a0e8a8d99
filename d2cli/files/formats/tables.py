"""Tables: parquet, ORC, Arrow files and streams, text. Columns become fields."""

from __future__ import annotations

import math
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
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.arrow_types import (
    first_lengths,
    leaf,
    leaves,
    list_matrix,
    numbers,
    numpy_type,
    one_array,
    plain,
    row_type,
    type_name,
)
from d2cli.files.formats.fields import Field
from d2cli.files.formats.recognise import Format
from d2cli.files.formats.text_tables import TEXT_KINDS, read_text_table, unpacked_size
from d2cli.files.regular import reason_of

#: Bytes of a batch of rows, approximately. Arrow uses several times as much memory for a batch,
#: and a batch that fits into the processor's cache is decoded faster.
BATCH_BYTES = 1 << 22
#: The number of columns of one matrix that are decoded together.
COLUMNS_AT_A_TIME = 16
#: The prefix and the number of a column name such as ``emb_767``.
_NUMBERED = re.compile(r"((?:.*[^0-9])?0*?)([1-9][0-9]{0,8}|0)", re.DOTALL)


@contextmanager
def arrow_errors(where: object) -> Iterator[None]:
    """Turn an Arrow error into a DataError of one line that names the place."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, MemoryError) as error:
        raise DataError(f"{where}: cannot be read ({reason_of(error, 300)})") from None


class TableFile:
    """One open table: its `schema` and `n` rows; batches of its columns on request.

    Opening reads headers only, except of text, which has none: CSV and JSON Lines are read whole,
    or if `skim` is true only at the beginning; then `n` is not `exact`.
    """

    def __init__(self, path: Path, kind: Format, *, skim: bool = False) -> None:
        self.path, self.kind, self.exact = path, kind, True
        self.refused: dict[str, str] = {}  # why a column is not read, by its name
        with arrow_errors(path):
            if kind == "parquet":
                # An open file, because Arrow's own paths must be UTF-8.
                source = pa.OSFile(os.fsencode(path))
                options = {"pre_buffer": False, "buffer_size": 1 << 20}
                self._parquet = pa.parquet.ParquetFile(source, **options)
                self.schema, self.n = self._parquet.schema_arrow, self._parquet.metadata.num_rows
            elif kind == "orc":
                from pyarrow import orc  # noqa: PLC0415, only needed here

                self._orc = orc.ORCFile(pa.OSFile(os.fsencode(path)))
                self.schema, self.n = self._orc.schema, self._orc.nrows
            elif kind in TEXT_KINDS:
                self._open_text(skim)
            else:
                self._open_arrow()
        if self.n < 0:
            raise DataError(f"{path}: claims to have {self.n:,} rows")

    def _open_text(self, skim: bool) -> None:
        found = read_text_table(self.path, self.kind, skim)
        self.table, self.n, self.exact = found.table, found.rows, found.exact
        self.schema, self.refused = found.table.schema, found.refused

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
            elif self.kind == "orc":
                found = self._stripes(names, rows)
            else:
                found = iter(self.table.select(names).to_batches(rows))
            for batch in found:
                if self.kind.startswith("arrow"):  # Arrow can crash on a damaged batch
                    batch.validate(full=True)
                yield start, batch
                start += batch.num_rows

    def _stripes(self, names: list[str], rows: int) -> Iterator[pa.RecordBatch]:
        """Columns of an ORC file, in batches of at most `rows` rows of one stripe."""
        for stripe in range(self._orc.nstripes):
            batch = self._orc.read_stripe(stripe, columns=names)
            yield from (batch.slice(at, rows) for at in range(0, batch.num_rows, rows))

    def fields(self) -> list[Field]:
        """Every column, each field of a struct, and each family of numbered columns as one matrix.

        The name of a field of a struct is ``column.field``.
        """
        with arrow_errors(self.path):
            times = Counter(self.schema.names)  # Arrow cannot select a repeated name
            once = [column for column in self.schema if times[column.name] == 1]
            columns = [ColumnField(self, *found) for column in once for found in leaves(column)]
            # Where a column has the name of a field of a struct, the column is meant.
            columns.sort(key=lambda column: len(column.inside) > 1)
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
        names = {".".join(path) for column in self.schema for path, _ in leaves(column)}
        sizes: dict[str, tuple[int, float]] = {}
        for column in range(group.num_columns if group else 0):
            chunk = group.column(column)
            name = chunk.path_in_schema  # of a list "name.list.element"
            while name not in names and "." in name:
                name = name.rpartition(".")[0]
            size = chunk.total_uncompressed_size / group.num_rows
            # A null counts as a value: then the width is not known from the header.
            width, odd = divmod(chunk.num_values, group.num_rows)
            nulls = chunk.statistics.null_count if chunk.is_stats_set else 0
            sizes[name] = 0 if odd or nulls else width, size
        return sizes

    def buffer_bytes(self, names: list[str]) -> int:
        """Bytes of the buffers while these columns are read together.

        As measured, a parquet column takes 6 times its size (pages, dictionaries, a batch, memory
        that the allocator keeps), a large one at most 56 MiB, and many at most 4 MiB each.
        """
        if self.kind in TEXT_KINDS:  # the whole table, and its integers as text
            return 3 * unpacked_size(self.path)
        if self.kind == "orc":  # a stripe, packed and unpacked
            return min(5 * self.path.stat().st_size, 256 << 20)
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


def _families(table: TableFile, columns: list[ColumnField]) -> list[FamilyField]:
    """For each prefix, the columns that are numbered 0, 1, 2, … without a gap.

    A column of integers is a member too: a float column of a CSV can contain whole numbers only.
    """
    found: dict[str, dict[int, ColumnField]] = {}
    for column in columns:
        numbered = _NUMBERED.fullmatch(column.name)
        if numbered and len(column.shape) == len(column.inside) == 1:
            prefix = numbered[1][:-1] if numbered[1].endswith(("_", ".")) else numbered[1]
            found.setdefault(prefix, {})[int(numbered[2])] = column
    families = []
    for prefix, members in found.items():
        ordered = [members[i] for i in range(len(members)) if i in members]
        numbers = any(member.is_number for member in ordered)
        if len(ordered) == len(members) > 1 and (numbers or table.kind in TEXT_KINDS):
            families.append(FamilyField(table, prefix, ordered))
    return families


class ColumnField(Field):
    """One column: numbers, text, or one list of numbers per row.

    A list of lists of equal lengths is one list of all their numbers.
    """

    from_table = True

    def __init__(self, table: TableFile, inside: tuple[str, ...], kind: pa.DataType) -> None:
        """`inside`: the name of the column; of a field of a struct, the way to it."""
        found = row_type(kind)
        self.table, self.kind, self.exact, self.inside = table, kind, table.exact, inside
        self.lengths, self.width_shows_late = found.lengths, found.late
        self.axes_of_row = found.axes
        shape: tuple[int, ...] = (table.n,)
        if found.lengths:
            shape = (table.n, math.prod(found.lengths))
        stored = numpy_type(found.value)
        self.integers = bool(found.lengths) and stored.kind in "iub"
        self.text_numbers = table.kind in TEXT_KINDS
        loose = self.integers and self.text_numbers  # whole numbers in text can be floats
        dtype = np.dtype(np.float64) if loose else stored
        super().__init__(table.path, ".".join(inside), shape, dtype)
        self.stored_dtype = stored
        if self.name in table.refused:
            self.refusal = DataError(f"{self.where}: {table.refused[self.name]}")
        #: What has to be read to have this column: of a struct in parquet, only this field.
        self.reads = self.name if table.kind == "parquet" else inside[0]

    @property
    def type_name(self) -> str:
        return type_name(self.kind)

    def header_width(self) -> int:
        """The length of the lists: from a parquet row group, or that of the first list."""
        if not self.width_shows_late:
            return super().width()
        if self.table.kind == "parquet":
            with arrow_errors(self.where):
                width = self.table.column_sizes.get(self.name, (0, 0.0))[0]
            return width or self.width()
        return self.width()

    def id_bytes(self) -> float:
        found = self.table.column_sizes.get(self.name) if self.is_text else None
        # A parquet page stores the length of each text in 4 bytes.
        return max(found[1] - 4, 1.0) if found else super().id_bytes()

    def buffer_bytes(self, by_rows: bool) -> int:
        return self.table.buffer_bytes([self.name])

    def width(self) -> int:
        return math.prod(self._lengths) if self.width_shows_late else super().width()

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        """The lengths of the lists, from the outside in; those of the first row that is not null.

        Raises:
            DataError: if all rows are null.
        """
        if not self.width_shows_late:
            return self.lengths
        for values in self._beginning():
            with arrow_errors(self.where):
                found = first_lengths(values, len(self.lengths))
            if found is not None:
                return found
        if self.n:
            raise DataError(f"{self.where}: every row is null")
        return self.lengths

    def _beginning(self) -> Iterator[pa.Array]:
        """The column in pieces, for a caller that needs the first; unpacks no other column."""
        if not self.table.kind.startswith("arrow"):
            yield from (values for _, values in self.pieces_of_arrow(1024))
            return
        with arrow_errors(self.where):
            for batch in self.table.ipc_batches(self.table.schema.get_field_index(self.inside[0])):
                batch.validate(
                    full=len(self.lengths) > 1
                )  # offsets of a damaged batch can be wrong
                yield leaf(batch, self.inside)

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Rows in blocks; a null is NaN, and a list that is null is a row of NaN."""
        width = self.width() if self.lengths else 1
        for start, values in self.pieces_of_arrow(BATCH_BYTES // (4 * max(1, width))):
            with arrow_errors(self.where):
                if self.lengths:
                    yield list_matrix(values, self._lengths, self.where, start, nulls=True)
                else:
                    yield numbers(plain(values))

    def arrays(self) -> Iterator[pa.Array]:
        for _, values in self.pieces_of_arrow(1 << 20):
            with arrow_errors(self.where):
                yield plain(values)

    def column(self, nulls: bool = False) -> pa.Array:
        return one_array(self.arrays(), self.where, self.kind, nulls)

    def pieces_of_arrow(self, rows: int) -> Iterator[tuple[int, pa.Array]]:
        """(first row, values as they are stored) of batches of about `rows` rows."""
        for start, batch in self.table.batches([self.reads], rows):
            with arrow_errors(self.where):
                yield start, leaf(batch, self.inside)


class FamilyField(Field):
    """Columns numbered 0, 1, 2, … read as one matrix."""

    from_table = True

    def __init__(self, table: TableFile, prefix: str, members: list[ColumnField]) -> None:
        types = [m.dtype for m in members if m.is_number]
        dtype = np.result_type(*types) if types else np.dtype(object)
        self.text_numbers = table.kind in TEXT_KINDS
        self.integers = dtype.kind in "iub" and not self.text_numbers
        stored = dtype
        if dtype.kind in "iub":  # whole numbers in text can be floats, and a null is NaN
            dtype = np.result_type(np.float32, dtype)
        super().__init__(table.path, prefix, (table.n, len(members)), dtype)
        self.stored_dtype = stored
        self.table, self.names, self.exact = table, [m.name for m in members], table.exact
        self._kind = type_name(members[0].kind)
        odd = next((m for m in members if not m.is_number), None)
        if odd is not None:
            self.refusal = DataError(f"{odd.where}: holds {odd.type_name}, not numbers")

    @property
    def type_name(self) -> str:
        return f"{len(self.names)} columns of {self._kind}"

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
                with arrow_errors(f"{self.path}: {name}"):
                    block[:, c] = numbers(plain(batch.column(name)))
            yield start, block
