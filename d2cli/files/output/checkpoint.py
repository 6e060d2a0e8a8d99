"""Checkpoints of a long build, in a hidden folder beside its output.

``.d2prune-OUTPUT-BUILD.checkpoint`` holds one file per stage, replaced as a whole, that ends with a
checksum. OUTPUT is a hash of the output's name (of its path, if the folder is not beside the
output), BUILD a hash of everything that shapes the result.
A checkpoint of other data, options or versions therefore has another name and is never loaded.

The checkpoint of another build of the same output is removed when this build saves its first state,
or ends without an error. Until then it stays, so that a mistyped option does not cost a long build
its checkpoint. The run that writes locks the file ``lock`` in the folder; a second run of the same
build keeps no checkpoint. If a checkpoint cannot be written, the build continues with a notice.

A build that does not fit in memory keeps its parts in the same folder (:class:`PartFiles`), so that
it continues from every finished part. A second run of the same build then has a folder of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import NONE, Checkpoint, State
from d2cli.engine.store import PartStore
from d2cli.files.output.atomic import naming, resolve
from d2cli.files.output.part_files import WORK_DIR, PartFiles
from d2cli.files.output.temporary import lock, opened

#: Bytes that are written at a time.
_CHUNK = 1 << 22

Tell = Callable[[str], None]


def unheard(text: str) -> None:
    """Ignore a notice."""


class PartsFolder(NamedTuple):
    """Where the parts of a build are kept, and how many bytes of them may be in memory."""

    folder: Path
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
        self._parent = final.parent if spill is None else spill.folder
        if resolve(self._parent) != final.parent:
            name = str(final)  # the folder may be that of several outputs of one name
        self._output = _digest(os.fsencode(name))
        self._lasting = seconds is not None
        self.folder = self._named(_digest(_json(build)) if self._lasting else secrets.token_hex(8))
        self._seconds, self._tell = math.inf if seconds is None else seconds, tell
        self._next, self._told, self._off = time.monotonic() + self._seconds, False, False
        self._claim_at = self._next
        self._lock: int | None = None
        self._saved: set[str] = set()
        self._parts: PartFiles | None = None

    def _named(self, build: str) -> Path:
        return self._parent / f".d2prune-{self._output}-{build}.checkpoint"

    def __enter__(self) -> FileCheckpoint:
        return self

    def __exit__(self, _: object, error: object, trace: object) -> None:
        if error is None:
            self._clear_others()
        if self.folder.is_dir() and (error is None or not self._lasting) and self._own():
            shutil.rmtree(self.folder, ignore_errors=True)
        elif self._parts is not None and self._parts.folder.is_dir():
            self._tell(f"finished work is kept in {self.folder}: the same command continues it")
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def store(self) -> PartStore:
        if self._spill is None:
            return PartStore()
        if self._parts is None:
            with naming(self._parent, WORK_DIR):
                self.folder.mkdir(exist_ok=True)
                if not self._own():  # a run of the same build is alive
                    self._lasting = False  # no run finds this name again
                    self.folder = self._named(secrets.token_hex(8))
                    self.folder.mkdir()
                    self._own()
            # No stage has a name with a dot.
            self._parts = PartFiles(self.folder / "all.parts", self._spill.room, self._claim)
            if self._parts.resumed:
                self._tell_resumed()
        return self._parts

    def _claim(self) -> None:
        """Called before a part is written: after some time, this build replaces others."""
        if time.monotonic() >= self._claim_at:
            self._claim_at = math.inf
            self._clear_others()

    def _tell_resumed(self) -> None:
        if not self._told:
            self._tell(f"resumed from the checkpoint of an unfinished run ({self.folder})")
            self._told = True

    def load(self, stage: str, part: int = 0) -> State | None:
        if stage in self._saved:  # the file is of this run, of an earlier part
            return None
        try:
            with (self.folder / stage).open("rb") as file:
                state = _read(file, part)
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            return None  # missing or damaged: the work is done again
        if state is not None:
            self._tell_resumed()
        return state

    def save(self, stage: str, state: Callable[[], State], part: int = 0) -> None:
        if self._off or time.monotonic() < self._next:
            return
        began, half = time.monotonic(), self.folder / f"{stage}.tmp"
        try:
            self.folder.mkdir(exist_ok=True)
            if not self._own():
                self._off = True  # another run of the same build keeps the checkpoint
                return
            with half.open("wb") as file:
                _write(file, state(), part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(half, self.folder / stage)
            if not self._saved:
                self._clear_others()
            self._saved.add(stage)
        except OSError as error:
            self._off = True
            with suppress(OSError):
                half.unlink(missing_ok=True)
            self._tell(f"no checkpoint can be written ({error.strerror}): a kill loses the work")
        now = time.monotonic()
        # Saving takes at most 5 % of the time.
        self._next = now + max(self._seconds, 20 * (now - began) if self._seconds else 0.0)

    def _clear_others(self) -> None:
        """Remove checkpoints of other builds of the same output, unless their runs are alive."""
        with suppress(OSError):
            pattern = f".d2prune-{self._output}-{'[0-9a-f]' * 16}.checkpoint"
            for other in set(self.folder.parent.glob(pattern)) - {self.folder}:
                with suppress(OSError), opened(other / "lock", os.O_CREAT | os.O_RDWR) as handle:
                    if lock(handle, wait=False):
                        shutil.rmtree(other, ignore_errors=True)

    def _own(self) -> bool:
        """Whether this run holds the lock of the folder; takes the lock if it is free."""
        if self._lock is None:
            handle = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR, 0o666)
            with suppress(OSError):  # without locks, assume that no other run is alive
                if not lock(handle, wait=False):
                    os.close(handle)
                    return False
            self._lock = handle
        return True


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
def _write(file: BinaryIO, state: State, part: int) -> None:
    arrays = {name: np.ascontiguousarray(array) for name, array in state.items()}
    head = {name: [array.dtype.str, np.shape(state[name])] for name, array in arrays.items()}
    digest = hashlib.blake2b()
    line = _json({"part": part, "arrays": head}) + b"\n"
    digest.update(line)
    file.write(line)
    for name in sorted(arrays):
        content = arrays[name].reshape(-1).view(np.uint8)
        for start in range(0, len(content), _CHUNK):
            # A copy, because other threads may change the array.
            piece = content[start : start + _CHUNK].tobytes()
            digest.update(piece)
            file.write(piece)
    file.write(digest.digest())


def _read(file: BufferedReader, part: int) -> State | None:
    """The state in a file, or None if it is of another part. Raises ValueError if damaged."""
    digest = hashlib.blake2b()
    line = file.readline(1 << 20)
    digest.update(line)
    head = json.loads(line)
    if head["part"] != part:
        return None
    state: State = {}
    left = os.fstat(file.fileno()).st_size
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
