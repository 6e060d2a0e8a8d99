"""Every baseline compared with its plain-loop twin, and invariants of all baselines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli import baselines
from d2cli.baselines import sizes
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages.forward import resolve_bandwidth
from tests import naive, naive_baselines, strategies


@st.composite
def scored(draw, most=30):
    """(scores, β, size), size at most the rows that β leaves."""
    n = draw(st.integers(1, most))
    scores = draw(strategies.scores(n, negative=True))
    beta = draw(st.sampled_from([0.0, 0.1, 0.3, 0.5]))
    room = len(naive_baselines.cut(scores, beta))
    return scores, beta, draw(st.integers(1, room))


@st.composite
def embedded(draw, **options):
    """(embeddings, size)."""
    emb = draw(strategies.embeddings(**options))
    return emb, draw(st.integers(1, len(emb)))


@st.composite
def graphs(draw):
    """(graph, size)."""
    graph = KnnGraph(*draw(strategies.knn_graphs()))
    return graph, draw(st.integers(1, graph.n))


@given(scored())
def test_highest_after_cutoff_equals_its_twin(case):
    scores, beta, size = case
    kept = baselines.highest_after_cutoff(scores, size, beta)
    assert kept.tolist() == naive_baselines.highest(scores, size, beta)
    assert baselines.highest(scores, size).tolist() == naive_baselines.highest(scores, size)


@given(scored(), st.integers(1, 8), st.integers(0, 3))
def test_coverage_centric_draws_the_share_of_each_stratum(case, strata, seed):
    scores, beta, size = case
    kept = baselines.coverage_centric(scores, size, beta, strata=strata, seed=seed).tolist()
    assert len(set(kept)) == len(kept) == size
    rows, shares = naive_baselines.strata_shares(scores, size, beta, strata)
    # The order of strata of equal size is not defined, so their shares are compared as a set.
    for count in {len(r) for r in rows}:
        equals = [r for r in rows if len(r) == count]
        wanted = sorted(s for r, s in zip(rows, shares, strict=True) if len(r) == count)
        assert sorted(len({*kept} & {*r}) for r in equals) == wanted


def test_coverage_centric_by_hand():
    # Four strata of width 1 hold 5, 1, 0 and 2 rows. Of a budget of 6, the stratum of 1 gives 1,
    # the stratum of 2 gives min(2, 5 // 2) = 2, and the stratum of 5 the remaining 3.
    scores = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 1.5, 3.5, 4.0])
    kept = baselines.coverage_centric(scores, 6, strata=4)
    assert {5, 6, 7} <= {*kept.tolist()} and len({*kept.tolist()} & {0, 1, 2, 3, 4}) == 3


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@settings(max_examples=40)
@given(embedded(zeros=False), st.booleans(), st.integers(0, 5))
def test_moderate_keeps_the_rows_nearest_to_the_median(metric, case, labelled, seed):
    emb, size = case
    labels = np.random.default_rng(seed).integers(0, 3, len(emb)) if labelled else None
    kept = baselines.moderate(emb, size, labels, metric=metric)
    rows = naive_baselines.unit(emb) if metric == "cosine" else emb
    off = naive_baselines.moderate_offsets(rows, labels)
    assert len({*kept.tolist()}) == size
    np.testing.assert_allclose(np.sort(off[kept]), np.sort(off)[:size], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@settings(max_examples=40)
@given(embedded(zeros=False))
def test_k_center_equals_its_twin(metric, case):
    emb, size = case
    kept = baselines.k_center(emb, size, metric=metric, threads=1)
    rows = naive_baselines.unit(emb) if metric == "cosine" else emb
    assert kept.tolist() == naive_baselines.k_center(rows, size)


@settings(max_examples=15)
@given(embedded(most=40), st.sampled_from([1, 3, 7]), st.sampled_from([1e-20, 1.0, 1e20]))
def test_k_center_in_blocks_equals_its_twin(case, block, scale):
    emb, size = case
    emb = emb * np.float32(scale)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "PICKS", block)
        patch.setattr(sizes, "ROWS", 5)
        kept = baselines.k_center(emb, size, threads=2)
    assert kept.tolist() == naive_baselines.k_center(emb, size)


def test_k_center_does_not_depend_on_threads_or_blocks(monkeypatch):
    emb = np.random.default_rng(3).normal(size=(600, 12)).astype(np.float32)
    whole = baselines.k_center(emb, 400, threads=1)
    monkeypatch.setattr(sizes, "PICKS", 64)
    assert np.array_equal(whole, baselines.k_center(emb, 400, threads=3))


@pytest.mark.parametrize("edges", ["union", "directed", "mutual"])
@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
@settings(max_examples=30)
@given(graphs(), st.sampled_from([0.0, 0.5, 1.0]))
def test_facility_location_equals_its_twin(edges, kernel, case, gamma):
    graph, size = case
    sigma = resolve_bandwidth(graph, "median")
    kept = baselines.facility_location(graph, size, edges=edges, kernel=kernel, gamma=gamma)
    twin = naive_baselines.facility_location(
        naive.edges(graph.neighbors, graph.distances, edges),
        size,
        lambda d: naive.weight(d, gamma, sigma, kernel),
    )
    assert kept.tolist() == twin


@given(graphs(), st.integers(0, 3))
def test_near_duplicates_equals_its_twin(case, seed):
    graph, size = case
    kept = baselines.near_duplicates(graph, size, seed=seed)
    rank = np.random.default_rng(seed).permutation(graph.n)
    twin = naive_baselines.near_duplicates(graph.neighbors, graph.distances, size, rank)
    assert sorted(kept.tolist()) == twin


@pytest.fixture(scope="module")
def case():
    from d2cli import build_graph

    rng = np.random.default_rng(5)
    emb, labels = rng.normal(size=(90, 4)).astype(np.float32), rng.integers(0, 4, 90)
    return emb, rng.random(90), labels, build_graph(emb, 5, threads=1)


METHODS = {
    "random": lambda case, size, seed=0: baselines.random_rows(90, size, seed=seed),
    "highest": lambda case, size: baselines.highest(case[1], size),
    "cutoff": lambda case, size: baselines.highest_after_cutoff(case[1], size, 0.1),
    "ccs": lambda case, size, seed=0: baselines.coverage_centric(case[1], size, 0.1, seed=seed),
    "moderate": lambda case, size: baselines.moderate(case[0], size, case[2]),
    "k-center": lambda case, size: baselines.k_center(case[0], size),
    "facility-location": lambda case, size: baselines.facility_location(case[3], size),
    "near-duplicates": lambda case, size, seed=0: baselines.near_duplicates(
        case[3], size, seed=seed
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_invariants_of_every_method(name, case):
    before = [np.copy(a) for a in case[:3]]
    for size in (1, 30, 81):
        kept = METHODS[name](case, size)
        assert kept.dtype == np.int64 and kept.shape == (size,)
        assert len({*kept.tolist()}) == size and kept.min() >= 0 and kept.max() < 90
        assert np.array_equal(kept, METHODS[name](case, size))
    assert all(np.array_equal(a, b) for a, b in zip(before, case[:3], strict=True))
    for size in (0, 91):
        with pytest.raises(UsageError, match="budget"):
            METHODS[name](case, size)


@pytest.mark.parametrize("name", ["random", "ccs", "near-duplicates"])
def test_seeds_change_the_selection(name, case):
    assert {*METHODS[name](case, 20, 0).tolist()} != {*METHODS[name](case, 20, 1).tolist()}


@pytest.mark.parametrize("name", ["random", "highest", "k-center", "facility-location"])
def test_selections_of_smaller_sizes_are_prefixes(name, case):
    assert np.array_equal(METHODS[name](case, 60)[:20], METHODS[name](case, 20))


def test_bad_arguments_are_refused(case):
    with pytest.raises(UsageError, match="strata"):
        baselines.coverage_centric(case[1], 5, strata=0)
    with pytest.raises(UsageError, match="that take part"):
        baselines.highest_after_cutoff(case[1], 60, 0.5)
    with pytest.raises(DataError, match="nan"):
        baselines.highest(np.array([1.0, np.nan]), 1)
    with pytest.raises(DataError, match="labels"):
        baselines.moderate(case[0], 5, case[2][:3])
    with pytest.raises(UsageError, match="kernel"):
        baselines.facility_location(case[3], 5, kernel="box")
