"""Temporary files beside the outputs, which the next run removes if this one is killed.

Each run holds a lock on a file of its own, ``.d2prune-HOST-RUN.lock``, in every folder that it
writes to; its temporaries there are named after it, ``.d2prune-HOST-RUN-N.tmp``. The kernel drops
the lock with the process however that ends, so whoever can take it knows that the run is dead: no
guessing from process numbers, which are used again and mean nothing in another container. The lock
is on a file that nobody reads or writes, since some network file systems refuse both under a lock.

HOST stands for one boot of one kernel, within which locks are certain. What another left is removed
only if its lock can be taken too and nothing of it was touched for a day: not every network file
system carries locks from host to host. Without locks at all nothing is ever removed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import secrets
import stat
import time
import weakref
from functools import cache
from pathlib import Path

from d2cli.files.provenance.record import fingerprint, is_ours, load_note
from d2cli.runtime import stopping

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"(\.d2prune-([0-9a-f]{8})-[0-9a-f]{12})(\.lock|-\d+\.tmp)")
#: Seconds after which what another host has left, and does not lock, is taken for dead.
_LONG_AGO = 24 * 3600.0


class Lease:
    """The right to temporary files in one folder, until :meth:`end` or the end of the process."""

    def __init__(self, folder: Path) -> None:
        """Raises OSError where the folder cannot be written."""
        self._paths: list[Path] = []
        with stopping.shield():  # there is no lock that nobody removes
            while True:
                self._run = folder / f".d2prune-{_host()}-{secrets.token_hex(6)}"
                path = Path(f"{self._run}.lock")
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
                with contextlib.suppress(OSError):
                    lock(handle, wait=True)
                if _is_at(handle, path):
                    break
                os.close(handle)  # whoever swept here just now came between
            # Also runs when an exception passed by, and at exit.
            self._end = weakref.finalize(self, _remove, path, handle, self._paths)

    def temporary(self) -> Path:
        """A name that nobody else uses; there is no such file yet."""
        path = Path(f"{self._run}-{len(self._paths)}.tmp")
        self._paths.append(path)
        return path

    def end(self) -> None:
        """Remove what is left."""
        self._end()


def _remove(lock_path: Path, handle: int, paths: list[Path]) -> None:
    """The lock goes last: whatever is found without one belongs to nobody."""
    with stopping.shield():  # finalizers lose what is raised in them, and would end half way
        for path in [*paths, lock_path]:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what dead runs have left in a folder. What cannot be removed is left alone.

    A run that was killed between the moves of an output's provenance and of the output itself,
    where there was no such output before, has left provenance of nothing: that goes too.
    """
    try:
        names = os.listdir(folder)
    except OSError:
        return
    runs: dict[str, list[Path]] = {}
    for name in names:
        if found := _NAME.fullmatch(name):
            runs.setdefault(found[1], []).append(folder / name)
    for run, paths in runs.items():
        with contextlib.suppress(OSError):
            _clear(folder, run, paths, names)


def _clear(folder: Path, run: str, paths: list[Path], names: list[str]) -> None:
    """Remove the files of one run if it is dead."""
    lock_path = folder / f"{run}.lock"
    try:
        handle = os.open(lock_path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        handle = None  # the run has ended since the folder was listed, or lost its lock long ago
    try:
        if handle is not None and not lock(handle, wait=False):
            return
        paths = [p for p in paths if p != lock_path and stat.S_ISREG(os.lstat(p).st_mode)]
        if f"-{_host()}-" not in run and not _untouched([*paths, lock_path]):
            return
        with stopping.shield():
            _clear_orphans(folder, paths, names)
            for path in paths:
                path.unlink(missing_ok=True)
            if handle is not None:
                lock_path.unlink(missing_ok=True)
    finally:
        if handle is not None:
            os.close(handle)


def _untouched(paths: list[Path]) -> bool:
    """Whether nothing about the files has changed for long."""
    times = [path.lstat().st_ctime for path in paths if path.exists()]
    return time.time() - max(times, default=0.0) > _LONG_AGO


def _clear_orphans(folder: Path, temporaries: list[Path], names: list[str]) -> None:
    """Remove provenance without an output that describes, byte for byte, one of the temporaries."""
    there = set(names)
    alone = [n for n in names if n.endswith(".json") and n.removesuffix(".json") not in there]
    if not alone:
        return
    dead = {fingerprint([path]) for path in temporaries if path.exists()}
    for name in alone:
        path = folder / name
        content = load_note(path)
        if is_ours(content) and content["output"].get("fingerprint") in dead:
            with contextlib.suppress(OSError):
                path.unlink()


def lock(handle: int, *, wait: bool) -> bool:
    """Lock an open file or folder; False if another has it. Raises OSError if it has no locks."""
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


@cache
def _host() -> str:
    """One boot of one kernel, as 8 hexadecimal digits."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        name = platform.node()
    return hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
