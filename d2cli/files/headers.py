"""What inputs say of themselves in their headers: rows, width, type, size. No data are read.

The one exception is CSV, which has no header that says how many rows there are: its beginning is
read, and the rest is taken to be alike.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from d2cli.errors import DataError
from d2cli.files.choice import Role
from d2cli.files.formats.fields import BLOCK_BYTES, Field
from d2cli.files.formats.numpy_files import NpyField, NpzField, npy_fields, npz_fields
from d2cli.files.formats.tables import (
    BATCH_BYTES,
    COLUMNS_AT_A_TIME,
    FamilyField,
    TableFile,
    arrow_errors,
    read_csv,
)
from d2cli.files.paths import Format, check_regular, sniff
from d2cli.files.provenance.record import KEY
from d2cli.files.sources import open_source

#: Of a CSV, so much is read.
_CSV_HEAD = 1 << 18
#: Bytes of an id where only its type is known.
_USUAL_ID = 16.0
#: Arrow decodes a parquet column in so many times its size, and of a large one holds so many bytes
#: at a time (pages, dictionaries, a batch, and what its allocator has kept); as measured.
_DECODING_TIMES, _DECODING_BYTES, _DECODING_A_COLUMN = 6, 56 << 20, 4 << 20


@dataclass(frozen=True)
class Header:
    """One input option, as its files' headers describe it.

    Attributes:
        option: the option's name, without dashes.
        role: what its rows are.
        name: what to call the input.
        paths: its files.
        size: bytes of all files on disk.
        rows: how many; counted from the headers, or (`exact` false) estimated.
        width: numbers a row; 1 for scores and labels.
        dtype: NumPy's type of the numbers.
        mapped: whether the data is memory-mapped as it lies.
        plain: whether it lies in C order and native byte order.
        largest_mapped: bytes of the largest single ``.npy``.
        reading: bytes of buffers while it is read.
        ids: whether it carries ids, and the mean bytes of one; None where there are none.
        text_ids: whether they are text.
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
    ids: float | None
    text_ids: bool

    @property
    def type_name(self) -> str:
        """The type of the numbers, for people."""
        return "text" if self.dtype.kind in "US" else str(self.dtype)


class TableHeader(TableFile):
    """A table of which only the header is read."""

    exact = True

    def _open(self) -> None:
        self._id_lengths: dict[str, float] = {}
        self._widths: dict[str, int] = {}
        self._sizes: dict[str, float] = {}
        self._reading = BATCH_BYTES
        if self.kind == "parquet":
            self._open_parquet()
        elif self.kind == "csv":
            self._open_csv()
        else:
            self._open_arrow()

    def _open_parquet(self) -> None:
        footer = pa.parquet.ParquetFile(pa.OSFile(os.fsencode(self.path)))
        about = footer.metadata
        self.schema, self.n = footer.schema_arrow, about.num_rows
        groups = (about.row_group(i) for i in range(about.num_row_groups))
        group = next((group for group in groups if group.num_rows), None)
        if group is None:
            return
        names = set(self.schema.names)
        # The first group with rows speaks for all; a file may have thousands.
        for column in range(group.num_columns):
            chunk = group.column(column)
            name = chunk.path_in_schema  # of a list "name.list.element"
            while name not in names and "." in name:
                name = name.rpartition(".")[0]
            self._widths[name] = chunk.num_values // group.num_rows
            self._id_lengths[name] = chunk.total_uncompressed_size / group.num_rows
            self._sizes[name] = self._id_lengths[name] * self.n

    def _open_arrow(self) -> None:
        source = pa.memory_map(os.fsencode(self.path))
        if self.kind == "arrow":
            from pyarrow import dataset  # noqa: PLC0415, only needed here

            self.schema = pa.ipc.open_file(source).schema
            self.n = dataset.IpcFileFormat().make_fragment(source).count_rows()
        else:
            reader = pa.ipc.open_stream(source)
            self.schema, self.n = reader.schema, sum(batch.num_rows for batch in reader)

    def _open_csv(self) -> None:
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            head = file.read(_CSV_HEAD)
        self.exact = len(head) == size
        if not self.exact:
            head = head[: head.rfind(b"\n") + 1] or head
        table = read_csv(self.path, head)
        self.schema = table.schema
        self.n = table.num_rows if self.exact else round(table.num_rows * size / len(head))
        self._reading = 3 * size  # the whole table, and its whole numbers as text

    def width_of(self, field: Field) -> int:
        """How many numbers a row has."""
        if len(field.shape) < 2:
            return 1
        if field.shape[1]:
            return field.shape[1]
        if self.kind == "parquet":
            return self._widths.get(field.name, 0)
        with arrow_errors(field.where):
            return self._first_length(field.name)

    def _first_length(self, name: str) -> int:
        """The length of the first list of an Arrow column: two of its offsets."""
        index = self.schema.get_field_index(name)
        options = pa.ipc.IpcReadOptions(included_fields=[index])
        source = pa.memory_map(os.fsencode(self.path))
        if self.kind == "arrow":
            reader = pa.ipc.open_file(source, options=options)
            batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
        else:
            batches = iter(pa.ipc.open_stream(source, options=options))
        for batch in batches:
            if batch.num_rows:
                batch.validate()  # of a damaged one there may be no offsets
                first, second = batch.column(0).offsets[:2].to_pylist()
                return int(second - first)
        return 0

    def reading(self, names: list[str], together: int) -> int:
        """Bytes of buffers while these columns are read, so many of them together."""
        if self.kind != "parquet":
            return self._reading
        size = sum(self._sizes.get(name, 0.0) for name in names[:together])
        most = max(_DECODING_BYTES, _DECODING_A_COLUMN * len(names[:together]))
        return min(round(_DECODING_TIMES * size), most)

    def id_length(self, name: str) -> float:
        """Mean bytes of one id."""
        return self._id_lengths.get(name, _USUAL_ID)


