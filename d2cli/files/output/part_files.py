"""Parts of a search in files, one file a part, which a later run of the same build finds again.

A file is a line of JSON (name, type, shape and offset of each array, and their checksum) and the
arrays. It is written under another name first. Arrays are read, not mapped, so that their pages
do not count as memory of this process.

Several processes, on several machines that see the folder, may write parts and read those of each
other. A copy of a store that another process gets finds what is in the folder.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import shlex
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.store import Arrays, PartStore
from d2cli.errors import OutputError
from d2cli.files.output.atomic import naming
from d2cli.files.raw.numbers import read_into

#: What to do if they cannot be written.
WORK_DIR = "--work-dir names another folder for what does not fit in memory"
#: The ending of a file that is not complete.
_HALF = ".new"
#: Bytes of the line of JSON, filled with spaces.
_HEAD = 2048
#: Bytes that are checked at a time.
_CHUNK = 1 << 22


class _Place(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int


class _Opened(NamedTuple):
    """A part that is open for reading."""

    path: Path
    handle: int
    places: dict[str, _Place]

    def read(self, key: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """The rows start … stop of an array."""
        place = self.places[key]
        start, stop, _ = slice(start, stop).indices(place.shape[0])
        array = np.empty((max(0, stop - start), *place.shape[1:]), place.dtype)
        row = math.prod(place.shape[1:]) * place.dtype.itemsize
        read_into(self.handle, array, place.offset + start * row, self.path)
        return array


def _no_preparation() -> None:
    """Nothing is done before a part is written."""


class PartFiles(PartStore):
    """Parts in the files of a folder, which is made with the first of them.

    Parts that an earlier run left are checked when they are first used, others are not.

    Attributes:
        resumed: whether an earlier run has left parts.
    """

    def __init__(
        self, folder: Path, room: int, prepare: Callable[[], None] = _no_preparation
    ) -> None:
        """Find the parts of an earlier run; `prepare` is called before each part is written."""
        super().__init__()
        self.folder, self.room, self._prepare = folder, room, prepare
        self._unproven = set(self._found())
        self.resumed = False
        with suppress(OSError):
            for path in folder.iterdir():
                if path.suffix == _HALF:
                    path.unlink()  # of a process that was killed
                else:
                    self.resumed = True

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; the preparation is a matter of this one."""
        return {**vars(self), "_prepare": _no_preparation}

    def has(self, name: str, part: int = 0) -> bool:
        path = self._path(name, part)
        if (name, part) in self._unproven:
            self._unproven.discard((name, part))
            if not _is_whole(path):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                return False
        return path.is_file()

    def parts(self, name: str) -> list[int]:
        # A network file system may say for some time that a file is missing that it has not found
        # before. What it lists is up to date.
        listed = [part for other, part in self._found() if other == name]
        bad = {p for p in listed if (name, p) in self._unproven and not self.has(name, p)}
        return sorted({*listed} - bad)

    def put(self, name: str, part: int = 0, /, **arrays: NDArray[Any]) -> None:
        path = self._path(name, part)
        plain = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        head, offset, checksum = {}, _HEAD, 0
        for key, array in plain.items():
            head[key] = [array.dtype.str, array.shape, offset]
            offset += array.nbytes
            checksum = zlib.crc32(array.reshape(-1).view(np.uint8).data, checksum)
        line = json.dumps({"arrays": head, "size": offset, "crc32": checksum}).encode()
        # A name of its own: the same task may run twice at a time, on two machines.
        half = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_HALF}")
        with naming(self.folder, WORK_DIR):
            try:
                self._prepare()
                self.folder.mkdir(parents=True, exist_ok=True)
                with half.open("wb") as file:
                    file.write(line.ljust(_HEAD - 1) + b"\n")
                    for array in plain.values():
                        file.write(array.reshape(-1).view(np.uint8).data)
                os.replace(half, path)
            except OSError:
                with suppress(OSError):
                    half.unlink(missing_ok=True)
                raise
        self._unproven.discard((name, part))

    def get(self, name: str, part: int, key: str, start: int = 0, stop: int | None = None) -> Any:
        with self._opened(name, part) as opened:
            return opened.read(key, start, stop)

    def whole(self, name: str, part: int = 0) -> Arrays:
        with self._opened(name, part) as opened:
            return {key: opened.read(key) for key in opened.places}

    def drop(self, name: str, part: int = 0) -> None:
        self._unproven.discard((name, part))
        with suppress(OSError):
            self._path(name, part).unlink(missing_ok=True)

    def names(self) -> set[str]:
        return {name for name, _ in self._found()}

    def forget(self, *names: str) -> None:
        for name, part in list(self._found()):
            if name in names:
                self.drop(name, part)

    def child(self, name: str) -> PartStore:
        """A store in a folder of this one, with what an earlier run left there."""
        assert self.room is not None
        return PartFiles(self.folder / f"{name}.parts", self.room, self._prepare)

    def end(self) -> None:
        self._unproven.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def state(self) -> Arrays:
        return {}

    def restore(self, state: Arrays) -> None:
        """Parts are where they were."""

    def _found(self) -> Iterator[tuple[str, int]]:
        """The names and numbers of the parts in the folder."""
        with suppress(OSError):
            for file in os.listdir(self.folder):
                name, _, part = file.rpartition("-")
                if name and part.isdecimal():
                    yield name, int(part)

    @contextmanager
    def _opened(self, name: str, part: int) -> Iterator[_Opened]:
        path = self._path(name, part)
        if (name, part) in self._unproven and not self.has(name, part):
            raise self._missing(path)
        handle = self._open(path)
        try:
            try:
                places = _places(json.loads(os.pread(handle, _HEAD, 0)))
            except (OSError, ValueError, KeyError, TypeError):
                raise self._missing(path) from None
            yield _Opened(path, handle, places)
        finally:
            os.close(handle)

    def _open(self, path: Path) -> int:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY)
        # A network file system may remember for some time that a file was missing. It looks again
        # once the folder is listed.
        with suppress(OSError):
            os.listdir(self.folder)
        try:
            return os.open(path, os.O_RDONLY)
        except OSError:
            raise self._missing(path) from None

    def _missing(self, path: Path) -> OutputError:
        return OutputError(
            f"{path}: is missing or damaged",
            f"rm -r {shlex.quote(str(self.folder))}, and run again: the work is done again",
        )

    def _path(self, name: str, part: int) -> Path:
        return self.folder / f"{name}-{part}"


def _places(head: dict[str, Any]) -> dict[str, _Place]:
    """Where the arrays of a file are, from its first line."""
    return {
        key: _Place(np.dtype(kind), tuple(shape), offset)
        for key, (kind, shape, offset) in head["arrays"].items()
    }


def _is_whole(path: Path) -> bool:
    """Whether a file is as it was written, by its checksum."""
    try:
        with path.open("rb") as file:
            head = json.loads(file.read(_HEAD))
            _places(head)
            if os.fstat(file.fileno()).st_size != head["size"]:
                return False
            checksum = 0
            while piece := file.read(_CHUNK):
                checksum = zlib.crc32(piece, checksum)
            return bool(checksum == head["crc32"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
