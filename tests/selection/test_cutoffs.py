"""The automatic cutoff against plain loops in exact arithmetic."""

import json
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from d2cli import build_graph, prepare_edges, propagate, select
from d2cli.errors import UsageError
from d2cli.runtime.decisions import Decision
from d2cli.selection import cutoff
from d2cli.selection.cutoff import Cutoff, give_back_for_quotas, two_groups
from tests import naive_cutoff
from tests.strategies import edges_to, links

#: Integers: sums are exact, and ties are common.
SCORES = st.lists(st.integers(0, 40), min_size=1, max_size=30)


def hard_rows(scores):
    return two_groups(scores)[0]


def scattered(edges, hard, eligible):
    return cutoff.scattered(edges, hard, eligible)[0]


def automatic_cutoff(difficulty, size, eligible, edges):
    """The cut rows; the decision gives the same number and can be recorded."""
    found = cutoff.automatic_cutoff(difficulty, size, eligible, edges)
    assert found.decision.value == found.cut_rows.sum()
    json.dumps(found.decision.as_json(), allow_nan=False)
    return found.cut_rows


def between(scores, above):
    """n² times the variance between the `above` highest and the others."""
    ordered = np.sort(np.asarray(scores, float))
    low, high = ordered[: ordered.size - above], ordered[ordered.size - above :]
    return low.size * high.size * (high.mean() - low.mean()) ** 2


@given(SCORES)
def test_two_groups_equals_the_plain_loop(values):
    found, twin = hard_rows(np.array(values, float)), naive_cutoff.hard(values)
    if found != twin and 0 in (found, twin):  # rounding decides at the bound of 0.7
        share = between(values, max(found, twin)) / len(values) ** 2 / np.var(values)
        assert share == pytest.approx(0.7, rel=1e-12)
    elif found != twin:  # rounding decides between thresholds of equal variance
        assert between(values, found) == pytest.approx(between(values, twin), rel=1e-12)


