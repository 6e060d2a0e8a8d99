"""What is decided from samples before any row is arranged: the coder, the cells, the first effort.

Everything here depends on the data and the seed alone.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import State, as_bytes, from_bytes
from d2cli.graph.blocks.kernels.cells import fit_cells, fit_size, nearest_cells
from d2cli.graph.blocks.kernels.codes import ROTATED, Coder, fit_coder
from d2cli.graph.blocks.sizes import CELL_ROWS, MOST_CELLS, MOST_DIMENSIONS, READ_ROWS, TELLING
from d2cli.graph.recall import Truth
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Bools, Int32, Int64, UInt8

#: Costs of 64 more dimensions and of one more place in the lists, in the same unit.
_COST_OF_DIMENSIONS, _COST_OF_PLACE = 6.0, 1.0
#: Sizes that are tried for lists, beyond k.
_SPARE = (2, 3, 4, 5, 6, 8, 10, 12, 14, 18, 22, 28, 34, 42, 50)
#: Numbers of cells near a row that are tried.
_NEAR_CELLS = (4, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64)


class Plan(NamedTuple):
    """See the module."""

    coder: Coder
    centres: UInt8  # (cells, r)
    near_cells: int  # cells of each row among whose blocks it chooses
    list_size: int  # K, candidates of each row
    n_neighbors: int  # k
    kept: float  # the share of the sample's true neighbours that lists of this size can hold


def plan_as_state(plan: Plan) -> State:
    """A plan as arrays."""
    coder = plan.coder
    numbers = (coder.scale, coder.width, *plan[2:])
    arrays = {"mean": coder.mean, "axes": coder.axes, "centres": plan.centres}
    return {**arrays, "plan": as_bytes(numbers)}


def plan_from(state: State) -> Plan:
    """The inverse of :func:`plan_as_state`."""
    scale, width, *numbers = from_bytes(state["plan"])
    coder = Coder(scale, state["mean"], state["axes"], width)
    return Plan(coder, state["centres"], *numbers)


def plan_search(
    group: Group, truth: Truth, k: int, lost: float, rng: np.random.Generator, threads: int
) -> tuple[Plan, Bools]:
    """Fit everything to random rows and to rows with known neighbours.

    Args:
        group: n rows.
        truth: exact neighbours of some rows, sorted by distance, more than k of them.
        k: neighbours wanted.
        lost: the share of the true neighbours that the search may miss.
        rng: draws the samples.

    Returns:
        The plan; and (m,) bool, which rows of the sample codes can tell from their neighbours
        (:mod:`.tight`). Only these decide.
    """
    n = len(group)
    coder = fit_coder(group, MOST_DIMENSIONS, rng, threads)
    asking = encoded(coder, group, truth.rows)
    listed = encoded(coder, group, np.maximum(truth.neighbors, 0).ravel())
    listed = listed.reshape(*truth.neighbors.shape, -1)
    telling = _told_apart(asking, listed[:, min(k, listed.shape[1]) - 1])
    tuned = truth.some(telling)
    asking, listed = asking[telling], listed[telling]
    width, list_size, kept = _narrowest(asking, listed, tuned, k, n, 0.3 * lost)
    coder = coder.narrowed(width)
    asking, listed = asking[:, :width].copy(), listed[:, :k, :width]
    count = max(1, min(n // CELL_ROWS, MOST_CELLS))
    some = np.sort(rng.choice(n, min(n, fit_size(count)), replace=False))
    sample = encoded(coder, group, some)
    centres = fit_cells(sample, count, rng, threads)
    listed = listed.reshape(-1, width).copy()
    near_cells = _near_cells(asking, listed, tuned, k, centres, 0.3 * lost)
    return Plan(coder, centres, near_cells, list_size, k, kept), telling


def encoded(coder: Coder, group: Group, numbers: NDArray[Any]) -> UInt8:
    """The codes (m, r) of the rows with these numbers (m,)."""
    codes = np.empty((len(numbers), coder.width), np.uint8)
    for start in range(0, len(numbers), READ_ROWS):
        some = slice(start, start + READ_ROWS)
        codes[some] = coder.encode(group.vectors_at(numbers[some]))[0]
    return codes


def are_tight(halves: Int32, scores: Int32, plan: Plan) -> Bools:
    """(m,) bool, rows that codes cannot tell from their k-th row so far (:mod:`.tight`).

    `halves` (m,) are half the square norms of their codes, `scores` (m, K) those of their lists.
    """
    place = min(plan.n_neighbors, scores.shape[1]) - 1
    square = 2 * (halves - scores[:, place].astype(np.int64))
    return square < TELLING * plan.coder.width


def _told_apart(asking: UInt8, last: UInt8) -> Bools:
    """Whether codes tell rows (m, r) from their k-th neighbours (m, r)."""
    gaps = asking.astype(np.int32) - last.astype(np.int32)
    return np.square(gaps).sum(axis=1) >= TELLING * asking.shape[1]


def _narrowest(
    asking: UInt8, listed: UInt8, truth: Truth, k: int, n: int, lost: float
) -> tuple[int, int, float]:
    """The cheapest (dimensions, list size) that keeps all but `lost` of the true neighbours.

    A true neighbour is kept if fewer than the list size of the listed rows have a better score, and
    with some probability if that depends on the order of equal scores. The rows that come after
    these in truth are taken to be as far in codes as they are in truth.
    """
    possible = truth.neighbors[:, :k] >= 0
    widths = [*range(ROTATED, asking.shape[1], ROTATED), asking.shape[1]]
    # Lists that hold most of the listed rows would look better than they are.
    depth = truth.neighbors.shape[1]
    sizes = [k + spare for spare in _SPARE if k + spare <= max(depth * 2 // 3, k + 2)]
    sizes = sorted({min(size, n - 1) for size in sizes})
    best, cheapest = (widths[-1], sizes[-1], 0.0), np.inf
    for width in widths:
        gaps = listed[:, :, :width].astype(np.int32) - asking[:, None, :width].astype(np.int32)
        square = np.where(truth.neighbors >= 0, np.square(gaps).sum(axis=2), np.iinfo(np.int32).max)
        # Of equal squares, any may come first. As many rows as come first out of the farther half
        # of those listed are taken to follow beyond.
        first = square[:, :k, None] > square[:, None, :]
        as_near = (square[:, :k, None] == square[:, None, :]).sum(axis=2)
        nearer = first.sum(axis=2) + first[:, :, (k + depth) // 2 :].sum(axis=2)
        for size in sizes:
            share = np.clip((size - nearer) / as_near, 0.0, 1.0)[possible]
            kept = float(share.mean()) if share.size else 1.0
            cost = _COST_OF_DIMENSIONS * width / ROTATED + _COST_OF_PLACE * size
            fine = kept >= 1 - lost
            if (fine and cost < cheapest) or (cheapest == np.inf and kept > best[2]):
                best, cheapest = (width, size, kept), cost if fine else np.inf
    return best


def _near_cells(
    asking: UInt8, listed: UInt8, truth: Truth, k: int, centres: UInt8, lost: float
) -> int:
    """The fewest cells that let all but `lost` of the true pairs meet, from either side."""
    most = min(_NEAR_CELLS[-1], len(centres))
    of_rows = nearest_cells(asking, centres, most)[:, None, :]
    of_listed = nearest_cells(listed, centres, most)
    of_listed = of_listed.reshape(*truth.neighbors[:, :k].shape, most)
    forth = _place_in(of_rows, of_listed[:, :, :1])
    back = _place_in(of_listed, of_rows[:, :, :1])
    places = np.minimum(forth, back)[truth.neighbors[:, :k] >= 0]
    for count in _NEAR_CELLS:
        if count >= most or not places.size or (places < count).mean() >= 1 - lost:
            return min(count, most)
    return most


def _place_in(lists: Int32, wanted: Int32) -> Int64:
    """The place of `wanted` (…, 1) in each of `lists` (…, m), m if it is not there."""
    same = lists == wanted
    return np.where(same.any(axis=-1), same.argmax(axis=-1), lists.shape[-1])
