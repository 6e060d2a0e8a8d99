"""Rounds of local maxima over shards: edges are in objects of an engine, O(n) arrays are here.

A *shard* holds the edges of consecutive rows (:mod:`d2cli.messages.local_edges`), and the states
of these rows and of their neighbours. It goes through its own active rows until none changes. Then
the states that changed are sent to the shards where these rows are neighbours, and so on until no
shard is sent anything. States of neighbours that a shard has not been sent yet are lower than those
that it has, or finished; so it finishes no row too early (:mod:`d2cli.selection.rounds`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, pairwise, repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.tasks import LostError
from d2cli.messages.local_edges import LocalEdges, is_set, of_rows
from d2cli.messages.parts import EdgeParts, Span, count_marked
from d2cli.runtime.jit import kernel
from d2cli.selection import rounds

_NO_ROWS, _NO_STATES = np.empty(0, np.int32), np.empty(0)
#: A bit for each row, whether it is a local row of a shard; and the number of local rows.
LocalRows = tuple[NDArray[np.uint32], int]
#: Row numbers, and their new states.
News = tuple[NDArray[np.int32], NDArray[np.float64]]
#: (C,) each, as of :class:`d2cli.selection.rounds.Limits`: bounds, last rows; and open picks.
Step = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]
#: What a shard answers: changed rows, counted from its first one; their states; admitted rows, and
#: active rows that are left.
Answer = tuple[NDArray[np.int32], NDArray[np.float64], int, int]


@dataclass
class _State:
    """A run of a shard. Arrays are of the local rows; only own rows have a score."""

    gamma: float
    u: NDArray[np.float64]
    w: NDArray[np.float64]
    classes: NDArray[np.int32]
    blocker: NDArray[np.int32]
    active: NDArray[np.int32]  # (own rows,)
    limits: rounds.Limits
    active_count: int = 0


class Shard:
    """What is held where the edges of a span of parts are; several runs may be under way."""

    def __init__(self, parts: EdgeParts, squared: bool, sigma: float, span: Span) -> None:
        self._here = LocalEdges.of(parts, span)
        self._most = int(rounds.widest(self._here.edges))
        self._weights = sigma, squared
        self._runs: dict[int, _State] = {}

    def local_rows(self) -> LocalRows:
        """The local rows as bits, and their number."""
        return self._here.words, self._here.size

    def begin(
        self, run: int, gamma: float, u: NDArray[np.float64],
        w: NDArray[np.float64], classes: NDArray[np.int32],
    ) -> None:  # fmt: skip
        """Begin a run with the scores `u` of the own rows, and states and classes of local rows."""
        here = self._here
        scores = np.zeros(here.size)
        scores[here.own] = u
        self._runs[run] = _State(
            gamma, scores, w.copy(), classes.copy(), np.full(here.size, -1, np.int32),
            np.empty(here.stop - here.first, np.int32),
            rounds.Limits(classes, np.empty(0), np.empty(0, np.int64)),
        )  # fmt: skip

    def advance(
        self, run: int, rows: NDArray[np.int32], states: NDArray[np.float64],
        step: Step | None,
    ) -> Answer:  # fmt: skip
        """Take the new states of some ghosts, and go through active rows until none changes.

        A new `step` says which rows are admitted, and how many picks each class still takes. Rows
        of full classes are taken out first.
        """
        here, state, admitted = self._here, self._run(run), 0
        w, active = state.w, state.active
        w[here.before(rows)] = states
        if step is not None:
            bound, last, left = step
            if left.size:
                rounds.close_classes(w, state.classes, left)
            state.limits = rounds.Limits(state.classes, bound.copy(), here.before(last + 1) - 1)
            own = here.own
            admitted = rounds.admit(w, state.limits, own.start, own.stop, active)
            state.active_count = admitted
        watched = active[: state.active_count].copy()
        before, changed = w[watched], 1
        while changed and state.active_count:
            state.active_count, changed = rounds.advance(
                here.edges, active, state.active_count, self._most, state.u, w, state.blocker,
                state.limits, state.gamma, *self._weights,
            )  # fmt: skip
        told = watched[w[watched] != before]
        return told - np.int32(here.below), w[told], admitted, state.active_count

    def settle(self, run: int, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """The scores of the own rows after all messages, with the last states of local rows."""
        own, state = self._here.own, self._run(run)
        rounds.settle(
            self._here.edges, own.start, own.stop, self._most, state.u, w.copy(), state.gamma,
            *self._weights,
        )  # fmt: skip
        return state.u[own]

    def end(self, run: int) -> None:
        """Forget a run."""
        self._runs.pop(run, None)

    def marked(self, marked: NDArray[np.bool_], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many neighbours of each of some own rows are `marked`, a mask of local rows."""
        counts = np.zeros(rows.size, np.int64)
        count_marked(self._here.edges, 0, marked, self._here.before(rows), counts)
        return counts

    def _run(self, run: int) -> _State:
        if run not in self._runs:
            raise LostError("the objects were made anew since this run began")
        return self._runs[run]


