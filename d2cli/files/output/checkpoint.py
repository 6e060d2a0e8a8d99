"""Checkpoints of a long build, in a hidden folder beside its output.

``.d2prune-OUTPUT-BUILD.checkpoint`` holds one file per stage, replaced as a whole, that ends with a
checksum. OUTPUT is a hash of the output's name (of its path, if the folder is not beside the
output), BUILD a hash of everything that shapes the result.
A checkpoint of other data, options or versions therefore has another name and is never loaded.

The checkpoint of another build of the same output is removed when this build saves its first state,
or ends without an error. Until then it stays, so that a mistyped option does not cost a long build
its checkpoint. The run that writes claims the folder
(:meth:`d2cli.files.output.work_folder.WorkFolder.claim`); a second run of the same build keeps no
checkpoint. If a checkpoint cannot be written, the build continues with a notice.

A build that does not fit in memory keeps its parts in the same folder (:class:`PartFiles`), so that
it continues from every finished part. A second run of the same build then has a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import NONE, Checkpoint, State
from d2cli.engine.store import PartStore
from d2cli.errors import DataError
from d2cli.files.output.atomic import naming, resolve
from d2cli.files.output.part_files import PartFiles
from d2cli.files.output.work_folder import WORK_DIR, Claim, LocalFolder, WorkFolder
from d2cli.files.raw.numbers import OpenFile

#: Bytes that are written at a time.
_CHUNK = 1 << 22

Tell = Callable[[str], None]


def unheard(text: str) -> None:
    """Ignore a notice."""


class PartsFolder(NamedTuple):
    """Where the parts of a build are kept, and how many bytes of them may be in memory."""

    folder: WorkFolder
    room: int


class FileCheckpoint(Checkpoint):
    """States in files in :attr:`folder`, removed if the context ends without an error."""

    def __init__(
        self, output: str | Path, build: object, seconds: float | None, tell: Tell,
        spill: PartsFolder | None = None,
    ) -> None:  # fmt: skip
        """A checkpoint of the file `output`; states of an earlier run can be loaded at once.

        `build` is everything that shapes the result, as JSON. At least `seconds` lie between two
        saves; None: nothing is found again. `tell` is called with notices.
        """
        final = resolve(Path(output))
        self._spill, name = spill, final.name
        self._parent = LocalFolder(final.parent) if spill is None else spill.folder
        if not self._parent.is_at(final.parent):
            name = str(final)  # the folder may be that of several outputs of one name
        self._output = _digest(os.fsencode(name))
        self._lasting = seconds is not None
        self.folder = self._named(_digest(_json(build)) if self._lasting else secrets.token_hex(8))
        self._seconds, self._tell = math.inf if seconds is None else seconds, tell
        self._next, self._told, self._off = time.monotonic() + self._seconds, False, False
        self._replace_at = self._next
        self._claim: Claim | None = None
        self._saved: set[str] = set()
        self._parts: PartFiles | None = None

    def _named(self, build: str) -> WorkFolder:
        return self._parent.child(f".d2prune-{self._output}-{build}.checkpoint")

    def __enter__(self) -> FileCheckpoint:
        return self

    def __exit__(self, _: object, error: object, trace: object) -> None:
        if error is None:
            self._clear_others()
        clear = False
        with suppress(OSError):
            if (error is None or not self._lasting) and self.folder.names() and self._own():
                clear = True
            elif self._parts is not None and self._parts.folder.names():
                self._tell(f"finished work is kept in {self.folder}: the same command continues it")
        if self._claim is not None:
            self._claim.end(clear=clear)
            self._claim = None

    def store(self) -> PartStore:
        if self._spill is None:
            return PartStore()
        if self._parts is None:
            with naming(self._parent, WORK_DIR):
                if not self._own():  # a run of the same build is alive
                    self._lasting = False  # no run finds this name again
                    self.folder = self._named(secrets.token_hex(8))
                    self._own()
            # No stage has a name with a dot.
            parts = self.folder.child("all.parts")
            self._parts = PartFiles(parts, self._spill.room, self._replace)
            if self._parts.resumed:
                self._tell_resumed()
        return self._parts

    def _replace(self) -> None:
        """Called before a part is written: after some time, this build replaces others."""
        if time.monotonic() >= self._replace_at:
            self._replace_at = math.inf
            self._clear_others()

    def _tell_resumed(self) -> None:
        if not self._told:
            self._tell(f"resumed from the checkpoint of an unfinished run ({self.folder})")
            self._told = True

    def load(self, stage: str, part: int = 0) -> State | None:
        if stage in self._saved:  # the file is of this run, of an earlier part
            return None
        try:
            with self.folder.open(stage) as file:
                state = _read(BufferedReader(_Stream(file)), file.size(), part)
        except (OSError, DataError, ValueError, KeyError, TypeError, EOFError):
            return None  # missing or damaged: the work is done again
        if state is not None:
            self._tell_resumed()
        return state

    def save(self, stage: str, state: Callable[[], State], part: int = 0) -> None:
        if self._off or time.monotonic() < self._next:
            return
        began = time.monotonic()
        try:
            if not self._own():
                self._off = True  # another run of the same build keeps the checkpoint
                return
            self.folder.write(stage, _pieces(state(), part), lasting=True)
            if not self._saved:
                self._clear_others()
            self._saved.add(stage)
        except OSError as error:
            self._off = True
            self._tell(f"no checkpoint can be written ({error.strerror}): a kill loses the work")
        now = time.monotonic()
        # Saving takes at most 5 % of the time.
        self._next = now + max(self._seconds, 20 * (now - began) if self._seconds else 0.0)

    def _clear_others(self) -> None:
        """Remove checkpoints of other builds of the same output, unless their runs are alive."""
        pattern = re.compile(rf"\.d2prune-{self._output}-[0-9a-f]{{16}}\.checkpoint")
        with suppress(OSError):
            for other in map(self._parent.child, filter(pattern.fullmatch, self._parent.names())):
                with suppress(OSError):
                    if other != self.folder and (claim := other.claim(patient=False)):
                        claim.end(clear=True)

    def _own(self) -> bool:
        """Whether the folder belongs to this run; takes it if no other run has it."""
        if self._claim is None:
            self._claim = self.folder.claim()
        return self._claim is not None


def kept(
    output: str | Path, build: object, seconds: float | None, tell: Tell,
    spill: PartsFolder | None = None,
) -> AbstractContextManager[Checkpoint]:  # fmt: skip
    """A :class:`FileCheckpoint` for the block; none is kept if `seconds` and `spill` are None."""
    if seconds is None and spill is None:
        return nullcontext(NONE)
    return FileCheckpoint(output, build, seconds, tell, spill)


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _json(content: object) -> bytes:
    return json.dumps(content, sort_keys=True).encode()


def digest_of(array: NDArray[Any] | None) -> str | None:
    """A hash of an array, for the `build` of a checkpoint."""
    return None if array is None else _digest(np.ascontiguousarray(array).tobytes())


# -- one state as a file: a line of JSON, the arrays, a checksum ----------------------------------
class _Stream(RawIOBase):
    """A file as a stream, for reading from its beginning on."""

    def __init__(self, file: OpenFile) -> None:
        self._file, self._at, self._size = file, 0, file.size()

    def readable(self) -> bool:
        """See :class:`io.RawIOBase`."""
        return True

    def readinto(self, into: Any) -> int:
        """See :class:`io.RawIOBase`."""
        array = np.frombuffer(into, np.uint8)[: self._size - self._at]
        self._file.read_into(array, self._at)
        self._at += array.size
        return array.size


def _pieces(state: State, part: int) -> Iterator[bytes]:
    arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
    head = {name: [array.dtype.str, np.shape(state[name])] for name, array in arrays.items()}
    digest = hashlib.blake2b()
    line = _json({"part": part, "arrays": head}) + b"\n"
    digest.update(line)
    yield line
    for name in sorted(arrays):
        content = arrays[name].reshape(-1).view(np.uint8)
        for start in range(0, len(content), _CHUNK):
            # A copy, because other threads may change the array.
            piece = content[start : start + _CHUNK].tobytes()
            digest.update(piece)
            yield piece
    yield digest.digest()


def _read(file: BufferedReader, left: int, part: int) -> State | None:
    """The state in a file of at most `left` bytes, or None if it is of another part.

    Raises:
        ValueError: if it is damaged.
    """
    digest = hashlib.blake2b()
    line = file.readline(1 << 20)
    digest.update(line)
    head = json.loads(line)
    if head["part"] != part:
        return None
    state: State = {}
    for name, (kind, shape) in sorted(head["arrays"].items()):
        size = math.prod(shape) * np.dtype(kind).itemsize
        if size > left or np.dtype(kind).kind not in "biuf":
            raise ValueError
        content = np.empty(size, np.uint8)
        if file.readinto(content.data) != size:
            raise ValueError
        digest.update(content.data)
        state[name] = content.view(kind).reshape(shape)
    if file.read() != digest.digest():
        raise ValueError
    return state
