"""What a long build keeps of its work, so that one that was killed can go on.

Numerical code says at which points its work can be taken up again and what that takes, as arrays.
It knows nothing of where they go, how often that is worth it, and whether they fit: that is for
whoever gives it a :class:`Checkpoint` (:mod:`d2cli.files.output.checkpoint` keeps files).
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

State = dict[str, Any]  # arrays, or numpy's numbers, by name


class Checkpoint:
    """Keeps nothing: every build begins at the beginning."""

    def load(self, stage: str, part: int = 0) -> State | None:
        """The last state of a stage that an earlier run of this very build has saved, or None."""
        return None

    def save(self, stage: str, state: Callable[[], State], part: int = 0) -> None:
        """Keep a state in place of the stage's last, if it is time for that.

        Args:
            stage: a name.
            part: which of several parts it is about, that are built one after another.
            state: called only then, and in this thread. Arrays may go on changing in other threads
                while they are written, in places that the state does not call finished.
        """

    def of_part(self, part: int) -> Checkpoint:
        """The same for one part."""
        return _Part(self, part)


@dataclass(frozen=True)
class _Part(Checkpoint):
    whole: Checkpoint
    number: int

    def load(self, stage: str, part: int = 0) -> State | None:
        return self.whole.load(stage, self.number)

    def save(self, stage: str, state: Callable[[], State], part: int = 0) -> None:
        self.whole.save(stage, state, self.number)


NONE = Checkpoint()


def as_bytes(value: object) -> NDArray[np.uint8]:
    """Numbers, text, lists and dictionaries as an array that a state may hold."""
    return np.frombuffer(repr(value).encode(), np.uint8)


def from_bytes(array: NDArray[np.uint8]) -> Any:
    """What :func:`as_bytes` was given."""
    return ast.literal_eval(array.tobytes().decode())
