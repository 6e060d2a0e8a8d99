"""Memory on clusters of several nodes, simulated on this machine, against what is planned."""

import json
import subprocess
import sys
from itertools import pairwise

import pytest

from d2cli.selection.sizes import shard_bytes
from tests.engines import with_ray
from tests.marks import compiled
from tests.pages import ROOT

pytestmark = [with_ray, compiled]

#: Begins each program. ``cluster(store, **system)`` starts two nodes of one core.
BEGIN = """
import json, sys
import numpy as np
from pathlib import Path
from ray.cluster_utils import Cluster
from d2cli.engine.cluster import RayEngine

def cluster(store, **system):
    node = {"num_cpus": 1, "memory": 2 * 2**30, "object_store_memory": store << 20}
    head = {**node, "include_dashboard": False, "_system_config": system}
    made = Cluster(initialize_head=True, head_node_args=head)
    made.add_node(**node)
    return RayEngine(made.address, None, 2)
"""

#: Two runs at once on shards of n rows that list 10 others each, of which none lists them. Prints
#: the sizes of the shards and the peaks of their processes, beyond program and kernels, in bytes.
SHARDS = """
import os, threading, time
from concurrent.futures import ThreadPoolExecutor
from d2cli.engine.store import PartStore
from d2cli.engine.tasks import Engine
from d2cli.files.output.work_files import WorkFiles
from d2cli.files.output.work_folder import LocalFolder
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages.part_tasks import edges_by_tasks
from d2cli.selection import shards
from d2cli.selection.sweeps import Sweeps

def graph_of(n, k=10):
    rng, rows = np.random.default_rng(0), np.arange(n)
    steps = np.sort(rng.choice(np.arange(1, n // 2), (50, k), replace=False), axis=1)
    neighbors = ((rows[:, None] + steps[rows % 50]) % n).astype(np.int32)
    distances = np.linspace(0.5, 1.5, k, dtype="f4") + (rows % 97)[:, None].astype("f4") / 97
    return KnnGraph(neighbors, np.ascontiguousarray(distances))

def picks(held, n, classes, gamma):
    u, size = np.random.default_rng(1).beta(0.5, 3, n), int(0.3 * n)
    quota = np.full(7, size // 7 + 1) if classes.size else np.array([size])
    order, gains = np.empty(size, np.int64), np.empty(size)
    Sweeps(held, classes).picks(gamma, u, np.ones(n, np.bool_), quota, order, gains)

def classes_of(n, number):
    return np.arange(n, dtype=np.int32) % 7 if number else np.empty(0, np.int32)

def private():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) << 10

class Measured(shards.Shard):
    def __init__(self, *arguments):
        parts = edges_by_tasks(graph_of(5000), "union", None, PartStore(), Engine(1, 2))
        for number in (0, 1):  # loads the kernels
            held = shards.Shards(parts, True, 1.0, classes=bool(number))
            picks(held, 5000, classes_of(5000, number), 0.3)
        self.most = self.before = private()
        threading.Thread(target=self.watch, daemon=True).start()
        super().__init__(*arguments)

    def watch(self):
        while True:
            self.most = max(self.most, private())
            time.sleep(0.001)

    def measured(self):
        here = self._here
        sizes = {"own": here.stop - here.first, "edges": here.edges.indices.size}
        return {**sizes, "peak": self.most - self.before}

engine, folder = cluster(400), Path(sys.argv[1])
found = []
for n, number in ((20_000, 1), (300_000, 0), (1_000_000, 0), (1_000_000, 1)):
    with WorkFiles(LocalFolder(folder)) as files:
        graph, classes = graph_of(n), classes_of(n, number)
        parts = edges_by_tasks(graph, "union", None, files, engine)
        shards.Shard, kept = Measured, shards.Shard
        held = shards.Shards(parts, True, 1.0, classes=bool(number))
        shards.Shard = kept
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda gamma: picks(held, n, classes, gamma), (0.2, 0.4)))
        for one in held.held.call("measured", [()] * len(held.held)):
            found.append({"n": n, "classes": bool(number), **one})
        held.end()
print(json.dumps(found))
"""

#: An object store of 80 MiB holds arrays of 40 MiB and of 120 MiB. With an argument, the disk to
#: which Ray would write the rest counts as full.
STORE = """
class Sums:
    def __init__(self, item):
        pass

    def twice(self, array):
        return 2 * array

full = {"local_fs_capacity_threshold": 0.001} if len(sys.argv) > 1 else {}
engine = cluster(80, **full)
for mebibytes in (40, 120):
    held = engine.hold(Sums, [0, 1], 1 << 20)
    array = np.ones(mebibytes << 17)
    answers = held.call("twice", [(held.share(array),)] * 2)
    assert [float(one.sum()) for one in answers] == [2.0 * array.size] * 2
    held.end()
print("done")
"""


def program(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=400,
    )  # fmt: skip
    return done.stdout, done.stderr


def test_shards_take_the_memory_that_is_planned(tmp_path):
    out, errors = program(SHARDS, tmp_path)
    assert out, errors
    found = [one for one in json.loads(out.splitlines()[-1]) if one["n"] > 20_000]
    assert len(found) == 6
    planned = [shard_bytes(one["n"], one["own"], one["edges"], one["classes"]) for one in found]
    for size, one in zip(planned, found, strict=True):
        assert one["peak"] == pytest.approx(size, rel=0.15)
    # Growth with n and with classes, without what differs between processes.
    for (less, more), (a, b) in zip(pairwise(planned[::2]), pairwise(found[::2]), strict=True):
        assert b["peak"] - a["peak"] == pytest.approx(more - less, rel=0.1, abs=4e6)


def test_what_the_object_store_does_not_hold_goes_to_disk():
    out, errors = program(STORE)
    assert out.splitlines()[-1:] == ["done"], errors


def test_a_full_object_store_and_disk_are_an_error_that_says_so():
    out, errors = program(STORE, "full")
    assert "done" not in out
    assert "has no room left for objects: the disk of its temporary folder is full" in errors
