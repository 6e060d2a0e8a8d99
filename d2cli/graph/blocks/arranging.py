"""Arranges the rows of a search: codes, cells, blocks, and where everything is.

Rows become codes and are sorted into cells, carved into blocks, moved to the block with the nearest
centre, and carved again (:mod:`.kernels.arrange`). Cells are near centres of any number of rows;
*groups* are runs of cells, the unit of work; *packs* are runs of near blocks of a cell, at most 32
when they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from d2cli.engine.store import PartStore, number
from d2cli.engine.tasks import Engine, HasTasks
from d2cli.engine.threads import Progress
from d2cli.graph.blocks.kernels.arrange import (
    block_centres,
    carve_again,
    cut_into_groups,
    starts_of,
    unpack,
)
from d2cli.graph.blocks.kernels.carve import carve
from d2cli.graph.blocks.kernels.cells import Packed
from d2cli.graph.blocks.kernels.lists import meet_at_home
from d2cli.graph.blocks.kernels.route import Signposts, cells_near, choose_blocks
from d2cli.graph.blocks.plan import Plan, are_tight
from d2cli.graph.blocks.sizes import (
    BLOCK_ROWS,
    EMPTY,
    FEWEST_GROUPS,
    GROUP_ROWS,
    READ_ROWS,
    encoded_rows,
)
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Int32, Int64, UInt8


class Packs(NamedTuple):
    """Packs of blocks, as they were before rows moved; some may have no block now."""

    centres: UInt8  # (packs, r)
    cells: Int64  # (packs,), ascending


class Map:
    """The way from a row to blocks: from its cells to packs of blocks, and to the blocks."""

    def __init__(self, packs: Packs, centres: UInt8, pack_starts: Int64, cells: int) -> None:
        """From the centres of all blocks, in the order of packs, and the number of cells."""
        counts = np.bincount(packs.cells, minlength=cells)
        self.to_packs = Signposts.of(packs.centres, starts_of(counts))
        self.to_blocks = Signposts.of(centres, pack_starts)

    def packs_near(self, codes: UInt8, cells: Int32, count: int) -> Int32:
        """The `count` nearest packs (n, count) in the cells (n, any) of each row, or -1."""
        return choose_blocks(codes, cells, self.to_packs, count)

    def blocks_in(self, codes: UInt8, packs: Int32, count: int) -> Int32:
        """The `count` nearest blocks (n, count) in the packs (n, any) of each row, or -1."""
        return choose_blocks(codes, packs, self.to_blocks, count)


class Chart(NamedTuple):
    """The blocks of all groups, in order."""

    first_blocks: Int64  # (groups + 1,), the first block of each group
    pack_starts: Int64  # (packs + 1,), the first block of each pack
    packs: Packs
    map: Map

    @classmethod
    def of(cls, store: PartStore, name: str, groups: int, cells: int, packs: Packs | None) -> Chart:
        """From the parts `name` of a store; with the packs of these blocks if none are given."""
        of_groups = [store.get(name, g, "centres") for g in range(groups)]
        first = starts_of(np.array([len(one) for one in of_groups]))
        centres = np.concatenate(of_groups)
        starts = starts_of(np.concatenate([store.get(name, g, "counts") for g in range(groups)]))
        if packs is None:
            pack_cells = np.concatenate([store.get(name, g, "cells") for g in range(groups)])
            packs = Packs(block_centres(centres, starts), pack_cells)
        return cls(first, starts, packs, Map(packs, centres, starts, cells))

    def pack_of_block(self, blocks: Any) -> Int64:
        """The pack of each of some blocks."""
        return np.searchsorted(self.pack_starts, blocks, side="right") - 1

    def cell_of_block(self, blocks: Any) -> Int64:
        """The cell of each of some blocks."""
        return self.packs.cells[self.pack_of_block(blocks)]


class Layout:
    """Where rows are: *places* are their numbers in the order of all blocks.

    Attributes:
        groups, sizes: the number of groups, and (groups,) their rows.
        first_places: (groups + 1,), the place of the first row of each group.
        number_of_place, block_of_place: (n,) int32, the number and the block of the row at a place.
        chart, first_blocks, map: all blocks, see :class:`Chart`.
    """

    def __init__(self, store: PartStore, cells: int) -> None:
        """What :class:`Arranging` has stored."""
        self.groups = int(store.get("arranged", 0, "groups")[0])
        groups = range(self.groups)
        packs = Packs(*(store.get("arranged", 0, key) for key in Packs._fields))
        self.chart = Chart.of(store, "blocks map", self.groups, cells, packs)
        self.first_blocks, self.map = self.chart.first_blocks, self.chart.map
        starts = [store.get("blocks", g, "starts") for g in groups]
        self.sizes = np.array([one[-1] for one in starts])
        self.first_places = starts_of(self.sizes)
        self.number_of_place = np.concatenate([store.get("blocks", g, "rows") for g in groups])
        self.block_of_place = np.concatenate([
            np.repeat(np.arange(first, first + len(one) - 1, dtype=np.int32), np.diff(one))
            for first, one in zip(self.first_blocks, starts, strict=False)
        ])  # fmt: skip

    @property
    def blocks(self) -> int:
        """The number of all blocks."""
        return int(self.first_blocks[-1])

    def numbers_of(self, g: int) -> Int32:
        """The numbers (m,) of the rows of a group, in the order of their places."""
        return self.number_of_place[self.first_places[g] : self.first_places[g + 1]]

    def numbers_at(self, places: Int32) -> Int32:
        """The numbers of the rows at `places`, of any shape; -1 stays -1."""
        return np.where(places < 0, np.int32(-1), self.number_of_place[places])

    def places_of(self, numbers: Int64) -> Int64:
        """The places (m,) of rows by their `numbers`, which ascend without repeats."""
        places = np.empty(len(numbers), np.int64)
        for g in range(self.groups if len(numbers) else 0):
            rows = self.numbers_of(g)
            at = np.minimum(np.searchsorted(numbers, rows), len(numbers) - 1)
            hits = np.flatnonzero(numbers[at] == rows)
            places[at[hits]] = self.first_places[g] + hits
        return places

    def by_group(self, places: Int64) -> Iterator[tuple[int, Int64]]:
        """Groups, and which of `places` (m,) are in each."""
        group = np.searchsorted(self.first_places, places, side="right") - 1
        for g in np.unique(group):
            yield int(g), np.flatnonzero(group == g)


def lists_after(rounds: int) -> str:
    """The name of the parts with the lists after this number of rounds."""
    return f"lists {rounds}"


class Arranging(HasTasks):
    """Tasks that arrange rows; ``task(g)`` works on group g, or a range of rows.

    What a store holds already is not done again.
    """

    def __init__(
        self, group: Group, plan: Plan, store: PartStore, engine: Engine, progress: Progress
    ) -> None:
        self.group, self.plan, self.store = group, plan, store
        self.engine, self.progress = engine, progress
        self.chunk = encoded_rows(len(group), group.vectors.shape[1])
        self.chunks = -(-len(group) // self.chunk)

    def run(self, packs_of: Callable[[Chart], int]) -> Layout:
        """Store blocks, the packs near each row, and the first lists.

        `packs_of` is called with the first blocks; it says how many packs are kept for each row.
        """
        store, n, cells = self.store, len(self.group), len(self.plan.centres)
        if not store.has("groups"):
            self._each("encode", self._encode, range(self.chunks), "encoded")
            counts = np.sum([store.get("encoded", c, "counts") for c in range(self.chunks)], axis=0)
            first = cut_into_groups(counts, max(FEWEST_GROUPS, n // GROUP_ROWS))
            store.put("groups", first=first)
        self.first_cells = store.get("groups", 0, "first")
        groups = range(len(self.first_cells) - 1)
        if not store.has("arranged"):
            if not store.has("carving ended"):
                counts = [store.get("encoded", c, "counts") for c in range(self.chunks)]
                self.ends = np.array([starts_of(one)[self.first_cells] for one in counts])
                self._each("arrange", self._carve_cells, groups, "carved map")
                store.put("carving ended")
            store.forget("encoded")
            self.chart = Chart.of(store, "carved map", len(groups), cells, None)
            if not store.has("moving ended"):
                self.packs = packs_of(self.chart)
                self._each("arrange", self._move, groups, "moved")
                store.put("moving ended")
            store.forget("carved")
            self.ends = np.array([store.get("moved", g, "ends") for g in groups])
            self.first_places = starts_of(np.diff(self.ends, axis=1).sum(axis=0))
            self._each("arrange", self._settle, groups, lists_after(0))
            store.put("arranged", groups=number(len(groups)), **self.chart.packs._asdict())
        store.forget("moved", "carved map")
        return Layout(store, cells)

    def _encode(self, chunk: int) -> None:
        """Codes of a range of rows, sorted by cell."""
        start = chunk * self.chunk
        stop = min(start + self.chunk, len(self.group))
        codes = np.empty((stop - start, self.plan.coder.width), np.uint8)
        for at in range(start, stop, READ_ROWS):
            block = slice(at - start, min(at + READ_ROWS, stop) - start)
            codes[block] = self.plan.coder.encode(self.group.block(at, start + block.stop))[0]
        cells = cells_near(codes, self.plan.centres, self.plan.near_cells)
        order = np.argsort(cells[:, 0], kind="stable")
        self.store.put(
            "encoded", chunk, codes=codes[order], cells=cells[order],
            rows=(start + order).astype(np.int32),
            counts=np.bincount(cells[:, 0], minlength=len(self.plan.centres)),
        )  # fmt: skip

    def _gather(self, name: str, g: int, keys: Sequence[str]) -> list[Any]:
        """The rows for group g, between its `ends`, of some arrays of all parts `name`."""
        found = [
            self.store.some(name, part, **dict.fromkeys(keys, (begin, end)))
            for part, (begin, end) in enumerate(self.ends[:, g : g + 2].tolist())
            if begin < end or not part
        ]
        return [np.concatenate([one[key] for one in found]) for key in keys]

    def _carve_cells(self, g: int) -> None:
        """The rows of the cells of one group, in blocks and packs."""
        first, last = self.first_cells[g], self.first_cells[g + 1]
        codes, cells, rows = self._gather("encoded", g, ("codes", "cells", "rows"))
        order = np.argsort(cells[:, 0], kind="stable")
        codes, cells, rows = codes[order], cells[order], rows[order]
        bounds = np.searchsorted(cells[:, 0], np.arange(first, last + 1))
        order, starts = carve(codes, bounds)
        codes, cells, rows = codes[order], cells[order], rows[order]
        # The blocks of each cell are sorted into packs, and everything is stored in that order.
        block_cells = cells[starts[:-1], 0].astype(np.int64)
        centres = block_centres(codes, starts)
        runs = np.concatenate([[0], np.flatnonzero(np.diff(block_cells)) + 1, [len(centres)]])
        order, packs = carve(centres, runs)
        sizes = np.diff(starts)[order]
        new = starts_of(sizes)
        places = np.repeat(starts[:-1][order] - new[:-1], sizes) + np.arange(len(codes))
        packed = Packed.of(codes[places], new)
        self.store.put(
            "carved", g, **packed._asdict(), starts=new, cells=cells[places], rows=rows[places]
        )
        self.store.put(
            "carved map", g, centres=centres[order], counts=np.diff(packs),
            cells=block_cells[order[packs[:-1]]],
        )  # fmt: skip

    def _codes(self, name: str, g: int) -> tuple[UInt8, Int32]:
        get = self.store.get
        return unpack(get(name, g, "points"), get(name, g, "halves"), get(name, g, "starts"))

    def _move(self, g: int) -> None:
        """The nearest block of each row, in whatever group it lies; rows sorted by it."""
        codes, _ = self._codes("carved", g)
        cells, rows = self.store.get("carved", g, "cells"), self.store.get("carved", g, "rows")
        packs = self.chart.map.packs_near(codes, cells, self.packs)
        blocks = self.chart.map.blocks_in(codes, packs, 1)[:, 0]
        order = np.lexsort((rows, blocks))
        blocks = blocks[order]
        self.store.put(
            "moved", g, codes=codes[order], packs=packs[order], rows=rows[order], blocks=blocks,
            ends=np.searchsorted(blocks, self.chart.first_blocks),
        )  # fmt: skip

    def _settle(self, g: int) -> None:
        """The rows that moved to the blocks of one group, carved again; their empty lists.

        Blocks stay in the pack from whose blocks they are made.
        """
        codes, packs, rows, blocks = self._gather("moved", g, ("codes", "packs", "rows", "blocks"))
        order = np.lexsort((rows, blocks))
        first, last = self.chart.first_blocks[g : g + 2]
        counts = np.bincount(blocks - first, minlength=last - first)
        codes, packs, rows = codes[order], packs[order], rows[order]
        of_blocks = self.chart.pack_of_block(np.arange(first, last))
        order, starts, block_packs = carve_again(codes, counts, of_blocks)
        codes = codes[order]
        packed = Packed.of(codes, starts)
        self.store.put("blocks", g, **packed._asdict(), starts=starts, rows=rows[order])
        self.store.put("near", g, packs=packs[order])
        here = block_packs - of_blocks[0]
        counts = np.bincount(here, minlength=of_blocks[-1] - of_blocks[0] + 1)
        self.store.put("blocks map", g, centres=block_centres(codes, starts), counts=counts)
        self._meet_at_home(g)

    def _meet_at_home(self, g: int) -> None:
        get, size = self.store.get, self.plan.list_size
        codes, row_halves = self._codes("blocks", g)
        scores = np.full((len(codes), size), EMPTY, np.int32)
        places = np.full((len(codes), size), -1, np.int32)
        starts = get("blocks", g, "starts")
        bounds = np.empty((len(starts) - 1, BLOCK_ROWS), np.int32)
        packed = [get("blocks", g, key) for key in Packed._fields]
        meet_at_home(
            codes, starts, *packed, int(self.first_places[g]), scores, places, bounds
        )  # fmt: skip
        self.store.put("home", g, tight=are_tight(row_halves, scores, self.plan))
        self.store.put(lists_after(0), g, scores=scores, places=places, bounds=bounds)

    def _each(
        self, stage: str, task: Callable[[int], None], parts: Sequence[int], makes: str
    ) -> None:  # fmt: skip
        """Do a task for all parts whose part `makes` is not there."""
        open_parts = [part for part in parts if not self.store.has(makes, part)]
        done = len(parts) - len(open_parts)

        def ended(part: int) -> None:
            nonlocal done
            done += 1
            self.progress(stage, done, len(parts))

        self.engine.each(task, open_parts, ended)
