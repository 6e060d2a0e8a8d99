"""Edges in shards give the picks, scores and decisions of edges in memory, bit by bit."""

import os
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d2cli import prepare_edges, propagate, select
from d2cli.api import own_scores, spread_scores
from d2cli.engine.store import PartStore
from d2cli.engine.tasks import Engine, Held, LostError
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages import parts as parts_module
from d2cli.messages import sizes as message_sizes
from d2cli.messages.forward import vanished_share
from d2cli.messages.part_tasks import edges_by_tasks
from d2cli.selection import bands as bands_module
from d2cli.selection import greedy as greedy_module
from d2cli.selection.greedy import greedy
from d2cli.selection.shards import Shard
from tests import naive
from tests.engines import both_engines, engine_of, with_ray
from tests.marks import compiled
from tests.selection.test_rounds import chain, problems
from tests.strategies import knn_graphs, masks, scores

RULES = ["union", "directed", "mutual"]


class Forgetful(Held):
    """Objects that are lost before some of the calls."""

    losses = frozenset()

    def __init__(self, make, items, threads):
        super().__init__(make, items, threads)
        self._anew, self._calls = partial(Held, make, items, threads), 0

    def call(self, method, arguments):
        self._calls += 1
        if self._calls in self.losses:
            self._objects = self._anew()._objects
            raise LostError("lost")
        return super().call(method, arguments)


class OfNodes(Engine):
    """A local engine that says it has several nodes, so that it is given shards."""

    nodes = 2


