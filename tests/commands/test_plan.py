"""Plans of all commands: what they print, and that runs read, write and need what they predict."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.cli.main import run
from d2cli.commands import budget, pilot
from d2cli.commands import plan as plans
from d2cli.difficulty.kinds import KINDS
from d2cli.files.graph_file import write_graph
from d2cli.graph.knn_graph import KnnGraph
from d2cli.runtime import ledger
from d2cli.runtime.memory import Available
from tests.marks import compiled

for package in ("jinja2", "matplotlib", "sklearn"):  # the extras `report` and `score`
    pytest.importorskip(package)

EMB = ["--emb", "emb.npy"]
DATA = [*EMB, "--scores", "scores.npy"]
DYNAMICS = [w for kind, k in KINDS.items() if k.family == "dynamics" for w in ("--kind", kind)]
LOGITS = [*DYNAMICS, "--window", "3", "--logits", "z.npy", "--labels", "labels.npy"]
GRAPH_KINDS = ["--kind", "knn-distance", "--kind", "label-disagreement", "--labels", "labels.npy"]
GRAPH = ["--graph", "g.arrow"]
EXAMPLES = ["--images", "images.npz", "--texts", "texts.txt"]
#: Lines of every command, on the files of the fixture `planned`.
LINES = {
    "graph": ["graph", *EMB, "--out", "g2.arrow"],
    "propagate": ["propagate", *GRAPH, "--scores", "scores.npy", "--out", "p2.npy"],
    "select": ["select", *DATA, "--size", "9"],
    "select --graph": ["select", *GRAPH, "--propagated", "p.npy", "--ratio", "0.5"],
    "score --logits": ["score", *LOGITS, "--epochs", "2:4", "--out", "o.parquet"],
    "score {kind}": ["score", *LOGITS, "--out", "{kind}.npy"],
    "score --emb": [
        *("score", "--kind", "prototypicality", "--kind", "knn-distance", *EMB, "--out", "o.csv")
    ],
    "score --target": [
        *("score", "--kind", "target-similarity", *EMB, "--target", "t.npy", "--out", "o.npy")
    ],
    "score --graph": ["score", *GRAPH_KINDS, *GRAPH, "--out", "o.arrow"],
    "report": ["report", *DATA, "--selected", "k9.parquet", "--map", "none", "--out", "r.html"],
    "report --images": [
        *("report", *DATA, "--selected", "k9.parquet", "--selected", "k5.npy"),
        *("--selected", "k7.txt", "--labels", "labels.npy", *EXAMPLES, "--map", "pca"),
        *("--out", "r.html"),
    ],
    "compare": [*("compare", *DATA, "--methods", "d2,random", "--ratio", "0.3", "--out", "c.html")],
    "compare --labels": [
        *("compare", *DATA, "--size", "5", "--size", "9", "--labels", "labels.npy"),
        *("--confidence", "confidence.npy", "--out", "c.html"),
    ],
}
#: One line of each command.
COMMANDS = ["graph", "propagate", "select", "score --logits", "report", "compare"]
every_line = pytest.mark.parametrize("name", LINES)
every_command = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with the inputs of LINES: 40 rows."""
    folder, n = tmp_path_factory.mktemp("inputs"), 40
    rng = np.random.default_rng(7)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        np.save("emb.npy", rng.standard_normal((n, 4)).astype(np.float32))
        np.save("scores.npy", rng.random(n))
        np.save("labels.npy", rng.integers(0, 3, n))
        np.save("z.npy", rng.standard_normal((4, n, 3)).astype(np.float32))
        np.save("t.npy", rng.standard_normal((5, 4)))
        np.savez("images.npz", np.zeros((n, 8, 8), np.uint8))
        Path("texts.txt").write_text("".join(f"text, {i}\n" for i in range(n)))
        kinds = ["--kind", "entropy", "--kind", "confidence", "--kind", "variability"]
        for line in (
            ["graph", *EMB, "-k", "4", "--out", "g.arrow"],
            ["propagate", *GRAPH, *DATA[2:], "--edges", "mutual", "--out", "p.npy"],
            ["select", *DATA, "--size", "9", "--out", "k9.parquet"],
            ["select", *DATA, "--size", "5", "--out", "k5.npy"],
            ["select", *DATA, "--size", "7", "--out", "k7.txt"],
            ["score", *kinds, *LOGITS[-4:], "--out", "{kind}.npy"],
        ):
            assert run([*line, "-q"]) == 0
    return folder


@pytest.fixture
def planned(inputs, run_cli):
    """Runs command lines in a folder with the inputs of LINES."""
    shutil.copytree(inputs, ".", dirs_exist_ok=True)
    return run_cli


def files():
    """Time of change and size of every file in the current folder."""
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in Path().iterdir()}


