"""Run graph and select here and on clusters that are simulated on this machine: `make bench-ray`.

    python bench/cluster.py [--sizes 1000000 2000000 4000000] [--nodes 1 2 4] [--repeat 3]
                            [--data DIR]

Rows are those of the family *clustered* (families.py), × 128 float16, and scores are drawn. For
each size, `d2prune graph` and `d2prune select --ratio 0.3` run on one thread: in memory, with files
(`--max-memory 1GiB`), and on clusters of 1, 2 and 4 nodes of one core each, which Ray simulates.
All of that is done --repeat times in turn; the table has medians.

Measured are seconds, CPU seconds of all processes of the run and of the cluster, those of the
process of the command alone (the driver), bytes that reads and writes moved, and whether lists and
selections are those of one machine. Then RayEngine runs tasks that do nothing, which shows how many
tasks a second the driver can serve.

Exits with 1 if a result differs. Results go to DIR/cluster.json and DIR/cluster.md; the default DIR
is build/bench-ray.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
from families import clustered
from inputs import REPOSITORY, complete
from watch import IO, Watch

RATIO = "0.3"
HERE = "one machine, in memory"
MEASURED = ("seconds", "cpu", "driver_cpu", "tasks", *IO[:2])
IDLE_TASKS = 20_000
_MIB = 2**20


def run(*command: str) -> dict[str, Any]:
    """Run a command of d2prune; return what it used, and what it printed of itself as JSON."""
    words = [sys.executable, "-m", "d2cli", *command, "--json", "-q"]
    start, watch = time.perf_counter(), Watch(os.getpid())  # the processes of a cluster are ours
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    printed, _ = process.communicate()
    seconds = time.perf_counter() - start
    watch.end()
    if process.returncode:
        raise SystemExit(f"bench/cluster.py: {' '.join(words)} failed")
    told = json.loads(printed)["run"]
    all_used = {
        name: watch.moved(name) - watch.used(name, os.getpid()) for name in ("cpu", *IO[:2])
    }
    return {
        "seconds": seconds,
        **all_used,
        "driver_cpu": watch.used("cpu", process.pid),
        "tasks": told.get("cluster", {}).get("tasks", 0),
        "steps": told.get("steps", {}),
    }


def lists_of(path: Path) -> bytes:
    """Return the neighbours and distances of a graph file."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
        columns = (table.column(name).combine_chunks() for name in ("neighbors", "distances"))
        return b"".join(column.flatten().to_numpy().tobytes() for column in columns)


def measure(data: Path, n: int, node_counts: list[int], repeat: int) -> list[dict[str, Any]]:
    """Run one size everywhere, and all of that `repeat` times."""
    emb, scores = data / f"clustered_{n}.npy", data / f"scores_{n}.npy"
    for path, write in ((emb, partial(clustered, n=n, seed=0)), (scores, partial(_scores, n=n))):
        if not path.exists():
            with complete(path) as temporary:
                write(temporary)
    found: list[dict[str, Any]] = []
    expected: dict[str, bytes] = {}
    places: list[tuple[str, int, list[str]]] = [
        (HERE, 0, ["--threads", "1"]),
        ("one machine, 1GiB", 0, ["--threads", "1", "--max-memory", "1GiB"]),
        *((f"nodes of 1 core: {count}", count, ["--engine", "ray"]) for count in node_counts),
    ]
    for place, nodes, options in places * repeat:
        with Cluster(nodes) as cluster:
            for command in ("graph", "select"):
                out = data / ("graph.arrow" if command == "graph" else "kept.npy")
                inputs = ["--emb", str(emb)] if command == "graph" else [
                    "--graph", str(data / "graph.arrow"), "--scores", str(scores),
                    "--ratio", RATIO,
                ]  # fmt: skip
                where = cluster.options if nodes else []
                used_by = run(command, *inputs, "--out", str(out), *options, *where)
                content = lists_of(out) if command == "graph" else np.load(out).tobytes()
                same = expected.setdefault(command, content) == content
                found.append(
                    {"rows": n, "place": place, "command": command, "same": same, **used_by}
                )
                print(json.dumps(found[-1]), flush=True)
    return found


def _scores(path: Path, n: int) -> None:
    np.save(path, np.random.default_rng(1).beta(0.5, 3.0, n))


