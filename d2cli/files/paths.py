"""The files that an argument names, and the format of each, found from its first bytes."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from d2cli.errors import DataError, UsageError

Format = Literal["npy", "npz", "parquet", "arrow", "arrow-stream", "csv"]

#: The first bytes of each format; CSV is any other text.
_MAGIC: dict[bytes, Format] = {
    b"\x93NUMPY": "npy", b"PK\x03\x04": "npz", b"PK\x05\x06": "npz", b"PAR1": "parquet",
    b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow-stream",
}  # fmt: skip
#: File name endings that count as data in a folder.
_ENDINGS = {".npy", ".npz", ".parquet", ".pq", ".arrow", ".feather", ".ipc", ".csv", ".tsv", ".txt"}


def expand(arguments: list[str], option: str) -> list[Path]:
    """The files that the `arguments` of `option` name, those of each argument in natural order.

    Natural order compares numbers by value: shard 2 comes before shard 10. An argument is a path, a
    glob, or a folder, which stands for the data files directly in it; hidden files, names that
    begin with ``_`` and other endings are skipped.

    Raises:
        DataError: if an argument names no file.
        UsageError: if an argument is empty.
    """
    found: list[Path] = []
    for argument in arguments:
        if not argument:  # Path("") would be the current folder
            raise UsageError(f"--{option} is given an empty path")
        path = Path(argument)
        with _system_errors(argument):
            if path.is_dir():
                files = [p for p in path.iterdir() if _is_data(p)]
                if not files:
                    says = f"the folder holds no data files for --{option}"
                    hint = f"data files end in {', '.join(sorted(_ENDINGS))}"
                    raise DataError(f"{argument}: {says}", hint)
            elif not glob.has_magic(argument) or path.exists():
                files = [path]
            else:
                files = [Path(p) for p in _matches(argument) if not Path(p).is_dir()]
                if not files:
                    raise DataError(f"{argument}: no file matches this pattern")
        found.extend(sorted(files, key=natural_key))
    for file in found:
        check_regular(file)
    return found


def _matches(pattern: str) -> set[str]:
    """The matches of a glob. ``**`` does not follow links to folders, which can form a cycle."""
    before, deep, after = pattern.partition("**")
    if not deep or (before and not before.endswith(os.sep)) or after[:1] not in ("", os.sep):
        return set(glob.glob(pattern))
    found: set[str] = set()
    for top in glob.glob(before) if before else [""]:
        for folder, _, _ in os.walk(top or os.curdir):
            inside = os.path.join(top, os.path.relpath(folder, top or os.curdir))
            inside = "" if inside == os.curdir else os.path.normpath(inside)
            rest = after.lstrip(os.sep) or "*"
            found |= _matches(os.path.join(glob.escape(inside), rest))
    return found


@contextmanager
def _system_errors(place: object) -> Iterator[None]:
    """Turn an OSError (no permission, a name too long) into a DataError that names the place."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{place}: {error.strerror}") from None


def natural_key(path: Path) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """A sort key that compares numbers in names by value; ties (1 and 01) by spelling."""
    pieces = re.split(r"(\d+)", str(path))
    return tuple((0, int(p)) if p.isdecimal() else (1, p) for p in pieces if p), str(path)


def _is_data(path: Path) -> bool:
    known = path.suffix.lower() in _ENDINGS and not path.name.startswith((".", "_"))
    return known and path.is_file()


def check_regular(path: Path) -> None:
    """Refuse a missing file, and folders, pipes, sockets and devices."""
    with _system_errors(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            link = f", where the link leads ({os.readlink(path)})" if path.is_symlink() else ""
            raise DataError(f"{path}: no such file or folder{link}") from None
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is not a regular file")


def sniff(path: Path) -> Format:
    """The format of a file, from its first bytes.

    Raises:
        DataError: if the file is empty, unreadable, a pickle, or of an unknown binary format.
    """
    with _system_errors(path), path.open("rb") as file:
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
    if b"\0" in head:
        hint = "if the file was cut off or damaged, make it again"
        raise DataError(f"{path}: is not .npy, .npz, parquet, Arrow or CSV", hint)
    return "csv"
