"""ZCore: coverage and redundancy in many random planes of the embedding space."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from d2cli.baselines import sizes
from d2cli.baselines.on_graph import Rows
from d2cli.defaults import METRIC, ZCORE_DRAWS, Metric
from d2cli.engine.threads import Progress, each, silent, thread_count
from d2cli.errors import UsageError
from d2cli.graph.vectors import prepare
from d2cli.runtime.jit import kernel
from d2cli.selection.budgets import check_size

NEIGHBORS = 1000  #: rows near the covered row that lose weight
UNIT = 1 << 40  #: sums are integers in units of 1 / UNIT: they do not depend on the order of draws
SAMPLED = 2048  #: about this many distances are looked at to guess which rows are near


def zcore(
    embeddings: NDArray[np.floating], size: int, *, metric: Metric = METRIC,
    draws: int | None = None, seed: int = 0, threads: int | None = None,
    progress: Progress = silent,
) -> Rows:  # fmt: skip
    """ZCore: rows that cover random planes, less rows that are redundant there; no scores needed.

    Each row starts with a random number between 0 and 1. In each draw:

    1. Two dimensions are drawn, and in each of them a number from the triangular distribution from
       the least to the greatest coordinate, with its mode at the median.
    2. The row nearest to that point gains 1. Distances are L1 distances in these two dimensions, in
       float32.
    3. The 1,000 other rows nearest to that row lose 1 together, each in proportion to
       1 / distance⁴. If distances are 0, the lowest such row alone loses 1.

    The rows with the highest sums are selected, highest first; every prefix is the selection of
    that size. Ties go to the lowest row. Losses are rounded to multiples of 2⁻⁴⁰. `draws` >= 1;
    None: 10 n, at most 1,000,000. Time is O(n · draws). `progress` is called with the draws done.

    Source: Griffin, Marks, Corso: Zero-shot coreset selection via iterative subspace sampling,
    WACV 2026, arXiv 2411.15349, and the authors' programs: voxel51/zcore makes 1,000,000 draws, and
    voxel51/zero-shot-coreset-selection at most 10 n.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    (n, d), count = vectors.shape, thread_count(threads)
    check_size(size, 0, n)
    if draws is None:
        draws = min(ZCORE_DRAWS, 10 * n)
    if draws < 1:
        raise UsageError(f"draws must be at least 1, not {draws}")
    rng = np.random.default_rng(seed)
    start = rng.random(n)
    planes, chances = draw_planes(rng, d, draws), rng.random((draws, 2))
    if d == 1:  # the plane is a line
        chances[:, 1] = chances[:, 0]
    columns = _Columns(vectors)
    corners = columns.corners()
    totals, near = np.zeros((count, n), np.int64), np.empty((count, n), np.float32)
    done = 0
    for some, pair in _by_blocks(planes // sizes.COLUMNS):
        first, second = columns.pair(*pair)
        points = _triangular(corners[planes[some]], chances[some])
        places = planes[some] - np.array(pair, np.int32) * sizes.COLUMNS
        job = partial(_score, first, second, places, points, NEIGHBORS)

        def score(slot: int, job=job, m=some.size) -> None:
            job(m * slot // count, m * (slot + 1) // count, near[slot], totals[slot])

        each(score, range(count), count, lambda _: None)
        done += some.size
        progress("zcore", done, draws)
    return np.argsort(-(start + totals.sum(axis=0) / UNIT), kind="stable")[:size]


class _Columns:
    """Coordinates by dimension: those of one dimension are far apart in the rows.

    A block is the coordinates in COLUMNS dimensions, (at most COLUMNS, n) float32.
    """

    def __init__(self, vectors: NDArray[np.floating]) -> None:
        self.vectors = vectors
        self.held: dict[int, NDArray[np.float32]] = {}

    def block(self, number: int) -> NDArray[np.float32]:
        """A copy of one block."""
        start, (n, d) = number * sizes.COLUMNS, self.vectors.shape
        stop = min(start + sizes.COLUMNS, d)
        found = np.empty((stop - start, n), np.float32)
        for at in range(0, n, sizes.ROWS):  # few rows at a time, which stay in the cache
            rows = slice(at, at + sizes.ROWS)
            found[:, rows] = self.vectors[rows, start:stop].T
        return found

    def pair(self, first: int, second: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Two blocks; both are kept for the next call."""
        self.held = {number: self.held[number] for number in (first, second) if number in self.held}
        for number in {first, second} - {*self.held}:
            self.held[number] = self.block(number)
        return self.held[first], self.held[second]

    def corners(self) -> NDArray[np.float64]:
        """(d, 3) the least, the median and the greatest coordinate in each dimension."""
        found = []
        for number in range(-(-self.vectors.shape[1] // sizes.COLUMNS)):
            block = self.block(number)
            found.append([block.min(axis=1), np.median(block, axis=1), block.max(axis=1)])
        return np.concatenate(found, axis=1).T.astype(np.float64)


def _by_blocks(blocks: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.int64], tuple[int, int]]]:
    """Numbers of draws, at most DRAWS, of one pair of blocks, and that pair.

    `blocks` is (draws, 2).
    """
    order = np.lexsort((blocks[:, 1], blocks[:, 0]))
    none = np.full((1, 2), -1, np.int32)
    changes = np.diff(blocks[order], axis=0, prepend=none, append=none).any(axis=1)
    for start, stop in pairwise(np.flatnonzero(changes).tolist()):
        first, second = blocks[order[start]].tolist()
        for at in range(start, stop, sizes.DRAWS):
            yield order[at : min(at + sizes.DRAWS, stop)], (first, second)


def draw_planes(rng: np.random.Generator, d: int, draws: int) -> NDArray[np.int32]:
    """(draws, 2) pairs of different dimensions of d, the lower one first; d = 1: twice the same."""
    one = rng.integers(d, size=draws, dtype=np.int32)
    other = rng.integers(max(1, d - 1), size=draws, dtype=np.int32)
    if d > 1:
        other += other >= one
    return np.sort(np.stack([one, other], axis=1), axis=1)


def _triangular(corners: NDArray[np.float64], chances: NDArray[np.float64]) -> NDArray[np.float32]:
    """The quantiles `chances` (…), 0 … 1, of triangular distributions.

    `corners` (…, 3) are the least number, the mode and the greatest number of each.
    """
    low, mode, high = np.moveaxis(corners, -1, 0)
    width = high - low
    rising = low + np.sqrt(chances * width * (mode - low))
    falling = high - np.sqrt((1 - chances) * width * (high - mode))
    return np.where(chances * width < mode - low, rising, falling).astype(np.float32)


@kernel
def _score(first, second, planes, points, neighbors, start, stop, near, totals):
    """Add gains and losses of the draws `start` … `stop` to `totals` (n,); `near` (n,) is scratch.

    `planes` (m, 2) are places in `first` and `second` (width, n), and `points` (m, 2) are in them.
    """
    n = near.shape[0]
    for at in range(start, stop):
        x, y = first[planes[at, 0]], second[planes[at, 1]]
        p, q = points[at]
        covered, least = 0, np.float32(np.inf)
        for i in range(n):
            length = abs(x[i] - p) + abs(y[i] - q)
            if length < least:
                covered, least = i, length
        totals[covered] += UNIT
        p, q = x[covered], y[covered]
        for i in range(n):
            near[i] = abs(x[i] - p) + abs(y[i] - q)
        near[covered] = np.inf  # it is no neighbour of its own
        if n > 1:
            _lose(near, min(neighbors, n - 1), totals)


@kernel
def _lose(near, count, totals):
    """Let the `count` rows with the least distances `near` (n,) lose 1 together."""
    rows = lowest(near, count, SAMPLED)
    nearest = rows[0]
    for i in rows:
        if near[i] < near[nearest]:
            nearest = i
    if near[nearest] == 0.0:
        totals[nearest] -= UNIT
        return
    weights, whole = np.empty(rows.shape[0]), 0.0
    for at in range(rows.shape[0]):
        square = np.float64(near[rows[at]]) * np.float64(near[rows[at]])
        weights[at] = 1.0 / (square * square)
        whole += weights[at]
    unit = UNIT / whole
    for at in range(rows.shape[0]):
        totals[rows[at]] -= np.int64(unit * weights[at] + 0.5)


@kernel
def lowest(values, count, sampled):
    """The `count` rows with the lowest values, ascending; of equal values the lowest rows.

    A sample of about `sampled` values tells a limit that is likely to be above `count` values, so
    that few values are sorted.
    """
    n = values.shape[0]
    sample = values[:: max(1, n // sampled)].copy()
    place = 8 + 13 * count * sample.shape[0] // (10 * n)
    limit = np.float32(np.inf)
    if place < sample.shape[0]:
        limit = np.partition(sample, place)[place]
    found = 0
    for i in range(n):
        found += values[i] <= limit
    if found < count:
        limit, found = np.float32(np.inf), n
    rows, some, at = np.empty(found, np.int64), np.empty(found, np.float32), 0
    for i in range(n):
        if values[i] <= limit:
            rows[at], some[at] = i, values[i]
            at += 1
    last = np.partition(some, count - 1)[count - 1]
    ties = count
    for at in range(found):
        ties -= some[at] < last
    size = 0
    for at in range(found):
        if some[at] < last or (some[at] == last and ties > 0):
            ties -= some[at] == last
            rows[size] = rows[at]
            size += 1
    return rows[:size]