class Cluster:
    """A cluster of some nodes of one core, simulated on this machine, for a block; 0: none."""

    def __init__(self, nodes: int) -> None:
        self.nodes = nodes

    def __enter__(self) -> Cluster:
        self._cluster: Any = None
        if self.nodes:
            from ray.cluster_utils import Cluster as Simulated

            size = {"num_cpus": 1, "memory": 3 * 2**30, "object_store_memory": 2**29}
            head = {**size, "include_dashboard": False}
            self._cluster = Simulated(initialize_head=True, head_node_args=head)
            for _ in range(self.nodes - 1):
                self._cluster.add_node(**size)
        return self

    @property
    def options(self) -> list[str]:
        """Options that name the cluster."""
        return ["--ray-address", self._cluster.address, "--ray-nodes", str(self.nodes)]

    def __exit__(self, *error: object) -> None:
        if self._cluster is not None:
            self._cluster.shutdown()


def nothing(item: int) -> None:
    """A task that does nothing."""


def idle_tasks(count: int) -> dict[str, float]:
    """Run tasks that do nothing, and return how long that takes."""
    from d2cli.engine.cluster import RayEngine

    engine = RayEngine(None, 2)
    engine.each(nothing, range(100))
    start, cpu = time.perf_counter(), time.process_time()
    engine.each(nothing, range(count))
    found = {"tasks": count, "seconds": time.perf_counter() - start}
    found["driver_cpu"] = time.process_time() - cpu
    engine.end()
    return found


def medians(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one line for each size, place and command: medians of what was measured."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in runs:
        alike.setdefault((one["rows"], one["command"], one["place"]), []).append(one)
    found = []
    for (rows, command, place), some in alike.items():
        middle = {name: median(one[name] for one in some) for name in MEASURED}
        same = all(one["same"] for one in some)
        found.append({"rows": rows, "command": command, "place": place, "same": same, **middle})
    return found


def table(runs: list[dict[str, Any]], idle: dict[str, float]) -> str:
    """Format what was measured as Markdown; CPU also in proportion to that of one machine."""
    lines = [
        f"# Clusters simulated on one machine with {os.cpu_count()} cores\n",
        "By `make bench-ray`; see [cluster.py](cluster.py). The driver is the process of the "
        "command.\n",
        "| rows | command | where | s | CPU s | in proportion | of the driver | tasks | read MiB "
        "| written MiB | same result |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    found = medians(runs)
    here = {(one["rows"], one["command"]): one["cpu"] for one in found if one["place"] == HERE}
    for one in found:
        read, written = (one[name] / _MIB for name in IO[:2])
        share = one["cpu"] / here[one["rows"], one["command"]]
        lines.append(
            f"| {one['rows']:,} | {one['command']} | {one['place']} | {one['seconds']:,.1f} "
            f"| {one['cpu']:,.1f} | {share:.2f} | {one['driver_cpu']:,.1f} | {one['tasks']:,.0f} "
            f"| {read:,.0f} | {written:,.0f} | {'yes' if one['same'] else '**no**'} |"
        )
    rate = idle["tasks"] / idle["seconds"]
    lines.append(
        f"\n{idle['tasks']:,.0f} tasks that do nothing: {idle['seconds']:.1f} s, {rate:,.0f} a "
        f"second; {1e6 * idle['driver_cpu'] / idle['tasks']:.0f} µs of CPU of the driver each."
    )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Measure graph and select on simulated clusters.")
    add = parser.add_argument
    add("--data", type=Path, default=REPOSITORY / "build" / "bench-ray")
    add("--sizes", type=int, nargs="+", default=[1_000_000, 2_000_000, 4_000_000])
    add("--repeat", type=int, default=3)
    add("--nodes", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    runs = [
        one
        for n in arguments.sizes
        for one in measure(arguments.data, n, arguments.nodes, arguments.repeat)
    ]
    idle = idle_tasks(IDLE_TASKS)
    (arguments.data / "cluster.json").write_text(json.dumps({"runs": runs, "idle": idle}))
    (arguments.data / "cluster.md").write_text(table(runs, idle))
    print(table(runs, idle))
    if not all(one["same"] for one in runs):
        raise SystemExit("bench/cluster.py: a result differs")


if __name__ == "__main__":
    main()
