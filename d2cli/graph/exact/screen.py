"""Candidates for nearest neighbours by float32 products, with a proven bound on all other rows."""

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import for_blocks
from d2cli.graph.distances import half_square_norms, keep_nearest
from d2cli.graph.exact.sizes import BASE_ROWS, CENTRE_ROWS, KEPT_NUMBERS
from d2cli.graph.vectors import Group, block_rows, power_of_two_scale
from d2cli.runtime.arrays import Float32, Floats, Int32, Int64
from d2cli.runtime.floats.products import product
from d2cli.runtime.jit import kernel

#: Unit roundoff of float32.
_FLOAT32_STEP = 2.0**-24
#: More than a product loses if it is too small for float32.
_UNDERFLOW = 2.0**-120

#: Candidates (m, w) int32 as rows of all vectors, -1 for none; and missed_from (m,) float64: every
#: row that is no candidate is at least this far away (infinity if all rows are candidates).
Candidates = tuple[Int32, NDArray[np.float64]]
Squares = NDArray[np.float64]


class Screen:
    """Finds candidates among the n rows of a group by the score ``h - q·x`` in float32.

    Rows are scaled and centred first if that reduces rounding errors. `halves` (n,) are h, half the
    squared norms less a bound on all rounding errors that grow with the row x (:meth:`_lowered`).
    So ``|q|² + 2 · score``, less what grows with q, is a lower bound of the squared distance.
    A row is its own nearest candidate; ranking by true distance drops it.
    """

    def __init__(self, group: Group, threads: int, asking: Group | None = None) -> None:
        """`asking` holds the rows to search for, if some of them are not in `group`."""
        self.group, self.size = group, len(group)
        n, vectors, d = len(group), group.vectors, group.vectors.shape[1]
        self.scale = power_of_two_scale(threads, group, *(() if asking is None else (asking,)))
        self.error = rounding(d)
        # Any centre is correct. In the dtype of the vectors, each subtraction rounds once.
        some = group.rows_at(np.arange(0, n, -(-n // CENTRE_ROWS)))
        sample = vectors[some] * self.scale
        centre = sample.mean(axis=0, dtype=np.float64)
        spread = np.square(sample - centre).sum(axis=1).max()
        # Rows around the origin need no centring.
        self.centre = None if centre @ centre <= spread else centre.astype(vectors.dtype)
        self.kept = self._centred(group.block(0, n)) if n * d <= KEPT_NUMBERS else None
        self.halves = np.empty(self.size, np.float32)
        for_blocks(self._lowered, n, block_rows(d), threads)

    def _lowered(self, start: int, stop: int) -> None:
        """Errors are at most ``error · (|q| + |x|)² <= 2 · error · (|q|² + |x|²)``."""
        halves = self.halves[start:stop]
        half_square_norms(self.block(start, stop), halves)
        # |x|² is 2 · halves, up to a relative error that the last factor covers.
        halves *= np.float32(1 - 2 * self.error * (1 + 2 * self.error))

    def _centred(self, rows: Floats) -> Float32:
        if self.scale != 1.0:
            rows = rows * self.scale
        if self.centre is not None:
            rows = rows - self.centre
        return rows.astype(np.float32, copy=False)

    def block(self, start: int, stop: int) -> Float32:
        """The rows numbered start … stop, scaled and centred."""
        if self.kept is not None:
            return self.kept[start:stop]
        return self._centred(self.group.block(start, stop))

    def candidates(self, rows: Int64, width: int) -> Candidates:
        """`width` candidates for each of these rows (m,) of all vectors."""
        q = self._centred(self.group.vectors[rows])
        found = np.full((rows.size, width), -1, np.int32)
        scores = np.full((rows.size, width), np.inf, np.float32)
        buffer = np.empty(rows.size * min(BASE_ROWS, self.size), np.float32)
        for start in range(0, self.size, BASE_ROWS):
            base = self.block(start, start + BASE_ROWS)
            # A contiguous output: products are slower with gaps between rows.
            block = buffer[: q.shape[0] * base.shape[0]].reshape(q.shape[0], base.shape[0])
            product(q, base.T, out=block)
            keep_nearest(block, self.halves[start : start + BASE_ROWS], start, scores, found)
        return self._judged(q, found, scores)

    def listed(self, start: int, found: Int32, scores: Float32) -> Candidates:
        """Candidates from the lists `found` (m, w), numbers in the group, and `scores`, ascending.

        The lists are those of the group's rows number start, start + 1, ….
        """
        return self._judged(self.block(start, start + len(found)), found, scores)

    def _judged(self, q: Float32, found: Int32, scores: Float32) -> Candidates:
        missed_from = np.full(len(q), np.inf)
        if found.shape[1] < self.size:
            square = self._own(q) + 2.0 * scores[:, -1]
            # Distances are compared after rounding to float32.
            missed_from = np.sqrt(np.maximum(square, 0.0)) / self.scale * (1 - 4 * _FLOAT32_STEP)
        return self.group.listed(found), missed_from

    def _own(self, q: Float32) -> Squares:
        """|q|² less all errors that grow with q, or that underflow, of centred rows q (m, d)."""
        square = np.einsum("ij,ij->i", q, q, dtype=np.float64)
        return square * (1 - 2 * self.error) - q.shape[1] * _UNDERFLOW

    def blur(self, vectors: Floats) -> Squares:
        """(m,): about this far around each vector (m, d), errors hide which row is nearer."""
        q = self._centred(vectors)
        square = np.einsum("ij,ij->i", q, q, dtype=np.float64)
        return np.sqrt(4 * self.error * square) / self.scale

    def limits(self, vectors: Floats, radii: Squares) -> tuple[Float32, Float32]:
        """Centred vectors (m, d), and the score that no row within `radii` (m,) of them exceeds."""
        q = self._centred(vectors)
        limits = (np.square(radii * self.scale) - self._own(q)) / 2
        return q, np.nextafter(limits.astype(np.float32), np.float32(np.inf))


@kernel
def rounding(d):
    """Relative error bound of a score with d terms in float32: (d + 8) · 2^-24.

    It covers the rounding of the dot product, of the squared norms and of the inputs (Higham 2002,
    *Accuracy and Stability of Numerical Algorithms*, section 3.1).
    """
    return (d + 8) * _FLOAT32_STEP
