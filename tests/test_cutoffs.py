"""The cutoff that sets itself, against plain loops in exact arithmetic."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli import build_graph, prepare_edges, propagate, select
from d2cli.errors import UsageError
from d2cli.selection.cutoff import automatic_cutoff, hard_rows, scattered, within_quotas
from tests import naive_cutoff
from tests.strategies import edges_to, links

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
    if found == twin:
        return
    if 0 in (found, twin):  # two groups or not, but for the last bit
        share = between(values, max(found, twin)) / len(values) ** 2 / np.var(values)
        assert share == pytest.approx(0.7, rel=1e-12)
    else:  # two thresholds as good as each other, but for it
        assert between(values, found) == pytest.approx(between(values, twin), rel=1e-12)


@given(SCORES, st.data())
def test_the_cutoff_is_the_plain_loop(values, data):
    n = len(values)
    spared = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    size = data.draw(st.integers(0, n - int(spared.sum())))
    scores = np.array(values, float)
    neighbors, edges = data.draw(links(n))
    cut = automatic_cutoff(scores, size, spared, edges)
    assert cut.dtype == np.bool_
    assert not (cut & spared).any()
    left = n - int(spared.sum())
    assert cut.sum() <= min(left // 2, left - size)
    if hard_rows(scores[~spared]) == naive_cutoff.hard(scores[~spared].astype(int).tolist()):
        assert set(np.flatnonzero(cut)) == naive_cutoff.cutoff(values, size, spared, neighbors)


def test_by_hand():
    """Of ten rows three are hard: with one to pick ⌊3 − 1/2⌋ = 2 go, with five none."""
    scores = np.array([0.0, 0.1, 0.2, 9.0, 0.1, 0.0, 9.2, 0.3, 0.1, 9.1])
    nobody, none = np.zeros(10, bool), edges_to([[]] * 10)
    assert hard_rows(scores) == 3
    assert np.flatnonzero(automatic_cutoff(scores, 1, nobody, none)).tolist() == [6, 9]
    assert np.flatnonzero(automatic_cutoff(scores, 4, nobody, none)).tolist() == [6]
    assert not automatic_cutoff(scores, 5, nobody, none).any()
    spared = nobody.copy()
    spared[6] = True  # of the nine others two are hard: ⌊2 − 1/2⌋ = 1
    assert np.flatnonzero(automatic_cutoff(scores, 1, spared, none)).tolist() == [9]


def test_hard_rows_among_easy_ones_by_hand():
    """Rows 3, 6 and 9 are hard; 3 and 9 know each other, 6 knows four easy rows and one hard."""
    scores = np.array([0.0, 0.1, 0.2, 9.0, 0.1, 0.0, 9.2, 0.3, 0.1, 9.1])
    nobody = np.zeros(10, bool)
    neighbors = [[1], [0], [1], [9], [5], [4], [0, 1, 2, 3, 4], [8], [7], [3]]
    edges = edges_to(neighbors)
    assert scattered(edges, scores > 1, nobody) == 1  # 6: one of five is at most a quarter
    for size in (5, 9):  # h − size/2 would cut nothing
        assert np.flatnonzero(automatic_cutoff(scores, size, nobody, edges)).tolist() == [6]
    assert not automatic_cutoff(scores, 10, nobody, edges).any()  # all are to be kept
    neighbors[6] = [0, 1, 2, 3]
    assert scattered(edges_to(neighbors), scores > 1, nobody) == 1
    neighbors[6] = [0, 1, 3]
    assert scattered(edges_to(neighbors), scores > 1, nobody) == 0
    # Where easy rows have as many hard neighbours the graph knows nothing of what is hard.
    neighbors = [[3]] * 3 + [[0]] + [[6]] * 2 + [[1]] + [[9]] * 2 + [[2]]
    assert scattered(edges_to(neighbors), scores > 1, nobody) == 0
    spared = nobody.copy()
    spared[6] = True
    assert scattered(edges, scores > 1, spared) == 0


def test_as_many_lie_anywhere_as_the_lonely_ones_stand_for():
    """Of 14 rows half are alone, and 2 of the 6 hard ones: so 4 lie anywhere."""
    hard = np.array([True] * 6 + [False] * 8)
    neighbors = [[7], [7], [3], [2], [5], [4], [6, 6], [6], [6], [6], [6], [0], [1], [2]]
    assert sum(not hard[j].any() for j in map(np.array, neighbors)) == 7
    nobody = np.zeros(14, bool)
    assert scattered(edges_to(neighbors), hard, nobody) == 4
    assert naive_cutoff.scattered(hard, range(14), neighbors) == 4


@pytest.mark.parametrize(("pairs", "found"), [(2, 1), (3, 0)])
def test_a_few_hard_rows_are_alone_in_any_data(pairs, found):
    """One is, of five and of seven; a fifth is many."""
    hard = np.array([True] * (1 + 2 * pairs) + [False] * 4)
    last = hard.size - 1
    neighbors = [[last]] + [[i + 1 if i % 2 else i - 1] for i in range(1, 1 + 2 * pairs)]
    neighbors += [[last - 1]] * 3 + [[last - 2]]
    assert scattered(edges_to(neighbors), hard, np.zeros(hard.size, bool)) == found


@pytest.mark.parametrize("scores", [[], [3.0], [2.0, 2.0, 2.0, 2.0], [-0.0, 0.0, 0.0]])
def test_nothing_to_tell_apart(scores):
    scores = np.array(scores)
    assert hard_rows(scores) == 0
    n = scores.size
    assert not automatic_cutoff(scores, min(1, n), np.zeros(n, bool), edges_to([[]] * n)).any()


def test_most_rows_hard_counts_as_half():
    scores = np.array([0.0] + [5.0] * 9)
    assert hard_rows(scores) == 9
    cut = automatic_cutoff(scores, 1, np.zeros(10, bool), edges_to([[]] * 10))
    assert np.flatnonzero(cut).tolist() == [1, 2, 3, 4]  # ⌊5 − 1/2⌋, of equals the lowest row first


@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=12), st.integers(-30, 30))
def test_scale_does_not_matter(values, power):
    scores = np.array(values)
    scaled = np.ldexp(scores, -abs(power))
    if (np.ldexp(scaled, abs(power)) == scores).all():
        assert hard_rows(scaled) == hard_rows(scores)


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_one_crowd_of_scores_has_no_hard_rows(draw):
    rng = np.random.default_rng(3)
    scores = getattr(rng, draw)(size=3000)
    assert hard_rows(scores) == 0
    nobody, none = np.zeros(3000, bool), edges_to([[]] * 3000)
    assert not automatic_cutoff(scores, 100, nobody, none).any()
    scores[:900] = 20 + rng.random(900)  # and a second one
    assert hard_rows(scores) == 900


def test_scores_at_the_ends_of_float64():
    scores = np.array([-1.7e308, -1.7e308, 1.7e308, -1.6e308])
    assert hard_rows(scores) == 1
    assert hard_rows(np.array([0.0, 0.0, 5e-324, 5e-324, 5e-324])) == 3
    assert hard_rows(np.array([1e-320, 2e-320, 9e-320])) == 1


@given(st.data())
@settings(max_examples=200)
def test_no_class_is_cut_below_its_quota(data):
    n = data.draw(st.integers(1, 24))
    several = st.lists(st.integers(0, 3), min_size=n, max_size=n)
    difficulty, classes = (np.array(data.draw(several)) for _ in range(2))
    cut, dropped = np.zeros(n, bool), np.zeros(n, bool)
    dropped[data.draw(st.lists(st.integers(0, n - 1)))] = True
    cut[data.draw(st.lists(st.integers(0, n - 1)))] = True
    cut &= ~dropped
    there = np.bincount(classes[~dropped], minlength=4)
    quotas = np.array([data.draw(st.integers(0, int(count))) for count in there])
    given_cut = cut.copy()
    found = within_quotas(cut, difficulty.astype(float), dropped, classes, quotas)
    assert (cut == given_cut).all()
    assert np.flatnonzero(found).tolist() == naive_cutoff.within_quotas(
        np.flatnonzero(cut).tolist(), difficulty.tolist(), dropped.tolist(), classes.tolist(),
        quotas.tolist(),
    )  # fmt: skip


def test_a_hard_class_keeps_its_share():
    """The cutoff alone would take all of it."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), [142, 142, 143, 143, 30])
    graph = build_graph(rng.normal(size=(600, 8)).astype("f4"), 10)
    scores = rng.random(600) + 5.0 * (labels == 4)
    scores[rng.permutation(570)[:200]] += 2
    u = propagate(graph, scores)
    spare = np.zeros(600, bool)
    assert automatic_cutoff(scores, 60, spare, prepare_edges(graph)[0])[labels == 4].all()
    for balance, expected in (("uniform", [12] * 5), ("proportional", [14, 14, 15, 14, 3])):
        kept = select(graph, u, 60, difficulty=scores, labels=labels, balance=balance)
        assert np.bincount(labels[kept.order]).tolist() == expected
        assert kept.cut > 100