@given(SCORES, st.data())
def test_automatic_cutoff_equals_the_plain_loop(values, data):
    n = len(values)
    eligible = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    left = int(eligible.sum())
    size = data.draw(st.integers(0, left))
    scores = np.array(values, float)
    neighbors, edges = data.draw(links(n))
    cut = automatic_cutoff(scores, size, eligible, edges)
    assert cut.dtype == np.bool_
    assert not (cut & ~eligible).any()
    assert cut.sum() <= min(left // 2, left - size)
    if hard_rows(scores[eligible]) == naive_cutoff.hard(scores[eligible].astype(int).tolist()):
        assert set(np.flatnonzero(cut)) == naive_cutoff.cutoff(values, size, eligible, neighbors)


def test_automatic_cutoff_by_hand():
    """Three of ten rows are hard: ⌊3 − 1/2⌋ = 2 are cut for one pick, and none for five."""
    scores = np.array([0.0, 0.1, 0.2, 9.0, 0.1, 0.0, 9.2, 0.3, 0.1, 9.1])
    all_rows, none = np.ones(10, bool), edges_to([[]] * 10)
    assert hard_rows(scores) == 3
    assert np.flatnonzero(automatic_cutoff(scores, 1, all_rows, none)).tolist() == [6, 9]
    assert np.flatnonzero(automatic_cutoff(scores, 4, all_rows, none)).tolist() == [6]
    assert not automatic_cutoff(scores, 5, all_rows, none).any()
    eligible = all_rows.copy()
    eligible[6] = False  # two of the nine others are hard: ⌊2 − 1/2⌋ = 1
    assert np.flatnonzero(automatic_cutoff(scores, 1, eligible, none)).tolist() == [9]


def test_scattered_by_hand():
    """Rows 3, 6 and 9 are hard. 3 and 9 are neighbours; 6 has four easy and one hard neighbour."""
    scores = np.array([0.0, 0.1, 0.2, 9.0, 0.1, 0.0, 9.2, 0.3, 0.1, 9.1])
    all_rows = np.ones(10, bool)
    neighbors = [[1], [0], [1], [9], [5], [4], [0, 1, 2, 3, 4], [8], [7], [3]]
    edges = edges_to(neighbors)
    assert scattered(edges, scores > 1, all_rows) == 1  # row 6: 1/5 of its neighbours are hard
    for size in (5, 9):  # h − size/2 would cut nothing
        assert np.flatnonzero(automatic_cutoff(scores, size, all_rows, edges)).tolist() == [6]
    assert not automatic_cutoff(scores, 10, all_rows, edges).any()  # all rows are kept
    neighbors[6] = [0, 1, 2, 3]
    assert scattered(edges_to(neighbors), scores > 1, all_rows) == 1
    neighbors[6] = [0, 1, 3]
    assert scattered(edges_to(neighbors), scores > 1, all_rows) == 0
    # Easy rows have as large a share of hard neighbours as hard rows have.
    neighbors = [[3]] * 3 + [[0]] + [[6]] * 2 + [[1]] + [[9]] * 2 + [[2]]
    assert scattered(edges_to(neighbors), scores > 1, all_rows) == 0
    eligible = all_rows.copy()
    eligible[6] = False
    assert scattered(edges, scores > 1, eligible) == 0


def test_scattered_extrapolates_from_rows_that_stand_alone():
    """Half of 14 rows stand alone, and 2 of the 6 hard ones do: the estimate is 2 / (1/2) = 4."""
    hard = np.array([True] * 6 + [False] * 8)
    neighbors = [[7], [7], [3], [2], [5], [4], [6, 6], [6], [6], [6], [6], [0], [1], [2]]
    assert sum(not hard[j].any() for j in map(np.array, neighbors)) == 7
    all_rows = np.ones(14, bool)
    assert scattered(edges_to(neighbors), hard, all_rows) == 4
    assert naive_cutoff.scattered(hard, range(14), neighbors) == 4


@pytest.mark.parametrize(("pairs", "found"), [(2, 1), (3, 0)])
def test_scattered_needs_a_fifth_of_the_hard_rows_to_stand_alone(pairs, found):
    """One hard row of five, and one of seven, stands alone."""
    hard = np.array([True] * (1 + 2 * pairs) + [False] * 4)
    last = hard.size - 1
    neighbors = [[last]] + [[i + 1 if i % 2 else i - 1] for i in range(1, 1 + 2 * pairs)]
    neighbors += [[last - 1]] * 3 + [[last - 2]]
    assert scattered(edges_to(neighbors), hard, np.ones(hard.size, bool)) == found


@pytest.mark.parametrize("scores", [[], [3.0], [2.0, 2.0, 2.0, 2.0], [-0.0, 0.0, 0.0]])
def test_equal_scores_cut_nothing(scores):
    scores = np.array(scores)
    assert hard_rows(scores) == 0
    n = scores.size
    assert not automatic_cutoff(scores, min(1, n), np.ones(n, bool), edges_to([[]] * n)).any()


def test_at_most_half_of_the_rows_count_as_hard():
    scores = np.array([0.0] + [5.0] * 9)
    assert hard_rows(scores) == 9
    cut = automatic_cutoff(scores, 1, np.ones(10, bool), edges_to([[]] * 10))
    assert np.flatnonzero(cut).tolist() == [1, 2, 3, 4]  # ⌊5 − 1/2⌋ = 4, ties to the lowest row


@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=12), st.integers(-30, 30))
def test_two_groups_do_not_depend_on_scale(values, power):
    scores = np.array(values)
    scaled = np.ldexp(scores, -abs(power))
    assume((np.ldexp(scaled, abs(power)) == scores).all())  # exact, also below the normal numbers
    assert hard_rows(scaled) == hard_rows(scores)


@pytest.mark.parametrize("draw", ["normal", "exponential"])
def test_one_group_of_scores_has_no_hard_rows(draw):
    rng = np.random.default_rng(3)
    scores = getattr(rng, draw)(size=3000)
    assert hard_rows(scores) == 0
    all_rows, none = np.ones(3000, bool), edges_to([[]] * 3000)
    assert not automatic_cutoff(scores, 100, all_rows, none).any()
    scores[:900] = 20 + rng.random(900)  # a second group
    assert hard_rows(scores) == 900


def test_two_groups_at_the_limits_of_float64():
    scores = np.array([-1.7e308, -1.7e308, 1.7e308, -1.6e308])
    assert hard_rows(scores) == 1
    assert hard_rows(np.array([0.0, 0.0, 5e-324, 5e-324, 5e-324])) == 3
    assert hard_rows(np.array([1e-320, 2e-320, 9e-320])) == 1


