"""Every baseline compared with its plain-loop twin, and invariants of all baselines."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli import baselines, prepare_edges
from d2cli.baselines import in_planes, sizes
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


@st.composite
def scored_graphs(draw, negative=True):
    """(graph, scores, size)."""
    graph, size = draw(graphs())
    return graph, draw(strategies.scores(graph.n, negative=negative)), size


def kernel_of(graph, gamma, kernel):
    """The similarity of two rows at a distance."""
    sigma = resolve_bandwidth(graph, "median")
    return lambda d: naive.weight(d, gamma, sigma, kernel)


ALPHAS = st.sampled_from([0.0, 0.03, 0.1, 1.0])


@pytest.mark.parametrize("edges", ["union", "directed", "mutual"])
@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
@settings(max_examples=30)
@given(scored_graphs(), ALPHAS, st.sampled_from([0.0, 1.0]))
def test_graph_cut_equals_its_twin(edges, kernel, case, alpha, gamma):
    graph, scores, size = case
    options = {"alpha": alpha, "kernel": kernel, "gamma": gamma}
    kept = baselines.graph_cut(graph, scores, size, edges=edges, **options)
    lists = naive.edges(graph.neighbors, graph.distances, edges)
    weigh = kernel_of(graph, gamma, kernel)
    assert kept.tolist() == naive_baselines.graph_cut(lists, scores, size, alpha, weigh)
    made, sigma = prepare_edges(graph, edges=edges)
    again = baselines.graph_cut(made, scores, size, bandwidth=sigma, **options)
    assert np.array_equal(kept, again)


@pytest.mark.parametrize("edges", ["union", "directed", "mutual"])
@settings(max_examples=40)
@given(scored_graphs(), ALPHAS, st.integers(1, 6))
def test_infomax_keeps_the_highest_of_its_twin(edges, case, alpha, iterations):
    graph, scores, size = case
    kept = baselines.infomax(
        graph, scores, size, edges=edges, alpha=alpha, iterations=iterations, threads=1
    )
    lists = naive.edges(graph.neighbors, graph.distances, edges)
    weigh = kernel_of(graph, 1.0, "gaussian")
    logits = naive_baselines.infomax_logits(lists, scores, size, alpha, iterations, weigh)
    assert len({*kept.tolist()}) == size
    np.testing.assert_allclose(logits[kept], -np.sort(-logits)[:size], atol=1e-9)


@pytest.mark.parametrize("method", [baselines.graph_cut, baselines.infomax])
@given(scored_graphs())
def test_alpha_0_keeps_the_highest_scores(method, case):
    graph, scores, size = case
    kept = method(graph, scores, size, alpha=0.0)
    assert kept.tolist() == naive_baselines.highest(naive_baselines.scaled(scores), size)


def test_infomax_does_not_depend_on_threads(monkeypatch):
    from d2cli import build_graph
    from d2cli.messages import by_rows

    monkeypatch.setattr(by_rows, "BLOCK_ROWS", 64)
    rng = np.random.default_rng(2)
    graph = build_graph(rng.normal(size=(300, 3)).astype(np.float32), 6, threads=1)
    scores = rng.random(300)
    one, three = (baselines.infomax(graph, scores, 90, threads=t) for t in (1, 3))
    assert np.array_equal(one, three)


@settings(max_examples=60)
@given(graphs(), st.data(), st.sampled_from([0.25, 0.5, 0.75, 1.0]))
def test_semdedup_then_score_equals_its_twin(case, data, lift):
    graph, size = case
    scores = data.draw(st.lists(st.integers(-3, 3), min_size=graph.n, max_size=graph.n))
    kept = baselines.semdedup_then_score(graph, np.array(scores), size, lift=lift).tolist()
    twin = naive_baselines.semdedup_then_score(graph.neighbors, graph.distances, scores, size, lift)
    assert kept == twin
    assert naive_baselines.lift(scores, kept) >= lift - 1e-9


def test_semdedup_then_score_drops_copies_that_cost_nothing():
    # Rows 0 to 3 are copies of the same score, rows 4 and 5 lie apart and score less.
    from d2cli import build_graph

    emb = np.array([[0.0], [0.0], [0.0], [0.0], [50.0], [90.0]], np.float32)
    graph, scores = build_graph(emb, 3, threads=1), np.array([9.0, 9.0, 9.0, 9.0, 8.9, 1.0])
    lifts = {lift: baselines.semdedup_then_score(graph, scores, 2, lift=lift) for lift in (1, 0.9)}
    assert lifts[1].tolist() == [0, 1] and lifts[0.9].tolist() == [0, 4]
    large = baselines.semdedup_then_score(graph, scores * 1e307, 2, lift=0.9)
    assert np.array_equal(large, lifts[0.9])
    equal = baselines.semdedup_then_score(graph, np.full(6, 0.1), 3, lift=1.0)
    assert {4, 5} < {*equal.tolist()}  # all scores are equal: dropping costs nothing


@pytest.mark.parametrize("edges", ["union", "directed"])
@settings(max_examples=40)
@given(scored_graphs(), st.sampled_from([0.0, 0.1, 1.0]), st.booleans())
def test_d2_paper_equals_the_plain_loops(edges, case, gamma, excluding):
    graph, scores, size = case
    left_out = np.zeros(graph.n, np.bool_)
    if excluding:
        left_out[size:] = ~(graph.neighbors[size:] >= 0).any(axis=1)
        left_out &= ~np.isin(np.arange(graph.n), graph.neighbors)
        graph = KnnGraph(graph.neighbors, graph.distances, left_out)
    kept = baselines.d2_paper(graph, scores, size, edges=edges, gamma_reverse=gamma, threads=1)
    lists = naive.edges(graph.neighbors, graph.distances, edges)
    u = naive.forward(lists, scores, "gaussian", 1.0, 1.0)
    order, _ = naive.greedy(lists, u, size, "gaussian", 1.0, gamma, False, left_out=left_out)
    assert kept.tolist() == order.tolist()


def test_d2_paper_is_the_paper_mode_of_the_steps(case):
    from d2cli import propagate, select

    graph, scores = case[3], case[1]
    options = {"bandwidth": 1.0, "threads": 1}
    u = propagate(graph, scores, gamma_forward=1.0, **options)
    order = select(graph, u, 40, gamma_reverse=0.3, clamped=False, **options).order
    edges, _ = prepare_edges(graph)
    for given_as in (graph, edges):
        kept = baselines.d2_paper(given_as, scores, 40, gamma_reverse=0.3, threads=1)
        assert np.array_equal(kept, order)


@pytest.mark.parametrize("d", [1, 2, 5])
@settings(max_examples=25)
@given(st.integers(1, 14), st.booleans(), st.integers(1, 12), st.integers(0, 9), st.integers(1, 4))
def test_zcore_keeps_the_highest_of_its_twin(d, n, tied, draws, seed, neighbors):
    emb = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    emb = np.round(emb) if tied else emb
    rng = np.random.default_rng(seed)
    start = rng.random(n)
    planes, chances = in_planes.draw_planes(rng, d, draws), rng.random((draws, 2))
    scores = naive_baselines.zcore_scores(emb, start, planes, chances, neighbors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_planes, "NEIGHBORS", neighbors)
        patch.setattr(sizes, "COLUMNS", 2)
        kept = baselines.zcore(emb, n, draws=draws, seed=seed, threads=2)
    assert sorted(kept.tolist()) == list(range(n))
    np.testing.assert_allclose(scores[kept], -np.sort(-scores), atol=1e-9)


@given(st.integers(1, 9), st.integers(0, 3))
def test_planes_of_zcore_are_pairs_of_different_dimensions(d, seed):
    planes = in_planes.draw_planes(np.random.default_rng(seed), d, 200)
    assert planes.shape == (200, 2) and planes.min() >= 0 and planes.max() < d
    assert (planes[:, 0] < planes[:, 1]).all() or d == 1
    assert d > 4 or len({*map(tuple, planes.tolist())}) == max(1, d * (d - 1) // 2)


@given(st.data())
def test_lowest_rows_of_zcore_are_those_of_a_sort(data):
    n = data.draw(st.integers(1, 80))
    values = data.draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))
    values = np.array(values, np.float32)
    count = data.draw(st.integers(1, n))
    expected = np.sort(np.argsort(values, kind="stable")[:count])
    assert in_planes.lowest(values, count, data.draw(st.integers(1, 50))).tolist() == [*expected]


def test_lowest_rows_of_zcore_if_the_sample_misleads():
    # Every second row is sampled, and these have the lowest values.
    values = np.where(np.arange(80) % 2 == 0, np.arange(80), 100 + np.arange(80))
    found = in_planes.lowest(values.astype(np.float32), 45, 40)
    assert found.tolist() == sorted([*range(0, 80, 2), 1, 3, 5, 7, 9])


def test_zcore_does_not_depend_on_threads_blocks_or_scale(monkeypatch):
    emb = np.random.default_rng(3).normal(size=(120, 7)).astype(np.float32)
    whole = baselines.zcore(emb, 120, draws=300, threads=1)
    monkeypatch.setattr(sizes, "COLUMNS", 3)
    for scale in (1.0, 2.0**-80, 2.0**123):
        for dtype in (np.float32, np.float64):
            kept = baselines.zcore(
                (emb * np.float32(scale)).astype(dtype), 120, draws=300, threads=3
            )
            assert np.array_equal(whole, kept)


@settings(max_examples=60)
@given(st.integers(1, 30), st.data(), st.integers(0, 3))
def test_dual_sampling_is_a_race_of_its_twins_chances(n, data, seed):
    scores = data.draw(strategies.scores(n))
    means = np.array(data.draw(st.lists(st.floats(0.01, 0.99), min_size=n, max_size=n)))
    size, shape = data.draw(st.integers(1, n)), data.draw(st.sampled_from([4.0, 11.0]))
    kept = baselines.dual_sampling(scores, means, size, shape=shape, seed=seed).tolist()
    noise = np.random.default_rng(seed).gumbel(size=n)
    chances = naive_baselines.beta_chances(scores, means, size, shape)
    keys = np.array([c * np.exp(g) for c, g in zip(chances, noise, strict=True)])
    assert len({*kept}) == size
    np.testing.assert_allclose(keys[kept], -np.sort(-keys)[:size], rtol=1e-6, atol=1e-300)


def test_dual_sampling_draws_in_proportion_to_the_chances():
    scores, means = np.array([1.0, 2.0, 0.5, 3.0]), np.array([0.2, 0.5, 0.7, 0.4])
    chances = np.array(naive_baselines.beta_chances(scores, means, 2, 4.0))
    drawn = [baselines.dual_sampling(scores, means, 2, seed=seed).tolist() for seed in range(3000)]
    first = np.bincount([one for one, _ in drawn], minlength=4) / 3000
    np.testing.assert_allclose(first, chances / chances.sum(), atol=0.03)
    after = [two for one, two in drawn if one == 1]  # the second row, after row 1
    others = np.where(np.arange(4) == 1, 0, chances)
    expected = others / others.sum()
    np.testing.assert_allclose(np.bincount(after, minlength=4) / len(after), expected, atol=0.04)


def test_dual_sampling_at_the_edges():
    means = np.array([0.0, 1.0, 0.5, 1.0])
    for size in (1, 3, 4):
        kept = baselines.dual_sampling(np.array([1.0, 2.0, 0.0, 1.0]), means, size)
        assert len({*kept.tolist()}) == size
        assert 2 not in kept[:3]  # rows of score 0 come last
    nothing = baselines.dual_sampling(np.zeros(4), means, 4)
    assert sorted(nothing.tolist()) == [0, 1, 2, 3] and nothing.tolist() != [0, 1, 2, 3]


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
    "semdedup-then-score": lambda case, size: baselines.semdedup_then_score(case[3], case[1], size),
    "d2-paper": lambda case, size: baselines.d2_paper(case[3], case[1], size),
    "graph-cut": lambda case, size: baselines.graph_cut(case[3], case[1], size),
    "infomax": lambda case, size: baselines.infomax(case[3], case[1], size),
    "zcore": lambda case, size, seed=0: baselines.zcore(case[0], size, draws=90, seed=seed),
    "dual-sampling": lambda case, size, seed=0: baselines.dual_sampling(
        case[1], 1 - case[1] / 2, size, seed=seed
    ),
}
NESTED = (
    *("random", "highest", "k-center", "facility-location", "d2-paper", "graph-cut", "zcore"),
    "near-duplicates",
)
SEEDED = ("random", "ccs", "near-duplicates", "zcore", "dual-sampling")


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


@pytest.mark.parametrize("name", SEEDED)
def test_seeds_change_the_selection(name, case):
    assert {*METHODS[name](case, 20, 0).tolist()} != {*METHODS[name](case, 20, 1).tolist()}


@pytest.mark.parametrize("name", NESTED)
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
    for method in (baselines.graph_cut, baselines.infomax):
        for alpha in (-0.1, np.nan, np.inf):
            with pytest.raises(UsageError, match="alpha"):
                method(case[3], case[1], 5, alpha=alpha)
        with pytest.raises(DataError, match="one number for each of 90 rows"):
            method(case[3], case[1][:4], 5)
    with pytest.raises(UsageError, match="kernel"):
        baselines.facility_location(case[3], 5, kernel="box")
    with pytest.raises(UsageError, match="no median"):
        baselines.facility_location(prepare_edges(case[3])[0], 5)
    with pytest.raises(UsageError, match="iterations"):
        baselines.infomax(case[3], case[1], 5, iterations=0)
    with pytest.raises(UsageError, match="lift"):
        baselines.semdedup_then_score(case[3], case[1], 5, lift=1.5)
    with pytest.raises(UsageError, match="gamma_reverse"):
        baselines.d2_paper(case[3], case[1], 5, gamma_reverse=-1.0)
    with pytest.raises(UsageError, match="draws"):
        baselines.zcore(case[0], 5, draws=0)
    for means in (case[1] + 1, case[1] - 1, case[1][:3], case[1] * np.nan):
        with pytest.raises(DataError, match="confidence"):
            baselines.dual_sampling(case[1], means, 5)
    with pytest.raises(DataError, match="negative"):
        baselines.dual_sampling(-case[1], case[1], 5)
    with pytest.raises(UsageError, match="shape"):
        baselines.dual_sampling(case[1], case[1], 5, shape=0.0)
