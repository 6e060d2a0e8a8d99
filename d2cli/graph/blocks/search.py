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
offers. So the result does not depend on threads, machines, nor on what is in memory when.

A round of meetings is one task for each *batch* of groups whose lists fit in memory together. The
rows of a batch meet blocks of all groups. What they offer to the lists of other batches, such a
task stores in *boxes*, one for each part of the other groups that is in memory at a time. Once all
batches have met, a task for each group adds what is in its boxes to its lists. If one batch holds
all groups, there are no boxes.

What a round makes is stored under names with the number of the round (:func:`_of_round`). Nothing
that its tasks read changes meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from d2cli.engine.store import PartStore
from d2cli.engine.tasks import Engine, HasTasks, unheard
from d2cli.engine.threads import Progress, each
from d2cli.graph.blocks.arranging import Arranging, Chart, lists_after
from d2cli.graph.blocks.kernels.arrange import filled_places, starts_of, unlisted
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


class _Batch(NamedTuple):
    """Groups whose rows have met all blocks in one task, and what they left in boxes."""

    groups: Int64  # (m,), ascending
    parts: Int64  # (p,), the first group of each part of all groups that was in memory at a time
    boxed: Bools  # (p,), whether there is a box for the groups of a part

    def box_for(self, g: int, groups: int) -> tuple[int, int] | None:
        """The number of the box for group g, of `groups`, and the place of g in it."""
        part = int(np.searchsorted(self.parts, g, side="right")) - 1
        if g in self.groups or not self.boxed[part]:
            return None
        first = int(self.parts[part])
        return self.box_number(first, groups), g - first

    def box_number(self, first: int, groups: int) -> int:
        """The number of the box for the part that begins with group `first`."""
        return int(self.groups[0]) * groups + first


#: Names the blocks (m, p) that the rows of a group with these codes meet.
Choose = Callable[[int, UInt8], Int32]


def _of_round(name: str, rounds: int) -> str:
    """The name of parts that belong to one round."""
    return f"{name} {rounds}"


