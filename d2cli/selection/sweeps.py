"""Clamped greedy runs in rounds of local maxima (:mod:`d2cli.selection.rounds`): which rows when.

Rows are admitted from the highest score down, in a few steps, so that a small budget does not
finish all rows. With class quotas a row must be certain to be within the quota of its class before
it is finished, because a row beyond it sends nothing: its rank among the upper bounds of its class
tells. Without quotas, rows for SLACK times the budget are admitted.

Active rows are gone through again and again in ranges of RANGE rows, in threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import each, for_blocks
from d2cli.graph.knn_graph import Edges
from d2cli.selection import rounds
from d2cli.selection.sizes import RANGE, SLACK


@dataclass
class Sweeps:
    """Runs on one graph; `classes` (n,) int32, or empty for one class."""

    edges: Edges
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
        w, most = np.empty(u.size), rounds.widest(self.edges)
        rounds.begin(u, least, eligible, self.classes, quota, w)
        self._finish(gamma, u, w, quota, order.size, least, most)
        rows = np.flatnonzero(w < 0)
        count = min(rows.size, order.size)
        scores = -w[rows]
        if trial:
            if count:
                at = rows.size - count
                gains[:count] = np.partition(scores, at)[at:][::-1]
            return count
        ranked = np.argsort(-scores, kind="stable")
        order[:count], gains[:count] = rows[ranked[:count]], scores[ranked[:count]]
        w[rows[ranked[count:]]] = 0.0  # finished beyond the budget: these send nothing
        eligible[order[:count]] = False
        own = self.classes[order[:count]] if self.classes.size else np.zeros(count, np.int32)
        quota -= np.bincount(own, minlength=quota.size)

        def settle(a: int, b: int) -> None:
            rounds.settle(self.edges, a, b, most, u, w, gamma, self.sigma, self.squared)

        for_blocks(settle, u.size, RANGE, self.threads)
        return count

    def _finish(
        self, gamma: float, u: NDArray[np.float64], w: NDArray[np.float64],
        quota: NDArray[np.int64], size: int, least: float, most: int,
    ) -> None:  # fmt: skip
        """Finish rows until the first `size` picks are certain, or no row is left."""
        blocker, active = np.full(u.size, -1, np.int32), np.empty(u.size, np.int32)
        counts = dict.fromkeys(range(0, u.size, RANGE), 0)  # active rows of each range
        grouped = self._grouped(quota.size)
        while True:
            limits, changed = self._limits(w, quota, size, grouped), [1]

            def admit(a: int, b: int, limits: rounds.Limits = limits) -> None:
                counts[a] = rounds.admit(w, limits, a, b, active[a:b])

            def advance(
                a: int, limits: rounds.Limits = limits, changed: list[int] = changed
            ) -> None:
                counts[a], more = rounds.advance(
                    self.edges, active[a:], counts[a], most, u, w, blocker, least, limits,
                    gamma, self.sigma, self.squared,
                )  # fmt: skip
                changed.append(more)

            for_blocks(admit, u.size, RANGE, self.threads)
            if not any(counts.values()):
                return
            while any(changed) and any(counts.values()):
                changed.clear()
                each(advance, [a for a in counts if counts[a]], self.threads, lambda _: None)
            if self.classes.size:
                rounds.close_classes(w, self.classes, quota)
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
