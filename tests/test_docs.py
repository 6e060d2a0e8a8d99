"""The documentation: its commands run, its options, targets, files and links exist."""

import re
import shlex
import shutil

import numpy as np
import pytest
import typer

from d2cli.cli.main import app, run
from docs import build_cli
from tests.engines import HAVE_RAY
from tests.marks import compiled
from tests.pages import PAGES, RECIPES, ROOT, blocks, shell_lines
from tests.standin_torch import use_standin_torch

#: Longest README, in lines.
README_LINES = 150

_OPTION = re.compile(r"(?<![\w-])--?[a-z][a-z0-9-]*(?![\w-])")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FILE = re.compile(r"`((?:d2cli|tests|bench|evidence|docs)/[\w./*-]+)`")
_TARGET = re.compile(r"(?:^|`)make ([a-z-]+)", re.M)

page = pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
any_page = pytest.mark.parametrize("path", [*PAGES, *RECIPES], ids=lambda p: p.stem)


def commands_of_program():
    """The program's click commands, by name."""
    root = typer.main.get_command(app)
    context = root.context_class(root, info_name="d2prune")
    return {name: root.get_command(context, name) for name in root.list_commands(context)}


def all_options():
    root = typer.main.get_command(app)
    inner = (build_cli.option_names(command) for command in commands_of_program().values())
    return set.union(build_cli.option_names(root), *inner)


def makefile_targets():
    text = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.M))


def anchors(path):
    """Heading anchors of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the sample data under the names that the pages use."""
    folder = tmp_path_factory.mktemp("docs")
    data = ROOT / "sample_data"
    for path in data.iterdir():
        if path.suffix in {".npy", ".npz", ".parquet"}:
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def already_run():
    """Command lines that ran in the folder."""
    return set()


@pytest.mark.parametrize(
    ("found", "least"),
    [
        (lambda path: [line for line in shell_lines(path) if line.startswith("d2prune ")], 20),
        (lambda path: blocks(path, "python"), 3),
        (lambda path: _LINK.findall(path.read_text()), 30),
        (lambda path: _FILE.findall(path.read_text()), 30),
        (lambda path: _TARGET.findall(path.read_text()), 5),
    ],
    ids=["commands", "python", "links", "files", "targets"],
)
def test_pages_have_what_is_checked(found, least):
    """The tests below check every match: this one, that the patterns match."""
    assert sum(len(found(path)) for path in PAGES) >= least


@compiled
@page
def test_commands_run_as_written(path, folder, already_run, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    for line in shell_lines(path):
        skipped = "--engine ray" in line and not HAVE_RAY
        if line.startswith("d2prune ") and line not in already_run and not skipped:
            assert run(shlex.split(line)[1:]) == 0, f"{line}\n{capsys.readouterr().err}"
            already_run.add(line)


@compiled
@page
def test_python_examples_run(path, folder, already_run, monkeypatch):
    monkeypatch.chdir(folder)
    use_standin_torch(monkeypatch)
    if not (folder / "selected.npy").exists():
        assert run(shlex.split("select --emb emb.npy --scores scores.npy --ratio 0.3")) == 0
    for text in blocks(path, "python"):
        exec(compile(text, str(path), "exec"), {})


@any_page
def test_shell_blocks_hold_known_commands(path):
    for line in shell_lines(path):
        assert line.split()[0] in {"d2prune", "make"}, line


@any_page
def test_make_targets_exist(path):
    named = set(_TARGET.findall(path.read_text()))
    assert named <= makefile_targets()


@any_page
def test_options_exist(path):
    text = "\n".join(re.findall(r"`[^`\n]+`", path.read_text()) + shell_lines(path))
    named = {option for option in _OPTION.findall(text) if option.startswith("--")}
    assert named <= all_options()


@pytest.mark.parametrize("name", sorted(commands_of_program()))
def test_cli_page_lists_every_option(name):
    section = build_cli.PAGE.read_text().split(f"\n## d2prune {name}\n")[1].split("\n## ")[0]
    tables = "\n".join(line for line in section.splitlines() if line.startswith("| `"))
    first_cells = " ".join(re.findall(r"^\| `((?:[^`])*)` \|", tables, re.M))
    assert set(_OPTION.findall(first_cells)) == build_cli.option_names(commands_of_program()[name])


def test_cli_page_is_current():
    assert build_cli.PAGE.read_text() == build_cli.page(), "run: make docs"


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


def test_figures_of_the_readme_are_in_the_results():
    """Every accuracy of the table of results is in evidence/RESULTS.md."""
    results = (ROOT / "evidence" / "RESULTS.md").read_text()
    table = (ROOT / "README.md").read_text().split("## Results")[1].split("## ")[0]
    figures = re.findall(r"\b0\.\d{4}\b", table)
    assert len(figures) > 40
    assert [figure for figure in figures if figure not in results] == []


def test_differences_of_the_evidence_page_are_those_of_the_results():
    """In points, rounded: D2 less random selection, and D2 less the best other method."""
    found = {}
    for part in (ROOT / "evidence" / "RESULTS.md").read_text().split("\n**")[1:]:
        rows = re.findall(r"^\| \**([^|*]+?)\** \| (.*) \|$", part, re.M)
        number = r"[+−]?0\.\d{4}"
        cells = {name: re.findall(number, row.replace("**", "")) for name, row in rows}
        values = {
            name: [100 * float(one.replace("−", "-")) for one in row] for name, row in cells.items()
        }
        name = part.split("**")[0].replace(" glosses", "").replace(" (no labels)", "")
        found[name.replace("10%", "10 %")] = values
    tables = (ROOT / "docs" / "evidence.md").read_text().split("\n## ")[1:3]
    for table, against in zip(tables, ("random", None), strict=True):
        rows = re.findall(r"^\| ((?:WordNet|Fashion|Kernel)[^|]*) \| (.*) \|$", table, re.M)
        assert len(rows) == 10
        for name, row in rows:
            values = found[name]
            ours = next(one for one in values if one.startswith("D2, defaults"))
            expected = values[f"{ours}, ahead of the best other"]
            if against:  # every second number is a standard error
                expected = np.subtract(values[ours], values[against])[::2]
            shown = [float(n.replace("−", "-")) for n in re.findall(r"[+−]?\d+\.\d", row)]
            assert shown == pytest.approx(list(expected), abs=0.0601), name


@any_page
def test_links_resolve(path):
    for link in _LINK.findall(path.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@any_page
def test_named_files_exist(path):
    for name in _FILE.findall(path.read_text()):
        assert list(ROOT.glob(name.rstrip("/"))), name


def test_named_functions_are_in_the_named_files():
    """The table "Where is what" of docs/architecture.md: a file, then names that it defines."""
    text = (ROOT / "docs" / "architecture.md").read_text().split("## The rooms")[0]
    rows = re.findall(r"\| `(d2cli/[\w/]+\.py)`(.*) \|$", text, re.M)
    assert len(rows) > 10
    for name, rest in rows:
        for dotted in re.findall(r"`([\w.]+)`", rest):
            for part in dotted.split("."):
                defined = rf"^\s*(def|class) {part}\b|^{part}\b.* = "
                assert re.search(defined, (ROOT / name).read_text(), re.M), (name, part)


def test_every_page_is_reached_from_the_readme():
    linked = set(_LINK.findall((ROOT / "README.md").read_text()))
    pages = {path.relative_to(ROOT).as_posix() for path in [*PAGES[1:], *RECIPES]}
    assert pages <= linked