@given(st.data())
@settings(max_examples=200)
def test_give_back_for_quotas_equals_the_plain_loop(data):
    n = data.draw(st.integers(1, 24))
    several = st.lists(st.integers(0, 3), min_size=n, max_size=n)
    difficulty, classes = (np.array(data.draw(several)) for _ in range(2))
    cut, excluded = np.zeros(n, bool), np.zeros(n, bool)
    excluded[data.draw(st.lists(st.integers(0, n - 1)))] = True
    cut[data.draw(st.lists(st.integers(0, n - 1)))] = True
    cut &= ~excluded
    there = np.bincount(classes[~excluded], minlength=4)
    quotas = np.array([data.draw(st.integers(0, int(count))) for count in there])
    given_cut = cut.copy()
    whole = Cutoff(cut, Decision("cutoff", int(cut.sum()), ""))
    found = give_back_for_quotas(whole, difficulty.astype(float), excluded, classes, quotas)
    assert (cut == given_cut).all()
    back = found.decision.numbers["given_back_for_balance"]
    assert cut.sum() - back == found.cut_rows.sum() == found.decision.value
    assert np.flatnonzero(found.cut_rows).tolist() == naive_cutoff.give_back_for_quotas(
        np.flatnonzero(cut).tolist(), difficulty.tolist(), excluded.tolist(), classes.tolist(),
        quotas.tolist(),
    )  # fmt: skip


def test_select_does_not_cut_a_hard_class_below_its_quota():
    """Without quotas, the cutoff would cut the whole class."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(5), [142, 142, 143, 143, 30])
    graph = build_graph(rng.normal(size=(600, 8)).astype("f4"), 10)
    scores = rng.random(600) + 5.0 * (labels == 4)
    scores[rng.permutation(570)[:200]] += 2
    u = propagate(graph, scores)
    all_rows = np.ones(600, bool)
    assert automatic_cutoff(scores, 60, all_rows, prepare_edges(graph)[0])[labels == 4].all()
    for balance, expected in (("uniform", [12] * 5), ("proportional", [14, 14, 15, 14, 3])):
        kept = select(graph, u, 60, difficulty=scores, labels=labels, balance=balance)
        assert np.bincount(labels[kept.order]).tolist() == expected
        assert kept.cut > 100
        (cut,) = (d for d in kept.decisions if d.name == "cutoff")
        assert cut.value == kept.cut
        assert cut.numbers["given_back_for_balance"] == cut.numbers["cut"] - kept.cut > 0


def test_nothing_is_cut_if_only_included_rows_are_kept(problem):
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
    cut = automatic_cutoff(scores, 80, np.ones(200, bool), prepare_edges(graph)[0])
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


def test_select_never_cuts_included_rows(problem):
    graph, scores, u = problem
    include = np.arange(200) < 9
    cut = automatic_cutoff(scores, 40 - 9, ~include, prepare_edges(graph)[0])
    kept = select(graph, u, 40, difficulty=scores, include=include)
    assert kept.cut == cut.sum() > 0
    assert not cut[kept.order].any()
    assert select(graph, u, 40, difficulty=scores, cutoff=0.25).cut == 50


def test_cutoff_decision_holds_the_numbers_of_the_rule():
    """Of ten rows, 3, 6 and 9 are hard; row 6 stands alone, and so do rows 0, 1, 2, 4, 5, 7, 8."""
    scores = np.array([0.0, 0.1, 0.2, 9.0, 0.1, 0.0, 9.2, 0.3, 0.1, 9.1])
    edges = edges_to([[1], [0], [1], [9], [5], [4], [0, 1, 2, 3, 4], [8], [7], [3]])
    found = cutoff.automatic_cutoff(scores, 5, np.ones(10, bool), edges).decision
    assert (found.name, found.value) == ("cutoff", 1)
    numbers = dict(found.numbers)
    assert numbers.pop("variance_share") == pytest.approx(0.9995, abs=1e-4)
    assert numbers == {
        "rows": 10,
        "size": 5,
        "above_threshold": 3,
        "least_variance_share": 0.7,
        "lowest_hard_score": 9.0,
        "hard": 3,
        "hard_share_near_hard": 3 / 7,
        "hard_share_near_others": 0.0,
        "hard_alone": 1,
        "alone_share": 0.8,
        "scattered": 1,
        "cut": 1,
    }


def test_cutoff_decision_without_two_groups():
    scores = np.random.default_rng(3).normal(size=100)
    found = cutoff.automatic_cutoff(scores, 5, np.ones(100, bool), edges_to([[]] * 100)).decision
    assert found.value == found.numbers["hard"] == 0
    assert found.numbers["above_threshold"] > 20
    assert found.numbers["variance_share"] == pytest.approx(2 / math.pi, rel=0.06)
    assert "lowest_hard_score" not in found.numbers


@pytest.mark.parametrize("cutoff", ["auto", 0.1])
def test_cutoff_without_difficulty_is_refused(problem, cutoff):
    graph, _, u = problem
    with pytest.raises(UsageError, match="needs a difficulty"):
        select(graph, u, 80, cutoff=cutoff)
