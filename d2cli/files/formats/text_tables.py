"""Tables in text: CSV, TSV and plain lists, read whole into memory."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

#: The formats whose numbers have no type: a column of floats can contain whole numbers only.
TEXT_KINDS = ("csv",)


def read_csv(path: Path, head: bytes | None) -> pa.Table:
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
