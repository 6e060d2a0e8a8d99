"""Measure one builder of kNN graphs: `python bench/knn_worker.py PEER THREADS`.

Each line of standard input is a JSON object with `input`, `truth`, `k` and `options`. Each is
measured in a process of its own, forked from this one, and answered by a line of JSON. The fork
keeps what this process compiled: pynndescent needs 40 seconds for that, and caches little of it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from typing import Any

import numpy as np
from peers import MAKERS

BLOCK = 50


def recall_by_distance(rows: np.ndarray, neighbors: np.ndarray, truth: str, k: int) -> float:
    """Return recall@k on the rows of `truth`.

    A listed row counts if its distance is at most that of the true k-th neighbour. The row itself,
    empty places and rows that are listed twice do not count.
    """
    with np.load(truth) as archive:
        sample, kth = archive["rows"], archive["distances"][:, k - 1]
    found = 0
    for start in range(0, len(sample), BLOCK):
        own = sample[start : start + BLOCK, None]
        listed = np.sort(neighbors[own[:, 0], :k], axis=1).astype(np.int64)
        counts = (listed >= 0) & (listed != own)
        counts[:, 1:] &= listed[:, 1:] != listed[:, :-1]
        gaps = rows[listed].astype(np.float64) - rows[own].astype(np.float64)
        distances = np.sqrt(np.square(gaps).sum(axis=2))
        counts &= distances <= kth[start : start + BLOCK, None] * (1 + 1e-6)
        found += int(counts.sum())
    return found / (len(sample) * k)


def measure(peer: str, threads: int, job: dict[str, Any]) -> dict[str, Any]:
    """Run one job after a warm-up and return its times in seconds, its recall and its peak."""
    rows = np.load(job["input"])
    run = MAKERS[peer](rows, job["k"], threads, **job["options"])
    wall, cpu = time.perf_counter(), time.process_time()
    neighbors = run()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    recall = recall_by_distance(rows, neighbors, job["truth"], job["k"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"cpu": cpu, "wall": wall, "recall": recall, "peak": peak}


def main() -> None:
    """Answer one line of JSON per line of standard input."""
    peer, threads = sys.argv[1], int(sys.argv[2])
    if peer == "pynndescent":
        rows = np.random.default_rng(0).standard_normal((6000, 16), dtype=np.float32)
        MAKERS[peer](rows, 10, threads, n_neighbors=15)()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            status = 1
            try:
                print(json.dumps(measure(peer, threads, json.loads(line))), flush=True)
                status = 0
            finally:
                os._exit(status)
        if os.waitpid(child, 0)[1]:
            print(json.dumps({"failed": True}), flush=True)


if __name__ == "__main__":
    main()
