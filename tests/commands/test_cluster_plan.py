"""Plans of runs on a cluster, whose nodes are made up: what they state, and what they refuse."""

import json
import os
import re
from types import SimpleNamespace

import numpy as np
import pytest

from d2cli.engine import cluster
from d2cli.errors import LimitError
from d2cli.messages import sizes as message_sizes
from d2cli.runtime.ledger import BASE, MIB, RAY
from d2cli.selection import sizes
from d2cli.selection.sizes import shards_for

N, K = 40_000, 4
SELECT = ["select", "--graph", "g.arrow", "--scores", "scores.npy", "--ratio", "0.5"]
BUILD = ["select", "--emb", "emb.npy", "--scores", "scores.npy", "--ratio", "0.5", "-k", "4"]
RAY_OPTIONS = ["--engine", "ray", "--ray-address", "auto"]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a graph of N rows, and the embeddings and scores of these rows."""
    from d2cli.files.graph_file import write_graph
    from d2cli.graph.knn_graph import KnnGraph

    folder, rng = tmp_path_factory.mktemp("inputs"), np.random.default_rng(0)
    neighbors = np.sort((np.arange(N)[:, None] + np.arange(1, K + 1)) % N, axis=1)
    write_graph(
        folder / "g.arrow", KnnGraph(neighbors.astype(np.int32), np.ones((N, K), np.float32))
    )
    np.save(folder / "emb.npy", rng.standard_normal((N, 8)).astype(np.float32))
    np.save(folder / "scores.npy", rng.random(N))
    np.save(folder / "labels.npy", rng.integers(0, 3, N))
    return folder


@pytest.fixture
def nodes(monkeypatch):
    """``nodes((cores, MiB), …)``: from now on, a cluster has these nodes, with a store each."""

    def made(*sizes, store=200):
        there = [
            {
                "Alive": True, "NodeID": str(number),
                "Resources": {
                    "CPU": float(cores), "memory": mib * float(MIB),
                    "object_store_memory": store * float(MIB),
                },
            }
            for number, (cores, mib) in enumerate(sizes)
        ]  # fmt: skip
        gone = [{"Alive": False, "NodeID": "gone", "Resources": {"CPU": 8.0, "memory": 1e12}}]
        head = [{"Alive": True, "NodeID": "head", "Resources": {"memory": 1e12}}]
        ray = SimpleNamespace(
            nodes=lambda: [*there, *gone, *head], is_initialized=lambda: True,
            remote=lambda work: work,
        )  # fmt: skip
        monkeypatch.setattr(cluster, "ray_module", lambda: ray)

    return made


@pytest.fixture
def planned(inputs, run_cli):
    """Runs a command line on the cluster, in a folder with the inputs; JSON if it is a plan."""
    for path in inputs.iterdir():
        os.symlink(path, path.name)

    def call(*words):
        code, out, err = run_cli(*words, *RAY_OPTIONS)
        return code, json.loads(out) if "--json" in words and code == 0 else out, err

    return call


def plan_of(planned, line, *more):
    code, found, err = planned(*line, *more, "--plan", "--json")
    assert code == 0, err
    return found


def test_plan_states_process_tasks_shards_and_object_store(planned, nodes):
    nodes((1, 2000), (1, 2000))
    found = plan_of(planned, SELECT)
    on_nodes, memory = found["cluster"], found["memory"]
    assert set(on_nodes) == {"nodes", "tasks", "shards", "object_store_bytes"}
    assert (on_nodes["nodes"], on_nodes["tasks"]["at_once"]) == (2, 2)
    # One part has all edges, and so one shard.
    edges, parts = message_sizes.most_edges(N, K, "union")
    assert (edges, parts) == (2 * N * K, 1)
    size = BASE + sizes.shard_bytes(N, N, edges, classes=False)
    assert on_nodes["shards"] == {"count": 1, "bytes": size}
    tasks = on_nodes["tasks"]
    assert tasks["peak_bytes"] == sum(tasks["parts"].values())
    assert set(tasks["parts"]) == {"program", "freed arrays", "piece of edges"}
    assert memory["peak_bytes"] == sum(memory["parts"].values())
    assert memory["parts"]["Ray"] == RAY
    assert memory["parts"]["object store"] == on_nodes["object_store_bytes"]
    held_here = {name for name, size in memory["parts"].items() if size}
    assert not {"edges", "band of edges", "piece of edges"} & held_here
    balanced = plan_of(planned, SELECT, "--labels", "labels.npy", "--balance", "uniform")
    assert balanced["cluster"]["shards"]["bytes"] - size == sizes.AT_ONCE * 4 * N
    fixed = plan_of(planned, SELECT, "--gamma-reverse", "1")["cluster"]
    assert fixed["object_store_bytes"] < on_nodes["object_store_bytes"]
    _, out, _ = planned(*SELECT, "--plan")
    lines = {line.split(" ", 1)[0]: line for line in out.splitlines()}
    assert "at most in this process, in select" in lines["memory"]
    assert "2 at once on 2 nodes" in lines["tasks"]
    assert "1 of at most" in lines["shards"]
    assert "which has 200 MiB" in lines["store"]


def test_one_node_has_no_shards(planned, nodes):
    nodes((2, 2000))
    found = plan_of(planned, SELECT)
    assert found["cluster"]["shards"] is None
    assert "band of edges" in found["memory"]["parts"]
    assert "shards" not in planned(*SELECT, "--plan")[1]


@pytest.mark.parametrize("command", ["graph", "propagate", "select"])
def test_tasks_declare_what_their_plan_counts(planned, nodes, command):
    nodes((2, 1200), (2, 1200))
    line = {
        "graph": ["graph", "--emb", "emb.npy", "-k", "4", "--out", "g2.arrow"],
        "propagate": ["propagate", *SELECT[1:5], "--out", "p.npy"],
        "select": BUILD,
    }[command]
    found = plan_of(planned, line)
    budget = found["memory"]["budget_bytes"]
    assert budget == int(0.8 * 1200 * MIB) // 2 - BASE
    assert BASE < found["cluster"]["tasks"]["peak_bytes"] <= BASE + budget
    assert (found["cluster"]["shards"] is not None) == (command == "select")
    assert found["memory"]["parts"]["Ray"] == RAY


@pytest.mark.parametrize("more", [["--plan"], []])
def test_shards_that_do_not_fit_are_refused_before_work(planned, nodes, more):
    nodes((1, 260), (1, 260))
    code, out, err = planned(*SELECT, *more)
    assert code == 1
    assert out.startswith("reads") or not more
    (line,) = [text for text in err.splitlines() if text.startswith("error: ")]
    assert re.search(r"must hold 1 shard of 2\d\d MiB, and lends 416 MiB on 2 nodes: ", line)
    assert line.endswith("add nodes, or use nodes with more memory")
    code, _, err = planned(*SELECT, *more, "--max-memory", "200MiB")
    assert code == 1
    assert "a larger --max-memory" in err


def test_a_task_that_exceeds_its_share_of_max_memory_is_refused(planned, nodes):
    nodes((4, 4000), (4, 4000))
    code, _, err = planned(*SELECT, "--max-memory", "800MiB")
    assert code == 1
    assert "a task needs at least" in err
    assert "its share of --max-memory is 200 MiB: use a larger --max-memory" in err
    nodes((4, 1000), (4, 1000))
    found = plan_of(planned, SELECT)
    assert any("its share of a node is 200 MiB" in notice for notice in found["notices"])


def test_object_store_that_is_too_small_prints_a_notice(planned, nodes):
    nodes((1, 2000), (1, 2000), store=2)
    (notice,) = plan_of(planned, SELECT)["notices"]
    assert "pass through the object store of a node, which has 2 MiB" in notice


def engine_of():
    """An engine on the nodes of the fixture `nodes`."""
    return cluster.RayEngine("auto", None)


def test_fewer_shards_are_made_if_one_for_each_core_does_not_fit(nodes):
    n, edges, parts = 10_000_000, 200_000_000, 200
    nodes((8, 1e6), (8, 1e6))
    roomy = shards_for(engine_of(), n, edges, parts, classes=False)
    assert roomy.count == 16
    nodes((8, 4000), (8, 4000))
    tight = shards_for(engine_of(), n, edges, parts, classes=False)
    assert 2 < tight.count < 16
    assert tight.count * (BASE + tight.size) <= 2 * 4000 * MIB
    one_more = sizes.shard_bytes(
        n, n // (tight.count + 1) + n // parts + 1,
        edges // (tight.count + 1) + edges // parts + 1, classes=False,
    )  # fmt: skip
    assert not engine_of().can_hold(tight.count + 1, one_more)
    nodes((8, 500), (8, 500))
    engine = engine_of()
    found = shards_for(engine, n, edges, parts, classes=False)
    assert found.count == 2, "one for each node, which is what has to fit"
    with pytest.raises(LimitError, match=r"2 shards of .* and lends 0.977 GiB on 2 nodes"):
        engine.check_room("shard", found.count, found.size)


def test_objects_are_placed_by_cores_and_memory(nodes):
    nodes((4, 10_000), (4, 2_000), (2, 10_000))
    engine = engine_of()
    held = [node.id for node, _ in engine._places(10, 0)]
    assert sorted(held) == [*"0000", *"1111", *"22"]
    memory = 900 * MIB - BASE
    placed = engine._places(10, memory)
    count = {name: sum(node.id == name for node, _ in placed) for name in "012"}
    assert count == {"0": 6, "1": 2, "2": 2}
    assert {(node.id, share) for node, share in placed} == {("0", 0.5), ("1", 1.0), ("2", 1.0)}
    assert engine._places(11 + 2 + 11 + 1, memory) is None
    engine.memory_of_task(0.5, 1_000 * MIB)
    assert len(engine._places(3, memory)) == 3
    assert engine._places(4, memory) is None
