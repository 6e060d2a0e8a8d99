"""The format of a file, found from its first bytes."""

from __future__ import annotations

import zlib
from pathlib import Path, PurePath
from typing import Literal

from d2cli.errors import DataError
from d2cli.files.formats.text_tables import GZIP_MAGIC, UTF16_MARKS, text_head
from d2cli.files.regular import system_errors

Format = Literal["npy", "npz", "parquet", "arrow", "arrow-stream", "csv", "jsonl"]

#: The first bytes of each format; CSV is any other text.
_MAGIC: dict[bytes, Format] = {
    b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"PK\x05\x06": "npz", b"PAR1": "parquet",
    b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow-stream",
}  # fmt: skip
#: File name endings that count as data in a folder.
ENDINGS = {
    ".npy", ".npz", ".parquet", ".pq", ".arrow", ".feather", ".ipc", ".csv", ".tsv", ".txt",
    ".jsonl", ".ndjson",
}  # fmt: skip


def is_data_name(name: str) -> bool:
    """Whether a file in a folder counts as data, by its name; gzip'd files too."""
    name = name.lower().removesuffix(".gz")
    return not name.startswith((".", "_")) and PurePath(name).suffix in ENDINGS


def sniff(path: Path) -> Format:
    """The format of a file, from its first bytes.

    Raises:
        DataError: if the file is empty, unreadable, a pickle, or of an unknown binary format.
    """
    with system_errors(path), path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise DataError(f"{path}: the file is empty")
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return kind
    if head[:1] == b"\x80" and len(head) > 1 and head[1] <= 5:
        raise DataError(
            f"{path}: is a pickle; pickles are not read",
            "unpickling can run any code; convert the file in Python: "
            f"import numpy; d = numpy.load({str(path)!r}, allow_pickle=True); "
            "numpy.save('scores.npy', numpy.asarray(d['el2n']))",
        )
    if head.startswith(b"FEA1"):
        raise DataError(f"{path}: is Feather version 1", "write it again as Feather version 2")
    if head.startswith(GZIP_MAGIC):
        try:
            head = text_head(path, 4096)
        except zlib.error as error:
            raise DataError(f"{path}: cannot be read as gzip ({error})") from None
    if head.startswith(UTF16_MARKS):
        head = head[: len(head) // 2 * 2].decode("utf-16", "replace").encode()
    if b"\0" in head:
        hint = "if the file was cut off or damaged, make it again"
        raise DataError(f"{path}: is not .npy, .npz, parquet, Arrow or CSV", hint)
    return "jsonl" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "csv"
