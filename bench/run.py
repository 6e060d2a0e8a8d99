"""Compare the speed and memory of d2prune with its peers: `make bench`.

- Each contestant runs in a process of its own (bench/worker.py), after a warm-up.
- The contestants of one case take turns, in a new order each round, so that other load on the
  machine affects all of them.
- Medians are reported, and ratios to a named peer.
- A peer uses the fastest settings of a fixed list that reach the recall (bench/peers.py).

    python bench/run.py [graph small growth selection dense ...] [--rounds 5] [--data build/bench]

Results go to DATA/results.json and, as a table, to bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from peers import LADDERS

HERE = Path(__file__).resolve().parent
K = 10
TRUTH_ROWS, TRUTH_BLOCK = 2000, 4096
FAISS_EXACT_QUERIES = 2000
REAL = {"fashion_mnist": "Fashion-MNIST, CNN", "wordnet": "WordNet glosses, MiniLM"}
GROWTH = (125_000, 250_000, 500_000, 1_000_000)
SELECTION_NODES, SELECTION_DEGREE = 5_000_000, 20
#: Rounds for runs of milliseconds, because waking a sleeping core can double a run's time.
SHORT_ROUNDS = 25
#: Seconds between two runs.
REST = 0.5


class Contestant:
    """A worker process and its answers."""

    def __init__(self, name: str, **spec: Any) -> None:
        self.name, self.spec = name, spec
        self.answers: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), json.dumps(spec)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # skip output of libraries
                return dict(json.loads(line))
        raise SystemExit(f"bench: {self.name} ended without an answer ({self.spec})")

    def run(self) -> dict[str, Any]:
        """Make one timed run."""
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.answers.append(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()

    def result(self) -> dict[str, Any]:
        """Return the median time and the peak memory."""
        times = [answer["seconds"] for answer in self.answers]
        last = {k: v for k, v in self.answers[-1].items() if k not in ("seconds", "peak")}
        return {
            "name": self.name,
            "options": self.spec["options"],
            "seconds": statistics.median(times),
            "fastest": min(times),
            "slowest": max(times),
            "peak": max(answer["peak"] for answer in self.answers),
            **last,
        }


def compete(contestants: list[Contestant], rounds: int) -> list[dict[str, Any]]:
    """Run interleaved rounds, each in a new order, then end the contestants.

    The order matters: memory that one contestant freed is cheaper for the next, and threads of some
    libraries spin for a while before they sleep.
    """
    for contestant in contestants:
        contestant.answers.clear()
    order = random.Random(0)
    for _ in range(rounds):
        for contestant in order.sample(contestants, len(contestants)):
            time.sleep(REST)
            contestant.run()
    for contestant in contestants:
        contestant.close()
    return [contestant.result() for contestant in contestants]


def truth_of(path: Path) -> str:
    """Return the path of the true k-th distances of a random sample of rows, from plain NumPy.

    The file is written beside the input once.
    """
    out = path.with_suffix(".truth.npz")
    if not out.exists():
        vectors = np.load(path, mmap_mode="r")
        rows = np.sort(np.random.default_rng(1).permutation(len(vectors))[:TRUTH_ROWS])
        queries = np.asarray(vectors[rows], np.float64)
        kth = np.full(
            (rows.size, K + 1), np.inf
        )  # K + 1, because each row is its own neighbour at distance 0
        for start in range(0, len(vectors), TRUTH_BLOCK):
            block = np.asarray(vectors[start : start + TRUTH_BLOCK], np.float64)
            squares = np.square(queries).sum(axis=1)[:, None] + np.square(block).sum(axis=1)
            squares -= 2 * (queries @ block.T)
            kth = np.partition(np.hstack([kth, squares]), K, axis=1)[:, : K + 1]
        np.savez(out, rows=rows, kth=np.sqrt(kth.max(axis=1)))
    return str(out)


def quickest(peer: str, target: float, **spec: Any) -> Contestant | None:
    """Return the peer with the first settings of its list that reach the recall."""
    for options in LADDERS[peer]:
        contestant = Contestant(peer, peer=peer, options=options, **spec)
        if contestant.run()["recall"] >= target:
            return contestant
        contestant.close()
    return None


def graph_cases(data: Path, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Graphs of real inputs, for two recalls."""
    cases = []
    for stem, title in REAL.items():
        path = data / f"{stem}.npy"
        n, d = np.load(path, mmap_mode="r").shape
        spec = {"case": "graph", "input": str(path), "k": K, "threads": threads}
        judged = {**spec, "truth": truth_of(path)}
        for target in (0.95, 0.99):
            ours = Contestant("d2prune", peer="d2prune", options={"recall": target}, **judged)
            found = [quickest(peer, target, **judged) for peer in LADDERS]
            exact = {"queries": FAISS_EXACT_QUERIES}
            flat = Contestant("faiss exact", peer="faiss exact", options=exact, **spec)
            results = compete([ours, *(p for p in found if p), flat], rounds)
            for figure in (
                "seconds",
                "fastest",
                "slowest",
            ):  # scaled from the measured queries to all rows
                results[-1][figure] *= n / FAISS_EXACT_QUERIES
            cases.append({
                "case": f"graph, {title}, {n:,} × {d}, recall@{K} ≥ {target}",
                "against": "hnswlib", "results": results,
            })  # fmt: skip
    return cases


