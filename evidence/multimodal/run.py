"""Train small CLIP models on the selections of every method, and record the results.

    PYTHONPATH=evidence python -m multimodal.run [--cache DIR] [--workers 2] [--seeds 5]

The trainings are those of plan.py. Each adds one line to evidence/multimodal/results/, and a
training that has a line is skipped: the run can be stopped at any time and started again.
--noise 0.3 runs one share of wrong captions; --list prints the number of trainings to do.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from functools import lru_cache
from importlib.metadata import version as version_of
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from d2cli import __version__
from d2cli.selection.budgets import budget_of
from methods import Arrays, save
from multimodal import icons, plan, pools, tasks
from multimodal.diversity import diversity_of
from multimodal.methods import choose, lift
from run import ENVIRONMENT
from store import Inputs, Store, Training, digest_of

HERE = Path(__file__).resolve().parent
#: Pairs that are seen by every training, whatever is kept, and by the scoring model.
SEEN, SCORING_SEEN = 100_000, 400_000
#: Added to the seed: the scoring model has weights of its own.
SCORING_SEED = 1000

Outcome = dict[str, Any]


@lru_cache(maxsize=1)
def _icons(cache: Path) -> tuple[icons.Icons, dict[str, tasks.Task]]:
    found = icons.load(cache)
    return found, tasks.tasks_of(found)


@lru_cache(maxsize=1)
def _pool(inputs: Inputs, cache: Path) -> pools.Pool:
    found, _ = _icons(cache)
    return pools.draw(found.training, found.sets, found.captions, inputs.seed, inputs.noise)


@lru_cache(maxsize=1)
def arrays_of(inputs: Inputs, cache: Path) -> Arrays:
    """Return the pool's image embeddings and scores; train the scoring model if needed."""
    pool, place = _pool(inputs, cache), cache / f"seed-{inputs.seed}"
    if not (place / "captions.npz").exists():
        _score(inputs.seed, pool, place, cache)
    embeddings = np.load(place / "embeddings.npy")
    with np.load(place / "captions.npz") as kept:
        given = kept["vectors"][np.searchsorted(kept["captions"], pool.captions)]
    scores = np.einsum("ij,ij->i", embeddings, given, dtype=np.float64)
    return Arrays(embeddings, scores, None, inputs.seed, place=place)


def _score(seed: int, pool: pools.Pool, place: Path, cache: Path) -> None:
    """Train the scoring model on clean pairs of other sets, and embed the pool."""
    from multimodal import clip

    found, _ = _icons(cache)
    model = clip.train(
        found.pictures, pool.scoring, found.texts, found.captions[pool.scoring],
        np.arange(len(pool.scoring)), SCORING_SEED + seed, SCORING_SEEN,
    )  # fmt: skip
    captions = np.unique(pool.captions)  # the same for every share of wrong ones
    save(place / "embeddings.npy", clip.embed_images(model, found.pictures, pool.rows))
    vectors = clip.embed_texts(model, found.texts, captions)
    save(place / "captions.npz", captions=captions, vectors=vectors)


def prepare(inputs: Inputs, cache: Path) -> str:
    """Compute what all trainings of a seed share."""
    _one_thread()
    started = time.perf_counter()
    arrays_of(inputs, cache).graph()
    return f"{inputs.name}: ready in {time.perf_counter() - started:.0f} s"


def auc_of(scores: np.ndarray, wrong: np.ndarray) -> float | None:
    """Return how well the scores tell right from wrong captions, or None if none is wrong."""
    return round(tasks.auc(scores[~wrong], scores[wrong]), 4) if wrong.any() else None


