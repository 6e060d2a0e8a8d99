"""Saved state of a long build, so that a killed run can continue.

Numerical code says where its work can continue and which arrays that takes. The given
:class:`Checkpoint` decides where, how often and whether a state is stored
(:mod:`d2cli.files.output.checkpoint` writes files).
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.store import PartStore

State = dict[str, Any]  # arrays or numpy scalars by name


class Checkpoint:
    """Stores nothing; the base class of those that do."""

    def load(self, stage: str, part: int = 0) -> State | None:
        """The last state of a stage that an earlier run of the same build saved, or None."""
        return None

    def save(self, stage: str, state: Callable[[], State], part: int = 0) -> None:
        """Replace the stage's last state, if enough time has passed since.

        `state` is called in this thread, and only if the state is stored. Other threads may change
        arrays meanwhile where the state says "not finished". Parts are built one after another.
        """

    def store(self) -> PartStore:
        """Where a search of this build keeps its parts; they may be those of a killed run."""
        return PartStore()

    def of_part(self, part: int) -> "Checkpoint":
        """The checkpoint of one part."""
        return _Part(self, part)


@dataclass(frozen=True)
class _Part(Checkpoint):
    whole: Checkpoint
    number: int

    def load(self, stage: str, part: int = 0) -> State | None:
        return self.whole.load(stage, self.number)

    def save(self, stage: str, state: Callable[[], State], part: int = 0) -> None:
        self.whole.save(stage, state, self.number)

    def store(self) -> PartStore:
        return self.whole.store().child(str(self.number))


NONE = Checkpoint()


def as_bytes(value: object) -> NDArray[np.uint8]:
    """Numbers, strings, sets, lists and dicts as an array for a state."""
    return np.frombuffer(repr(value).encode(), np.uint8)


def from_bytes(array: NDArray[np.uint8]) -> Any:
    """The inverse of :func:`as_bytes`."""
    return ast.literal_eval(array.tobytes().decode())
