"""Parts of a search in files, one file a part, which a later run of the same build finds again.

A file is a line of JSON (name, type, shape and offset of each array, and their checksum) and the
arrays. It is written under another name first. Arrays are read, not mapped, so that their pages
do not count as memory of this process.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.store import Arrays, PartStore
from d2cli.errors import OutputError
from d2cli.files.output.atomic import naming
from d2cli.files.raw.numbers import read_numbers

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


class PartFiles(PartStore):
    """Parts in the files of a folder, which is made with the first of them.

    Attributes:
        resumed: whether an earlier run has left parts.
    """

    def __init__(self, folder: Path, room: int, prepare: Callable[[], None] = lambda: None) -> None:
        """Find the parts of an earlier run; `prepare` is called before each part is written."""
        super().__init__()
        self.folder, self.room, self._prepare = folder, room, prepare
        self._known: dict[tuple[str, int], dict[str, _Place]] = {}
        self._unproven: set[tuple[str, int]] = set()
        self.resumed = False
        with suppress(OSError):
            for path in folder.iterdir():
                name, _, part = path.name.rpartition("-")
                if name and part.isdecimal():
                    self._unproven.add((name, int(part)))
                self.resumed |= path.suffix != _HALF

    def has(self, name: str, part: int = 0) -> bool:
        key = (name, part)
        if key in self._unproven:
            self._unproven.discard(key)
            if (found := _read_head(self._path(*key))) is not None:
                self._known[key] = found
        return key in self._known

    def put(self, name: str, part: int = 0, /, **arrays: NDArray[Any]) -> None:
        path = self._path(name, part)
        plain = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
        places, offset, checksum = {}, _HEAD, 0
        for key, array in plain.items():
            places[key] = _Place(array.dtype, array.shape, offset)
            offset += array.nbytes
            checksum = zlib.crc32(array.reshape(-1).view(np.uint8).data, checksum)
        head = {key: [one.dtype.str, one.shape, one.offset] for key, one in places.items()}
        line = json.dumps({"arrays": head, "size": offset, "crc32": checksum}).encode()
        half = path.with_name(f"{path.name}{_HALF}")
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
        self._known[name, part] = places

    def get(self, name: str, part: int, key: str, start: int = 0, stop: int | None = None) -> Any:
        place = self._places(name, part)[key]
        start, stop, _ = slice(start, stop).indices(place.shape[0])
        shape = (max(0, stop - start), *place.shape[1:])
        row = math.prod(place.shape[1:]) * place.dtype.itemsize
        return read_numbers(self._path(name, part), place.dtype, shape, place.offset + start * row)

    def whole(self, name: str, part: int = 0) -> Arrays:
        return {key: self.get(name, part, key) for key in self._places(name, part)}

    def drop(self, name: str, part: int = 0) -> None:
        self._known.pop((name, part), None)
        self._unproven.discard((name, part))
        with suppress(OSError):
            self._path(name, part).unlink(missing_ok=True)

    def keep_only(self, *names: str) -> None:
        for name, part in [*self._known, *self._unproven]:
            if name not in names:
                self.drop(name, part)

    def child(self, name: str) -> PartStore:
        """A store in a folder of this one, with what an earlier run left there."""
        assert self.room is not None
        return PartFiles(self.folder / f"{name}.parts", self.room, self._prepare)

    def end(self) -> None:
        self._known.clear()
        self._unproven.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def state(self) -> Arrays:
        return {}

    def restore(self, state: Arrays) -> None:
        """Parts are where they were."""

    def _places(self, name: str, part: int) -> dict[str, _Place]:
        if not self.has(name, part):
            raise OutputError(
                f"{self._path(name, part)}: is missing or damaged",
                f"rm -r {shlex.quote(str(self.folder))}, and run again: the work is done again",
            )
        return self._known[name, part]

    def _path(self, name: str, part: int) -> Path:
        return self.folder / f"{name}-{part}"


def _read_head(path: Path) -> dict[str, _Place] | None:
    """Where the arrays of a file are; None if it is damaged."""
    try:
        with path.open("rb") as file:
            head = json.loads(file.read(_HEAD))
            if os.fstat(file.fileno()).st_size != head["size"]:
                return None
            checksum = 0
            while piece := file.read(_CHUNK):
                checksum = zlib.crc32(piece, checksum)
            if checksum != head["crc32"]:
                return None
            return {
                key: _Place(np.dtype(kind), tuple(shape), offset)
                for key, (kind, shape, offset) in head["arrays"].items()
            }
    except (OSError, ValueError, KeyError, TypeError):
        return None
