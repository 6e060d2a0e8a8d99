"""Greedy selection equals the plain loop, bit by bit, with every option."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from d2cli import build_graph, propagate, select
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import KnnGraph
from tests import naive
from tests.messages.test_messages import LINE
from tests.strategies import knn_graphs, scores


def test_selection_of_three_points_by_hand():
    """u = (3, 5, 4); weights are e^-γ on edge 0-1 and e^-4γ on edge 1-2 (σ = 1).

    With γ = 1, row 1 is picked first with gain 5. Then u_0 = 3 - 5/e = 1.16 and
    u_2 = 4 - 5/e⁴ = 3.91, so row 2 is next. Its only neighbour is already picked.
    """
    selection = select(LINE, [3.0, 5.0, 4.0], 3, gamma_reverse=1.0)
    assert selection.order.tolist() == [1, 2, 0]
    expected = [5, 4 - 5 * math.exp(-4), 3 - 5 * math.exp(-1)]
    np.testing.assert_allclose(selection.gains, expected, rtol=1e-15)
    assert selection.ran_out_at is None


def assert_invariants(selection, n, size, excluded=None, include=None):
    assert selection.order.shape == selection.gains.shape == (size,)
    assert selection.order.dtype == np.int64
    assert selection.gains.dtype == np.float64
    assert len(set(selection.order.tolist())) == size
    assert selection.order.min() >= 0
    assert selection.order.max() < n
    if excluded is not None:
        assert not excluded[selection.order].any()
    if include is not None:
        assert set(np.flatnonzero(include)) == set(selection.order[: include.sum()].tolist())
        assert selection.included == include.sum()
    spent = np.flatnonzero(selection.gains[selection.included :] <= 0)
    first = selection.included + int(spent[0]) if spent.size else None
    assert selection.ran_out_at == first


@given(
    knn_graphs(),
    st.sampled_from(["union", "directed", "mutual"]),
    st.sampled_from(["gaussian", "exponential"]),
    st.sampled_from([0.0, 0.05, 0.7, 3.0]),
    st.booleans(),
    st.sampled_from(["none", "proportional", "uniform"]),
    st.data(),
)
@settings(max_examples=400)
def test_selection_equals_the_plain_loop(graph, edges, kernel, gamma, clamped, balance, data):
    neighbors, distances = graph
    n = len(neighbors)
    u = data.draw(scores(n, negative=True))
    rules = data.draw(st.none() | st.lists(st.sampled_from("iddfff"), min_size=n, max_size=n))
    include = None if rules is None else np.array([r == "i" for r in rules])
    excluded = None if rules is None else np.array([r == "d" for r in rules])
    most = n if excluded is None else n - int(excluded.sum())
    least = 1 if include is None else max(1, int(include.sum()))
    assume(most >= least)
    size = data.draw(st.integers(least, most))
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)))
    before = u.copy()
    selection = select(
        KnnGraph(neighbors, distances), u, size, edges=edges, kernel=kernel,
        gamma_reverse=gamma, clamped=clamped, labels=labels, balance=balance,
        include=include, exclude=excluded,
    )  # fmt: skip
    np.testing.assert_array_equal(u, before)
    assert_invariants(selection, n, size, excluded, include)
    classes = quotas = None
    if balance != "none":
        _, classes = np.unique(labels, return_inverse=True)
        part = np.ones(n, bool) if excluded is None else ~excluded
        chosen = np.zeros(n, bool) if include is None else include
        share = naive.proportional_quotas if balance == "proportional" else naive.uniform_quotas
        available, included = (
            np.bincount(classes[m], minlength=classes.max() + 1).tolist() for m in (part, chosen)
        )
        quotas = naive.quotas_with(included, share, available, size)
    order, gains = naive.greedy(
        naive.edges(neighbors, distances, edges, excluded), u, size, kernel,
        naive.bandwidth(distances), gamma, clamped, include, excluded, classes, quotas,
    )  # fmt: skip
    assert selection.order.tolist() == order.tolist()
    assert selection.gains.tobytes() == gains.tobytes()


@given(knn_graphs(), st.sampled_from([0.05, 1.0]), st.booleans(), st.data())
def test_budgets_nest(graph, gamma, clamped, data):
    n = len(graph[0])
    u = data.draw(scores(n, negative=True))
    size = data.draw(st.integers(1, n))
    options = {"gamma_reverse": gamma, "clamped": clamped}
    whole = select(KnnGraph(*graph), u, n, **options)
    part = select(KnnGraph(*graph), u, size, **options)
    assert whole.order[:size].tolist() == part.order.tolist()
    assert whole.gains[:size].tolist() == part.gains.tolist()


@given(knn_graphs(), st.data())
def test_clamped_gains_never_rise(graph, data):
    u = data.draw(scores(len(graph[0])))
    gains = select(KnnGraph(*graph), u, len(u), gamma_reverse=0.5).gains
    assert (np.diff(gains) <= 0).all()


def test_automatic_gamma_with_mostly_zero_scores():
    """90 % of the scores are zero: no row without a score is kept, and not the highest ones."""
    rng = np.random.default_rng(3)
    graph = build_graph(rng.normal(size=(400, 2)).astype("f4"), 6)
    u = np.where(rng.random(400) < 0.1, 1.0 + rng.random(400), 0.0)
    kept = select(graph, u, 20)
    assert 20 < kept.thinned_from <= np.count_nonzero(u)
    assert kept.ran_out_at is None
    assert (u[kept.order] > 0).all()
    assert kept.lift.reached >= kept.lift.least == pytest.approx(1 - (1 - 20 / 400) ** 2 / 2)
    highest = np.argsort(-u, kind="stable")[:20]
    assert len({*kept.order.tolist()} - {*highest.tolist()}) > 2


def test_selection_on_a_larger_graph_equals_the_plain_loop():
    """600 rows with many ties: rows move through several buckets."""
    rng = np.random.default_rng(0)
    graph = build_graph(rng.normal(size=(600, 2)).astype("f4"), 8)
    u = propagate(graph, np.round(rng.exponential(size=600), 1))
    plain = naive.edges(graph.neighbors, graph.distances, "union")
    sigma = naive.bandwidth(graph.distances)
    for gamma in (0.1, 1.0):
        for clamped in (True, False):
            selection = select(graph, u, 300, gamma_reverse=gamma, clamped=clamped)
            order, gains = naive.greedy(plain, u, 300, "gaussian", sigma, gamma, clamped)
            assert selection.order.tolist() == order.tolist()
            assert selection.gains.tobytes() == gains.tobytes()


@given(knn_graphs(), st.data())
def test_selection_with_scores_across_many_octaves(graph, data):
    n = len(graph[0])
    powers = data.draw(st.lists(st.integers(-1070, 1000), min_size=n, max_size=n))
    u = np.array([2.0**p for p in powers])
    selection = select(KnnGraph(*graph), u, n, gamma_reverse=0.5)
    plain = naive.edges(*graph, "union")
    sigma = naive.bandwidth(graph[1])
    order, _ = naive.greedy(plain, u, n, "gaussian", sigma, 0.5, True)
    assert selection.order.tolist() == order.tolist()


def test_rows_excluded_from_the_graph_are_not_picked():
    values = np.arange(12, dtype="f4").reshape(6, 2)
    excluded = np.array([False, True, False, False, True, False])
    graph = build_graph(values, 2, exclude=excluded)
    kept = select(graph, np.ones(6), 4).order
    assert sorted(kept.tolist()) == [0, 2, 3, 5]
    with pytest.raises(UsageError, match="more than the 4 rows"):
        select(graph, np.ones(6), 5)


@pytest.mark.parametrize(
    ("size", "options", "message"),
    [
        (0, {}, "at least 1"),
        (-1, {}, "at least 1"),
        (4, {}, "more than the 3 rows"),
        (4, {"balance": "uniform", "labels": [0, 0, 1]}, "more than the 3 rows"),
        (1, {"gamma_reverse": -1.0}, "gamma_reverse"),
        (1, {"gamma_reverse": math.nan}, "gamma_reverse"),
        (1, {"gamma_reverse": None}, "'auto' or a number"),
        (1, {"clamped": False}, "needs clamped"),
        (1, {"kernel": "linear"}, "kernel"),
        (1, {"balance": "equal"}, "balance must be one of"),
        (1, {"balance": "uniform"}, "needs labels"),
        (1, {"include": np.array([True, True, False])}, "no room for 2 included"),
        (
            1,
            {"include": np.array([1, 1, 0], bool), "balance": "uniform", "labels": [0, 1, 1]},
            "no room for 2 included",
        ),
    ],
)
def test_select_refuses_bad_options(size, options, message):
    with pytest.raises(UsageError, match=message):
        select(LINE, [1.0, 2.0, 3.0], size, **options)


@pytest.mark.parametrize(
    ("u", "options", "message"),
    [
        ([1.0, 2.0], {}, "one number for each"),
        ([1.0, math.inf, 2.0], {}, "score is inf"),
        ([1.0, 2.0, 3.0], {"labels": [1], "balance": "uniform"}, "labels must be"),
        ([1.0, 2.0, 3.0], {"include": np.ones(2, bool)}, "include must be"),
        ([1.0, 2.0, 3.0], {"exclude": np.ones(3)}, "exclude must be"),
        (
            [1.0, 2.0, 3.0],
            {"include": np.array([1, 0, 0], bool), "exclude": np.array([1, 0, 0], bool)},
            "both included and excluded",
        ),
    ],
)
def test_select_refuses_bad_data(u, options, message):
    with pytest.raises(DataError, match=message):
        select(LINE, u, 1, **options)


def test_decisions_of_select_are_in_order():
    rng = np.random.default_rng(3)
    graph = build_graph(rng.normal(size=(200, 2)).astype("f4"), 6)
    scores = rng.exponential(size=200)
    for size, names in (
        (200, ["cutoff", "keep_lift", "gamma_reverse"]),
        (2, ["cutoff", "keep_lift", "thinning", "gamma_reverse"]),
    ):
        found = select(graph, scores, size, difficulty=scores).decisions
        assert [d.name for d in found] == names
    given = {"gamma_reverse": 1.0, "cutoff": 0.1}
    assert select(graph, scores, 20, difficulty=scores, **given).decisions == ()
