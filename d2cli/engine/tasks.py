"""Where the tasks of a build run: on this machine, or on a cluster.

An algorithm says what its tasks are, and hands them to an engine. Tasks of one call are independent
and communicate through the parts of a store (:mod:`d2cli.engine.store`) alone. So it is all the
same in which order, how many at a time and on which machine they run, and whether one runs again.

:class:`Engine` runs them in this process. :mod:`d2cli.engine.cluster` runs them with Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from numpy.typing import NDArray

from d2cli.engine import threads as pool
from d2cli.engine.threads import silent
from d2cli.runtime.memory import return_freed_arrays

Item = TypeVar("Item")
Ended = Callable[[Item], object]


def unheard(item: object) -> None:
    """Called after each task."""


class Engine:
    """Runs tasks in this process.

    Attributes:
        threads: threads that one task of :meth:`run` may use.
        at_once: tasks of :meth:`run` that run at a time. Each may use the whole room of its store.
        shared: whether tasks see the memory of this process. If not, what a task is given is
            copied, and it must be possible to pickle it.
        nodes: the machines that run tasks.
    """

    shared = True
    nodes = 1

    def __init__(self, threads: int, at_once: int = 1) -> None:
        self.threads, self.at_once = threads, at_once

    def each(
        self, work: Callable[[Item], object], items: Sequence[Item], ended: Ended[Item] = unheard
    ) -> None:
        """Call ``work(item)`` for all items, each in one thread, and ``ended(item)`` here after it.

        The first error is raised here, after the running items have ended; others are dropped.
        """
        pool.each(work, items, self.threads, ended)

    def run(
        self, work: Callable[[Item], object], items: Sequence[Item], ended: Ended[Item] = unheard
    ) -> None:
        """As :meth:`each`, for tasks that use :attr:`threads` threads each, and more memory."""
        pool.each(work, items, 1, ended)

    def hold(
        self, make: Callable[[Item], Any], items: Sequence[Item], memory: int = 0,
        what: str = "object",
    ) -> Held:  # fmt: skip
        """Make an object for each item, ``make(item)``, which stays where it was made.

        `memory` is the bytes that each may take besides program and libraries; 0: unknown. `what`
        is an object for people.
        """
        return Held(make, items, self.threads)

    def grant(self, memory: int) -> None:
        """Say how many bytes of arrays tasks may hold beyond the least: for what is freed."""
        return_freed_arrays(memory)

    def can_hold(self, count: int, memory: int) -> bool:
        """Whether there is room for `count` objects of :meth:`hold`, of `memory` bytes each."""
        return True

    def check_room(self, what: str, count: int, memory: int) -> None:
        """Refuse objects that the machines cannot hold; `what` is what one is called.

        Raises:
            LimitError: with what they need, what there is, and what to do.
        """

    def end(self) -> None:
        """Give back what the engine uses."""


class HasTasks:
    """An object with methods that are tasks. A task that runs elsewhere gets a copy of the object.

    Subclasses call their engine `engine` and their callback `progress`. A copy has no engine, and
    its progress is not shown.
    """

    def __getstate__(self) -> dict[str, Any]:
        """What is copied."""
        return {**vars(self), "engine": None, "progress": silent}


class Held:
    """Objects that stay where they were made, one for each item, and are called together."""

    def __init__(self, make: Callable[[Item], Any], items: Sequence[Item], threads: int) -> None:
        self._objects: list[Any] = [None] * len(items)
        self._threads = threads

        def begin(at: int) -> None:
            self._objects[at] = make(items[at])

        pool.each(begin, range(len(items)), threads, unheard)

    def __len__(self) -> int:
        """The number of objects."""
        return len(self._objects)

    def share(self, array: NDArray[Any]) -> Any:
        """What stands for an array among the arguments of several objects.

        Each machine gets the array once. Objects must not change it.
        """
        return array

    def call(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of every object with its arguments; returns the results in order.

        Raises:
            LostError: if an object is gone, with the machine on which it was. All objects are then
                made anew, and what was done with them has to be done again.
        """
        results: list[Any] = [None] * len(self._objects)

        def one(at: int) -> None:
            results[at] = getattr(self._objects[at], method)(*arguments[at])

        pool.each(one, range(len(self._objects)), self._threads, unheard)
        return results

    def end(self) -> None:
        """Forget the objects."""
        self._objects.clear()


class LostError(Exception):
    """An object of :class:`Held` was lost; all were made anew."""
