"""The headers of what only a page is made from: lists of texts, and selections."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from d2cli.files.headers import Header, TableHeader, header_fields
from d2cli.files.paths import check_regular, sniff
from d2cli.files.selection_read import selection_provenance

#: Of plain text, so much is read.
LINES_HEAD = 1 << 18


def read_lines_header(paths: list[Path], option: str) -> Header:
    """The header of plain text, one value a line: counted in the beginning of each file."""
    rows, exact, size = 0.0, True, 0
    for path in paths:
        check_regular(path)
        length = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(LINES_HEAD)
        lines = head.count(b"\n") + (bool(head) and not head.endswith(b"\n"))
        whole = len(head) == length
        rows += lines if whole else lines * length / len(head)
        exact, size = exact and whole, size + length
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} … ({len(paths)} files)"
    return Header(
        option, "texts", name, paths, size, round(rows), exact, 1, np.dtype("U"), mapped=False,
        plain=True, largest_mapped=0, reading=LINES_HEAD, ids=None, text_ids=False,
    )  # fmt: skip


def read_selection_header(path: Path) -> tuple[Header, int | None]:
    """The header of what ``select`` wrote, and how many rows are kept where that is known.

    A mask without its provenance does not say how many.
    """
    check_regular(path)
    found = selection_provenance(path)
    field = header_fields(path, sniff(path))[0]
    table = getattr(field, "table", None)
    kept = found.get("counts", {}).get("kept")
    if not isinstance(kept, int):
        kept = None if field.dtype.kind == "b" else field.n
    exact = not isinstance(table, TableHeader) or table.exact
    header = Header(
        "selected", "rows", str(path), [path], path.stat().st_size, field.n,
        exact, 1, field.dtype, mapped=False, plain=True, largest_mapped=0, reading=0, ids=None,
        text_ids=False,
    )  # fmt: skip
    return header, kept
