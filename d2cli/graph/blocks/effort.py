"""How many packs and blocks a row looks at, from the ranks at which true neighbours would meet."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from d2cli.graph.blocks.arranging import Chart, Layout
from d2cli.graph.blocks.kernels.route import cells_near, ranks_of
from d2cli.graph.blocks.plan import Plan, encoded
from d2cli.graph.blocks.sizes import REROUTED_PACKS
from d2cli.graph.recall import Truth
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Int64

#: What is tried: about half as much again each time.
_PACKS = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
_PROBES = (4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
#: Microseconds per row that a round takes, and each pack and block that a row looks at.
_COST_OF_ROUND, _COST_OF_PACK, _COST_OF_PROBE = 3.0, 0.06, 0.09
#: Microseconds to compare a row with a block, and more for each dimension of the codes.
_COST_OF_BLOCK, _COST_OF_DIMENSION = 0.0045, 0.00007


class Effort(NamedTuple):
    """What a row looks at."""

    packs: int
    probes: int

    @property
    def cost(self) -> float:
        """About how many microseconds per row it takes."""
        return _COST_OF_ROUND + _COST_OF_PACK * self.packs + _COST_OF_PROBE * self.probes


def cost_of_all(blocks: int, width: int) -> float:
    """About how many microseconds per row it takes to compare all pairs of rows."""
    return (_COST_OF_BLOCK + _COST_OF_DIMENSION * width) * blocks / 2


class Ranks(NamedTuple):
    """At which ranks the pairs (i, j) of a sample would meet, from either side; (2, pairs) each."""

    packs: Int64  # of the pack of j's block among the packs in the cells of i
    blocks: Int64  # of the block of j among the blocks of the nearest packs of i

    @classmethod
    def of(
        cls, group: Group, plan: Plan, chart: Chart, truth: Truth, k: int,
        layout: Layout | None = None,
    ) -> Ranks:  # fmt: skip
        """For the rows of `truth` and their k nearest neighbours, among the blocks of `chart`.

        If there is no layout yet, rows are taken to be in the block that they will move to.
        """
        neighbors = truth.neighbors[:, :k]
        possible = neighbors >= 0
        numbers = np.concatenate([truth.rows, neighbors[possible]])
        distinct, back = np.unique(numbers, return_inverse=True)
        codes = encoded(plan.coder, group, distinct)
        cells = cells_near(codes, plan.centres, plan.near_cells)
        near = chart.map.packs_near(codes, cells, _PACKS[-1])
        if layout is None:
            moving = chart.map.packs_near(codes, cells, REROUTED_PACKS)
            blocks = chart.map.blocks_in(codes, moving, 1)[:, 0]
        else:
            blocks = layout.block_of_place[layout.places_of(distinct)]
        packs = chart.pack_of_block(blocks)
        i = np.broadcast_to(back[: len(truth.rows), None], neighbors.shape)[possible]
        j = back[len(truth.rows) :]
        to_packs, to_blocks = chart.map.to_packs, chart.map.to_blocks
        of_packs, of_blocks = [], []
        for one, other in ((i, j), (j, i)):
            wanted = packs[other][:, None].astype(np.int32)
            of_packs.append(ranks_of(codes[one], cells[one], to_packs, wanted)[:, 0])
            wanted = blocks[other][:, None].astype(np.int32)
            of_blocks.append(ranks_of(codes[one], near[one], to_blocks, wanted)[:, 0])
        return cls(np.array(of_packs), np.array(of_blocks))

    def met(self, effort: Effort) -> float:
        """The share of pairs that meet with this effort."""
        if not self.packs.size:
            return 1.0
        found = (self.packs < effort.packs) & (self.blocks < effort.probes)
        return float(found.any(axis=0).mean())

    def cheapest(self, wanted: float, least_packs: int = 1) -> Effort:
        """The cheapest effort with which the share `wanted` meets, or the largest of all.

        It has at least `least_packs` packs.
        """
        packs = [count for count in _PACKS if count >= least_packs]
        efforts = sorted((Effort(*pair) for pair in product(packs, _PROBES)), key=_cost)
        return next((one for one in efforts if self.met(one) >= wanted), efforts[-1])


def _cost(effort: Effort) -> float:
    return effort.cost
