"""Small budgets are spent by thinning larger ones."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli import build_graph, propagate, select
from d2cli.budgets import class_quotas
from d2cli.sampling import Rules, Selection
from d2cli.thinning import SPREAD, thinned, widened
from tests import naive_cutoff


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(8)
    graph = build_graph(rng.normal(size=(300, 4)).astype("f4"), 5)
    return graph, propagate(graph, rng.exponential(size=300)), rng.integers(0, 3, 300)


def test_a_small_budget_is_every_so_many_th_pick_of_a_larger(problem):
    graph, u, _ = problem
    wide = select(graph, u, 60, cutoff=0)  # SPREAD of 300
    assert wide.thinned_from is None
    for size in (1, 2, 7, 45, 59):
        kept = select(graph, u, size, cutoff=0)
        assert kept.thinned_from == 60
        assert kept.order.tolist() == naive_cutoff.evenly(wide.order.tolist(), size)
        assert kept.gains.tolist() == naive_cutoff.evenly(wide.gains.tolist(), size)
        assert (np.diff(kept.gains) <= 0).all()
        assert kept.gamma_reverse == wide.gamma_reverse


def test_a_number_for_gamma_thins_nothing(problem):
    graph, u, _ = problem
    kept = select(graph, u, 10, gamma_reverse=0.5)
    assert kept.thinned_from is None
    assert kept.order.tolist() == select(graph, u, 60, gamma_reverse=0.5).order[:10].tolist()


def test_included_rows_are_never_thinned_out(problem):
    graph, u, _ = problem
    include = np.zeros(300, bool)
    include[5:25] = True
    kept = select(graph, u, 30, include=include, cutoff=0)
    assert kept.included == 20
    assert set(kept.order[:20]) == set(range(5, 25))
    wide = select(graph, u, 20 + 56, include=include, cutoff=0)  # SPREAD of the 280 others
    assert kept.thinned_from == 76
    assert kept.order[20:].tolist() == naive_cutoff.evenly(wide.order[20:].tolist(), 10)
    assert select(graph, u, 20, include=include, cutoff=0).thinned_from is None


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    st.sampled_from(["proportional", "uniform"]),
    st.booleans(),
    st.data(),
)
@settings(max_examples=200)
def test_classes_keep_their_shares(counts, balance, some_included, data):
    """Quotas only grow, stay within their class, and thinning brings each back to its own."""
    classes = np.repeat(np.arange(len(counts)), counts)
    n = classes.size
    include = np.zeros(n, bool)
    if some_included:
        include[data.draw(st.lists(st.integers(0, n - 1), max_size=n // 2))] = True
    chosen = np.bincount(classes[include], minlength=len(counts))
    size = data.draw(st.integers(max(1, int(include.sum())), n))
    quotas = class_quotas(np.array(counts), size, balance, chosen)
    rules = Rules(include, None, classes, quotas)
    wide, wider = widened(size, rules, n)
    assert wide >= size
    assert int(wider.quotas.sum()) == wide
    assert (wider.quotas >= quotas).all()
    assert (wider.quotas <= counts).all()
    rest = np.concatenate(
        [np.flatnonzero(~include & (classes == c))[: q - i] for c, (q, i) in
         enumerate(zip(wider.quotas, chosen, strict=True))]
    )  # fmt: skip
    order = np.concatenate([np.flatnonzero(include), np.random.default_rng(0).permutation(rest)])
    whole = Selection(order, -np.arange(wide) / 1.0, 1.0, int(include.sum()), wide - 1)
    kept = thinned(whole, size, rules)
    assert kept.order.size == kept.gains.size == size
    assert np.bincount(classes[kept.order], minlength=len(counts)).tolist() == quotas.tolist()
    assert include[kept.order[: include.sum()]].all()
    for c in range(len(counts)):
        of_class = [i for i in order[include.sum() :].tolist() if classes[i] == c]
        mine = [i for i in kept.order[include.sum() :].tolist() if classes[i] == c]
        assert mine == naive_cutoff.evenly(of_class, quotas[c] - chosen[c])


def test_balanced_classes_through_select(problem):
    graph, u, labels = problem
    for balance in ("proportional", "uniform"):
        kept = select(graph, u, 12, labels=labels, balance=balance)
        assert kept.order.size == len({*kept.order.tolist()}) == 12
        assert kept.thinned_from is not None
    assert np.bincount(labels[kept.order]).tolist() == [4, 4, 4]


def test_where_the_messages_ran_out_is_counted_in_what_is_kept():
    order = np.arange(10)
    for ran_out, expected in ((0, 0), (3, 2), (9, None), (None, None)):
        whole = Selection(order, np.zeros(10), 100.0, 0, ran_out)
        assert thinned(whole, 5, Rules()).ran_out_at == expected


def test_one_row():
    graph = build_graph(np.zeros((1, 2), "f4"), 1)
    assert select(graph, np.ones(1), 1).order.tolist() == [0]


def test_spread():
    assert widened(1, Rules(), 100)[0] == math.ceil(SPREAD * 100) == 20
    drop = np.arange(100) < 92
    assert widened(1, Rules(drop=drop), 100)[0] == 2
    assert widened(20, Rules(), 100)[0] == 20
