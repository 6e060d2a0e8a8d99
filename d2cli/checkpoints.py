"""What a long build keeps of its work, so that one that was killed can go on.

Numerical code says at which points its work can be taken up again and what that takes, as arrays.
It knows nothing of where they go, how often that is worth it, and whether they fit: that is for
whoever gives it a :class:`Checkpoint` (:mod:`d2cli.io.checkpoint` keeps files).
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

State = dict[str, Any]  # arrays, or numpy's numbers, by name
_PART = "part"


class Checkpoint:
    """Keeps nothing: every build begins at the beginning."""

    def load(self, stage: str) -> State | None:
        """The last state that was saved of a stage of this very build, or None."""
        return None

    def save(self, stage: str, state: Callable[[], State]) -> None:
        """Keep a state in place of the stage's last, if it is time for that.

        Args:
            stage: a name.
            state: called only then, and in this thread. Arrays may go on changing in other threads
                while they are written, in places that the state does not call finished.
        """

    def of_part(self, part: int) -> Checkpoint:
        """The same for one of several parts that are built one after another.

        A stage of one part takes the place of that stage of another.
        """
        return _Part(self, part)


@dataclass(frozen=True)
class _Part(Checkpoint):
    whole: Checkpoint
    part: int

    def load(self, stage: str) -> State | None:
        state = self.whole.load(stage)
        return state if state is not None and int(state[_PART]) == self.part else None

    def save(self, stage: str, state: Callable[[], State]) -> None:
        self.whole.save(stage, lambda: {**state(), _PART: np.int64(self.part)})


NONE = Checkpoint()


def as_bytes(value: object) -> NDArray[np.uint8]:
    """Numbers, text, lists and dictionaries as an array that a state may hold."""
    return np.frombuffer(repr(value).encode(), np.uint8)


def from_bytes(array: NDArray[np.uint8]) -> Any:
    """What :func:`as_bytes` was given."""
    return ast.literal_eval(array.tobytes().decode())
