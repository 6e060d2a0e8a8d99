"""Budgets in cost equal the plain loop, nest, and are never exceeded."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from d2cli import build_graph, select
from d2cli.engine.store import PartStore
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages import parts as parts_module
from d2cli.messages.parts import stored_edges
from d2cli.selection import bands as bands_module
from d2cli.selection import greedy as greedy_module
from d2cli.selection.costs.budget import budget_in_cost, prefix, thinned_to_cost
from d2cli.selection.costs.limits import CostLimits, rounded_down, shares_of_cost
from d2cli.selection.costs.sums import as_text
from d2cli.selection.cutoff import two_groups
from d2cli.selection.greedy import Rules, Selection
from tests import naive, naive_costs, naive_lift
from tests.messages.test_messages import LINE
from tests.strategies import knn_graphs, masks, scores

BALANCES = st.sampled_from(["none", "proportional", "uniform"])


def prices(n):
    """(n,) costs: often equal, some of them 0, some with rounding errors."""
    whole, free = st.sampled_from([0.0, 1.0, 1.0, 2.0, 7.0]), st.floats(0, 10, width=32)
    some = st.sampled_from([0.1, 0.3, 2.0])
    kind = st.sampled_from([whole, free, some])
    return kind.flatmap(lambda one: st.lists(one, min_size=n, max_size=n)).map(np.array)


@st.composite
def problems(draw):
    """(lists, distances, propagated, costs, budget, options of select, rows that take part)."""
    neighbors, distances = draw(knn_graphs())
    n = len(neighbors)
    rules = draw(st.lists(st.sampled_from("iddfffff"), min_size=n, max_size=n))
    include = np.array([r == "i" for r in rules])
    exclude = np.array([r == "d" for r in rules])
    costs = draw(prices(n))
    held = math.fsum(costs[include])
    budget = held + draw(st.sampled_from([0.25, 1.0, 3.0, 5.5, 12.0, 1000.0]))
    assume(not exclude.all())
    labels = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    options = {
        "balance": draw(BALANCES), "labels": labels, "include": include, "exclude": exclude,
        "costs": costs, "cost_budget": budget,
    }  # fmt: skip
    return neighbors, distances, draw(scores(n, negative=True)), options


def left_of(options):
    """(class of each row, what rows of each class may still cost) as the definition has them."""
    costs, include, left_out = (options[name] for name in ("costs", "include", "exclude"))
    classes = np.zeros(costs.size, int)
    if options["balance"] != "none":
        _, classes = np.unique(options["labels"], return_inverse=True)

    def added(rows):
        totals = [0.0] * (max(classes) + 1)
        for i in np.flatnonzero(rows):
            totals[classes[i]] += costs[i]
        return totals

    available, included = added(~left_out), added(include)
    found = naive_costs.shares(available, options["cost_budget"], options["balance"], included)
    left = [
        math.inf if share >= whole else share - Fraction(held)
        for share, whole, held in zip(found, available, included, strict=True)
    ]
    return classes, left


def limits_of(options):
    """(class of each row, limit of each class as a float)."""
    classes, left = left_of(options)
    return classes, [one if one == math.inf else rounded_down(one) for one in left]


def chosen(graph, u, options, **more):
    """The selection, or None if not one pick fits."""
    try:
        return select(graph, u, **options, **more)
    except UsageError as error:
        assert "the first pick costs more" in str(error) or "no row can be picked" in str(error)
        return None


@given(problems(), st.sampled_from([0.0, 0.05, 0.7, 3.0]), st.booleans())
@settings(max_examples=400)
def test_selection_in_cost_equals_the_plain_loop(problem, gamma, clamped):
    neighbors, distances, u, options = problem
    found = chosen(KnnGraph(neighbors, distances), u, options, gamma_reverse=gamma, clamped=clamped)
    classes, limits = limits_of(options)
    order, gains = naive_costs.greedy(
        naive.edges(neighbors, distances, "union", options["exclude"]), u, "gaussian",
        naive.bandwidth(distances), gamma, clamped, options["costs"], limits, options["include"],
        options["exclude"], classes,
    )  # fmt: skip
    if found is None:
        assert not order.size
        return
    assert found.order.tolist() == order.tolist()
    assert found.gains.tobytes() == gains.tobytes()
    assert math.fsum(options["costs"][order]) <= options["cost_budget"] * (1 + 1e-15 * order.size)


@given(problems(), st.sampled_from([0.05, 0.7, 3.0]))
@settings(max_examples=150)
def test_selection_in_cost_is_the_same_with_edges_in_files_and_many_threads(problem, gamma):
    neighbors, distances, u, options = problem
    graph = KnnGraph(neighbors, distances)
    plain = chosen(graph, u, options, gamma_reverse=gamma, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts_module, "PART_EDGES", 30)
        patch.setattr(bands_module, "BAND_EDGES", 6)
        patch.setattr(greedy_module, "ROUNDS_THREADS", 1)
        parts = stored_edges(graph, "union", options["exclude"], PartStore())
        sigma = naive.bandwidth(distances)
        in_files = chosen(parts, u, options, gamma_reverse=gamma, bandwidth=sigma)
        threaded = chosen(graph, u, options, gamma_reverse=gamma, threads=2)
    for other in (in_files, threaded):
        assert (other is None) == (plain is None)
        if plain is not None:
            assert other.order.tolist() == plain.order.tolist()
            assert other.gains.tobytes() == plain.gains.tobytes()


@given(problems())
@settings(max_examples=200)
def test_automatic_selection_in_cost_equals_the_plain_loop(problem):
    """With the γ_r that was found: the walk to the wide limits, thinned to the budget."""
    neighbors, distances, u, options = problem
    graph = KnnGraph(neighbors, distances)
    found = chosen(graph, np.abs(u), options)
    if found is None:
        return
    size = found.decisions[0].numbers
    (classes, limits), (_, left) = limits_of(options), left_of(options)
    include, left_out, costs = (options[name] for name in ("include", "exclude", "costs"))
    eligible = ~(include | left_out)
    rows = np.bincount(classes[eligible], minlength=len(limits))
    bought = []
    for c, limit in enumerate(left):
        total = np.bincount(classes[eligible], costs[eligible], len(limits))[c]
        exact = rows[c] if limit == math.inf else limit * int(rows[c]) // Fraction(total)
        bought.append(int(min(rows[c], max(limit > 0, exact))))
    asked = sum(bought)
    assert size["rows"] == rows.sum()
    plain = naive.edges(neighbors, distances, "union", left_out)
    sigma, first = naive.bandwidth(distances), int(include.sum())
    held = np.bincount(classes[include], minlength=len(limits))
    quotas = [int(h) + b for h, b in zip(held, bought, strict=True)]
    worth = np.abs(u).tolist()
    grouped = two_groups(np.abs(u)[eligible])[0] > 0
    _, _, gamma, _, most = naive_lift.automatic(
        plain, worth, worth, grouped, first + asked, "gaussian", sigma, include, left_out,
        classes, quotas,
    )  # fmt: skip
    assert found.gamma_reverse == gamma
    raised = limits
    if most is not None:
        wide = [min(-(-b * most // asked), r) for b, r in zip(bought, rows, strict=True)]
        raised = [
            b * max(w, 1) / max(q, 1) for b, w, q in zip(limits, wide, bought, strict=True)
        ]  # fmt: skip
    order, _ = naive_costs.greedy(
        plain if gamma is not None else {i: {} for i in range(u.size)}, worth, "gaussian", sigma,
        gamma, True, costs, raised, include, left_out, classes,
    )  # fmt: skip
    kept = set(range(first))
    if raised is not limits:
        for c, limit in enumerate(limits):
            places = [p for p in range(first, order.size) if classes[order[p]] == c]
            kept |= {places[i] for i in naive_costs.evenly(costs[order[places]], limit)}
        order = order[sorted(kept)]
    assert found.order.tolist() == order.tolist()


@given(knn_graphs(), st.data())
@settings(max_examples=150)
def test_equal_costs_select_the_rows_of_a_size(graph, data):
    """Rows that all cost 1 (or all cost c): a budget of N (N·c) is a size of N, thinning too."""
    n = len(graph[0])
    u, include = data.draw(scores(n)), data.draw(masks(n))
    size = data.draw(st.integers(max(1, int(include.sum())), n))
    price = data.draw(st.sampled_from([1.0, 8.0, 0.5]))
    labels = np.arange(n) % data.draw(st.integers(1, 3))
    counts = np.bincount(labels)
    balance = data.draw(BALANCES)
    if balance == "proportional":
        assume(((counts * size) % n == 0).all())
    elif balance == "uniform":
        assume(size % counts.size == 0 and size // counts.size <= counts.min())
    if balance != "none":
        include[:] = False
    options = {"include": include, "labels": labels, "balance": balance, "difficulty": u}
    gamma = data.draw(st.sampled_from(["auto", 0.5]))
    by_size = select(KnnGraph(*graph), u, size, gamma_reverse=gamma, **options)
    costs = np.full(n, price)
    in_cost = select(
        KnnGraph(*graph), u, gamma_reverse=gamma, costs=costs, cost_budget=size * price, **options
    )
    assert in_cost.order.tolist() == by_size.order.tolist()
    assert in_cost.gains.tobytes() == by_size.gains.tobytes()
    assert in_cost.gamma_reverse == by_size.gamma_reverse
    assert in_cost.thinned_from == by_size.thinned_from
    assert in_cost.cut == by_size.cut


@given(knn_graphs(), st.sampled_from([0.05, 1.0]), st.booleans(), st.data())
def test_budgets_in_cost_nest(graph, gamma, clamped, data):
    n = len(graph[0])
    u, costs, include = data.draw(scores(n)), data.draw(prices(n)), data.draw(masks(n))
    held = float(costs[include].sum())
    options = {
        "gamma_reverse": gamma, "clamped": clamped, "include": include, "costs": costs,
        "exclude": np.zeros(n, bool),
    }  # fmt: skip
    budgets = sorted(held + data.draw(st.floats(0.01, 20)) for _ in range(2))
    less, more = (chosen(KnnGraph(*graph), u, {**options, "cost_budget": b}) for b in budgets)
    if more is None:
        assert less is None
        return
    found = prefix(more, costs, budgets[0])
    assert found.order.tolist() == ([] if less is None else less.order.tolist())
    assert more.order[: found.order.size].tolist() == found.order.tolist()
    assert found.gains.tolist() == more.gains[: found.order.size].tolist()


# -- shares ----------------------------------------------------------------------------------------
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=6),
       st.sampled_from(["proportional", "uniform"]), st.data())  # fmt: skip
def test_shares_equal_the_plain_loop(pairs, balance, data):
    available, included = [float(a + b) for a, b in pairs], [float(b) for _, b in pairs]
    budget = data.draw(st.floats(max(sum(included), 0.5), sum(available) + 1))
    found = shares_of_cost(available, budget, balance, included)
    assert found == naive_costs.shares(available, budget, balance, included)
    assert sum(found) == min(Fraction(budget), Fraction(sum(available)))
    assert all(i <= s <= a for i, s, a in zip(included, found, available, strict=True))


def test_shares_by_hand():
    costs, none = [50.0, 30.0, 20.0], [0.0] * 3
    assert shares_of_cost(costs, 10.0, "proportional", none) == [5, 3, 2]
    assert shares_of_cost(costs, 70.0, "uniform", none) == [25, 25, 20]
    assert shares_of_cost(costs, 10.0, "uniform", none) == [Fraction(10, 3)] * 3
    assert shares_of_cost(costs, 10.0, "uniform", [0.0, 0.0, 9.0]) == [Fraction(1, 2)] * 2 + [9]
    assert shares_of_cost(costs, 200.0, "uniform", none) == costs


@given(st.fractions(0, 1000))
def test_shares_are_rounded_down(share):
    found = rounded_down(share)
    assert Fraction(found) <= share < Fraction(math.nextafter(found, math.inf))


def test_rows_that_a_budget_stands_for_by_hand():
    """Five rows cost 20 together; one of them, included, costs 4: (10 - 4) · 4 / 16 is 1.5."""
    costs, include = np.array([1.0, 4.0, 2.0, 3.0, 10.0]), np.arange(5) == 1
    size, rules, decision = budget_in_cost(Rules(include, np.zeros(5, bool)), costs, 10.0)
    assert (size, rules.quotas, decision.value) == (2, None, 2)
    assert rules.cost_limits.limits.tolist() == [6.0]
    assert decision.numbers == {
        "cost_budget": 10.0, "included": 1, "cost_of_included": 4.0, "rows": 4,
        "cost_of_rows": 16.0, "classes": 1,
    }  # fmt: skip
    all_of_it = budget_in_cost(Rules(include, np.zeros(5, bool)), costs, 20.0)
    assert (all_of_it.size, all_of_it.rules.cost_limits.limits.tolist()) == (5, [np.inf])
    classes = np.array([0, 0, 1, 1, 1])
    size, rules, _ = budget_in_cost(
        Rules(include, np.zeros(5, bool)), costs, 12.0, "uniform", classes
    )
    # Class 0 takes all of its 5; class 1 has 7, less than half of its 15 for three rows.
    assert rules.cost_limits.limits.tolist() == [np.inf, 7.0]
    assert (size, rules.quotas.tolist()) == (3, [2, 1])


def test_smallest_selections_by_hand():
    """The order is 1, 2, 0; costs are 3, 2 and 9."""
    options = {"gamma_reverse": 1.0, "costs": np.array([9.0, 3.0, 2.0])}
    u = [3.0, 5.0, 4.0]
    for budget, order in ((3, [1]), (4.9, [1]), (5, [1, 2]), (13, [1, 2]), (14, [1, 2, 0])):
        assert select(LINE, u, cost_budget=budget, **options).order.tolist() == order
    with pytest.raises(UsageError, match="the first pick costs more"):
        select(LINE, u, cost_budget=2.5, **options)  # row 2 would fit, but is not first
    free = select(LINE, u, cost_budget=1, gamma_reverse=1.0, costs=np.zeros(3))
    assert free.order.tolist() == [1, 2, 0]


def test_thinning_keeps_as_many_evenly_spaced_picks_as_fit_by_hand():
    costs = np.array([1.0, 1.0, 5.0, 1.0, 1.0, 1.0])
    picks = Selection(np.arange(6), -np.arange(6.0), 1.0)
    rules = Rules(
        np.zeros(6, bool), np.zeros(6, bool), None, None, CostLimits(costs, np.array([4.0]))
    )
    # Three picks are 0, 2 and 4, which cost 7; two are 0 and 3; bisection tries 3 before 2.
    assert thinned_to_cost(picks, rules).order.tolist() == [0, 3]
    assert thinned_to_cost(picks, rules).thinned_from == 6


def test_selection_in_cost_of_some_size():
    """2,000 rows with costs that are correlated with the scores; every rule is automatic."""
    rng = np.random.default_rng(0)
    graph = build_graph(rng.normal(size=(2000, 4)).astype("f4"), 8)
    u, labels = rng.beta(0.5, 3, 2000), rng.integers(0, 5, 2000)
    costs = np.rint(20 + 400 * u * rng.random(2000))
    for share in (0.02, 0.2, 0.7):
        budget = float(np.rint(share * costs.sum()))
        for balance in ("none", "proportional", "uniform"):
            kept = select(
                graph, u, costs=costs, cost_budget=budget, labels=labels, balance=balance,
                difficulty=u,
            )  # fmt: skip
            spent = costs[kept.order].sum()
            assert budget - (1 if balance == "none" else 5) * costs.max() < spent <= budget
            assert (kept.thinned_from is not None) == (share == 0.02)


@pytest.mark.parametrize(
    ("costs", "budget", "error", "message"),
    [
        ([1.0, -2.0, 1.0], 1.0, DataError, "cost is -2"),
        ([1.0, math.nan, 1.0], 1.0, DataError, "cost is nan"),
        ([1.0, math.inf, 1.0], 1.0, DataError, "cost is inf"),
        ([1.0, 1.0], 1.0, DataError, r"costs must be \(3,\), not \(2,\)"),
        ([1e308, 1e308, 1e308], 1.0, DataError, "beyond float64"),
        ([1.0, 1.0, 1.0], 0.0, UsageError, "number above 0, not 0"),
        ([1.0, 1.0, 1.0], math.nan, UsageError, "number above 0, not nan"),
        ([1.0, 1.0, 1.0], math.inf, UsageError, "number above 0, not inf"),
        ([1.0, 1.0, 1.0], None, UsageError, "costs and a cost_budget"),
        (None, 1.0, UsageError, "costs and a cost_budget"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_bad_costs_and_budgets_are_refused(costs, budget, error, message):
    given = None if costs is None else np.array(costs)
    with pytest.raises(error, match=message):
        select(LINE, [3.0, 5.0, 4.0], costs=given, cost_budget=budget)


def test_impossible_budgets_are_refused():
    costs, u = np.array([1.0, 4.0, 2.0]), [3.0, 5.0, 4.0]
    with pytest.raises(UsageError, match="the included rows cost 4, more than the budget of 3"):
        select(LINE, u, include=np.arange(3) == 1, costs=costs, cost_budget=3)
    with pytest.raises(UsageError, match="no row can be picked"):
        select(LINE, u, exclude=np.ones(3, bool), costs=costs, cost_budget=3)
    with pytest.raises(UsageError, match="a size, or costs"):
        select(LINE, u, 2, costs=costs, cost_budget=3)
    included = select(
        LINE, u, gamma_reverse=1.0, include=np.arange(3) == 1, costs=costs, cost_budget=4
    )
    assert included.order.tolist() == [1]
    with pytest.raises(UsageError, match="the included rows cost 4"):
        prefix(included, costs, 3)


def test_costs_for_people():
    assert [as_text(c) for c in (1e9, 0.25, 12345678.5)] == [
        "1,000,000,000",
        "0.25",
        "12,345,678.5",
    ]
