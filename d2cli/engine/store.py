"""Named arrays of numbered parts, which tasks read and write whole.

A task that runs again writes its parts again, with the same bytes, and maybe late: it may have been
taken for lost. So what is changed step by step has a name of its own for each step, and no task
changes a part that it reads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


class PartStore:
    """Parts in memory: a part is a set of arrays under a name and a number.

    :class:`d2cli.files.output.part_files.PartFiles` keeps parts in files.

    Attributes:
        room: bytes of parts that may be in memory together, besides what a search always needs;
            None: all of them.
    """

    room: int | None = None

    def __init__(self) -> None:
        """An empty store."""
        self._held: dict[tuple[str, int], Arrays] = {}

    def has(self, name: str, part: int = 0) -> bool:
        """Whether a part is there."""
        return (name, part) in self._held

    def parts(self, name: str) -> list[int]:
        """The numbers of all parts of a name, ascending; also of those that tasks have just put."""
        return sorted(part for other, part in self._held if other == name)

    def put(self, name: str, part: int = 0, /, **arrays: NDArray[Any]) -> None:
        """Store a part, in place of an earlier one."""
        self._held[name, part] = arrays

    def get(self, name: str, part: int, key: str, start: int = 0, stop: int | None = None) -> Any:
        """The rows start … stop of an array. It may be a view: to change a part, put it again."""
        return self._held[name, part][key][start:stop]

    def some(self, name: str, part: int, /, **bounds: tuple[int, int]) -> Arrays:
        """The rows start … stop of some arrays of a part, as of :meth:`get`."""
        return {key: self.get(name, part, key, *place) for key, place in bounds.items()}

    def whole(self, name: str, part: int = 0) -> Arrays:
        """All arrays of a part."""
        return dict(self._held[name, part])

    def drop(self, name: str, part: int = 0) -> None:
        """Forget a part, if it is there."""
        self._held.pop((name, part), None)

    def names(self) -> set[str]:
        """The names of all parts."""
        return {name for name, _ in self._held}

    def forget(self, *names: str) -> None:
        """Forget all parts of these names."""
        for name, part in list(self._held):
            if name in names:
                self.drop(name, part)

    def keep_only(self, *names: str) -> None:
        """Forget all parts but those of these names."""
        self.forget(*(self.names() - {*names}))

    def child(self, name: str) -> PartStore:
        """A store of the same kind, for work within this one."""
        del name
        return PartStore()

    def end(self) -> None:
        """Forget everything."""
        self._held.clear()

    def state(self) -> Arrays:
        """All parts, under names that :meth:`restore` knows; none of them if they are in files."""
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


def number(value: int) -> NDArray[np.int64]:
    """A number as an array for a part."""
    return np.array([value], np.int64)
