"""Tables in text, plain or gzip'd: CSV, JSON Lines, columns of numbers. Read whole into memory."""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json

from d2cli.files.formats.fields import SKIMMED_BYTES

#: The formats whose numbers have no type: a column of floats can contain whole numbers only.
TEXT_KINDS = ("csv", "jsonl")
#: The first bytes of a gzip'd file, and of UTF-16 text.
GZIP_MAGIC = b"\x1f\x8b"
UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: The longest first line that is looked at, and the longest row of JSON Lines, in bytes.
_FIRST_LINE, _JSON_BLOCK = 1 << 20, 1 << 25
#: A number with a decimal comma, and numbers whose comma may separate thousands.
_DECIMAL_COMMA = r"^\s*[+-]?[0-9]*(,[0-9]+)?([eE][+-]?[0-9]+)?\s*$"
_THOUSANDS = r"^\s*[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+\s*$"
_SHORTENED = "NumPy has shortened the list to '...', and its values are lost"
_RUN_OF_SPACE = re.compile(r"\s+")


class TextTable(NamedTuple):
    """A table read from text.

    Attributes:
        table: its rows.
        rows, exact: their number; not exact if only the beginning of the file was read.
        refused: why a column is not read, by its name.
    """

    table: pa.Table
    rows: int
    exact: bool
    refused: dict[str, str]


def read_text_table(path: Path, kind: str, skim: bool = False) -> TextTable:
    """Read a table of a kind of :data:`TEXT_KINDS`; `skim`: only its beginning.

    Raises:
        pa.ArrowException, OSError, ValueError: if it cannot be read.
    """
    text = _Text(path, skim)
    refused: dict[str, str] = {}
    if kind == "jsonl":
        table = _read_json_lines(text)
    elif (skipped := _lines_before_numbers(text.first_lines(), path)) is not None:
        table = _read_numbers(text, skipped)
    else:
        table = _read_csv(text, path)
        table, refused = _with_lists(table)
    rows = table.num_rows if text.share is None else round(table.num_rows / text.share)
    return TextTable(table, rows, text.share is None, refused)


def text_head(path: Path, size: int) -> bytes:
    """The first `size` bytes of a file, unpacked if it is gzip'd.

    Raises:
        zlib.error: if it is gzip'd and damaged.
    """
    with path.open("rb") as file:
        head = file.read(size)
    if head.startswith(GZIP_MAGIC):
        return zlib.decompressobj(31).decompress(head, size)
    return head