class BlockSearch(HasTasks):
    """One search: its parts in a store, and what all tasks know.

    What the store holds already is not done again.

    Attributes:
        layout: where rows are.
        rounds: how many rounds of meetings are finished.
        tight_again: whether tight rows are searched again after the first round.
        have_tight: the groups with rows that were searched again.
    """

    def __init__(
        self, group: Group, plan: Plan, store: PartStore, engine: Engine, progress: Progress,
        packs_of: Callable[[Chart], int],
    ) -> None:  # fmt: skip
        """Arrange the rows; `packs_of` says in how many packs rows look for blocks at first."""
        self.group, self.plan, self.store = group, plan, store
        self.engine, self.threads, self.progress = engine, engine.threads, progress
        self.layout = Arranging(group, plan, store, engine, progress).run(packs_of)
        self.rounds, self.tight_again, self._done = 0, False, 0
        self.have_tight: Collection[int] = ()
        self.find_tight()

    @property
    def groups(self) -> range:
        """All groups."""
        return range(self.layout.groups)

    @property
    def lists(self) -> str:
        """The name of the parts with the lists as they are now."""
        return lists_after(self.rounds)

    # -- searching ---------------------------------------------------------------------------------
    def probe(self, packs: int, probes: int) -> None:
        """Every row meets its `probes` nearest blocks, of those in its `packs` nearest packs.

        In the first round these are the packs that were near it when it moved. Tight rows meet
        those that choose their block.
        """
        self._round("search", partial(self._nearest, packs, probes), probes)
        self.store.forget("near")

    def meet_all(self) -> None:
        """Every row meets all blocks."""
        self._round("search", None, 0)

    def vote(self, probes: int) -> None:
        """Every row meets the blocks that its neighbours' neighbours vote for."""
        if not self._met():
            self._snapshot()
            voted = _of_round("voted", self.rounds)
            open_votes = [g for g in self.groups if not self.store.has(voted, g)]
            self.engine.run(partial(self._elect, probes), self._batches(open_votes, voting_bytes()))
        self._round("votes", self._voted, probes)

    def forget_votes(self) -> None:
        """Forget what votes are counted from: lists have changed, or no votes follow."""
        self.store.forget(*(_of_round(name, self.rounds) for name in ("hoods", "voted")))

    def _nearest(self, packs: int, probes: int, g: int, codes: UInt8) -> Int32:
        """The blocks that rows of a group meet in :meth:`probe`, which are stored as well."""
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

    def _voted(self, g: int, codes: UInt8) -> Int32:
        """The blocks that rows of a group meet in :meth:`vote`."""
        del codes
        blocks: Int32 = self.store.get(_of_round("voted", self.rounds), g, "blocks")
        return blocks

    def _snapshot(self) -> None:
        """Store the first neighbours of all rows, as of the last round, and their blocks."""
        hoods = _of_round("hoods", self.rounds)
        self.engine.each(self._note_hoods, [g for g in self.groups if not self.store.has(hoods, g)])

    def _note_hoods(self, g: int) -> None:
        places = self.store.get(self.lists, g, "places")[:, :VOTERS].copy()
        hoods = np.full((len(places), VOTERS), -1, np.int32)
        blocks = np.where(places >= 0, self.layout.block_of_place[places], -1)
        hoods[:, : places.shape[1]] = blocks
        self.store.put(_of_round("hoods", self.rounds), g, places=places, blocks=hoods)

    def _elect(self, probes: int, batch: Sequence[int]) -> None:
        """Store the blocks that the rows of some groups elect."""
        hoods = _of_round("hoods", self.rounds)
        near = {g: self.store.get(hoods, g, "places") for g in batch}

        def end(g: int, paths: Int32) -> None:
            own = np.arange(self.layout.first_places[g], self.layout.first_places[g + 1])
            chosen = self._elected(paths, own, g, probes)
            chosen[self._tight(g)] = -1
            self.store.put(_of_round("voted", self.rounds), g, blocks=chosen)

        self._follow(near, end)

    def _follow(self, near: dict[int, Int32], end: Callable[[int, Int32], None]) -> None:
        """Find where paths end that begin at the places `near` (m, VOTERS), by group."""
        paths = dict.fromkeys(near, np.empty(0, np.int32))
        parts = self._parts(4.0 * VOTERS)
        name = _of_round("hoods", self.rounds)
        for part in parts:
            hoods = {g: self.store.get(name, g, "blocks") for g in part}

            def walk(
                g: int, hoods: dict[int, Int32] = hoods, last: bool = part is parts[-1]
            ) -> None:
                if not paths[g].size:
                    paths[g] = np.full((len(near[g]), VOTERS, VOTERS), -1, np.int32)
                for other, blocks in hoods.items():
                    follow(near[g], int(self.layout.first_places[other]), blocks, paths[g])
                if last:
                    end(g, paths.pop(g))

            each(walk, list(near), self.threads, unheard)

    def _elected(self, paths: Int32, own: Int64, g: int, probes: int) -> Int32:
        """The blocks voted for by the ends of the paths of rows of group g, at the places `own`."""
        chosen = np.empty((len(paths), probes), np.int32)
        met = self.store.get("met", g, "blocks")[own - self.layout.first_places[g]]
        elect(paths, self.layout.block_of_place[own], met, self.layout.blocks, chosen)
        return chosen

    def _batches(self, groups: Sequence[int], bytes_per_row: float) -> list[Sequence[int]]:
        """Runs of groups that fit in memory together, one for each task that runs at a time."""
        most = self._fitting(bytes_per_row, _OWN_SHARE)
        return _runs(groups, min(most, -(-len(groups) // self.engine.at_once)))

    def _parts(self, bytes_per_row: float) -> list[Sequence[int]]:
        """Runs of all groups that fit in memory together, while others stay."""
        return _runs(self.groups, self._fitting(bytes_per_row, _FAR_SHARE))

    def _fitting(self, bytes_per_row: float, share: float) -> int:
        """How many groups fit a share of the room, at least one for each thread."""
        if self.store.room is None:
            return self.layout.groups
        size = bytes_per_row * float(self.layout.sizes.max())
        return max(self.threads, int(share * self.store.room / size))

    def _met(self) -> bool:
        """Whether the next round is finished."""
        return len(self.store.parts(lists_after(self.rounds + 1))) == len(self.groups)

    def _round(self, stage: str, choose: Choose | None, probes: int) -> None:
        """Rows of each group meet the blocks that they choose, or all; both sides of every pair."""
        before, after = self.lists, lists_after(self.rounds + 1)
        own, box, batch = (_of_round(name, self.rounds) for name in ("own", "box", "batch"))
        if not self._met():
            width, size = self.plan.coder.width, self.plan.list_size
            self._meet_in_batches(stage, choose, met_bytes(width, size, probes))
            batches = [_Batch(**self.store.whole(batch, g)) for g in self.store.parts(batch)]
            assert sum(len(one.groups) for one in batches) == len(self.groups)
            # From here on, what the round began with is not read again, nor lists that are opened.
            self.store.forget(before)
            if len(batches) > 1:
                still = sorted({*self.groups}.difference(self.store.parts(after)))
                opened = partial(
                    _open_boxes, self.store, own, box, after, batches, len(self.groups)
                )
                self.engine.each(opened, still, lambda g: self.store.drop(own, g))
        self.forget_votes()
        self.store.forget(before, own, box, batch)
        self.rounds += 1

    def _meet_in_batches(self, stage: str, choose: Choose | None, bytes_per_row: float) -> None:
        """Groups that have not met meet, in tasks of batches."""
        name = _of_round("batch", self.rounds)
        have = [self.store.get(name, g, "groups") for g in self.store.parts(name)]
        todo = np.setdiff1d(self.groups, np.concatenate([[], *have])).tolist()
        done = len(self.group) - int(self.layout.sizes[todo].sum())
        self._done = done
        far = self._parts(far_bytes(self.plan.coder.width, self.plan.list_size))

        def ended(batch: Sequence[int]) -> None:
            nonlocal done
            done += int(self.layout.sizes[list(batch)].sum())
            self._done = done
            self.progress(stage, done, len(self.group))

        work = partial(self._meet, stage, choose, far)
        self.engine.run(work, self._batches(todo, bytes_per_row), ended)

    def _meet(
        self, stage: str, choose: Choose | None, far: list[Sequence[int]], batch: Sequence[int]
    ) -> None:
        """Rows of the groups of `batch` meet blocks of all groups, one part of `far` after another.

        If there is one part, a group is in memory only while its rows meet.
        """
        alone = len(batch) == len(self.groups)
        sides_of = Side if alone else Side.copied  # the lists of others are read meanwhile
        sides = {g: sides_of(self.store, self.lists, g) for g in batch}
        boxed = np.zeros(len(far), np.bool_)
        found = _Batch(np.array(batch), np.array([part[0] for part in far]), boxed)
        own: dict[int, _Own] = {}

        def begin(g: int) -> None:
            own[g] = self._own(sides[g], choose)

        if len(far) > 1:
            each(begin, list(sides), self.threads, unheard)
        for at, part in enumerate(far):
            wanted = [t for t in part if not own or choose is None or self._wanted(t, own)]
            there = self._arrive(wanted, sides)

            def run(g: int, there: dict[int, Side] = there, last: bool = part is far[-1]) -> None:
                if g not in own:
                    begin(g)
                # Each group begins with its own blocks, so that threads seldom want the same lists.
                for t in sorted(there, key=lambda t: (t < g, t)):
                    self._meet_one(own[g], there[t], choose is None)
                if last:
                    del own[g]

            each(run, list(sides), self.threads, partial(self._told, stage, len(far)))
            for side in there.values():
                side.forget_blocks()
            boxed[at] = self._fill_box(part, there, sides, found)
        for side in sides.values():
            side.put(lists_after(self.rounds + 1) if alone else _of_round("own", self.rounds))
        # Not before: rows of each group also met the blocks of the other ones.
        self.store.put(_of_round("batch", self.rounds), batch[0], **found._asdict())

    def _told(self, stage: str, parts: int, g: int) -> None:
        """Rows of a group have met one of `parts` parts of all groups."""
        self._done += int(self.layout.sizes[g]) // parts
        self.progress(stage, self._done, len(self.group))

    def _fill_box(
        self, part: Sequence[int], there: dict[int, Side], sides: dict[int, Side], batch: _Batch
    ) -> bool:
        """Store what groups of a part that are not of the batch have taken; whether there is any.

        A box has the offers to the groups of the part, (m, 3), and `cuts` (groups + 1,) of them.
        """
        boxes = dict.fromkeys(part, np.empty((0, 3), np.int32))

        def fill(t: int) -> None:
            boxes[t] = there[t].taken()

        each(fill, [t for t in there if t not in sides], self.threads, unheard)
        offers = np.concatenate([*boxes.values()])
        if len(offers):
            cuts = starts_of(np.array([len(box) for box in boxes.values()]))
            box = batch.box_number(part[0], len(self.groups))
            self.store.put(_of_round("box", self.rounds), box, offers=offers, cuts=cuts)
        return len(offers) > 0

    def _own(self, side: Side, choose: Choose | None) -> _Own:
        meeting = Meeting(self.store, self.layout.first_places, side)
        chosen = np.empty((0, 1), np.int32) if choose is None else choose(side.g, meeting.codes)
        pairs = Pairs.of(chosen, self.layout.blocks)
        return _Own(meeting, pairs, np.searchsorted(pairs.keys, self.layout.first_blocks))

    def _wanted(self, t: int, own: dict[int, _Own]) -> bool:
        """Whether any rows meet blocks of group t."""
        return any(one.cuts[t] < one.cuts[t + 1] for one in own.values())

    def _arrive(self, groups: Sequence[int], sides: dict[int, Side]) -> dict[int, Side]:
        """Groups whose blocks are met, in memory."""
        there = {
            t: sides[t] if t in sides else Side.copied(self.store, self.lists, t) for t in groups
        }
        each(lambda t: there[t].packed(), list(there), self.threads, unheard)
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
        name = _of_round("hoods", self.rounds)
        near = {
            g: self.store.get(name, g, "places")[places[mine] - self.layout.first_places[g]]
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
        if g in self.have_tight:
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
        listed = self.layout.numbers_at(self.store.get(self.lists, g, "places")[some])
        if g not in self.have_tight:
            return listed
        at, more = self.store.get("tight", g, "at"), self.store.get("tight", g, "neighbors")
        extra = np.full((len(listed), more.shape[1]), -1, np.int32)
        where = np.minimum(np.searchsorted(at, some), len(at) - 1)  # a part has rows
        again = np.flatnonzero(at[where] == some)
        extra[again] = unlisted(more[where[again]], listed[again])
        return np.concatenate([listed, extra], axis=1)

    def tight_count(self) -> int:
        """Rows that were searched again at a scale of their own."""
        return sum(len(self.store.get("tight", g, "at")) for g in self.have_tight)

    def find_tight(self) -> None:
        """Find the groups with rows that were searched again, once for all tasks."""
        self.have_tight = frozenset(g for g in self.groups if self.store.has("tight", g))


def _runs(groups: Sequence[int], most: int) -> list[Sequence[int]]:
    """Runs of groups, each of at most `most` groups."""
    return [groups[a : a + most] for a in range(0, len(groups), max(1, most))]


def _open_boxes(
    store: PartStore, own: str, box: str, after: str, batches: list[_Batch], groups: int, g: int
) -> None:
    """Store the lists of a group `after` a round: its `own`, and what is in its boxes."""
    side = Side.copied(store, own, g)
    for batch in batches:
        if (found := batch.box_for(g, groups)) is not None:
            number, at = found
            start, stop = store.get(box, number, "cuts", at, at + 2).tolist()
            side.take(store.get(box, number, "offers", start, stop))
    side.put(after)
