"""A work folder at an address: an object store, through fsspec.

Object stores have no locks. A run that uses a folder keeps the object ``lock`` in it, and writes
the time into it every few seconds. A run is taken for dead

- after an hour without a new time, by a run that would remove what it has left;
- if the object does not change for a minute, by a run that waits, because it wants to continue the
  same build.

A run that is suspended, or cut off from the store, for that long may lose its folder: then it ends
with an error. The bytes of results cannot change, because each part is written whole, and two runs
of one build write the same parts.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from d2cli.errors import D2Error, OutputError
from d2cli.files.locate.copies import INSTALL, CopyPath, is_address, not_installed, without_scheme
from d2cli.files.output.work_folder import WORK_DIR, Bytes, Claim, LocalFolder, WorkFolder
from d2cli.files.raw.numbers import FilePlace, LocalFile, OpenFile, bytes_of, was_cut_off
from d2cli.files.regular import system_errors
from d2cli.runtime import stopping

#: Seconds between two times that a run writes.
_BEAT = 10.0
#: Seconds that a run waits for a new time before it takes the folder of another run of its build.
_WATCH = 60.0
#: Seconds between two looks at the time of another run.
_AGAIN = 0.5
#: Seconds after which a run without a new time is dead. The clocks of machines differ by less.
_DEAD = 3600.0
#: Bytes of one request, unless a file would need more than _REQUESTS.
_BLOCK = 16 << 20
#: The most requests that write one file; S3 allows 10,000.
_REQUESTS = 9_000
#: Bytes that the first read fetches at least, so that a small part takes one request.
_BEGINNING = 1 << 16
_LOCK = "lock"
_TEMPORARY = re.compile(r"\.d2prune-[0-9a-f]{12}\.tmp")


class _Store(NamedTuple):
    """A connected store, and what it calls the folder."""

    store: Any
    root: str

    def path(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root


@dataclass(frozen=True)
class RemoteFolder(WorkFolder):
    """The objects below an address. Each process connects to the store by itself.

    Attributes:
        base: the address that the user gave.
        inside: the names of the folders from there on, each with a slash before it.
    """

    base: str
    inside: str = ""

    def __str__(self) -> str:
        return f"{self.base}{self.inside}"

    def check(self) -> None:
        """Write and remove one small object: nothing else tells whether that is allowed."""
        name = f".d2prune-{secrets.token_hex(6)}.try"
        try:
            self.write(name, [b"d2prune"])
        except OSError as error:
            about = f"{self}: the address for files that do not fit in memory cannot be written"
            raise OutputError(
                f"{about} ({error.strerror})", "name another with --work-dir"
            ) from None
        self.remove([name])

    def child(self, name: str) -> RemoteFolder:
        return RemoteFolder(self.base, f"{self.inside}/{name}")

    def names(self) -> list[str]:
        with suppress(FileNotFoundError), self._errors():
            store, root = self._connected()
            listed = [one.rstrip("/") for one in store.ls(root, detail=False)]
            return [one.rpartition("/")[2] for one in listed if one != root]
        return []

    def has(self, name: str) -> bool:
        with suppress(FileNotFoundError), self._errors():
            there = self._connected()
            return bool(there.store.info(there.path(name))["type"] == "file")
        return False

    def write(
        self, name: str, pieces: Iterable[Bytes], *, lasting: bool = False, size: int = 0
    ) -> None:
        step = max(_BLOCK, size // _REQUESTS)
        blocks = _blocks(pieces, step)
        first, second = next(blocks, b""), next(blocks, None)
        with self._errors():
            there = self._connected()
            path = there.path(name)
            if second is None:
                self._begin(there, lambda: there.store.pipe_file(path, first))
                return
            file = self._begin(there, lambda: there.store.open(path, "wb", block_size=step))
        try:
            for block in chain((first, second), blocks):
                with self._errors():
                    file.write(block)
        except BaseException:
            # Closing would store what there is as if it were the whole.
            with suppress(Exception):
                file.discard()
            with suppress(Exception):
                file.closed = True
            raise
        with self._errors():
            file.close()

    def open(self, name: str) -> OpenFile:
        return _OpenThere(self, name)

    def fetch(self, name: str, start: int, stop: int) -> bytes:
        """Bytes start … stop of a file, or fewer if it ends before."""
        try:
            with self._errors():
                there = self._connected()
                found = bytes(there.store.cat_file(there.path(name), start=start, end=stop))
        except FileNotFoundError:
            raise
        except OSError:
            if start < self.size(name):
                raise
            return b""  # stores refuse a range that begins at the end
        if len(found) > stop - start:
            raise OSError(errno.EIO, "the server sends whole files, not ranges", f"{self}/{name}")
        return found

    def size(self, name: str) -> int:
        """Bytes of a file."""
        with self._errors():
            there = self._connected()
            return int(there.store.info(there.path(name))["size"])

    def remove(self, names: Iterable[str]) -> None:
        with suppress(OSError), self._errors():
            there = self._connected()
            paths = [there.path(name) for name in names]
            try:
                if paths:
                    there.store.rm(paths)
            except FileNotFoundError:  # some stores stop there
                for path in paths:
                    with suppress(FileNotFoundError):
                        there.store.rm([path])

    def clear(self) -> None:
        with suppress(OSError), self._errors():
            store, root = self._connected()
            store.rm(root, recursive=True)

    def claim(self, *, patient: bool = True) -> Claim | None:
        seen = self._time()
        lives = seen is not None and time.time() - seen < _DEAD
        if lives and not patient:
            return None
        until = time.monotonic() + _WATCH
        while lives and time.monotonic() < until:
            stopping.check()
            time.sleep(_AGAIN)
            now = self._time()
            if now is not None and now != seen:
                return None
            lives = now is not None  # else the other run has ended
        return Claim(self, _Beats(self).end)

    def temporary(self) -> Claim:
        for name in self.names():
            if _TEMPORARY.fullmatch(name):
                self.child(name)._clear_if_dead()
        own = self.child(f".d2prune-{secrets.token_hex(6)}.tmp")
        return Claim(own, _Beats(own, clear=True).end)

    def removal(self) -> str:
        return f"remove what is below {self}"

    def _clear_if_dead(self) -> None:
        with suppress(OSError):
            claim = self.claim(patient=False)
            if claim is not None:
                claim.end(clear=True)

    def _time(self) -> float | None:
        """The time that the run with this folder has written last; None: no run has it."""
        for _ in range(3):
            with suppress(ValueError):
                try:
                    return float(self.fetch(_LOCK, 0, 100))
                except FileNotFoundError:
                    return None
            time.sleep(_AGAIN)  # in a file system, it may be half written
        return 0.0

    def _connected(self) -> _Store:
        from fsspec.core import url_to_fs  # noqa: PLC0415, an extra

        store, root = url_to_fs(str(self))
        store.invalidate_cache()  # lists of names: other processes write too
        return _Store(store, root.rstrip("/"))

    def _begin(self, there: _Store, write: Callable[[], Any]) -> Any:
        """Write a file, after its folder is made if the store has folders.

        The folder that the user named must be there: a bucket is not made.
        """
        try:
            return write()
        except FileNotFoundError:
            base = there.root[: len(there.root) - len(self.inside)]
            if not self.inside or not there.store.isdir(base):
                raise
            there.store.makedirs(there.root, exist_ok=True)
            return write()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn any error of fsspec and its stores into an OSError of one line.

        Raises:
            OutputError: if a package is missing.
        """
        try:
            yield
        except D2Error:
            raise
        except ImportError as error:
            says = not_installed(str(self), "reads and writes", error)
            raise OutputError(says, INSTALL) from None
        except Exception as error:  # each store raises its own kinds
            says = " ".join(str(error).split())[:200] or type(error).__name__
            if isinstance(error, FileNotFoundError):
                raise FileNotFoundError(errno.ENOENT, says, str(self)) from None
            raise OSError(errno.EIO, says, str(self)) from None


