"""Candidates of all rows: each pair of blocks is multiplied once; lists equal a naive search."""

from itertools import combinations_with_replacement

import numpy as np
import pytest

from d2cli.engine.checkpoints import NONE
from d2cli.engine.threads import silent
from d2cli.graph.exact import search as exact
from d2cli.graph.exact.screen import Screen
from d2cli.graph.vectors import Group


@pytest.mark.parametrize("blocks", [*range(1, 12), 40])
def test_tournament_has_every_pair_once_and_no_block_twice_a_round(blocks):
    met = [*exact.tournament(blocks)]
    assert sorted(met) == [*combinations_with_replacement(range(blocks), 2)]
    half = (blocks + blocks % 2) // 2 - blocks % 2
    for start in range(blocks, len(met), max(half, 1)):
        players = [b for pair in met[start : start + half] for b in pair]
        assert len({*players}) == len(players)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 200, 333])
@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_candidates_equal_a_naive_search(monkeypatch, n, some, threads):
    """Small integers: float32 is exact, and ties may be listed in any order."""
    monkeypatch.setattr(exact, "PAIR_ROWS", 64)
    points = np.random.default_rng(n).integers(-4, 5, (n, 3)).astype(np.float32)
    rows = np.flatnonzero(np.arange(n) % 3 != 1) if some else None
    group = Group(points, rows)
    screen = Screen(group, threads)
    width, calls = min(7, len(group)), []
    found, scores = exact.candidates_of_all(
        screen, width, threads,
        progress=lambda *a: calls.append(a), stage="here", checkpoint=NONE,
    )  # fmt: skip
    x = screen.block(0, len(group))
    np.testing.assert_allclose(screen.halves, (x * x).sum(axis=1) / 2, rtol=1e-5)
    all_scores = screen.halves - x @ x.T
    assert (scores == np.sort(all_scores, axis=1)[:, :width]).all()
    assert (np.take_along_axis(all_scores, found.astype(int), axis=1) == scores).all()
    assert all(len({*row}) == width for row in found.tolist())
    assert calls[-1] == ("here", len(group), len(group))
    if threads > 1:
        again = exact.candidates_of_all(
            screen, width, 1, progress=silent, stage="", checkpoint=NONE
        )
        assert (again[1] == scores).all()
