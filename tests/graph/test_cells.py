"""Each stage of the ``ivf`` search against a naive loop."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.graph.ivf import cell_search, cells, refine
from d2cli.graph.ivf.cells import by_label, halved
from d2cli.graph.ivf.sizes import LARGEST, SMALLEST_MEAN
from tests import naive_cells as naive


def clumps(n, d, seed, far=0.0):
    rng = np.random.default_rng(seed)
    middles = rng.standard_normal((6, d)) * 2 + far
    points = middles[rng.integers(0, 6, n)] + rng.standard_normal((n, d))
    return points.astype(np.float32)


def arranged(points, count, probes, fewest=2, seed=0, threads=1):
    rng = np.random.default_rng(seed)
    centres = points[np.sort(rng.choice(len(points), count, replace=False))]
    router = cells.Router(np.ascontiguousarray(centres), seed, threads)
    moved = points.copy()
    return moved, cells.arrange(moved, router, probes, fewest)


@given(st.lists(st.integers(0, 5), max_size=40))
def test_by_label_sorts_rows_by_label(labels):
    order, starts = by_label(np.array(labels, np.int64), 6)
    expected = naive.by_label(labels, 6)
    assert [order[starts[c] : starts[c + 1]].tolist() for c in range(6)] == expected


@given(st.integers(1, 60), st.integers(1, 9))
def test_halved_parts_are_small_and_hold_every_member(n, most):
    points = clumps(n, 3, n)
    order, starts = halved(points, np.arange(n), most)
    parts = [order[a:b].tolist() for a, b in pairwise(starts)]
    assert parts == naive.halved(points.tolist(), list(range(n)), most)
    assert max(map(len, parts)) <= most
    assert sorted(order.tolist()) == list(range(n))


def test_router_finds_the_nearest_cells():
    points, centres = clumps(200, 8, 1), clumps(40, 8, 2)
    routed = cells.Router(centres, 0, 2).route(points, 5)
    for row, found in zip(points, routed, strict=True):
        squares = naive.nearest_cells(row, centres)
        assert [squares[c] for c in found] == pytest.approx(sorted(squares)[:5], rel=1e-4)


@pytest.mark.parametrize("few_groups", [1000, 20], ids=["all groups", "index"])
def test_router_by_groups_finds_most_of_the_nearest_cells(monkeypatch, few_groups):
    points = clumps(1000, 16, 1)
    centres = points[::4].copy()
    true = cells.Router(centres, 0, 1).route(points, 4)
    monkeypatch.setattr(cells, "_FEW_CELLS", 100)
    monkeypatch.setattr(cells, "_FEW_GROUPS", few_groups)
    monkeypatch.setattr(cells, "_AROUND", 64)
    found = cells.Router(centres, 0, 1).route(points, 4)
    assert all(len(set(row)) == 4 for row in found.tolist())
    assert (found == true).mean() > 0.9
    again = cells.Router(centres, 0, 3).route(points, 4)
    assert (again == found).all()


def test_cut_groups_hold_every_row():
    points = clumps(90, 3, 6)
    labels = np.repeat([0, 2, 3, 4], [49, 3, 37, 1])  # no row has label 1
    order, starts = cells._cut(points, *by_label(labels, 5), 8)
    assert sorted(order.tolist()) == list(range(90))
    assert {len({*labels[order[a:b]]}) for a, b in pairwise(starts)} == {1}
    sizes = np.diff(starts)
    assert 1 <= sizes.min() <= sizes.max() <= 8


@pytest.mark.parametrize("probes", [1, 2, 7])
def test_cells_hold_every_row_once(probes):
    points = clumps(300, 5, 3)
    moved, found = arranged(points, 40, probes, fewest=11)
    assert sorted(found.order.tolist()) == list(range(300))
    assert (moved == points[found.order]).all()
    cell_of = found.of_position
    assert (found.probes[:, 0] == cell_of).all()  # a row probes its own cell first
    sizes = np.diff(found.starts)
    for i, looked in enumerate(found.probes.tolist()):
        assert len(set(looked)) == len(looked), i
        assert sum(sizes[c] for c in looked) >= 11
    for c, centre in enumerate(found.centres):
        assert centre == pytest.approx(moved[cell_of == c].mean(axis=0), rel=1e-4, abs=1e-5)


def test_cell_of_one_clump_is_cut():
    points = np.concatenate([np.zeros((400, 4)), clumps(40, 4, 1)]).astype(np.float32)
    points[:400, 0] = np.arange(400) * 1e-6
    _, found = arranged(points, 10, 3)
    assert np.diff(found.starts).max() <= LARGEST * max(len(points) // 10, SMALLEST_MEAN)


@pytest.mark.parametrize("size", [1, 6, 31, 40])
@pytest.mark.parametrize("count", [17, 3], ids=["small cells", "large cells"])
@pytest.mark.parametrize("far", [0.0, 3.0, 300.0], ids=["around 0", "off", "far"])
def test_search_finds_the_nearest_in_the_probed_cells(far, count, size):
    """In large cells, short empty lists start with an estimated bound."""
    points = clumps(260, 6, 4, far)
    points[7:100:9] = points[7]  # ties
    moved, found = arranged(points, count, 3)
    distances, positions = cell_search.search_cells(moved, found, size, 2)
    cell_of = found.of_position
    scale = float(np.square(moved - moved.mean(axis=0)).sum(axis=1).mean())
    for i in range(len(points)):
        expected = naive.squares_within_reach(moved, cell_of, found.probes, i)[:size]
        listed = distances[i][np.isfinite(distances[i])]
        assert listed == pytest.approx(expected, rel=1e-3, abs=1e-4 * scale)
        there = positions[i][positions[i] >= 0]
        assert len(set(there.tolist())) == len(there) == len(expected)
        assert i not in there


def test_search_does_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr(cell_search, "_JOIN_ROWS", 50)
    moved, found = arranged(clumps(300, 6, 5), 20, 4)
    one = cell_search.search_cells(moved, found, 5, 1)
    three = cell_search.search_cells(moved, found, 5, 3)
    assert all((a == b).all() for a, b in zip(one, three, strict=True))


def listed(points, size, seed):
    """Ascending lists of random rows, some with empty places."""
    rng = np.random.default_rng(seed)
    n = len(points)
    distances = np.full((n, size), np.inf, np.float32)
    positions = np.full((n, size), -1, np.int32)
    for i in range(n):
        others = rng.permutation(np.delete(np.arange(n), i))[: rng.integers(0, size + 1)]
        squares = np.square(points[others] - points[i]).sum(axis=1)
        by_distance = np.argsort(squares)
        positions[i, : len(others)] = others[by_distance]
        distances[i, : len(others)] = squares[by_distance]
    return distances, positions


@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 99), st.booleans())
def test_exchange_equals_the_naive_loop(n, size, seed, small_blocks):
    distances, positions = listed(clumps(n, 3, seed), min(size, n - 1), seed)
    expected = naive.exchanged(distances, positions)
    with pytest.MonkeyPatch.context() as patch:
        if small_blocks:
            patch.setattr(refine, "_BLOCK", 3)
        refine.exchange(distances, positions, 2)
    for i in range(n):
        kept = distances[i][np.isfinite(distances[i])]
        assert kept.tolist() == [np.float32(d) for d in expected[i]]
        there = positions[i][positions[i] >= 0]
        assert len(set(there.tolist())) == len(there) == len(kept)


@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 99))
def test_hoods_equal_the_naive_loop(n, reach, seed):
    points = clumps(n, 3, seed)
    _, positions = listed(points, min(5, n - 1), seed)
    first = refine.Hoods(positions, reach, refine.NO_LINKS, 2)
    assert first.fresh.all()
    near = min(reach, positions.shape[1])
    expected = naive.followers(positions[:, :near], reach)
    for i in range(n):
        assert first.known[i, :near].tolist() == positions[i, :near].tolist()
        following = first.known[i, reach:]
        assert following[following >= 0].tolist() == expected[i]
    _, changed = listed(points, min(5, n - 1), seed + 1)
    second = refine.Hoods(changed, reach, first.known, 2)
    for i in range(n):
        is_new = [k not in first.known[i] for k in second.known[i].tolist()]
        assert second.fresh[i].tolist() == is_new


@given(st.integers(3, 60), st.integers(0, 99))
def test_hop_equals_the_naive_loop(n, seed):
    points = clumps(n, 3, seed)
    moved, found = arranged(points, max(1, n // 6), 1, seed=seed)
    size = min(4, n - 1)
    distances, positions = cell_search.search_cells(moved, found, size, 1)
    hoods = refine.Hoods(positions, 5, refine.NO_LINKS, 1)
    paths = refine._PATHS * hoods.known.shape[1]
    assert paths < hoods.known.shape[1] ** 2  # some are not followed
    expected = naive.after_hop(moved, distances, positions, hoods.known, paths)
    refine.hop(moved, found, hoods, distances, positions, 2)
    for i in range(n):
        kept = distances[i][np.isfinite(distances[i])]
        assert kept == pytest.approx(expected[i], rel=1e-3, abs=1e-3)
    # Without fresh links, a pass changes nothing.
    before = positions.copy()
    known = refine.Hoods(positions, 3, refine.NO_LINKS, 1).known
    stale = refine.Hoods(positions, 3, known, 1)
    assert not stale.fresh.any()
    refine.hop(moved, found, stale, distances, positions, 1)
    assert (positions == before).all()


def test_hop_follows_paths_of_low_ranks_only():
    """Row 0 links to 1 … 12. Rows 5 … 12 link to one row at the limit and to one beyond."""
    known = np.full((60, 24), -1, np.int32)
    known[0, :12] = np.arange(1, 13)
    most, followed = refine._PATHS * 24, set()
    for a in range(5, 13):
        known[a, most // a - 1], known[a, most // a] = 20 + a, 40 + a
        followed.add(20 + a)
    fresh, cell_of = np.ones(known.shape, np.bool_), np.zeros(len(known), np.int32)
    seen, met = np.full(refine._SEEN, -1, np.int32), np.empty(24 * 24 + 1, np.int32)
    count = refine._meet(0, known, fresh, cell_of, np.full(1, -1, np.int32), seen, met)
    assert set(met[:count].tolist()) == followed


def test_choose_probes(monkeypatch):
    """The fewest probes that hold the share, or a few more if these need no pass."""
    shares = np.array([0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.05])  # of neighbours, by rank of the cell

    class Ranked:
        centres = np.zeros((len(shares), 2), np.float32)

        def route(self, rows, probes):
            if probes == 1:  # the cell is stored in the row
                return rows[:, :1].astype(np.int32)
            return np.tile(np.arange(probes, dtype=np.int32), (len(rows), 1))

    reduced = np.repeat(np.arange(len(shares)), np.round(shares * 20).astype(int))
    reduced = reduced[:, None].astype(np.float32)
    truth = type("Truth", (), {"rows": np.zeros(1, np.int64), "neighbors": np.arange(20)[None]})
    chosen = lambda wanted, recall: cells.choose_probes(Ranked(), reduced, truth, wanted, recall)  # noqa: E731
    monkeypatch.setattr(cells, "_FEWEST_PROBES", 2)
    monkeypatch.setattr(cells, "_PASS_IN_PROBES", 1)
    assert chosen(0.45, 0.999) == 2
    assert chosen(0.75, 0.95) == 4  # two more would be too many
    assert chosen(0.75, 0.9) == 5
    assert chosen(0.75, 0.85) == 4  # exchange finds the rest
    assert chosen(0.2, 0.2) == 2
    assert chosen(2.0, 2.0) == len(shares)
