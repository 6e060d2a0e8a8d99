"""Fewer dimensions to search in: principal axes, and how many of them the neighbours need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import for_blocks
from d2cli.graph.lists import half_square_norms, keep_nearest
from d2cli.graph.recall import Truth
from d2cli.graph.vectors import Group
from d2cli.runtime.jit import kernel
from d2cli.runtime.products import product

#: Rows that the axes are estimated from, at least, and at least so many for each dimension.
_SAMPLE_ROWS, _SAMPLE_ROWS_PER_DIMENSION = 8192, 8
#: Rows of one matrix product; fixed, so that no result depends on the threads.
_BLOCK = 1024
#: Rows with known neighbours that the width is chosen by, and how many one worker takes.
_WIDTH_SAMPLE, _SAMPLE_BLOCK = 128, 64
#: Widths tried are multiples of this: what loops over floats take at a time.
_WIDTH_STEP = 32
#: Kept while the width is being chosen: at least so many dimensions, and so much of the variance.
_FIRST_WIDTH, _FIRST_SHARE = 128, 0.9


@dataclass(frozen=True)
class Principal:
    """Principal axes of ``vectors · scale``.

    Attributes:
        scale: a power of two that brings values near 1.
        mean: (d,) float32; None where rows lie around the origin anyway.
        axes: (d, d) float32, widest first, as columns.
        variances: (d,) float32.
    """

    scale: float
    mean: NDArray[np.float32] | None
    axes: NDArray[np.float32]
    variances: NDArray[np.float32]

    def centred(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Rows scaled and centred; they themselves where nothing needs to be done."""
        if self.scale != 1.0:
            rows = rows * self.scale
        rows = rows.astype(np.float32, copy=False)
        return rows if self.mean is None else rows - self.mean

    def width_of(self, share: float) -> int:
        """How many axes hold `share` of the variance."""
        held = np.cumsum(self.variances)
        return int(np.searchsorted(held, share * held[-1])) + 1


def principal_axes(group: Group, scale: float, rng: np.random.Generator, threads: int) -> Principal:
    """Principal axes, estimated from a random sample of the rows."""
    n, d = len(group), group.vectors.shape[1]
    size = min(n, max(_SAMPLE_ROWS, _SAMPLE_ROWS_PER_DIMENSION * d))
    sample = group.take(np.sort(rng.choice(n, size, replace=False))) * scale
    sample = sample.astype(np.float32, copy=False)
    mean = sample.mean(axis=0, dtype=np.float64).astype(np.float32)
    sample -= mean
    products = np.empty((-(-size // _BLOCK), d, d), np.float32)

    def multiply(start: int, stop: int) -> None:
        rows = sample[start:stop]
        product(rows.T, rows, out=products[start // _BLOCK])

    for_blocks(multiply, size, _BLOCK, threads)
    variances, axes = np.linalg.eigh(products.sum(axis=0))
    variances = np.maximum(variances[::-1], 0)
    # Where the origin stands does not matter to a distance, but to how it is rounded.
    around = mean @ mean <= variances.sum() / size
    return Principal(
        scale, None if around else mean, np.ascontiguousarray(axes[:, ::-1]), variances
    )


def reduce_dimensions(
    group: Group,
    principal: Principal,
    truth: Truth,
    list_size: int,
    wanted: float,
    threads: int,
) -> NDArray[np.float32]:
    """Coordinates (n, width) float32 on about the fewest axes that keep neighbours near.

    The width is the least, in steps, in which the share `wanted` of the true neighbours are among
    the `list_size` nearest. Where all axes are needed the rows are merely turned.
    """
    d = group.vectors.shape[1]
    truth = truth.part(0, _WIDTH_SAMPLE)
    held = min(d, max(_FIRST_WIDTH, _round_up(principal.width_of(_FIRST_SHARE))))
    while True:
        reduced = _project(group, principal, held, threads)
        for width, kept in _shares_kept(reduced, truth, list_size, threads):
            if kept >= wanted:
                return reduced if width == held else _narrow(reduced, width)
        if held == d:
            return reduced
        del reduced  # before the wider one is made: there is never more than one
        held = min(2 * held, d)


def _round_up(width: int) -> int:
    return -(-width // _WIDTH_STEP) * _WIDTH_STEP


def _project(group: Group, principal: Principal, width: int, threads: int) -> NDArray[np.float32]:
    axes = np.ascontiguousarray(principal.axes[:, :width])
    reduced = np.empty((len(group), width), np.float32)

    def turn(start: int, stop: int) -> None:
        product(principal.centred(group.block(start, stop)), axes, out=reduced[start:stop])

    for_blocks(turn, len(group), _BLOCK, threads)
    return reduced


def _shares_kept(
    reduced: NDArray[np.float32], truth: Truth, list_size: int, threads: int
) -> list[tuple[int, float]]:
    """For each width, the share of true neighbours among the `list_size` nearest in it.

    It is the highest recall that a search in that many dimensions can lead to. Widths are those in
    steps, and all columns.
    """
    held = reduced.shape[1]
    widths = [*range(_WIDTH_STEP, held, _WIDTH_STEP), held]
    queries = reduced[truth.rows]
    # One more than the list: the row itself comes first.
    shape = (len(widths), len(queries), list_size + 1)
    scores = np.full(shape, np.inf, np.float32)
    found = np.full(shape, -1, np.int32)

    def compare(start: int, stop: int) -> None:
        """Keep the smallest |v|²/2 - q·v, which orders as the distance does; step by step."""
        halves, more = np.zeros(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
        for lo in range(0, len(reduced), _BLOCK):
            block = reduced[lo : lo + _BLOCK]
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
    """The first `width` columns, moved together inside the memory they already have."""
    n, held = reduced.shape
    flat = reduced.reshape(-1)
    _pack(flat, n, held, width)
    return flat[: n * width].reshape(n, width)


@kernel
def _pack(flat, n, held, width):
    for r in range(n):
        for t in range(width):
            flat[r * width + t] = flat[r * held + t]
