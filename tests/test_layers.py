"""The layout of the package: imports run one way, without circles; ``--help`` loads little."""

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
#: Rooms that may use files, the terminal and Arrow.
OUTSIDE = {"files", "commands", "cli", "page"}
#: Modules of lower rooms that read files of the system.
MACHINE = {"runtime/jit.py", "runtime/memory.py", "runtime/scratch.py"}


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
    """Modules of the package that a file imports, the package itself included."""
    return [name for name in imports(path) if name.split(".")[0] == ROOT.name]


def breaches(module, imported):
    """Imports that do not run down: of higher floors, of other rooms of the floor, of no room.

    The package itself is no room: its public names would hide the rooms that they come from.
    """
    mine = room_of(module)
    return [
        other
        for other in imported
        if other == ROOT.name
        or (room_of(other) != mine and not FLOOR_OF.get(room_of(other), 99) < FLOOR_OF[mine])
    ]


def test_every_room_has_a_floor():
    rooms = {room_of(name) for name in MODULES if name not in (ROOT.name, f"{ROOT.name}.__main__")}
    assert rooms == set(FLOOR_OF)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_down_the_floors(path):
    assert breaches(name_of(path), own_imports(path)) == []


@pytest.mark.parametrize(
    ("module", "imported", "allowed"),
    [
        ("d2cli.graph.build", "d2cli.graph.hnsw", True),
        ("d2cli.graph.build", "d2cli.runtime.jit", True),
        ("d2cli.graph.build", "d2cli.messages.edges", False),
        ("d2cli.messages.edges", "d2cli.files.frame", False),
        ("d2cli.commands.plan", "d2cli.planning.search", False),
        ("d2cli.commands.plan", "d2cli", False),
    ],
)
def test_breaches_are_found(module, imported, allowed):
    assert breaches(module, [imported]) == ([] if allowed else [imported])


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


def test_eight_modules_at_most_from_the_command_line_to_a_graph_kernel():
    """The shortest way along imports from cli/select.py to a file of graph/ with kernels."""
    way = {"d2cli.cli.select": ["d2cli.cli.select"]}
    waiting, found = list(way), None
    while waiting and found is None:
        name = waiting.pop(0)
        path = MODULES[name]
        if room_of(name) == "graph" and "from d2cli.runtime.jit import" in path.read_text():
            found = way[name]
        for other in own_imports(path):
            if other in MODULES and other not in way:
                way[other] = [*way[name], other]
                waiting.append(other)
    assert found is not None
    assert len(found) <= 8, found


KERNEL_FILES = [
    path
    for path in FILES
    if room_of(name_of(path)) not in OUTSIDE and str(path.relative_to(ROOT)) not in MACHINE
]


@pytest.mark.parametrize("path", KERNEL_FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_kernels_know_no_files(path):
    used = {module.split(".")[0] for module in imports(path)}
    assert not used & {"pathlib", "pyarrow", "json", "io", "shutil", "tempfile", "typer", "rich"}
    assert "open(" not in path.read_text()
    assert "print(" not in path.read_text()


@pytest.mark.parametrize("folder", sorted({p.parent for p in FILES}), ids=lambda p: p.name)
def test_a_folder_has_at_most_12_files(folder):
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert 1 <= len(files) <= 12


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from d2cli.cli.main import run; run(['--help']); run(['select', '--help']);"
        "print([m for m in ('numba', 'numpy', 'pyarrow', 'hnswlib', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
