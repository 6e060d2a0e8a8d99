"""``keep_lift``: the smallest γ_r whose picks keep a share of the attainable mean score."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from d2cli import build_graph, own_scores, prepare_edges, propagate, select
from d2cli.engine.store import PartStore
from d2cli.errors import DataError, UsageError
from d2cli.evaluation import lift as measure
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages import parts
from d2cli.selection import bands, greedy
from d2cli.selection.cutoff import two_groups
from d2cli.selection.gamma import search
from d2cli.selection.gamma.least import least_lift
from d2cli.selection.gamma.search import GAMMA_HIGH, GAMMA_LOW
from d2cli.selection.sizes import AT_ONCE
from tests import naive, naive_lift
from tests.marks import compiled
from tests.messages.test_messages import LINE
from tests.strategies import knn_graphs, scores

LEAST = [0.01, 0.3, 0.5, 0.8, 0.95, 1.0]


def test_lift_of_three_points_by_hand():
    """s = u = (4, 5, 3.9); the weight is e^-γ on edge 0-1 and e^-4γ on edge 1-2.

    Row 1 is first. Row 0 follows if 4 - 5 e^-γ > 3.9 - 5 e^-4γ, that is from about γ = ln 50 on:
    rows 0 and 1 are the best, lift 1. Else row 2 follows: lift (4.45 - 4.3) / (4.5 - 4.3) = 3/4.
    """
    found = select(LINE, [4.0, 5.0, 3.9], 2, keep_lift=0.76)
    assert found.order.tolist() == [1, 0]
    assert math.log(50) < found.gamma_reverse < 1.01 * math.log(50)
    assert (found.lift.reached, found.lift.flat, found.at_bound) == (1.0, False, None)
    assert (found.lift.neighbours, found.lift.neighbours_by_score) == (1.0, 1.0)
    found = select(LINE, [4.0, 5.0, 3.9], 2, keep_lift=0.74)
    assert (found.order.tolist(), found.gamma_reverse) == ([1, 2], GAMMA_LOW)
    assert found.lift.reached == pytest.approx(0.75)
    assert found.at_bound == "low"


@given(knn_graphs(16), st.sampled_from(LEAST), st.sampled_from(["none", "uniform"]), st.data())
@settings(max_examples=200)
def test_keep_lift_equals_the_plain_loop(graph, least, balance, data):
    """With ties, duplicates, negative scores, quotas, included, excluded and cut rows."""
    neighbors, distances = graph
    n = len(neighbors)
    u = data.draw(scores(n, negative=True))
    s = data.draw(st.none() | scores(n, negative=True))
    kinds = data.draw(st.lists(st.sampled_from("idfff"), min_size=n, max_size=n))
    include, excluded = (np.array([kind == one for kind in kinds]) for one in "id")
    beta = data.draw(st.sampled_from([0.0, 0.3]))
    free = [i for i in range(n) if kinds[i] == "f"]
    cut = np.zeros(n, bool)
    hardest = sorted(free, key=lambda i: (-u[i], i))
    cut[hardest[: math.floor(Fraction(str(beta)) * n)]] = True
    inside, most = int(include.sum()), n - int((excluded | cut).sum())
    assume(most >= max(1, inside))
    size = data.draw(st.integers(max(1, inside), most))
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    labels = labels if balance == "uniform" else np.zeros(n, int)
    found = select(
        KnnGraph(*graph), u, size, keep_lift=least, scores=s, balance=balance, labels=labels,
        include=include, exclude=excluded, difficulty=u, cutoff=beta,
    )  # fmt: skip
    _, classes = np.unique(labels, return_inverse=True)
    available, chosen = (
        np.bincount(classes[mask], minlength=classes.max() + 1).tolist()
        for mask in (~(excluded | cut), include)
    )
    quotas = naive.quotas_with(chosen, naive.uniform_quotas, available, size)
    plain = naive.edges(neighbors, distances, "union", excluded)
    worth = (u if s is None else s).tolist()
    order, gains, gamma, bound = naive_lift.keep_lift(
        plain, u, worth, least, size, "gaussian", naive.bandwidth(distances), include,
        excluded | cut, classes, quotas,
    )  # fmt: skip
    assert (found.gamma_reverse, found.at_bound) == (gamma, bound)
    assert found.order.tolist() == list(order)
    assert found.gains.tobytes() == np.array(gains).tobytes()
    rows = [i for i in free if not cut[i]]
    asked = [q - i for q, i in zip(quotas, chosen, strict=True)]
    reached = naive_lift.lift(worth, order[inside:], rows, asked, classes)
    assert reached >= Fraction(str(least))
    assert found.lift.reached == float(reached)
    best = naive_lift.by_score(worth, include, rows, asked, classes)
    assert found.lift.neighbours == naive_lift.selected_neighbours(plain, list(order))
    assert found.lift.neighbours_by_score == naive_lift.selected_neighbours(plain, best)
    assert found.thinned_from is None
    assert_decision(found, size - inside)


@st.composite
def automatic_problems(draw):
    """(graph, u, size, options, cut rows): ties, copies, isolated rows, quotas, rules of rows."""
    neighbors, distances = draw(knn_graphs(16))
    n = len(neighbors)
    u = draw(scores(n, negative=True))
    kinds = draw(st.lists(st.sampled_from("idffff"), min_size=n, max_size=n))
    include, excluded = (np.array([kind == one for kind in kinds]) for one in "id")
    free = np.array([kind == "f" for kind in kinds])
    hard = draw(st.just(u) | scores(n) | st.just(np.arange(n) % 4 // 3 * 5.0))
    beta = draw(st.sampled_from([0.0, 0.3]))
    cut = np.zeros(n, bool)
    ranked = sorted(np.flatnonzero(free), key=lambda i: (-hard[i], i))
    cut[ranked[: math.floor(Fraction(str(beta)) * n)]] = True
    inside, most = int(include.sum()), n - int((excluded | cut).sum())
    assume(most >= max(1, inside))
    least = max(1, inside)
    size = draw(st.integers(least, min(most, least + 3)) | st.integers(least, most))
    labels = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    options = {
        "include": include, "exclude": excluded, "difficulty": hard, "cutoff": beta,
        "balance": draw(st.sampled_from(["none", "uniform", "proportional"])), "labels": labels,
        "scores": draw(st.none() | scores(n, negative=True)),
    }  # fmt: skip
    return KnnGraph(neighbors, distances), u, size, options, cut


@given(automatic_problems())
@settings(max_examples=250)
def test_automatic_lift_equals_the_plain_loop(problem):
    """In memory, with edges in files, and with threads that go through rows in rounds."""
    graph, u, size, options, cut = problem
    found = select(graph, u, size, **options)
    classes = np.zeros(u.size, int)
    if options["balance"] != "none":
        _, classes = np.unique(options["labels"], return_inverse=True)
    include, left_out = options["include"], options["exclude"] | cut
    available, chosen = (
        np.bincount(classes[mask], minlength=classes.max() + 1).tolist()
        for mask in (~left_out, include)
    )
    share = naive.proportional_quotas
    if options["balance"] == "uniform":
        share = naive.uniform_quotas
    quotas = naive.quotas_with(chosen, share, available, size)
    eligible = ~(include | left_out)
    grouped = two_groups(options["difficulty"][eligible])[0] > 0
    worth = options["scores"] if grouped and options["scores"] is not None else u
    order, gains, gamma, bound, wide = naive_lift.automatic(
        naive.edges(graph.neighbors, graph.distances, "union", options["exclude"]), worth,
        worth.tolist(), grouped, size, "gaussian", naive.bandwidth(graph.distances), include,
        left_out, classes, quotas,
    )  # fmt: skip
    assert (found.gamma_reverse, found.at_bound) == (gamma, bound)
    assert found.order.tolist() == list(order)
    assert found.gains.tobytes() == np.array(gains).tobytes()
    assert (found.thinned_from is None) == (wide is None)
    if wide is not None and options["balance"] == "none":
        assert found.thinned_from == found.included + wide
    picks, rows = size - found.included, int(eligible.sum())
    assert found.lift.least == float(naive_lift.least_lift(picks, max(1, rows), grouped))
    assert found.lift.reached >= found.lift.least
    assert_automatic_decisions(found, picks, rows, grouped)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_EDGES", 30)
        patch.setattr(bands, "BAND_EDGES", 6)
        edges = parts.stored_edges(graph, "union", options["exclude"], PartStore())
        in_files = select(edges, u, size, bandwidth=prepare_edges(graph)[1], **options)
        patch.setattr(greedy, "ROUNDS_THREADS", 1)
        in_rounds = select(graph, u, size, threads=2, **options)
    for other in (in_files, in_rounds):
        assert other.order.tobytes() == found.order.tobytes()
        assert other.gains.tobytes() == found.gains.tobytes()
        assert (other.lift, other.decisions) == (found.lift, found.decisions)


def assert_automatic_decisions(found, picks, rows, grouped):
    """L, the sizes that were tried, and γ_r, as JSON too."""
    for decision in found.decisions:
        json.dumps(decision.as_json(), allow_nan=False)
    by_name = {decision.name: decision for decision in found.decisions}
    least = by_name["keep_lift"]
    assert least.value == found.lift.least
    assert least.numbers == {"picks": picks, "rows": rows, "two_groups": grouped}
    assert ("two groups" in least.rule, "do not" in least.rule) == (True, not grouped)
    assert ("thinning" in by_name) == (found.at_bound == "low" and not found.lift.flat)
    if "thinning" in by_name:
        assert by_name["thinning"].value == found.thinned_from
        tried = by_name["thinning"].numbers["tried"]
        kept = [one for one in tried if one["kept"]]
        assert max((one["picks"] for one in kept), default=None) == found.thinned_from
        if kept:
            assert found.lift.reached == kept[-1]["lift"] >= found.lift.least
    assert by_name["gamma_reverse"].numbers["least_lift"] == found.lift.least


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_least_lift_equals_the_plain_loop(picks, more):
    """Both formulas; both rise with the share that is kept, up to 1 or a half for all rows."""
    rows = picks + more
    for grouped in (False, True):
        found = least_lift(picks, rows, grouped)
        assert found == naive_lift.least_lift(picks, rows, grouped)
        assert found < least_lift(picks + 1, rows, grouped) <= 1
    assert (least_lift(rows, rows, True), least_lift(rows, rows, False)) == (1, Fraction(1, 2))


def test_two_groups_are_those_of_the_difficulties(problem):
    """Not of the propagated scores, and before an automatic cutoff, which removes one of them."""
    graph, score, _ = problem
    u = np.abs(score)
    grouped = np.where(np.arange(3000) < 300, 9.0, 1.0) + u / 100
    for difficulty, expected in ((u, False), (grouped, True)):
        for cutoff in (0.0, "auto"):
            found = select(graph, u, 150, difficulty=difficulty, cutoff=cutoff)
            (least,) = (d for d in found.decisions if d.name == "keep_lift")
            assert least.numbers["two_groups"] == expected
            assert (found.cut > 0) == (expected and cutoff == "auto")
            assert least.numbers["rows"] == 3000 - found.cut
            assert found.lift.least == float(least_lift(150, 3000 - found.cut, expected))
    cut = select(graph, u, 150, difficulty=grouped, cutoff=0.1)  # all of the hard group
    (least,) = (d for d in cut.decisions if d.name == "keep_lift")
    assert not least.numbers["two_groups"]
    (least,) = (d for d in select(graph, grouped, 150).decisions if d.name == "keep_lift")
    assert least.numbers["two_groups"]


def test_an_automatic_lift_is_that_of_the_propagated_scores(problem):
    graph, score, _ = problem
    u = propagate(graph, np.abs(score))
    found = select(graph, u, 900, difficulty=own_scores(graph, u), cutoff=0)
    assert found.lift.reached == measure.lift(u, found.order)
    assert found.lift.least == 0.15 <= found.lift.reached
    own = measure.lift(own_scores(graph, u), found.order)
    assert found.lift.reached != own


def test_gamma_is_searched_where_lift_is_highest_after_forward_messages(monkeypatch):
    """Reverse messages of γ_r near γ_f take back forward messages: lift is highest there."""
    climbs = []

    def climbed(*args):
        climbs.append(whole(*args))
        return climbs[-1]

    whole = search.climbed
    monkeypatch.setattr(search, "climbed", climbed)
    for seed in range(8):
        rng = np.random.default_rng(seed)
        graph = build_graph(rng.normal(size=(150, 3)).astype("f4"), 6)
        u = propagate(graph, rng.exponential(size=150))
        own, no = own_scores(graph, u), np.zeros(150, bool)
        plain = naive.edges(graph.neighbors, graph.distances, "union")
        order, gains, gamma, bound = naive_lift.keep_lift(
            plain, u, own.tolist(), 0.9, 60, "gaussian", naive.bandwidth(graph.distances),
            no, no, np.zeros(150, int), [60],
        )  # fmt: skip
        found = select(graph, u, 60, keep_lift=0.9, scores=own)
        assert (found.gamma_reverse, found.at_bound) == (gamma, bound)
        assert found.order.tolist() == list(order)
        assert found.gains.tobytes() == np.array(gains).tobytes()
        assert found.lift.reached >= 0.9
    assert min(climbs) < search.LAST < max(climbs)


def assert_decision(found, picks):
    """The numbers follow the rule and can be recorded as JSON."""
    (decision,) = found.decisions
    numbers = json.loads(json.dumps(decision.as_json(), allow_nan=False))["numbers"]
    assert (decision.name, decision.value) == ("gamma_reverse", found.gamma_reverse)
    assert (numbers["picks"], numbers["at_bound"]) == (picks, found.at_bound)
    assert (numbers["lift"], numbers["least_lift"]) == (found.lift.reached, found.lift.least)
    kept = [one["gamma"] for one in numbers["tried"] if one["kept"]]
    lost = [one["gamma"] for one in numbers["tried"] if not one["kept"]]
    if found.lift.flat:
        assert not numbers["tried"]
    elif found.gamma_reverse is None:
        assert GAMMA_HIGH in lost
    else:
        assert min(kept) == found.gamma_reverse
        # The lift may fall again: larger values may be lost too.
        assert found.gamma_reverse not in lost
    low, high, mine = numbers["mean_all"], numbers["mean_best"], numbers["mean_kept"]
    if picks and high - low > 1e-6:
        assert numbers["lift"] == pytest.approx((mine - low) / (high - low), rel=1e-6, abs=1e-6)


@given(knn_graphs(), st.sampled_from([0.1, -1 / 3, 0.0, 1e300]), st.data())
def test_equal_scores_have_a_lift_of_1_at_the_strongest_diversity(graph, value, data):
    n = len(graph[0])
    size = data.draw(st.integers(1, n))
    found = select(KnnGraph(*graph), np.full(n, value), size, keep_lift=1.0)
    assert (found.gamma_reverse, found.at_bound) == (GAMMA_LOW, "low")
    assert (found.lift.reached, found.lift.flat) == (1.0, True)


def test_copies_that_silence_each_other_leave_the_order_of_scores():
    """Twelve copies in a clique: at every γ_r, one pick takes the score of all others."""
    rows = np.repeat([0.0, 10.0], 12)[:, None].astype("f4")
    graph = build_graph(rows, 11)
    score = np.r_[np.linspace(2, 1, 12), np.linspace(0.9, 0.1, 12)]
    kept = select(graph, score, 6, keep_lift=0.95)
    assert (kept.gamma_reverse, kept.at_bound) == (None, "high")
    assert kept.order.tolist() == list(range(6))
    assert kept.gains.tolist() == score[:6].tolist()
    assert kept.lift.reached == 1.0
    (decision,) = kept.decisions
    assert decision.value is None
    assert max(one["lift"] for one in decision.numbers["tried"]) < 0.95
    spread = select(graph, score, 6, keep_lift=0.1)
    assert spread.gamma_reverse is not None
    assert spread.lift.neighbours < kept.lift.neighbours == 5


@pytest.fixture(scope="module")
def problem():
    """(graph, scores, labels) of 3,000 rows in clusters; 150 are copies of others."""
    rng = np.random.default_rng(1)
    centres = 5 * rng.normal(size=(30, 3))
    rows = (centres[rng.integers(0, 30, 3000)] + rng.normal(size=(3000, 3))).astype("f4")
    rows[2850:] = rows[:150]
    return build_graph(rows, 8), rng.normal(size=3000), np.arange(3000) % 3


CASES = [
    {"size": 300, "hops": 0}, {"size": 300, "hops": 1}, {"size": 2000, "hops": 0},
    {"size": 20, "hops": 1}, {"size": 20, "hops": 0, "balance": "uniform"},
    {"size": 900, "hops": 1, "balance": "proportional"}, {"size": 300, "hops": 0, "cutoff": "auto"},
]  # fmt: skip


@compiled
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("least", [0.6, 0.95, None])
def test_result_depends_neither_on_threads_nor_on_the_loop_nor_on_memory(
    monkeypatch, tmp_path, problem, case, least
):
    graph, score, labels = problem
    options = dict(case)
    hops, size = options.pop("hops"), options.pop("size")

    def run(threads=1, memory=None):
        more = {"memory": memory, "work_dir": tmp_path, "threads": threads}
        u = propagate(graph, score, hops=hops, **more)
        own = own_scores(graph, u, hops=hops, **more)
        return select(
            graph, u, size, keep_lift=least, scores=None if least is None else own, labels=labels,
            difficulty=own,
            **{"cutoff": 0.0, **options}, **more,
        )  # fmt: skip

    plain = run()
    monkeypatch.setattr(greedy, "FEW", 0)
    found = [run(threads) for threads in (1, 2, 4)]
    monkeypatch.setattr(bands, "BAND_EDGES", 3000)
    found.append(run(2, 0))
    monkeypatch.setattr(greedy, "ROUNDS_THREADS", 1)
    found.append(run(3))
    for one in found:
        assert (one.gamma_reverse, one.at_bound) == (plain.gamma_reverse, plain.at_bound)
        assert one.order.tobytes() == plain.order.tobytes()
        assert one.gains.tobytes() == plain.gains.tobytes()
        assert one.decisions == found[0].decisions
        assert one.lift == plain.lift
    assert plain.lift.reached >= plain.lift.least
    assert plain.gamma_reverse is not None or (least, size) == (0.95, 20)
    assert (plain.thinned_from is not None) == (least is None and size <= 300)


def test_two_values_are_tried_at_once(monkeypatch, problem):
    graph, score, _ = problem
    asked = []
    whole = greedy.Run.at_once

    def at_once(self, work, gammas):
        asked.append(len(gammas))
        whole(self, work, gammas)

    monkeypatch.setattr(greedy.Run, "at_once", at_once)
    monkeypatch.setattr(greedy, "FEW", 0)
    select(graph, score, 300, keep_lift=0.9, cutoff=0)
    assert max(asked) == AT_ONCE
    assert sum(asked) <= 16


def test_a_lower_lift_is_spread_more(problem):
    graph, score, _ = problem
    kept = [select(graph, score, 600, keep_lift=least) for least in (0.5, 0.8, 0.95, 1.0)]
    gammas = [math.inf if one.gamma_reverse is None else one.gamma_reverse for one in kept]
    near = [one.lift.neighbours for one in kept]
    assert gammas == sorted(gammas)
    assert near == sorted(near)
    assert near[0] < near[-1]


def test_lift_does_not_change_with_scale_and_origin(problem):
    graph, score, _ = problem
    plain = select(graph, score, 300, keep_lift=0.8)
    moved = select(graph, score, 300, keep_lift=0.8, scores=4 * score)
    assert moved.order.tobytes() == plain.order.tobytes()
    assert moved.lift.reached == pytest.approx(plain.lift.reached, rel=1e-12)
    assert select(graph, score, 300, keep_lift=0.8, scores=score + 5).gamma_reverse == (
        plain.gamma_reverse
    )


def test_scores_of_any_magnitude_have_a_lift():
    """The sums of the scores are beyond float64, and below its smallest step."""
    graph = build_graph(np.arange(6, dtype="f4")[:, None], 2)
    for unit in (1.7e308, 5e-324):
        found = select(graph, np.array([1, 1, 1, 0, 0, -1]) * unit, 3, keep_lift=1.0)
        assert sorted(found.order.tolist()) == [0, 1, 2]
        assert found.lift.reached == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_lift": 0.0}, "above 0 and at most 1, not 0"),
        ({"keep_lift": 1.5}, "above 0 and at most 1"),
        ({"keep_lift": math.nan}, "above 0 and at most 1"),
        ({"keep_lift": 0.5, "gamma_reverse": 1.0}, "keep_lift chooses gamma_reverse"),
        ({"keep_lift": 0.5, "clamped": False}, "needs clamped"),
    ],
)
def test_options_that_contradict_keep_lift_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        select(LINE, [1.0, 2.0, 3.0], 1, **options)


@pytest.mark.parametrize("bad", [[1.0, 2.0], [1.0, math.nan, 2.0]])
def test_bad_scores_are_refused(bad):
    with pytest.raises(DataError):
        select(LINE, [1.0, 2.0, 3.0], 1, keep_lift=0.5, scores=bad)


# -- as a measure ----------------------------------------------------------------------------------
@given(st.data())
def test_lift_of_a_selection_equals_the_plain_loop(data):
    n = data.draw(st.integers(1, 20))
    s = data.draw(scores(n, negative=True))
    size = data.draw(st.integers(1, n))
    rows = np.array(data.draw(st.permutations(range(n))))[:size]
    expected = naive_lift.lift(s.tolist(), rows, range(n), [size], [0] * n)
    assert measure.lift(s, rows) == float(expected)


def test_lift_of_a_selection_by_hand():
    s = [0.0, 1.0, 2.0, 3.0]
    assert measure.lift(s, np.array([3])) == 1.0
    assert measure.lift(s, np.array([2])) == pytest.approx(1 / 3)
    assert measure.lift(s, np.array([0, 3])) == 0.0
    assert measure.lift(s, np.array([0, 1])) == -1.0
    assert measure.lift(s, np.arange(4)) == measure.lift(np.ones(4), np.array([2])) == 1.0
    with pytest.raises(DataError, match="none of 4"):
        measure.lift(s, np.array([4]))


def test_prepared_edges_give_the_same_selection(problem):
    graph, score, _ = problem
    edges, sigma = prepare_edges(graph)
    one, other = (
        select(graph, score, 200, keep_lift=0.9),
        select(edges, score, 200, keep_lift=0.9, bandwidth=sigma),
    )
    assert one.order.tobytes() == other.order.tobytes()


@pytest.mark.parametrize("least", [0.6, 1.0])
def test_a_budget_in_cost_uses_the_gamma_of_as_many_rows(least):
    """γ_r keeps the lift of the N rows that the budget buys at the mean cost; costs end the picks.

    Exact copies silence each other at every γ_r, so that 1.0 cannot be kept: then scores decide.
    """
    rng = np.random.default_rng(3)
    values = np.repeat(rng.normal(size=(60, 4)), 2, axis=0)
    u, costs = np.repeat(rng.random(60), 2), rng.random(120)
    edges, sigma = prepare_edges(build_graph(values, n_neighbors=5))
    budget = 0.251 * float(costs.sum())  # 30 rows at the mean cost
    by_cost = select(
        edges, u, bandwidth=sigma, keep_lift=least, scores=u, costs=costs, cost_budget=budget
    )
    by_size = select(edges, u, 30, bandwidth=sigma, keep_lift=least, scores=u)
    assert by_cost.gamma_reverse == by_size.gamma_reverse
    assert by_cost.lift == by_size.lift
    assert costs[by_cost.order].sum() <= budget
    shared = min(by_cost.order.size, 30)
    np.testing.assert_array_equal(by_cost.order[:shared], by_size.order[:shared])
    assert (by_cost.gamma_reverse is None) == (least == 1.0)
