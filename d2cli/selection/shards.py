"""Rounds of local maxima over shards: edges are in objects of an engine, O(n) arrays are here.

A *shard* holds the edges of consecutive rows (:mod:`d2cli.messages.local_edges`), and the states
of these rows and of their neighbours. It goes through its own active rows until none changes. Then
the states that changed are sent to all shards, which take those of their ghosts, and so on until
none changes. States of neighbours that a shard has not been sent yet are lower than those that it
has, or finished; so it finishes no row too early (:mod:`d2cli.selection.rounds`).

What all shards need is shared: it is sent once to each machine. So what is sent does not grow with
the number of shards.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.tasks import LostError
from d2cli.messages.local_edges import LocalEdges
from d2cli.messages.parts import EdgeParts, Span, count_marked
from d2cli.selection import rounds
from d2cli.selection.sizes import shard_bytes, shards_for

_NO_ROWS, _NO_STATES = np.empty(0, np.int32), np.empty(0)
#: (C,) each, as of :class:`d2cli.selection.rounds.Limits`: bounds, last rows; and open picks.
Step = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]
#: What a shard answers: changed rows; their states; admitted rows, and active rows that are left.
Answer = tuple[NDArray[np.int32], NDArray[np.float64], int, int]


@dataclass
class _State:
    """A run of a shard. Arrays are of the local rows; of `u` and `blocker`, only own rows are set.

    Pages of an array that are never written take no memory.
    """

    gamma: float
    u: NDArray[np.float64]
    w: NDArray[np.float64]
    classes: NDArray[np.int32]
    blocker: NDArray[np.int32]
    active: NDArray[np.int32]  # (own rows,)
    limits: rounds.Limits
    active_count: int = 0


class Shard:
    """What is held where the edges of a span of parts are; several runs may be under way.

    Arrays that a method is given are (n,), unless it says that they are of own rows.
    """

    def __init__(self, parts: EdgeParts, squared: bool, sigma: float, span: Span) -> None:
        self._here = LocalEdges.of(parts, span)
        self._most = int(rounds.widest(self._here.edges))
        self._weights = sigma, squared
        self._runs: dict[int, _State] = {}

    def begin(
        self, run: int, gamma: float, u: NDArray[np.float64],
        w: NDArray[np.float64], classes: NDArray[np.int32],
    ) -> None:  # fmt: skip
        """Begin a run with the scores `u` of the own rows, and the states and classes of all."""
        here = self._here
        scores, blocker = np.empty(here.size), np.empty(here.size, np.int32)
        scores[here.own], blocker[here.own] = u, -1
        own_classes = here.of_rows(classes) if classes.size else _NO_ROWS
        self._runs[run] = _State(
            gamma, scores, here.of_rows(w), own_classes, blocker,
            np.empty(here.stop - here.first, np.int32),
            rounds.Limits(own_classes, np.empty(0), np.empty(0, np.int64)),
        )  # fmt: skip

    def advance(
        self, run: int, rows: NDArray[np.int32], states: NDArray[np.float64],
        step: Step | None,
    ) -> Answer:  # fmt: skip
        """Take the new states of the ghosts among `rows`, and go on until no active row changes.

        A new `step` says which rows are admitted, and how many picks each class still takes. Rows
        of full classes are taken out first.
        """
        here, state, admitted = self._here, self._run(run), 0
        w, active = state.w, state.active
        if not here.set_ghosts(rows, states, w) and step is None:
            return _NO_ROWS, _NO_STATES, 0, state.active_count
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
        return told + np.int32(here.first - here.below), w[told], admitted, state.active_count

    def settle(self, run: int, w: NDArray[np.float64]) -> NDArray[np.float64]:
        """The scores of the own rows after all messages, with the last states of all rows."""
        here, state = self._here, self._run(run)
        own = here.own
        rounds.settle(
            here.edges, own.start, own.stop, self._most, state.u, here.of_rows(w), state.gamma,
            *self._weights,
        )  # fmt: skip
        return state.u[own]

    def end(self, run: int) -> None:
        """Forget a run."""
        self._runs.pop(run, None)

    def marked(self, marked: NDArray[np.bool_], rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """How many neighbours of each of some own `rows` are `marked`."""
        counts = np.zeros(rows.size, np.int64)
        count_marked(
            self._here.edges, 0, self._here.of_rows(marked), self._here.before(rows), counts
        )
        return counts

    def _run(self, run: int) -> _State:
        if run not in self._runs:
            raise LostError("the objects were made anew since this run began")
        return self._runs[run]


class Shards:
    """Shards of all rows, held by the engine of the parts until :meth:`end`.

    Runs may be made in several threads at once.
    """

    def __init__(self, parts: EdgeParts, squared: bool, sigma: float, *, classes: bool) -> None:
        """Load the edges of each shard; `classes` says whether runs have class quotas.

        Raises:
            LimitError: if the machines of the engine cannot hold the shards.
        """
        engine, n = parts.engine, parts.n
        assert engine is not None
        # Rows that take no part have no edges: the largest of the spans decides.
        for wanted in range(shards_for(engine, n, parts.count, len(parts), classes).count, 0, -1):
            spans = parts.spans(wanted)
            self.bounds = [parts.starts[a] for a, _ in spans] + [n]
            memory = max(
                shard_bytes(n, own, sum(parts.sizes[slice(*span)]), classes)
                for own, span in zip(np.diff(self.bounds).tolist(), spans, strict=True)
            )
            if len(spans) <= engine.nodes or engine.can_hold(len(spans), memory):
                break
        engine.check_room("shard", len(spans), memory)
        make = partial(Shard, replace(parts, engine=None), squared, sigma)
        self.held = engine.hold(make, spans, memory, "shard")
        self._numbers = count()

    def begin(
        self, gamma: float, u: NDArray[np.float64], w: NDArray[np.float64],
        classes: NDArray[np.int32],
    ) -> _Rounds:  # fmt: skip
        """Begin a run; as of :class:`d2cli.selection.sweeps.Place`."""
        number, shared = next(self._numbers), (self.held.share(w), self.held.share(classes))
        self.held.call(
            "begin", [(number, gamma, u[a:b], *shared) for a, b in pairwise(self.bounds)]
        )
        return _Rounds(self, number, w)

    def marked_neighbours(
        self, marked: NDArray[np.bool_], rows: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """As :func:`d2cli.messages.parts.marked_neighbours`."""
        ends, shared = np.searchsorted(rows, self.bounds), self.held.share(marked)
        arguments = [(shared, rows[a:b]) for a, b in pairwise(ends)]
        while True:
            try:
                return np.concatenate(self.held.call("marked", arguments))
            except LostError:  # this needs no run, so the new objects can answer
                continue

    def end(self) -> None:
        """Forget the edges."""
        self.held.end()


class _Rounds:
    """One run; as of :class:`d2cli.selection.sweeps.Rounds`.

    What the last call has changed waits for the next one.
    """

    def __init__(self, shards: Shards, number: int, w: NDArray[np.float64]) -> None:
        self._shards, self._number, self._w = shards, number, w
        self._rows, self._states, self._left = _NO_ROWS, _NO_STATES, np.empty(0, np.int64)

    def sweep(self, limits: rounds.Limits) -> bool:
        """Finish rows within the limits until no state changes; False if none is within them."""
        any_admitted, active = self._advance((limits.bound, limits.last, self._left))
        while active and self._rows.size:
            _, active = self._advance(None)
        return any_admitted

    def _advance(self, step: Step | None) -> tuple[bool, bool]:
        """Call all shards once; returns whether any row was admitted, and whether one is active."""
        share = self._shards.held.share
        answers: list[Answer] = self._call("advance", share(self._rows), share(self._states), step)
        self._rows, self._states = (
            np.concatenate([answer[at] for answer in answers]) for at in (0, 1)
        )
        self._w[self._rows] = self._states
        admitted, active = ([answer[at] for answer in answers] for at in (2, 3))
        return any(admitted), any(active)

    def close(self, left: NDArray[np.int64]) -> None:
        """Take unfinished rows of full classes out, before the next sweep."""
        self._left = left

    def settle(self, u: NDArray[np.float64]) -> None:
        """Write the scores of the rows that are not finished after all messages into `u`."""
        np.concatenate(self._call("settle", self._shards.held.share(self._w)), out=u)

    def end(self) -> None:
        """Forget the run."""
        with suppress(LostError):  # forgotten with the objects
            self._call("end")

    def _call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of all shards with the same arguments."""
        held = self._shards.held
        return held.call(method, [(self._number, *arguments)] * len(held))
