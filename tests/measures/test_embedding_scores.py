"""Scores from embeddings and from neighbours, compared with their plain-loop definitions."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli import KnnGraph, knn_distance, label_disagreement, prototypicality, target_similarity
from d2cli.difficulty import embedding, sizes
from d2cli.errors import D2Error, DataError, UsageError
from tests import naive_scores, strategies


# -- prototypicality -------------------------------------------------------------------------------
@given(strategies.embeddings(zeros=False), st.data())
@settings(max_examples=30)
def test_prototypicality_is_the_distance_to_the_nearest_centre(values, data):
    """For any centres; some are rows, some are equal."""
    k = data.draw(st.integers(1, len(values)))
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=k, max_size=k))
    centres = values[rows].astype(np.float64) * data.draw(st.sampled_from([1.0, 0.5]))
    before = values.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "_centres", lambda *_: centres)
        patch.setattr(sizes, "CENTRE_NUMBERS", 1)
        found = prototypicality(values, k, threads=2)
    np.testing.assert_array_equal(values, before)
    wanted = naive_scores.nearest_centre(values.astype(np.float64), centres)
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-9)


@given(strategies.embeddings(zeros=False), st.sampled_from(["euclidean", "cosine"]))
@settings(max_examples=15)
def test_centres_for_one_and_for_n_clusters(values, metric):
    units = values.astype(np.float64)
    if metric == "cosine":
        units = units / np.linalg.norm(units, axis=1, keepdims=True)
    middle = units.mean(axis=0)
    size = np.linalg.norm(middle)
    if metric == "cosine" and size > 1e-3:
        middle = middle / size
    if metric == "euclidean" or size > 1e-3:  # opposite rows have no mean direction
        found = prototypicality(values, 1, metric=metric)
        wanted = naive_scores.nearest_centre(units, [middle])
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(prototypicality(values, len(values), metric=metric), 0, atol=1e-3)


def clusters(seed=0):
    """(120 rows in four tight clusters far from the origin, the four centres)."""
    rng = np.random.default_rng(seed)
    middles = 1000 + 50 * np.array([[0, 0], [0, 1], [1, 0], [1, 1.0]])
    return (middles.repeat(30, axis=0) + rng.normal(size=(120, 2))).astype(np.float32), middles


def test_prototypicality_finds_tight_clusters():
    values, _ = clusters()
    means = values.astype(np.float64).reshape(4, 30, 2).mean(axis=1)
    wanted = naive_scores.nearest_centre(values.astype(np.float64), means)
    np.testing.assert_allclose(prototypicality(values, 4), wanted, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_prototypicality_scales_with_the_embeddings(scale):
    values = clusters()[0].astype(np.float64)
    wanted = prototypicality(values, 4)
    np.testing.assert_allclose(prototypicality(values * scale, 4) / scale, wanted, rtol=1e-6)


def test_prototypicality_does_not_depend_on_threads():
    from threadpoolctl import threadpool_limits

    values = np.random.default_rng(3).normal(size=(3000, 16)).astype(np.float32)
    found = set()
    for threads in (1, 2, 3):
        with threadpool_limits(threads):
            found.add(prototypicality(values, 20, threads=threads, seed=5).tobytes())
    assert len(found) == 1
    assert prototypicality(values, 20, seed=6).tobytes() not in found


def test_k_means_on_a_sample(monkeypatch):
    monkeypatch.setattr(sizes, "ROWS_PER_CENTRE", 12)
    values, _ = clusters()
    scores = prototypicality(values, 4, seed=1)
    assert scores.shape == (120,)
    assert scores.max() < 5


def test_default_number_of_centres():
    assert [sizes.default_clusters(n) for n in (1, 2, 100, 5000)] == [1, 1, 10, 71]
    values = clusters()[0]
    assert prototypicality(values).tobytes() == prototypicality(values, 11).tobytes()


@pytest.mark.parametrize("k", [0, 121])
def test_bad_clusters_and_seeds_are_refused(k):
    with pytest.raises(UsageError, match="n_clusters must be between 1 and"):
        prototypicality(clusters()[0], k)
    with pytest.raises(UsageError, match="seed must be at least 0"):
        prototypicality(clusters()[0], 1, seed=-1)


def test_missing_scikit_learn_gives_a_hint(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(D2Error, match="needs scikit-learn") as caught:
        prototypicality(clusters()[0], 4)
    assert caught.value.hint == "pip install 'd2prune[score]'"


# -- target similarity -----------------------------------------------------------------------------
REDUCE = pytest.mark.parametrize("reduce", ["max", "mean"])


@given(st.sampled_from([np.float16, np.float32, np.float64]), st.data())
def test_target_similarity_equals_its_definition(dtype, data):
    """The target is made of rows, turned rows and rows of another length."""
    values = data.draw(strategies.embeddings(dtype=dtype, zeros=False))
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), min_size=1, max_size=6))
    factors = data.draw(st.lists(st.sampled_from([1.0, -1.0, 0.25]), min_size=6, max_size=6))
    target = values[rows] * np.array(factors[: len(rows)], values.dtype)[:, None]
    reduce = data.draw(st.sampled_from(["max", "mean"]))
    before = values.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedding, "TARGET_ROWS", data.draw(st.sampled_from([1, 2, 100])))
        patch.setattr(sizes, "SIMILARITIES", data.draw(st.sampled_from([1, 9, 1000])))
        found = target_similarity(values, target, reduce, threads=2)
    np.testing.assert_array_equal(values, before)
    wanted = naive_scores.target_similarity(values, target, reduce)
    wide = values.dtype == np.float64
    np.testing.assert_allclose(found, wanted, atol=1e-12 if wide else 1e-5)
    assert found.dtype == np.float64
    assert (np.abs(found) <= 1).all()


@REDUCE
def test_target_similarity_does_not_depend_on_threads_or_scale(reduce):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3000, 8)).astype(np.float32)
    target = rng.normal(size=(50, 8))
    whole = target_similarity(values, target, reduce, threads=1)
    assert target_similarity(values, target, reduce, threads=3).tobytes() == whole.tobytes()
    assert target_similarity(values * 2.0**40, target, reduce).tobytes() == whole.tobytes()
    wanted = naive_scores.target_similarity(values[:50], target, reduce)
    np.testing.assert_allclose(whole[:50], wanted, atol=1e-7)  # float32 rows, float64 arithmetic


def test_a_row_of_the_target_has_similarity_one():
    values = np.random.default_rng(1).normal(size=(40, 5))
    found = target_similarity(values, values[7:8])
    assert found[7] == pytest.approx(1, abs=1e-15)
    assert found.argmax() == 7
    np.testing.assert_allclose(found, target_similarity(values, values[[7, 7]]), rtol=1e-12)


def test_skipped_rows_are_not_looked_at():
    values = np.ones((4, 3))
    values[1], values[2] = np.nan, 0
    found = target_similarity(values, np.ones((1, 3)), skip=np.array([False, True, True, False]))
    assert found == pytest.approx([1, 0, 0, 1])


BAD_TARGETS = [
    (np.ones((3, 2)), np.ones((2, 3)), "the target has 3 columns, the embeddings have 2", "target"),
    (np.ones((3, 2)), np.zeros((1, 2)), "is a zero vector", "target"),
    (np.ones((3, 2)), np.ones((0, 2)), "there are no rows", "target"),
    (np.ones((3, 2)), np.ones(2), "the target must be two-dimensional", "target"),
    (np.ones(2), np.ones((1, 2)), "embeddings must be two-dimensional", "embeddings"),
    (np.ones((0, 2)), np.ones((1, 2)), "there are no rows", "embeddings"),
    (np.array([[1.0, 1], [1, np.inf]]), np.ones((1, 2)), "column 1 is inf", "embeddings"),
]


@pytest.mark.parametrize(("values", "target", "message", "argument"), BAD_TARGETS)
def test_bad_targets_and_embeddings_are_refused(values, target, message, argument, monkeypatch):
    monkeypatch.setattr(sizes, "SIMILARITIES", 1)  # one row a block
    with pytest.raises(DataError, match=message) as caught:
        target_similarity(values, target)
    assert caught.value.argument == argument
    assert caught.value.row == (1 if "inf" in message else 0 if "zero" in message else None)


def test_another_reduction_is_refused():
    with pytest.raises(UsageError, match="reduce must be one of max, mean, not 'sum'"):
        target_similarity(np.ones((1, 2)), np.ones((1, 2)), "sum")


# -- neighbours ------------------------------------------------------------------------------------
@given(strategies.knn_graphs(), st.data())
def test_neighbour_scores_equal_their_definitions(lists, data):
    neighbors, distances = lists
    n = len(neighbors)
    alone = (neighbors < 0).all(axis=1)
    graph = KnnGraph(neighbors, distances, alone if alone.any() else None)
    labels = data.draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=n, max_size=n))
    np.testing.assert_array_equal(knn_distance(graph), naive_scores.kth_distance(distances))
    found = label_disagreement(graph, labels)
    np.testing.assert_array_equal(found, naive_scores.disagreement(neighbors, labels))


def test_label_disagreement_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    neighbors = np.array([[1, 2], [2, 3], [3, 0], [0, 1]], np.int32)
    graph = KnnGraph(neighbors, np.sort(rng.random((4, 2)).astype(np.float32)))
    whole = label_disagreement(graph, [0, 0, 1, 1])
    monkeypatch.setattr(sizes, "LISTED_NEIGHBORS", 1)
    assert label_disagreement(graph, [0, 0, 1, 1]).tolist() == whole.tolist() == [0.5, 1, 0.5, 1]


def test_rows_without_neighbours_are_refused():
    neighbors = np.array([[1], [0], [-1]], np.int32)
    distances = np.array([[1], [1], [np.inf]], np.float32)
    for score in (knn_distance, lambda graph: label_disagreement(graph, [0, 1, 0])):
        with pytest.raises(DataError, match="lists no neighbour") as caught:
            score(KnnGraph(neighbors, distances))
        assert (caught.value.argument, caught.value.row) == ("graph", 2)
    with pytest.raises(DataError, match=r"labels must be \(3,\)"):
        label_disagreement(KnnGraph(neighbors, distances), [0, 1])
