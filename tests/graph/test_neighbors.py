"""Exact search equals the naive loop; approximate search is tested by recall."""

import json
from itertools import pairwise

import hnswlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from d2cli import build_graph
from d2cli.engine.store import PartStore
from d2cli.engine.tasks import Engine
from d2cli.engine.threads import silent
from d2cli.errors import DataError, UsageError
from d2cli.graph import build, vectors
from d2cli.graph import settings as search_settings
from d2cli.graph.blocks import plan
from d2cli.graph.duplicates import find_duplicates
from d2cli.graph.recall import Truth, sample_rows
from d2cli.graph.vectors import Group, spans_of
from tests import naive
from tests.strategies import embeddings, masks


def clustered(n, d, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(max(1, n // 40), d))
    return (centres[rng.integers(len(centres), size=n)] + 0.3 * rng.normal(size=(n, d))).astype(
        "f4"
    )


def assert_same_graph(graph, expected):
    neighbors, distances = expected
    np.testing.assert_array_equal(graph.neighbors, neighbors)
    np.testing.assert_array_equal(graph.distances, distances)


@given(embeddings(), st.integers(1, 30))
def test_exact_search_equals_the_naive_loop(values, k):
    before = values.copy()
    assert_same_graph(build_graph(values, k, method="exact"), naive.knn(values, k))
    np.testing.assert_array_equal(values, before)


@given(embeddings(zeros=False), st.integers(1, 6))
def test_cosine_equals_the_naive_loop_on_unit_vectors(values, k):
    graph = build_graph(values, k, metric="cosine")
    assert_same_graph(graph, naive.knn(values, k, "cosine"))
    assert graph.distances[np.isfinite(graph.distances)].max(initial=0) <= 2.0000002


@given(st.data())
def test_within_and_exclude_equal_the_naive_loop(data):
    values = data.draw(embeddings())
    n = len(values)
    within = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
    exclude = data.draw(masks(n))
    graph = build_graph(values, 3, within=within, exclude=exclude)
    assert_same_graph(graph, naive.knn(values, 3, within=within, exclude=exclude))
    assert (graph.neighbors[exclude] == -1).all()
    assert not np.isin(graph.neighbors, np.flatnonzero(exclude)).any()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_every_float_dtype_and_layout(dtype, order):
    values = np.asarray(clustered(60, 5).astype("f2"), dtype=dtype, order=order)
    assert_same_graph(build_graph(values, 4), naive.knn(values.astype("f8"), 4))


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e15, 1e30])
def test_scaled_embeddings_have_the_same_neighbours(scale):
    values = clustered(80, 4).astype("f8")
    plain = build_graph(values, 5)
    for method in ("exact", "blocks", "hnsw"):
        scaled = build_graph((values * scale).astype("f4"), 5, method=method, recall=1.0)
        assert (scaled.neighbors == plain.neighbors).mean() > 0.98
        np.testing.assert_allclose(scaled.distances, plain.distances * scale, rtol=1e-4)


def test_exact_search_far_from_the_origin():
    """Float32 scores have no correct digits here, so no row is proven by the screen."""
    values = clustered(300, 6).astype("f8") + 1e6
    assert_same_graph(build_graph(values, 5), naive.knn(values, 5))


def test_exact_search_with_one_outlier():
    values = clustered(200, 3)
    values[7] = 1e12
    assert_same_graph(build_graph(values, 5), naive.knn(values, 5))


@pytest.mark.parametrize("method", ["exact", "blocks", "hnsw"])
def test_identical_rows_list_each_other(method):
    values = clustered(150, 4)
    values[20:100] = values[3]
    graph = build_graph(values, 5, method=method, recall=1.0)
    assert_same_graph(graph, naive.knn(values, 5))


@pytest.mark.parametrize("method", ["exact", "blocks", "hnsw"])
def test_all_rows_identical_list_the_lowest_rows(method):
    graph = build_graph(np.ones((50, 3), "f4"), 4, method=method)
    assert_same_graph(graph, naive.knn(np.ones((50, 3)), 4))


@pytest.mark.parametrize("method", ["exact", "blocks", "hnsw"])
@pytest.mark.parametrize("n", [1, 2, 5, 6, 7])
def test_k_of_at_least_n_leaves_empty_places(method, n):
    values = clustered(n, 3)
    assert_same_graph(build_graph(values, 6, method=method), naive.knn(values, 6))


@pytest.mark.parametrize("method", ["blocks", "hnsw"])
def test_approximate_search_reaches_its_target_recall(method):
    values = clustered(2500, 16)
    _, truth = brute_force(values, 10)
    graph = build_graph(values, 10, method=method, recall=0.99)
    reached = naive.recall(graph.neighbors, graph.distances, truth)
    assert reached >= 0.98
    assert graph.info.recall == pytest.approx(reached, abs=0.02)
    assert graph.info.recall_sample == build.RECALL_SAMPLE
    assert graph.info.method == method


def test_blocks_in_many_cells_reach_the_target_within_labels(monkeypatch):
    """What many rows need, with cells for a few thousand: duplicates, labels, and excluded rows."""
    monkeypatch.setattr(plan, "CELL_ROWS", 64)
    values = clustered(2500, 16)
    values[2400:] = values[5]
    labels, excluded = np.arange(2500) % 2, np.arange(2500) % 7 == 3
    graphs = [
        build_graph(values, 10, method="blocks", within=labels, exclude=excluded, threads=t)
        for t in (1, 3)
    ]
    for label in (0, 1):
        rows = np.flatnonzero((labels == label) & ~excluded)
        _, truth = brute_force(values[rows], 10)
        assert naive.recall(graphs[0].neighbors[rows], graphs[0].distances[rows], truth) >= 0.94
        assert np.isin(graphs[0].neighbors[rows], rows).all()
    assert graphs[0].neighbors.tobytes() == graphs[1].neighbors.tobytes()
    assert graphs[0].distances.tobytes() == graphs[1].distances.tobytes()
    assert graphs[0].info == graphs[1].info


def brute_force(values, k):
    """The k nearest rows and distances (n, k) by NumPy alone, fast enough for thousands of rows."""
    v = values.astype("f8")
    squares = ((v[:, None, :] - v[None, :, :]) ** 2).sum(-1) if len(v) < 600 else None
    if squares is None:
        squares = np.empty((len(v), len(v)))
        for i, row in enumerate(v):
            squares[i] = ((v - row) ** 2).sum(1)
    d = np.sqrt(squares).astype("f4")
    np.fill_diagonal(d, np.inf)
    order = np.argsort(d, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(d, order, 1)


def test_given_ef_is_used_and_recorded():
    graph = build_graph(clustered(500, 8), 5, method="hnsw", ef=7, hnsw_m=4, ef_construction=10)
    assert graph.info.settings == {"hnsw_m": 4, "ef_construction": 10, "ef": 7}


def test_auto_chooses_the_method_by_size(monkeypatch):
    values = clustered(300, 4)
    assert build_graph(values, 3).info.method == "exact"
    monkeypatch.setattr(search_settings, "EXACT_UP_TO", 200)
    assert build_graph(values, 3).info.method == "blocks"
    mixed = build_graph(values, 3, within=np.arange(300) < 250)
    assert mixed.info.method == "blocks+exact"


def test_automatic_choices_are_decisions():
    values = clustered(300, 8)
    values[250:] = values[0]
    decisions = {d.name: d for d in build_graph(values, 3).info.decisions}
    assert [*decisions] == ["method"]
    assert decisions["method"].value == "exact"
    assert decisions["method"].numbers == {
        "rows": 300, "groups": 1, "duplicates": 50, "largest_group": 250, "k": 3,
    }  # fmt: skip
    assert build_graph(values, 3, method="exact").info.decisions == ()
    assert build_graph(values, 3, method="hnsw", ef=9).info.decisions == ()
    info = build_graph(values, 3, method="hnsw").info
    assert [(d.name, d.value) for d in info.decisions] == [("ef", info.settings["ef"])]
    info = build_graph(values, 3, method="blocks").info
    assert {d.name: d.value for d in info.decisions} == info.settings
    assert info.decisions[-1].numbers["recall"] >= 0.95
    names = ["dimensions", "list_size", "near_cells", "probes", "votes"]
    assert [d.name for d in info.decisions] == names
    assert json.loads(json.dumps([d.as_json() for d in info.decisions]))
    groups = build_graph(values, 3, method="blocks", within=np.arange(300) // 297).info
    assert [(d.name, d.value) for d in groups.decisions[:1]] == [("method", "blocks+exact")]


@pytest.mark.parametrize("method", ["exact", "blocks", "hnsw"])
def test_result_does_not_depend_on_threads(method):
    values = clustered(1200, 8)
    values[500:700] = values[1]
    graphs = [build_graph(values, 5, method=method, threads=t) for t in (1, 2, 4, 2)]
    for graph in graphs[1:]:
        assert graph.neighbors.tobytes() == graphs[0].neighbors.tobytes()
        assert graph.distances.tobytes() == graphs[0].distances.tobytes()
        assert graph.info == graphs[0].info


def test_rows_lost_by_hnswlib_are_searched_by_brute_force(monkeypatch):
    """hnswlib raises for a whole batch if one row has too few results."""

    class Short(hnswlib.Index):
        def knn_query(self, data, k=1, num_threads=-1, filter=None):
            if np.ndim(data) > 1 or data[0] < 0:
                raise RuntimeError("Cannot return the results in a contiguous 2D array.")
            return super().knn_query(data, k=k, num_threads=num_threads)

    values = clustered(120, 3)
    monkeypatch.setattr(hnswlib, "Index", Short)
    graph = build_graph(values, 4, method="hnsw", recall=1.0)
    assert_same_graph(graph, naive.knn(values, 4))


def classes_of(values):
    """The numbers of equal rows, by row; -0 equals 0."""
    classes = {}
    for i, row in enumerate((values + 0).tolist()):
        classes.setdefault(tuple(row), []).append(i)
    return classes


@given(embeddings(most=40))
@hypothesis_settings(max_examples=60)
def test_distinct_rows_have_no_duplicates(values):
    distinct = values[[rows[0] for rows in classes_of(values).values()]]
    assert find_duplicates(Group(np.ascontiguousarray(distinct))) is None


@given(embeddings(most=20), st.data())
@hypothesis_settings(max_examples=60)
def test_duplicates_are_the_classes_of_equal_rows(some, data):
    n = len(some)
    rows = data.draw(st.lists(st.integers(0, n - 1), min_size=n + 1, max_size=2 * n))
    values = np.ascontiguousarray(some[rows])
    classes, duplicates = classes_of(values), find_duplicates(Group(values))
    members = [duplicates.members[a:b].tolist() for a, b in pairwise(duplicates.indptr)]
    assert members == list(classes.values())
    assert duplicates.first.tolist() == [g[0] for g in classes.values()]
    for g, rows in enumerate(members):
        assert (duplicates.label[rows] == g).all()


def test_duplicates_with_colliding_hashes(monkeypatch):
    from d2cli.graph import duplicates

    monkeypatch.setattr(duplicates, "_hash_rows", lambda bits, keys, zero, hashes: hashes.fill(0))
    duplicates = find_duplicates(Group(np.array([[1.0], [2.0], [1.0], [3.0], [2.0]], "f4")))
    assert duplicates.label.tolist() == [0, 1, 0, 2, 1]


def test_recall_counts_ties_as_found():
    truth = Truth(np.array([0]), np.array([[1, 2]], "i4"), np.array([[1.0, 2.0]], "f4"))
    assert truth.recall(np.array([[2.0, 2.0]], "f4")) == 1.0
    assert truth.recall(np.array([[1.0, 2.5]], "f4")) == 0.5
    assert truth.recall(np.array([[1.0, np.inf]], "f4")) == 0.5
    assert (
        Truth(np.array([0]), np.array([[-1]], "i4"), np.array([[np.inf]], "f4")).recall(
            np.array([[np.inf]])
        )
        == 1.0
    )


def test_samples_are_disjoint_seeded_and_in_range():
    aim, judge = sample_rows(100, 10, 30, 1)
    assert (aim.size, judge.size) == (10, 30)
    assert not set(aim) & set(judge)
    again, other = (sample_rows(100, 10, 30, seed)[0].tolist() for seed in (1, 2))
    assert aim.tolist() == again != other
    assert [part.size for part in sample_rows(5, 10, 30, 0)] == [2, 3]


BAD = [
    (np.zeros(3, "f4"), "two-dimensional"),
    (np.zeros((2, 2, 2), "f4"), "two-dimensional"),
    (np.zeros((2, 2), "i4"), "float16, float32 or float64"),
    (np.zeros((0, 2), "f4"), "no rows"),
    (np.zeros((2, 0), "f4"), "no columns"),
    (np.array([[0, 1], [np.nan, 1]], "f4"), "column 0 is nan"),
    (np.array([[0, 1], [1, -np.inf]], "f8"), "column 1 is -inf"),
    (np.array([[0, 1], [1, 1e200]], "f8"), "longer than 1e"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_bad_embeddings_are_refused(values, message):
    with pytest.raises(DataError, match=message) as caught:
        build_graph(values, 2)
    assert caught.value.argument == "embeddings"
    if "column " in message:
        assert caught.value.row == 1


def test_zero_vector_is_refused_under_cosine():
    with pytest.raises(DataError, match="zero vector") as caught:
        build_graph(np.array([[1.0, 0], [0, 0]], "f4"), 1, metric="cosine")
    assert caught.value.row == 1


@pytest.mark.parametrize(
    "options",
    [
        {"n_neighbors": 0},
        {"metric": "manhattan"},
        {"method": "faiss"},
        {"recall": 0.0},
        {"recall": 1.5},
        {"hnsw_m": 1},
        {"ef_construction": 0},
        {"ef": 0},
        {"seed": -1},
        {"threads": 0},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(UsageError):
        build_graph(np.eye(3, dtype="f4"), **options)


def test_bad_labels_and_masks_are_refused():
    with pytest.raises(DataError, match="labels must be"):
        build_graph(np.eye(3, dtype="f4"), 1, within=[0, 1])
    with pytest.raises(DataError, match="exclude must be"):
        build_graph(np.eye(3, dtype="f4"), 1, exclude=np.array([0, 1, 1]))


def test_work_on_spans_is_that_on_all_rows(monkeypatch):
    """Hashes, and the nearest rows of a sample, a few rows at a time; finished spans are kept."""
    monkeypatch.setattr(vectors, "BLOCK_NUMBERS", 16)
    rng = np.random.default_rng(8)
    values = rng.integers(0, 3, (90, 4)).astype("f4")
    rows = np.sort(rng.permutation(90)[:70])
    store, engine = PartStore(), Engine(2)
    for group in (Group(values), Group(values, rows)):
        numbers = np.sort(rng.permutation(len(group))[:9])
        truth = Truth.of(group, 12, numbers, 1, silent)
        for room in (None, 1):
            store.room = room
            found = Truth.in_spans(group, 12, numbers, engine, store, silent)
            for one, other in zip(found, truth, strict=True):
                np.testing.assert_array_equal(one, other)
        assert not store.names()
    assert [span[1:] for span in spans_of(9, 4)] == [(0, 4), (4, 8), (8, 9)]
    monkeypatch.setattr(vectors, "_MOST_SPANS", 2)
    spans = spans_of(21, 4)
    assert [span[1:] for span in spans] == [(0, 12), (12, 21)]
    assert list(spans[1].blocks(4)) == [(12, 16), (16, 20), (20, 21)]
    whole = find_duplicates(Group(values))
    store.put("hashes", 1, hashes=store_of_hashes(values)[1])
    for one, other in zip(find_duplicates(Group(values), engine, store), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def store_of_hashes(values):
    """The hashes of each span."""
    store = PartStore()
    find_duplicates(Group(values), Engine(1), store)
    return [store.get("hashes", part, "hashes") for part in range(len(spans_of(*values.shape)))]
