"""Temporary files beside the outputs. If a run is killed, the next run removes its files.

Each run locks a file of its own, ``.d2prune-HOST-RUN.lock``, in every folder that it writes to. Its
temporary files there are named ``.d2prune-HOST-RUN-N.tmp``, and its folders ``….tmp.d2``. The
operating system releases the lock when the process ends for any reason. A run is therefore dead if
its lock can be taken. Process numbers would not do: they are reused, and differ between containers.
The locked file is never read or written, because some network file systems refuse both under a
lock.

HOST stands for one boot of one kernel, within which locks are reliable. Files of another HOST are
removed only if their lock can be taken and none of them has changed for a day, because some network
file systems do not share locks between hosts. Without locks nothing is ever removed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import stat
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from d2cli.files.parts.part_folders import files_of
from d2cli.files.provenance.fingerprint import fingerprint
from d2cli.files.provenance.sidecar import is_provenance, load_json
from d2cli.runtime import stopping

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_NAME = re.compile(r"(\.d2prune-([0-9a-f]{8})-[0-9a-f]{12})(\.lock|-\d+\.(?:tmp|tmp\.d2|note))")
#: The endings of a temporary file, of a temporary folder, and of a note where a folder belongs
#: (:mod:`d2cli.files.output.folder_swap`).
TEMPORARY, TEMPORARY_FOLDER, NOTE = ".tmp", ".tmp.d2", ".note"
#: Seconds without a change after which unlocked files of another host count as those of a dead run.
_LONG_AGO = 24 * 3600.0


class Lease:
    """Temporary files of this run in one folder; removed by :meth:`end` or at exit."""

    def __init__(self, folder: Path) -> None:
        """Create and lock the lock file. Raises OSError if the folder cannot be written."""
        self._paths: list[Path] = []
        self._given = 0
        with stopping.shield():  # an interrupt must not leave a lock file without a finalizer
            while True:
                self._run = folder / f".d2prune-{_host()}-{secrets.token_hex(6)}"
                path = Path(f"{self._run}.lock")
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
                with suppress(OSError):
                    lock(handle, wait=True)
                if _is_at(handle, path):
                    break
                os.close(handle)  # another run's sweep removed the file before it was locked
            # Runs after an exception too, and at exit.
            self._end = weakref.finalize(self, _remove, path, handle, self._paths)

    def temporary(self, ending: str = TEMPORARY) -> Path:
        """The path of a new temporary file or, as `ending` says, folder. It does not exist yet."""
        path = Path(f"{self._run}-{self._given}{ending}")
        self._given += 1
        self._paths.append(path)
        return path

    def keep(self, *paths: Path) -> None:
        """Do not remove these at the end. The next run in the folder treats them as left behind."""
        self._paths[:] = [path for path in self._paths if path not in paths]

    def end(self) -> None:
        """Remove the temporary files and the lock file."""
        self._end()


def _remove(lock_path: Path, handle: int, paths: list[Path]) -> None:
    """Remove the lock file last: temporary files without a lock file belong to a dead run."""
    with stopping.shield():  # an exception inside a finalizer is lost and would end it half way
        for path in [*paths, lock_path]:
            with suppress(OSError):
                _remove_one(path)
        os.close(handle)


def _remove_one(path: Path) -> None:
    """Remove a temporary file or folder, if it is there."""
    if path.suffix == ".d2":
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the files of dead runs from a folder; files that cannot be removed stay.

    A run that is killed after the rename of a sidecar and before that of a new output leaves a
    sidecar without an output. Such a sidecar is removed too.
    """
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(folder)
    runs: dict[str, list[Path]] = {}
    for name in names:
        if found := _NAME.fullmatch(name):
            runs.setdefault(found[1], []).append(folder / name)
    for run, paths in runs.items():
        with suppress(OSError):
            _clear(folder, run, paths, names)


def _clear(folder: Path, run: str, paths: list[Path], names: list[str]) -> None:
    """Remove the files of one run if it is dead."""
    lock_path = folder / f"{run}.lock"
    try:
        handle = os.open(lock_path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        handle = None  # the run ended after the folder was listed, or its lock file was removed
    try:
        if handle is not None and not lock(handle, wait=False):
            return
        paths = [path for path in paths if path != lock_path and _is_ours(path)]
        if f"-{_host()}-" not in run:
            times = [path.lstat().st_ctime for path in (*paths, lock_path) if path.exists()]
            if time.time() - max(times, default=0.0) <= _LONG_AGO:
                return
        with stopping.shield():
            for note in (path for path in paths if path.suffix == NOTE):
                _put_back(note, paths)
            _clear_orphans(folder, paths, names)
            for path in paths:
                _remove_one(path)
            if handle is not None:
                lock_path.unlink(missing_ok=True)
    finally:
        if handle is not None:
            os.close(handle)


def _is_ours(path: Path) -> bool:
    """Whether it is a folder if its name says so, else a regular file; no link."""
    mode = os.lstat(path).st_mode
    return stat.S_ISDIR(mode) if path.suffix == ".d2" else stat.S_ISREG(mode)


def _put_back(note: Path, paths: list[Path]) -> None:
    """Put a folder back to the name that the note tells, if nothing is there. May raise OSError."""
    content = load_json(note)
    if not isinstance(content, dict):
        return  # the run was killed before the note was complete, and so before the renames
    name, old = content.get("output"), note.with_name(str(content.get("old")))
    if isinstance(name, str) and os.path.basename(name) == name and old in paths:
        final = note.with_name(name)
        if old.is_dir() and not os.path.lexists(final):
            os.rename(old, final)


def _clear_orphans(folder: Path, temporaries: list[Path], names: list[str]) -> None:
    """Remove sidecars without an output whose fingerprint is that of one of the temporaries."""
    there = {*names, *os.listdir(folder)}
    alone = [n for n in names if n.endswith(".json") and n.removesuffix(".json") not in there]
    there_yet = (files_of(path) for path in temporaries if alone and path.exists())
    dead = {fingerprint(files) for files in there_yet if files[0].is_file()}
    for path in (folder / name for name in alone):
        content = load_json(path)
        if is_provenance(content) and content["output"].get("fingerprint") in dead:
            with suppress(OSError):
                path.unlink()


def lock(handle: int, *, wait: bool) -> bool:
    """Lock an open file or folder; False if another process holds it. OSError: no locks here."""
    if fcntl is None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """A file or folder, opened by the system call and closed at the end."""
    handle = os.open(path, flags, 0o666)
    try:
        yield handle
    finally:
        os.close(handle)


def flush(path: Path) -> None:
    """Write the content of a file, or the names in a folder, to disk (fsync)."""
    with opened(path, os.O_RDONLY) as handle:
        os.fsync(handle)


def _is_at(handle: int, path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(handle), path.stat())
    return False


@cache
def _host() -> str:
    """A name of this boot of this kernel: 8 hexadecimal digits."""
    try:
        name = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    except OSError:
        name = platform.node()
    return hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
