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
from typing import Any, NamedTuple

import numpy as np

from d2cli.engine.store import PartStore, number
from d2cli.engine.threads import Progress, each
from d2cli.graph.blocks.kernels.arrange import (
    block_centres,
    carve_again,
    cut_into_groups,
    filled_places,
    starts_of,
    unlisted,
    unpack,
)
from d2cli.graph.blocks.kernels.carve import carve
from d2cli.graph.blocks.kernels.cells import Packed
from d2cli.graph.blocks.kernels.lists import meet_at_home
from d2cli.graph.blocks.kernels.route import Signposts, cells_near, choose_blocks
from d2cli.graph.blocks.kernels.votes import elect, follow
from d2cli.graph.blocks.meeting import Meeting, Pairs, Side
from d2cli.graph.blocks.plan import Plan
from d2cli.graph.blocks.sizes import (
    BLOCK_ROWS,
    EMPTY,
    FEWEST_GROUPS,
    GROUP_ROWS,
    READ_ROWS,
    REROUTED_PACKS,
    VOTERS,
    encoded_rows,
    far_bytes,
    met_bytes,
    voting_bytes,
)
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Int32, Int64, UInt8

#: The shares of the room that the rows which meet blocks, and the blocks of others, may take.
_OWN_SHARE, _FAR_SHARE = 0.7, 0.2


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


class _Own(NamedTuple):
    """A group whose rows meet blocks: the pairs, and where those with each group begin."""

    meeting: Meeting
    pairs: Pairs
    cuts: Int64  # (groups + 1,)


#: Names the blocks (m, p) that the rows of a group with these codes meet.
Choose = Callable[[int, UInt8], Int32]


def _nothing(item: object) -> None:
    """Called after each piece of work."""


