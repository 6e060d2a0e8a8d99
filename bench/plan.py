"""Compare `--plan --pilot` with measurements: `make bench-plan`.

Each case is planned (`--plan --pilot --json`) and then run, in two processes, on synthetic
embeddings. The output is the measured peak memory (resident, memory-mapped pages included) and wall
seconds, and predictions divided by measurements.

    python bench/plan.py [PATTERN ...] [--data build/bench-plan] [--rows 100000]

Exits with 1 if a predicted peak is off by more than 30 %.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

#: Accepted error of a prediction: memory within ±30 %, time within a factor of 2.
MEMORY, TIME = 0.30, 2.0
CENTRES, PLANE, SPREADS, OWN, BLOCK = 1000, 24, 20, 12, 50_000
GROUP_ROWS = 50_000


@dataclass(frozen=True)
class Case:
    """One run: a command on n rows of d numbers in one file format."""

    command: str
    n: int
    d: int
    form: str = "npy"
    options: tuple[str, ...] = ()
    ratios: tuple[str, ...] = ("0.3",)

    @property
    def name(self) -> str:
        """The name that is printed and matched by PATTERN."""
        return " ".join(
            [self.command, f"{self.n}x{self.d}", self.form, *self.options, *self.ratios[1:]]
        )


def method(name: str) -> tuple[str, ...]:
    """Return the option ``--method`` with its value."""
    return ("--method", name)


CASES = [
    *(
        Case("graph", 10_000, d, "npy", method(m))
        for d in (128, 768)
        for m in ("exact", "blocks", "hnsw")
    ),
    *(Case("graph", 50_000, 384, "npy", method(m)) for m in ("exact", "blocks", "hnsw")),
    *(Case("graph", 100_000, 128, "npy", method(m)) for m in ("exact", "blocks", "hnsw")),
    Case("graph", 100_000, 128, "npy", ("--threads", "1")),
    Case("graph", 100_000, 128, "npy", ("-k", "30")),
    Case("graph", 100_000, 128, "npy", ("--recall", "0.99")),
    Case("graph", 100_000, 128, "npy", ("--metric", "cosine")),
    *(Case("graph", 100_000, 384, form) for form in ("npy", "npy16", "parquet", "npz")),
    Case("graph", 100_000, 128, "npy64"),
    Case("graph", 100_000, 768),
    Case("graph", 300_000, 128),
    Case("graph", 1_000_000, 64),
    Case("graph", 1_000_000, 128),
    Case("graph", 1_000_000, 128, "npy16"),
    *(Case("propagate", n, 128) for n in (10_000, 100_000, 1_000_000)),
    *(Case("select", n, 128, "graph") for n in (10_000, 100_000, 1_000_000)),
    Case("select", 1_000_000, 128, "graph", ("--edges", "mutual", "--gamma-reverse", "1")),
    *(Case("select", n, 128) for n in (10_000, 100_000, 1_000_000)),
    *(Case("select", 100_000, 384, form) for form in ("npy16", "parquet")),
    Case("select", 100_000, 128, "npy", ("--cutoff", "0.1")),
    *(Case("report", n, 128) for n in (10_000, 50_000, 100_000)),
    Case("report", 50_000, 384, "npy", ("--map", "pca")),
    Case("report", 50_000, 128, "npy", ("--map", "none", "--examples", "0")),
    Case("report", 50_000, 128, "npy", ("--metric", "cosine"), ratios=("0.1", "0.3", "0.5")),
    Case("report", 50_000, 128, "npy", ("--images", "images_50000.npz")),
    Case("report", 100_000, 384, "parquet", ("--texts", "texts_100000.txt")),
    Case("report", 1_000_000, 128),
    *(Case("compare", n, 128) for n in (10_000, 50_000, 100_000)),
    Case("compare", 100_000, 384, "npy", ("--methods", "d2,random")),
    Case("compare", 50_000, 128, "npy", ("--methods", "d2,k-center"), ratios=("0.05",)),
    Case("compare", 50_000, 128, "npy16", ("--methods", "moderate,ccs"), ratios=("0.1", "0.3")),
    Case("compare", 1_000_000, 128, "npy", ("--methods", "d2,near-duplicates,facility-location")),
    Case("compare", 1_000_000, 32, "npy", ("--methods", "d2-paper,graph-cut,infomax")),
    Case("compare", 1_000_000, 32, "npy", ("--methods", "semdedup-then-score")),
    Case("compare", 50_000, 32, "npy", ("--methods", "zcore")),
]


#: Options that together compile every kernel of ``select``.
WARM_UP = (
    *(method(m) for m in ("exact", "blocks", "hnsw")),
    (*method("blocks"), "--recall", "1"),
    ("--edges", "mutual", "--gamma-reverse", "1"),
)


def embeddings(n: int, d: int) -> np.ndarray:
    """Draw a Gaussian mixture with the structure of learnt embeddings.

    The centres lie in few dimensions, so that clusters overlap. Each cluster varies along some axes
    of its own, and all dimensions have a little noise.
    """
    rng = np.random.default_rng((n, d))
    centres = rng.standard_normal((CENTRES, PLANE)) @ rng.standard_normal((PLANE, d)) / PLANE**0.5
    axes = rng.standard_normal((SPREADS, OWN, d)).astype(np.float32) * 0.6 / OWN**0.5
    centres = centres.astype(np.float32)
    rows = np.empty((n, d), np.float32)
    for start in range(0, n, BLOCK):
        block = rows[start : start + BLOCK]
        block[:] = 0.1 * rng.standard_normal(block.shape, dtype=np.float32)
        cluster = rng.integers(0, CENTRES, len(block))
        block += centres[cluster]
        for spread in range(SPREADS):
            mine = np.flatnonzero(cluster % SPREADS == spread)
            block[mine] += rng.standard_normal((len(mine), OWN), dtype=np.float32) @ axes[spread]
    return rows


def input_file(data: Path, n: int, d: int, form: str) -> Path:
    """Return the path of the embeddings in one format; write the file if it does not exist."""
    ending = {"npy": ".npy", "npy16": "_16.npy", "npy64": "_64.npy"}.get(form, f".{form}")
    path = data / f"emb_{n}_{d}{ending}"
    if path.exists():
        return path
    if form == "npy":
        np.save(path, embeddings(n, d))
        return path
    rows = np.load(input_file(data, n, d, "npy"), mmap_mode="r")
    if form == "npy16":
        np.save(path, rows.astype(np.float16))
    elif form == "npy64":
        np.save(path, rows.astype(np.float64))
    elif form == "npz":
        np.savez(path, emb=rows)
    else:
        values = pa.array(np.ascontiguousarray(rows).ravel())
        offsets = pa.array(np.arange(n + 1, dtype=np.int32) * d)
        ids = pa.array([f"image-{i:09}" for i in range(n)])
        table = pa.table({"id": ids, "embedding": pa.ListArray.from_arrays(offsets, values)})
        pa.parquet.write_table(table, path, row_group_size=GROUP_ROWS)
    return path


def command_line(data: Path, case: Case) -> list[str]:
    """Return the command line of a case; write its inputs if they do not exist."""
    scores = data / f"scores_{case.n}.npy"
    if not scores.exists():
        np.save(scores, np.random.default_rng(case.n).random(case.n))
    if case.command == "graph":
        emb = input_file(data, case.n, case.d, case.form)
        return ["graph", "--emb", str(emb), "--out", str(data / "out.arrow"), *case.options]
    if case.command in ("report", "compare"):
        return page_line(data, case, scores)
    source = []
    if case.command == "propagate" or case.form == "graph":
        graph = data / f"graph_{case.n}_{case.d}.arrow"
        if not graph.exists():
            emb = input_file(data, case.n, case.d, "npy")
            run(["graph", "--emb", str(emb), "--out", str(graph), "-q"])
        source = ["--graph", str(graph)]
    else:
        source = ["--emb", str(input_file(data, case.n, case.d, case.form))]
    line = [case.command, *source, "--scores", str(scores), *case.options]
    if case.command == "propagate":
        return [*line, "--out", str(data / "out.npy")]
    return [*line, "--ratio", "0.3", "--out", str(data / "selected.npy")]


def page_line(data: Path, case: Case, scores: Path) -> list[str]:
    """Return the command line of a case of ``report`` or ``compare``; write its inputs."""
    line = ["--emb", str(input_file(data, case.n, case.d, case.form)), "--scores", str(scores)]
    if case.command == "compare":
        budgets = [word for ratio in case.ratios for word in ("--ratio", ratio)]
        return ["compare", *line, *budgets, *case.options, "--out", str(data / "page.html")]
    chosen = []
    for ratio in case.ratios:
        kept = data / f"kept_{case.n}_{case.d}_{case.form}_{ratio}.parquet"
        if not kept.exists():
            run(["select", *line, "--ratio", ratio, "--out", str(kept), "-q"])
        chosen += ["--selected", str(kept)]
    options = [
        str(shown_file(data, word, case.n)) if "_" in word else word for word in case.options
    ]
    return ["report", *line, *chosen, *options, "--out", str(data / "page.html")]


def shown_file(data: Path, name: str, n: int) -> Path:
    """Return the path of images or texts, one per row; write the file if it does not exist."""
    path = data / name
    if not path.exists() and path.suffix == ".npz":
        np.savez(path, np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), np.uint8))
    elif not path.exists():
        path.write_text("".join(f"text {i}, of a row that has {i % 97} words\n" for i in range(n)))
    return path


def run(arguments: list[str]) -> tuple[dict[str, Any], float]:
    """Return the JSON that a command prints, and its wall seconds."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "d2cli", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"bench: d2prune {' '.join(arguments)} failed")
    return json.loads(done.stdout) if done.stdout else {}, seconds


