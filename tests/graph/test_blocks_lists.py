"""Lists and votes of the ``blocks`` search against plain loops."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.engine.store import PartStore
from d2cli.engine.threads import each
from d2cli.graph.blocks import meeting as meeting_module
from d2cli.graph.blocks.kernels.arrange import by_block, starts_of
from d2cli.graph.blocks.kernels.cells import Packed
from d2cli.graph.blocks.kernels.lists import accept, meet, meet_at_home, offer, taken
from d2cli.graph.blocks.kernels.votes import elect, follow
from d2cli.graph.blocks.meeting import Meeting, Pairs, Side, own_blocks
from d2cli.graph.blocks.sizes import EMPTY, VOTERS
from d2cli.runtime.int8.sizes import NEVER
from tests import naive_blocks as naive
from tests.graph.test_blocks_codes import VALUES

LISTS = ("scores", "places", "bounds")


class Rows:
    """Codes of all rows, in groups of blocks; the lists of a group are those of its rows."""

    def __init__(self, codes, sizes, size):
        """`sizes` are those of the blocks of each group, `size` is that of the lists."""
        self.codes, self.size = codes, size
        self.plain = naive.plain(codes)
        self.starts = [starts_of(np.array(group)) for group in sizes]
        self.first = starts_of(np.array([group[-1] for group in self.starts]))
        self.first_blocks = starts_of(np.array([len(group) for group in sizes]))
        self.own = naive.block_of(
            np.cumsum([0, *(rows for group in sizes for rows in group)]).tolist()
        )
        self.store = PartStore()
        for g, starts in enumerate(self.starts):
            mine = codes[self.first[g] : self.first[g + 1]]
            packed = Packed.of(mine, starts)
            self.store.put("blocks", g, **packed._asdict(), starts=starts)
            lists = self.empty_lists(len(mine), len(starts) - 1)
            meet_at_home(mine, starts, *packed, int(self.first[g]), *lists)
            self.store.put("lists", g, **dict(zip(LISTS, lists, strict=True)))

    def empty_lists(self, n, blocks):
        scores = np.full((n, self.size), EMPTY, np.int32)
        places = np.full((n, self.size), -1, np.int32)
        return scores, places, np.full((blocks, 32), 99, np.int32)

    def accept(self, g, box):
        starts = self.store.get("blocks", g, "starts")
        lists = [self.store.get("lists", g, key) for key in LISTS]
        accept(box, own_blocks(starts), starts, *lists)

    def home_pairs(self):
        return [(i, j) for i, a in enumerate(self.own) for j in range(i) if self.own[j] == a]

    def pairs_of(self, chosen):
        """The pairs of rows that meet if row i meets the blocks chosen[i]."""
        return [
            (i, j)
            for i, blocks in enumerate(chosen)
            for j, block in enumerate(self.own)
            if block in blocks and block != self.own[i]
        ]

    def check(self, pairs):
        """All lists are the best of what was offered, and all bounds are those of the lists."""
        expected = naive.lists(self.plain, pairs, self.size)
        for g, starts in enumerate(self.starts):
            scores, places, bounds = (self.store.get("lists", g, k) for k in LISTS)
            limits = np.full(bounds.shape, NEVER)
            for b, (first, last) in enumerate(pairwise(starts)):
                for i in range(first, last):
                    listed = expected[self.first[g] + i]
                    free = self.size - len(listed)
                    found = list(zip(scores[i].tolist(), places[i].tolist(), strict=True))
                    assert found == listed + [(EMPTY, -1)] * free
                    limits[b, i - first] = EMPTY if free else listed[-1][0] - 1
            assert bounds.tolist() == limits.tolist()


@st.composite
def rows(draw, most_blocks=4):
    """Rows of 1 … 3 groups of blocks of 1 … 32 rows, and a random generator."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    block = st.one_of(st.integers(1, 4), st.integers(1, 32))
    group = st.lists(block, min_size=1, max_size=most_blocks)
    sizes = draw(st.lists(group, min_size=1, max_size=3))
    r = draw(st.sampled_from([4, 8]))
    codes = (rng.choice(draw(VALUES), (sum(map(sum, sizes)), r)) + 128).astype(np.uint8)
    return Rows(codes, sizes, draw(st.integers(1, 12))), rng


@given(
    st.lists(st.integers(-3, 3), min_size=9, max_size=9), st.lists(st.integers(0, 8), max_size=40),
    st.integers(1, 6),
)  # fmt: skip
def test_list_holds_the_best_offers(scores_of, offered, size):
    """A place has one score; a place that is offered again changes nothing."""
    offers = [(scores_of[place], place) for place in offered]
    scores, places = np.full((3, size), EMPTY, np.int32), np.full((3, size), -1, np.int32)
    for score, place in offers:
        offer(scores, places, 1, np.int32(score), np.int32(place))
    expected = naive.best(offers, size) + [(EMPTY, -1)] * size
    assert list(zip(scores[1].tolist(), places[1].tolist(), strict=True)) == expected[:size]
    assert (places[[0, 2]] == -1).all()
    assert (scores[[0, 2]] == EMPTY).all()


