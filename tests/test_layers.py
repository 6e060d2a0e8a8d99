"""The house: imports run one way, and the front door opens without the furniture."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "d2cli"

#: Each floor, and the floors below it that it may use. What is not named is at the bottom.
FLOORS = {
    "bottom": {
        "errors",
        "defaults",
        "units",
        "limits",
        "_jit",
        "_heap",
        "_prefetch",
        "parallel",
        "products",
        "graph",
        "stopping",
        "checkpoints",
    },
    "neighbors": {"bottom"},
    "messages": {"bottom"},
    "edges": {"bottom"},
    "scores": {"bottom", "messages"},
    "budgets": {"bottom"},
    "_queue": {"bottom"},
    "_greedy": {"bottom", "messages", "_queue"},
    "sampling": {"bottom", "messages", "budgets", "_queue", "_greedy"},
    "cutoffs": {"bottom", "budgets"},
    "thinning": {"bottom", "budgets", "sampling"},
    "difficulty": {"bottom", "neighbors"},
    "baselines": {"bottom", "neighbors", "messages", "edges", "budgets"},
    "api": {
        *("bottom", "neighbors", "messages", "edges", "budgets", "sampling"),
        *("cutoffs", "thinning"),
    },
    "planning": {"bottom"},
    "evaluation": {"bottom", "neighbors"},
    "io": {"bottom"},
    "report": {"bottom", "neighbors", "evaluation"},
    "pipeline": {
        *("bottom", "io", "api", "scores", "messages", "budgets", "sampling", "edges", "neighbors"),
        *("planning", "difficulty", "evaluation", "baselines", "report"),
    },
    "cli": {"bottom", "pipeline"},
}
FILES = sorted(p for p in ROOT.rglob("*.py") if p.name not in ("__init__.py", "__main__.py"))


def floor_of(module):
    name = module.split(".")[1] if "." in module else "bottom"
    return "bottom" if name in FLOORS["bottom"] else name


def imports(path):
    """Modules that a file imports, those for type checking left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom):
            yield node.module, [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from ((alias.name, []) for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    mine = floor_of("d2cli." + ".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module, names in imports(path):
        if module == "d2cli":  # the version, or modules of the package itself
            modules = [f"d2cli.{n}" for n in names if not n.startswith("__")]
        else:
            modules = [module] if module.startswith("d2cli.") else []
        for other in modules:
            theirs = floor_of(other)
            allowed = theirs == mine or theirs in FLOORS[mine]
            assert allowed, f"{path.name} ({mine}) imports {other} ({theirs})"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_kernels_know_no_files(path):
    floor = floor_of("d2cli." + ".".join(path.relative_to(ROOT).with_suffix("").parts))
    if floor in ("io", "pipeline", "cli", "report"):  # a page is put together in memory
        return
    if path.name == "_jit.py":  # compiles them, and keeps what it compiled for as long as it holds
        return
    used = {module.split(".")[0] for module, _ in imports(path)}
    assert not used & {"pathlib", "pyarrow", "json", "io", "shutil", "tempfile", "typer", "rich"}
    assert "open(" not in path.read_text()
    assert "print(" not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_fits_in_the_head(path):
    assert len(path.read_text().splitlines()) <= 400


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from d2cli.cli.main import run; run(['--help']); run(['select', '--help']);"
        "print([m for m in ('numba', 'numpy', 'pyarrow', 'hnswlib', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_plan_loads_no_kernel(tmp_path):
    code = (
        "import sys; import numpy as np; from d2cli.cli.main import run;"
        f"np.save({str(tmp_path / 'e.npy')!r}, np.ones((9, 2), np.float32));"
        f"run(['graph', '--emb', {str(tmp_path / 'e.npy')!r}, '--out', 'g.arrow', '--plan']);"
        "print([m for m in ('numba', 'hnswlib', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
