"""Peaks of memory with edges in files, measured by the operating system."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.marks import compiled

#: Prints the peaks above the memory at the start, in MiB, and a digest of the result.
RUN = """
import hashlib, sys
from pathlib import Path
import numpy as np
from d2cli import propagate, select
from d2cli.graph.knn_graph import KnnGraph
from d2cli.selection import greedy

def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024

def graph_of(n, k=10):
    rng = np.random.default_rng(0)
    steps = np.sort(rng.choice(np.arange(1, n // 2), (50, k), replace=False), axis=1)
    rows = np.arange(n)
    neighbors = ((rows[:, None] + steps[rows % 50]) % n).astype(np.int32)
    distances = np.linspace(0.5, 1.5, k, dtype=np.float32) + (rows % 97)[:, None].astype("f4") / 97
    return KnnGraph(neighbors, np.ascontiguousarray(distances)), rng.beta(0.5, 3, n)

n, memory = int(sys.argv[1]), None if sys.argv[2] == "all" else int(sys.argv[2]) << 20
size = int(float(sys.argv[4]) * n)
options = {"work_dir": Path(sys.argv[3]), "threads": 2}
few, greedy.FEW = greedy.FEW, 100
for small in (None, 0):  # loads the kernels
    graph, scores = graph_of(5000)
    u = propagate(graph, scores, memory=small, **options)
    select(graph, u, 1500, difficulty=scores, memory=small, **options)
greedy.FEW = few
graph, scores = graph_of(n)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
before = status("VmRSS:")
u = propagate(graph, scores, memory=memory, **options)
passed = status("VmHWM:") - before
found = select(graph, u, size, difficulty=scores, memory=memory, **options)
digest = hashlib.md5(u.tobytes() + found.order.tobytes() + found.gains.tobytes())
print(passed, status("VmHWM:") - before, digest.hexdigest(), found.thinned_from)
"""

on_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks are read from /proc"
)


def measured(rows, memory, folder, share=0.3):
    """(peak of propagate, peak of both commands, digest of the result, thinned), in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(rows), str(memory), str(folder), str(share)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    passed, both, digest, thinned = done.stdout.split()
    return float(passed), float(both), digest, thinned != "None"


@compiled
@on_linux
def test_a_million_rows_stay_within_the_memory_that_is_given(tmp_path):
    """Edges take 160 MiB, and 72 bytes a row are 69 MiB."""
    passed, both, *digest = measured(1_000_000, "all", tmp_path)
    assert passed > 150
    assert both > 200
    for memory in (96, 160):
        less, peak, *same = measured(1_000_000, memory, tmp_path)
        assert same == digest
        assert less < 64
        assert peak < memory + 16
        assert list(tmp_path.iterdir()) == []


@compiled
@on_linux
def test_a_thinned_selection_stays_within_the_memory_that_is_given(tmp_path):
    """Of a million rows, the selection that is thinned has more picks than the budget."""
    *_, digest, thinned = measured(1_000_000, "all", tmp_path, 0.01)
    assert thinned
    _, peak, same, _ = measured(1_000_000, 96, tmp_path, 0.01)
    assert same == digest
    assert peak < 96 + 16