def work_folder(place: str | Path) -> WorkFolder:
    """The work folder of this path or address.

    Raises:
        OutputError: for a chain of addresses (``simplecache::s3://…``).
    """
    text = without_scheme(str(place))
    if not is_address(text):
        return LocalFolder(Path(text))
    if "::" in text:
        raise OutputError(f"{text}: a chain of addresses cannot be written", WORK_DIR)
    return RemoteFolder(text.rstrip("/"))


def place_of(path: Path) -> FilePlace:
    """The place of an input file, for tasks on other machines too."""
    return CopiedFile(path) if isinstance(path, CopyPath) and path.address else LocalFile(path)


@dataclass(frozen=True)
class CopiedFile:
    """The place of a remote file with a copy on one machine. Other machines read the remote file.

    The copy lasts as long as the object; a pickled one does not keep it.
    """

    path: CopyPath

    def __str__(self) -> str:
        return str(self.path)

    def __reduce__(self) -> tuple[Any, ...]:
        return _copied_file, (os.fspath(self.path), str(self.path))

    def open(self) -> OpenFile:
        """Open the copy if it is here, else the remote file. Raises OSError."""
        with suppress(FileNotFoundError):
            return LocalFile(self.path).open()
        return RemoteFolder(str(self.path)).open("")


def _copied_file(copy: str, address: str) -> CopiedFile:
    return CopiedFile(CopyPath.of(Path(copy), address, None))


