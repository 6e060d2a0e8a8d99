"""Compare kNN graphs with pynndescent at equal recall, on families of data: `make bench-knn`.

    python bench/knn.py [--only NAME ...] [--peers d2prune pynndescent] [--repeat 3] [--data DIR]

- Each measurement runs in a process of its own after a warm-up (bench/knn_worker.py): CPU seconds
  (user and system) of one thread, or with --threads 2 seconds of the clock.
- The settings of both programs take turns, in a new order each round; medians are compared.
- recall@10 is measured by distance on 500 rows whose true neighbours are known (bench/families.py).
- The cost at a recall is interpolated between settings, linearly in the logarithms of the time and
  of 1 - recall. Settings that are slower than one of higher recall are left out. The cost at a
  recall below that of every setting is that of the cheapest.
- Growth: CPU seconds of a set, divided by those of the set of its family with half the rows.

DATA/knn.json keeps every run; runs of the named sets and peers replace older ones. DATA/knn.md is
the table, written anew after each run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from families import DATA, SETS, build, chosen

HERE = Path(__file__).resolve().parent
K = 10
TARGETS = (0.95, 0.99)
SETTINGS: dict[str, list[dict[str, float]]] = {
    "pynndescent": [{"n_neighbors": n} for n in (11, 13, 15, 20, 30, 40)],
    "d2prune": [{"recall": r} for r in (0.9, 0.95, 0.97, 0.99, 0.995)],
}
#: Sets of more rows are measured once, and for growth only: without --peers, d2prune alone.
LARGE = 1_000_000
#: A recall of 1 on the sample counts as this much below 1: a half of one of 500 × 10 neighbours.
SMALLEST_MISS = 1e-4
#: Each of these makes a library use one thread, or the number that it is set to.
THREAD_VARIABLES = (
    "NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
)  # fmt: skip
Run = dict[str, Any]


class Worker:
    """A process that measures one program."""

    def __init__(self, peer: str, threads: int) -> None:
        environment = os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads))
        environment["NUMBA_THREADING_LAYER"] = "workqueue"  # the layer that survives a fork
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "knn_worker.py"), peer, str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def measure(self, job: dict[str, Any]) -> Run:
        """Return the answer to one job."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):  # skip output of libraries
                return dict(json.loads(line))
        raise SystemExit(f"bench/knn.py: a worker ended without an answer to {job}")

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


# -- costs at a recall ----------------------------------------------------------------------------
def cost_at(points: list[tuple[float, float]], recall: float) -> float:
    """Return the cost at `recall`, interpolated between points (recall, cost); NaN above them."""
    best: list[tuple[float, float]] = []  # recall and cost ascending
    for reached, cost in sorted(points, key=lambda point: (-point[0], point[1])):
        if not best or cost < best[0][1]:
            best.insert(0, (reached, cost))
    above = [point for point in best if point[0] >= recall]
    below = [point for point in best if point[0] < recall]
    if not above:
        return math.nan
    if not below:
        return above[0][1]
    (low, cheap), (high, dear) = below[-1], above[0]

    def miss(reached: float) -> float:
        return math.log(max(1 - reached, SMALLEST_MISS))

    if miss(high) == miss(low):
        return dear
    share = (miss(recall) - miss(low)) / (miss(high) - miss(low))
    return math.exp(math.log(cheap) + share * (math.log(dear) - math.log(cheap)))


