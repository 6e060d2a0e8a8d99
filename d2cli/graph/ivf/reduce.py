"""Reduces the dimensions: principal axes, and the number of axes that keeps neighbours near."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import for_blocks
from d2cli.graph.distances import half_square_norms, keep_nearest
from d2cli.graph.ivf.sizes import AXES_BLOCK, AXES_ROWS, AXES_ROWS_PER_DIMENSION, FIRST_WIDTH
from d2cli.graph.recall import Truth
from d2cli.graph.vectors import Group
from d2cli.runtime.jit import kernel
from d2cli.runtime.products import product

#: Rows with known neighbours that the width is chosen by.
_WIDTH_SAMPLE = 128
#: Rows of this sample in one block.
_SAMPLE_BLOCK = 64
#: Widths are multiples of this, a whole number of vector registers.
_WIDTH_STEP = 32
#: Share of the variance held while the width is chosen.
_FIRST_SHARE = 0.9


@dataclass(frozen=True)
class Principal:
    """Principal axes of ``vectors · scale``.

    Attributes:
        scale: a power of two that scales values near 1.
        mean: (d,) float32; None if the rows lie around the origin.
        axes: (d, d) float32, one axis per column, largest variance first.
        variances: (d,) float32.
    """

    scale: float
    mean: NDArray[np.float32] | None
    axes: NDArray[np.float32]
    variances: NDArray[np.float32]

    def centred(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scaled and centred rows, float32; the rows themselves if neither is needed."""
        if self.scale != 1.0:
            rows = rows * self.scale
        rows = rows.astype(np.float32, copy=False)
        return rows if self.mean is None else rows - self.mean

    def width_of(self, share: float) -> int:
        """The number of axes that hold `share` of the variance."""
        held = np.cumsum(self.variances)
        return int(np.searchsorted(held, share * held[-1])) + 1


def principal_axes(group: Group, scale: float, rng: np.random.Generator, threads: int) -> Principal:
    """Principal axes, estimated on a random sample of the rows."""
    n, d = len(group), group.vectors.shape[1]
    size = min(n, max(AXES_ROWS, AXES_ROWS_PER_DIMENSION * d))
    sample = group.take(np.sort(rng.choice(n, size, replace=False))) * scale
    sample = sample.astype(np.float32, copy=False)
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample -= mean
    products = np.empty((-(-size // AXES_BLOCK), d, d), np.float32)

    def multiply(start: int, stop: int) -> None:
        rows = sample[start:stop]
        product(rows.T, rows, out=products[start // AXES_BLOCK])

    for_blocks(multiply, size, AXES_BLOCK, threads)
    variances, axes = np.linalg.eigh(products.sum(axis=0))
    variances = np.maximum(variances[::-1], 0)
    # Centring changes only the rounding of distances.
    around = mean @ mean <= variances.sum() / size
    return Principal(
        scale, None if around else mean, np.ascontiguousarray(axes[:, ::-1]), variances
    )


def reduce_dimensions(
    group: Group, principal: Principal, truth: Truth, list_size: int, wanted: float, threads: int
) -> NDArray[np.float32]:
    """Coordinates (n, width) float32 on the first principal axes.

    The width is the smallest multiple of 32 for which at least the share `wanted` of the true
    neighbours are among the `list_size` nearest rows; if there is none, all axes.
    """
    d = group.vectors.shape[1]
    truth = truth.part(0, _WIDTH_SAMPLE)
    held = min(d, max(FIRST_WIDTH, _round_up(principal.width_of(_FIRST_SHARE))))
    while True:
        reduced = _project(group, principal, held, threads)
        for width, kept in _shares_kept(reduced, truth, list_size, threads):
            if kept >= wanted:
                return reduced if width == held else _narrow(reduced, width)
        if held == d:
            return reduced
        del reduced  # frees memory before the wider one is made
        held = min(2 * held, d)


def _round_up(width: int) -> int:
    return -(-width // _WIDTH_STEP) * _WIDTH_STEP


def _project(group: Group, principal: Principal, width: int, threads: int) -> NDArray[np.float32]:
    axes = np.ascontiguousarray(principal.axes[:, :width])
    reduced = np.empty((len(group), width), np.float32)

    def turn(start: int, stop: int) -> None:
        product(principal.centred(group.block(start, stop)), axes, out=reduced[start:stop])

    for_blocks(turn, len(group), AXES_BLOCK, threads)
    return reduced


def _shares_kept(
    reduced: NDArray[np.float32], truth: Truth, list_size: int, threads: int
) -> list[tuple[int, float]]:
    """(width, share of true neighbours among the `list_size` nearest in that many dimensions).

    The share is the highest recall that a search in these dimensions can reach. The widths are the
    multiples of 32 below the number of columns, and all columns.
    """
    held = reduced.shape[1]
    widths = [*range(_WIDTH_STEP, held, _WIDTH_STEP), held]
    queries = reduced[truth.rows]
    # One place more for the row itself.
    shape = (len(widths), len(queries), list_size + 1)
    scores = np.full(shape, np.inf, np.float32)
    found = np.full(shape, -1, np.int32)

    def compare(start: int, stop: int) -> None:
        """Keep the smallest scores |v|²/2 - q·v, adding the columns of one width after another."""
        halves, more = np.zeros(AXES_BLOCK, np.float32), np.empty(AXES_BLOCK, np.float32)
        for lo in range(0, len(reduced), AXES_BLOCK):
            block = reduced[lo : lo + AXES_BLOCK]
            size = len(block)
            halves[:size] = 0
            products = np.zeros((stop - start, size), np.float32)
            for w, width in enumerate(widths):
                columns = slice(widths[w - 1] if w else 0, width)
                half_square_norms(block[:, columns], more[:size])
                halves[:size] += more[:size]
                products += product(queries[start:stop, columns], block[:, columns].T)
                keep_nearest(products, halves, lo, scores[w, start:stop], found[w, start:stop])

    for_blocks(compare, len(queries), _SAMPLE_BLOCK, threads)
    return [(width, truth.share_among(f)) for width, f in zip(widths, found, strict=True)]


def _narrow(reduced: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """The first `width` columns, contiguous, in the memory of `reduced`."""
    n, held = reduced.shape
    flat = reduced.reshape(-1)
    _pack(flat, n, held, width)
    return flat[: n * width].reshape(n, width)


@kernel
def _pack(flat, n, held, width):
    for r in range(n):
        for t in range(width):
            flat[r * width + t] = flat[r * held + t]
