"""Approximate neighbours by int8 codes in small blocks.

1. Rows become int8 codes; from there on all scores are exact integers (:mod:`.kernels.codes`).
2. Codes are sorted into cells, and carved into blocks of at most 32 near rows. Each row moves to
   the block with the nearest centre, and blocks are carved again (:mod:`.kernels.arrange`).
3. Every row meets its nearest blocks: 4 rows are compared with 32 points at once, and each score
   is offered to the lists of both sides (:mod:`.kernels.route`, :mod:`.kernels.lists`).
4. Rows meet the blocks that their neighbours' neighbours vote for (:mod:`.kernels.votes`).
5. True distances rank the candidates.

Steps run as tasks on *groups*, runs of cells; a task reads and writes whole parts of a store. Which
rows meet which blocks depends on data and seed alone, and a list does not depend on the order of
offers. So the result does not depend on threads, nor on what is in memory when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from d2cli.engine.store import PartStore
from d2cli.engine.threads import Progress, each
from d2cli.graph.blocks.kernels.arrange import (
    block_centres,
    by_block,
    carve_again,
    cut_into_groups,
    starts_of,
    unlisted,
    unpack,
)
from d2cli.graph.blocks.kernels.carve import carve
from d2cli.graph.blocks.kernels.cells import Packed
from d2cli.graph.blocks.kernels.lists import accept, meet_at_home
from d2cli.graph.blocks.kernels.route import Signposts, cells_near, choose_blocks
from d2cli.graph.blocks.kernels.votes import elect, follow
from d2cli.graph.blocks.meeting import LISTS, Meeting, Pairs, own_blocks
from d2cli.graph.blocks.plan import Plan
from d2cli.graph.blocks.sizes import (
    BLOCK_ROWS,
    EMPTY,
    FEWEST_GROUPS,
    GROUP_ROWS,
    REROUTED_PACKS,
    VOTERS,
    encoded_rows,
)
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Int32, Int64, UInt8


class Map:
    """The way from a row to blocks: from its cells to packs of blocks, and to the blocks.

    *Packs* are runs of at most 32 near blocks of a cell.
    """

    def __init__(self, centres: UInt8, pack_starts: Int64, pack_cells: Int64, cells: int) -> None:
        """From the centres of all blocks, in the order of packs."""
        by_pack = block_centres(centres, pack_starts)
        counts = np.bincount(pack_cells, minlength=cells)
        self.to_packs = Signposts.of(by_pack, starts_of(counts))
        self.to_blocks = Signposts.of(centres, pack_starts)

    def choose(self, codes: UInt8, cells: Int32, packs: int, probes: int) -> Int32:
        """The `probes` nearest blocks (n, probes) in the `packs` nearest packs, or -1."""
        near = choose_blocks(codes, cells, self.to_packs, packs)
        return choose_blocks(codes, near, self.to_blocks, probes)


def _nothing(item: object) -> None:
    """Called after each piece of work."""


class BlockSearch:
    """One search: its parts in a store, and what all tasks know.

    Tasks are methods; ``task(g)`` works on group g.
    """

    def __init__(
        self, group: Group, plan: Plan, store: PartStore, threads: int, progress: Progress
    ) -> None:
        self.group, self.plan, self.store = group, plan, store
        self.threads, self.progress = threads, progress
        self.groups = 0

    # -- arranging ---------------------------------------------------------------------------------
    def arrange(self) -> None:
        """Codes, cells and blocks."""
        n = len(self.group)
        self.chunk = encoded_rows(n, self.group.vectors.shape[1])
        self.chunks = -(-n // self.chunk)
        self._each("encode", self._encode, range(self.chunks))
        counts = np.sum(
            [self.store.get("encoded", c, "counts") for c in range(self.chunks)], axis=0
        )
        self.first_cells = cut_into_groups(counts, max(FEWEST_GROUPS, n // GROUP_ROWS))
        self.groups = len(self.first_cells) - 1
        self._each("arrange", self._carve_cells, range(self.groups))
        self._drop("encoded", self.chunks)
        self._chart("carved")
        self._each("arrange", self._move, range(self.groups))
        self._drop("carved", self.groups)
        sent = [self.store.get("moved", g, "ends") for g in range(self.groups)]
        self.first_places = starts_of(np.sum([np.diff(ends) for ends in sent], axis=0))
        self._each("arrange", self._settle, range(self.groups))
        self._drop("moved", self.groups)
        self.survey(self.groups)

    def survey(self, groups: int) -> None:
        """Number what :meth:`arrange` has stored for this many groups."""
        self.groups = groups
        starts = [self.store.get("blocks", g, "starts") for g in range(groups)]
        self.sizes = np.array([one[-1] for one in starts])
        self.first_places = starts_of(self.sizes)
        self._chart("blocks")
        rows = [self.store.get("blocks", g, "rows") for g in range(groups)]
        self.number_of_place = np.concatenate(rows)
        self.block_of_place = np.concatenate([
            np.repeat(np.arange(first, first + len(one) - 1, dtype=np.int32), np.diff(one))
            for first, one in zip(self.first_blocks, starts, strict=False)
        ])  # fmt: skip

    def _encode(self, chunk: int) -> None:
        """Codes of a range of rows, sorted by cell."""
        start = chunk * self.chunk
        stop = min(start + self.chunk, len(self.group))
        codes, _ = self.plan.coder.encode(self.group.block(start, stop))
        cells = cells_near(codes, self.plan.centres, self.plan.near_cells)
        order = np.argsort(cells[:, 0], kind="stable")
        self.store.put(
            "encoded", chunk, codes=codes[order], cells=cells[order],
            rows=(start + order).astype(np.int32),
            counts=np.bincount(cells[:, 0], minlength=len(self.plan.centres)),
        )  # fmt: skip

    def _gather(
        self, name: str, parts: int, ends: Callable[[int], Int64], keys: Sequence[str]
    ) -> list[Any]:
        """The slices of some arrays of all parts that lie between `ends` of a part."""
        found: dict[str, list[Any]] = {key: [] for key in keys}
        for part in range(parts):
            begin, end = ends(part)
            for key in keys:
                found[key].append(self.store.get(name, part, key, int(begin), int(end)))
        return [np.concatenate(found[key]) for key in keys]

    def _carve_cells(self, g: int) -> None:
        """The rows of the cells of one group, in blocks and packs."""
        first, last = self.first_cells[g], self.first_cells[g + 1]

        def ends(chunk: int) -> Int64:
            counts = self.store.get("encoded", chunk, "counts")
            before = int(counts[:first].sum())
            return np.array([before, before + int(counts[first:last].sum())])

        codes, cells, rows = self._gather("encoded", self.chunks, ends, ("codes", "cells", "rows"))
        order = np.argsort(cells[:, 0], kind="stable")
        codes, cells, rows = codes[order], cells[order], rows[order]
        bounds = np.searchsorted(cells[:, 0], np.arange(first, last + 1))
        order, starts = carve(codes, bounds)
        block_cells = cells[order[starts[:-1]], 0].astype(np.int64)
        self._store_blocks(
            "carved", g, codes[order], cells[order], rows[order], starts, block_cells
        )

    def _store_blocks(
        self, name: str, g: int, codes: UInt8, cells: Int32, rows: Int32, starts: Int64,
        block_cells: Int64,
    ) -> None:  # fmt: skip
        """Sort the blocks of each cell into packs, and store everything in that order."""
        centres = block_centres(codes, starts)
        runs = np.concatenate([[0], np.flatnonzero(np.diff(block_cells)) + 1, [len(centres)]])
        order, packs = carve(centres, runs)
        sizes = np.diff(starts)[order]
        new = starts_of(sizes)
        places = np.repeat(starts[:-1][order] - new[:-1], sizes) + np.arange(len(codes))
        packed = Packed.of(codes[places], new)
        self.store.put(
            name, g, **packed._asdict(), starts=new, cells=cells[places], rows=rows[places],
            centres=centres[order], packs=packs, pack_cells=block_cells[order[packs[:-1]]],
        )  # fmt: skip

    def _chart(self, name: str) -> None:
        """Make the map of all blocks, and number them."""
        parts = range(self.groups)
        centres = [self.store.get(name, g, "centres") for g in parts]
        packs = [self.store.get(name, g, "packs") for g in parts]
        cells = np.concatenate([self.store.get(name, g, "pack_cells") for g in parts])
        self.first_blocks = starts_of(np.array([len(one) for one in centres]))
        starts = np.concatenate([
            *(one[:-1] + first for one, first in zip(packs, self.first_blocks, strict=False)),
            self.first_blocks[-1:],
        ])  # fmt: skip
        self.pack_cells, self.pack_starts = cells, starts
        self.map = Map(np.concatenate(centres), starts, cells, len(self.plan.centres))

    def _codes(self, name: str, g: int) -> tuple[UInt8, Int32]:
        get = self.store.get
        return unpack(get(name, g, "points"), get(name, g, "halves"), get(name, g, "starts"))

    def _move(self, g: int) -> None:
        """The nearest block of each row, in whatever group it lies; rows sorted by it."""
        get = self.store.get
        codes, _ = self._codes("carved", g)
        cells, rows = get("carved", g, "cells"), get("carved", g, "rows")
        blocks = self.map.choose(codes, cells, REROUTED_PACKS, 1)[:, 0]
        order = np.lexsort((rows, blocks))
        blocks = blocks[order]
        self.store.put(
            "moved", g, codes=codes[order], cells=cells[order], rows=rows[order], blocks=blocks,
            ends=np.searchsorted(blocks, self.first_blocks),
        )  # fmt: skip

    def _settle(self, g: int) -> None:
        """The rows that moved to the blocks of one group, carved again; their empty lists."""

        def ends(part: int) -> Int64:
            return self.store.get("moved", part, "ends", g, g + 2)

        keys = ("codes", "cells", "rows", "blocks")
        codes, cells, rows, blocks = self._gather("moved", self.groups, ends, keys)
        order = np.lexsort((rows, blocks))
        first, last = self.first_blocks[g], self.first_blocks[g + 1]
        counts = np.bincount(blocks - first, minlength=last - first)
        pack_of_block = np.searchsorted(self.pack_starts, np.arange(first, last), "right") - 1
        codes, cells, rows = codes[order], cells[order], rows[order]
        order, starts, block_cells = carve_again(codes, counts, self.pack_cells[pack_of_block])
        self._store_blocks(
            "blocks", g, codes[order], cells[order], rows[order], starts, block_cells
        )
        self._meet_at_home(g)

    def _meet_at_home(self, g: int) -> None:
        get, size = self.store.get, self.plan.list_size
        codes, _ = self._codes("blocks", g)
        scores = np.full((len(codes), size), EMPTY, np.int32)
        places = np.full((len(codes), size), -1, np.int32)
        starts = get("blocks", g, "starts")
        bounds = np.empty((len(starts) - 1, BLOCK_ROWS), np.int32)
        packed = [get("blocks", g, key) for key in Packed._fields]
        meet_at_home(
            codes, starts, *packed, int(self.first_places[g]), scores, places, bounds
        )  # fmt: skip
        self.store.put("lists", g, scores=scores, places=places, bounds=bounds)

    # -- searching ---------------------------------------------------------------------------------
    def probe(self, packs: int, probes: int) -> None:
        """Every row meets its `probes` nearest blocks, of those in its `packs` nearest packs."""

        def choose(g: int, codes: UInt8) -> Int32:
            cells = self.store.get("blocks", g, "cells")
            chosen = self.map.choose(codes, cells, packs, probes)
            self.store.put("met", g, blocks=chosen)
            return chosen

        self._round("search", lambda meeting: self._meet_chosen(meeting, choose))

    def meet_all(self) -> None:
        """Every row meets all blocks."""
        self._round("search", self._meet_rest)

    def vote(self, probes: int) -> None:
        """Every row meets the blocks that its neighbours' neighbours vote for."""
        for g in range(self.groups):
            self._snapshot(g)

        def choose(g: int, codes: UInt8) -> Int32:
            del codes
            own = np.arange(self.first_places[g], self.first_places[g + 1])
            return self._elected(self.store.get("hoods", g, "places"), own, g, probes)

        self._round("votes", lambda meeting: self._meet_chosen(meeting, choose))
        self._drop("hoods", self.groups)

    def _snapshot(self, g: int) -> None:
        """The first neighbours of the rows of a group as they are now, and their blocks."""
        places = self.store.get("lists", g, "places")[:, :VOTERS].copy()
        hoods = np.full((len(places), VOTERS), -1, np.int32)
        hoods[:, : places.shape[1]] = np.where(places >= 0, self.block_of_place[places], -1)
        self.store.put("hoods", g, places=places, blocks=hoods)

    def _elected(self, places: Int32, own: Int64, g: int, probes: int) -> Int32:
        """The blocks voted for by the neighbours at `places` (m, VOTERS) of rows of group g."""
        paths = np.full((len(places), VOTERS, VOTERS), -1, np.int32)
        for other in range(self.groups):
            hoods = self.store.get("hoods", other, "blocks")
            follow(places, int(self.first_places[other]), hoods, paths)
        chosen = np.empty((len(places), probes), np.int32)
        met = self.store.get("met", g, "blocks")[own - self.first_places[g]]
        elect(paths, self.block_of_place[own], met, int(self.first_blocks[-1]), chosen)
        return chosen

    def _round(self, stage: str, meet: Callable[[Meeting], None]) -> None:
        """Rows of each group meet blocks, both sides of every pair."""
        done = 0
        for begin in range(0, self.groups, self.threads):
            together = range(begin, min(begin + self.threads, self.groups))
            meetings = [Meeting(self.store, self.first_places, g) for g in together]
            each(meet, meetings, self.threads, _nothing)
            offers: dict[int, list[Int32]] = {}
            for meeting in meetings:
                for other, box in meeting.boxes:
                    offers.setdefault(other, []).append(box)
            each(self._accept, sorted(offers.items()), self.threads, _nothing)
            done += int(sum(self.sizes[g] for g in together))
            self.progress(stage, done, len(self.group))

    def _meet_chosen(self, meeting: Meeting, choose: Callable[[int, UInt8], Int32]) -> None:
        """Rows of a group meet the blocks that they choose."""
        chosen = choose(meeting.g, meeting.codes)
        keys, ends, rows = by_block(chosen, int(self.first_blocks[-1]))
        cuts = np.searchsorted(keys, self.first_blocks)
        for other in range(self.groups):
            at, stop = int(cuts[other]), int(cuts[other + 1])
            if at < stop:
                pairs = Pairs(keys[:stop], ends[:stop], ends[1 : stop + 1], rows)
                meeting.run(other, pairs, at, int(self.first_blocks[other]))

    def _meet_rest(self, meeting: Meeting) -> None:
        """Rows of a group meet all blocks of this and later groups."""
        for other in range(meeting.g, self.groups):
            meeting.run_all(other)

    def _accept(self, offered: tuple[int, list[Int32]]) -> None:
        """Offer what is in boxes to the rows of a group."""
        g, boxes = offered
        starts = self.store.get("blocks", g, "starts")
        own, lists = own_blocks(starts), [self.store.get("lists", g, key) for key in LISTS]
        for box in boxes:
            accept(box, own, starts, *lists)

    # -- reading -----------------------------------------------------------------------------------
    def places_of(self, numbers: Int64) -> Int64:
        """The places (m,) of rows by their `numbers`, which ascend without repeats."""
        places = np.empty(len(numbers), np.int64)
        for g in range(self.groups if len(numbers) else 0):
            rows = self.store.get("blocks", g, "rows")
            at = np.minimum(np.searchsorted(numbers, rows), len(numbers) - 1)
            hits = np.flatnonzero(numbers[at] == rows)
            places[at[hits]] = self.first_places[g] + hits
        return places

    def candidates_at(self, places: Int64) -> Int32:
        """The candidates (m, any) of the rows at `places`, in any order; see :meth:`candidates`."""
        found: list[tuple[Int64, Int32]] = []
        for g, mine in self._by_group(places):
            found.append((mine, self.candidates(g)[places[mine] - self.first_places[g]]))
        widest = max(rows.shape[1] for _, rows in found)
        listed = np.full((len(places), widest), -1, np.int32)
        for mine, rows in found:
            listed[mine, : rows.shape[1]] = rows
        return listed

    def votes_at(self, places: Int64, probes: int) -> Int32:
        """The blocks (m, probes) that :meth:`vote` would name for the rows at `places`."""
        for g in range(self.groups):
            self._snapshot(g)
        chosen = np.empty((len(places), probes), np.int32)
        for g, mine in self._by_group(places):
            at = places[mine] - self.first_places[g]
            near = self.store.get("hoods", g, "places")[at]
            chosen[mine] = self._elected(near, places[mine], g, probes)
        return chosen

    def numbers_at(self, places: Int32) -> Int32:
        """The numbers of the rows at `places`, of any shape; -1 stays -1."""
        return np.where(places < 0, np.int32(-1), self.number_of_place[places])

    def halves_of(self, g: int) -> Int32:
        """Half the square norms (m,) of the codes of the rows of a group."""
        return self._codes("blocks", g)[1]

    def cell_of_place(self, places: Int64) -> Int64:
        """The cell (m,) of the block of each of the rows at `places`."""
        pack = np.searchsorted(self.pack_starts, self.block_of_place[places], side="right") - 1
        return self.pack_cells[pack]

    def candidates(self, g: int) -> Int32:
        """The candidates (m, any) of the rows of a group, rows of all vectors, -1 for none."""
        listed = self.group.listed(self.numbers_at(self.store.get("lists", g, "places")))
        if not self.store.has("tight", g):
            return listed
        at, more = self.store.get("tight", g, "at"), self.store.get("tight", g, "neighbors")
        extra = np.full((len(listed), more.shape[1]), -1, np.int32)
        extra[at] = unlisted(more, listed[at])
        return np.concatenate([listed, extra], axis=1)

    def tight_count(self) -> int:
        """Rows that were searched again at a scale of their own."""
        have = [g for g in range(self.groups) if self.store.has("tight", g)]
        return sum(len(self.store.get("tight", g, "at")) for g in have)

    def _by_group(self, places: Int64) -> Iterator[tuple[int, Int64]]:
        group = np.searchsorted(self.first_places, places, side="right") - 1
        for g in np.unique(group):
            yield int(g), np.flatnonzero(group == g)

    def _each(self, stage: str, task: Callable[[int], None], parts: Sequence[int]) -> None:
        done = 0

        def ended(part: int) -> None:
            nonlocal done
            done += 1
            self.progress(stage, done, len(parts))

        each(task, parts, self.threads, ended)

    def _drop(self, name: str, parts: int) -> None:
        for part in range(parts):
            self.store.drop(name, part)