class Shards:
    """Shards of all rows, held by the engine of the parts until :meth:`end`.

    Memory here is n bits for each shard. Runs may be made in several threads at once.
    """

    def __init__(self, parts: EdgeParts, squared: bool, sigma: float) -> None:
        """Load the edges of each shard."""
        assert parts.engine is not None
        spans = parts.spans(parts.engine.at_once)
        self.bounds = [parts.starts[a] for a, _ in spans] + [parts.n]
        make = partial(Shard, replace(parts, engine=None), squared, sigma)
        self.held = parts.engine.hold(make, spans)
        self._numbers = count()
        self._local: list[LocalRows] = self._ask("local_rows", [()] * len(spans))

    def begin(
        self, gamma: float, u: NDArray[np.float64], w: NDArray[np.float64],
        classes: NDArray[np.int32],
    ) -> _Rounds:  # fmt: skip
        """Begin a run; as of :class:`d2cli.selection.sweeps.Place`."""
        number = next(self._numbers)
        own_classes = self.local(classes) if classes.size else repeat(classes, len(self.held))
        arguments = [
            (number, gamma, u[a:b], states, own)
            for (a, b), states, own in zip(
                pairwise(self.bounds), self.local(w), own_classes, strict=True
            )
        ]
        self.held.call("begin", arguments)
        return _Rounds(self, number, w)

    def marked_neighbours(
        self, marked: NDArray[np.bool_], rows: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """As :func:`d2cli.messages.parts.marked_neighbours`."""
        ends = np.searchsorted(rows, self.bounds)
        arguments = [
            (local, rows[a:b])
            for (a, b), local in zip(pairwise(ends), self.local(marked), strict=True)
        ]
        return np.concatenate(self._ask("marked", arguments))

    def end(self) -> None:
        """Forget the edges."""
        self.held.end()

    def local(self, array: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Of an array (n,), what each shard needs for its local rows."""
        for words, size in self._local:
            yield of_rows(words, size, array)

    def news(self, shard: int, rows: NDArray[np.int32], states: NDArray[np.float64]) -> News:
        """Those of the rows that are neighbours in a shard and not its own, with their states."""
        wanted = _wanted(self._local[shard][0], rows, *self.bounds[shard : shard + 2])
        return rows[wanted], states[wanted]

    def _ask(self, method: str, arguments: list[tuple[Any, ...]]) -> list[Any]:
        """Call a method that needs no run, again if an object was lost."""
        while True:
            try:
                return self.held.call(method, arguments)
            except LostError:
                continue


class _Rounds:
    """One run; as of :class:`d2cli.selection.sweeps.Rounds`.

    What was not sent yet to a shard waits for the next call.
    """

    def __init__(self, shards: Shards, number: int, w: NDArray[np.float64]) -> None:
        self._shards, self._number, self._w = shards, number, w
        self._waiting: list[News] = [(_NO_ROWS, _NO_STATES)] * len(shards.held)
        self._left = np.empty(0, np.int64)

    def sweep(self, limits: rounds.Limits) -> bool:
        """Finish rows within the limits until no state changes; False if none is within them."""
        step: Step | None = (limits.bound, limits.last, self._left)
        held, starts, any_admitted = self._shards.held, self._shards.bounds, False
        while True:
            arguments = [(self._number, *news, step) for news in self._waiting]
            answers: list[Answer] = held.call("advance", arguments)
            any_admitted |= any(admitted for _, _, admitted, _ in answers)
            rows = np.concatenate(
                [a[0] + np.int32(start) for a, start in zip(answers, starts, strict=False)]
            )
            states = np.concatenate([answer[1] for answer in answers])
            self._w[rows] = states
            self._waiting = [self._shards.news(at, rows, states) for at in range(len(held))]
            pairs = zip(answers, self._waiting, strict=True)
            if not any(active and news[0].size for (_, _, _, active), news in pairs):
                return any_admitted
            step = None

    def close(self, left: NDArray[np.int64]) -> None:
        """Take unfinished rows of full classes out, before the next sweep."""
        self._left = left

    def settle(self, u: NDArray[np.float64]) -> None:
        """Write the scores of the rows that are not finished after all messages into `u`."""
        arguments = [(self._number, local) for local in self._shards.local(self._w)]
        np.concatenate(self._shards.held.call("settle", arguments), out=u)

    def end(self) -> None:
        """Forget the run."""
        with suppress(LostError):  # forgotten with the objects
            self._shards.held.call("end", [(self._number,)] * len(self._shards.held))


@kernel
def _wanted(words, rows, first, stop):
    """Which of the rows have their bit set and are not of ``first … stop``."""
    wanted = np.empty(rows.shape[0], np.bool_)
    for at in range(rows.shape[0]):
        row = rows[at]
        wanted[at] = not first <= row < stop and is_set(words, row)
    return wanted
