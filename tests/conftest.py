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

# No deadlines: kernels compile within the first example of a test.
settings.register_profile("d2prune", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("d2prune")

# Under nohup and after a shell's `&`, signals are ignored, and runs keep ignoring them. Tests of
# signals need the default handlers.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


def unless_given(usual, args):
    """Pairs (flag, value, flag, value, …) without those whose flag is in `args`."""
    pairs = zip(usual[::2], usual[1::2], strict=True)
    return [word for pair in pairs if pair[0] not in args for word in pair]


@pytest.fixture
def run_cli(tmp_path, monkeypatch, capfd):
    """``run_cli(*args) -> (exit code, stdout, stderr)``: runs a command in an empty folder."""
    from d2cli.cli.main import run

    monkeypatch.chdir(tmp_path)

    def call(*args):
        capfd.readouterr()
        code = run([str(arg) for arg in args])
        out, err = capfd.readouterr()
        # Which test compiles a kernel first depends on what is kept from earlier runs.
        lines = err.splitlines(keepends=True)
        return code, out, "".join(x for x in lines if not x.startswith("notice: compiling kernels"))

    return call


@pytest.fixture
def objects(tmp_path_factory, monkeypatch):
    """The folder of the objects in a bucket, ``objects://bucket``."""
    from tests import object_store

    bucket = tmp_path_factory.mktemp("store") / "bucket"
    bucket.mkdir()
    monkeypatch.setenv(object_store.FOLDER, str(bucket.parent))
    object_store.register()
    return bucket


@pytest.fixture
def data(run_cli):
    """40 rows, in memory and as ``emb.npy``, ``scores.npy``, ``labels.npy``.

    Every float type can hold the values. No two scores are equal.
    """
    rng = np.random.default_rng(7)
    n = 40
    rows = SimpleNamespace(
        n=n,
        emb=(rng.integers(-512, 512, (n, 4)) / 64).astype(np.float32),
        scores=rng.permutation(n) / 8 + 0.125,
        labels=rng.integers(0, 3, n),
        ids=[f"id{3 * i:03}" for i in rng.permutation(n)],
    )
    for name in ("emb", "scores", "labels"):
        np.save(f"{name}.npy", getattr(rows, name))
    return rows


@pytest.fixture
def select(run_cli):
    """Runs ``d2prune select`` with -k 4 on one thread."""
    usual = ("-k", 4, "--threads", 1)
    return lambda *args: run_cli("select", *unless_given(usual, args), *args)


#: Runs one command. The last line of standard error is the number of kernels that were compiled
#: and the bytes of shared libraries that were resident at the end.
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
#: Bytes of shared libraries in `d2cli.runtime.ledger.BASE`.
_LIBRARIES = 140 << 20


@pytest.fixture
def peak_of():
    """Runs a command line with ``--json -q`` in a process of its own; returns its peak memory.

    Runs that compile kernels are repeated, because the compiler takes memory too. (Processes that
    compile at the same time overwrite each other's index of the cache.) The resident bytes of
    shared libraries are replaced by what plans assume, because the system may map more pages than
    are used. The minimum of three runs counts, because the memory that allocators keep depends on
    the order in which threads run.
    """
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        pytest.skip("kernels are not compiled")
    if not Path("/proc/self/smaps").exists():
        pytest.skip("libraries cannot be told from the rest here")
    few = dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "2"
    )  # the same on every machine

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
                print(
                    f"{whole:,} bytes, {libraries:,} of them libraries"
                )  # for reports of failed tests
                seen.append(whole - libraries + _LIBRARIES)
            if len(seen) == 3:
                return min(seen)
        pytest.skip("compiled kernels cannot be kept here")

    return peak
