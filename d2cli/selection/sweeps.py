"""Clamped greedy runs in rounds of local maxima (:mod:`d2cli.selection.rounds`): which rows when.

Rows are admitted from the highest score down, in a few steps, so that a small budget does not
finish all rows. With class quotas a row must be certain to be within the quota of its class before
it is finished, because a row beyond it sends nothing: its rank among the upper bounds of its class
tells. Without quotas, twice the budget is admitted.

Active rows are gone through again and again: in memory in ranges of RANGE rows, in threads; on disk
one part after the other, until the edges of all active rows fit in memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import each, for_blocks
from d2cli.graph.knn_graph import Edges
from d2cli.messages.parts import EdgeParts
from d2cli.selection import rounds
from d2cli.selection.sizes import RANGE, SLACK, STALLED

_NO_NAMES = np.empty(0, np.int32)


@dataclass
class Sweeps:
    """Runs on one graph; `classes` (n,) int32, or empty for one class."""

    parts: EdgeParts
    squared: bool
    sigma: float
    classes: NDArray[np.int32]
    threads: int

    def picks(
        self, gamma: float, u: NDArray[np.float64], eligible: NDArray[np.bool_],
        quota: NDArray[np.int64], order: NDArray[np.int64], gains: NDArray[np.float64],
        least: float = 0.0, *, trial: bool = False,
    ) -> int:  # fmt: skip
        """Pick while the best score is above `least` and `order` has room; returns how many.

        `u`, `eligible`, `quota`, `order` and `gains` change in place as in
        :mod:`d2cli.selection.picks`. In a `trial`, only the number of picks and the last of the
        gains are right, and nothing else changes.
        """
        run = _Run(self, gamma, u, least)
        rounds.begin(u, least, eligible, self.classes, quota, run.w)
        grouped = self._grouped(quota.size)
        while run.admit(self._limits(run.w, quota, order.size, grouped)):
            run.sweep()
            if self.classes.size:
                rounds.close_classes(run.w, self.classes, quota)
            elif np.count_nonzero(run.w < 0) >= order.size:
                break
        rows = np.flatnonzero(run.w < 0)
        count = min(rows.size, order.size)
        scores = -run.w[rows]
        if trial:
            if count:
                at = rows.size - count
                gains[:count] = np.partition(scores, at)[at:][::-1]
            return count
        ranked = np.argsort(-scores, kind="stable")
        order[:count], gains[:count] = rows[ranked[:count]], scores[ranked[:count]]
        run.w[rows[ranked[count:]]] = 0.0
        eligible[order[:count]] = False
        own = self.classes[order[:count]] if self.classes.size else np.zeros(count, np.int32)
        quota -= np.bincount(own, minlength=quota.size)
        run.settle()
        return count

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


class _Run:
    """One run: the states of its rows, and which rows are active."""

    def __init__(self, sweeps: Sweeps, gamma: float, u: NDArray[np.float64], least: float) -> None:
        self.sweeps, self.parts, self.u, self.least = sweeps, sweeps.parts, u, least
        self.weights = (gamma, sweeps.sigma, sweeps.squared)
        self.w = np.empty(u.size)
        self.blocker = np.full(u.size, -1, np.int32)
        self.places = np.empty(u.size, np.int32)
        # The ranges of each part, by their first row; `counts` of active rows in each.
        starts = self.parts.starts
        self.ranges = [range(a, b, RANGE) for a, b in pairwise(starts)]
        self.counts: dict[int, int] = {}

    def admit(self, limits: rounds.Limits) -> bool:
        """Make the admitted rows active; returns whether there are any."""
        self.limits = limits
        spans = [(a, min(a + RANGE, r.stop), r.start) for r in self.ranges for a in r]

        def one(span: tuple[int, int, int]) -> None:
            a, b, first = span
            self.counts[a] = rounds.admit(self.w, limits, first, a, b, self.places[a:b])

        each(one, spans, self.sweeps.threads, lambda _: None)
        return any(self.counts.values())

    def sweep(self) -> None:
        """Go through the active rows until none is left, or none can be finished."""
        one_part = self.parts.whole is not None
        while True:
            changed = edges = 0
            for part, ranges in enumerate(self.ranges):
                active = [a for a in ranges if self.counts[a]]
                if active:
                    loaded = self.parts.load(part)
                    changed += self._passes(loaded, ranges.start, active, to_the_end=one_part)
                    for a in active:
                        edges += rounds.edges_at(loaded, self.places[a:], self.counts[a])
            rows = sum(self.counts.values())
            if not rows or not changed:
                return
            if 8 * edges + 24 * rows <= self.parts.room:
                self._rest(rows, edges)
                return

    def _passes(self, edges: Edges, first: int, active: list[int], *, to_the_end: bool) -> int:
        """Go through the active rows of a part while that changes much; returns the changes."""
        most, total = rounds.widest(edges), 0
        while active:
            changed: list[int] = []

            def one(a: int, changed: list[int] = changed) -> None:
                left, more = rounds.advance(
                    edges, _NO_NAMES, first, self.places[a:], self.counts[a], most,
                    self.u, self.w, self.blocker, self.least, self.limits, *self.weights,
                )  # fmt: skip
                self.counts[a] = left
                changed.append(more)

            each(one, active, self.sweeps.threads, lambda _: None)
            active = [a for a in active if self.counts[a]]
            total += sum(changed)
            rows = sum(self.counts[a] for a in active)
            if sum(changed) <= (0 if to_the_end else rows // STALLED):
                break
        return total

    def _rest(self, rows: int, edges: int) -> None:
        """Finish the active rows with their edges in memory."""
        names = np.empty(rows, np.int32)
        gathered = Edges(
            np.zeros(rows + 1, np.int64), np.empty(edges, np.int32), np.empty(edges, np.float32)
        )
        at = 0
        for part, ranges in enumerate(self.ranges):
            active = [a for a in ranges if self.counts[a]]
            loaded = self.parts.load(part) if active else None
            for a in active:
                count = self.counts[a]
                names[at : at + count] = self.places[a : a + count] + ranges.start
                rounds.gather(loaded, self.places[a:], count, *gathered, at)
                at += count
                self.counts[a] = 0
        most, places = rounds.widest(gathered), np.arange(rows, dtype=np.int32)
        counts = {a: min(RANGE, rows - a) for a in range(0, rows, RANGE)}
        changed = [1]
        while any(counts.values()) and any(changed):
            changed.clear()

            def one(a: int) -> None:
                counts[a], more = rounds.advance(
                    gathered, names, 0, places[a:], counts[a], most,
                    self.u, self.w, self.blocker, self.least, self.limits, *self.weights,
                )  # fmt: skip
                changed.append(more)

            each(one, [a for a in counts if counts[a]], self.sweeps.threads, lambda _: None)

    def settle(self) -> None:
        """Write the scores of rows that are not picked after all messages into `u`."""
        for first, part in self.parts.loaded():
            most = rounds.widest(part)

            def one(
                a: int, b: int, first: int = first, part: Edges = part, most: int = most
            ) -> None:
                rounds.settle(
                    part, first, first + a, first + b, most, self.u, self.w, *self.weights
                )

            for_blocks(one, part.indptr.size - 1, RANGE, self.sweeps.threads)
