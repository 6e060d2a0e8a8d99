"""Reduces the dimensions: principal axes, and the number of axes that keeps neighbours near."""

from typing import NamedTuple

import numpy as np

from d2cli.engine.threads import for_blocks
from d2cli.graph.distances import half_square_norms, keep_nearest
from d2cli.graph.ivf.sizes import AXES_BLOCK, AXES_ROWS, AXES_ROWS_PER_DIMENSION, FIRST_WIDTH
from d2cli.graph.recall import Truth
from d2cli.graph.vectors import Group, power_of_two_scale
from d2cli.runtime.arrays import Float32, Floats
from d2cli.runtime.jit import kernel
from d2cli.runtime.products import product

#: Widths are multiples of this, a whole number of vector registers.
_WIDTH_STEP = 32


class Principal(NamedTuple):
    """Principal axes of ``vectors · scale``."""

    scale: float  # a power of two that scales values near 1
    mean: Float32 | None  # (d,); None if the rows lie around the origin
    axes: Float32  # (d, d), one axis per column, largest variance first
    variances: Float32  # (d,)

    def centred(self, rows: Floats) -> Float32:
        """Scaled and centred rows, float32; the rows themselves if neither is needed."""
        if self.scale != 1.0:
            rows = rows * self.scale
        rows = rows.astype(np.float32, copy=False)
        return rows if self.mean is None else rows - self.mean


def _principal_axes(group: Group, rng: np.random.Generator, threads: int) -> Principal:
    """Principal axes, estimated on a random sample of the rows."""
    n, d, scale = len(group), group.vectors.shape[1], power_of_two_scale(threads, group)
    size = min(n, max(AXES_ROWS, AXES_ROWS_PER_DIMENSION * d))
    sample = group.vectors[group.rows_at(np.sort(rng.choice(n, size, replace=False)))] * scale
    sample = sample.astype(np.float32, copy=False)
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample -= mean
    products = np.empty((-(-size // AXES_BLOCK), d, d), np.float32)

    for_blocks(
        lambda a, b: product(sample[a:b].T, sample[a:b], out=products[a // AXES_BLOCK]),
        size, AXES_BLOCK, threads,
    )  # fmt: skip
    variances, axes = np.linalg.eigh(products.sum(axis=0))
    variances = np.maximum(variances[::-1], 0)
    around = mean @ mean <= variances.sum() / size  # centring would change only rounding errors
    axes = np.ascontiguousarray(axes[:, ::-1])
    return Principal(scale, None if around else mean, axes, variances)


def reduce_dimensions(
    group: Group, truth: Truth, list_size: int, wanted: float, rng: np.random.Generator,
    threads: int,
) -> Float32:  # fmt: skip
    """Coordinates (n, width) float32 on the first principal axes.

    The width is the smallest multiple of 32 for which at least the share `wanted` of the true
    neighbours are among the `list_size` nearest rows; if there is none, all axes.
    """
    d, truth = group.vectors.shape[1], truth.part(0, 128)
    principal = _principal_axes(group, rng, threads)
    variance = np.cumsum(principal.variances)
    width = int(np.searchsorted(variance, 0.9 * variance[-1])) + 1  # for the first try
    held = min(d, max(FIRST_WIDTH, -(-width // _WIDTH_STEP) * _WIDTH_STEP))
    while True:
        reduced = _project(group, principal, held, threads)
        for width, kept in _shares_kept(reduced, truth, list_size, threads):
            if kept >= wanted:
                return reduced if width == held else _narrow(reduced, width)
        if held == d:
            return reduced
        del reduced  # frees memory before the wider one is made
        held = min(2 * held, d)


def _project(group: Group, principal: Principal, width: int, threads: int) -> Float32:
    axes = np.ascontiguousarray(principal.axes[:, :width])
    reduced = np.empty((len(group), width), np.float32)

    for_blocks(
        lambda a, b: product(principal.centred(group.block(a, b)), axes, out=reduced[a:b]),
        len(group), AXES_BLOCK, threads,
    )  # fmt: skip
    return reduced


def _shares_kept(
    reduced: Float32, truth: Truth, list_size: int, threads: int
) -> list[tuple[int, float]]:
    """(width, share of true neighbours among the `list_size` nearest in that many dimensions).

    The share bounds the recall of a search in these dimensions. The widths are the multiples of 32
    below the number of columns, and all columns.
    """
    held = reduced.shape[1]
    widths = [*range(_WIDTH_STEP, held, _WIDTH_STEP), held]
    queries = reduced[truth.rows]
    shape = (len(widths), len(queries), list_size + 1)  # one more for the row itself
    scores, found = np.full(shape, np.inf, np.float32), np.full(shape, -1, np.int32)

    def compare(start: int, stop: int) -> None:
        """Keep the smallest scores |v|²/2 - q·v, adding the columns of one width after another."""
        for lo in range(0, len(reduced), AXES_BLOCK):
            block = reduced[lo : lo + AXES_BLOCK]
            halves, more = np.zeros(len(block), np.float32), np.empty(len(block), np.float32)
            products = np.zeros((stop - start, len(block)), np.float32)
            for w, width in enumerate(widths):
                columns = slice(widths[w - 1] if w else 0, width)
                half_square_norms(block[:, columns], more)
                halves += more
                products += product(queries[start:stop, columns], block[:, columns].T)
                keep_nearest(products, halves, lo, scores[w, start:stop], found[w, start:stop])

    for_blocks(compare, len(queries), 64, threads)
    near = truth.neighbors[:, :, None]
    shares = [float((near == lists[:, None, :]).any(axis=2).mean()) for lists in found]
    return [*zip(widths, shares, strict=True)]


def _narrow(reduced: Float32, width: int) -> Float32:
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
