"""Thinning of small budgets."""

import json
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli import build_graph, prepare_edges, propagate, select
from d2cli.selection.budgets import class_quotas
from d2cli.selection.greedy import Rules, Selection
from d2cli.selection.thinning import share_within, thinned, widened
from tests import naive_cutoff
from tests.strategies import edges_to, links


@pytest.fixture(scope="module")
def problem():
    """Hard rows are not clustered: 10 % of the rows are selected before thinning."""
    rng = np.random.default_rng(8)
    graph = build_graph(rng.normal(size=(300, 4)).astype("f4"), 5)
    return graph, propagate(graph, rng.exponential(size=300)), rng.integers(0, 3, 300)


@pytest.fixture(scope="module")
def clustered():
    """Hard rows are clustered: 20 % are selected before thinning."""
    rows = np.random.default_rng(8).normal(size=(300, 4)).astype("f4")
    graph = build_graph(rows, 5)
    return graph, propagate(graph, np.exp(rows[:, 0].astype(float)))


@pytest.mark.parametrize("which, picks", [("problem", 30), ("clustered", 60)])
def test_small_budget_keeps_evenly_spaced_picks(which, picks, request):
    graph, u = request.getfixturevalue(which)[:2]
    wide = select(graph, u, picks, cutoff=0)
    assert wide.thinned_from is None
    for size in (1, 2, 7, picks // 2, picks - 1):
        kept = select(graph, u, size, cutoff=0)
        assert kept.thinned_from == picks
        assert kept.order.tolist() == naive_cutoff.evenly(wide.order.tolist(), size)
        assert kept.gains.tolist() == naive_cutoff.evenly(wide.gains.tolist(), size)
        assert (np.diff(kept.gains) <= 0).all()
        assert kept.gamma_reverse == wide.gamma_reverse


def test_gamma_given_as_a_number_disables_thinning(problem):
    graph, u, _ = problem
    kept = select(graph, u, 10, gamma_reverse=0.5)
    assert kept.thinned_from is None
    assert kept.order.tolist() == select(graph, u, 60, gamma_reverse=0.5).order[:10].tolist()


def test_thinning_keeps_included_rows(problem):
    graph, u, _ = problem
    include = np.zeros(300, bool)
    include[5:25] = True
    kept = select(graph, u, 30, include=include, cutoff=0)
    assert kept.included == 20
    assert set(kept.order[:20]) == set(range(5, 25))
    wide = select(graph, u, 20 + 28, include=include, cutoff=0)  # 28: 10 % of the other 280
    assert kept.thinned_from == 48
    assert kept.order[20:].tolist() == naive_cutoff.evenly(wide.order[20:].tolist(), 10)
    assert select(graph, u, 20, include=include, cutoff=0).thinned_from is None


@given(st.data())
@settings(max_examples=200)
def test_widened_size_equals_the_plain_loop(data):
    """With ties, rows without neighbours, included and left-out rows, and n = 1."""
    n = data.draw(st.integers(1, 40))
    neighbors, edges = data.draw(links(n))
    u = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), float)
    left_out, include = np.zeros(n, bool), np.zeros(n, bool)
    left_out[data.draw(st.lists(st.integers(0, n - 1), max_size=n // 4))] = True
    include[data.draw(st.lists(st.integers(0, n - 1), max_size=n // 4))] = True
    include &= ~left_out
    size = data.draw(st.integers(int(include.sum()), n - int(left_out.sum())))
    found, rules, decision = widened(size, Rules(include, left_out), edges, u)
    expected = naive_cutoff.wide(size, neighbors, u, left_out | include, int(include.sum()))
    assert (found, rules.quotas) == (expected, None)
    assert decision.value == (None if expected == size else expected)
    json.dumps(decision.as_json(), allow_nan=False)


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    st.sampled_from(["proportional", "uniform"]),
    st.booleans(),
    st.data(),
)
@settings(max_examples=200)
def test_thinning_restores_the_quotas_of_classes(counts, balance, some_included, data):
    """Widened quotas never shrink and fit their classes; thinning returns to the original ones."""
    classes = np.repeat(np.arange(len(counts)), counts)
    n = classes.size
    include = np.zeros(n, bool)
    if some_included:
        include[data.draw(st.lists(st.integers(0, n - 1), max_size=n // 2))] = True
    chosen = np.bincount(classes[include], minlength=len(counts))
    size = data.draw(st.integers(max(1, int(include.sum())), n))
    quotas = class_quotas(np.array(counts), size, balance, chosen)
    rules = Rules(include, np.zeros(n, bool), classes, quotas)
    wide, wider, _ = widened(size, rules, edges_to([[]] * n), np.zeros(n))
    assert wide >= size
    assert int(wider.quotas.sum()) == wide
    assert (wider.quotas >= quotas).all()
    assert (wider.quotas <= counts).all()
    rest = np.concatenate(
        [np.flatnonzero(~include & (classes == c))[: q - i] for c, (q, i) in
         enumerate(zip(wider.quotas, chosen, strict=True))]
    )  # fmt: skip
    order = np.concatenate([np.flatnonzero(include), np.random.default_rng(0).permutation(rest)])
    whole = Selection(order, -np.arange(wide) / 1.0, 1.0, int(include.sum()))
    kept = thinned(whole, size, rules)
    assert kept.order.size == kept.gains.size == size
    assert np.bincount(classes[kept.order], minlength=len(counts)).tolist() == quotas.tolist()
    assert include[kept.order[: include.sum()]].all()
    for c in range(len(counts)):
        of_class = [i for i in order[include.sum() :].tolist() if classes[i] == c]
        mine = [i for i in kept.order[include.sum() :].tolist() if classes[i] == c]
        assert mine == naive_cutoff.evenly(of_class, quotas[c] - chosen[c])


def test_select_thins_each_class_of_a_balance(problem):
    graph, u, labels = problem
    for balance in ("proportional", "uniform"):
        kept = select(graph, u, 12, labels=labels, balance=balance)
        assert kept.order.size == len({*kept.order.tolist()}) == 12
        assert kept.thinned_from is not None
    assert np.bincount(labels[kept.order]).tolist() == [4, 4, 4]


def test_ran_out_at_counts_kept_picks():
    order = np.arange(10)
    for ran_out, expected in ((0, 0), (3, 2), (9, None), (None, None)):
        gains = np.ones(10)
        gains[10 if ran_out is None else ran_out :] = 0.0
        whole = Selection(order, gains, 100.0)
        assert thinned(whole, 5, Rules.none(10)).ran_out_at == expected


def test_select_of_a_single_row():
    graph = build_graph(np.zeros((1, 2), "f4"), 1)
    assert select(graph, np.ones(1), 1).order.tolist() == [0]


def test_share_within_by_hand(problem):
    edges, _ = prepare_edges(problem[0])
    all_rows = np.ones(300, bool)
    assert share_within(edges, all_rows, all_rows) == 1
    assert share_within(edges, np.zeros(300, bool), all_rows) == 0
    assert share_within(edges, np.arange(300) == 7, all_rows) == 0
    assert share_within(edges_to([[]] * 3), np.ones(3, bool), np.ones(3, bool)) == 0
    path = edges_to([[1], [2], [3], []])  # 0 → 1 → 2 → 3
    first_two = np.arange(4) < 2
    assert share_within(path, first_two, np.ones(4, bool)) == Fraction(1, 2)
    assert share_within(path, first_two, np.arange(4) != 2) == 1


def test_cut_rows_do_not_count_as_neighbours(clustered):
    """Thinning is the same whether cut rows are still in the graph or not."""
    graph, u = clustered
    cut = select(graph, u, 12, difficulty=u, cutoff=0.08)
    gone = np.zeros(300, bool)
    gone[np.argsort(-u, kind="stable")[:24]] = True
    sigma = prepare_edges(graph)[1]
    left = prepare_edges(graph, drop=gone, bandwidth=sigma)[0]
    without = select(left, u, 12, exclude=gone, cutoff=0, bandwidth=sigma)
    assert cut.cut == 24
    assert cut.thinned_from == without.thinned_from == 56  # 20 % of 276
    assert cut.order.tolist() == without.order.tolist()


def test_budgets_from_20_percent_on_are_not_thinned(problem, clustered):
    assert select(*problem[:2], 30, cutoff=0).thinned_from is None
    assert select(*clustered, 30, cutoff=0).thinned_from == 60
    assert select(*clustered, 60, cutoff=0).thinned_from is None


def test_thinning_decision_holds_the_numbers_of_the_rule(problem, clustered):
    for (graph, u), p in ((problem[:2], 0.1), (clustered, 0.2)):
        kept = select(graph, u, 7, cutoff=0)
        found, _ = kept.decisions
        assert (found.name, found.value) == ("thinning", kept.thinned_from)
        share = found.numbers["share_of_neighbours"]
        assert (share > 3 / 8) == (p == 0.2)
        assert found.numbers == {
            "rows": 300,
            "size": 7,
            "share_of_neighbours": share,
            "clustered_above": 0.375,
            "least_picks": 300 * p,
        }
    found = select(graph, u, 70, cutoff=0).decisions[0]
    assert (found.value, found.numbers) == (None, {"rows": 300, "size": 70, "least_picks": 60})
