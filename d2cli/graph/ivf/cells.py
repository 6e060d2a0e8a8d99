"""Groups rows into cells and chooses the cells that each row probes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import for_blocks
from d2cli.graph.ivf.grouping import average, by_label, halved
from d2cli.graph.ivf.routing import Router
from d2cli.graph.ivf.sizes import LARGEST, SMALLEST_MEAN
from d2cli.runtime.jit import kernel

#: Columns permuted in one block.
_PERMUTED_COLUMNS = 64
#: Cells whose means are computed in one block.
_MEANS_CELLS = 32


@dataclass(frozen=True)
class Cells:
    """Rows sorted by cell. A *position* is the place of a row in that order.

    Attributes:
        order: (n,) int32, the row at each position.
        starts: (cells + 1,) int32. Cell c has the positions starts[c] … starts[c + 1].
        centres: (cells, m) float32.
        probes: (n, p) int32, the cells that the row at each position probes, its own first.
    """

    order: NDArray[np.int32]
    starts: NDArray[np.int32]
    centres: NDArray[np.float32]
    probes: NDArray[np.int32]

    @property
    def of_position(self) -> NDArray[np.int32]:
        """The cell of each position, (n,) int32."""
        return np.repeat(np.arange(len(self.centres), dtype=np.int32), np.diff(self.starts))


def arrange(reduced: NDArray[np.float32], router: Router, probes: int, fewest: int) -> Cells:
    """Even out the sizes of the cells and sort the rows by cell; permutes `reduced` in place.

    Each row probes `probes` cells. They hold at least `fewest` rows, the row itself included.
    """
    probes = min(probes, len(router.centres))
    routed = router.route(reduced, probes)
    label, centres, renumbered = _even_out(reduced, router, routed[:, 0], -(-fewest // probes))
    probes = min(probes, len(centres))
    routed = renumbered[routed[:, :probes]]
    stale = np.flatnonzero((routed < 0).any(axis=1))
    if len(stale):
        routed[stale] = router.over(centres).route(reduced[stale, : centres.shape[1]], probes)
    _own_first(label, routed)
    order, starts = by_label(label, len(centres))
    means = np.empty((len(centres), reduced.shape[1]), np.float32)

    def permute(start: int, stop: int) -> None:
        _permute(reduced[:, start:stop], order)

    def take_means(start: int, stop: int) -> None:
        average(reduced, starts[start : stop + 1], means[start:stop])

    for_blocks(permute, reduced.shape[1], _PERMUTED_COLUMNS, router.threads)
    for_blocks(take_means, len(centres), _MEANS_CELLS, router.threads)
    return Cells(order, starts, means, routed[order])


def _even_out(
    reduced: NDArray[np.float32], router: Router, label: NDArray[np.int32], least: int
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]:
    """Dissolve cells of fewer than `least` rows and cut cells of more than LARGEST times the mean.

    The cost of a cell is quadratic in its size. K-means leaves a large cell where float32 scores
    cannot tell rows apart.

    Returns:
        the new cell of each row (n,), the new centres, and the new number of each old cell
        (cells,), -1 if the cell was dissolved or cut.
    """
    n, count = len(reduced), len(router.centres)
    sizes = np.bincount(label, minlength=count)
    large = LARGEST * max(n // count, SMALLEST_MEAN)
    lasting = np.flatnonzero(sizes >= min(least, sizes.max()))
    homeless = np.flatnonzero(np.isin(label, lasting, invert=True, kind="table"))
    label = label.copy()
    width = router.centres.shape[1]
    if len(homeless):
        nearest = router.over(router.centres[lasting]).route(reduced[homeless, :width], 1)[:, 0]
        label[homeless] = lasting[nearest]
    order, starts = by_label(label, count)
    renumbered = np.full(count, -1, np.int32)
    centres: list[NDArray[np.float32]] = []
    for cell in lasting:
        mine = order[starts[cell] : starts[cell + 1]]
        if len(mine) <= large:
            renumbered[cell] = len(centres)
            label[mine] = len(centres)
            centres.append(router.centres[cell])
            continue
        parts, ends = halved(reduced, mine, large // 2)
        for part in np.split(parts, ends[1:-1]):
            label[part] = len(centres)
            centres.append(reduced[part, :width].mean(axis=0))
    return label, np.array(centres), renumbered


@kernel
def _own_first(label, routed):
    """Move each row's own cell to the front; if it is not listed, it replaces the last cell."""
    for i in range(routed.shape[0]):
        at = 0
        while at < routed.shape[1] - 1 and routed[i, at] != label[i]:
            at += 1
        for a in range(at, 0, -1):
            routed[i, a] = routed[i, a - 1]
        routed[i, 0] = label[i]


@kernel
def _permute(rows, order):
    """Rows <- rows[order] in place, cycle by cycle."""
    n, m = rows.shape
    done = np.zeros(n, np.bool_)
    held = np.empty(m, np.float32)
    for first in range(n):
        if done[first]:
            continue
        held[:] = rows[first]
        to = first
        while order[to] != first:
            rows[to] = rows[order[to]]
            done[to] = True
            to = order[to]
        rows[to] = held
        done[to] = True
