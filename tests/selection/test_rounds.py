"""Greedy runs in rounds and in bands equal the loop over the picks, bit by bit."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from d2cli import prepare_edges, propagate, select
from d2cli.engine.store import PartStore
from d2cli.errors import UsageError
from d2cli.files.output.work_files import WorkFiles
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages import parts as parts_module
from d2cli.messages.parts import in_parts, stored_edges
from d2cli.selection import bands as bands_module
from d2cli.selection import greedy as greedy_module
from d2cli.selection import rounds
from d2cli.selection import sweeps as sweeps_module
from d2cli.selection.greedy import Rules, greedy
from tests import naive
from tests.marks import compiled
from tests.strategies import knn_graphs, masks, scores


@st.composite
def problems(draw):
    """(lists of neighbours, propagated scores, rules, budget); rules may hold quotas."""
    neighbors, distances = draw(knn_graphs())
    n = len(neighbors)
    u = draw(scores(n, negative=True))
    include = draw(masks(n)) if draw(st.booleans()) else np.zeros(n, np.bool_)
    left_out = (draw(masks(n)) if draw(st.booleans()) else np.zeros(n, np.bool_)) & ~include
    rules = Rules(include, left_out)
    most, least = int(n - left_out.sum()), int(include.sum())
    assume(most >= max(1, least))
    size = draw(st.integers(max(1, least), most))
    if draw(st.booleans()):
        classes = np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)))
        inside = np.bincount(classes[include], minlength=3)
        free = np.bincount(classes[rules.eligible], minlength=3)
        quotas = inside + [draw(st.integers(0, int(m))) for m in free]
        assume(quotas.sum() > 0)
        rules, size = Rules(include, left_out, classes, quotas), int(quotas.sum())
    return neighbors, distances, u, rules, size


@pytest.fixture
def small_ranges(monkeypatch):
    """Ranges and parts of few rows, so that small problems have several."""
    monkeypatch.setattr(sweeps_module, "RANGE", 5)
    monkeypatch.setattr(parts_module, "PART_EDGES", 30)
    monkeypatch.setattr(greedy_module, "ROUNDS_THREADS", 1)
    monkeypatch.setattr(bands_module, "BAND_EDGES", 6)


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("place", ["memory", "store", "store, wide bands"])
@given(problems(), st.sampled_from(["gaussian", "exponential"]), st.sampled_from([0, 0.05, 0.7, 3]))
@settings(max_examples=150)
def test_rounds_and_bands_equal_the_plain_loop(place, problem, kernel, gamma):
    neighbors, distances, u, rules, size = problem
    graph, sigma = KnnGraph(neighbors, distances), naive.bandwidth(distances)
    room = 400 if place == "store, wide bands" else 0
    if place == "memory":
        edges = in_parts(prepare_edges(graph)[0])
    else:
        edges = stored_edges(graph, "union", None, PartStore(), room)
    order, gains = naive.greedy(
        naive.edges(neighbors, distances, "union"), u, size, kernel, sigma, gamma, True,
        rules.include, rules.left_out, rules.classes, rules.quotas,
    )  # fmt: skip
    for threads in (1, 2, 4) if place == "memory" else (1,):
        found = greedy(
            edges, u, size, kernel_name=kernel, sigma=sigma, gamma=gamma, rules=rules,
            threads=threads,
        )  # fmt: skip
        assert found.order.tolist() == order.tolist()
        assert found.gains.tobytes() == gains.tobytes()


def chain(n):
    """A line of rows where each is above the next one, which its message lowers."""
    neighbors = np.stack([np.arange(n) - 1, np.arange(n) + 1], axis=1)
    neighbors[0], neighbors[-1] = [1, -1], [n - 2, -1]
    distances = np.where(neighbors < 0, np.inf, 1.0)
    return KnnGraph(neighbors.astype(np.int32), distances.astype(np.float32))


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("threads", [1, 3])
def test_long_chains_equal_the_queue(monkeypatch, direction, threads):
    n = 3000
    edges, sigma = prepare_edges(chain(n))
    u = np.linspace(2.0, 1.0, n)[::direction].copy()
    monkeypatch.setattr(sweeps_module, "RANGE", 512)
    options = {"kernel_name": "gaussian", "sigma": sigma, "gamma": 4.0, "threads": threads}
    plain = greedy(edges, u, n // 2, **options)
    monkeypatch.setattr(greedy_module, "ROUNDS_THREADS", 1)
    found = greedy(edges, u, n // 2, **options)
    assert found.order.tobytes() == plain.order.tobytes()
    assert found.gains.tobytes() == plain.gains.tobytes()


def test_a_hub_of_all_rows_equals_the_queue(monkeypatch):
    n, rng = 2000, np.random.default_rng(0)
    neighbors = np.zeros((n, 1), np.int32)
    neighbors[0] = 1
    graph = KnnGraph(neighbors, np.ones((n, 1), np.float32))
    edges, sigma = prepare_edges(graph)
    u = np.round(rng.exponential(size=n), 2)
    u[0] = 1.0
    options = {"kernel_name": "gaussian", "sigma": sigma, "gamma": 9.0, "threads": 2}
    plain = greedy(edges, u, n, **options)
    monkeypatch.setattr(greedy_module, "ROUNDS_THREADS", 1)
    found = greedy(edges, u, n, **options)
    assert found.order.tobytes() == plain.order.tobytes()
    assert found.gains.tobytes() == plain.gains.tobytes()


@pytest.mark.parametrize("classes", [1, 4, 300])
@pytest.mark.parametrize("gamma", [0.2, 1.0, 4.0])
def test_rounds_and_bands_on_a_larger_graph_equal_the_queue(monkeypatch, problem, classes, gamma):
    graph, score, _ = problem
    rng = np.random.default_rng(classes)
    edges, sigma = prepare_edges(graph)
    u = propagate(edges, np.round(score, 2), bandwidth=sigma)
    stored = stored_edges(graph, "union", None, PartStore(), 100_000)
    for size in (1, 40, 700, 2990):
        rules, total = Rules.none(u.size), size
        if classes > 1:
            own = rng.integers(0, classes, u.size)
            most = np.bincount(own, minlength=classes)
            quotas = np.minimum(most, rng.multinomial(size, np.full(classes, 1 / classes)))
            rules, total = Rules(rules.include, rules.left_out, own, quotas), int(quotas.sum())
        options = {"kernel_name": "gaussian", "sigma": sigma, "gamma": gamma, "rules": rules}
        monkeypatch.setattr(greedy_module, "ROUNDS_THREADS", 99)
        plain = greedy(edges, u, total, threads=1, **options)
        monkeypatch.setattr(greedy_module, "ROUNDS_THREADS", 1)
        monkeypatch.setattr(sweeps_module, "RANGE", 500)
        monkeypatch.setattr(bands_module, "BAND_EDGES", 3000)
        for one in (edges, stored):
            found = greedy(one, u, total, threads=3, **options)
            assert found.order.tobytes() == plain.order.tobytes()
            assert found.gains.tobytes() == plain.gains.tobytes()


@compiled
@pytest.mark.parametrize("balance", ["none", "uniform"])
def test_select_has_the_same_bytes_for_every_amount_of_memory(
    monkeypatch, tmp_path, problem, balance
):
    graph, score, labels = problem
    monkeypatch.setattr(parts_module, "PART_EDGES", 10_000)
    monkeypatch.setattr(bands_module, "BAND_EDGES", 3000)
    monkeypatch.setattr(greedy_module, "FEW", 1000)
    results = []
    for memory in (None, 10**9, 500_000, 300_000, 0):
        options = {"memory": memory, "work_dir": tmp_path}
        u = propagate(graph, score, **options)
        found = select(graph, u, 700, difficulty=score, labels=labels, balance=balance, **options)
        results.append((u.tobytes(), found.order.tobytes(), found.gains.tobytes(), found.decisions))
        assert list(tmp_path.iterdir()) == []
    assert all(one == results[0] for one in results[1:])


def test_edges_that_do_not_fit_need_a_folder_and_clamped_messages(tmp_path, problem):
    graph, score, _ = problem
    with pytest.raises(UsageError, match="left for them"):
        propagate(graph, score, memory=0)
    with pytest.raises(UsageError, match="clamped"):
        select(graph, score, 10, gamma_reverse=1.0, clamped=False, memory=0, work_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_work_files_hold_the_edges_until_they_are_no_longer_used(tmp_path, problem):
    edges, _ = prepare_edges(problem[0], memory=0, work_dir=tmp_path)
    assert isinstance(edges.store, WorkFiles)
    assert len(list(tmp_path.iterdir())) == 2  # the lock, and a folder
    del edges
    assert list(tmp_path.iterdir()) == []


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0, 1.5, 5e-324, 1e300]), st.integers(0, 9))),
    st.integers(1, 60),
    st.integers(0, 2**30),
)
def test_a_band_is_the_most_rows_that_fit(rows, capacity, seed):
    u = np.array([score for score, _ in rows], np.float64)
    degrees = np.array([degree for _, degree in rows], np.int32)
    eligible = np.random.default_rng(seed).random(u.size) < 0.8
    waiting = [i for i in range(u.size) if eligible[i] and u[i] > 0]
    bound = 0.0  # the highest score whose rows do not fit together with all above it
    for score in sorted({u[i] for i in waiting}):
        if sum(degrees[i] + 1 for i in waiting if u[i] >= score) > capacity:
            bound = score
    bits = u.view(np.int64)
    found = bands_module._bound(u, bits, eligible, degrees, capacity)
    assert np.int64(found).view(np.float64) == bound
    band = np.empty(u.size, np.bool_)
    assert bands_module._above(u, bits, eligible, found, band) == band.sum()
    above = [i for i in waiting if u[i] > bound]
    assert np.flatnonzero(band).tolist() == above
    equal, used = [], 0
    for i in waiting:
        used += degrees[i] + 1
        if u[i] == bound and (not equal or used <= capacity):
            equal.append(i)
        elif u[i] != bound:
            used -= degrees[i] + 1
        else:
            break
    assert bands_module._equal(bits, eligible, found, degrees, capacity, band) == band.sum()
    assert np.flatnonzero(band).tolist() == equal


@given(st.data())
def test_class_bounds_admit_the_rows_within_the_quota(data):
    n = data.draw(st.integers(1, 30))
    states = st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0])
    w = np.array(data.draw(st.lists(states, min_size=n, max_size=n)))
    classes = np.array(data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n)), np.int32)
    quota = np.array(data.draw(st.lists(st.integers(1, 12), min_size=3, max_size=3)))
    starts = np.cumsum([0, *np.bincount(classes, minlength=3)])
    bound, last = np.empty(3), np.empty(3, np.int64)
    rounds.class_bounds(w, np.argsort(classes, kind="stable"), starts, quota, bound, last)
    limits = rounds.Limits(classes, bound, last)
    for c in range(3):
        ranked = sorted((-abs(w[i]), i) for i in range(n) if classes[i] == c and w[i] != 0)
        within = {i for _, i in ranked[: quota[c]]}
        mine = [i for i in range(n) if classes[i] == c and w[i] != 0]
        assert {i for i in mine if rounds.admitted(abs(w[i]), i, limits)} == within
    rows = np.empty(n, np.int32)
    count = rounds.admit(w, limits, 0, n, rows)
    expected = [i for i in range(n) if w[i] > 0 and rounds.admitted(w[i], i, limits)]
    assert rows[:count].tolist() == expected
    left = quota - np.bincount(classes[w < 0], minlength=3)
    assert rounds.left_of_classes(w, classes, quota).tolist() == left.tolist()
    closed = w.copy()
    rounds.close_classes(closed, classes, left)
    assert closed.tolist() == [
        0.0 if w[i] > 0 and left[classes[i]] <= 0 else w[i] for i in range(n)
    ]
