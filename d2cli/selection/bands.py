"""The clamped greedy loop with edges on disk: only those of the next rows are in memory.

A *band* is the rows with the highest scores whose edges fit in memory together. Scores only fall,
so every pick above the highest score outside of the band is in the band. Its edges are copied from
the parts in one pass, and :func:`d2cli.selection.picks.lazy_picks` runs until its scores have
fallen to those of the other rows. Then the next band is chosen. The picks and all scores are those
of a single run, bit by bit, for every size of a band.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from d2cli.graph.knn_graph import Edges
from d2cli.messages.parts import EdgeParts
from d2cli.runtime.jit import kernel
from d2cli.selection.picks import NO_LIMITS, Purse, lazy_picks
from d2cli.selection.queue import Workspace
from d2cli.selection.sizes import BAND_EDGES

_DIGIT = 16  #: bits of a score that are looked at in one pass
_SCORE_BITS = 64


@dataclass
class Bands:
    """Runs on edges that are on disk; `classes` (n,) int32, or empty for one class."""

    parts: EdgeParts
    squared: bool
    sigma: float
    classes: NDArray[np.int32]

    @cached_property
    def degrees(self) -> NDArray[np.int32]:
        """(n,) the number of neighbours of each row."""
        return self.parts.degrees()

    @property
    def capacity(self) -> int:
        """The most edges and rows of a band; a band of one row may have more."""
        return max(BAND_EDGES, self.parts.room // 8)

    def picks(
        self, gamma: float, u: NDArray[np.float64], eligible: NDArray[np.bool_],
        quota: NDArray[np.int64], order: NDArray[np.int64], gains: NDArray[np.float64],
        workspace: Workspace, purse: Purse = NO_LIMITS,
    ) -> int:  # fmt: skip
        """Pick while the best score is above 0 and `order` has room; returns how many.

        `u`, `eligible`, `quota`, `order`, `gains` and `purse` change in place as in
        :mod:`d2cli.selection.picks`.
        """
        bits, count, band = u.view(np.int64), 0, np.empty(u.size, np.bool_)
        while count < order.size and purse.room[0]:
            bound = _bound(u, bits, eligible, self.degrees, self.capacity)
            rows = _above(u, bits, eligible, bound, band)
            lowest = float(np.int64(bound).view(np.float64))
            if not rows:  # too many rows have the highest score: the first of them
                rows = _equal(bits, eligible, bound, self.degrees, self.capacity, band)
                lowest = float(np.nextafter(lowest, 0.0))
            if not rows:
                break
            eligible &= ~band
            count += lazy_picks(
                self._edges(band), u, bits, lowest, gamma, self.sigma, self.squared,
                band, self.classes, quota, order[count:], gains[count:], purse, workspace,
            )  # fmt: skip
            eligible |= band  # those of the band that were not picked
        return count

    def _edges(self, band: NDArray[np.bool_]) -> Edges:
        """The edges of the rows of a band; the other rows have none."""
        size = int(self.degrees[band].sum(dtype=np.int64))
        indptr = np.zeros(band.size + 1, np.int64)
        indices, distances = np.empty(size, np.int32), np.empty(size, np.float32)
        for part, first in enumerate(self.parts.starts[:-1]):
            stop = self.parts.starts[part + 1]
            if band[first:stop].any():
                _copy(self.parts.load(part), first, band, indptr, indices, distances)
            else:
                indptr[first + 1 : stop + 1] = indptr[first]
        return Edges(indptr, indices, distances)


@kernel
def _bound(u, bits, eligible, degrees, capacity):
    """The bits of the score above which edges and rows fit in the capacity, and with it do not.

    0 if those of all eligible rows above 0 fit. Bits of positive scores ascend with them: the
    score is found digit by digit, from the edges of all rows with each next digit.
    """
    sums, used, found = np.empty(1 << _DIGIT, np.int64), 0, np.int64(0)
    for shift in range(_SCORE_BITS - _DIGIT, -1, -_DIGIT):
        sums[:] = 0
        for i in range(u.shape[0]):
            if not (eligible[i] and u[i] > 0):
                continue
            if shift == _SCORE_BITS - _DIGIT or bits[i] >> (shift + _DIGIT) == found:
                sums[(bits[i] >> shift) & ((1 << _DIGIT) - 1)] += degrees[i] + 1
        digit = (1 << _DIGIT) - 1
        while digit >= 0 and used + sums[digit] <= capacity:
            used += sums[digit]
            digit -= 1
        if digit < 0:  # in the first pass only
            return np.int64(0)
        found = (found << _DIGIT) | digit
    return found


@kernel
def _above(u, bits, eligible, bound, band):
    """Mark the eligible rows above the bound and above 0; returns their number."""
    count = 0
    for i in range(u.shape[0]):
        band[i] = eligible[i] and u[i] > 0 and bits[i] > bound
        count += band[i]
    return count


@kernel
def _equal(bits, eligible, bound, degrees, capacity, band):
    """Mark the first eligible rows at a positive bound that fit, at least one."""
    band[:] = False
    count = used = 0
    for i in range(bits.shape[0]):
        if eligible[i] and bits[i] == bound and bound > 0:
            used += degrees[i] + 1
            if count > 0 and used > capacity:
                break
            band[i] = True
            count += 1
    return count


@kernel
def _copy(edges, first, band, indptr, indices, distances):
    """Append the edges of the rows of a part that are in the band."""
    for p in range(edges.indptr.shape[0] - 1):
        i = first + p
        at = indptr[i]
        if band[i]:
            for e in range(edges.indptr[p], edges.indptr[p + 1]):
                indices[at], distances[at] = edges.indices[e], edges.distances[e]
                at += 1
        indptr[i + 1] = at
