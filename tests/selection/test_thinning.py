"""Thinning: evenly spaced picks of a larger selection."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli import build_graph, prepare_edges, propagate, select
from d2cli.selection.budgets import class_quotas
from d2cli.selection.gamma.search import GAMMA_LOW
from d2cli.selection.greedy import Rules, Selection
from d2cli.selection.thinning import thinned, widened
from tests import naive_cutoff


@pytest.fixture(scope="module")
def problem():
    """(graph, propagated scores, labels) of 300 rows."""
    rng = np.random.default_rng(8)
    graph = build_graph(rng.normal(size=(300, 4)).astype("f4"), 5)
    return graph, propagate(graph, rng.exponential(size=300)), rng.integers(0, 3, 300)


@pytest.mark.parametrize("size", [1, 2, 7, 12])
def test_small_budget_keeps_evenly_spaced_picks(problem, size):
    graph, u, _ = problem
    kept = select(graph, u, size)
    assert kept.thinned_from > size
    assert (kept.gamma_reverse, kept.at_bound) == (GAMMA_LOW, "low")
    wide = select(graph, u, kept.thinned_from, gamma_reverse=GAMMA_LOW)
    assert wide.ran_out_at is None
    assert kept.order.tolist() == naive_cutoff.evenly(wide.order.tolist(), size)
    assert kept.gains.tolist() == naive_cutoff.evenly(wide.gains.tolist(), size)
    assert (np.diff(kept.gains) <= 0).all()
    assert kept.lift.reached >= kept.lift.least


def test_larger_budgets_are_not_thinned(problem):
    graph, u, _ = problem
    kept = select(graph, u, 100)
    assert (kept.thinned_from, kept.at_bound) == (None, None)
    assert [d.name for d in kept.decisions] == ["keep_lift", "gamma_reverse"]


@pytest.mark.parametrize("options", [{"gamma_reverse": GAMMA_LOW}, {"keep_lift": 0.01}], ids=str)
def test_given_gamma_or_lift_disables_thinning(problem, options):
    graph, u, _ = problem
    kept = select(graph, u, 7, **options)
    assert (kept.thinned_from, kept.gamma_reverse) == (None, GAMMA_LOW)
    assert kept.order.tolist() == select(graph, u, 60, gamma_reverse=GAMMA_LOW).order[:7].tolist()


def test_thinning_keeps_included_rows(problem):
    graph, u, _ = problem
    include = np.zeros(300, bool)
    include[5:25] = True
    kept = select(graph, u, 24, include=include)
    assert kept.included == 20
    assert set(kept.order[:20]) == set(range(5, 25))
    wide = select(graph, u, kept.thinned_from, include=include, gamma_reverse=GAMMA_LOW)
    assert kept.order[:20].tolist() == wide.order[:20].tolist()
    assert kept.order[20:].tolist() == naive_cutoff.evenly(wide.order[20:].tolist(), 4)
    assert select(graph, u, 20, include=include).thinned_from is None


def test_messages_of_a_thinned_selection_have_not_run_out():
    """Only 12 of 200 rows have a score: of 2 picks, a wide selection has at most 12."""
    graph = build_graph(np.random.default_rng(0).normal(size=(200, 3)).astype("f4"), 5)
    u = np.zeros(200)
    u[::17] = 1.0
    kept = select(graph, u, 2)
    assert 2 < kept.thinned_from <= 12
    assert kept.ran_out_at is None
    tried = kept.decisions[1].numbers["tried"]
    refused = [one for one in tried if not one["kept"] and one["picks"] <= 14]
    assert refused[-1]["lift"] == 1.0  # the lift is kept, but the last pick has no score


def test_a_budget_of_all_scores_above_0_is_not_thinned():
    graph = build_graph(np.arange(9, dtype="f4")[:, None], 1)
    u = np.r_[5.0, np.zeros(8)]
    kept = select(graph, u, 1)
    assert (kept.order.tolist(), kept.thinned_from, kept.at_bound) == ([0], None, "low")
    assert kept.decisions[1].value is None


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    st.sampled_from(["none", "proportional", "uniform"]),
    st.booleans(),
    st.data(),
)
@settings(max_examples=200)
def test_thinning_restores_the_quotas_of_classes(counts, balance, some_included, data):
    """Widened quotas never shrink and fit their classes; thinning returns to the original ones."""
    counts = counts if balance != "none" else [sum(counts)]
    classes = np.repeat(np.arange(len(counts)), counts)
    n = classes.size
    include = np.zeros(n, bool)
    if some_included:
        include[data.draw(st.lists(st.integers(0, n - 1), max_size=n // 2))] = True
    chosen = np.bincount(classes[include], minlength=len(counts))
    first = int(include.sum())
    if first == n:
        return
    size = data.draw(st.integers(first + 1, n))
    asked = data.draw(st.integers(size - first, n - first))
    rules, quotas = Rules(include, np.zeros(n, bool)), np.array([size])
    if balance != "none":
        quotas = class_quotas(np.array(counts), size, balance, chosen)
        rules = Rules(include, np.zeros(n, bool), classes, quotas)
    wide, wider = widened(size, asked, rules)
    expected = [
        i + min(-(-(q - i) * asked // (size - first)), c - i)
        for c, q, i in zip(counts, quotas, chosen, strict=True)
    ]
    assert wide == sum(expected) >= size
    assert (wider.quotas is None) == (balance == "none")
    assert balance == "none" or wider.quotas.tolist() == expected
    rest = np.concatenate(
        [np.flatnonzero(~include & (classes == c))[: q - i] for c, (q, i) in
         enumerate(zip(expected, chosen, strict=True))]
    )  # fmt: skip
    order = np.concatenate([np.flatnonzero(include), np.random.default_rng(0).permutation(rest)])
    whole = Selection(order, -np.arange(wide) / 1.0, 1.0, first)
    kept = thinned(whole, size, rules)
    assert kept.order.size == kept.gains.size == size
    assert kept.thinned_from == (wide if wide > size else None)
    assert np.bincount(classes[kept.order], minlength=len(counts)).tolist() == quotas.tolist()
    assert include[kept.order[:first]].all()
    for c in range(len(counts)):
        of_class = [i for i in order[first:].tolist() if classes[i] == c]
        mine = [i for i in kept.order[first:].tolist() if classes[i] == c]
        assert mine == naive_cutoff.evenly(of_class, quotas[c] - chosen[c])


def test_select_thins_each_class_of_a_balance(problem):
    graph, u, labels = problem
    for balance in ("proportional", "uniform"):
        kept = select(graph, u, 12, labels=labels, balance=balance)
        assert kept.order.size == len({*kept.order.tolist()}) == 12
        assert kept.thinned_from > 12
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


def test_cut_rows_do_not_count(problem):
    """Selections are the same whether cut rows are still in the graph or not."""
    graph, u, _ = problem
    cut = select(graph, u, 12, difficulty=u, cutoff=0.08)
    gone = np.zeros(300, bool)
    gone[np.argsort(-u, kind="stable")[:24]] = True
    sigma = prepare_edges(graph)[1]
    left = prepare_edges(graph, drop=gone, bandwidth=sigma)[0]
    without = select(left, u, 12, exclude=gone, bandwidth=sigma)
    assert cut.cut == 24
    assert cut.thinned_from == without.thinned_from > 12
    assert cut.order.tolist() == without.order.tolist()


def test_thinning_decision_holds_the_numbers_of_the_rule(problem):
    """The size is kept, and the next one is not."""
    graph, u, _ = problem
    kept = select(graph, u, 7)
    _, found, _ = kept.decisions
    assert (found.name, found.value) == ("thinning", kept.thinned_from)
    sizes = {one["picks"]: one for one in found.numbers["tried"]}
    accepted = [picks for picks, one in sizes.items() if one["kept"]]
    assert max(accepted) == kept.thinned_from
    beyond = min(picks for picks, one in sizes.items() if not one["kept"])
    assert kept.thinned_from < beyond <= 1.01 * kept.thinned_from + 1
    for picks, one in sizes.items():
        wide = select(graph, u, picks, gamma_reverse=GAMMA_LOW)
        above = wide.ran_out_at is None
        assert one["kept"] == (above and one["lift"] >= kept.lift.least)
