"""Estimate huge runs on a cluster from what was measured on a small one: part of `make bench-ray`.

    python bench/cluster_model.py [--data build/bench-ray] [--nodes 16] [--cores 16] [--memory 64]

Reads DIR/cluster.json (cluster.py). --memory is what Ray lends on a node, in GiB. The model:

    graph   CPU      n · (c · (1 − s + s · d / 512) + e · (cells − 6250))
            storage  as `d2prune graph --plan` states for tasks of this memory
            driver   n · g
    select  CPU      n · w
            driver   n · q

c and s were measured with 12.8 million × 512 rows in 4 GiB (RESULTS.md): CPU seconds a row, and
the share of the steps that read vectors. e is the time of one comparison with the centre of a cell.
g, w and q are slopes between the two largest sizes of cluster.json, g on one node, w and q on two;
g includes what the driver spends on tasks. CPU time is divided by all cores.

Assumed: cores like those that were measured; all of them are busy all the time; storage has the
stated bandwidth for all nodes together; the driver works while no task runs; recall costs what it
costs on the rows that were measured.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cluster import medians
from inputs import REPOSITORY

from d2cli.commands.budget import SHARE
from d2cli.graph.blocks.sizes import CELL_ROWS, MOST_CELLS, search_in_files
from d2cli.graph.settings import Matrix, SearchSettings
from d2cli.runtime.ledger import BASE, Ledger

#: CPU seconds a row, and the share of the steps read, sample, encode and rank: RESULTS.md.
LARGE_ROWS, LARGE_WIDTH, LARGE_CPU, WITH_VECTORS = 12_800_000, 512, 882 / 12_800_000, 400 / 573
#: Seconds of one comparison of a row with a centre, in 192 dimensions.
COMPARISON = 0.65e-9
SIZES, WIDTH = (128_000_000, 1_280_000_000), 768
BANDWIDTHS = (2e9, 20e9)
HOUR, TIB = 3600.0, 2**40


class Slopes:
    """What a row more costs, between the two largest sizes that were measured."""

    def __init__(self, runs: list[dict[str, Any]]) -> None:
        self.runs = medians(runs)

    def of(self, command: str, nodes: int, *names: str) -> float:
        """Return the slope of the first of some figures, less the others, per row."""
        place = f"nodes of 1 core: {nodes}"
        alike = [r for r in self.runs if (r["command"], r["place"]) == (command, place)]
        if len(alike) < 2:
            raise SystemExit(f"cluster_model.py: needs two sizes on {nodes} nodes")
        small, large = sorted(alike, key=lambda run: run["rows"])[-2:]
        values = [run[names[0]] - sum(run[name] for name in names[1:]) for run in (small, large)]
        return float((values[1] - values[0]) / (large["rows"] - small["rows"]))


def estimate(n: int, slopes: Slopes, nodes: int, cores: int, memory: float) -> dict[str, float]:
    """Return seconds and bytes of a run with n rows."""
    everywhere = nodes * cores
    cells = min(n // CELL_ROWS, MOST_CELLS)
    row = LARGE_CPU * (1 - WITH_VECTORS + WITH_VECTORS * WIDTH / LARGE_WIDTH)
    row += COMPARISON * (cells - LARGE_ROWS // CELL_ROWS)
    room = int(SHARE * memory * 2**30 / cores) - BASE
    matrix, settings = Matrix(n, WIDTH, 2, mapped=True), SearchSettings(threads=1)
    files = search_in_files(Ledger(), Ledger(), matrix, settings, room, everywhere)
    return {
        "rows": n,
        "cpu": n * row / everywhere,
        "read": files.read,
        "written": files.written,
        "disk": files.disk,
        "tasks": n * slopes.of("graph", 1, "tasks"),
        "driver": n * slopes.of("graph", 1, "driver_cpu"),
        "select cpu": n * slopes.of("select", 2, "cpu", "driver_cpu") / everywhere,
        "select driver": n * slopes.of("select", 2, "driver_cpu"),
    }


def table(found: list[dict[str, float]], nodes: int, cores: int, memory: float) -> str:
    """Format estimates as Markdown."""
    heads = [f"{one['rows']:,.0f} × {WIDTH} float16" for one in found]
    lines = [
        f"# Estimated: {nodes} nodes of {cores} cores, {memory:g} GiB lent on each\n",
        "Not measured. By [cluster_model.py](cluster_model.py), which states what is assumed.\n",
        f"| hours | {' | '.join(heads)} |",
        f"| --- |{' --- |' * len(found)}",
    ]

    def add(name: str, text: str, values: list[float]) -> None:
        lines.append(f"| {name} | {' | '.join(text.format(value) for value in values)} |")

    def total(one: dict[str, float], bandwidth: float) -> float:
        moving = (one["read"] + one["written"]) / bandwidth
        return max(one["cpu"], moving) + one["driver"]

    for name, key in (("CPU time on all cores", "cpu"), ("driver", "driver")):
        add(f"graph: {name}", "{:.2f}", [one[key] / HOUR for one in found])
    for bandwidth in BANDWIDTHS:
        moved = [(one["read"] + one["written"]) / bandwidth / HOUR for one in found]
        add(f"graph: storage at {bandwidth / 1e9:g} GB/s", "{:.2f}", moved)
    for bandwidth in BANDWIDTHS:
        hours = [total(one, bandwidth) / HOUR for one in found]
        add(f"**graph, at {bandwidth / 1e9:g} GB/s**", "**{:.1f}**", hours)
    for name, key in (("CPU time on all cores", "select cpu"), ("driver", "select driver")):
        add(f"select: {name}", "{:.2f}", [one[key] / HOUR for one in found])
    hours = [(one["select cpu"] + one["select driver"]) / HOUR for one in found]
    add("**select**", "**{:.1f}**", hours)
    lines += ["", f"| | {' | '.join(heads)} |", f"| --- |{' --- |' * len(found)}"]
    for name, key in (("read", "read"), ("written", "written"), ("disk of --work-dir", "disk")):
        add(f"{name}, TiB", "{:.1f}", [one[key] / TIB for one in found])
    add("tasks", "{:,.0f}", [one["tasks"] for one in found])
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Estimate huge runs from cluster.json.")
    add = parser.add_argument
    add("--data", type=Path, default=REPOSITORY / "build" / "bench-ray")
    add("--nodes", type=int, default=16)
    add("--cores", type=int, default=16)
    add("--memory", type=float, default=64.0)
    arguments = parser.parse_args()
    measured = json.loads((arguments.data / "cluster.json").read_text())
    slopes = Slopes(measured["runs"])
    cluster = (arguments.nodes, arguments.cores, arguments.memory)
    text = table([estimate(n, slopes, *cluster) for n in SIZES], *cluster)
    (arguments.data / "model.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