def test_where_nothing_is_picked_nothing_is_cut(problem):
    graph, scores, u = problem
    include = np.arange(200) < 40
    assert select(graph, u, 40, difficulty=scores, include=include).cut == 0


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(5)
    graph = build_graph(rng.normal(size=(200, 3)).astype("f4"), 6)
    scores = rng.exponential(size=200) + 5.0 * (rng.random(200) < 0.3)
    return graph, scores, propagate(graph, scores)


def test_select_cuts_where_gamma_is_auto_and_a_difficulty_is_given(problem):
    graph, scores, u = problem
    cut = automatic_cutoff(scores, 80, np.zeros(200, bool), prepare_edges(graph)[0])
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
    cut = automatic_cutoff(scores, 40 - 9, spared, prepare_edges(graph)[0])
    kept = select(graph, u, 40, difficulty=scores, include=spared)
    assert kept.cut == cut.sum() > 0
    assert not cut[kept.order].any()
    assert select(graph, u, 40, difficulty=scores, cutoff=0.25).cut == 50


@pytest.mark.parametrize("cutoff", ["auto", 0.1])
def test_a_cutoff_goes_by_something(problem, cutoff):
    graph, _, u = problem
    with pytest.raises(UsageError, match="needs a difficulty"):
        select(graph, u, 80, cutoff=cutoff)