def header_fields(path: Path, kind: Format) -> list[Field]:
    """Every field of one file, from its header."""
    if kind == "npy":
        return npy_fields(path)
    if kind == "npz":
        return npz_fields(path)
    return TableHeader(path, kind).fields()


def read_header(
    arguments: list[str],
    role: Role,
    option: str,
    key: str | None = None,
    id_column: str | None = None,
    *,
    key_option: str | None = "",
) -> Header:
    """The header of an input; arguments and errors as in :func:`~d2cli.files.sources.open_source`."""
    source = open_source(
        arguments, role, option, key, id_column, key_option=key_option, fields_of=header_fields
    )
    parts = source.parts
    widths = {_width(part) for part in parts if part.n}
    if len(widths) > 1:
        raise DataError(f"{source.name}: files have rows of {sorted(widths)} values")
    numbers = [part.dtype for part in parts if part.is_number]
    alone = parts[0] if len(parts) == 1 and isinstance(parts[0], NpyField) else None
    mapped = [part for part in parts if isinstance(part, NpyField)]
    return Header(
        option=option,
        role=role,
        name=source.name,
        paths=source.paths,
        size=sum(path.stat().st_size for path in source.paths),
        rows=source.n,
        exact=all(table.exact for table in map(_table, parts) if table),
        width=widths.pop(),
        dtype=np.result_type(*numbers) if numbers else parts[0].dtype,
        mapped=alone is not None,
        plain=alone is None or alone.is_plain,
        largest_mapped=max(
            (part.n * _width(part) * part.dtype.itemsize for part in mapped), default=0
        ),
        reading=max((_reading(part, role) for part in parts), default=0),
        ids=_id_length(source.id_parts[0]) if source.id_parts else None,
        text_ids=bool(source.id_parts) and source.id_parts[0].is_text,
    )


def read_epochs_header(
    arguments: list[str], option: str, key: str | None, id_column: str | None
) -> tuple[Header, int]:
    """The header of a model's outputs, its rows and width those of one epoch; how many epochs."""
    header = read_header(arguments, "outputs", option, key, id_column)
    source = open_source(arguments, "outputs", option, key, id_column, fields_of=header_fields)
    epochs = sum(part.shape[0] if len(part.shape) == 3 else 1 for part in source.parts)
    first = source.parts[0]
    rows, width = first.shape[-2], header.width // (first.shape[1] if len(first.shape) == 3 else 1)
    return replace(header, rows=rows, width=width), epochs


def _table(part: Field) -> TableHeader | None:
    table = getattr(part, "table", None)
    return table if isinstance(table, TableHeader) else None


def _width(part: Field) -> int:
    table = _table(part)
    return part.width() if table is None else table.width_of(part)


def _reading(part: Field, role: Role) -> int:
    table = _table(part)
    if isinstance(part, FamilyField) and table is not None:  # a model's outputs are read by rows
        together = len(part.names) if role == "outputs" else COLUMNS_AT_A_TIME
        return table.reading(part.names, together)
    if table is not None:
        return table.reading([part.name], 1)
    return BLOCK_BYTES if isinstance(part, NpzField) else 0


def _id_length(part: Field) -> float:
    table = _table(part)
    if not part.is_text:
        return 8.0
    return _USUAL_ID if table is None else table.id_length(part.name)


@dataclass(frozen=True)
class GraphHeader:
    """A graph file, as its header describes it.

    Attributes:
        path, size: the file, and its bytes.
        rows, n_neighbors: n and k.
        method: how it was built.
        ids: the mean bytes of one id; None where there are none.
        text_ids: whether they are text.
    """

    path: Path
    size: int
    rows: int
    n_neighbors: int
    method: str
    ids: float | None
    text_ids: bool

    @property
    def paths(self) -> list[Path]:
        """The one file."""
        return [self.path]


def read_graph_header(path: str) -> GraphHeader:
    """The header of a graph file.

    Raises:
        DataError: for what is none; the run itself looks closer.
    """
    file = Path(path)
    check_regular(file)
    fault = DataError(
        f"{file}: is not a graph", "make one with: d2prune graph --emb EMB --out GRAPH.arrow"
    )
    if sniff(file) != "arrow":
        raise fault
    table = TableHeader(file, "arrow")
    with arrow_errors(file):
        kinds = {column.name: column.type for column in table.schema}
    lists = kinds.get("neighbors")
    try:
        built = json.loads((table.schema.metadata or {})[KEY])["graph"]
        method = str(built.get("method", "unknown"))
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        raise fault from None
    if lists is None or not pa.types.is_fixed_size_list(lists):
        raise fault
    size, k = file.stat().st_size, lists.list_size
    text = "id" in kinds and not pa.types.is_integer(kinds["id"])
    beyond = max(0.0, size - table.n * k * 8.0) / max(1, table.n)
    ids = (beyond if text else 8.0) if "id" in kinds else None
    return GraphHeader(file, size, table.n, k, method, ids, text)