def small_cases(data: Path, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Graphs of few rows: d2prune, exact search and HNSW."""
    cases = []
    path = data / "fashion_mnist.npy"
    for n in (1000, 3000, 10_000):
        spec = {"case": "graph", "input": str(path), "rows": n, "k": K, "threads": threads}
        ours = Contestant("d2prune", peer="d2prune", options={}, **spec)
        exact = {"queries": n}
        flat = Contestant("faiss exact", peer="faiss exact", options=exact, **spec)
        hnsw = Contestant("hnswlib", peer="hnswlib", options=LADDERS["hnswlib"][1], **spec)
        results = compete([ours, flat, hnsw], max(rounds, SHORT_ROUNDS))
        cases.append({"case": f"graph, {n:,} × 128", "against": "faiss exact", "results": results})
    return cases


def growth_cases(data: Path, threads: int, rounds: int) -> list[dict[str, Any]]:
    """Graphs and selections of synthetic inputs, each twice the size of the one before."""
    workers = [
        Contestant(
            f"{n:,} rows", case="graph", peer="d2prune", input=str(data / f"synthetic_{n}.npy"),
            k=K, threads=threads, options={}, truth=truth_of(data / f"synthetic_{n}.npy"),
        )
        for n in GROWTH
    ]  # fmt: skip
    graphs = compete(workers, max(rounds, 7))
    cases = [{"case": "growth of the graph, 128-d", "against": workers[0].name, "results": graphs}]
    for title, peer, options in (
        (
            "growth of selection, on the graphs of these rows", "d2prune, on a graph",
            lambda n: {"n": n, "input": str(data / f"synthetic_{n}.npy")},
        ),
        (
            f"growth of selection, {SELECTION_DEGREE} random edges a node", "d2prune",
            lambda n: {"n": n, "degree": SELECTION_DEGREE},
        ),
    ):  # fmt: skip
        picks = [
            Contestant(f"{n:,} nodes", case="selection", peer=peer, options=options(n))
            for n in GROWTH
        ]
        results = compete(picks, max(rounds, SHORT_ROUNDS))
        cases.append({"case": title, "against": picks[0].name, "results": results})
    return cases


def selection_cases(data: Path, threads: int, rounds: int) -> list[dict[str, Any]]:
    """The same selection of half of the nodes by several implementations."""
    cases = []
    for n, peers in (
        (SELECTION_NODES, ("d2prune", "indexed heap", "argsort")),
        (200_000, ("d2prune", "heapq in Python")),
        (5_000, ("d2prune", "apricot")),
    ):
        workers = [
            Contestant(p, case="selection", peer=p, options={"n": n, "degree": SELECTION_DEGREE})
            for p in peers
        ]
        results = compete(workers, rounds)
        orders = {r["order"] for r in results if "order" in r}
        if len(orders) != 1:
            raise SystemExit(f"bench: selections of {n:,} nodes differ: {results}")
        title = f"selection, {n:,} nodes, {n * SELECTION_DEGREE:,} edges, half kept"
        cases.append({"case": title, "against": peers[1], "results": results})
    return cases


def dense_cases(data: Path, threads: int, rounds: int) -> list[dict[str, Any]]:
    """d2prune and a dense n × n implementation, from embeddings to a selection."""
    options = {"n": 20_000, "input": str(data / "fashion_mnist.npy")}
    peers = ("d2prune, end to end", "dense, n × n")
    workers = [Contestant(p, case="selection", peer=p, options=options) for p in peers]
    results = compete(workers, min(rounds, 3))
    title = "end to end, 20,000 × 128, half kept"
    return [{"case": title, "against": peers[1], "results": results}]


CASES = {
    "graph": graph_cases,
    "small": small_cases,
    "growth": growth_cases,
    "selection": selection_cases,
    "dense": dense_cases,
}


def table(cases: list[dict[str, Any]]) -> str:
    """Format the results as Markdown."""
    lines = []
    for case in cases:
        base = next((r for r in case["results"] if r["name"] == case["against"]), None)
        lines += [
            f"\n**{case['case']}**\n",
            f"| | median s (min … max) | × {case['against']} | recall@{K} | peak MiB |",
            "| --- | --- | --- | --- | --- |",
        ]
        for r in case["results"]:
            options = ", ".join(f"{k} {v}" for k, v in r["options"].items() if k != "input")
            ratio = f"{r['seconds'] / base['seconds']:.2g}" if base else "–"
            recall = f"{r['recall']:.3f}" if r.get("recall", 2) <= 1 else "–"
            lines.append(
                f"| {r['name']}{f' ({options})' if options else ''} | {r['seconds']:.3g} "
                f"({r['fastest']:.3g} … {r['slowest']:.3g}) | {ratio} | {recall} "
                f"| {r['peak'] / 2**20:,.0f} |"
            )
    return "\n".join(lines).lstrip() + "\n"


def main() -> None:
    """Run the named cases, or all. Results of other cases are kept."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], default=[])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=HERE.parent / "build" / "bench")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    kept = arguments.data / "results.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for name in arguments.cases or CASES:
        results[name] = CASES[name](arguments.data, arguments.threads, arguments.rounds)
        kept.write_text(json.dumps(results, indent=1) + "\n")
        print(table(results[name]))
    text = "".join(table(results[name]) + "\n" for name in CASES if name in results)
    (HERE / "RESULTS.md").write_text(
        f"# Measurements\n\nBy `make bench`, on {arguments.threads} cores, medians of interleaved "
        f"runs; see [run.py](run.py).\n\n{text.rstrip()}\n"
    )


if __name__ == "__main__":
    main()
