"""Where a run keeps what does not fit in memory: a folder, or an address of an object store.

Files are written whole, read in ranges, and removed: object stores can do no more. A file under a
name that is taken replaces the other one as a whole.

:class:`LocalFolder` is a folder that all processes of the run see.
:class:`d2cli.files.output.remote_folder.RemoteFolder` is an address.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from d2cli.errors import OutputError
from d2cli.files.output.temporary import TEMPORARY_FOLDER, Lease, flush, lock, sweep
from d2cli.files.raw.numbers import LocalFile, OpenFile

#: What to do if nothing can be written.
WORK_DIR = "--work-dir names another folder for what does not fit in memory"
#: The ending of a file that is not complete.
_HALF = ".new"
Bytes = bytes | memoryview  # of one dimension, with items of one byte


class Claim(NamedTuple):
    """A folder that belongs to this run until :meth:`end`, or until the process ends."""

    folder: WorkFolder
    ending: Callable[[bool], object]

    def end(self, *, clear: bool = False) -> None:
        """Give the folder up, after it is removed if `clear` is true."""
        self.ending(clear)


class WorkFolder(ABC):
    """A place for files. It can be pickled, and its text is the place as the user named it.

    All methods raise OSError if the place fails; FileNotFoundError if there is no such file.
    """

    @abstractmethod
    def check(self) -> None:
        """Refuse a place in which no file can be made.

        Raises:
            OutputError: saying what to do.
        """

    @abstractmethod
    def child(self, name: str) -> WorkFolder:
        """A folder inside, which is made with its first file."""

    @abstractmethod
    def names(self) -> list[str]:
        """The names of complete files and of folders that are here; none if the place is not."""

    @abstractmethod
    def has(self, name: str) -> bool:
        """Whether there is a file of this name."""

    @abstractmethod
    def write(
        self, name: str, pieces: Iterable[Bytes], *, lasting: bool = False, size: int = 0
    ) -> None:
        """Write a file from `pieces`. It is there once it is complete.

        `lasting` files are on disk then, and survive a power failure. `size` is about how many
        bytes there are, if that is known; a file of more than some hundred GB needs it.
        """

    @abstractmethod
    def open(self, name: str) -> OpenFile:
        """Open a file for reading; FileNotFoundError may be raised by the first read."""

    @abstractmethod
    def remove(self, names: Iterable[str]) -> None:
        """Remove files; what is not there or cannot be removed is ignored."""

    @abstractmethod
    def clear(self) -> None:
        """Remove the folder and all that is in it, as far as possible."""

    @abstractmethod
    def claim(self, *, patient: bool = True) -> Claim | None:
        """Take the folder for this run; None: a run that lives has it.

        If that takes time to find out, and the run is not `patient`, None is returned too.
        """

    @abstractmethod
    def temporary(self) -> Claim:
        """A new folder inside, which is removed when the claim ends; so are those of dead runs."""

    @abstractmethod
    def removal(self) -> str:
        """How a user removes the folder."""

    def tidy(self) -> None:  # noqa: B027, most places have nothing to tidy
        """Remove what killed processes have left half written."""

    def free(self) -> int | None:
        """Bytes that are free; None: unknown, or as many as are wanted."""
        return None

    def is_at(self, path: Path) -> bool:
        """Whether it is this folder of this machine."""
        return False


@dataclass(frozen=True)
class StoredFile:
    """The place of a file in a work folder; a :class:`d2cli.files.raw.numbers.FilePlace`."""

    folder: WorkFolder
    name: str

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    def open(self) -> OpenFile:
        """Open the file for reading. Raises OSError."""
        return self.folder.open(self.name)


@dataclass(frozen=True)
class LocalFolder(WorkFolder):
    """A folder of this machine, or one that several machines see."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def check(self) -> None:
        folder, other = self.path, "name another with --work-dir"
        about = f"{folder}: the folder for files that do not fit in memory"
        if not folder.exists():
            raise OutputError(f"{about} does not exist", f"mkdir -p {folder}, or {other}")
        if not folder.is_dir():
            raise OutputError(f"{about} is not a folder", other)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{about} cannot be written", other)

    def child(self, name: str) -> LocalFolder:
        return LocalFolder(self.path / name)

    def names(self) -> list[str]:
        with suppress(FileNotFoundError, NotADirectoryError):
            return [name for name in os.listdir(self.path) if not name.endswith(_HALF)]
        return []

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def write(
        self, name: str, pieces: Iterable[Bytes], *, lasting: bool = False, size: int = 0
    ) -> None:
        # A name of its own: the same task may run twice at a time, on two machines.
        half = self.path / f"{name}.{secrets.token_hex(8)}{_HALF}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with half.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
            if lasting:
                flush(half)
            os.replace(half, self.path / name)
        except BaseException:
            with suppress(OSError):
                half.unlink(missing_ok=True)
            raise

    def open(self, name: str) -> OpenFile:
        path = self.path / name
        with suppress(FileNotFoundError):
            return LocalFile(path).open()
        # A network file system may remember for some time that a file was missing. It looks again
        # once the folder is listed.
        with suppress(OSError):
            os.listdir(self.path)
        return LocalFile(path).open()

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with suppress(OSError):
                (self.path / name).unlink(missing_ok=True)

    def clear(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def claim(self, *, patient: bool = True) -> Claim | None:
        self.path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o666)
        with suppress(OSError):  # without locks, assume that no other run is alive
            if not lock(handle, wait=False):
                os.close(handle)
                return None

        def end(clear: bool) -> None:
            if clear:
                self.clear()
            os.close(handle)

        return Claim(self, end)

    def temporary(self) -> Claim:
        sweep(self.path)
        lease = Lease(self.path)
        folder = LocalFolder(lease.temporary(TEMPORARY_FOLDER).absolute())
        return Claim(folder, lambda _: lease.end())

    def removal(self) -> str:
        return f"rm -r {shlex.quote(str(self.path))}"

    def tidy(self) -> None:
        with suppress(OSError):
            for path in self.path.iterdir():
                if path.suffix == _HALF:
                    path.unlink()

    def free(self) -> int | None:
        return shutil.disk_usage(self.path).free if self.path.is_dir() else None

    def is_at(self, path: Path) -> bool:
        return Path(os.path.realpath(self.path)) == path
