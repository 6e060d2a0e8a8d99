"""Build graphs of large inputs under `--max-memory`: `make bench-large`.

    python bench/large.py [images embeddings ...] [--data build/bench-large] [--scale 1]

images      12.8 million × 512 float16, rows like embeddings of images, with 4 GiB
clustered   4 million × 128 float16 (bench/families.py), with 16 GiB, in which everything is in
            memory, and with 8, 2 and 1 GiB

Each run is `d2prune graph --max-memory ... --json` in a process of its own. While it runs, its
memory and I/O are read from /proc. Measured are

- seconds, CPU seconds (user and system), and the peak of resident memory. Pages of files that are
  mapped count as resident; the peak without them is given too.
- bytes that reads and writes moved (rchar and wchar) and bytes that the disk moved (read_bytes and
  write_bytes). A read of a mapped page counts only if the disk moved it.
- both for each step that the run reports in `run.steps`, in order, and for writing the graph
- recall@10 by distance on 300 rows, whose true neighbours are found by all products
- whether the graphs of one input have the same bytes for every budget

Exits with 1 if a peak exceeds the budget by more than 300 MiB, a recall is below 0.95, or bytes
differ. --scale 0.01 takes a hundredth of the rows. Results go to DATA/large.json and DATA/large.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from families import clustered, nearest
from inputs import REPOSITORY, complete
from knn_worker import recall_by_distance
from watch import IO, Watch

K, RECALL = 10, 0.95
TRUTH_ROWS, TRUTH_SEED = 300, 2
GIB, MIB = 2**30, 2**20
#: What a run may need beyond its budget: the program and its libraries.
CONSTANT = 300 * MIB
#: Rows drawn at a time; each block of rows has a generator of its own.
BLOCK = 50_000


@dataclass(frozen=True)
class Input:
    """An input, the function that writes n of its rows to a path, and the budgets to measure."""

    rows: int
    write: Callable[[Path, int, int], None]
    budgets: tuple[str, ...]


# -- rows -----------------------------------------------------------------------------------------
def images(path: Path, n: int, seed: int) -> None:
    """Write float16 (n, 512) of unit length with the structure of embeddings of images.

    - All rows share a mean, so that they lie in a cone, as those of contrastive models do.
    - Concepts: 4,000 centres whose spectrum falls like that of a learnt space. Each has 8
      variants nearby. The size of a concept is a power of its rank.
    - A row adds 24 factors in one of 64 spreads, scaled by the row, and noise in all dimensions.
    - Of the rows, 2 % are nearly equal copies of another row, as in rows from the web.
    """
    d, concepts, variants, spreads_in_all, intrinsic = 512, 4000, 8, 64, 24
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal(d, dtype=np.float32) / np.sqrt(d)
    axes, _ = np.linalg.qr(rng.standard_normal((d, d)))
    spectrum = (np.arange(d) + 4.0) ** -0.6
    spectrum /= np.linalg.norm(spectrum)
    centres = (rng.standard_normal((concepts, d)) * spectrum) @ axes.T
    centres = np.repeat(centres, variants, axis=0).astype(np.float32)
    shifts = (rng.standard_normal((len(centres), d)) * spectrum) @ axes.T
    centres += 0.5 * shifts.astype(np.float32) + 0.8 * mean
    spreads = (rng.standard_normal((spreads_in_all, intrinsic, d)) * spectrum) @ axes.T
    spreads = (spreads / np.sqrt(intrinsic)).astype(np.float32)
    weights = np.repeat((np.arange(concepts) + 20.0) ** -0.9, variants)
    ends = np.cumsum(weights / weights.sum())
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, d))
    for number, start in enumerate(range(0, n, BLOCK)):
        rng = np.random.default_rng((seed, number))
        cluster = np.minimum(np.searchsorted(ends, rng.random(BLOCK)), len(ends) - 1)
        factors = rng.standard_normal((BLOCK, intrinsic), dtype=np.float32)
        factors *= rng.uniform(0.4, 1.0, (BLOCK, 1)).astype(np.float32)
        block = rng.standard_normal((BLOCK, d), dtype=np.float32)
        block *= 0.1 / np.sqrt(d)
        block += centres[cluster]
        for spread in range(spreads_in_all):
            members = np.flatnonzero(cluster % spreads_in_all == spread)
            block[members] += factors[members] @ spreads[spread]
        copies, originals = np.split(rng.permutation(BLOCK)[: BLOCK // 25], 2)
        noise = rng.standard_normal((len(copies), d), dtype=np.float32)
        block[copies] = block[originals] + 0.02 / np.sqrt(d) * noise
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        rows[start : start + BLOCK] = block[: n - start]
    rows.flush()


INPUTS = {
    "images": Input(12_800_000, images, ("4GiB",)),
    "clustered": Input(4_000_000, clustered, ("16GiB", "8GiB", "2GiB", "1GiB")),
}


def truth_of(path: Path) -> Path:
    """Return the file of the true distances of a sample of rows; write it if it does not exist."""
    truth = path.with_name(f"{path.stem}_truth.npz")
    if not truth.exists():
        rows = np.load(path, mmap_mode="r")
        sample = np.random.default_rng(TRUTH_SEED).choice(len(rows), TRUTH_ROWS, replace=False)
        sample.sort()
        with complete(truth) as temporary:
            np.savez(temporary, rows=sample, distances=nearest(rows, sample, K))
    return truth


# -- runs -----------------------------------------------------------------------------------------
def graph(path: Path, out: Path, budget: str, options: list[str]) -> dict[str, Any]:
    """Run `d2prune graph` and return what was measured."""
    command = [
        *(sys.executable, "-m", "d2cli", "graph", "--emb", str(path), "--out", str(out)),
        *("-k", str(K), "--recall", str(RECALL), "--max-memory", budget, "--json", "-q", *options),
    ]
    with tempfile.TemporaryFile("w+") as printed:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=printed, text=True)
        watch = Watch(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        stop = time.perf_counter()
        process.returncode = os.waitstatus_to_exitcode(status)
        watch.end()
        if process.returncode:
            raise SystemExit(f"bench/large.py: {' '.join(command)} failed")
        printed.seek(0)
        summary = json.load(printed)
    digest = hashlib.sha256()
    with out.open("rb") as file:
        while block := file.read(MIB):
            digest.update(block)
    parts = []
    run = summary["run"]
    begin = stop - float(run["seconds"]["total"])
    for name, seconds in {**run["steps"], "write": run["seconds"]["write"]}.items():
        end = min(begin + seconds, stop)
        moved = {each: watch.moved(each, begin, end) for each in IO}
        peak = watch.peak("resident", begin, end)
        parts.append({"stage": name, "seconds": seconds, "resident": peak, **moved})
        begin = end
    return {
        "budget": budget,
        "seconds": stop - start,
        "cpu": usage.ru_utime + usage.ru_stime,
        "resident": watch.peak("highest"),
        "anonymous": watch.peak("anonymous"),
        **{name: watch.moved(name) for name in IO},
        "digest": digest.hexdigest(),
        "size": out.stat().st_size,
        "claimed": summary["graph"].get("recall"),
        "stages": parts,
    }


def neighbors_of(path: Path) -> np.ndarray:
    """Return the lists of neighbours of a graph file, int32 (n, k)."""
    with pa.memory_map(str(path)) as file:
        column = pa.ipc.open_file(file).read_all().column("neighbors")
        lists = [chunk.flatten().to_numpy().reshape(len(chunk), -1) for chunk in column.chunks]
        return np.concatenate(lists)


def budget_bytes(budget: str) -> int:
    """Return the bytes of a budget in GiB or MiB."""
    return int(float(budget[:-3]) * {"GiB": GIB, "MiB": MIB}[budget[-3:]])


def measure(name: str, data: Path, scale: float, options: list[str]) -> list[dict[str, Any]]:
    """Run one input with each of its budgets."""
    n = max(1000, int(INPUTS[name].rows * scale))
    path = data / f"{name}_{n}.npy"
    if not path.exists():
        with complete(path) as temporary:
            INPUTS[name].write(temporary, n, 0)
    truth = truth_of(path)
    found = []
    for budget in INPUTS[name].budgets:
        out = data / f"{name}_{n}_{budget}.arrow"
        out.unlink(missing_ok=True)
        out.with_name(f"{out.name}.json").unlink(missing_ok=True)
        answer = graph(path, out, budget, options)
        rows = np.load(path, mmap_mode="r")
        answer["recall"] = recall_by_distance(rows, neighbors_of(out), str(truth), K)
        found.append({"input": f"{name}, {n:,} × {rows.shape[1]} {rows.dtype}", **answer})
        print(json.dumps(found[-1]), flush=True)
    return found


def faults(runs: list[dict[str, Any]]) -> list[str]:
    """Return what the runs fail of what is promised."""
    found = []
    for run in runs:
        case = f"{run['input']}, {run['budget']}"
        if run["resident"] > budget_bytes(run["budget"]) + CONSTANT:
            found.append(f"{case}: the peak exceeds the budget by more than {CONSTANT // MIB} MiB")
        if run["recall"] < RECALL:
            found.append(f"{case}: recall {run['recall']:.4f} is below {RECALL}")
    for name in dict.fromkeys(run["input"] for run in runs):
        if len({run["digest"] for run in runs if run["input"] == name}) > 1:
            found.append(f"{name}: the bytes of the graph depend on the budget")
    return found


def table(runs: list[dict[str, Any]], threads: int) -> str:
    """Format the runs as Markdown."""
    lines = [
        f"# Large inputs, {threads} cores\n",
        "By `make bench-large`; see [large.py](large.py). I/O: through calls (by the disk).\n",
        "| input | budget | s | CPU s | peak MiB | without mapped files | read GiB | written GiB "
        "| recall@10 | bytes |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for run in runs:
        lines.append(
            f"| {run['input']} | {run['budget']} | {run['seconds']:,.1f} | {run['cpu']:,.1f} "
            f"| {run['resident'] / MIB:,.0f} | {run['anonymous'] / MIB:,.0f} "
            f"| {moved(run, 'rchar', 'read_bytes')} | {moved(run, 'wchar', 'write_bytes')} "
            f"| {run['recall']:.4f} | {run['digest'][:12]} |"
        )
    for run in runs:
        lines += [
            f"\n**{run['input']}, {run['budget']}**\n",
            "| stage | s | peak MiB | read GiB | written GiB |",
            "| --- | --- | --- | --- | --- |",
        ]
        for part in run["stages"]:
            lines.append(
                f"| {part['stage']} | {part['seconds']:,.1f} | {part['resident'] / MIB:,.0f} "
                f"| {moved(part, 'rchar', 'read_bytes')} | {moved(part, 'wchar', 'write_bytes')} |"
            )
    found = faults(runs)
    lines += ["", *(f"- {fault}" for fault in found)] if found else []
    return "\n".join(lines) + "\n"


def moved(run: dict[str, Any], calls: str, disk: str) -> str:
    """Format bytes moved by calls and by the disk, in GiB."""
    return f"{run[calls] / GIB:,.2f} ({run[disk] / GIB:,.2f})"


def main() -> int:
    """Measure the named inputs, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(INPUTS))
    parser.add_argument("--data", type=Path, default=REPOSITORY / "build" / "bench-large")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the rows")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--option", action="append", default=[], metavar="WORD", help="passed on to d2prune graph"
    )
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in INPUTS:
            parser.error(f"unknown input {name!r}: choose from {', '.join(INPUTS)}")
    arguments.data.mkdir(parents=True, exist_ok=True)
    options = ["--threads", str(arguments.threads), *arguments.option]
    runs: list[dict[str, Any]] = []
    for name in arguments.names or INPUTS:
        runs += measure(name, arguments.data, arguments.scale, options)
        (arguments.data / "large.json").write_text(json.dumps(runs, indent=1) + "\n")
        (arguments.data / "large.md").write_text(table(runs, arguments.threads))
    print(table(runs, arguments.threads))
    return 1 if faults(runs) else 0


if __name__ == "__main__":
    sys.exit(main())