def unpacked_size(path: Path) -> int:
    """Bytes of the text of a file, estimated from its beginning if it is gzip'd."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(SKIMMED_BYTES)
    if not head.startswith(GZIP_MAGIC):
        return size
    unpacker = zlib.decompressobj(31)
    unpacked = len(unpacker.decompress(head, 16 * SKIMMED_BYTES))
    return size * unpacked // max(1, len(head) - len(unpacker.unconsumed_tail))


#: Bytes at the end of a file that are searched for empty lines.
_LAST_BYTES = 1 << 12


class _Text:
    """The content of a text file as UTF-8.

    `share` is the part of the file that is read; None: all of it.
    """

    def __init__(self, path: Path, skim: bool) -> None:
        self._path, self._head = path, b""
        self.share: float | None = None
        with path.open("rb") as file:
            self._gzip = file.read(2) == GZIP_MAGIC
        self._utf16 = text_head(path, 4096).startswith(UTF16_MARKS)
        size = path.stat().st_size
        if skim and size > SKIMMED_BYTES:
            self._skim(size)

    def _skim(self, size: int) -> None:
        """Take the whole lines in the first bytes of the file."""
        with self._path.open("rb") as file:
            head = file.read(SKIMMED_BYTES)
        used = len(head)
        if self._gzip:
            unpacker = zlib.decompressobj(31)
            head = unpacker.decompress(head, 16 * SKIMMED_BYTES)
            used -= len(unpacker.unconsumed_tail)
        whole = head
        if self._utf16:
            head = head[: len(head) // 2 * 2].decode("utf-16", "ignore").encode()
        lines = head[: head.rfind(b"\n") + 1] or head
        self.share = used / size * len(lines) / len(head) if whole else None
        self._head = lines

    def open(self) -> Any:
        """The content, for Arrow."""
        if self.share is not None:
            return pa.BufferReader(self._head)
        source = pa.OSFile(os.fsencode(self._path))  # Arrow's own paths must be UTF-8
        source = pa.CompressedInputStream(source, "gzip") if self._gzip else source
        if self._utf16:
            with source:
                return pa.BufferReader(bytes(source.read()).decode("utf-16").encode())
        return source

    def lines(self) -> io.TextIOBase:
        """The content, line by line."""
        if self.share is not None:
            return io.StringIO(self._head.decode("utf-8", "replace"))
        opener: Any = gzip.open if self._gzip else open
        return opener(self._path, "rt", encoding="utf-16" if self._utf16 else "utf-8-sig")

    def empty_end(self) -> int:
        """The number of empty lines at the end, which editors leave."""
        if self.share is not None:
            return 0
        if self._gzip or self._utf16:
            count = 0
            with self.lines() as lines:
                for line in lines:
                    count = 0 if line.strip("\r\n") else count + 1
            return count
        with self._path.open("rb") as file:
            file.seek(max(0, self._path.stat().st_size - _LAST_BYTES))
            tail = file.read().replace(b"\r\n", b"\n")
        return max(0, len(tail) - len(tail.rstrip(b"\n")) - 1)

    def first_lines(self, most: int = 64) -> list[str]:
        """The first lines; the last one may be cut."""
        head = self._head if self.share is not None else text_head(self._path, _FIRST_LINE)
        coding = "utf-16" if self._utf16 and self.share is None else "utf-8"
        return head.decode(coding, "replace").lstrip("\ufeff").splitlines()[:most]


def _lines_before_numbers(lines: list[str], path: Path) -> int | None:
    """The number of comment lines before columns of numbers as ``numpy.savetxt`` writes them.

    None: it is another text. Comments begin with ``#``.
    """
    skipped = next((at for at, line in enumerate(lines) if not line.startswith("#")), None)
    if skipped is None:
        return None
    cells = lines[skipped].split()
    between = "\t" not in lines[skipped].strip() or skipped > 0
    plain = between and len(cells) + skipped > 1 and all(_is_number(cell) for cell in cells)
    return skipped if plain and cells else None


def _read_numbers(text: _Text, skipped: int) -> pa.Table:
    """Columns of numbers with spaces between them."""
    with text.lines() as lines:
        values = np.loadtxt(lines, skiprows=skipped, ndmin=2)
    return pa.table({f"f{c}": values[:, c] for c in range(values.shape[1])})


def _read_json_lines(text: _Text) -> pa.Table:
    """One JSON object a line. A text that looks like a date stays text."""
    reading = pa.json.ReadOptions(block_size=_JSON_BLOCK)
    table = pa.json.read_json(text.open(), reading)
    dates = [f.name for f in table.schema if pa.types.is_temporal(f.type)]
    if dates:
        texts = pa.schema([(name, pa.string()) for name in dates])
        parsing = pa.json.ParseOptions(explicit_schema=texts)
        table = pa.json.read_json(text.open(), reading, parsing)
    return table


def _read_csv(text: _Text, path: Path) -> pa.Table:
    """A CSV, TSV or plain list.

    A first line of numbers is data, unless it counts 0, 1, 2, … as pandas writes it.
    """
    first = next(iter(text.first_lines(1)), "")
    separator = _separator(first)
    cells = [cell.strip().strip('"') for cell in first.split(separator)]
    counted = len(cells) > 1 and cells == [str(i) for i in range(len(cells))]
    ending = path.name.lower().removesuffix(".gz")
    alone = len(cells) == 1 and not ending.endswith((".csv", ".tsv"))
    number = _is_number if separator == "," else _is_number_with_comma
    headless = alone or (all(number(cell) for cell in cells) and not counted)
    # In one column an empty line is a row: writers leave it where a value is null.
    parsing = pa.csv.ParseOptions(
        delimiter=separator, newlines_in_values=True, ignore_empty_lines=len(cells) > 1
    )
    if text.share is not None:
        parsing.invalid_row_handler = lambda row: "skip"
    naming = pa.csv.ReadOptions(autogenerate_column_names=headless)

    def read(options: pa.csv.ConvertOptions | None = None) -> pa.Table:
        return pa.csv.read_csv(text.open(), naming, parsing, options)

    table = read()
    times = Counter(table.schema.names)
    once = [column for column in table.schema if times[column.name] == 1]
    # 007 is a name, not a number: a column with leading zeros stays text. So does a date.
    dates = [column.name for column in once if pa.types.is_temporal(column.type)]
    whole = [column.name for column in once if pa.types.is_integer(column.type)]
    if dates or whole:
        types = dict.fromkeys([*whole, *dates], pa.string())
        texts = read(pa.csv.ConvertOptions(column_types=types, include_columns=list(types)))
        for name in types:
            if name in dates or pc.any(pc.match_substring_regex(texts[name], "^0[0-9]")).as_py():
                table = table.set_column(table.schema.get_field_index(name), name, texts[name])
    if len(cells) == 1:
        table = table.slice(0, table.num_rows - min(text.empty_end(), table.num_rows))
    return table if separator == "," else _with_decimal_commas(table)


def _separator(first: str) -> str:
    """The separator of a CSV with this first line. A semicolon beside commas must part numbers."""
    if "\t" in first:
        return "\t"
    cells = first.split(";")
    if len(cells) > 1 and ("," not in first or all(_is_number_with_comma(c) for c in cells)):
        return ";"
    return ","


def _with_decimal_commas(table: pa.Table) -> pa.Table:
    """Columns of numbers such as ``0,25`` as floats.

    1,250 can be 1250 too. If every number with a comma could be written so, they stay text.
    """
    found = {
        column.name: table[at]
        for at, column in enumerate(table.schema)
        if pa.types.is_string(column.type)
        and pc.all(pc.match_substring_regex(table[at], _DECIMAL_COMMA)).as_py()
    }
    commas = [c.filter(pc.match_substring(c, ",")) for c in found.values()]
    if all(pc.all(pc.match_substring_regex(c, _THOUSANDS)).as_py() for c in commas):
        return table
    for name, column in found.items():
        trimmed = pc.utf8_trim_whitespace(pc.replace_substring(column, ",", "."))
        floats = pc.if_else(pc.equal(trimmed, ""), None, trimmed).cast(pa.float64())
        table = table.set_column(table.schema.get_field_index(name), name, floats)
    return table


def _with_lists(table: pa.Table) -> tuple[pa.Table, dict[str, str]]:
    """Columns whose cells are lists, such as ``[0.1, 0.2]`` or ``[0.1 0.2]``, as lists of floats.

    Returns:
        The table, and why such a column stays text, by its name.
    """
    refused: dict[str, str] = {}
    times = Counter(table.schema.names)
    for at, column in enumerate(table.schema):
        if not pa.types.is_string(column.type) or times[column.name] > 1:
            continue
        cells = pc.utf8_trim_whitespace(table[at].combine_chunks())
        cells = pc.if_else(pc.equal(cells, ""), pa.scalar(None, pa.string()), cells)
        first = next((cell for cell in cells.drop_null().slice(0, 1).to_pylist()), "")
        if not (first.startswith("[") and first.endswith("]")):
            continue
        try:
            table = table.set_column(at, column.name, _lists(cells, "," in first))
        except pa.ArrowInvalid as error:
            refused[column.name] = str(error)
    return table, refused


def _lists(cells: pa.Array, commas: bool) -> pa.Array:
    """Texts of lists as lists of floats.

    Raises:
        pa.ArrowInvalid: if a cell is no list of numbers; the message names the row.
    """
    filled = cells.is_valid().to_numpy(zero_copy_only=False)
    rows, texts = np.flatnonzero(filled), cells.drop_null()
    listed = pc.match_substring_regex(texts, r"(?s)^\[.*\]$").to_numpy(zero_copy_only=False)
    if not listed.all():
        raise pa.ArrowInvalid(f"row {rows[np.argmin(listed)]} is no list in brackets")
    short = pc.match_substring(texts, "...").to_numpy(zero_copy_only=False)
    if short.any():
        raise pa.ArrowInvalid(f"row {rows[np.argmax(short)]}: {_SHORTENED}")
    inner = pc.utf8_trim_whitespace(pc.utf8_slice_codeunits(texts, 1, -1))
    pieces = pc.split_pattern(inner, ",") if commas else pc.utf8_split_whitespace(inner)
    words = pc.utf8_trim_whitespace(pieces.flatten())
    number = pc.match_substring_regex(words, r"^[+-]?([0-9.]+([eE][+-]?[0-9]+)?|nan|inf)$")
    if not pc.all(number, min_count=0).as_py():
        wrong = int(np.argmin(number.to_numpy(zero_copy_only=False)))
        row = int(np.searchsorted(pieces.offsets.to_numpy(), wrong, side="right")) - 1
        raise pa.ArrowInvalid(f"row {rows[row]}: {words[wrong].as_py()[:40]!r} is no number")
    lengths = np.zeros(len(cells), np.int64)
    lengths[filled] = pc.list_value_length(pieces).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    floats = pc.replace_substring_regex(words, r"^\+", "").cast(pa.float64())
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), floats)
    return pc.if_else(cells.is_valid(), lists, pa.scalar(None, lists.type))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_number_with_comma(cell: str) -> bool:
    return _is_number(cell.strip().replace(",", ".", 1))