@settings(max_examples=50)
@given(rows())
def test_rows_of_a_block_meet_at_home(case):
    some, _ = case
    some.check(some.home_pairs())


@settings(max_examples=80)
@given(rows(), st.integers(0, 5), st.sampled_from(["at once", "at the end"]), st.integers(0, 40))
def test_lists_do_not_depend_on_the_order_of_meetings(case, probes, delivery, spare):
    """Blocks, their rows and the groups come in any order; boxes are small and fill up."""
    some, rng = case
    chosen = meet_some(some, rng, probes, delivery == "at once", spare)
    some.check(some.home_pairs() + some.pairs_of(chosen))


#: The begins and the ends of runs, from where each starts.
CUTS = slice(None, -1), slice(1, None)


def meet_some(some, rng, probes, at_once, spare):
    """Rows meet random blocks, their own perhaps among them; returns the blocks of each row."""
    groups, blocks = len(some.starts), int(some.first_blocks[-1])
    chosen = [rng.permutation(blocks)[:probes].tolist() for _ in some.codes]
    later = []
    for g in rng.permutation(groups):
        own_starts = some.starts[g]
        mine = some.codes[some.first[g] : some.first[g + 1]]
        halves = np.array([naive.half(row) for row in naive.plain(mine)], np.int32)
        table = np.full((len(mine), max(probes, 1)), -1, np.int32)
        for i in range(len(mine)):
            wanted = chosen[some.first[g] + i]
            table[i, : len(wanted)] = wanted
        keys, ends, looking = by_block(table, blocks)
        lists = [some.store.get("lists", g, key) for key in LISTS]
        for other in rng.permutation(groups):
            first, last = some.first_blocks[other], some.first_blocks[other + 1]
            inside = rng.permutation([z for z, b in enumerate(keys) if first <= b < last])
            if not len(inside):
                continue
            runs = [rng.permutation(looking[ends[z] : ends[z + 1]]) for z in inside]
            largest = max(map(len, runs))
            bounds = starts_of(np.array(list(map(len, runs)))).astype(np.int32)
            box = np.empty((32 * largest + spare, 3), np.int32)
            there = [some.store.get("blocks", other, key) for key in (*Packed._fields, "starts")]
            begin = 0
            while begin < len(inside):
                before, box[:] = begin, -7
                begin, filled = meet(
                    mine, halves, own_blocks(own_starts), own_starts, int(some.first[g]), *lists,
                    bool(g == other), *there, int(some.first[other]),
                    some.store.get("lists", other, "bounds"), keys[inside].astype(np.int32),
                    *(bounds[cut] for cut in CUTS),
                    np.concatenate(runs).astype(np.int32), begin, int(first), box, 0,
                )  # fmt: skip
                assert begin > before
                assert (box[filled:] == -7).all()
                assert np.isin(
                    box[:filled, 0], np.arange(len(own_blocks(some.starts[other])))
                ).all()
                assert np.isin(box[:filled, 1], some.first[g] + np.arange(len(mine))).all()
                if at_once or g == other:
                    some.accept(other, box[:filled])
                else:
                    later.append((other, box[:filled].copy()))
    for k in rng.permutation(len(later)):
        some.accept(*later[k])
    return chosen


@given(
    st.lists(st.integers(-3, 3), min_size=30, max_size=30),
    st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 29)), max_size=40), max_size=4),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 29)), max_size=20), st.integers(1, 6),
)  # fmt: skip
def test_boxes_bring_what_copies_have_taken(scores_of, offered, before, size):
    """Copies of lists take offers; with what is in their boxes, lists are the best of all."""
    starts = starts_of(np.array([3, 2]))
    own = own_blocks(starts)

    def box_of(offers):
        return np.array([(i, p, scores_of[p]) for i, p in offers], np.int32).reshape(-1, 3)

    scores, places = np.full((5, size), EMPTY, np.int32), np.full((5, size), -1, np.int32)
    bounds = np.full((2, 32), NEVER, np.int32)
    accept(box_of(before), own, starts, scores, places, bounds)
    boxes = []
    for offers in offered:
        copy = scores.copy(), places.copy(), bounds.copy()
        accept(box_of(offers), own, starts, *copy)
        boxes.append(taken(copy[0], copy[1], places))
        had = {(i, p) for i in range(5) for p in places[i].tolist()}
        kept = {(i, p) for i in range(5) for p in copy[1][i].tolist() if p >= 0}
        found = [(i, p) for i, p, _ in boxes[-1].tolist()]
        assert sorted(found) == sorted(kept - had)
        assert all(score == scores_of[p] for _, p, score in boxes[-1].tolist())
    for box in reversed(boxes):
        accept(box, own, starts, scores, places, bounds)
    for i in range(5):
        mine = [(scores_of[p], p) for j, p in sum(offered, before) if j == i]
        expected = (naive.best(mine, size) + [(EMPTY, -1)] * size)[:size]
        assert list(zip(scores[i].tolist(), places[i].tolist(), strict=True)) == expected
        if mine:
            last = EMPTY if expected[-1][1] < 0 else expected[-1][0] - 1
            assert bounds[own[i], i - starts[own[i]]] == last