def plan_of(run_cli, line, *more):
    """The plan of a line as an object."""
    code, out, err = run_cli(*line, *more, "--plan", "--json")
    assert code == 0, err
    return json.loads(out)


def inputs_of(line):
    """The files that a line reads."""
    out = line.index("--out") + 1 if "--out" in line else 0
    ends = (".npy", ".npz", ".arrow", ".parquet", ".txt")
    return [word for i, word in enumerate(line) if word.endswith(ends) and i != out]


# -- what a plan prints ----------------------------------------------------------------------------
@every_line
def test_plan_prints_its_lines_and_writes_nothing(name, planned):
    before = files()
    code, out, err = planned(*LINES[name], "--plan")
    assert code == 0
    assert files() == before
    labels = {line.split(" ", 1)[0] for line in out.splitlines()}
    assert labels >= {"reads", "method", "memory", "budget", "writes", "io"}
    assert "time" not in labels
    assert all(line.startswith("notice: ") for line in err.splitlines())
    assert planned(*LINES[name], "--plan", "-q")[2] == ""


@every_line
def test_plan_as_json(name, planned):
    before = files()
    found = plan_of(planned, LINES[name], "--threads", 1)
    assert files() == before
    assert set(found) == {
        "plan", "reads", "method", "threads", "memory", "disk", "io", "notices",
    }  # fmt: skip
    assert found["plan"] == LINES[name][0]
    assert found["threads"] == 1
    memory = found["memory"]
    assert set(memory) == {
        "peak_bytes", "mapped_bytes", "stage", "parts", "available_bytes", "budget_bytes",
    }  # fmt: skip
    assert memory["peak_bytes"] == sum(memory["parts"].values())
    assert 0 <= memory["mapped_bytes"] < memory["peak_bytes"]
    assert set(found["io"]) == {"read_bytes", "written_bytes"}
    assert found["disk"]["written_bytes"] > 0


@every_line
def test_io_read_is_the_size_of_the_inputs_on_disk(name, planned):
    found = plan_of(planned, LINES[name])
    inputs = inputs_of(LINES[name])
    assert sorted(path for read in found["reads"] for path in read["paths"]) == sorted(inputs)
    for read in found["reads"]:
        assert read["bytes"] == sum(os.path.getsize(path) for path in read["paths"])
    assert found["io"]["read_bytes"] == sum(os.path.getsize(path) for path in inputs)


def test_plan_describes_the_inputs(planned):
    found = plan_of(planned, LINES["graph"])
    assert found["reads"] == [
        {
            "option": "emb",
            "paths": ["emb.npy"],
            "bytes": os.path.getsize("emb.npy"),
            "rows": 40,
            "rows_exact": True,
            "width": 4,
            "dtype": "float32",
            "memory_mapped": True,
        }
    ]
    assert "exact (auto: up to 20,000 rows)" in found["method"]
    assert "the graph as it is" in plan_of(planned, LINES["score --graph"])["method"]


def test_rows_of_selections_are_read_from_their_headers(planned):
    np.save("mask.npy", np.arange(40) < 10)
    line = ["report", *DATA, "--selected", "k9.parquet", "--selected", "mask.npy"]
    found = plan_of(planned, line, "--out", "r.html")
    assert [read["rows"] for read in found["reads"] if read["option"] == "selected"] == [9, 40]
    assert any("a mask does not say how many rows it keeps" in n for n in found["notices"])


