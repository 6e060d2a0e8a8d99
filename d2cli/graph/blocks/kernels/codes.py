"""int8 codes: rows projected on their first principal axes, rotated, scaled and rounded.

From the codes on, all scores are exact integers: no result depends on the order of sums.
"""

from typing import NamedTuple

import numpy as np

from d2cli.engine.threads import for_blocks
from d2cli.graph.blocks.sizes import (
    AXES_ROWS,
    AXES_ROWS_PER_DIMENSION,
    FEW_AXES,
    OVERSAMPLED,
    PROJECTED_ROWS,
)
from d2cli.graph.vectors import Group, power_of_two_scale
from d2cli.runtime.arrays import Float32, Floats, Int32, UInt8
from d2cli.runtime.floats.products import product
from d2cli.runtime.int8.sizes import BIAS, GROUP, LARGEST
from d2cli.runtime.jit import kernel

#: Axes that are rotated among themselves. The first axes of a coder are then a coder too.
ROTATED = 64
#: The share of coordinates that are not clipped to the largest code.
_NOT_CLIPPED = 0.99999
#: Passes of the iteration of a random subspace.
_ITERATIONS = 2
#: Numbers of the sample from which the scale is taken.
_SCALE_ROWS = 4096


class Coder(NamedTuple):
    """Turns rows of d dimensions into codes of r dimensions.

    Codes are stored as code + 128, uint8, -127 … 127. If r <= d, their differences approximate
    those of the rows, up to one factor; the dimensions after the first d are 0.
    """

    scale: float  # a power of two that scales values near 1
    mean: Float32  # (d,)
    axes: Float32  # (d, r), of scaled and centred rows to coordinates of codes
    width: int  # r, a multiple of 4

    def narrowed(self, width: int) -> "Coder":
        """The coder of the first `width` dimensions, a multiple of ROTATED or the whole."""
        axes = np.ascontiguousarray(self.axes[:, :width])
        return Coder(self.scale, self.mean, axes, width)

    def encode(self, rows: Floats) -> tuple[UInt8, Int32]:
        """Codes (n, r) uint8 of rows (n, d), and half their square norms (n,) int32, floored."""
        codes = np.empty((len(rows), self.width), np.uint8)
        halves = np.empty(len(rows), np.int32)
        for start in range(0, len(rows), PROJECTED_ROWS):
            block = slice(start, start + PROJECTED_ROWS)
            _round(self._projected(rows[block]), codes[block], halves[block])
        return codes, halves

    def _projected(self, rows: Floats) -> Float32:
        if self.scale != 1.0:
            rows = rows * self.scale
        return product(rows.astype(np.float32, copy=False) - self.mean, self.axes)


def fit_coder(group: Group, most: int, rng: np.random.Generator, threads: int) -> Coder:
    """A coder of min(d, `most`) dimensions, rounded up to a multiple of 4, from a random sample."""
    n, d, scale = len(group), group.vectors.shape[1], power_of_two_scale(threads, group)
    size = min(n, max(AXES_ROWS, AXES_ROWS_PER_DIMENSION * d))
    sample = group.vectors_at(np.sort(rng.choice(n, size, replace=False))) * scale
    sample = sample.astype(np.float32, copy=False)
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample = sample - mean
    kept = min(d, most)
    axes = _principal_axes(sample, kept, rng, threads)
    for start in range(0, kept, ROTATED):
        some = slice(start, min(start + ROTATED, kept))
        axes[:, some] = axes[:, some] @ _rotation(some.stop - start, rng)
    width = -(-kept // GROUP) * GROUP
    padded = np.zeros((d, width), np.float32)
    padded[:, :kept] = axes
    coordinates = product(sample[:_SCALE_ROWS], padded)
    reach = float(np.quantile(np.abs(coordinates), _NOT_CLIPPED)) or 1.0
    return Coder(scale, mean, padded * np.float32(LARGEST / reach), width)


def _principal_axes(sample: Float32, kept: int, rng: np.random.Generator, threads: int) -> Float32:
    """The first `kept` principal axes (d, kept) of centred rows (n, d), largest variance first.

    Many axes are found by iterating a random subspace (Halko, Martinsson, Tropp 2011, SIAM Review
    53, algorithm 4.4).
    """
    n, d = sample.shape
    if d <= FEW_AXES:
        products = np.empty((-(-n // PROJECTED_ROWS), d, d), np.float32)
        for_blocks(
            lambda a, b: product(sample[a:b].T, sample[a:b], out=products[a // PROJECTED_ROWS]),
            n, PROJECTED_ROWS, threads,
        )  # fmt: skip
        return np.ascontiguousarray(np.linalg.eigh(products.sum(axis=0))[1][:, ::-1][:, :kept])
    space = rng.standard_normal((d, min(d, kept + OVERSAMPLED))).astype(np.float32)
    for _ in range(_ITERATIONS):
        space = np.linalg.qr(product(sample.T, product(sample, space)))[0]
    seen = product(sample, space)
    within = np.linalg.eigh(product(seen.T, seen))[1][:, ::-1][:, :kept]
    return product(space, np.ascontiguousarray(within))


def _rotation(size: int, rng: np.random.Generator) -> Float32:
    """A random rotation, which gives all coordinates about the same variance."""
    return np.linalg.qr(rng.standard_normal((size, size)))[0].astype(np.float32)


@kernel
def _round(coordinates, codes, halves):
    """Codes <- coordinates rounded and clipped, + 128; halves <- half the square norms, floored."""
    for i in range(coordinates.shape[0]):
        total = np.int32(0)
        for t in range(coordinates.shape[1]):
            value = np.floor(coordinates[i, t] + np.float32(0.5))
            value = min(max(value, np.float32(-LARGEST)), np.float32(LARGEST))
            code = np.int32(value)
            total += code * code
            codes[i, t] = code + BIAS
        halves[i] = total >> 1


@kernel
def half_norms(codes, halves):
    """Halves (n,) int32 <- half the square norms of codes (n, r) uint8, floored."""
    for i in range(codes.shape[0]):
        total = np.int32(0)
        for t in range(codes.shape[1]):
            code = np.int32(codes[i, t]) - np.int32(BIAS)
            total += code * code
        halves[i] = total >> 1
