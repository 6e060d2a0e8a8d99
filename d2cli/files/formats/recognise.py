"""The format of a file, found from its first bytes; of formats that have none, from its ending."""

from __future__ import annotations

import zlib
from pathlib import Path, PurePath
from typing import Literal
from zipfile import ZipFile

from d2cli.errors import DataError
from d2cli.files.formats.arrays.raw_vectors import VECTOR_ENDINGS
from d2cli.files.formats.arrays.zarr_stores import STORE_NAMES, is_store
from d2cli.files.formats.choice import Wanted
from d2cli.files.formats.foreign import (
    refuse_archive,
    refuse_foreign,
    refuse_foreign_text,
    unknown_binary,
)
from d2cli.files.formats.text_tables import GZIP_MAGIC, UTF16_MARKS, text_head
from d2cli.files.regular import system_errors

Format = Literal[
    "npy", "npy-gz", "npz", "safetensors", "vectors", "hdf5", "zarr", "parquet", "orc", "arrow",
    "arrow-stream", "csv", "jsonl",
]  # fmt: skip

_NPY, _HDF5 = b"\x93NUMPY", b"\x89HDF\r\n\x1a\n"
#: The first bytes of each format; CSV is any other text.
_MAGIC: dict[bytes, Format] = {
    _NPY: "npy", b"PK\x03\x04": "npz", b"PK\x05\x06": "npz", b"PAR1": "parquet",
    b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow-stream", b"ORC": "orc", _HDF5: "hdf5",
}  # fmt: skip
#: File name endings that count as data in a folder.
ENDINGS = {
    ".npy", ".npz", ".parquet", ".pq", ".arrow", ".feather", ".ipc", ".csv", ".tsv", ".txt",
    ".jsonl", ".ndjson", ".safetensors", ".h5", ".hdf5", ".zarr", ".orc", *VECTOR_ENDINGS,
}  # fmt: skip
#: Bytes of a file that tell its format; where HDF5 can begin, besides at 0.
_HEAD, _USER_BLOCKS = 4096, (512, 1024, 2048)


def is_data_name(name: str) -> bool:
    """Whether a file in a folder counts as data, by its name; gzip'd files too."""
    name = name.lower().removesuffix(".gz")
    return not name.startswith((".", "_")) and PurePath(name).suffix in ENDINGS


def sniff(path: Path, wanted: Wanted | None = None) -> Format:
    """The format of a file.

    Args:
        path: a file, or a folder that is a zarr store.
        wanted: what was asked for, for hints on files that are not read.

    Raises:
        DataError: if the file is empty, unreadable, or of a format that is not read.
    """
    if is_store(path):
        return "zarr"
    with system_errors(path), path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise DataError(f"{path}: the file is empty")
    if path.suffix.lower() in VECTOR_ENDINGS:  # their first bytes can be those of any format
        return "vectors"
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            return _archive(path, wanted) if kind == "npz" else kind
    if _is_safetensors(head, path):
        return "safetensors"
    if any(head[at:].startswith(_HDF5) for at in _USER_BLOCKS) and not head.startswith(b"MATLAB"):
        return "hdf5"
    if head.startswith(GZIP_MAGIC):
        try:
            head = text_head(path, _HEAD)
        except zlib.error as error:
            raise DataError(f"{path}: cannot be read as gzip ({error})") from None
        if head.startswith(_NPY):
            return "npy-gz"
    if head.startswith(UTF16_MARKS):
        head = head[: len(head) // 2 * 2].decode("utf-16", "replace").encode()
    return _text_or_foreign(path, head, wanted)


def _text_or_foreign(path: Path, head: bytes, wanted: Wanted | None) -> Format:
    """The format of text; anything else is refused."""
    if b"\0" not in head and _is_text(head):
        if any(byte < ord("\t") for byte in head[:16]):  # such as Avro
            refuse_foreign(path, head, wanted)
        refuse_foreign_text(path, head, wanted)
        return "jsonl" if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else "csv"
    refuse_foreign(path, head, wanted)
    if b"\0" not in head:  # text in another coding, or damaged; its reader says so
        return "csv"
    raise unknown_binary(path, wanted)


def _is_text(head: bytes) -> bool:
    """Whether bytes are UTF-8, a character cut at the end aside."""
    try:
        head[: max(len(head) - 3, 1)].decode()
    except UnicodeDecodeError as error:
        return error.end >= len(head) - 6
    return True


def _archive(path: Path, wanted: Wanted | None) -> Format:
    """The format of a zip archive: a zarr store, or the arrays of NumPy."""
    try:
        with ZipFile(path) as archive:
            inside = {PurePath(name) for name in archive.namelist()}
        if any(name.name in STORE_NAMES and len(name.parts) == 1 for name in inside):
            return "zarr"
    except Exception:  # the reader of .npz says what is wrong
        return "npz"
    refuse_archive(path, wanted)
    return "npz"


def _is_safetensors(head: bytes, path: Path) -> bool:
    """Whether a JSON object follows its length, which must fit into the file."""
    length = int.from_bytes(head[:8], "little")
    fits = 2 <= length <= path.stat().st_size - 8
    return (head[8:9] == b"{" and fits) or path.suffix.lower() == ".safetensors"
