"""Candidates for nearest neighbours, by matrix products in float32, and what these cannot miss."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import for_blocks
from d2cli.graph.lists import half_square_norms, keep_nearest
from d2cli.graph.vectors import Group, block_rows, power_of_two_scale
from d2cli.runtime.jit import kernel
from d2cli.runtime.products import product

#: Rows of one product: queries by base. The product, 1 MB, stays in a core's own cache.
QUERIES, _BASE = 256, 1024
#: Of at most so many numbers the scaled and centred blocks are kept: 32 MB.
_KEPT_NUMBERS = 1 << 23
#: Rows whose mean is taken for the centre.
_CENTRE_ROWS = 256
_FLOAT32_STEP = 2.0**-24

#: Rows (m, w) int32, -1 for none, and (m,) float64, the distance below which none was missed: where
#: all rows are candidates, infinity.
Candidates = tuple[NDArray[np.int32], NDArray[np.float64]]


class Screen:
    """Finds candidates among the rows of a group by ``|x|²/2 - q·x`` in float32, on blocks that are
    scaled and centred where that helps.

    A row is the nearest candidate to itself; ranking by true distance drops it.

    Attributes:
        size: n, how many rows are in the group.
        halves: (n,) float32, half the squared norms of the scaled and centred rows.
    """

    def __init__(self, group: Group, threads: int, asking: Group | None = None) -> None:
        """`asking` are the rows to search for, where others than the group's are among them."""
        self.group, self.size = group, len(group)
        vectors, d = group.vectors, group.vectors.shape[1]
        self.scale = power_of_two_scale(threads, group, *(() if asking is None else (asking,)))
        # Any centre will do; in the type of the vectors each subtraction rounds once.
        some = group.take(np.arange(0, self.size, -(-self.size // _CENTRE_ROWS))) * self.scale
        centre = some.mean(axis=0, dtype=np.float64)
        spread = np.square(some - centre).sum(axis=1).max()
        # Rows around the origin are as good as centred.
        self.centre = None if centre @ centre <= spread else centre.astype(vectors.dtype)
        self.kept = None
        if self.size * d <= _KEPT_NUMBERS:
            self.kept = self._centred(group.block(0, self.size))
        self.halves = np.empty(self.size, np.float32)

        def measure(start: int, stop: int) -> None:
            half_square_norms(self.block(start, stop), self.halves[start:stop])

        for_blocks(measure, self.size, block_rows(d), threads)
        self.reach = float(2 * self.halves.max()) ** 0.5

    def _centred(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        if self.scale != 1.0:
            rows = rows * self.scale
        if self.centre is not None:
            rows = rows - self.centre
        return rows.astype(np.float32, copy=False)

    def block(self, start: int, stop: int) -> NDArray[np.float32]:
        """The rows numbered start … stop, scaled and centred."""
        if self.kept is not None:
            return self.kept[start:stop]
        return self._centred(self.group.block(start, stop))

    def candidates(self, rows: NDArray[np.int64], width: int) -> Candidates:
        """`width` candidates for each of these rows of all vectors."""
        n = self.size
        q = self._centred(self.group.vectors[rows])
        found = np.full((rows.size, width), -1, np.int32)
        scores = np.full((rows.size, width), np.inf, np.float32)
        room = np.empty(rows.size * min(_BASE, n), np.float32)
        for start in range(0, n, _BASE):
            base = self.block(start, start + _BASE)
            # Cut from the front: a product with gaps between its rows is slower.
            block = room[: q.shape[0] * base.shape[0]].reshape(q.shape[0], base.shape[0])
            product(q, base.T, out=block)
            keep_nearest(block, self.halves[start : start + _BASE], start, scores, found)
        return self._judged(q, found, scores)

    def listed(
        self, start: int, found: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> Candidates:
        """The candidates that lists hold, of the group's rows from number `start` on.

        Args:
            found: (m, w) int32, the w best of all numbers in the group, for m rows of it.
            scores: (m, w) float32, theirs, ascending.
        """
        return self._judged(self.block(start, start + len(found)), found, scores)

    def _judged(
        self, q: NDArray[np.float32], found: NDArray[np.int32], scores: NDArray[np.float32]
    ) -> Candidates:
        missed_from = np.full(len(q), np.inf)
        if found.shape[1] < self.size:
            _bound_what_is_missed(q, scores, self.reach, self.scale, missed_from)
        return self.group.listed(found), missed_from


@kernel
def rounding(d):
    """What the rounding of a d-term dot product in float32, of the squares and of the inputs
    themselves may come to, in parts of the largest magnitude: d + 8 steps (Higham 2002, section
    3.1).
    """
    return (d + 8) * _FLOAT32_STEP


@kernel
def _bound_what_is_missed(q, scores, reach, scale, missed_from):
    """Bound from below the distances of all that did not make the lists; writes missed_from (m,).

    `scores` are |x|²/2 - q·x of those that did, ascending, and `reach` is the length of the longest
    x.
    """
    rounded = rounding(q.shape[1])
    for r in range(q.shape[0]):
        own = 0.0
        for c in range(q.shape[1]):
            own += np.float64(q[r, c]) * np.float64(q[r, c])
        magnitude = math.sqrt(own) + reach
        least = own + 2.0 * scores[r, -1] - rounded * magnitude * magnitude
        # Distances compare as rounded to float32: one more step on each side.
        missed_from[r] = math.sqrt(max(least, 0.0)) / scale * (1 - 4 * _FLOAT32_STEP)
