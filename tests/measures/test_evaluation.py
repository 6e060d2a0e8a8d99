"""Measures of a selection: compared with plain loops, and their defining properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli import baselines
from d2cli.errors import DataError, UsageError
from d2cli.evaluation.balance import BinCounts, class_balance, rank_groups, score_balance
from d2cli.evaluation.coverage import Coverage, most_covering, nearest_selected, random_distances
from d2cli.evaluation.redundancy import (
    Redundancy,
    nearest_other,
    random_redundancy,
    redundancy_threshold,
)
from d2cli.evaluation.selections import (
    RANDOM_SEEDS,
    expected_shared,
    jaccard,
    random_rows,
    sample_rows,
    shared_rows,
    top_places,
)
from d2cli.graph.vectors import prepare
from tests import naive_evaluation as naive
from tests.strategies import embeddings


def selections(n):
    """Row numbers below n, at least one, in any order."""
    rows = st.lists(st.integers(0, n - 1), min_size=1, max_size=n, unique=True)
    return rows.map(lambda r: np.array(r, np.int64))


@st.composite
def selection_cases(draw, zeros=True):
    """(embeddings, selected)."""
    values = draw(embeddings(zeros=zeros))
    return values, draw(selections(len(values)))


# -- coverage and redundancy --------------------------------------------------------------------
@settings(max_examples=50)
@given(
    selection_cases(zeros=False), st.sampled_from(["euclidean", "cosine"]), st.sampled_from([1, 3])
)
def test_nearest_selected_equals_the_plain_loop(case, metric, threads):
    values, selected = case
    vectors = prepare(values, metric)
    distances, which = nearest_selected(values, selected, metric=metric, threads=threads)
    want, whose = naive.nearest_selected(vectors, set(selected.tolist()))
    assert distances.dtype == np.float32
    assert distances.tolist() == want.tolist()
    assert which.tolist() == whose.tolist()
    again = nearest_selected(vectors, selected, metric="euclidean")
    assert again[0].tolist() == want.tolist()
    found = Coverage.of(distances)
    assert found.mean == pytest.approx(float(np.mean(want, dtype=np.float64)))
    assert found.p95 == pytest.approx(naive.percentile(want, 0.95))
    assert found.max == want.max()


@settings(max_examples=50)
@given(selection_cases(), st.data())
def test_nearest_selected_of_some_rows_equals_that_of_all(case, data):
    values, selected = case
    rows = data.draw(selections(len(values)))
    every, whose = nearest_selected(values, selected, metric="euclidean")
    some, theirs = nearest_selected(values, selected, metric="euclidean", rows=rows)
    assert some.tolist() == every[rows].tolist()
    assert theirs.tolist() == whose[rows].tolist()


@settings(max_examples=50)
@given(selection_cases(), st.data())
def test_more_selected_rows_never_increase_distances(case, data):
    values, selected = case
    fewer = selected[: data.draw(st.integers(1, selected.size))]
    more, _ = nearest_selected(values, selected, metric="euclidean")
    less, _ = nearest_selected(values, fewer, metric="euclidean")
    assert (more <= less).all()


@settings(max_examples=50)
@given(selection_cases())
def test_nearest_other_equals_the_plain_loop(case):
    values, selected = case
    lengths = nearest_other(values, selected, metric="euclidean")
    want = naive.nearest_other(values, selected.tolist())
    assert lengths.tolist() == want.tolist()
    threshold = redundancy_threshold(values, metric="euclidean")
    whole = naive.nearest_other(values, range(len(values)))
    assert threshold == np.median(whole.astype(np.float64))
    found = Redundancy.of(lengths, threshold)
    assert found.share == sum(w <= threshold for w in want) / len(want)
    assert Redundancy.of(nearest_other(values, metric="euclidean"), threshold).share >= 0.5


@pytest.mark.parametrize(("threads", "scale"), [(1, 1.0), (2, 1e-20), (5, 1e20)])
def test_nearest_selected_in_several_blocks(threads, scale):
    """Several blocks of queries and of the base, duplicates, and values far from 1."""
    rng = np.random.default_rng(3)
    values = (rng.normal(size=(2600, 3)) * scale).astype(np.float32)
    values[1000:1030] = values[5]
    selected = np.flatnonzero(rng.random(2600) < 0.82)
    distances, which = nearest_selected(values, selected, metric="euclidean", threads=threads)
    rest = np.setdiff1d(np.arange(2600), selected)
    assert (which[selected] == selected).all()
    assert not distances[selected].any()
    for i in rest[::20]:
        gaps = values[selected].astype(np.float64) - values[i].astype(np.float64)
        lengths = np.sqrt((gaps**2).sum(axis=1)).astype(np.float32)
        assert distances[i] == lengths.min()
        assert which[i] == selected[np.argmin(lengths)]


def test_coverage_and_redundancy_by_hand():
    line = np.array([[0.0], [1.0], [2.0], [10.0], [13.0]], np.float32)
    distances, which = nearest_selected(line, np.array([3, 1]), metric="euclidean")
    assert distances.tolist() == [1, 0, 1, 0, 3]
    assert which.tolist() == [1, 1, 1, 3, 3]
    assert Coverage.of(distances) == Coverage(1.0, pytest.approx(2.6), 3.0)
    # Nearest others in the full set: 1, 1, 1, 3, 3; in the selection: 9, 9.
    threshold = redundancy_threshold(line, metric="euclidean")
    assert threshold == 1.0
    lengths = nearest_other(line, np.array([3, 1]), metric="euclidean")
    assert Redundancy.of(lengths, threshold) == Redundancy(9.0, 0.0, 1.0)
    alone = Redundancy.of(nearest_other(line, np.array([2]), metric="euclidean"), threshold)
    assert alone == Redundancy(np.inf, 0.0, 1.0)


def test_random_selections_are_reproducible():
    values = np.random.default_rng(0).normal(size=(200, 4))

    def random_coverage(**options):
        found = random_distances(values, 20, metric="euclidean", **options)
        return [Coverage.of(distances) for distances in found]

    found = random_coverage(threads=1)
    assert len(set(found)) == 5
    assert found == random_coverage(threads=4)
    drawn = random_rows(200, 20, seed=3)
    assert np.unique(drawn).size == 20
    distances, _ = nearest_selected(values, drawn, metric="euclidean")
    assert found[3] == Coverage.of(distances)
    rows = np.arange(0, 200, 7)
    assert random_coverage(rows=rows)[3] == Coverage.of(distances[rows])
    many = random_redundancy(values, 20, 0.5, metric="euclidean")
    assert many[3] == Redundancy.of(nearest_other(values, drawn, metric="euclidean"), 0.5)
    assert random_redundancy(values, 20, 0.5, metric="euclidean", most=20) == many
    assert random_redundancy(values, 20, 0.5, metric="euclidean", most=9) != many


@given(st.integers(1, 300), st.integers(0, RANDOM_SEEDS - 1), st.data())
def test_report_and_compare_draw_the_same_random_rows(n, seed, data):
    """Rows of `compare` (the baseline) and rows that `report` measures at distance 0."""
    size = data.draw(st.integers(1, n))
    rows = baselines.random_rows(n, size, seed=seed)
    line = np.arange(n, dtype=np.float32)[:, None]
    distances = list(random_distances(line, size, metric="euclidean"))[seed]
    assert np.flatnonzero(distances == 0).tolist() == sorted(rows.tolist())


@given(st.integers(1, 300), st.integers(0, 5), st.data())
def test_random_rows_nest(n, seed, data):
    size = data.draw(st.integers(1, n))
    rows = random_rows(n, size, seed=seed)
    assert rows.dtype == np.int64
    assert np.unique(rows).size == size and rows.min() >= 0 and rows.max() < n
    assert rows.tolist() == random_rows(n, n, seed=seed)[:size].tolist()


def test_sampled_rows_are_independent_of_random_selections():
    """From one stream, the measured rows would be rows of the selection."""
    values = np.random.default_rng(0).normal(size=(2000, 4))
    rows = sample_rows(2000, 400, 0)
    assert np.unique(rows).size == 400
    assert sample_rows(400, 400, 0).tolist() == list(range(400))
    shared = np.isin(rows, random_rows(2000, 1000, seed=0)).mean()
    assert 0.4 < shared < 0.6
    means = [d.mean() for d in random_distances(values, 1000, metric="euclidean", rows=rows)]
    assert max(means) < 1.2 * min(means)


@pytest.mark.parametrize(
    ("selected", "message"),
    [
        (np.array([], np.int64), "holds no rows"),
        (np.array([0, 4]), "4 is none of 4 rows"),
        (np.array([-1]), "-1 is none of 4 rows"),
        (np.array([2, 1, 2]), "row 2 is selected twice"),
        (np.array([True, False]), "must be one-dimensional row numbers"),
        (np.array([[1]]), "must be one-dimensional row numbers"),
        (np.array([1.0]), "must be one-dimensional row numbers"),
    ],
)
def test_bad_selections_are_refused(selected, message):
    with pytest.raises(DataError, match=message):
        nearest_selected(np.eye(4), selected, metric="euclidean")


@pytest.mark.parametrize("size", [0, 5])
def test_random_rows_refuses_a_size_out_of_range(size):
    with pytest.raises(UsageError, match="budget must be between 1 and the number of rows, 4"):
        random_rows(4, size)


def test_examples_by_hand():
    which, selected = np.array([1, 1, 4, 4, 4, 6]), np.array([1, 4, 6])
    rows, counts = most_covering(which, selected, 5)
    assert (rows.tolist(), counts.tolist()) == ([4, 1], [3, 2])
    assert most_covering(which, selected, 1)[0].tolist() == [4]
    assert top_places(np.array([7, 3, 5]), np.array([2.0, 2.0, 9.0]), 2).tolist() == [2, 1]


# -- balance ------------------------------------------------------------------------------------
@given(st.lists(st.integers(0, 5), min_size=1, max_size=30), st.data())
def test_class_balance_equals_the_plain_loop(codes, data):
    selected = data.draw(selections(len(codes)))
    found = class_balance(np.array(codes), selected, 7)
    full, kept = naive.counts(codes, set(selected.tolist()), 7)
    assert (found.full.tolist(), found.kept.tolist()) == (full, kept)
    assert found.divergence == pytest.approx(naive.divergence(kept, full))
    assert found.divergence >= -1e-12
    assert 0 <= found.shift <= 1
    assert found.lost == sum(1 for f, k in zip(full, kept, strict=True) if f and not k)
    for f, k, r in zip(full, kept, found.retention, strict=True):
        assert r == k / f if f else np.isnan(r)
    everything = class_balance(np.array(codes), np.arange(len(codes)))
    assert (everything.shift, everything.divergence, everything.lost) == (0, 0, 0)


def test_balance_by_hand():
    found = BinCounts(np.array([2, 2, 0]), np.array([0, 1, 0]))
    assert found.shift == 0.5
    assert found.divergence == pytest.approx(np.log(2))
    assert found.entropy == 0
    assert BinCounts(np.array([5, 5]), np.array([2, 2])).entropy == pytest.approx(np.log(2))


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=40), st.data())
def test_score_balance_counts_every_row_once(values, data):
    scores = np.array(values, np.float64)
    selected = data.draw(selections(len(values)))
    edges = np.linspace(-3, 3, 5)
    found = score_balance(scores, selected, edges)
    bins = [min(int((v + 3) / 1.5), 3) for v in values]
    full, kept = naive.counts(bins, set(selected.tolist()), 4)
    assert (found.full.tolist(), found.kept.tolist()) == (full, kept)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=50), st.integers(1, 12))
def test_rank_groups_have_equal_sizes_and_follow_the_scores(values, groups):
    scores = np.array(values, np.float64)
    found = rank_groups(scores, groups)
    counts = np.bincount(found, minlength=groups)
    assert counts.size == groups
    assert counts.max() - counts.min() <= 1
    order = np.argsort(scores, kind="stable")
    assert (np.diff(found[order]) >= 0).all()


# -- overlap ------------------------------------------------------------------------------------
@given(st.integers(1, 30), st.data())
def test_overlap_equals_that_of_sets(n, data):
    several = [data.draw(selections(n)) for _ in range(3)]
    shared = shared_rows(several, n)
    found = jaccard(shared)
    for i, one in enumerate(several):
        for j, other in enumerate(several):
            assert shared[i, j] == len(set(one.tolist()) & set(other.tolist()))
            assert found[i, j] == naive.jaccard(one.tolist(), other.tolist())


def test_expected_overlap_of_random_selections():
    expected = expected_shared(np.array([10, 50]), 100)
    assert expected.tolist() == [[10, 5], [5, 50]]
    drawn = [random_rows(10_000, size, seed=seed) for seed, size in enumerate((2000, 5000))]
    assert shared_rows(drawn, 10_000)[0, 1] == pytest.approx(1000, rel=0.1)
