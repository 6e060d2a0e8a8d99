"""Clamped greedy runs in rounds of local maxima (:mod:`d2cli.selection.rounds`): which rows when.

Rows are admitted from the highest score down, in a few steps, so that a small budget does not
finish all rows. With class quotas a row must be certain to be within the quota of its class before
it is finished, because a row beyond it sends nothing: its rank among the upper bounds of its class
tells. Without quotas, rows for SLACK times the budget are admitted.

Edges in memory are gone through again and again in ranges of RANGE rows, in threads
(:class:`InThreads`). They may also be in shards (:class:`d2cli.selection.shards.Shards`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.tasks import LostError
from d2cli.engine.threads import each, for_blocks
from d2cli.graph.knn_graph import Edges
from d2cli.selection import rounds
from d2cli.selection.sizes import RANGE, SLACK


class Rounds(Protocol):
    """One run over rows whose edges are somewhere."""

    def sweep(self, limits: rounds.Limits) -> bool:
        """Finish rows within the limits until no state changes; False if none is within them."""

    def close(self, left: NDArray[np.int64]) -> None:
        """Take unfinished rows of full classes out, as ``rounds.close_classes`` has done here."""

    def settle(self, u: NDArray[np.float64]) -> None:
        """Write the scores of the rows that are not finished after all messages into `u`."""

    def end(self) -> None:
        """Forget the run."""


class Place(Protocol):
    """Where the edges are."""

    def begin(
        self, gamma: float, u: NDArray[np.float64], w: NDArray[np.float64],
        classes: NDArray[np.int32],
    ) -> Rounds:  # fmt: skip
        """Begin a run with scores and states of all rows; it changes `w` in place."""


@dataclass
class Sweeps:
    """Runs on one graph; `classes` (n,) int32, or empty for one class."""

    place: Place
    classes: NDArray[np.int32]

    def picks(
        self, gamma: float, u: NDArray[np.float64], eligible: NDArray[np.bool_],
        quota: NDArray[np.int64], order: NDArray[np.int64], gains: NDArray[np.float64],
        *, last: bool = False,
    ) -> int:  # fmt: skip
        """Pick while the best score is above 0 and `order` has room; returns how many.

        `u`, `eligible`, `quota`, `order` and `gains` change in place as in
        :mod:`d2cli.selection.picks`. If these are the `last` picks and `order` is filled, `u` stays
        as it is. A run whose rows are lost begins again.
        """
        while True:
            w = np.empty(u.size)
            rounds.begin(u, eligible, self.classes, quota, w)
            try:
                run = self.place.begin(gamma, u, w, self.classes)
                self._finish(run, w, quota, order.size)
                count = self._ranked(run, u, w, order, gains, last=last)
            except LostError:
                continue
            run.end()
            break
        eligible[order[:count]] = False
        own = self.classes[order[:count]] if self.classes.size else np.zeros(count, np.int32)
        quota -= np.bincount(own, minlength=quota.size)
        return count

    def _ranked(
        self, run: Rounds, u: NDArray[np.float64], w: NDArray[np.float64],
        order: NDArray[np.int64], gains: NDArray[np.float64], *, last: bool,
    ) -> int:  # fmt: skip
        """Write the first of the finished rows as picks, and all scores after them into `u`."""
        rows = np.flatnonzero(w < 0)
        count = min(rows.size, order.size)
        scores = -w[rows]
        ranked = np.argsort(-scores, kind="stable")
        order[:count], gains[:count] = rows[ranked[:count]], scores[ranked[:count]]
        if count < order.size or not last:
            w[rows[ranked[count:]]] = 0.0  # finished beyond the budget: these send nothing
            run.settle(u)
        return count

    def _finish(
        self, run: Rounds, w: NDArray[np.float64], quota: NDArray[np.int64], size: int
    ) -> None:
        """Finish rows until the first `size` picks are certain, or no row is left."""
        grouped = self._grouped(quota.size)
        while run.sweep(self._limits(w, quota, size, grouped)):
            if self.classes.size:
                left = rounds.left_of_classes(w, self.classes, quota)
                rounds.close_classes(w, self.classes, left)
                run.close(left)
            elif np.count_nonzero(w < 0) >= size:
                return

    def _grouped(self, classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
        """All rows, ascending within each class, and where each class starts."""
        if not self.classes.size:
            return None
        starts = np.zeros(classes + 1, np.int64)
        np.cumsum(np.bincount(self.classes, minlength=classes), out=starts[1:])
        return np.argsort(self.classes, kind="stable"), starts

    def _limits(
        self, w: NDArray[np.float64], quota: NDArray[np.int64], size: int,
        grouped: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    ) -> rounds.Limits:  # fmt: skip
        """Down to which score rows are admitted, by the states `w` as they are."""
        bound, last = np.zeros(quota.size), np.full(quota.size, w.size)
        if grouped is not None:
            rounds.class_bounds(w, *grouped, quota, bound, last)
        elif SLACK * size < np.count_nonzero(w):
            bound[0] = np.partition(np.abs(w), w.size - SLACK * size)[w.size - SLACK * size]
        return rounds.Limits(self.classes, bound, last)


@dataclass
class InThreads:
    """Edges in memory, whose rows are gone through in threads."""

    edges: Edges
    squared: bool
    sigma: float
    threads: int

    def begin(
        self, gamma: float, u: NDArray[np.float64], w: NDArray[np.float64],
        classes: NDArray[np.int32],
    ) -> Rounds:  # fmt: skip
        """See :class:`Place`; `classes` are those of the limits."""
        del classes
        return _InThreads(self, gamma, u, w)


class _InThreads:
    """A run of :class:`InThreads`."""

    def __init__(
        self, place: InThreads, gamma: float, u: NDArray[np.float64],
        w: NDArray[np.float64],
    ) -> None:  # fmt: skip
        self._edges, self._most = place.edges, rounds.widest(place.edges)
        self._threads, self._weights = place.threads, (gamma, place.sigma, place.squared)
        self._u, self._w = u, w
        self._blocker, self._active = np.full(u.size, -1, np.int32), np.empty(u.size, np.int32)

    def sweep(self, limits: rounds.Limits) -> bool:
        counts, changed = dict.fromkeys(range(0, self._u.size, RANGE), 0), [1]

        def admit(a: int, b: int) -> None:
            counts[a] = rounds.admit(self._w, limits, a, b, self._active[a:b])

        def advance(a: int) -> None:
            counts[a], more = rounds.advance(
                self._edges, self._active[a:], counts[a], self._most, self._u, self._w,
                self._blocker, limits, *self._weights,
            )  # fmt: skip
            changed.append(more)

        for_blocks(admit, self._u.size, RANGE, self._threads)
        if not any(counts.values()):
            return False
        while any(changed) and any(counts.values()):
            changed.clear()
            each(advance, [a for a in counts if counts[a]], self._threads, lambda _: None)
        return True

    def close(self, left: NDArray[np.int64]) -> None:
        """States are those that the caller has changed."""

    def settle(self, u: NDArray[np.float64]) -> None:
        def settle(a: int, b: int) -> None:
            rounds.settle(self._edges, a, b, self._most, u, self._w, *self._weights)

        for_blocks(settle, u.size, RANGE, self._threads)

    def end(self) -> None:
        """There is nothing to forget."""