def measure(data: Path, case: Case) -> dict[str, float]:
    """Return the measurements, and predictions divided by measurements."""
    line = command_line(data, case)
    plan, _ = run([*line, "--plan", "--pilot", "--json", "-q"])
    found, seconds = run([*line, "--json", "-q"])
    peak = found["run"]["peak_memory_bytes"]
    return {
        "MiB": peak / 2**20,
        "memory": plan["memory"]["peak_bytes"] / peak,
        "seconds": seconds,
        "time": plan["pilot"]["seconds"]["total"] / seconds,
    }


def main() -> int:
    """Run the matching cases and print a line for each."""
    parser = argparse.ArgumentParser(description="Compare --plan with measurements.")
    parser.add_argument("patterns", nargs="*", default=["*"], metavar="PATTERN")
    parser.add_argument("--data", type=Path, default=Path("build/bench-plan"))
    parser.add_argument("--rows", type=int, default=1_000_000, help="skip cases with more rows")
    arguments = parser.parse_args()
    arguments.data.mkdir(parents=True, exist_ok=True)
    # Compile every kernel before the measurements.
    for options in WARM_UP:
        run(command_line(arguments.data, Case("select", 3000, 16, "npy", (*options, "-q"))))
    for width, form in ((16, "npy64"), (384, "npy")):
        options = (*method("blocks"), "-q")
        run(command_line(arguments.data, Case("select", 3000, width, form, options)))
    for command in ("propagate", "report", "compare"):
        run(command_line(arguments.data, Case(command, 3000, 16, "npy", ("-q",))))
    print("peak memory, wall seconds: measured, and predicted / measured")
    memory: list[float] = []
    time_: list[float] = []
    for case in CASES:
        if case.n > arguments.rows or not any(
            fnmatch.fnmatch(case.name, f"*{pattern}*") for pattern in arguments.patterns
        ):
            continue
        row = measure(arguments.data, case)
        memory.append(row["memory"])
        time_.append(row["time"])
        marks = "M" * (abs(row["memory"] - 1) > MEMORY)
        marks += "T" * (not 1 / TIME <= row["time"] <= TIME)
        print(
            f"{case.name:<62} {row['MiB']:6,.0f} MiB {row['memory']:5.2f}   "
            f"{row['seconds']:7.1f} s {row['time']:5.2f}  {marks}",
            flush=True,
        )
    inside = [abs(ratio - 1) <= MEMORY for ratio in memory]
    quick = [1 / TIME <= ratio <= TIME for ratio in time_]
    print(
        f"memory within ±{MEMORY:.0%}: {sum(inside)} of {len(inside)}; "
        f"time within a factor of {TIME:g}: {sum(quick)} of {len(quick)}"
    )
    return 0 if all(inside) else 1


if __name__ == "__main__":
    sys.exit(main())
