"""Codes and cells of the ``blocks`` search against plain loops."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli.graph.blocks.kernels import cells as cells_module
from d2cli.graph.blocks.kernels.cells import Packed, fit_cells, full_blocks, nearest_cells
from d2cli.graph.blocks.kernels.codes import ROTATED, Coder, fit_coder, half_norms
from d2cli.graph.blocks.sizes import EMPTY, FIT_PASSES, PROJECTED_ROWS
from d2cli.graph.vectors import Group
from d2cli.runtime.int8.sizes import ALWAYS, NEVER
from tests import naive_blocks as naive

#: Values of codes: two, so that rows repeat; one; small ones; all.
VALUES = st.sampled_from([(0, 1), (3,), (-127, 127), range(-3, 4), range(-127, 128)])


@st.composite
def stored_codes(draw, fewest=1, most=80, widths=(4, 8)):
    """(n, r) uint8 codes, often with ties and repeated rows."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, r = draw(st.integers(fewest, most)), draw(st.sampled_from(widths))
    return (rng.choice(draw(VALUES), (n, r)) + 128).astype(np.uint8)


@st.composite
def coders_and_rows(draw):
    """A coder whose sums are exact in float32, and rows. Some of their codes are clipped."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    d, r, n = draw(st.integers(1, 6)), 4 * draw(st.integers(1, 3)), draw(st.integers(0, 30))
    scale = draw(st.sampled_from([1.0, 0.25, 8.0]))
    mean = rng.integers(-3, 4, d).astype(np.float32)
    axes = (rng.integers(-8, 9, (d, r)) / 4).astype(np.float32)
    rows = rng.integers(-40, 41, (n, d)) / draw(st.sampled_from([1, 2]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    return Coder(scale, mean, axes, r), rows.astype(dtype)


@given(coders_and_rows())
def test_encode_equals_plain_loops(case):
    coder, rows = case
    before = rows.copy()
    codes, halves = coder.encode(rows)
    expected = naive.encoded(rows, coder.scale, coder.mean, coder.axes)
    assert naive.plain(codes) == expected
    assert halves.tolist() == [naive.half(row) for row in expected]
    assert codes.min(initial=1) >= 1
    np.testing.assert_array_equal(rows, before)


@given(stored_codes(most=10, widths=(4, 64)))
def test_half_norms_equal_plain_loops(codes):
    halves = np.empty(len(codes), np.int32)
    half_norms(codes, halves)
    assert halves.tolist() == [naive.half(row) for row in naive.plain(codes)]


def test_largest_half_norm():
    codes = np.full((1, 1024), 255, np.uint8)
    halves = np.empty(1, np.int32)
    half_norms(codes, halves)
    assert halves[0] == 1024 * 127**2 // 2 < NEVER


def test_codes_of_a_row_do_not_depend_on_the_rows_after_its_piece():
    rows = np.random.default_rng(1).normal(size=(2 * PROJECTED_ROWS + 5, 20)).astype(np.float32)
    coder = fit_coder(Group(rows), 512, np.random.default_rng(0), 1)
    whole, halves = coder.encode(rows)
    for start in range(0, len(rows), PROJECTED_ROWS):
        part = slice(start, start + PROJECTED_ROWS)
        codes, own = coder.encode(rows[part])
        np.testing.assert_array_equal(codes, whole[part])
        np.testing.assert_array_equal(own, halves[part])


def test_narrowed_coder_gives_the_first_columns():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(300, 150)).astype(np.float32)
    coder = fit_coder(Group(rows), 512, rng, 1)
    assert coder.width == 152
    codes, _ = coder.encode(rows)
    for width in (ROTATED, 2 * ROTATED, 152):
        narrow = coder.narrowed(width)
        found, halves = narrow.encode(rows)
        assert narrow.width == found.shape[1] == width
        assert narrow.axes.flags.c_contiguous
        # A sum of floats may be rounded otherwise: codes between two numbers differ by 1.
        gaps = np.abs(found.astype(int) - codes[:, :width])
        assert gaps.max() <= 1
        assert gaps.mean() < 1e-3
        assert halves[:9].tolist() == [naive.half(row) for row in naive.plain(found[:9])]


@pytest.mark.parametrize("d", [1, 2, 3, 5, 64, 70, 130])
@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_distances_of_codes_approximate_distances_of_rows(d, scale):
    """Up to one factor; each of r coordinates is rounded by at most a half."""
    rng = np.random.default_rng(d)
    spread = np.linspace(0.2, 2, d)
    rows = ((rng.normal(size=(400, d)) * spread + 5) * scale).astype(np.float32)
    coder = fit_coder(Group(rows), 512, rng, 1)
    assert coder.width == -(-d // 4) * 4
    assert not coder.axes[:, d:].any()
    axes = coder.axes[:, :d].astype(float)
    lengths = np.linalg.norm(axes, axis=0)
    np.testing.assert_allclose(axes.T @ axes, np.diag(lengths**2), atol=1e-3 * lengths[0] ** 2)
    np.testing.assert_allclose(lengths, lengths[0], rtol=1e-4)
    codes = np.array(naive.plain(coder.encode(rows)[0]))
    whole = np.flatnonzero((np.abs(codes) < 127).all(axis=1))  # not clipped
    assert len(whole) > 390
    some = rows[whole].astype(float) * (coder.scale * lengths[0])
    i, j = rng.integers(0, len(whole), (2, 2000))
    true = np.linalg.norm(some[i] - some[j], axis=1)
    coded = np.linalg.norm(codes[whole[i]] - codes[whole[j]], axis=1)
    assert np.abs(true - coded).max() <= np.sqrt(d) * 1.001
    assert true.max() > 10 * np.sqrt(d)


def test_most_dimensions_keep_the_largest_variances():
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(500, 40)).astype(np.float32)
    rows[:, ::5] *= 50  # 8 dimensions
    coder = fit_coder(Group(rows), 8, rng, 1)
    assert coder.axes.shape == (40, 8)
    share = np.square(coder.axes[::5]).sum() / np.square(coder.axes).sum()
    assert share > 0.999


@pytest.mark.parametrize("n", [1, 2, 700])
def test_equal_rows_have_zero_codes(n):
    rows = np.full((n, 3), 7.0, np.float32)
    coder = fit_coder(Group(rows), 512, np.random.default_rng(0), 1)
    codes, halves = coder.encode(rows)
    assert (codes == 128).all()
    assert not halves.any()


def test_coder_is_fitted_to_rows_of_the_group_and_not_to_others():
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(200, 6)).astype(np.float32)
    others = np.full((200, 6), 1e3, np.float32)
    both = np.concatenate([others, rows])
    alone = fit_coder(Group(rows), 512, np.random.default_rng(0), 1)
    part = fit_coder(Group(both, np.arange(200, 400)), 512, np.random.default_rng(0), 2)
    np.testing.assert_array_equal(alone.encode(rows)[0], part.encode(rows)[0])


@given(stored_codes(), st.integers(1, 40), st.data())
def test_packed_points_and_empty_places(codes, most, data):
    most = min(most, 32)
    starts = [0]
    while starts[-1] < len(codes):
        starts.append(min(len(codes), starts[-1] + data.draw(st.integers(1, most))))
    packed = Packed.of(codes, np.array(starts))
    rows = naive.plain(codes)
    for b, (first, last) in enumerate(pairwise(starts)):
        points = packed.points[b].transpose(1, 0, 2).reshape(32, -1)
        assert points[: last - first].tolist() == rows[first:last]
        assert not points[last - first :].any()
        expected = [naive.half(row) for row in rows[first:last]]
        assert packed.halves[b].tolist() == expected + [NEVER] * (32 - len(expected))


@given(st.integers(0, 200))
def test_full_blocks_are_full_but_the_last(count):
    sizes = np.diff(full_blocks(count)).tolist()
    assert sum(sizes) == count
    assert all(size == 32 for size in sizes[:-1])
    assert len(sizes) == -(-count // 32)


@given(stored_codes(most=40), st.integers(0, 2**32 - 1), st.data())
def test_nearest_cells_equal_brute_force(codes, seed, data):
    rng = np.random.default_rng(seed)
    count = data.draw(st.integers(1, 70))
    size = data.draw(st.integers(1, count))
    values = np.unique(codes)
    centres = rng.choice(values, (count, codes.shape[1])).astype(np.uint8)
    found = nearest_cells(codes, centres, size, 2)
    points = naive.plain(centres)
    assert found.tolist() == [naive.nearest(row, points, size) for row in naive.plain(codes)]


def test_nearest_cells_of_several_pieces_do_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr(cells_module, "_PIECE", 100)
    rng = np.random.default_rng(0)
    codes = rng.integers(120, 137, (333, 8)).astype(np.uint8)
    centres = codes[:50].copy()
    found = [nearest_cells(codes, centres, 7, threads) for threads in (1, 2, 4)]
    points = naive.plain(centres)
    expected = [naive.nearest(row, points, 7) for row in naive.plain(codes)]
    for one in found:
        assert one.tolist() == expected


def test_no_rows_have_no_cells():
    assert nearest_cells(np.empty((0, 4), np.uint8), np.ones((3, 4), np.uint8), 2).shape == (0, 2)


@settings(max_examples=50)
@given(stored_codes(most=60), st.integers(0, 2**32 - 1), st.data())
def test_fit_cells_equals_plain_loops(codes, seed, data):
    count = data.draw(st.one_of(st.integers(1, len(codes)), st.just(len(codes))))
    before = codes.copy()
    found = fit_cells(codes, count, np.random.default_rng(seed), 1)
    np.testing.assert_array_equal(codes, before)
    assert found.shape == (count, codes.shape[1])
    assert found.dtype == np.uint8
    first = np.sort(np.random.default_rng(seed).choice(len(codes), count, replace=False))
    assert naive.plain(found) == naive.fitted_cells(naive.plain(codes), first, FIT_PASSES)


def test_fit_cells_does_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr(cells_module, "_PIECE", 64)
    codes = np.random.default_rng(5).integers(1, 256, (300, 12)).astype(np.uint8)
    one, two = (fit_cells(codes, 20, np.random.default_rng(6), threads) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert len(np.unique(one, axis=0)) == 20


def test_centres_without_rows_move_to_large_cells():
    """Few distinct rows and many centres: most centres have no rows, in every pass."""
    codes = np.repeat(np.array([[100] * 4, [140] * 4, [200] * 4], np.uint8), [50, 30, 20], axis=0)
    found = fit_cells(codes, 40, np.random.default_rng(0), 2)
    assert {tuple(row) for row in found.tolist()} == {(100,) * 4, (140,) * 4, (200,) * 4}


def test_empty_bound_admits_every_point():
    assert EMPTY == ALWAYS == naive.EMPTY
    codes = np.array([[1] * 64, [255] * 64], np.uint8)  # the smallest score that there is
    assert naive.score(*naive.plain(codes)) > EMPTY
    assert nearest_cells(codes[:1], codes[1:], 1).tolist() == [[0]]
