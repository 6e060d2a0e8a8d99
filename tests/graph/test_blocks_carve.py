"""Carving and arranging of blocks against plain loops."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.graph.blocks.kernels import carve as carve_module
from d2cli.graph.blocks.kernels.arrange import (
    block_centres,
    by_block,
    carve_again,
    cut_into_groups,
    starts_of,
    unpack,
)
from d2cli.graph.blocks.kernels.carve import carve
from d2cli.graph.blocks.kernels.cells import Packed
from tests import naive_blocks as naive
from tests.graph.test_blocks_codes import stored_codes


def some_codes(n, r, kind, seed=0):
    """(n, r) codes: clumps, random, few distinct rows, one distinct row, all but one row equal."""
    rng = np.random.default_rng(seed)
    if kind == "clumps":
        middles = rng.integers(-80, 81, (max(1, n // 40), r))
        rows = middles[rng.integers(0, len(middles), n)] + rng.normal(0, 6, (n, r))
    elif kind == "random":
        rows = rng.normal(0, 40, (n, r))
    elif kind == "few":
        rows = rng.integers(0, 2, (n, r)) * np.arange(r).clip(None, 2)
    else:
        rows = np.full((n, r), -5)
        if kind == "one other":
            rows[n // 2] = 90
    return (np.rint(rows).clip(-127, 127) + 128).astype(np.uint8)


KINDS = ["clumps", "random", "few", "equal", "one other"]


def check_blocks(order, starts, segments, n):
    """A permutation within segments, in blocks of 1 … 32 rows that cross no segment."""
    assert order.dtype == starts.dtype == np.int64
    for first, last in pairwise(segments):
        assert sorted(order[first:last].tolist()) == list(range(first, last))
    assert starts[0] == 0
    assert starts[-1] == n == len(order)
    sizes = np.diff(starts)
    assert (sizes >= 1).all()
    assert (sizes <= 32).all()
    assert set(segments) <= set(starts.tolist())


def blocks_of(order, starts):
    return [order[first:last].tolist() for first, last in pairwise(starts)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[700], [0, 33, 0, 1, 192, 193, 32, 0]], ids=["one", "many"])
def test_carve_equals_plain_loops(kind, sizes):
    segments = [0, *np.cumsum(sizes).tolist()]
    codes = some_codes(segments[-1], 8, kind, 1)
    before = codes.copy()
    order, starts = carve(codes, np.array(segments))
    np.testing.assert_array_equal(codes, before)
    check_blocks(order, starts, segments, len(codes))
    assert blocks_of(order, starts) == naive.carved(naive.plain(codes), pairwise(segments))


@settings(max_examples=30)
@given(
    stored_codes(most=300), st.lists(st.floats(0, 1), max_size=4)
)  # fmt: skip
def test_carve_of_any_segments_equals_plain_loops(codes, cuts):
    segments = sorted([0, *(int(cut * len(codes)) for cut in cuts), len(codes)])
    order, starts = carve(codes, np.array(segments))
    check_blocks(order, starts, segments, len(codes))
    assert blocks_of(order, starts) == naive.carved(naive.plain(codes), pairwise(segments))


@pytest.mark.parametrize("kind", KINDS)
def test_carve_does_not_depend_on_threads(kind, monkeypatch):
    monkeypatch.setattr(carve_module, "_PIECE", 2)
    sizes = np.random.default_rng(3).integers(0, 150, 23)
    segments = starts_of(sizes)
    codes = some_codes(int(sizes.sum()), 4, kind, 2)
    one, two = carve(codes, segments, 1), carve(codes, segments, 2)
    check_blocks(*one, segments.tolist(), len(codes))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("r", [4, 16, 64])
def test_blocks_of_large_segments_are_nearly_full(r):
    codes = some_codes(4000, r, "random", r)
    _, starts = carve(codes, np.array([0, 1500, 4000]))
    assert np.diff(starts).mean() >= 16


def test_blocks_of_equal_rows_are_full():
    codes = some_codes(1000, 4, "equal")
    _, starts = carve(codes, np.array([0, 1000]))
    assert np.diff(starts).tolist() == [32] * 31 + [8]


def test_blocks_hold_near_rows():
    """Rows of tight clumps of 20 rows each: few blocks hold rows of two clumps."""
    rng = np.random.default_rng(5)
    middles = rng.integers(-100, 101, (100, 16))
    clump = rng.permutation(np.repeat(np.arange(100), 20))
    codes = (middles[clump] + rng.integers(-2, 3, (2000, 16)) + 128).astype(np.uint8)
    order, starts = carve(codes, np.array([0, 2000]))
    pure = [len(set(clump[block])) <= 2 for block in blocks_of(order, starts)]
    assert np.mean(pure) > 0.9


def test_nothing_to_carve():
    for segments in ([0], [0, 0, 0]):
        order, starts = carve(np.empty((0, 4), np.uint8), np.array(segments), 2)
        assert order.tolist() == []
        assert starts.tolist() == [0]


@st.composite
def arranged(draw):
    """Codes in blocks of any number of rows, and the cells of the blocks, ascending."""
    counts = draw(
        st.lists(st.one_of(st.integers(0, 12), st.integers(0, 60)), min_size=1, max_size=12)
    )
    cells = np.sort(draw(st.lists(st.integers(0, 4), min_size=len(counts), max_size=len(counts))))
    n = sum(counts)
    codes = draw(stored_codes(fewest=max(n, 1), most=max(n, 1)))[:n]
    return codes, np.array(counts), cells


@settings(max_examples=50)
@given(arranged())
def test_carve_again_equals_plain_loops(case):
    codes, counts, cells = case
    order, starts, found_cells = carve_again(codes, counts, cells)
    runs = naive.merged(counts.tolist(), cells.tolist())
    segments = starts_of(np.array([rows for _, rows in runs], np.int64)).tolist()
    check_blocks(order, starts, segments, len(codes))
    assert blocks_of(order, starts) == naive.carved(naive.plain(codes), pairwise(segments))
    assert len(found_cells) == len(starts) - 1
    cell_of_row = np.repeat(cells, counts)
    for cell, block in zip(found_cells, blocks_of(order, starts), strict=True):
        assert set(cell_of_row[block].tolist()) == {cell}
    assert (np.diff(found_cells) >= 0).all()


def test_small_blocks_of_a_cell_are_merged():
    codes = some_codes(70, 4, "equal")
    counts, cells = np.array([10, 0, 12, 9, 5, 0, 30, 4]), np.array([0, 0, 0, 0, 0, 0, 1, 2])
    _, starts, found = carve_again(codes, counts, cells)
    assert np.diff(starts).tolist() == [31, 5, 30, 4]
    assert found.tolist() == [0, 0, 1, 2]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 12))
def test_groups_are_runs_of_cells(counts, wanted):
    firsts = cut_into_groups(np.array(counts), wanted).tolist()
    assert firsts[0] == 0
    assert firsts[-1] == len(counts)
    assert all(a < b for a, b in pairwise(firsts))
    expected = naive.groups_of(counts, wanted)
    for first, last in pairwise(firsts):
        assert len(set(expected[first:last])) == 1
    assert len(firsts) - 1 == len(set(expected))
    # A group has the rows of its share, and at most a cell more.
    for first, last in pairwise(firsts):
        assert sum(counts[first:last]) <= -(-sum(counts) // wanted) + max(counts)


@given(st.lists(st.integers(0, 9), max_size=30))
def test_starts_of_counts(counts):
    starts = starts_of(np.array(counts, np.int64))
    assert starts.tolist() == [sum(counts[:i]) for i in range(len(counts) + 1)]
    assert starts.dtype == np.int64


@st.composite
def blocks(draw, most=32):
    """Codes, and the starts of blocks of 1 … 32 of them."""
    sizes = draw(st.lists(st.integers(1, most), min_size=1, max_size=5))
    codes = draw(stored_codes(fewest=sum(sizes), most=sum(sizes)))
    return codes, np.cumsum([0, *sizes])


@given(blocks())
def test_unpack_is_the_inverse_of_packing(case):
    codes, starts = case
    packed = Packed.of(codes, starts)
    found, halves = unpack(packed.points, packed.halves, starts)
    np.testing.assert_array_equal(found, codes)
    assert found.dtype == np.uint8
    assert halves.tolist() == [naive.half(row) for row in naive.plain(codes)]


@given(blocks())
def test_block_centres_are_rounded_means(case):
    codes, starts = case
    rows = naive.plain(codes)
    expected = [naive.mean(rows[first:last]) for first, last in pairwise(starts)]
    assert naive.plain(block_centres(codes, starts)) == expected


@given(
    st.integers(1, 9), st.integers(0, 12), st.integers(0, 5), st.integers(0, 2**32 - 1)
)  # fmt: skip
def test_pairs_by_block(blocks, n, probes, seed):
    rng = np.random.default_rng(seed)
    chosen = np.array(
        [rng.permutation(np.arange(-1, max(blocks, probes)))[:probes] for _ in range(n)]
    ).reshape(n, probes)
    chosen = np.where(chosen < blocks, chosen, -1).astype(np.int32)
    keys, ends, rows = by_block(chosen, blocks)
    found = [
        (key, rows[first:last].tolist())
        for key, (first, last) in zip(keys.tolist(), pairwise(ends), strict=True)
    ]
    assert found == naive.by_block(chosen.tolist())
    assert keys.dtype == ends.dtype == rows.dtype == np.int32