class ForgetfulEngine(OfNodes):
    """Its objects are lost now and then."""

    def hold(self, make, items, memory=0, what="object"):
        held = Forgetful(make, items, self.threads)
        held.losses = frozenset({1, 4, 6, 11, 15, 21})
        return held


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of few edges, so that small problems have several parts, pieces and shards."""
    for module in (parts_module, message_sizes):
        monkeypatch.setattr(module, "PART_EDGES", 9)
    monkeypatch.setattr(message_sizes, "PIECE_PARTS", 3)
    monkeypatch.setattr(bands_module, "BAND_EDGES", 6)


def sharded(graph, rule="union", left_out=None, shards=3, engine=OfNodes):
    """The edges of a graph in shards of an engine in this process."""
    return edges_by_tasks(graph, rule, left_out, PartStore(), engine(1, shards))


def same(mine, theirs):
    """Selections are equal, bit by bit, gains, lift and decisions included."""
    assert mine.order.tobytes() == theirs.order.tobytes()
    assert mine.gains.tobytes() == theirs.gains.tobytes()
    assert replace(mine, order=None, gains=None) == replace(theirs, order=None, gains=None)


@pytest.mark.usefixtures("small_parts")
@given(knn_graphs(), st.sampled_from(RULES), st.booleans(), st.integers(1, 4), st.data())
def test_edges_and_messages_of_shards(lists, rule, leaves_out, shards, data):
    graph = KnnGraph(*lists)
    n = graph.n
    left_out = data.draw(masks(n)) if leaves_out else None
    edges, _ = prepare_edges(graph, edges=rule, drop=left_out)
    parts = sharded(graph, rule, left_out, shards)
    assert (parts.n, parts.count) == (n, edges.indices.size)
    assert parts.degrees().tolist() == np.diff(edges.indptr).tolist()
    for (first, part), stop in zip(parts.loaded(), parts.starts[1:], strict=True):
        a, b = edges.indptr[first], edges.indptr[stop]
        assert (part.indptr + a).tolist() == edges.indptr[first : stop + 1].tolist()
        assert part.indices.tobytes() == edges.indices[a:b].tobytes()
        assert part.distances.tobytes() == edges.distances[a:b].tobytes()
    score = data.draw(scores(n, negative=True))
    options = {"bandwidth": 0.7, "hops": data.draw(st.integers(0, 2)), "floor": 0.0}
    told = []
    mine = propagate(parts, score, progress=lambda *step: told.append(step), **options)
    assert mine.tobytes() == propagate(edges, score, **options).tobytes()
    assert told[-1:] == [("propagate", n, n)][: options["hops"]]
    mine, theirs = (own_scores(one, score, **options) for one in (parts, edges))
    assert mine.tobytes() == theirs.tobytes()
    shares = [vanished_share(one, "gaussian", 30.0, 1.0) for one in (parts, edges)]
    assert shares[0] == shares[1]
    score[data.draw(masks(n))] = np.nan
    found = []
    for one in (parts, edges):
        try:
            filled = spread_scores(one, score, bandwidth=0.7, exclude=left_out)
            found.append(filled.tobytes())
        except DataError as error:
            found.append(error.args)
    assert found[0] == found[1]
    spans = parts.spans(shards)
    assert [a for a, _ in spans] == [0, *(b for _, b in spans[:-1])]
    assert spans[-1][1] == len(parts)
    assert len(spans) <= shards
    assert all(a < b for a, b in spans)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("engine", [Engine, OfNodes, ForgetfulEngine])
@given(
    problems(),
    st.sampled_from(["gaussian", "exponential"]),
    st.sampled_from([0, 0.05, 0.7, 3]),
    st.integers(1, 4),
)
@settings(max_examples=80)
def test_picks_of_shards_equal_the_plain_loop(engine, problem, kernel, gamma, shards):
    neighbors, distances, u, rules, size = problem
    parts = sharded(KnnGraph(neighbors, distances), shards=shards, engine=engine)
    sigma = naive.bandwidth(distances)
    order, gains = naive.greedy(
        naive.edges(neighbors, distances, "union"), u, size, kernel, sigma, gamma, True,
        rules.include, rules.left_out, rules.classes, rules.quotas,
    )  # fmt: skip
    options = {"kernel_name": kernel, "sigma": sigma, "gamma": gamma, "rules": rules}
    found = greedy(parts, u, size, **options)
    assert found.order.tolist() == order.tolist()
    assert found.gains.tobytes() == gains.tobytes()


@st.composite
def requests(draw, n):
    """Options of select for n rows."""
    options = {
        "size": draw(st.integers(1, n)),
        "kernel": draw(st.sampled_from(["gaussian", "exponential"])),
        "bandwidth": 0.7,
        "include": draw(masks(n)) if draw(st.booleans()) else None,
    }
    if draw(st.booleans()):
        options["gamma_reverse"] = draw(st.sampled_from([0.05, 0.7, 3.0]))
    elif draw(st.booleans()):
        options["keep_lift"] = draw(st.sampled_from([0.2, 0.8, 0.99, 1.0]))
    if draw(st.booleans()):
        options["labels"] = draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
        options["balance"] = draw(st.sampled_from(["proportional", "uniform"]))
    if draw(st.booleans()):
        options["difficulty"] = draw(scores(n))
    if draw(st.booleans()):
        options["costs"] = draw(scores(n))
        options["cost_budget"] = draw(st.sampled_from([1.0, 4.5, 20.0]))
        options["size"] = None
    return options


def selected(edges, u, options):
    """The selection, or its error."""
    try:
        return select(edges, u, **options)
    except (UsageError, DataError) as error:
        return error.args


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("few", [0, 1 << 16])
@pytest.mark.parametrize("engine", [Engine, OfNodes, ForgetfulEngine])
@given(knn_graphs(), st.integers(1, 4), st.booleans(), st.data())
@settings(max_examples=50)
def test_selections_of_shards_equal_those_in_memory(engine, few, lists, shards, excludes, data):
    graph = KnnGraph(*lists)
    n = graph.n
    exclude = data.draw(masks(n)) if excludes else None
    options = data.draw(requests(n)) | {"exclude": exclude, "threads": 1}
    u = data.draw(scores(n, negative=True))
    edges, _ = prepare_edges(graph, drop=exclude)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(greedy_module, "FEW", few)
        theirs = selected(edges, u, options)
        mine = selected(sharded(graph, "union", exclude, shards, engine), u, options)
    if isinstance(theirs, tuple):
        assert mine == theirs
    else:
        same(mine, theirs)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("direction", [1, -1])
def test_a_chain_across_shards_equals_the_queue(direction):
    n = 300
    u = np.linspace(2.0, 1.0, n)[::direction].copy()
    options = {"kernel_name": "gaussian", "sigma": 1.0, "gamma": 4.0, "threads": 1}
    plain = greedy(prepare_edges(chain(n))[0], u, n // 2, **options)
    same(greedy(sharded(chain(n), shards=5), u, n // 2, **options), plain)


def test_unclamped_messages_and_a_missing_folder_are_refused(monkeypatch):
    with pytest.raises(UsageError, match="clamped"):
        select(sharded(chain(9)), np.ones(9), 3, bandwidth=1.0, gamma_reverse=1.0, clamped=False)
    engine = Engine(1)
    monkeypatch.setattr(engine, "shared", False)
    with pytest.raises(UsageError, match="work_dir") as caught:
        propagate(chain(9), np.ones(9), engine=engine)
    assert caught.value.hint == "name a folder that all machines see, or an address"
    with pytest.raises(UsageError, match="edges"):
        edges_by_tasks(chain(9), "both", None, PartStore(), engine)


def test_an_engine_that_shares_memory_is_not_used():
    edges, _ = prepare_edges(chain(9), engine=Engine(2))
    assert not hasattr(edges, "engine")


def parted(kind, monkeypatch, nodes=2):
    """An engine of two tasks at a time, which do not seem to share memory."""
    engine = engine_of(kind).enter_result
    monkeypatch.setattr(engine, "shared", False)
    monkeypatch.setattr(engine, "at_once", 2)
    monkeypatch.setattr(engine, "nodes", nodes)
    return engine


@compiled
@both_engines
@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {"balance": "uniform"},
        {"keep_lift": 0.9},
        {"costs": np.arange(3000) % 7, "cost_budget": 900.0},
    ],
    ids=["auto", "lift", "costs"],
)
def test_both_engines_select_the_same_bytes(monkeypatch, tmp_path, kind, problem, options, nodes):
    graph, score, labels = problem
    monkeypatch.setattr(message_sizes, "PART_EDGES", 10_000)
    monkeypatch.setattr(greedy_module, "FEW", 1000)
    size = None if "costs" in options else 700
    options = {"difficulty": score, "labels": labels, **options}
    u = propagate(graph, score)
    plain = select(graph, u, size, **options)
    where = {"engine": parted(kind, monkeypatch, nodes), "work_dir": tmp_path}
    assert propagate(graph, score, **where).tobytes() == u.tobytes()
    found = select(graph, u, size, **options, **where)
    assert list(tmp_path.iterdir()) == []
    same(found, plain)


@compiled
@both_engines
def test_both_engines_send_the_same_messages(monkeypatch, tmp_path, kind, problem):
    graph, score, _ = problem
    monkeypatch.setattr(message_sizes, "PART_EDGES", 10_000)
    given = np.where(np.arange(score.size) % 5 == 0, score, np.nan)
    where = {"engine": parted(kind, monkeypatch), "work_dir": tmp_path}
    for work in (
        partial(spread_scores, graph, given),
        partial(propagate, graph, score, hops=2, floor=0.0, edges="mutual"),
        partial(own_scores, graph, score, edges="directed"),
    ):
        assert work(**where).tobytes() == work().tobytes()


class DyingShard(Shard):
    """Ends its process in the middle of a run, the first time."""

    def __init__(self, tried, *arguments):
        super().__init__(*arguments)
        self.tried, self.calls = tried, 0

    def advance(self, *arguments):
        self.calls += 1
        if self.calls == 3 and not self.tried.exists():
            self.tried.touch()
            os._exit(1)
        return super().advance(*arguments)


@compiled
@with_ray
def test_a_lost_process_changes_nothing(monkeypatch, tmp_path, problem):
    graph, score, _ = problem
    monkeypatch.setattr(message_sizes, "PART_EDGES", 10_000)
    monkeypatch.setattr(greedy_module, "FEW", 1000)
    plain = select(graph, score, 700)
    monkeypatch.setattr("d2cli.selection.shards.Shard", partial(DyingShard, tmp_path / "tried"))
    (tmp_path / "work").mkdir()
    engine = parted("ray", monkeypatch)
    found = select(graph, score, 700, engine=engine, work_dir=tmp_path / "work")
    assert (tmp_path / "tried").exists()
    assert found.order.tobytes() == plain.order.tobytes()
    assert found.gains.tobytes() == plain.gains.tobytes()