class BlockSearch:
    """One search: its parts in a store, and what all tasks know.

    Tasks are methods; ``task(g)`` works on group g. What a store holds already is not done again.

    Attributes:
        rounds: how many rounds of meetings are finished.
    """

    def __init__(
        self, group: Group, plan: Plan, store: PartStore, threads: int, progress: Progress
    ) -> None:
        self.group, self.plan, self.store = group, plan, store
        self.threads, self.progress = threads, progress
        self.groups = self.rounds = 0

    # -- arranging ---------------------------------------------------------------------------------
    def arrange(self) -> None:
        """Codes, cells and blocks."""
        store, n = self.store, len(self.group)
        self.chunk = encoded_rows(n, self.group.vectors.shape[1])
        self.chunks = -(-n // self.chunk)
        if not store.has("cells"):
            self._each("encode", self._encode, range(self.chunks), "encoded")
            counts = np.sum([store.get("encoded", c, "counts") for c in range(self.chunks)], axis=0)
            first = cut_into_groups(counts, max(FEWEST_GROUPS, n // GROUP_ROWS))
            store.put("cells", first=first)
        self.first_cells = store.get("cells", 0, "first")
        self.groups = len(self.first_cells) - 1
        if not store.has("arranged"):
            self._arrange()
            store.put("arranged", groups=number(self.groups))
        self._survey()

    def _arrange(self) -> None:
        store, groups = self.store, range(self.groups)
        if not store.has("carving ended"):
            self._each("arrange", self._carve_cells, groups, "carved")
            store.put("carving ended")
        self._drop("encoded", self.chunks)
        self._chart("carved")
        if not store.has("moving ended"):
            self._each("arrange", self._move, groups, "moved")
            store.put("moving ended")
        self._drop("carved", self.groups)
        sent = [store.get("moved", g, "ends") for g in groups]
        self.first_places = starts_of(np.sum([np.diff(ends) for ends in sent], axis=0))
        self._each("arrange", self._settle, groups, "lists")
        self._drop("moved", self.groups)
        self._drop("carved map", self.groups)

    def _survey(self) -> None:
        """Number what is arranged."""
        groups = range(self.groups)
        starts = [self.store.get("blocks", g, "starts") for g in groups]
        self.sizes = np.array([one[-1] for one in starts])
        self.first_places = starts_of(self.sizes)
        self._chart("blocks")
        self.number_of_place = np.concatenate([self.store.get("blocks", g, "rows") for g in groups])
        self.block_of_place = np.concatenate([
            np.repeat(np.arange(first, first + len(one) - 1, dtype=np.int32), np.diff(one))
            for first, one in zip(self.first_blocks, starts, strict=False)
        ])  # fmt: skip

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
            name, g, **packed._asdict(), starts=new, cells=cells[places], rows=rows[places]
        )
        self.store.put(
            f"{name} map", g, centres=centres[order], packs=packs,
            cells=block_cells[order[packs[:-1]]],
        )  # fmt: skip

    def _chart(self, name: str) -> None:
        """Make the map of all blocks, and number them."""
        parts, name = range(self.groups), f"{name} map"
        centres = [self.store.get(name, g, "centres") for g in parts]
        packs = [self.store.get(name, g, "packs") for g in parts]
        cells = np.concatenate([self.store.get(name, g, "cells") for g in parts])
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
            chosen = self.map.choose(codes, self.store.get("blocks", g, "cells"), packs, probes)
            self.store.put("met", g, blocks=chosen)
            return chosen

        self._round("search", choose, probes)

    def meet_all(self) -> None:
        """Every row meets all blocks."""
        self._round("search", None, 0)

    def vote(self, probes: int) -> None:
        """Every row meets the blocks that its neighbours' neighbours vote for."""
        self._snapshot()
        open_votes = [g for g in range(self.groups) if self._mark("voted", g) <= self.rounds]
        for batch in self._batches(open_votes, voting_bytes()):
            self._elect(batch, probes)
        self._round("votes", lambda g, _: self.store.get("voted", g, "blocks"), probes)
        self._drop("hoods", self.groups)

    def _snapshot(self) -> None:
        """Store the first neighbours of all rows, as of the last round, and their blocks."""
        for g in range(self.groups):
            if self._mark("hoods", g) == self.rounds:
                continue
            places = self.store.get("lists", g, "places")[:, :VOTERS].copy()
            hoods = np.full((len(places), VOTERS), -1, np.int32)
            hoods[:, : places.shape[1]] = np.where(places >= 0, self.block_of_place[places], -1)
            self.store.put("hoods", g, places=places, blocks=hoods, round=number(self.rounds))

    def _elect(self, batch: Sequence[int], probes: int) -> None:
        """Store the blocks that the rows of some groups elect."""
        near = {g: self.store.get("hoods", g, "places") for g in batch}
        own = {g: np.arange(self.first_places[g], self.first_places[g + 1]) for g in batch}

        def end(g: int, paths: Int32) -> None:
            chosen = self._elected(paths, own[g], g, probes)
            self.store.put("voted", g, blocks=chosen, round=number(self.rounds + 1))

        self._follow(near, end)

    def _follow(self, near: dict[int, Int32], end: Callable[[int, Int32], None]) -> None:
        """Find where paths end that begin at the places `near` (m, VOTERS), by group."""
        paths = dict.fromkeys(near, np.empty(0, np.int32))
        parts = self._batches(range(self.groups), 4.0 * VOTERS, _FAR_SHARE)
        for part in parts:
            hoods = {g: self.store.get("hoods", g, "blocks") for g in part}

            def walk(
                g: int, hoods: dict[int, Int32] = hoods, last: bool = part is parts[-1]
            ) -> None:
                if not paths[g].size:
                    paths[g] = np.full((len(near[g]), VOTERS, VOTERS), -1, np.int32)
                for other, blocks in hoods.items():
                    follow(near[g], int(self.first_places[other]), blocks, paths[g])
                if last:
                    end(g, paths.pop(g))

            each(walk, list(near), self.threads, _nothing)

    def _elected(self, paths: Int32, own: Int64, g: int, probes: int) -> Int32:
        """The blocks voted for by the ends of the paths of rows of group g, at the places `own`."""
        chosen = np.empty((len(paths), probes), np.int32)
        met = self.store.get("met", g, "blocks")[own - self.first_places[g]]
        elect(paths, self.block_of_place[own], met, int(self.first_blocks[-1]), chosen)
        return chosen

    def _mark(self, name: str, g: int) -> int:
        """The round that a part is of; -1 if there is none."""
        return int(self.store.get(name, g, "round")[0]) if self.store.has(name, g) else -1

    def _batches(
        self, groups: Sequence[int], bytes_per_row: float, share: float = _OWN_SHARE
    ) -> list[Sequence[int]]:
        """Runs of groups that together fit a share of the room, at least one for each thread."""
        if self.store.room is None or not len(groups):
            return [groups]
        size = bytes_per_row * float(self.sizes.max())
        most = max(self.threads, int(share * self.store.room / size))
        return [groups[a : a + most] for a in range(0, len(groups), most)]

    def _round(self, stage: str, choose: Choose | None, probes: int) -> None:
        """Rows of each group meet the blocks that they choose, or all; both sides of every pair."""
        todo = [g for g in range(self.groups) if self._mark("round", g) <= self.rounds]
        done = len(self.group) - int(sum(self.sizes[g] for g in todo))
        width, size = self.plan.coder.width, self.plan.list_size
        far = self._batches(range(self.groups), far_bytes(width, size), _FAR_SHARE)

        def ended(g: int) -> None:
            nonlocal done
            done += int(self.sizes[g]) // len(far)
            self.progress(stage, done, len(self.group))

        for batch in self._batches(todo, met_bytes(width, size, probes)):
            sides = {g: Side(self.store, g) for g in batch}
            self._meet(sides, far, choose, ended)
            for g, side in sides.items():
                side.keep()
                self.store.put("round", g, round=number(self.rounds + 1))
        self.rounds += 1

    def _meet(
        self, sides: dict[int, Side], far: list[Sequence[int]], choose: Choose | None,
        ended: Callable[[int], None],
    ) -> None:  # fmt: skip
        """Rows of the groups of `sides` meet blocks of all groups, one part of `far` after another.

        If there is one part, a group is in memory only while its rows meet.
        """
        own: dict[int, _Own] = {}

        def begin(g: int) -> None:
            own[g] = self._own(sides[g], choose)

        if len(far) > 1:
            each(begin, list(sides), self.threads, _nothing)
        for part in far:
            wanted = [t for t in part if not own or choose is None or self._met(t, own)]
            there = self._arrive(wanted, sides)

            def run(g: int, there: dict[int, Side] = there, last: bool = part is far[-1]) -> None:
                if g not in own:
                    begin(g)
                # Each group begins with its own blocks, so that threads seldom want the same lists.
                for t in sorted(there, key=lambda t: (t < g, t)):
                    self._meet_one(own[g], there[t], choose is None)
                if last:
                    del own[g]

            each(run, list(sides), self.threads, ended)
            for t, side in there.items():
                side.forget_blocks()
                if t not in sides:
                    side.keep()

    def _own(self, side: Side, choose: Choose | None) -> _Own:
        meeting = Meeting(self.store, self.first_places, side)
        chosen = np.empty((0, 1), np.int32) if choose is None else choose(side.g, meeting.codes)
        pairs = Pairs.of(chosen, int(self.first_blocks[-1]))
        return _Own(meeting, pairs, np.searchsorted(pairs.keys, self.first_blocks))

    def _met(self, t: int, own: dict[int, _Own]) -> bool:
        """Whether any rows meet blocks of group t."""
        return any(one.cuts[t] < one.cuts[t + 1] for one in own.values())

    def _arrive(self, groups: Sequence[int], sides: dict[int, Side]) -> dict[int, Side]:
        """Groups whose blocks are met, in memory."""
        there = {t: sides[t] if t in sides else Side(self.store, t) for t in groups}
        each(lambda t: there[t].packed(), list(there), self.threads, _nothing)
        return there

    def _meet_one(self, own: _Own, there: Side, everything: bool) -> None:
        """Rows of one group meet blocks of another one, or of their own."""
        meeting, (keys, begins, ends, rows), cuts = own
        if everything:
            if there.g >= meeting.side.g:
                meeting.run_all(there)
            return
        at, stop = int(cuts[there.g]), int(cuts[there.g + 1])
        if at < stop:
            pairs = Pairs(keys[:stop], begins[:stop], ends[:stop], rows)
            meeting.run(there, pairs, at, int(self.first_blocks[there.g]))

    # -- reading -----------------------------------------------------------------------------------
    def places_of(self, numbers: Int64) -> Int64:
        """The places (m,) of rows by their `numbers`, which ascend without repeats."""
        places = np.empty(len(numbers), np.int64)
        for g in range(self.groups if len(numbers) else 0):
            rows = self.number_of_place[self.first_places[g] : self.first_places[g + 1]]
            at = np.minimum(np.searchsorted(numbers, rows), len(numbers) - 1)
            hits = np.flatnonzero(numbers[at] == rows)
            places[at[hits]] = self.first_places[g] + hits
        return places

    def candidates_at(self, places: Int64) -> Int32:
        """The candidates (m, any) of the rows at `places`, in any order; see :meth:`candidates`."""
        found = [
            (mine, self.candidates(g, places[mine] - self.first_places[g]))
            for g, mine in self._by_group(places)
        ]
        widest = max(rows.shape[1] for _, rows in found)
        listed = np.full((len(places), widest), -1, np.int32)
        for mine, rows in found:
            listed[mine, : rows.shape[1]] = rows
        return listed

    def votes_at(self, places: Int64, probes: int) -> Int32:
        """The blocks (m, probes) that :meth:`vote` would name for the rows at `places`."""
        self._snapshot()
        chosen = np.empty((len(places), probes), np.int32)
        groups = dict(self._by_group(places))
        near = {
            g: self.store.get("hoods", g, "places")[places[mine] - self.first_places[g]]
            for g, mine in groups.items()
        }

        def end(g: int, paths: Int32) -> None:
            mine = groups[g]
            chosen[mine] = self._elected(paths, places[mine], g, probes)

        self._follow(near, end)
        return chosen

    def numbers_at(self, places: Int32) -> Int32:
        """The numbers of the rows at `places`, of any shape; -1 stays -1."""
        return np.where(places < 0, np.int32(-1), self.number_of_place[places])

    def halves_of(self, g: int) -> Int32:
        """Half the square norms (m,) of the codes of the rows of a group."""
        starts = self.store.get("blocks", g, "starts")
        return self.store.get("blocks", g, "halves")[filled_places(starts)]

    def cell_of_place(self, places: Int64) -> Int64:
        """The cell (m,) of the block of each of the rows at `places`."""
        pack = np.searchsorted(self.pack_starts, self.block_of_place[places], side="right") - 1
        return self.pack_cells[pack]

    def candidates(self, g: int, some: Int64 | None = None) -> Int32:
        """The candidates (m, any), numbers of rows, -1 for none, of `some` rows of a group, or all.

        `some` (m,) count the rows of the group.
        """
        some = np.arange(self.sizes[g]) if some is None else some
        listed = self.numbers_at(self.store.get("lists", g, "places")[some])
        if not self.store.has("tight", g):
            return listed
        at, more = self.store.get("tight", g, "at"), self.store.get("tight", g, "neighbors")
        extra = np.full((len(listed), more.shape[1]), -1, np.int32)
        if len(at):
            where = np.minimum(np.searchsorted(at, some), len(at) - 1)
            again = np.flatnonzero(at[where] == some)
            extra[again] = unlisted(more[where[again]], listed[again])
        return np.concatenate([listed, extra], axis=1)

    def tight_count(self) -> int:
        """Rows that were searched again at a scale of their own."""
        have = [g for g in range(self.groups) if self.store.has("tight", g)]
        return sum(len(self.store.get("tight", g, "at")) for g in have)

    def _by_group(self, places: Int64) -> Iterator[tuple[int, Int64]]:
        group = np.searchsorted(self.first_places, places, side="right") - 1
        for g in np.unique(group):
            yield int(g), np.flatnonzero(group == g)

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

        each(task, open_parts, self.threads, ended)

    def _drop(self, name: str, parts: int) -> None:
        for part in range(parts):
            self.store.drop(name, part)
