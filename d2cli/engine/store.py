"""Named arrays of numbered parts, which tasks read and write whole."""

from typing import Any

from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]


class PartStore:
    """Parts in memory: a part is a set of arrays under a name and a number."""

    def __init__(self) -> None:
        """An empty store."""
        self._held: dict[tuple[str, int], Arrays] = {}

    def has(self, name: str, part: int) -> bool:
        """Whether a part is there."""
        return (name, part) in self._held

    def put(self, name: str, part: int, **arrays: NDArray[Any]) -> None:
        """Store a part, in place of an earlier one."""
        self._held[name, part] = arrays

    def get(self, name: str, part: int, key: str, start: int = 0, stop: int | None = None) -> Any:
        """The rows start … stop of an array, a view: what is written to it is stored."""
        return self._held[name, part][key][start:stop]

    def drop(self, name: str, part: int) -> None:
        """Forget a part, if it is there."""
        self._held.pop((name, part), None)

    def state(self) -> Arrays:
        """All parts, under names that :meth:`restore` knows."""
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
