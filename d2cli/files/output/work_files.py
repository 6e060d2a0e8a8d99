"""Arrays in temporary files of a work folder; a killed run's files are removed by the next run."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.files.output.temporary import Lease, sweep


class WorkFiles:
    """A :class:`d2cli.engine.storage.Store` in one folder; one file per array.

    The files are removed by :meth:`end`, when the object is no longer used, and at exit. Files are
    read and written, not mapped, so that their pages do not count as memory of this process.

    A pickled copy reads the same files, and stores arrays under the names that were reserved before
    it was pickled. It removes nothing: the files last as long as the object that was copied.
    """

    def __init__(self, folder: Path) -> None:
        """Raises OSError if the folder cannot be written."""
        sweep(folder)
        self._lease: Lease | None = Lease(folder)
        self._paths: dict[str, Path] = {}

    def __getstate__(self) -> dict[str, Any]:
        paths = {name: path.absolute() for name, path in self._paths.items()}
        return {"_lease": None, "_paths": paths}

    def append(self, name: str, array: NDArray[Any]) -> None:
        """Add numbers at the end of the file of `name`."""
        if name not in self._paths:
            self.reserve([name])
        with self._paths[name].open("ab") as file:
            array.tofile(file)

    def reserve(self, names: Iterable[str]) -> None:
        """Name the files of arrays that are stored with :meth:`put`."""
        assert self._lease is not None, "a copy has the names that were reserved before"
        for name in names:
            self._paths[name] = self._lease.temporary()

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Write the file of a reserved `name`.

        It is not cut to length 0 before: a task that runs a second time, even at the same time as
        the first, writes the same bytes to the same places.
        """
        handle = os.open(self._paths[name], os.O_CREAT | os.O_RDWR, 0o666)
        with open(handle, "r+b") as file:
            array.tofile(file)

    def read(self, name: str, dtype: Any, start: int = 0, count: int = -1) -> NDArray[Any]:
        """A copy of `count` numbers from place `start` on; -1: all that follow."""
        if name not in self._paths:
            return np.empty(0, dtype)
        offset = start * np.dtype(dtype).itemsize
        found = np.fromfile(self._paths[name], dtype, count, offset=offset)
        if 0 <= count != found.size:
            raise OSError(errno.EIO, "a temporary file has become shorter", str(self._paths[name]))
        return found

    def path(self, name: str) -> Path:
        """The file of `name`, to which something was appended."""
        return self._paths[name]

    def drop(self, name: str) -> None:
        """Remove the file of `name`."""
        if name in self._paths:
            self._paths.pop(name).unlink(missing_ok=True)

    def end(self) -> None:
        """Remove all files."""
        self._paths.clear()
        if self._lease is not None:
            self._lease.end()

    def __enter__(self) -> WorkFiles:
        """The files are removed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Remove all files."""
        self.end()