@settings(max_examples=25)
@given(rows(), st.integers(1, 5), st.booleans(), st.integers(1, 3))
def test_meetings_run_until_everything_is_met(case, probes, everything, threads):
    """Several at a time; each side takes what it is offered, and is stored if it has changed."""
    some, rng = case
    blocks, groups = int(some.first_blocks[-1]), range(len(some.starts))
    chosen = np.array([rng.integers(-1, blocks, probes) for _ in some.codes], np.int32)
    for row in chosen:  # no block twice
        row[[block in row[:p] for p, block in enumerate(row)]] = -1
    sides = [Side.copied(some.store, "lists", g) for g in groups]

    def work(g):
        one, first = Meeting(some.store, some.first, sides[g]), some.first[g]
        np.testing.assert_array_equal(one.codes, some.codes[first : some.first[g + 1]])
        if everything:
            for other in range(g, len(groups)):
                one.run_all(sides[other])
            return
        pairs = Pairs.of(chosen[first : some.first[g + 1]], blocks)
        cuts = np.searchsorted(pairs.keys, some.first_blocks)
        for other in groups:
            at, stop = int(cuts[other]), int(cuts[other + 1])
            if at < stop:
                met = Pairs(*(one[:stop] for one in pairs[:3]), pairs.rows)
                one.run(sides[other], met, at, int(some.first_blocks[other]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meeting_module, "BOX_OFFERS", 1)
        each(work, groups, threads, lambda _: None)
    for side in sides:
        side.put("lists")
    if everything:
        some.check([(i, j) for i in range(len(some.codes)) for j in range(i)])
    else:
        some.check(some.home_pairs() + some.pairs_of(chosen.tolist()))


def test_a_later_meeting_changes_only_what_is_better():
    """Rows meet blocks again and then others: nothing is listed twice, nothing is lost."""
    rng = np.random.default_rng(7)
    codes = (rng.integers(-3, 4, (150, 4)) + 128).astype(np.uint8)
    some = Rows(codes, [[20, 30, 10], [32, 32], [26]], 8)
    pairs = some.home_pairs()
    for probes in (2, 2, 5):
        pairs += some.pairs_of(meet_some(some, rng, probes, False, 3))
        some.check(pairs)


@st.composite
def elections(draw):
    """Paths of rows with few and with many blocks, and what the rows have met."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, blocks = draw(st.integers(0, 6)), draw(st.sampled_from([1, 2, 5, 30, 200]))
    paths = rng.integers(-1, blocks, (n, VOTERS, VOTERS)).astype(np.int32)
    paths[rng.random(paths.shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))] = -1
    if draw(st.booleans()):
        paths[rng.random(paths.shape) < 0.8] = 0  # more votes than are counted apart
    own = rng.integers(0, blocks, n).astype(np.int32)
    met = rng.integers(-1, blocks, (n, draw(st.integers(0, 4)))).astype(np.int32)
    return paths, own, met, blocks


@given(elections(), st.integers(1, 110))
def test_elections_equal_plain_loops(case, probes):
    """The most votes win; of blocks with as many, those that were voted for first."""
    paths, own, met, blocks = case
    before = paths.copy()
    chosen = np.full((len(paths), probes), 99, np.int32)
    elect(paths, own, met, blocks, chosen)
    np.testing.assert_array_equal(paths, before)
    for i, found in enumerate(chosen.tolist()):
        expected = naive.elected(paths[i].tolist(), own[i], met[i].tolist(), probes)
        assert sorted(found) == sorted(expected + [-1] * (probes - len(expected)))
        assert found[len(expected) :] == [-1] * (probes - len(expected))


@given(
    st.integers(0, 8), st.integers(1, 14), st.lists(st.integers(0, 6), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_paths_lead_through_all_groups(n, size, groups, seed):
    """Lists may be shorter or longer than the number of neighbours that vote."""
    rng = np.random.default_rng(seed)
    total = sum(groups)
    places = rng.integers(-1, max(total, 1), (n, size)).astype(np.int32)
    places[places >= total] = -1
    hoods = rng.integers(-1, 50, (total, VOTERS)).astype(np.int32)
    paths = np.full((n, VOTERS, VOTERS), -1, np.int32)
    first = 0
    for rows_here in groups:
        follow(places, first, hoods[first : first + rows_here], paths)
        first += rows_here
    assert paths.tolist() == naive.followed(places.tolist(), hoods.tolist())
