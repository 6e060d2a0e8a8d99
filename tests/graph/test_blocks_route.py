"""Routing of rows to blocks against plain loops."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.graph.blocks.kernels.arrange import starts_of
from d2cli.graph.blocks.kernels.cells import nearest_cells
from d2cli.graph.blocks.kernels.route import Signposts, cells_near, choose_blocks, ranks_of
from d2cli.graph.blocks.sizes import ROUTED_ROWS
from tests import naive_blocks as naive
from tests.graph.test_blocks_codes import VALUES


def some_case(rng, n, r, values, counts, near):
    """Rows, up to `near` cells of each row, and the centres of blocks; cell c has counts[c]."""
    codes = (rng.choice(values, (n, r)) + 128).astype(np.uint8)
    centres = (rng.choice(values, (int(sum(counts)), r)) + 128).astype(np.uint8)
    cells = np.array([rng.permutation(len(counts))[:near] for _ in range(n)], np.int32)
    cells = cells.reshape(n, near)
    cells[rng.random(cells.shape) < 0.1] = -1
    return codes, cells, centres, np.array(counts)


@st.composite
def cases(draw):
    """Small cells and large ones, of more than one pack, and cells without blocks."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = st.one_of(st.integers(0, 3), st.integers(0, 40), st.sampled_from([0, 32, 33, 64]))
    counts = draw(st.lists(size, min_size=1, max_size=6))
    near = draw(st.integers(1, len(counts)))
    n, r = draw(st.integers(0, 24)), draw(st.sampled_from([4, 8]))
    return some_case(rng, n, r, draw(VALUES), counts, near)


def check(codes, cells, centres, counts, probes, wanted):
    posts = Signposts.of(centres, starts_of(counts))
    rows, points = naive.plain(codes), naive.plain(centres)
    blocks_of = [list(range(first, last)) for first, last in pairwise(starts_of(counts).tolist())]
    seen = naive.seen(cells.tolist(), blocks_of)
    chosen = choose_blocks(codes, cells, posts, probes)
    assert chosen.shape == (len(codes), probes)
    assert chosen.dtype == np.int32
    for i, found in enumerate(chosen.tolist()):
        expected = naive.chosen_blocks(rows[i], points, seen[i], probes)
        assert sorted(found) == sorted(expected + [-1] * (probes - len(expected))), i
        assert found[:1] == (expected or [-1])[:1], i
    ranks = ranks_of(codes, cells, posts, wanted)
    assert ranks.shape == wanted.shape
    for i, found in enumerate(ranks.tolist()):
        for block, place in zip(wanted[i].tolist(), found, strict=True):
            if block in seen[i]:
                assert place == naive.rank(rows[i], points, seen[i], block)
            else:
                assert place >= len(centres)


def test_signposts_cover_all_blocks_in_packs_of_one_cell():
    counts = np.array([0, 33, 0, 0, 64, 1, 0])
    centres = np.random.default_rng(0).integers(1, 256, (98, 4)).astype(np.uint8)
    posts = Signposts.of(centres, starts_of(counts))
    assert posts.packs.tolist() == [0, 0, 2, 2, 2, 4, 5, 5]
    assert posts.first.tolist() == [0, 32, 33, 65, 97]
    assert posts.cells.tolist() == [0, 0, 33, 33, 33, 97, 98, 98]
    assert posts.packed.points[3, 0, 0].tolist() == naive.plain(centres)[65]


@settings(max_examples=60)
@given(cases(), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_blocks_and_ranks_equal_plain_loops(case, probes, seed):
    """The blocks with the best scores, the best first; of equal ones, the first that are seen."""
    rng = np.random.default_rng(seed)
    blocks = max(1, len(case[2]))
    check(*case, probes, rng.integers(-1, blocks, (len(case[0]), 3)).astype(np.int32))


@pytest.mark.parametrize("values", [(0, 1), range(-127, 128)], ids=["ties", "all"])
@pytest.mark.parametrize("probes", [1, 16, 33])
def test_rows_of_several_batches(values, probes):
    rng = np.random.default_rng(probes)
    case = some_case(rng, 2 * ROUTED_ROWS + 3, 4, values, [5, 0, 40, 33, 9, 2, 17], 3)
    check(*case, probes, rng.integers(0, 106, (len(case[0]), 2)).astype(np.int32))


def test_all_blocks_are_chosen_if_there_is_room():
    rng = np.random.default_rng(1)
    codes, _, centres, counts = some_case(rng, 9, 4, range(-127, 128), [3, 70, 0, 33], 1)
    posts = Signposts.of(centres, starts_of(counts))
    everywhere = np.tile(np.arange(4, dtype=np.int32), (9, 1))
    chosen = choose_blocks(codes, everywhere, posts, 110)
    for row in chosen.tolist():
        assert sorted(row) == [-1] * 4 + list(range(106))


def test_equal_centres_are_chosen_in_the_order_they_are_seen():
    """Where all codes are equal, so are all scores."""
    codes, centres = np.full((5, 4), 77, np.uint8), np.full((80, 4), 77, np.uint8)
    posts = Signposts.of(centres, np.array([0, 40, 80]))
    chosen = choose_blocks(codes, np.array([[1, 0]] * 5, np.int32), posts, 45)
    assert [sorted(row) for row in chosen.tolist()] == [[*range(5), *range(40, 80)]] * 5
    wanted = np.array([[0, 79]] * 5, np.int32)
    assert not ranks_of(codes, np.array([[1, 0]] * 5, np.int32), posts, wanted).any()


def test_rows_without_cells_have_no_blocks():
    posts = Signposts.of(np.ones((3, 4), np.uint8), np.array([0, 3]))
    codes = np.ones((2, 4), np.uint8)
    cells = np.array([[-1], [0]], np.int32)
    assert choose_blocks(codes, cells, posts, 2).tolist() == [[-1, -1], [0, 1]]
    wanted = np.zeros((2, 1), np.int32)
    assert (ranks_of(codes, cells, posts, wanted) >= 3).tolist() == [[True], [False]]
    nowhere = Signposts.of(np.empty((0, 4), np.uint8), np.array([0, 0]))
    assert choose_blocks(codes, cells, nowhere, 2).tolist() == [[-1, -1]] * 2


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 90), st.integers(1, 90), st.integers(0, 99))
def test_cells_near_are_the_nearest(n, cells, size, seed):
    """The nearest is first; the others are as near as those of the sorted lists."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(1, 256, (n, 8)).astype(np.uint8)
    centres = rng.integers(1, 256, (cells, 8)).astype(np.uint8)
    size = min(size, cells)
    found, wanted = cells_near(codes, centres, size), nearest_cells(codes, centres, size)
    np.testing.assert_array_equal(found[:, 0], wanted[:, 0])
    for row, mine, theirs in zip(codes, found, wanted, strict=True):
        points = centres.astype(np.int64) - 128
        scores = points @ (row.astype(np.int64) - 128) - (points**2).sum(axis=1) // 2
        assert len(set(mine)) == size
        assert sorted(scores[mine]) == sorted(scores[theirs])
