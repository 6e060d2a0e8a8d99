"""The house: imports run one way, without circles, and ``--help`` loads nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "d2cli"

#: The rooms from the bottom up. A file imports its own room and rooms on lower floors only.
FLOORS = [
    {"errors", "defaults", "version"},
    {"limits"},
    {"runtime"},
    {"engine"},
    {"graph"},
    {"messages", "files", "evaluation", "difficulty"},
    {"selection"},
    {"api", "page", "baselines"},
    {"commands"},
    {"cli"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py" and p.stem != "__main__")
#: Rooms that may touch files, the terminal and Arrow.
OUTSIDE = {"files", "commands", "cli", "page"}
#: Parts of lower rooms that look at the machine itself.
MACHINE = {"runtime/jit.py", "runtime/memory.py"}


def name_of(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def room_of(module):
    return module.split(".")[1]


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
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found = [name for name in inside if name in MODULES]
            yield from found or [node.module]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def own_imports(path):
    return [name for name in imports(path) if name.startswith("d2cli.")]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_down_the_floors(path):
    mine = room_of(name_of(path))
    for other in own_imports(path):
        theirs = room_of(other)
        below = FLOOR_OF[theirs] < FLOOR_OF[mine]
        assert theirs == mine or below, f"{path.name} ({mine}) imports {other} ({theirs})"


def test_no_import_circle():
    """Circles inside a room count, and so do imports inside functions."""
    edges = {
        name: [other for other in own_imports(path) if other in MODULES]
        for name, path in MODULES.items()
        if name != "d2cli"  # public names load on first use
    }
    done, on_the_way = set(), []

    def visit(name):
        assert name not in on_the_way, " -> ".join([*on_the_way, name])
        if name in edges and name not in done:
            on_the_way.append(name)
            for other in edges[name]:
                visit(other)
            on_the_way.pop()
            done.add(name)

    for name in edges:
        visit(name)


def test_at_most_eight_modules_from_the_command_line_to_the_first_kernel_of_the_graph():
    """The shortest way along imports from cli/select.py to a file of graph/ with kernels."""
    way = {"d2cli.cli.select": ["d2cli.cli.select"]}
    waiting = list(way)
    while waiting:
        name = waiting.pop(0)
        path = MODULES[name]
        if room_of(name) == "graph" and "from d2cli.runtime.jit import" in path.read_text():
            assert len(way[name]) <= 8, way[name]
            return
        for other in own_imports(path):
            if other in MODULES and other not in way:
                way[other] = [*way[name], other]
                waiting.append(other)
    raise AssertionError("no way found")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_kernels_know_no_files(path):
    inside = str(path.relative_to(ROOT))
    if room_of(name_of(path)) in OUTSIDE or inside in MACHINE:
        return
    used = {module.split(".")[0] for module in imports(path)}
    assert not used & {"pathlib", "pyarrow", "json", "io", "shutil", "tempfile", "typer", "rich"}
    assert "open(" not in path.read_text()
    assert "print(" not in path.read_text()


@pytest.mark.parametrize("folder", sorted({p.parent for p in FILES}), ids=lambda p: p.name)
def test_a_folder_is_taken_in_at_a_glance(folder):
    assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= 12


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
