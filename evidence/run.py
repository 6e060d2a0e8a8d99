"""Train models on the selections of every method, and record the results.

    python evidence/run.py [--data build/bench] [--cache build/evidence] [--workers 2] [--seeds 5]

The trainings are those of plan.py. Each adds one line to evidence/results/, and a training that has
a line is skipped: the run can be stopped at any time and started again. --only WORD runs the
comparisons whose name contains WORD; --list prints the number of trainings to do.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import signal
import sys
import time
from collections.abc import Iterator
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import plan
from d2cli import __version__
from d2cli.selection.budgets import budget_of
from methods import NESTED, choose, nested_order
from store import Inputs, Store, Training, digest_of

HERE = Path(__file__).resolve().parent
#: One thread per process: results do not depend on the number of processes. The malloc settings
#: keep freed memory in the process, because every batch allocates as much again.
ENVIRONMENT = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**32 - 1),
}
#: Batches of every training, for every selection.
ITERATIONS = {"fashion_mnist": 700, "wordnet": 1500, "kernel_docs": 1500}
#: Trainings that one process runs at a time.
TOGETHER = {"fashion_mnist": 1, "wordnet": 18, "kernel_docs": 18}

Outcome = tuple[Training, dict[str, Any]]


def prepare(inputs: Inputs, nested: tuple[str, ...], data: Path, cache: Path) -> str:
    """Compute the embeddings, scores and orders that many trainings share."""
    import data as datasets

    started = time.perf_counter()
    arrays = datasets.arrays_of(inputs, data, cache)
    most = budget_of(max(plan.RATES), len(arrays.scores))
    for method in nested:
        nested_order(method, arrays, most, cache / inputs.name)
    return f"{inputs.name}: ready in {time.perf_counter() - started:.0f} s"


def train(
    trainings: list[Training], twins: dict[str, dict[str, Any]], data: Path, cache: Path
) -> list[Outcome]:
    """Select and train, for one set of inputs. Rows with a result in `twins` are not trained on."""
    import torch

    import cnn
    import data as datasets
    import mlp

    torch.set_num_threads(1)
    inputs = trainings[0].inputs
    arrays = datasets.arrays_of(inputs, data, cache)
    one = datasets.load(inputs.dataset, inputs.noise, inputs.split, inputs.seed, data)
    chosen = [_rows(training, arrays, cache) for training in trainings]
    digests = [digest_of(rows) for rows, _ in chosen]
    new = {d: rows for d, (rows, _) in zip(digests, chosen, strict=True) if d not in twins}
    kept = list(new.values())
    iterations = ITERATIONS[inputs.dataset]
    started = time.perf_counter()
    if not kept:
        found = []
    elif inputs.dataset in datasets.TEXTS:
        stack = mlp.train_stack(
            one.rows, one.labels, kept, [inputs.seed] * len(kept),
            datasets.CLASSES[inputs.dataset], iterations,
        )  # fmt: skip
        found = mlp.accuracies(stack, one.test_rows, one.test_labels)
    else:
        found = [
            cnn.train_on(
                one.rows, one.labels, rows, inputs.seed, iterations, one.test_rows, one.test_labels
            )
            for rows in kept
        ]
    seconds = (time.perf_counter() - started) / max(1, len(kept))
    known = {d: (twin["accuracy"], twin["seconds"]) for d, twin in twins.items()}
    known |= {d: (round(a, 6), round(seconds, 2)) for d, a in zip(new, found, strict=True)}
    versions = {
        "d2prune": __version__,
        **{name: importlib.metadata.version(name) for name in ("numpy", "torch")},
    }
    return [
        (
            training,
            {
                "accuracy": known[digest][0],
                "kept": len(rows),
                "rows": digest,
                "mislabelled": int((~one.clean[rows]).sum()),
                "iterations": iterations,
                "seconds": known[digest][1],
                **noted,
                "versions": versions,
            },
        )
        for training, (rows, noted), digest in zip(trainings, chosen, digests, strict=True)
    ]


def _rows(training: Training, arrays: Any, cache: Path) -> tuple[np.ndarray, dict[str, Any]]:
    n = len(arrays.scores)
    if training.method == "everything":
        return np.arange(n), {}
    size = budget_of(training.rate, n)
    if training.method in NESTED:
        most = budget_of(max(plan.RATES), n)
        order = nested_order(training.method, arrays, most, cache / training.inputs.name)
        return order[:size], {}
    return choose(training.method, arrays, size, training.settings)


def bundles(trainings: list[Training]) -> Iterator[list[Training]]:
    """Yield the trainings that one process runs at a time, in order."""
    for inputs, group in groupby(trainings, key=lambda t: t.inputs):
        together = list(group)
        step = TOGETHER[inputs.dataset]
        for start in range(0, len(together), step):
            yield together[start : start + step]


def run(comparisons: list[Any], seeds: int, workers: int, data: Path, cache: Path) -> None:
    """Run every training that has no result."""
    store = Store()
    os.environ.update(ENVIRONMENT)  # the processes inherit it
    context = get_context("spawn")
    for comparison in comparisons:
        print("comparison:", *comparison, flush=True)
        with context.Pool(workers) as pool:
            for stage in plan.stages(comparison, seeds, store):
                missing = store.missing(stage)
                needs = dict.fromkeys(t.inputs for t in missing)
                jobs = [
                    (
                        i,
                        tuple({t.method for t in missing if t.inputs == i} & {*NESTED}),
                        data,
                        cache,
                    )
                    for i in needs
                ]
                for line in pool.starmap(prepare, jobs):
                    print(line, flush=True)
                twins = {i: store.twins(i) for i in needs}
                todo = [(b, twins[b[0].inputs], data, cache) for b in bundles(missing)]
                for outcomes in pool.imap(_train, todo):
                    for training, outcome in outcomes:
                        store.add(training, outcome)
                        print(
                            f"{training.inputs.name} {training.method} {training.rate:g} "
                            f"{training.settings or ''} {outcome['accuracy']:.4f} "
                            f"({outcome['seconds']:.1f} s)",
                            flush=True,
                        )


def _train(job: tuple[list[Training], dict[str, dict[str, Any]], Path, Path]) -> list[Outcome]:
    return train(*job)


def left(comparisons: list[Any], seeds: int) -> None:
    """Print the number of trainings to do, as far as it is known before tuning."""
    store = Store()
    for comparison in comparisons:
        done = to_do = 0
        try:
            for stage in plan.stages(comparison, seeds, store):
                to_do += len(store.missing(stage))
                done += len({t.key for t in stage}) - len(store.missing(stage))
            more = ""
        except LookupError:
            more = ", and those that depend on tuning"
        print(*comparison, f"to do {to_do}{more}")


def main() -> None:
    """Parse the command line."""
    build = HERE.parent / "build"
    parser = argparse.ArgumentParser(description="Train models on the selections of every method.")
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    add = parser.add_argument
    add("--data", type=Path, default=build / "bench", help="folder of the texts' embeddings")
    add(
        "--cache",
        type=Path,
        default=build / "evidence",
        help="folder of embeddings, scores and orders",
    )
    add("--workers", type=int, default=os.cpu_count(), help="number of processes, one core each")
    add("--seeds", type=int, default=5, help="number of repetitions")
    add("--only", default="", metavar="WORD", help="run comparisons whose name contains WORD")
    add("--list", action="store_true", help="print the number of trainings to do")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the worker processes too
    chosen = [c for c in plan.COMPARISONS if arguments.only in " ".join(map(str, c))]
    if arguments.list:
        left(chosen, arguments.seeds)
    else:
        run(chosen, arguments.seeds, arguments.workers, arguments.data, arguments.cache)


if __name__ == "__main__":
    main()