@pytest.mark.parametrize(
    "options",
    [
        ["--within", "labels.npy"],
        ["--exclude", "x.txt"],
        ["--metric", "cosine", "--method", "hnsw"],
        ["--method", "blocks", "--recall", "0.99"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["graph", "select"])
def test_options_of_the_search_change_the_plan(name, options, planned):
    Path("x.txt").write_text("3\n7\n")
    plain, found = plan_of(planned, LINES[name]), plan_of(planned, LINES[name], *options)
    needs = [(plan["memory"]["peak_bytes"], plan["method"]) for plan in (found, plain)]
    assert needs[0] != needs[1]
    if "labels.npy" in options or "x.txt" in options:
        assert found["reads"][-1]["option"] == options[0].strip("-")


def test_plan_loads_no_kernel(planned):
    """In one process the plans of all lines run one after the other."""
    lines = [[*LINES[name], "--plan", "-q"] for name in LINES]
    heavy = ("numba", "hnswlib", "rich", "sklearn", "scipy", "matplotlib", "PIL", "jinja2")
    code = (
        "import sys\n"
        "from d2cli.cli.main import run\n"
        f"for line in {lines!r}:\n"
        "    assert run(line) == 0, line\n"
        f"    loaded = [m for m in {(*heavy, 'd2cli.runtime.jit')!r} if m in sys.modules]\n"
        "    assert not loaded, (line, loaded)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_full_disk_prints_a_notice(planned, monkeypatch):
    full = SimpleNamespace(free=999)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    assert "999 B are free in ." in planned(*LINES["graph"], "--plan")[2]


@pytest.mark.parametrize("method", ["exact", "blocks", "hnsw"])
def test_checkpoints_are_part_of_disk_and_io(method, planned):
    line = ["graph", *EMB, "--method", method, "--out", "g2.arrow"]
    none = plan_of(planned, line, "--checkpoint", "off")
    assert none["disk"]["temporary_bytes"] == none["disk"]["written_bytes"]
    assert none["io"]["written_bytes"] == none["disk"]["written_bytes"]
    found = plan_of(planned, line, "--checkpoint", 0)
    room = found["disk"]["temporary_bytes"] - found["disk"]["written_bytes"]
    assert room >= 2 * 40 * 10 * 8  # two states of the lists
    assert found["io"]["written_bytes"] == found["disk"]["temporary_bytes"]
    assert "checkpoints of a long build" in planned(*line, "--checkpoint", 0, "--plan")[1]
    assert "checkpoints" not in planned(*line, "--checkpoint", "off", "--plan")[1]


# -- what a plan refuses ---------------------------------------------------------------------------
COMPARE = ["compare", *DATA, "--out", "c.html"]
REPORT = ["report", *DATA, "--out", "r.html"]
SCORE = ["score", "--kind", "el2n", "--logits", "z.npy", "--out", "o.npy"]


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (["graph", "--emb", "none.npy", "--out", "x.arrow"], 1, "none.npy: no such file"),
        (["graph", *EMB, "--out", "g.npy"], 2, "a graph is an Arrow file"),
        (["select", *EMB, "--size", "9"], 2, "needs --scores"),
        (["select", *DATA, "--size", "9", "--json", "--out", "-"], 2, "want standard output"),
        (["propagate", "--graph", "emb.npy", *DATA[2:], "--out", "x.npy"], 1, "emb.npy"),
        (SCORE, 2, "--kind el2n needs --labels"),
        ([*SCORE, "--labels", "labels.npy", "--epochs", "9"], 2, "epochs"),
        ([*COMPARE, "--ratio", "0.95"], 2, "more than the 36 rows"),
        ([*COMPARE, "--ratio", "0.3", "--cutoff", "nan"], 2, "cutoff must be"),
        ([*COMPARE, "--size", "41"], 2, "a budget of 41"),
        (COMPARE, 2, "needs --ratio or --size"),
        (["compare", *DATA, "--ratio", "0.3", "--out", "c.npy"], 2, "compare writes a web page"),
        ([*REPORT, "--selected", "none.npy"], 1, "none.npy: no such file"),
        ([*REPORT, "--selected", "k5.npy", "--map-rows", "0"], 2, "--map-rows must be"),
        ([*REPORT, *["--selected", "k5.npy"] * 9], 2, "more than the 8"),
    ],
)
def test_plan_refuses_what_the_run_refuses(line, code, message, planned):
    before = files()
    for more in (["--plan"], []):
        found, out, err = planned(*line, *more)
        assert (found, out) == (code, "")
        assert message in err
    assert files() == before


OUT_OF_RANGE = [
    ["-k", "0"],
    ["-k", "-5"],
    ["--hnsw-m", "0"],
    ["--recall", "nan"],
    ["--ef", "0"],
    ["--method", "hnsw", "--ef-construction", "0"],
    ["--threads", "0"],
    ["--cutoff", "nan"],
    ["--cutoff", "1"],
    ["--size", "0"],
    ["--size", "41"],
    ["--ratio", "nan"],
    ["--gamma-reverse", "nan"],
    ["--hops", "-1"],
    ["--hops", "100000000000"],
    ["-k", "100000000"],
    ["--mode", "paper"],
    ["--keep-lift", "0"],
    ["--keep-lift", "0.9", "--mode", "paper"],
    ["--keep-lift", "0.9", "--gamma-reverse", "1"],
]
#: Values that only the computation checks: the plan does not use them.
UNCHECKED = [["--gamma-reverse", "nan"]]


@pytest.mark.parametrize("options", OUT_OF_RANGE, ids=" ".join)
def test_options_out_of_range_are_refused_by_plan_and_run(options, planned):
    line = ["select", *DATA, *options]
    line += [] if {"--size", "--ratio"} & set(options) else ["--size", "9"]
    for more in ([], ["--plan"], ["--max-memory", "8GiB"]):
        code, _, err = planned(*line, *more)
        assert code == (0 if more == ["--plan"] and options in UNCHECKED else 2), err
        assert "defect" not in err


# -- faults in the plan itself ---------------------------------------------------------------------
@every_command
def test_exception_in_the_plan_does_not_stop_a_run_without_plan(name, planned, monkeypatch):
    def divide(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(ledger.Ledger, "hold", divide)
    for asked in (["--plan"], ["--max-memory", "8GiB"]):
        before = files()
        code, out, err = planned(*LINES[name], *asked)
        assert (code, out) == (1, "")
        assert err.startswith("error: unexpected ZeroDivisionError: division by zero\n")
        assert files() == before
    assert planned(*LINES[name], "-q") == (0, "", "")


# -- plan and run settle alike ---------------------------------------------------------------------
@pytest.fixture
def accounted(monkeypatch):
    """The names under which plans of ``select`` hold memory."""
    names = set()

    class Spy(ledger.Ledger):
        def hold(self, name, size, *, mapped=False):
            names.update([name] if size else [])
            super().hold(name, size, mapped=mapped)

    monkeypatch.setattr(budget, "Ledger", Spy)
    return names


#: Scores by what their provenance records.
RECORDED = {
    "nothing": ["--scores", "scores.npy"],
    "harder": ["--scores", "entropy.npy"],
    "easier": ["--scores", "confidence.npy", "--score-transform", "shift"],
    "better": ["--scores", "variability.npy"],
}


@pytest.mark.parametrize("more", [[], ["--cutoff-scores", "scores.npy"]], ids=" ".join)
@pytest.mark.parametrize("cutoff", [[], ["--cutoff", "auto"], ["--cutoff", "0.1"]], ids=" ".join)
@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--higher-is", "better"],
        ["--higher-is", "harder"],
        ["--gamma-reverse", "1"],
        ["--mode", "paper", "--gamma-reverse", "1"],
        ["--hops", "2"],
        ["--keep-lift", "0.9"],
        ["--keep-lift", "0.9", "--hops", "0"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("recorded", RECORDED)
def test_plan_and_run_settle_the_cutoff_alike(planned, accounted, recorded, options, cutoff, more):
    line = ["select", *EMB, *RECORDED[recorded], "--size", "5", *options, *cutoff, *more]
    found = plan_of(planned, line)
    names = set(accounted)
    assert planned(*line, "-q")[0] == 0
    settled = json.loads(Path("selected.npy.json").read_text())["parameters"]
    cuts, automatic = settled["cutoff"] == "auto", settled["gamma_reverse"] == "auto"
    kept = settled["keep_lift"] is not None
    assert ("cutoff" in names) == (cuts or (automatic and not kept))  # both look for two groups
    own = not more if cuts else automatic
    assert ("own scores" in names) == (kept or own)
    assert ("estimate" in names) == ("own scores" in names and settled["hops"] > 0)
    assert ("thinning" in names) == (automatic and not kept)
    assert ("best picks" in names) == automatic
    assert found["threads"] >= 1


def test_epochs_in_files_of_several_shapes_are_planned_and_run(planned):
    z = np.load("z.npy")
    np.save("one.npy", z[0])
    line = [*("score", "--kind", "el2n", "--kind", "forgetting", "--labels", "labels.npy")]
    both = ["--logits", "z.npy", "--logits", "one.npy"]
    found = plan_of(planned, line, *both, "--out", "o.parquet")
    assert "5 of 5 epochs" in found["method"]
    assert found["io"]["read_bytes"] == sum(
        os.path.getsize(path) for path in ("z.npy", "one.npy", "labels.npy")
    )
    assert planned(*line, *both, "--out", "o.parquet", "--max-memory", "8GiB", "-q")[0] == 0
    np.save("all.npy", np.concatenate([z, z[:1]]))
    assert planned(*line, "--logits", "all.npy", "--out", "one.parquet", "-q")[0] == 0
    assert pq.read_table("o.parquet").equals(pq.read_table("one.parquet"))


# -- --max-memory ----------------------------------------------------------------------------------
@every_line
def test_run_that_cannot_keep_to_the_limit_is_refused_with_the_number_that_would_do(name, planned):
    before = files()
    code, out, err = planned(*LINES[name], "--max-memory", "99")
    assert (code, out) == (1, "")
    assert files() == before
    (line,) = err.splitlines()
    found = re.fullmatch(r"error: this run needs at least (\d+ MiB).*; --max-memory is 99 B", line)
    assert planned(*LINES[name], "--max-memory", found[1], "-q")[0] == 0


@every_command
def test_plan_states_the_budget(name, planned, monkeypatch):
    found = plan_of(planned, LINES[name], "--max-memory", "8GiB")
    assert found["memory"]["budget_bytes"] == 8 << 30
    out = planned(*LINES[name], "--max-memory", "8GiB", "--plan")[1]
    assert "8 GiB besides program and libraries (--max-memory)" in out
    some = Available((10 << 30) + 5 * ledger.BASE // 4, "of the machine")
    monkeypatch.setattr(budget, "available_memory", lambda: some)
    assert plan_of(planned, LINES[name])["memory"]["budget_bytes"] == 8 << 30
    out = planned(*LINES[name], "--plan")[1]
    assert "8 GiB besides program and libraries (80% of what is available)" in out
    monkeypatch.setattr(budget, "available_memory", lambda: None)
    assert plan_of(planned, LINES[name])["memory"]["budget_bytes"] is None
    assert "no limit is known" in planned(*LINES[name], "--plan")[1]


def test_plan_above_the_limit_is_printed_and_refused(planned):
    code, out, err = planned(*LINES["graph"], "--plan", "--max-memory", "99")
    assert code == 1
    assert out.startswith("reads")
    assert err.splitlines()[-1].endswith("; --max-memory is 99 B")


def test_limit_that_is_no_size_is_refused(planned):
    code, out, err = planned(*LINES["graph"], "--max-memory", "lots")
    assert (code, out) == (2, "")
    assert "--max-memory must be a size such as 8GiB" in err


@every_command
def test_run_that_needs_more_than_is_available_prints_a_notice(name, planned, monkeypatch):
    some = Available(1 << 20, "of the machine")
    for module in (plans, budget):
        monkeypatch.setattr(module, "available_memory", lambda: some)
    code, _, err = planned(*LINES[name])
    assert code == 0
    notices = [text for text in err.splitlines() if text.startswith("notice: this run needs about")]
    assert len(notices) == 1
    assert notices[0].endswith(" and 1 MiB are available of the machine")
    assert planned(*LINES[name], "-q")[2] == ""


def test_notice_tells_mapped_pages_from_other_memory():
    account = ledger.Ledger()
    account.hold("embeddings", 1 << 30, mapped=True)
    account.hold("graph", 1 << 20)
    needs = account.estimate()

    def notices(size):
        return plans.memory_notices(needs, Available(size, "of the machine"))

    assert notices(needs.peak) == []
    assert "the run would be slow rather than fail" in notices(needs.peak - needs.mapped)[0]
    assert "slow" not in notices(needs.peak - needs.mapped - 1)[0]
    assert plans.memory_notices(needs, None) == []


def test_ledger_keeps_the_peak():
    account = ledger.Ledger()
    account.hold("a", 100, mapped=True)
    account.stage = "second"
    with account.passing("b", 50):
        assert account.held["b"] == 50
    account.free("a", "never there")
    account.stage = "third"
    account.touch("b", 120)
    account.hold("c", 20)
    found = account.estimate()
    assert (found.peak, found.stage, found.mapped) == (ledger.BASE + 150, "second", 100)
    assert found.parts == {"program": ledger.BASE, "a": 100, "b": 50}
    assert found.temporary == 0
    account.keep(7)
    assert account.estimate().temporary == 14  # the old state and the new one


# -- --pilot ---------------------------------------------------------------------------------------
@every_command
def test_pilot_without_plan_is_refused(name, planned):
    before = files()
    code, out, err = planned(*LINES[name], "--pilot")
    assert (code, out) == (2, "")
    assert "give --plan too" in err
    assert files() == before


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """The folder in which temporary files are made."""
    folder = tmp_path_factory.mktemp("temporary")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@every_line
def test_pilot_times_the_stages_of_the_run_and_leaves_nothing(name, planned, temporary):
    before = files()
    found = plan_of(planned, LINES[name], "--pilot")
    assert files() == before
    assert not list(temporary.iterdir())
    assert (found["pilot"]["rows"], found["pilot"]["sampled_rows"]) == (40, [40, 40])
    seconds = found["pilot"]["seconds"]
    code, out, _ = planned(*LINES[name], "--json")
    assert code == 0
    assert set(seconds) == {"read", "start", *json.loads(out)["run"]["seconds"]}
    parts = [value for stage, value in seconds.items() if stage != "total"]
    assert min(parts) >= 0
    assert seconds["total"] == pytest.approx(sum(parts), abs=0.0006 * len(parts))  # all rounded
    assert seconds["total"] > 0


@every_command
def test_pilot_prints_a_line_of_time(name, planned, temporary):
    out = planned(*LINES[name], "--plan", "--pilot")[1]
    (line,) = [text for text in out.splitlines() if text.startswith("time ")]
    assert re.search(r"about [\d.]+ (s|min|h) on \d+ thread.*from runs on 40 and 40 of 40", line)


@every_line
def test_pilot_runs_samples_of_doubling_size(name, planned, temporary, monkeypatch):
    """Samples of 10, 20 and 40 rows of the 40."""
    monkeypatch.setattr(pilot, "FIRST_ROWS", 10)
    monkeypatch.setattr(pilot, "LONG_ENOUGH", float("inf"))
    assert plan_of(planned, LINES[name], "--pilot")["pilot"]["sampled_rows"] == [20, 40]
    monkeypatch.setattr(pilot, "LONG_ENOUGH", 0.0)
    found = plan_of(planned, LINES[name], "--pilot")
    assert found["pilot"]["sampled_rows"] == [10, 10]
    assert not list(temporary.iterdir())
    assert not any("extrapolated" in notice for notice in found["notices"])


SAMPLED = [
    ["--labels", "labels.npy", "--balance", "uniform"],
    ["--within", "labels.npy", "--exclude", "x.txt"],
    ["--include", "x.txt", "--cutoff", "0.1", "--cutoff-scores", "scores.npy"],
    ["--size", "20", "--out", "k_{size}.parquet"],
    ["--keep-lift", "0.9", "--hops", "0", "--higher-is", "better"],
]


@pytest.mark.parametrize("options", SAMPLED, ids=" ".join)
def test_pilot_samples_every_input_of_select(options, planned, temporary, monkeypatch):
    Path("x.txt").write_text("3\n7\n")
    monkeypatch.setattr(pilot, "FIRST_ROWS", 20)
    monkeypatch.setattr(pilot, "LONG_ENOUGH", 0.0)
    found = plan_of(planned, LINES["select"], *options, "--pilot")
    assert found["pilot"]["sampled_rows"] == [20, 20]
    assert found["pilot"]["seconds"]["total"] > 0


#: Lines that take settings from the provenance of their inputs.
INHERITING = {
    "a direction": ["select", "--emb", "emb.npy", "--scores", "margin.parquet"],
    "a direction of the cutoff": [
        *("select", "--emb", "emb.npy", "--scores", "scores.npy"),
        *("--cutoff", "0.1", "--cutoff-scores", "margin.parquet"),
    ],
    "messages": [
        *("select", "--graph", "kept.arrow", "--propagated", "kept.npy"),
        *("--gamma-forward", "2", "--hops", "2"),
    ],
    "an exact mode": [
        *("select", "--emb", "emb.npy", "--scores", "scores.npy"),
        *("--mode", "reference", "--gamma-reverse", "1"),
    ],
}


@pytest.mark.parametrize("line", INHERITING.values(), ids=INHERITING)
def test_pilot_runs_with_the_settings_that_inputs_record(line, planned, temporary, monkeypatch):
    """Samples have no provenance; the run itself accepts each of these lines."""
    rng = np.random.default_rng(1)
    np.save("logits.npy", rng.normal(size=(3, 40, 4)).astype(np.float32))
    np.save("classes.npy", rng.integers(0, 4, 40))
    made = [
        ["score", "--kind", "aum", "--logits", "logits.npy", "--labels", "classes.npy"],
        ["graph", "--emb", "emb.npy", "--out", "kept.arrow"],
        ["propagate", "--graph", "kept.arrow", "--scores", "scores.npy", "--out", "kept.npy"],
    ]
    for args in (made[0] + ["--out", "margin.parquet"], made[1]):
        assert planned(*args)[0] == 0
    assert planned(*made[2], "--gamma-forward", "2", "--hops", "2")[0] == 0
    monkeypatch.setattr(pilot, "FIRST_ROWS", 20)
    monkeypatch.setattr(pilot, "LONG_ENOUGH", 0.0)
    monkeypatch.setattr("d2cli.graph.settings.EXACT_UP_TO", 10)
    line = [*line, "--ratio", "0.5"]
    assert plan_of(planned, line, "--pilot")["pilot"]["sampled_rows"] == [20, 20]
    code, _, err = planned(*line)
    assert code == 0, err


@pytest.mark.parametrize(
    ("option", "fault", "said"),
    [("--emb", np.nan, "a sample of --emb: row"), ("--scores", -1.0, "a sample of --scores: row")],
)
def test_pilot_names_the_option_of_a_faulty_sample(option, fault, said, planned, temporary):
    name = f"{option[2:]}.npy"
    values = np.load(name)
    values[3] = fault
    np.save(name, values)
    code, out, err = planned(*LINES["select"], "--plan", "--pilot")
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {said}"), err
    assert str(temporary) not in err


def test_forecast_exponent_is_between_0_and_2():
    assert pilot._exponent(1.0, 2.0, 100, 200) == pytest.approx(1)
    assert pilot._exponent(1.0, 4.0, 100, 200) == pytest.approx(2)
    assert pilot._exponent(1.0, 9.0, 100, 200) == 2
    assert pilot._exponent(2.0, 1.0, 100, 200) == 0
    assert pilot._exponent(0.0, 1.0, 100, 200) == 1
    assert pilot._exponent(1.0, 2.0, 100, 100) == 1


def test_forecast_far_beyond_the_sample_prints_a_notice():
    rows = 1000 * plans.FAR
    assert plans.Forecast({"graph": 1.0}, rows, (500, 1000), 2).notices() == []
    (notice,) = plans.Forecast({"graph": 1.0}, 2 * rows, (500, 1000), 2).notices()
    assert "extrapolated from 1/16 of the rows" in notice


# -- predicted and measured: outputs ---------------------------------------------------------------
N = 20_000


def ring(n, k):
    """A graph in which row i lists the k rows after it."""
    neighbors = np.sort((np.arange(n)[:, None] + np.arange(1, k + 1)) % n, axis=1)
    return KnnGraph(neighbors.astype(np.int32), np.ones((n, k), np.float32))


@pytest.fixture
def large(run_cli):
    """Runs command lines; `N` rows with a graph, scores, labels and logits."""
    rng = np.random.default_rng(3)
    np.save("emb.npy", rng.standard_normal((N, 2)).astype(np.float32))
    np.save("scores.npy", rng.random(N))
    np.save("labels.npy", rng.integers(0, 3, N))
    np.save("z.npy", rng.standard_normal((2, N, 3)).astype(np.float32))
    np.save("kept.npy", np.arange(0, N, 20))
    ids = [rng.bytes(8).hex() for _ in range(N)]
    pq.write_table(pa.table({"id": ids, "score": rng.random(N)}), "with_ids.parquet")
    write_graph("g.arrow", ring(N, 4))
    return run_cli


ARRAYS = [[], ["--as", "mask"], ["--as", "id"]]
#: (ending, options, scores): all that select writes. Only scores of a table have ids.
SELECTIONS = [
    (ending, [*form, *rest], scores)
    for ending in ("npy", "txt", "csv", "parquet", "arrow")
    for form in (ARRAYS if ending in ("npy", "txt") else [[]])
    for rest in ([], ["--complement"])
    for scores in ("scores.npy", "with_ids.parquet")
    if "id" not in form or scores == "with_ids.parquet"
]


def check_written(run_cli, line, rel):
    """Compare the predicted bytes of outputs with their sizes on disk."""
    found = plan_of(run_cli, line)
    assert run_cli(*line, "-q")[0] == 0
    outputs = found["disk"]["outputs"]
    assert outputs
    for output in outputs:
        assert output["bytes"] == pytest.approx(os.path.getsize(output["path"]), rel=rel)
    paths = [output["path"] for output in outputs]
    sidecars = len(paths) * plans.SIDECAR_BYTES
    assert found["io"]["written_bytes"] == sum(output["bytes"] for output in outputs) + sidecars
    assert all(Path(f"{path}.json").exists() for path in paths)
    return found


#: How far the predicted size may be off. Compression depends on the values.
ACCURACY = {"npy": 0.02, "txt": 0.15, "csv": 0.15, "parquet": 0.3, "arrow": 0.05}
#: The same for ids in ``.npy``: headers of parquet give the mean length of ids approximately.
OF_IDS = 0.15


@pytest.mark.parametrize(("ending", "more", "scores"), SELECTIONS)
def test_size_of_a_selection_is_predicted(ending, more, scores, large):
    """The ids come with the scores; the graph has none."""
    given = ["--scores", scores, "--gamma-reverse", "1", "--ratio", "0.3"]
    line = ["select", *GRAPH, *given, *more, "--out", f"o.{ending}"]
    found = check_written(large, line, OF_IDS if "id" in more else ACCURACY[ending])
    assert found["disk"]["outputs"][0]["path"] == f"o.{ending}"


@pytest.mark.parametrize("ending", ["csv", "parquet", "arrow", "npy"])
def test_size_of_scores_is_predicted(ending, large):
    """Of kinds that differ from row to row: repeated values take less than is predicted."""
    kinds = ["el2n", "aum", "margin"]
    line = ["score", *(word for kind in kinds for word in ("--kind", kind)), *LOGITS[-4:]]
    out = "{kind}.npy" if ending == "npy" else f"o.{ending}"
    found = check_written(large, [*line, "--out", out], ACCURACY[ending])
    paths = [output["path"] for output in found["disk"]["outputs"]]
    assert paths == ([f"{kind}.npy" for kind in kinds] if ending == "npy" else [out])


@compiled
@pytest.mark.parametrize("emb", [EMB, ["--emb", "e.parquet"]], ids=" ".join)
def test_size_of_a_graph_is_predicted(emb, large):
    ids = pq.read_table("with_ids.parquet")["id"]
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.load("emb.npy").ravel()), 2)
    pq.write_table(pa.table({"id": ids, "emb": rows}), "e.parquet")
    line = ["graph", *emb, "-k", "3", "--checkpoint", "off", "--out", "o.arrow"]
    check_written(large, line, ACCURACY["arrow"])


def test_size_of_propagated_scores_is_predicted(large):
    line = ["propagate", *GRAPH, "--scores", "scores.npy", "--out", "o.npy"]
    found = check_written(large, line, ACCURACY["npy"])
    assert found["disk"]["outputs"][0]["bytes"] == os.path.getsize("o.npy")


@pytest.mark.parametrize(
    "line",
    [
        ["report", *DATA, "--selected", "kept.npy", "--map", "pca", "--out", "r.html"],
        ["report", *DATA, *["--selected", "kept.npy"] * 3, "--map", "none", "--out", "r.html"],
        pytest.param(
            ["compare", *DATA, "--methods", "d2,random", "--ratio", "0.1", "--out", "c.html"],
            marks=compiled,
        ),
    ],
    ids=lambda line: line[0],
)
def test_size_of_a_page_is_predicted(line, large):
    check_written(large, [*line, "--measured-rows", "200"], 0.4)


# -- predicted and measured: memory ----------------------------------------------------------------
def rows_of(n, d):
    return np.random.default_rng(n).standard_normal((n, d)).astype(np.float32)


def exact_from_npy():
    np.save("e.npy", rows_of(2500, 6000))
    return ["graph", "--emb", "e.npy", "--method", "exact", "--out", "o.arrow"]


def blocks_from_parquet():
    rows = rows_of(30_000, 192)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    ids = [f"image {i}" for i in range(len(rows))]
    pq.write_table(pa.table({"id": ids, "embedding": lists}), "e.parquet")
    return ["graph", "--emb", "e.parquet", "--recall", "0.5", "--out", "o.arrow"]


def selection_from_graph():
    write_graph("g.arrow", ring(500_000, 10))
    np.save("s.npy", np.random.default_rng(1).random(500_000))
    line = ["select", *GRAPH, "--scores", "s.npy", "--ratio", "0.3"]
    return [*line, "--gamma-reverse", "1"]


def selection_that_keeps_a_lift():
    return [*selection_from_graph()[:-2], "--keep-lift", "0.9"]


def selection_that_keeps_a_lift_of_negative_scores():
    """Messages run out: the rows below the mean are ranked by their scores."""
    line = selection_from_graph()[:-2]
    np.save("s.npy", np.random.default_rng(1).normal(size=500_000))
    return [*line, "--keep-lift", "0.9", "--higher-is", "better", "--hops", "0", "--ratio", "0.8"]


def propagated_on_graph():
    write_graph("g.arrow", ring(500_000, 10))
    np.save("s.npy", np.random.default_rng(1).random(500_000))
    return ["propagate", *GRAPH, "--scores", "s.npy", "--out", "p.npy"]


def scores_of_outputs():
    n = 400_000
    z = np.random.default_rng(0).random((3, n, 4), np.float32)
    np.save("z.npy", z.astype(np.float16))
    np.save("labels.npy", np.zeros(n, np.int64))
    return ["score", *LOGITS, "--out", "o.parquet"]


def page_of_a_selection():
    n = 100_000
    np.save("emb.npy", rows_of(n, 128))
    np.save("scores.npy", np.random.default_rng(1).random(n))
    np.save("kept.npy", np.arange(0, n, 2500))
    line = ["report", *DATA, "--selected", "kept.npy", "--measured-rows", "300", "--map", "pca"]
    return [*line, "--metric", "cosine", "--out", "r.html"]


def page_of_methods():
    np.save("emb.npy", rows_of(20_000, 1000))
    np.save("scores.npy", np.random.default_rng(1).random(20_000))
    methods = ["--methods", "d2,random,moderate", "--ratio", "0.1", "--metric", "cosine"]
    return [*("compare", *DATA, *methods, "--measured-rows", "300"), "--out", "c.html"]


@pytest.mark.parametrize(
    "case",
    [
        exact_from_npy, blocks_from_parquet, selection_from_graph, selection_that_keeps_a_lift,
        selection_that_keeps_a_lift_of_negative_scores, propagated_on_graph,
        scores_of_outputs, page_of_a_selection, page_of_methods,
    ],
)  # fmt: skip
def test_peak_memory_is_predicted_within_30_percent(case, run_cli, peak_of):
    line = [*case(), "--threads", "2", "--json", "-q"]
    predicted = plan_of(run_cli, line)["memory"]["peak_bytes"]
    assert predicted > ledger.BASE * 1.1  # more than the program by itself
    assert predicted == pytest.approx(peak_of(*line), rel=0.3)