class _OpenThere(OpenFile):
    """An object. Nothing is held open, and the first read tells whether it is there."""

    def __init__(self, folder: RemoteFolder, name: str) -> None:
        self._folder, self._name, self._beginning = folder, name, b""
        self._place = f"{folder}/{name}" if name else str(folder)

    def head(self, count: int) -> bytes:
        if not self._beginning:
            self._beginning = self._folder.fetch(self._name, 0, max(count, _BEGINNING))
        return self._beginning[:count]

    def read_into(self, array: NDArray[Any], offset: int) -> None:
        rest = bytes_of(array)
        while rest:
            step = min(len(rest), _BLOCK)
            with system_errors(self._place):
                if offset + step <= _BEGINNING:
                    piece = self.head(_BEGINNING)[offset : offset + step]
                else:
                    piece = self._folder.fetch(self._name, offset, offset + step)
            if not piece:
                raise was_cut_off(self._place)
            rest[: len(piece)] = piece
            rest, offset = rest[len(piece) :], offset + len(piece)

    def size(self) -> int:
        return self._folder.size(self._name)

    def close(self) -> None:
        self._beginning = b""


class _Beats:
    """Writes the time into the lock of a folder, in a thread, until :meth:`end` or exit."""

    def __init__(self, folder: RemoteFolder, *, clear: bool = False) -> None:
        """Write the first time; OSError if that fails. `clear`: the end removes the folder."""
        _write_time(folder)
        ended, self._clear = threading.Event(), [clear]
        thread = threading.Thread(target=_beat, args=(folder, ended), daemon=True)
        self._end = weakref.finalize(self, _finish, folder, ended, thread, self._clear)
        thread.start()

    def end(self, clear: bool) -> None:
        """Write no more; remove the lock, or all that is in the folder."""
        self._clear.append(clear)
        self._end()


def _beat(folder: RemoteFolder, ended: threading.Event) -> None:
    while not ended.wait(_BEAT):
        with suppress(OSError):  # the next time may be written
            _write_time(folder)


def _write_time(folder: RemoteFolder) -> None:
    folder.write(_LOCK, [str(time.time()).encode()])


def _finish(
    folder: RemoteFolder, ended: threading.Event, thread: threading.Thread, clear: list[bool]
) -> None:
    with stopping.shield():  # an exception inside a finalizer is lost and would end it half way
        ended.set()
        if thread is not threading.current_thread():
            thread.join()
        if any(clear):
            folder.clear()
        else:
            folder.remove([_LOCK])


def _blocks(pieces: Iterable[Bytes], size: int) -> Iterator[bytes]:
    """The bytes of all pieces, in blocks of at most `size`."""
    held, count = list[memoryview](), 0
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), size):
            some = view[start : start + size]
            if count + len(some) > size:
                yield b"".join(held)
                held, count = [], 0
            held.append(some)
            count += len(some)
    if held:
        yield b"".join(held)
