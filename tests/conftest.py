"""Fixtures that several test files share."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# Kernels compile within the first example of a test, which no deadline should count.
settings.register_profile("d2prune", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("d2prune")

# A run leaves signals ignored that were ignored when it began, as they are under nohup and after a
# shell's `&`. Tests, and the runs that they start, do not begin so.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture
def run_cli(tmp_path, monkeypatch, capfd):
    """Runs a command line in an empty folder: ``run_cli(*args) -> (code, stdout, stderr)``."""
    from d2cli.cli.main import run

    monkeypatch.chdir(tmp_path)

    def call(*args):
        capfd.readouterr()
        code = run([str(arg) for arg in args])
        return code, *capfd.readouterr()

    return call


@pytest.fixture
def data(run_cli):
    """40 rows, in memory and as ``emb.npy``, ``scores.npy``, ``labels.npy``; numbers that every
    float type holds, no ties.
    """
    rng = np.random.default_rng(7)
    n = 40
    rows = SimpleNamespace(
        n=n,
        emb=(rng.integers(-512, 512, (n, 4)) / 64).astype(np.float32),
        scores=rng.permutation(n) / 8 + 0.125,
        labels=rng.integers(0, 3, n),
        ids=[f"id{i:03}" for i in rng.permutation(n)],
    )
    for name in ("emb", "scores", "labels"):
        np.save(f"{name}.npy", getattr(rows, name))
    return rows


@pytest.fixture
def select(run_cli):
    """``d2prune select`` of a few rows, on one thread."""
    return lambda *args: run_cli("select", "-k", 4, "--threads", 1, *args)


#: One command, and on standard error how many kernels it compiled and how many bytes of shared
#: libraries were resident at its end.
_COUNTING = """
import re
import sys
from pathlib import Path
from numba.core import event
from d2cli.cli.main import run
with event.install_recorder("numba:compile") as compiled:
    code = run(sys.argv[1:])
mappings = re.split("^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.M)
libraries = [m for m in mappings if re.search(r"\\.so(\\.\\d+)*$", m.partition("\\n")[0])]
pages = sum(int(re.search(r"^Rss: +(\\d+) kB", m, re.M)[1]) for m in libraries) * 1024
print(len(compiled.buffer), pages, file=sys.stderr)
sys.exit(code)
"""
#: Of what plans expect the program to take by itself, what they expect libraries to take.
_LIBRARIES = 140 << 20


@pytest.fixture
def peak_of():
    """The peak memory in bytes of a command line with ``--json -q``, in a process of its own.

    A compiler takes memory too, and what one process compiles can be lost to the next: processes
    that compile at the same time replace each other's index of what is in the cache. So a run in
    which something was compiled does not count. How much of its libraries is resident is up to
    the kernel, which may map more of them at once than was touched: so they count as what a plan
    takes them for. What allocators keep depends on when threads run, so the least of three counts.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        pytest.skip("kernels are not compiled")
    if not Path("/proc/self/smaps").exists():
        pytest.skip("libraries cannot be told from the rest here")
    few = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2")  # on any machine

    def peak(*line):
        seen = []
        for _ in range(8):
            command = [sys.executable, "-c", _COUNTING, *map(str, line)]
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, env=os.environ | few
            )
            assert done.returncode == 0, done.stderr
            compiled, libraries = map(int, done.stderr.splitlines()[-1].split())
            if compiled == 0:
                whole = json.loads(done.stdout)["run"]["peak_memory_bytes"]
                print(f"{whole:,} bytes, {libraries:,} of them libraries")  # seen if a test fails
                seen.append(whole - libraries + _LIBRARIES)
            if len(seen) == 3:
                return min(seen)
        pytest.skip("compiled kernels cannot be kept here")

    return peak