def curves(runs: list[Run], threads: int) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """Return the medians of each setting, by set and peer, in the order of cost."""
    groups: dict[tuple[str, str], dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run["threads"] == threads and "failed" not in run:
            groups[run["set"], run["peer"]][json.dumps(run["options"])].append(run)
    figure = "cpu" if threads == 1 else "wall"
    return {
        key: sorted(
            (
                {
                    "options": json.loads(options),
                    "cost": statistics.median(run[figure] for run in same),
                    "recall": statistics.median(run["recall"] for run in same),
                    "peak": max(run["peak"] for run in same),
                    "runs": len(same),
                }
                for options, same in settings.items()
            ),
            key=lambda point: float(point["cost"]),
        )
        for key, settings in groups.items()
    }


def costs(curve: list[dict[str, Any]], recall: float) -> float:
    """Return the interpolated cost of a curve."""
    return cost_at([(point["recall"], point["cost"]) for point in curve], recall)


# -- tables ---------------------------------------------------------------------------------------
def show(seconds: float) -> str:
    """Format a time; an en dash for NaN."""
    return "–" if math.isnan(seconds) else f"{seconds:.3g}"


def comparison(runs: list[Run], threads: int) -> list[str]:
    """Return the lines of the table of ratios at equal recall."""
    found = curves(runs, threads)
    figure = "CPU seconds, one thread" if threads == 1 else f"wall seconds, {threads} threads"
    heads = "".join(f" d2prune {t} | pynndescent {t} | ratio {t} |" for t in TARGETS)
    lines = [f"\n**{figure}, at recall@{K} by distance**\n", f"| set |{heads}"]
    lines.append("| --- |" + " --- |" * (3 * len(TARGETS)))
    ratios: dict[float, list[float]] = {target: [] for target in TARGETS}
    for name in SETS:
        ours, theirs = found.get((name, "d2prune"), []), found.get((name, "pynndescent"), [])
        if not ours and not theirs:
            continue
        line = f"| {name} |"
        for target in TARGETS:
            a, b = costs(ours, target), costs(theirs, target)
            bound = ""
            if math.isnan(b) and theirs and not math.isnan(a):
                # Not reached by any setting: it would take longer than the longest.
                b, bound = max(point["cost"] for point in theirs), "< "
            if a / b > 0:
                ratios[target].append(a / b)
            ratio = f"{bound}{a / b:.2f}" if a / b > 0 else "–"
            line += f" {show(a)} | {'> ' if bound else ''}{show(b)} | {ratio} |"
        lines.append(line)
    line = "| geometric mean |"
    for target in TARGETS:
        mean = statistics.geometric_mean(ratios[target]) if ratios[target] else math.nan
        line += f" | | {show(mean)} |"
    return [*lines, line]


def growth(runs: list[Run]) -> list[str]:
    """Return the lines of the table of growth."""
    found = curves(runs, 1)
    head = ["\n**Growth: CPU seconds with twice the rows / CPU seconds**\n"]
    head.append("| sets | peer |" + "".join(f" at {target} |" for target in TARGETS))
    head.append("| --- | --- |" + " --- |" * len(TARGETS))
    lines = []
    for small in SETS:
        for large in SETS:
            same = SETS[small].family == SETS[large].family and SETS[small].grows
            if not same or SETS[large].rows != 2 * SETS[small].rows:
                continue
            for peer in SETTINGS:
                if (small, peer) in found and (large, peer) in found:
                    pairs = [
                        costs(found[large, peer], t) / costs(found[small, peer], t) for t in TARGETS
                    ]
                    cells = "".join(f" {show(ratio)} |" for ratio in pairs)
                    lines.append(f"| {small} → {large} | {peer} |{cells}")
    return head + lines if lines else []


def settings_table(runs: list[Run], threads: int) -> list[str]:
    """Return the lines of the table of every setting."""
    figure = "CPU s" if threads == 1 else "wall s"
    lines = [f"\n**Every setting, {threads} thread{'s' * (threads > 1)}**\n"]
    lines.append(f"| set | peer | setting | {figure} | recall@{K} | peak MiB | runs |")
    lines.append("| --- | --- | --- | --- | --- | --- | --- |")
    for (name, peer), curve in sorted(curves(runs, threads).items()):
        for point in curve:
            setting = ", ".join(f"{key} {value}" for key, value in point["options"].items())
            lines.append(
                f"| {name} | {peer} | {setting} | {point['cost']:.3g} | {point['recall']:.4f} "
                f"| {point['peak'] / 2**20:,.0f} | {point['runs']} |"
            )
    return lines


def table(runs: list[Run]) -> str:
    """Format all results as Markdown."""
    lines = ["# kNN graphs at equal recall", "", "By `make bench-knn`; see [knn.py](knn.py)."]
    counts = sorted({run["threads"] for run in runs})
    for threads in counts:
        lines += comparison(runs, threads)
    lines += growth(runs)
    for threads in counts:
        lines += settings_table(runs, threads)
    return "\n".join(lines) + "\n"


# -- runs -----------------------------------------------------------------------------------------
def write(results: Path, runs: list[Run]) -> None:
    """Write the runs and their table."""
    results.write_text(json.dumps(runs, indent=0) + "\n")
    results.with_suffix(".md").write_text(table(runs))


def main() -> None:
    """Measure the named sets."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="sets or families")
    parser.add_argument("--peers", nargs="+", choices=[*SETTINGS])
    parser.add_argument("--repeat", type=int, default=3, metavar="N")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR")
    parser.add_argument("--results", type=Path, metavar="FILE", help="default: DIR/knn.json")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic sets, if not built")
    arguments = parser.parse_args()
    names = chosen(arguments.only)
    results = arguments.results or arguments.data / "knn.json"
    runs: list[Run] = json.loads(results.read_text()) if results.exists() else []
    order = random.Random(0)
    workers = {peer: Worker(peer, arguments.threads) for peer in arguments.peers or SETTINGS}
    for name in names:
        large = SETS[name].rows > LARGE
        peers = arguments.peers or (["d2prune"] if large else [*SETTINGS])
        build(name, arguments.data, arguments.seed)
        path = str(arguments.data / f"{name}.npy")
        job = {"input": path, "truth": f"{path[:-4]}_truth.npz", "k": K}
        measured: list[Run] = []
        kept = [
            run for run in runs
            if (run["set"], run["threads"]) != (name, arguments.threads)
            or run["peer"] not in peers
        ]  # fmt: skip
        settings = [(peer, options) for peer in peers for options in SETTINGS[peer]]
        for _ in range(1 if large else arguments.repeat):
            for peer, options in order.sample(settings, len(settings)):
                answer = workers[peer].measure({**job, "options": options})
                run = {"set": name, "peer": peer, "options": options, "threads": arguments.threads}
                measured.append({**run, **answer})
                print(json.dumps(measured[-1]), flush=True)
                runs = kept + measured
                write(results, runs)
    for worker in workers.values():
        worker.close()


if __name__ == "__main__":
    main()
