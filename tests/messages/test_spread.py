"""Missing scores against plain loops and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli import build_graph, propagate, spread_scores
from d2cli.engine.store import PartStore
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages import by_rows
from d2cli.messages import parts as parts_module
from d2cli.messages import spread as module
from d2cli.messages.edges import edges_of
from d2cli.messages.parts import stored_edges
from tests import naive, naive_spread
from tests.messages.test_messages import LINE
from tests.strategies import knn_graphs, masks, scores

NAN = math.nan


@pytest.mark.filterwarnings("ignore:overflow encountered")  # without the JIT, at σ = 1e-300
@given(
    knn_graphs(),
    st.sampled_from(["union", "directed", "mutual"]),
    st.sampled_from(["gaussian", "exponential"]),
    st.sampled_from(["median", 1.0, 0.01, 1e-300]),
    st.sampled_from([0.0, 0.5, 4.0]),
    st.sampled_from([1, 3, 20]),
    st.data(),
)
def test_spread_equals_the_plain_loop(graph, rule, kernel, bandwidth, gamma, rounds, data):
    """In memory, in parts, and with several threads."""
    neighbors, distances = graph
    n = len(neighbors)
    given_scores = data.draw(scores(n, negative=True))
    missing, excluded = data.draw(masks(n)), data.draw(masks(n)) & data.draw(masks(n))
    values = np.where(missing | excluded, NAN, given_scores)
    before = values.copy()
    sigma = naive.bandwidth(distances) if bandwidth == "median" else bandwidth
    plain = naive.edges(neighbors, distances, rule, excluded)
    at = np.where(excluded, 0.0, given_scores)
    expected, done = naive_spread.spread(
        plain, at, missing & ~excluded, kernel, sigma, gamma, rounds
    )
    options = {"kernel": kernel, "bandwidth": sigma, "gamma_forward": gamma, "exclude": excluded}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "SPREAD_ROUNDS", rounds)
        patch.setattr(by_rows, "BLOCK_ROWS", 3)
        patch.setattr(parts_module, "PART_EDGES", 20)
        lists = KnnGraph(neighbors, distances)
        parts = stored_edges(lists, rule, excluded, PartStore())
        for one, threads in ((lists, 1), (lists, 3), (parts, 1)):
            if expected is None:
                with pytest.raises(DataError, match="no way along the graph"):
                    spread_scores(one, values, edges=rule, threads=threads, **options)
                continue
            found = spread_scores(one, values, edges=rule, threads=threads, **options)
            assert found.tobytes() == np.array(expected).tobytes()
        if expected is not None:
            numbers = module.spread(
                parts, at, missing & ~excluded, kernel_name=kernel, sigma=sigma, gamma=gamma
            ).decision.numbers
            counts = {"rows": n, "missing": int((missing & ~excluded).sum()), "rounds": done}
            assert numbers == {**counts, "gamma_forward": gamma}
    np.testing.assert_array_equal(values, before)
    if expected is None:
        return
    known = given_scores[~missing & ~excluded]
    filled = found[missing & ~excluded]
    assert found[~missing & ~excluded].tobytes() == known.tobytes()
    if filled.size:
        assert known.min() <= filled.min()
        assert filled.max() <= known.max()


def test_spread_of_three_points_by_hand():
    """Row 1 is between row 0 (weight e^-1) and row 2 (weight e^-4)."""
    near, far = math.exp(-1), math.exp(-4)
    found = spread_scores(LINE, [1.0, NAN, 4.0], gamma_forward=1.0)
    np.testing.assert_allclose(found, [1, (near + 4 * far) / (near + far), 4], rtol=1e-15)
    # Row 2 is reached over row 1, which is reached in the first round.
    assert spread_scores(LINE, [3.0, NAN, NAN]).tolist() == [3, 3, 3]


def test_equal_scores_stay_equal():
    """So that ties go to the lowest row, as if all scores were known."""
    graph = build_graph(np.random.default_rng(0).normal(size=(300, 3)).astype("f4"), 6)
    values = np.where(np.arange(300) % 7 == 0, 0.3, NAN)
    assert set(spread_scores(graph, values).tolist()) == {0.3}


def test_weights_that_underflow_leave_the_nearest_neighbour():
    """At σ = 1e-3 each weight is 0 in float64; the nearer of the two neighbours counts alone."""
    found = spread_scores(LINE, [1.0, NAN, 4.0], bandwidth=1e-3)
    assert found.tolist() == [1.0, 1.0, 4.0]


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # NumPy warns with the JIT off
def test_sums_beyond_float64_stay_in_range():
    star = KnnGraph(np.array([[1], [0], [0], [0]], np.int32), np.ones((4, 1), np.float32))
    found = spread_scores(star, [NAN, 1.5e308, 1.6e308, 1.7e308])
    assert 1.5e308 <= found[0] <= 1.7e308


def test_far_rows_are_reached_in_further_rounds():
    """A chain of 50 rows whose first has a score; later rounds leave earlier values alone."""
    n = 50
    neighbors = np.stack([np.arange(n) - 1, np.arange(n) + 1], axis=1)
    neighbors[0], neighbors[-1] = [1, -1], [n - 2, -1]
    distances = np.where(neighbors < 0, np.inf, 1.0).astype("f4")
    graph = KnnGraph(neighbors.astype(np.int32), distances)
    values = np.full(n, NAN)
    values[0] = 2.0
    assert spread_scores(graph, values).tolist() == [2.0] * n
    missing = np.isnan(values)
    found = module.spread(
        edges_of(graph), values, missing, kernel_name="gaussian", sigma=1.0, gamma=4.0
    )
    assert found.decision.numbers["rounds"] == n - 1


def test_many_rounds_come_close_to_the_harmonic_function(monkeypatch):
    """Each missing value is then the weighted mean of all its neighbours."""
    monkeypatch.setattr(module, "SPREAD_ROUNDS", 200)
    rng = np.random.default_rng(2)
    graph = build_graph(rng.normal(size=(400, 2)).astype("f4"), 8)
    truth = rng.random(400)
    known = rng.random(400) < 0.3
    found = spread_scores(graph, np.where(known, truth, NAN), bandwidth=1.0, gamma_forward=0.5)
    edges = naive.edges(graph.neighbors, graph.distances, "union")
    means = [
        naive_spread.mean(edges[i], found.tolist(), "gaussian", 1.0, 0.5, None) for i in range(400)
    ]
    assert np.abs(found - means)[~known].max() < 1e-9


def test_rows_without_a_way_to_a_score_are_counted():
    pairs = KnnGraph(np.array([[1], [0], [3], [2], [5], [4]], "i4"), np.ones((6, 1), "f4"))
    with pytest.raises(DataError) as caught:
        spread_scores(pairs, [1.0, NAN, NAN, NAN, NAN, NAN])
    assert "for 4 of the 5 rows without score" in caught.value.message
    assert (caught.value.argument, caught.value.row) == ("scores", 2)
    assert "-k" in caught.value.hint
    with pytest.raises(DataError, match="for 6 of the 6"):
        spread_scores(pairs, [NAN] * 6)


def test_excluded_rows_need_no_score():
    """Also those that the graph excludes."""
    neighbors, distances = np.array([[1], [0], [-1], [-1]], "i4"), np.ones((4, 1), "f4")
    distances[2:] = np.inf
    graph = KnnGraph(neighbors, distances, np.array([False, False, True, False]))
    exclude = np.array([False, False, False, True])
    assert spread_scores(graph, [1.0, NAN, NAN, NAN], exclude=exclude).tolist() == [1, 1, 0, 0]


def test_no_missing_score_changes_nothing():
    values = np.array([1.0, -2.0, 4.0])
    found = spread_scores(LINE, values)
    assert found.tolist() == values.tolist()
    assert found is not values


def test_filled_scores_can_be_propagated():
    found = propagate(LINE, spread_scores(LINE, [3.0, NAN, NAN]))
    assert found.tolist() == propagate(LINE, [3.0, 3.0, 3.0]).tolist()


@pytest.mark.parametrize(
    ("values", "options", "error", "message"),
    [
        ([1.0, math.inf, 2.0], {}, DataError, "score is inf"),
        ([1.0, NAN], {}, DataError, "one number for each"),
        ([1.0, NAN, 1.0], {"gamma_forward": -1.0}, UsageError, "gamma_forward"),
        ([1.0, NAN, 1.0], {"kernel": "linear"}, UsageError, "kernel"),
    ],
)
def test_bad_scores_and_options_are_refused(values, options, error, message):
    with pytest.raises(error, match=message):
        spread_scores(LINE, values, **options)