def train(training: Training, twins: dict[str, Outcome], cache: Path) -> tuple[Training, Outcome]:
    """Select, train and measure. Rows with a result in `twins` are not trained on again."""
    _one_thread()
    inputs = training.inputs
    found, every_task = _icons(cache)
    pool, arrays = _pool(inputs, cache), arrays_of(inputs, cache)
    n = len(pool.rows)
    if training.method == "everything":
        rows, noted = np.arange(n), {}
    else:
        size = budget_of(training.rate, n)
        rows, noted = choose(training.method, arrays, size, training.settings)
    digest = digest_of(rows)
    twin = twins.get(digest)
    measured = twin or _measure(inputs.seed, found, pool, rows, every_task)
    outcome = {
        **{name: measured[name] for name in ("retrieval", "classification")},
        "kept": len(rows),
        "rows": digest,
        "wrong": int(pool.wrong[rows].sum()),
        "auc": auc_of(arrays.scores, pool.wrong),
        "lift": round(lift(arrays.scores, rows), 4),
        "diversity": {
            name: round(value, 4)
            for name, value in diversity_of(
                arrays.embeddings, rows, found.sets[pool.rows], pool.captions
            ).items()
        },
        "seen": SEEN,
        "seconds": measured["seconds"],
        **noted,
        "versions": {
            "d2prune": __version__,
            **{name: version_of(name) for name in ("numpy", "torch", "resvg-py")},
        },
    }
    return training, outcome


def _measure(
    seed: int, found: icons.Icons, pool: pools.Pool, rows: np.ndarray,
    every_task: dict[str, tasks.Task],
) -> Outcome:  # fmt: skip
    """Train on the rows and return the result of each task, and CPU seconds of the training."""
    from multimodal import clip

    started = time.process_time()
    model = clip.train(found.pictures, pool.rows, found.texts, pool.captions, rows, seed, SEEN)
    seconds = time.process_time() - started

    def images(of: np.ndarray) -> np.ndarray:
        return clip.embed_images(model, found.pictures, of)

    def texts(of: np.ndarray) -> np.ndarray:
        return clip.embed_texts(model, found.texts, found.captions[of])

    retrieval, classification = {}, {}
    for name, task in every_task.items():
        both = tasks.recall(images(task.retrieval), texts(task.retrieval))
        retrieval[name] = [round(one, 6) for one in both]
        right = tasks.accuracy(images(task.pictures), texts(task.concepts), task.classes)
        classification[name] = round(right, 6)
    return {
        "retrieval": retrieval, "classification": classification, "seconds": round(seconds, 2)
    }  # fmt: skip


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def run(noises: list[float], seeds: int, workers: int, cache: Path) -> None:
    """Run every training that has no result, seed by seed."""
    store = Store(plan.RESULTS)
    os.environ.update(ENVIRONMENT)  # the processes inherit it
    _icons(cache)  # fetched, rendered and embedded once, before there are several processes
    with get_context("spawn").Pool(workers) as processes:
        for seed in range(seeds):
            for noise in noises:
                inputs = plan.inputs_of(noise, seed)
                missing = store.missing(plan.trainings(inputs))
                if not missing:
                    continue
                print(processes.apply(prepare, (inputs, cache)), flush=True)
                twins = store.twins(inputs)
                jobs = [(training, twins, cache) for training in missing]
                for training, outcome in processes.imap(_train, jobs):
                    store.add(training, outcome)
                    recalled = np.mean([*outcome["retrieval"].values()])
                    print(
                        f"{inputs.name} {training.method} {training.rate:g} "
                        f"{training.settings or ''} R@5 {recalled:.4f} "
                        f"({outcome['seconds']:.1f} s)",
                        flush=True,
                    )


def _train(job: tuple[Training, dict[str, Outcome], Path]) -> tuple[Training, Outcome]:
    return train(*job)


def main() -> None:
    """Parse the command line."""
    build = HERE.parents[1] / "build"
    parser = argparse.ArgumentParser(description="Train on the pairs that each method keeps.")
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    add = parser.add_argument
    add("--cache", type=Path, default=build / "multimodal", help="folder of pictures and scores")
    add("--workers", type=int, default=os.cpu_count(), help="number of processes, one core each")
    add("--seeds", type=int, default=5, help="number of repetitions")
    add("--noise", type=float, choices=plan.NOISES, help="run one share of wrong captions")
    add("--list", action="store_true", help="print the number of trainings to do")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the worker processes too
    noises = [one for one in plan.NOISES if arguments.noise in (None, one)]
    if arguments.list:
        store = Store(plan.RESULTS)
        for noise in noises:
            needed = [plan.inputs_of(noise, seed) for seed in range(arguments.seeds)]
            missing = [t for one in needed for t in store.missing(plan.trainings(one))]
            print(f"icons, {noise:.0%} of captions wrong: to do {len(missing)}")
    else:
        run(noises, arguments.seeds, arguments.workers, arguments.cache)


if __name__ == "__main__":
    main()
