"""Compiled kernels are kept where that is possible, and work where it is not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import d2cli

RUN = """
import sys
import numpy as np
{before}
from d2cli import build_graph
graph = build_graph(np.arange(8, dtype="f4").reshape(4, 2), 1)
assert graph.neighbors.tolist() == [[1], [0], [1], [2]]
from d2cli.neighbors.distances import rerank
print(sum(rerank.stats.cache_hits.values()), len(rerank.signatures))
"""
#: What numba finds where neither the package's folder nor the user's can be written.
NOWHERE = "import numba.core.caching as c; c.CompileResultCacheImpl._locator_classes = []"

jit_only = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled"
)


def run(before, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN.format(before=before)],
        capture_output=True, text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


@jit_only
def test_the_second_run_compiles_nothing(tmp_path):
    folder = str(tmp_path / "cache")
    assert run("", NUMBA_CACHE_DIR=folder) == [0, 1]
    assert run("", NUMBA_CACHE_DIR=folder) == [1, 1]


@jit_only
def test_a_change_of_any_file_of_the_package_compiles_anew(tmp_path):
    """Kernels hold each other's code: numba alone would notice a change of their own file only."""
    package = tmp_path / "d2cli"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(d2cli.__file__).parent, package, ignore=ignored)
    code = (
        "import numpy as np; from d2cli._greedy import silent_picks as kernel; import d2cli;"
        "i, f, b = np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_);"
        "kernel(i, f, b, i, i, i, f, 0);"
        "print(d2cli.__file__, sum(kernel.stats.cache_hits.values()))"
    )

    def hits():
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")},
        )  # fmt: skip
        where, count = done.stdout.split()
        assert Path(where).parent == package
        return int(count)

    assert [hits(), hits()] == [0, 1]
    with (package / "_heap.py").open("a") as file:
        file.write("# a change\n")
    assert [hits(), hits()] == [0, 1]


@jit_only
def test_without_a_place_for_the_cache_it_still_works():
    assert run(NOWHERE) == [0, 1]


def test_kernels_are_the_functions_themselves_where_the_jit_is_off():
    code = "from d2cli.messages import weight; print(type(weight).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )  # fmt: skip
    assert done.stdout.strip() == "function"


def test_weights_are_float64_whatever_comes_in():
    from d2cli.messages import weight

    values = {float(weight(d, 1.0, 3.0, True)) for d in (np.float32(1.0), np.float64(1.0), 1.0)}
    assert len(values) == 1
