"""Named arrays of numbered parts: in memory, or in files of a folder.

Tasks read parts and write whole parts. In a folder, a part appears under its name when it is
complete, so that a run that was killed continues with the parts that are there.
"""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


class Store:
    """Parts in memory, or in `folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._held: dict[tuple[str, int], Arrays] = {}

    @property
    def resident(self) -> bool:
        """Whether the parts are in memory: arrays that were read are those that are stored."""
        return self.folder is None

    def has(self, name: str, part: int) -> bool:
        """Whether a part is there."""
        if self.folder is None:
            return (name, part) in self._held
        return self._path(name, part).is_dir()

    def put(self, name: str, part: int, **arrays: NDArray[Any]) -> None:
        """Store a part, in place of an earlier one."""
        if self.folder is None:
            self._held[name, part] = arrays
            return
        path = self._path(name, part)
        new = path.with_suffix(".new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        for key, array in arrays.items():
            np.save(new / f"{key}.npy", array)
        self.drop(name, part)
        os.replace(new, path)

    def get(self, name: str, part: int, key: str, start: int = 0, stop: int | None = None) -> Any:
        """The rows start … stop of an array; a view in memory, a copy from a file."""
        if self.folder is None:
            return self._held[name, part][key][start:stop]
        array = np.load(self._path(name, part) / f"{key}.npy", mmap_mode="r")
        return np.array(array[start:stop])

    def state(self) -> Arrays:
        """All parts that are in memory, under names that :meth:`restore` knows."""
        return {
            f"{name}:{part}:{key}": array
            for (name, part), arrays in self._held.items()
            for key, array in arrays.items()
        }

    def restore(self, state: Arrays) -> None:
        """Take back the parts of a :meth:`state`; other arrays in it are ignored."""
        for label, array in state.items():
            if label.count(":") == 2:
                name, part, key = label.split(":")
                self._held.setdefault((name, int(part)), {})[key] = array

    def drop(self, name: str, part: int) -> None:
        """Forget a part, if it is there."""
        if self.folder is None:
            self._held.pop((name, part), None)
            return
        path = self._path(name, part)
        if path.is_dir():
            old = path.with_suffix(".old")
            shutil.rmtree(old, ignore_errors=True)
            os.replace(path, old)
            shutil.rmtree(old)

    def _path(self, name: str, part: int) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}-{part:05d}"
