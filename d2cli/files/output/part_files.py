"""Parts in files, one file a part, which a later run of the same build finds again.

A file is a line of JSON (name, type, shape and offset of each array, and their checksum) and the
arrays. It is written as a whole (:class:`d2cli.files.output.work_folder.WorkFolder`). Arrays are
read, not mapped, so that their pages do not count as memory of this process.

Several processes, on several machines that see the folder, may write parts and read those of each
other. A copy of a store that another process gets finds what is in the folder.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.store import Arrays, PartStore
from d2cli.errors import DataError, OutputError
from d2cli.files.output.atomic import naming, reason_of
from d2cli.files.output.work_folder import WORK_DIR, Bytes, WorkFolder
from d2cli.files.raw.numbers import OpenFile, bytes_of

#: Bytes of the line of JSON, filled with spaces.
_HEAD = 2048
#: Errors of the system where there is no file.
_NO_FILE = (FileNotFoundError, IsADirectoryError)
#: Bytes that are checked at a time.
_CHUNK = 1 << 22


class _Place(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int


class _Opened(NamedTuple):
    """A part that is open for reading."""

    file: OpenFile
    places: dict[str, _Place]

    def read(self, key: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """The rows start … stop of an array."""
        place = self.places[key]
        start, stop, _ = slice(start, stop).indices(place.shape[0])
        array = np.empty((max(0, stop - start), *place.shape[1:]), place.dtype)
        row = math.prod(place.shape[1:]) * place.dtype.itemsize
        self.file.read_into(array, place.offset + start * row)
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
        self, folder: WorkFolder, room: int, prepare: Callable[[], None] = _no_preparation
    ) -> None:
        """Find the parts of an earlier run; `prepare` is called before each part is written."""
        super().__init__()
        self.folder, self.room, self._prepare = folder, room, prepare
        with self._reading():
            names = folder.names()
        self.resumed = bool(names)
        self._unproven = set(_parts_in(names))
        folder.tidy()

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs; the preparation is a matter of this one."""
        return {**vars(self), "_prepare": _no_preparation}

    def has(self, name: str, part: int = 0) -> bool:
        file = _file_of(name, part)
        with self._reading():
            there = self.folder.has(file)
            if (name, part) in self._unproven:
                self._unproven.discard((name, part))
                if there and not self._is_whole(file):
                    self.folder.remove([file])
                    return False
            return there

    def parts(self, name: str) -> list[int]:
        # A network file system may say for some time that a file is missing that it has not found
        # before. What it lists is up to date.
        listed = [part for other, part in self._found() if other == name]
        bad = {p for p in listed if (name, p) in self._unproven and not self.has(name, p)}
        return sorted({*listed} - bad)

    def put(self, name: str, part: int = 0, /, **arrays: NDArray[Any]) -> None:
        plain = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        head, offset, checksum = {}, _HEAD, 0
        for key, array in plain.items():
            head[key] = [array.dtype.str, array.shape, offset]
            offset += array.nbytes
            checksum = zlib.crc32(bytes_of(array), checksum)
        line = json.dumps({"arrays": head, "size": offset, "crc32": checksum}).encode()
        pieces: list[Bytes] = [line.ljust(_HEAD - 1) + b"\n", *map(bytes_of, plain.values())]
        with naming(self.folder, WORK_DIR):
            self._prepare()
            self.folder.write(_file_of(name, part), pieces, size=offset)
        self._unproven.discard((name, part))

    def get(self, name: str, part: int, key: str, start: int = 0, stop: int | None = None) -> Any:
        with self._opened(name, part) as opened:
            return opened.read(key, start, stop)

    def some(self, name: str, part: int, /, **bounds: tuple[int, int]) -> Arrays:
        with self._opened(name, part) as opened:
            return {key: opened.read(key, *place) for key, place in bounds.items()}

    def whole(self, name: str, part: int = 0) -> Arrays:
        with self._opened(name, part) as opened:
            return {key: opened.read(key) for key in opened.places}

    def drop(self, name: str, part: int = 0) -> None:
        self._unproven.discard((name, part))
        self.folder.remove([_file_of(name, part)])

    def names(self) -> set[str]:
        return {name for name, _ in self._found()}

    def forget(self, *names: str) -> None:
        gone = {(name, part) for name, part in self._found() if name in names}
        self._unproven -= gone
        self.folder.remove([_file_of(*one) for one in gone])

    def child(self, name: str) -> PartStore:
        """A store in a folder of this one, with what an earlier run left there."""
        assert self.room is not None
        return PartFiles(self.folder.child(f"{name}.parts"), self.room, self._prepare)

    def end(self) -> None:
        self._unproven.clear()
        self.folder.clear()

    def state(self) -> Arrays:
        return {}

    def restore(self, state: Arrays) -> None:
        """Parts are where they were."""

    def _found(self) -> Iterator[tuple[str, int]]:
        """The names and numbers of the parts in the folder."""
        with self._reading():
            names = self.folder.names()
        return _parts_in(names)

    @contextmanager
    def _opened(self, name: str, part: int) -> Iterator[_Opened]:
        file = _file_of(name, part)
        if (name, part) in self._unproven and not self.has(name, part):
            raise self._missing(file)
        with ExitStack() as stack:
            try:
                with self._reading():
                    opened = stack.enter_context(self.folder.open(file))
                    places = _places(json.loads(opened.head(_HEAD)))
            except (*_NO_FILE, ValueError, KeyError, TypeError):
                raise self._missing(file) from None
            yield _Opened(opened, places)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn an OSError into an OutputError, unless it says that a file is missing."""
        try:
            yield
        except _NO_FILE:
            raise
        except OSError as error:
            raise OutputError(
                f"{self.folder}: cannot be read ({reason_of(error)})", WORK_DIR
            ) from None

    def _missing(self, file: str) -> OutputError:
        return OutputError(
            f"{self.folder}/{file}: is missing or damaged",
            f"{self.folder.removal()}, and run again: the work is done again",
        )

    def _is_whole(self, file: str) -> bool:
        """Whether a file is as it was written, by its checksum."""
        damaged = (FileNotFoundError, DataError, ValueError, KeyError, TypeError)
        with suppress(*damaged), self.folder.open(file) as opened:
            head, size, checksum = json.loads(opened.head(_HEAD)), opened.size(), 0
            _places(head)
            if size != head["size"]:
                return False
            for start in range(_HEAD, size, _CHUNK):
                piece = np.empty(min(_CHUNK, size - start), np.uint8)
                opened.read_into(piece, start)
                checksum = zlib.crc32(bytes_of(piece), checksum)
            return bool(checksum == head["crc32"])
        return False


def _file_of(name: str, part: int) -> str:
    """The name of the file of a part."""
    return f"{name}-{part}"


def _parts_in(names: list[str]) -> Iterator[tuple[str, int]]:
    """The names and numbers of the parts among files with these names."""
    for file in names:
        name, _, part = file.rpartition("-")
        if name and part.isdecimal():
            yield name, int(part)


def _places(head: dict[str, Any]) -> dict[str, _Place]:
    """Where the arrays of a file are, from its first line."""
    return {
        key: _Place(np.dtype(kind), tuple(shape), offset)
        for key, (kind, shape, offset) in head["arrays"].items()
    }
