"""Exact search of rows that one screen cannot tell apart: bounds, balls, and whole searches."""

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from d2cli import build_graph
from d2cli.graph.exact import balls, search
from d2cli.graph.exact.screen import Screen
from d2cli.graph.exact.search import exact_neighbors, exact_neighbors_of
from d2cli.graph.recall import Truth
from d2cli.graph.vectors import Group
from tests import naive


@st.composite
def uneven(draw, most=60):
    """(n, d) in clusters far apart: some a thousand or a million times tighter than others.

    With copies; float32 and float64; around the origin, far from it, or with one outlier.
    """
    seed, d = draw(st.integers(0, 2**32 - 1)), draw(st.integers(1, 6))
    scales = draw(st.lists(st.sampled_from([1.0, 1e-3, 1e-6, 0.0]), min_size=1, max_size=4))
    rng, n = np.random.default_rng(seed), draw(st.integers(2, most))
    clusters = rng.integers(0, len(scales), n)
    values = 10 * rng.normal(size=(len(scales), d))[clusters]
    values += np.array(scales)[clusters, None] * rng.normal(size=(n, d))
    if draw(st.booleans()):
        values = np.round(values, 1)  # ties
    place = draw(st.sampled_from(["centred", "far", "outlier"]))
    if place == "far":
        values += 1e4
    elif place == "outlier":
        values[rng.integers(n)] = 1e8
    return values.astype(draw(st.sampled_from([np.float32, np.float64])))


@pytest.fixture(params=[(0, 0, 4), (8, 0, 4), (0, 0, 0), (512, 4, 4)], ids=str)
def small_sizes(request, monkeypatch):
    """Sizes at which few rows take every path: balls within balls, brute force, blocks of pairs."""
    members, served, depth = request.param
    for name, value in (
        ("FEW_MEMBERS", members), ("FEW_SERVED", served), ("DEPTH", depth), ("FEW_ROWS", 20),
        ("PAIR_ROWS", 16), ("QUERIES", 16), ("SPARE", 1),
    ):  # fmt: skip
        monkeypatch.setattr(search, name, value)
    monkeypatch.setattr(balls, "BALLS", 2)
    monkeypatch.setattr(balls, "SERVED_TOGETHER", 7)
    monkeypatch.setattr(balls, "LIGHT_PAIRS", 50)


@pytest.mark.usefixtures("small_sizes")
@given(uneven(), st.integers(1, 12), st.integers(1, 3))
def test_exact_neighbors_equals_the_naive_loop(values, k, threads):
    neighbors, distances = exact_neighbors(Group(values), k, threads=threads)
    expected = naive.knn(values, k)
    np.testing.assert_array_equal(neighbors, expected[0])
    np.testing.assert_array_equal(distances, expected[1])


@pytest.mark.usefixtures("small_sizes")
@given(uneven(), st.integers(1, 12), st.integers(0, 1000))
def test_exact_neighbors_of_some_rows_equal_the_naive_loop(values, k, seed):
    """In a group that holds only some of the rows that are searched for."""
    rng, n = np.random.default_rng(seed), len(values)
    inside = np.flatnonzero(rng.random(n) < 0.7)
    assume(inside.size)
    rows = np.sort(rng.permutation(n)[: n // 2 + 1])
    neighbors, distances = exact_neighbors_of(rows, Group(values, inside), k)
    for r, i in enumerate(rows):
        some = np.union1d(inside, [i])
        lists = naive.knn(values[some], k)
        mine = np.searchsorted(some, i)
        listed = np.where(lists[0][mine] < 0, -1, some[lists[0][mine]])
        np.testing.assert_array_equal(neighbors[r], listed)
        np.testing.assert_array_equal(distances[r], lists[1][mine])


@given(uneven(), st.integers(1, 8))
def test_screen_bounds_the_distance_of_every_row_that_it_drops(values, width):
    width, rows = min(width, len(values)), np.arange(len(values))
    candidates, missed_from = Screen(Group(values), 1).candidates(rows, width)
    apart = np.linalg.norm(values.astype("f8")[:, None] - values.astype("f8"), axis=2)
    for r in rows:
        dropped = np.setdiff1d(rows, candidates[r])
        assert (apart[r, dropped].astype("f4") >= missed_from[r]).all()


@given(uneven(), st.integers(0, 1000), st.floats(0, 2))
def test_members_of_a_ball_are_all_rows_within_its_radius(values, seed, factor):
    """At radii that equal a distance, too."""
    screen, rng = Screen(Group(values), 1), np.random.default_rng(seed)
    centres = rng.permutation(len(values))[:5]
    apart = np.linalg.norm(values.astype("f8")[centres, None] - values.astype("f8"), axis=2)
    radii = apart[:, rng.integers(len(values))] * rng.choice([1.0, factor], len(centres))
    marks = balls._members(screen, values[centres], radii, 1)
    for b in range(len(centres)):
        assert set(np.flatnonzero(apart[b] <= radii[b])) <= set(np.flatnonzero(marks >> b & 1))


@given(uneven(), st.integers(1, 70), st.integers(0, 1000))
@example(np.arange(40, dtype="f4")[:, None] + np.zeros(20, "f4"), 3, 0)
def test_balls_cover_as_the_naive_loop(values, most, seed):
    rng = np.random.default_rng(seed)
    needed = rng.exponential(size=len(values)) * 10.0 ** rng.integers(-6, 1, len(values))
    radii = needed * (1 + 3 * rng.random(len(values)))
    centres, ball = np.full(most, -1), np.full(len(values), -1)
    count = balls._cover(values, needed, radii, centres, ball)
    expected = naive.cover(values.astype("f8"), needed, radii, most)
    assert (centres[:count].tolist(), ball.tolist()) == expected


def test_rows_of_tight_clusters_are_compared_with_few_rows(monkeypatch):
    """Of 3,000 rows in 10 clusters, each is compared with its own cluster at most."""
    rng, compared, real = np.random.default_rng(5), [], search.nearest_of_all
    values = (rng.normal(size=(10, 8))[np.arange(3000) % 10]).astype("f4")
    values += 1e-5 * rng.normal(size=values.shape).astype("f4")
    monkeypatch.setattr(
        search, "nearest_of_all", lambda r, g, k: compared.append((r.size, len(g))) or real(r, g, k)
    )
    truth = Truth.of(Group(values), 5, np.arange(0, 3000, 7), 1, lambda *_: None)
    assert sum(count for count, _ in compared) == len(truth.rows)  # none is proven by the screen
    assert max(members for _, members in compared) == 300
    graph = build_graph(values, 5, method="exact")
    np.testing.assert_array_equal(truth.neighbors, graph.neighbors[truth.rows])
    np.testing.assert_array_equal(truth.distances, graph.distances[truth.rows])
    apart = np.linalg.norm(values[7].astype("f8") - values[7::10].astype("f8"), axis=1)
    np.testing.assert_array_equal(graph.distances[7], np.sort(apart.astype("f4"))[1:6])
