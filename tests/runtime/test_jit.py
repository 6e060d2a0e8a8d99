"""Compiled kernels are cached on disk if possible, and work if not."""

import ast
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.registry import CPUDispatcher as Dispatcher

import d2cli
from d2cli.runtime.jit import kernel_files

RUN = """
import sys
import numpy as np
{before}
from d2cli import build_graph
graph = build_graph(np.arange(8, dtype="f4").reshape(4, 2), 1)
assert graph.neighbors.tolist() == [[1], [0], [1], [2]]
from d2cli.graph.distances import rerank
print(sum(rerank.stats.cache_hits.values()), len(rerank.signatures))
"""
#: The state of numba if neither the package's folder nor the user's can be written.
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
def test_second_run_compiles_nothing(tmp_path):
    folder = str(tmp_path / "cache")
    assert run("", NUMBA_CACHE_DIR=folder) == [0, 1]
    assert run("", NUMBA_CACHE_DIR=folder) == [1, 1]


@jit_only
def test_change_of_a_called_kernel_compiles_its_callers_again(tmp_path):
    """numba itself checks only the kernel's own file."""
    package = tmp_path / "d2cli"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(d2cli.__file__).parent, package, ignore=ignored)
    code = (
        "import numpy as np; from d2cli.selection.picks import NO_LIMITS, silent_picks as kernel; "
        "import d2cli; i, f, b = np.empty(0, np.int64), np.empty(0), np.empty(0, np.bool_);"
        "kernel(i, f, b, i, i, i, f, NO_LIMITS, 0);"
        "print(d2cli.__file__, sum(kernel.stats.cache_hits.values()))"
    )

    def hits():
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": ""},
        )  # fmt: skip
        where, count = done.stdout.split()
        assert Path(where).parent == package
        return int(count)

    def change(name):
        with (package / name).open("a") as file:
            file.write("# a change\n")

    assert [hits(), hits()] == [0, 1]
    change("selection/heap.py")
    assert [hits(), hits()] == [0, 1]
    for name in ("page/svg.py", "errors.py", "api.py", "graph/blocks/kernels/cells.py"):
        change(name)
    assert hits() == 1


@jit_only
def test_constants_of_kernels_are_in_kernel_files():
    """Machine code contains constants, so a changed constant must lead to a new compilation."""
    checked = 0
    for name in kernel_modules():
        module = importlib.import_module(name)
        for value in vars(module).values():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == name:
                code = value.py_func.__code__
                files = kernel_files(Path(code.co_filename))
                for used in code.co_names:
                    found = value.py_func.__globals__.get(used)
                    if isinstance(found, int | float | tuple) and not isinstance(found, bool):
                        assert any(used in assigned(file) for file in files), (name, used)
                        checked += 1
    assert checked > 10


def assigned(path):
    """The names assigned at the top level of a file."""
    targets = [
        t
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for t in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}


def kernel_modules():
    root = Path(d2cli.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if "from d2cli.runtime.jit import" in path.read_text():
            yield ".".join(("d2cli", *path.relative_to(root).with_suffix("").parts))


@jit_only
def test_kernels_work_without_a_cache_folder():
    assert run(NOWHERE) == [0, 1]


def test_kernels_are_plain_functions_without_the_jit():
    code = "from d2cli.messages.forward import weight; print(type(weight).__name__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )  # fmt: skip
    assert done.stdout.strip() == "function"


def test_weights_are_float64_for_every_input_dtype():
    from d2cli.messages.forward import weight

    values = {float(weight(d, 1.0, 3.0, True)) for d in (np.float32(1.0), np.float64(1.0), 1.0)}
    assert len(values) == 1
