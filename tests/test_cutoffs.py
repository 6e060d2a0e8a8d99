"""The cutoff that sets itself, against plain loops in exact arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli import build_graph, propagate, select
from d2cli.cutoffs import automatic_cutoff, hard_rows
from d2cli.errors import UsageError
from tests import naive_cutoff

#: Whole numbers: sums are exact, and equals are many.
SCORES = st.lists(st.integers(0, 40), min_size=1, max_size=30)


def between(scores, above):
    """n² times the variance between the `above` highest and the others."""
    ordered = np.sort(np.asarray(scores, float))
    low, high = ordered[: ordered.size - above], ordered[ordered.size - above :]
    return low.size * high.size * (high.mean() - low.mean()) ** 2


@given(SCORES)
def test_the_threshold_is_otsus(values):
    found, twin = hard_rows(np.array(values, float)), naive_cutoff.hard(values)
    if found != twin:  # two thresholds as good as each other, but for the last bit
        assert found > 0
        assert between(values, found) == pytest.approx(between(values, twin), rel=1e-12)


@given(SCORES, st.data())
def test_the_cutoff_is_the_plain_loop(values, data):
    n = len(values)
    spared = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    size = data.draw(st.integers(0, n - int(spared.sum())))
    scores = np.array(values, float)
    cut = automatic_cutoff(scores, size, spared)
    assert cut.dtype == np.bool_
    assert not (cut & spared).any()
    left = n - int(spared.sum())
    assert 2 * cut.sum() <= left - size
    if hard_rows(scores[~spared]) == naive_cutoff.hard(scores[~spared].astype(int).tolist()):
        assert set(np.flatnonzero(cut)) == naive_cutoff.cutoff(values, size, spared)


def test_by_hand():
    """Of ten rows three are hard: with one to pick ⌊3 − 1/2⌋ = 2 go, with five none."""
    scores = np.array([0.0, 0.1, 0.2, 9.0, 0.1, 0.0, 9.2, 0.3, 0.1, 9.1])
    nobody = np.zeros(10, bool)
    assert hard_rows(scores) == 3
    assert np.flatnonzero(automatic_cutoff(scores, 1, nobody)).tolist() == [6, 9]
    assert np.flatnonzero(automatic_cutoff(scores, 4, nobody)).tolist() == [6]
    assert not automatic_cutoff(scores, 5, nobody).any()
    spared = nobody.copy()
    spared[6] = True  # of the nine others two are hard: ⌊2 − 1/2⌋ = 1
    assert np.flatnonzero(automatic_cutoff(scores, 1, spared)).tolist() == [9]


@pytest.mark.parametrize("scores", [[], [3.0], [2.0, 2.0, 2.0, 2.0], [-0.0, 0.0, 0.0]])
def test_nothing_to_tell_apart(scores):
    scores = np.array(scores)
    assert hard_rows(scores) == 0
    assert not automatic_cutoff(scores, min(1, scores.size), np.zeros(scores.size, bool)).any()


def test_most_rows_hard_counts_as_half():
    scores = np.array([0.0] + [5.0] * 9)
    assert hard_rows(scores) == 9
    cut = automatic_cutoff(scores, 1, np.zeros(10, bool))
    assert np.flatnonzero(cut).tolist() == [1, 2, 3, 4]  # ⌊5 − 1/2⌋, of equals the lowest row first


@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=12), st.integers(-30, 30))
def test_scale_does_not_matter(values, power):
    scores = np.array(values)
    scaled = np.ldexp(scores, -abs(power))
    if (np.ldexp(scaled, abs(power)) == scores).all():
        assert hard_rows(scaled) == hard_rows(scores)


def test_scores_at_the_ends_of_float64():
    scores = np.array([-1.7e308, -1.7e308, 1.7e308, -1.6e308])
    assert hard_rows(scores) == 1


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(5)
    graph = build_graph(rng.normal(size=(200, 3)).astype("f4"), 6)
    scores = rng.exponential(size=200)
    return graph, scores, propagate(graph, scores)


def test_select_cuts_where_gamma_is_auto_and_a_difficulty_is_given(problem):
    graph, scores, u = problem
    cut = automatic_cutoff(scores, 80, np.zeros(200, bool))
    assert cut.any()
    kept = select(graph, u, 80, difficulty=scores)
    assert kept.cut == cut.sum()
    assert not cut[kept.order].any()
    gamma = {"gamma_reverse": kept.gamma_reverse}
    same = select(graph, u, 80, difficulty=scores, cutoff="auto", **gamma)
    assert same.order.tolist() == kept.order.tolist()
    plain = select(graph, u, 80, difficulty=scores, **gamma)
    assert plain.cut == 0
    assert cut[plain.order].any()
    assert select(graph, u, 80, difficulty=scores, cutoff=0).cut == 0
    assert select(graph, u, 80).cut == 0


def test_included_rows_and_a_number(problem):
    graph, scores, u = problem
    spared = np.zeros(200, bool)
    spared[:9] = True
    cut = automatic_cutoff(scores, 40 - 9, spared)
    kept = select(graph, u, 40, difficulty=scores, include=spared)
    assert kept.cut == cut.sum() > 0
    assert not cut[kept.order].any()
    assert select(graph, u, 40, difficulty=scores, cutoff=0.25).cut == 50


@pytest.mark.parametrize("cutoff", ["auto", 0.1])
def test_a_cutoff_goes_by_something(problem, cutoff):
    graph, _, u = problem
    with pytest.raises(UsageError, match="needs a difficulty"):
        select(graph, u, 80, cutoff=cutoff)
