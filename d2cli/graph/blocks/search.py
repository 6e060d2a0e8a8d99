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

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from d2cli.engine.store import PartStore, number
from d2cli.engine.threads import Progress, each
from d2cli.graph.blocks.arranging import Arranging, Chart
from d2cli.graph.blocks.kernels.arrange import filled_places, unlisted
from d2cli.graph.blocks.kernels.route import cells_near
from d2cli.graph.blocks.kernels.votes import elect, follow
from d2cli.graph.blocks.meeting import Meeting, Pairs, Side
from d2cli.graph.blocks.plan import Plan
from d2cli.graph.blocks.sizes import VOTERS, far_bytes, met_bytes, voting_bytes
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Bools, Int32, Int64, UInt8

#: The shares of the room that the rows which meet blocks, and the blocks of others, may take.
_OWN_SHARE, _FAR_SHARE = 0.7, 0.2


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

    Tasks work on a group. What the store holds already is not done again.

    Attributes:
        layout: where rows are.
        rounds: how many rounds of meetings are finished.
        tight_again: whether tight rows are searched again after the first round.
    """

    def __init__(
        self, group: Group, plan: Plan, store: PartStore, threads: int, progress: Progress,
        packs_of: Callable[[Chart], int],
    ) -> None:  # fmt: skip
        """Arrange the rows; `packs_of` says in how many packs rows look for blocks at first."""
        self.group, self.plan, self.store = group, plan, store
        self.threads, self.progress = threads, progress
        self.layout = Arranging(group, plan, store, threads, progress).run(packs_of)
        self.rounds, self.tight_again = 0, False

    # -- searching ---------------------------------------------------------------------------------
    def probe(self, packs: int, probes: int) -> None:
        """Every row meets its `probes` nearest blocks, of those in its `packs` nearest packs.

        In the first round these are the packs that were near it when it moved. Tight rows meet
        those that choose their block.
        """

        def choose(g: int, codes: UInt8) -> Int32:
            open_rows = np.flatnonzero(~self._tight(g))
            codes = codes[open_rows]
            if self.rounds == 0:
                near = self.store.get("near", g, "packs")[open_rows]
            else:
                cells = cells_near(codes, self.plan.centres, self.plan.near_cells)
                near = self.layout.map.packs_near(codes, cells, packs)
            chosen = np.full((self.layout.sizes[g], probes), -1, np.int32)
            chosen[open_rows] = self.layout.map.blocks_in(codes, near, probes)
            self.store.put("met", g, blocks=chosen)
            return chosen

        self._round("search", choose, probes)
        self.drop("near")

    def meet_all(self) -> None:
        """Every row meets all blocks."""
        self._round("search", None, 0)

    def vote(self, probes: int) -> None:
        """Every row meets the blocks that its neighbours' neighbours vote for."""
        self._snapshot()
        open_votes = [g for g in range(self.layout.groups) if self._mark("voted", g) <= self.rounds]
        for batch in self._batches(open_votes, voting_bytes()):
            self._elect(batch, probes)
        self._round("votes", lambda g, _: self.store.get("voted", g, "blocks"), probes)
        self.drop("hoods", "voted")

    def drop(self, *names: str) -> None:
        """Forget parts that are no longer needed."""
        for name in names:
            for g in range(self.layout.groups):
                self.store.drop(name, g)

    def _snapshot(self) -> None:
        """Store the first neighbours of all rows, as of the last round, and their blocks."""
        for g in range(self.layout.groups):
            if self._mark("hoods", g) == self.rounds:
                continue
            places = self.store.get("lists", g, "places")[:, :VOTERS].copy()
            hoods = np.full((len(places), VOTERS), -1, np.int32)
            blocks = np.where(places >= 0, self.layout.block_of_place[places], -1)
            hoods[:, : places.shape[1]] = blocks
            self.store.put("hoods", g, places=places, blocks=hoods, round=number(self.rounds))

    def _elect(self, batch: Sequence[int], probes: int) -> None:
        """Store the blocks that the rows of some groups elect."""
        near = {g: self.store.get("hoods", g, "places") for g in batch}

        def end(g: int, paths: Int32) -> None:
            own = np.arange(self.layout.first_places[g], self.layout.first_places[g + 1])
            chosen = self._elected(paths, own, g, probes)
            chosen[self._tight(g)] = -1
            self.store.put("voted", g, blocks=chosen, round=number(self.rounds + 1))

        self._follow(near, end)

    def _follow(self, near: dict[int, Int32], end: Callable[[int, Int32], None]) -> None:
        """Find where paths end that begin at the places `near` (m, VOTERS), by group."""
        paths = dict.fromkeys(near, np.empty(0, np.int32))
        parts = self._batches(range(self.layout.groups), 4.0 * VOTERS, _FAR_SHARE)
        for part in parts:
            hoods = {g: self.store.get("hoods", g, "blocks") for g in part}

            def walk(
                g: int, hoods: dict[int, Int32] = hoods, last: bool = part is parts[-1]
            ) -> None:
                if not paths[g].size:
                    paths[g] = np.full((len(near[g]), VOTERS, VOTERS), -1, np.int32)
                for other, blocks in hoods.items():
                    follow(near[g], int(self.layout.first_places[other]), blocks, paths[g])
                if last:
                    end(g, paths.pop(g))

            each(walk, list(near), self.threads, _nothing)

    def _elected(self, paths: Int32, own: Int64, g: int, probes: int) -> Int32:
        """The blocks voted for by the ends of the paths of rows of group g, at the places `own`."""
        chosen = np.empty((len(paths), probes), np.int32)
        met = self.store.get("met", g, "blocks")[own - self.layout.first_places[g]]
        elect(paths, self.layout.block_of_place[own], met, self.layout.blocks, chosen)
        return chosen

    def _mark(self, name: str, g: int) -> int:
        """The round that a part is of; -1 if there is none."""
        return int(self.store.get(name, g, "round")[0]) if self.store.has(name, g) else -1

    def _batches(
        self, groups: Sequence[int], bytes_per_row: float, share: float = _OWN_SHARE
    ) -> list[Sequence[int]]:
        """Runs of groups that together fit a share of the room, at least one for each thread."""
        if self.store.room is None:
            return [groups]
        size = bytes_per_row * float(self.layout.sizes.max())
        most = max(self.threads, int(share * self.store.room / size))
        return [groups[a : a + most] for a in range(0, len(groups), most)]

    def _round(self, stage: str, choose: Choose | None, probes: int) -> None:
        """Rows of each group meet the blocks that they choose, or all; both sides of every pair."""
        todo = [g for g in range(self.layout.groups) if self._mark("round", g) <= self.rounds]
        done = len(self.group) - int(sum(self.layout.sizes[g] for g in todo))
        width, size = self.plan.coder.width, self.plan.list_size
        far = self._batches(range(self.layout.groups), far_bytes(width, size), _FAR_SHARE)

        def ended(g: int) -> None:
            nonlocal done
            done += int(self.layout.sizes[g]) // len(far)
            self.progress(stage, done, len(self.group))

        for batch in self._batches(todo, met_bytes(width, size, probes)):
            sides = {g: Side(self.store, g) for g in batch}
            self._meet(sides, far, choose, ended)
            for side in sides.values():
                side.keep()
            for g in sides:  # not before: rows of g also met the blocks of the other sides
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
        meeting = Meeting(self.store, self.layout.first_places, side)
        chosen = np.empty((0, 1), np.int32) if choose is None else choose(side.g, meeting.codes)
        pairs = Pairs.of(chosen, self.layout.blocks)
        return _Own(meeting, pairs, np.searchsorted(pairs.keys, self.layout.first_blocks))

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
            meeting.run(there, pairs, at, int(self.layout.first_blocks[there.g]))

    # -- reading -----------------------------------------------------------------------------------
    def candidates_at(self, places: Int64) -> Int32:
        """The candidates (m, any) of the rows at `places`, in any order; see :meth:`candidates`."""
        found = [
            (mine, self.candidates(g, places[mine] - self.layout.first_places[g]))
            for g, mine in self.layout.by_group(places)
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
        groups = dict(self.layout.by_group(places))
        near = {
            g: self.store.get("hoods", g, "places")[places[mine] - self.layout.first_places[g]]
            for g, mine in groups.items()
        }

        def end(g: int, paths: Int32) -> None:
            mine = groups[g]
            chosen[mine] = self._elected(paths, places[mine], g, probes)

        self._follow(near, end)
        return chosen

    def _tight(self, g: int) -> Bools:
        """Rows of a group that are known to be tight; they are searched again (:mod:`.tight`)."""
        known = self.store.get("home", g, "tight") & self.tight_again
        if self.store.has("tight", g):
            known[self.store.get("tight", g, "at")] = True
        return known

    def halves_of(self, g: int) -> Int32:
        """Half the square norms (m,) of the codes of the rows of a group."""
        starts = self.store.get("blocks", g, "starts")
        return self.store.get("blocks", g, "halves")[filled_places(starts)]

    def candidates(self, g: int, some: Int64 | None = None) -> Int32:
        """The candidates (m, any), numbers of rows, -1 for none, of `some` rows of a group, or all.

        `some` (m,) count the rows of the group.
        """
        some = np.arange(self.layout.sizes[g]) if some is None else some
        listed = self.layout.numbers_at(self.store.get("lists", g, "places")[some])
        if not self.store.has("tight", g):
            return listed
        at, more = self.store.get("tight", g, "at"), self.store.get("tight", g, "neighbors")
        extra = np.full((len(listed), more.shape[1]), -1, np.int32)
        where = np.minimum(np.searchsorted(at, some), len(at) - 1)  # a part has rows
        again = np.flatnonzero(at[where] == some)
        extra[again] = unlisted(more[where[again]], listed[again])
        return np.concatenate([listed, extra], axis=1)

    def tight_count(self) -> int:
        """Rows that were searched again at a scale of their own."""
        have = [g for g in range(self.layout.groups) if self.store.has("tight", g)]
        return sum(len(self.store.get("tight", g, "at")) for g in have)
