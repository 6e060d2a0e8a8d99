"""One contestant in a process of its own: `python bench/worker.py SPEC`, SPEC a JSON object.

The process prepares the contestant, prints a line, and then makes one run per line of standard
input. Each answer is a line of JSON. Compilation and loading come before the first run, and the
peak memory is that of this contestant alone.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import numpy as np
from peers import MAKERS
from selection import SELECTORS


def recall(vectors: np.ndarray, neighbors: np.ndarray, truth: str) -> float:
    """recall@k on the rows of `truth`: listed rows within the true k-th distance."""
    with np.load(truth) as archive:
        rows, kth = archive["rows"], archive["kth"]
    if len(neighbors) < len(vectors):
        return float("nan")
    listed = vectors[neighbors[rows]].astype(np.float64) - vectors[rows, None].astype(np.float64)
    distances = np.sqrt((listed**2).sum(axis=2))
    return float((distances <= kth[:, None] * (1 + 1e-6)).mean())


def graph_contestant(spec: dict[str, Any]) -> tuple[Any, Any]:
    """Return (run, judge) of a graph builder."""
    vectors = np.ascontiguousarray(np.load(spec["input"], mmap_mode="r")[: spec.get("rows")])
    run = MAKERS[spec["peer"]](vectors, spec["k"], spec["threads"], **spec["options"])
    truth = spec.get("truth")
    return run, lambda result: {"recall": recall(vectors, result, truth)} if truth else {}


def main() -> None:
    """Make one run per line, until standard input ends."""
    spec = json.loads(sys.argv[1])
    if spec["case"] == "graph":
        run, judge = graph_contestant(spec)
    else:
        run, judge = SELECTORS[spec["peer"]](**spec["options"])
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"seconds": seconds, "peak": peak, **judge(result)}), flush=True)


if __name__ == "__main__":
    main()
