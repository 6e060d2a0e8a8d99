"""``propagate`` and ``select`` keep to a memory: the same bytes with edges and graphs in files."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from d2cli.commands.propagate import run as propagate_run
from d2cli.commands.select import run as select_run
from d2cli.files.graph_file import GraphFile, write_graph
from d2cli.files.output.work_files import WorkFiles
from d2cli.files.output.work_folder import LocalFolder
from d2cli.graph import lists
from d2cli.graph.knn_graph import BuildInfo, KnnGraph
from d2cli.messages import parts
from d2cli.messages import sizes as message_sizes
from d2cli.runtime import ledger
from d2cli.selection import bands
from d2cli.selection import sizes as selection_sizes
from tests.marks import compiled

N, K = 1000, 24


def random_graph(n, k, seed=0):
    """Random lists; distances of one length in four repeat, and some are 0."""
    rng = np.random.default_rng(seed)
    steps = np.array([rng.choice(np.arange(1, n), k, replace=False) for _ in range(64)])
    rows = np.arange(n)
    neighbors = ((rows[:, None] + steps[rows % 64]) % n).astype(np.int32)
    distances = np.sort(rng.integers(0, 40, (n, k)), axis=1).astype(np.float32) / 8
    order = np.lexsort((neighbors, distances), axis=1)
    neighbors = np.take_along_axis(neighbors, order, axis=1)
    return KnnGraph(neighbors, distances, None, BuildInfo("euclidean", "exact"))


@pytest.fixture
def small_parts(monkeypatch):
    """Parts, ranges and bands of few edges, in the run and in the plan."""
    for module in (parts, message_sizes):
        monkeypatch.setattr(module, "PART_EDGES", 3000)
    for module in (lists, message_sizes):
        monkeypatch.setattr(module, "RANGE_NUMBERS", 2000)
    for module in (bands, selection_sizes):
        monkeypatch.setattr(module, "BAND_EDGES", 500)


@pytest.fixture
def inputs(run_cli, small_parts):
    """Runs command lines; a graph with ids, scores with ids in another order, labels."""
    rng = np.random.default_rng(1)
    ids = [f"row {i:05}" for i in range(N)]
    write_graph("g.arrow", random_graph(N, K), pa.array(ids))
    order = rng.permutation(N)
    scores = rng.beta(0.5, 3, N)
    table = pa.table({"id": np.array(ids)[order].tolist(), "score": scores[order]})
    pq.write_table(table, "scores.parquet")
    np.save("scores.npy", scores)
    np.save("labels.npy", rng.integers(0, 3, N))
    np.savetxt("x.txt", [3, 7, 400], fmt="%d")
    Path("work").mkdir()
    line = ["propagate", "--graph", "g.arrow", "--scores", "scores.parquet", "--out", "p.npy"]
    assert run_cli(*line, "-q")[0] == 0
    return run_cli


GRAPH = ["--graph", "g.arrow"]
SCORES = ["--scores", "scores.parquet"]
PROPAGATE = ["propagate", *GRAPH, *SCORES, "--out", "o.npy"]
SELECT = ["select", *GRAPH, *SCORES]
LINES = {
    "propagate": PROPAGATE,
    "propagate --hops 3": [*PROPAGATE, "--hops", "3"],
    "propagate --edges mutual": [*PROPAGATE, "--edges", "mutual", "--kernel", "exponential"],
    "propagate --edges directed": [*PROPAGATE, "--edges", "directed", "--bandwidth", "2"],
    "select": [*SELECT, "--ratio", "0.3", "--out", "o.npy"],
    "select arrow": [*SELECT, "--size", "200", "--out", "o.arrow"],
    "select parquet": [*SELECT, "--size", "20", "--out", "o.parquet", "--order", "rank"],
    "select propagated": [
        *("select", *GRAPH, "--propagated", "p.npy", "--ratio", "0.4", "--out", "o.csv")
    ],
    "select budgets": [
        *(*SELECT, "--ratio", "0.1", "--ratio", "0.5", "--gamma-reverse", "1"),
        *("--out", "o_{ratio}.txt", "--as", "id"),
    ],
    "select rows": [
        *(*SELECT, "--size", "300", "--exclude", "x.txt", "--labels", "labels.npy"),
        *("--balance", "uniform", "--cutoff", "0.1", "--complement", "--out", "o.npy"),
    ],
}
every_line = pytest.mark.parametrize("name", LINES)


def plan_of(run_cli, line, *more):
    _, out, err = run_cli(*line, *more, "--plan", "--json")
    assert out, err
    return json.loads(out)


def needs_of(run_cli, line):
    """(bytes with everything in memory, bytes with files), besides the program."""
    whole, least = (
        plan_of(run_cli, line, "--max-memory", memory)["memory"]["peak_bytes"] - ledger.BASE
        for memory in ("64GiB", 1)
    )
    assert least < whole
    return whole, least


def outputs():
    """The bytes of the outputs, and the part of the sidecars that does not change each run."""
    found = {}
    for path in Path().glob("o*"):
        if path.suffix == ".json":
            content = json.loads(path.read_text())
            content.pop("run")
            found[path.name] = content
        else:
            found[path.name] = path.read_bytes()
        path.unlink()
    return found


@pytest.fixture
def spilled(monkeypatch):
    """The folders in which files were made."""
    folders = []

    class Spy(WorkFiles):
        def __init__(self, folder):
            folders.append(folder)
            super().__init__(folder)

    monkeypatch.setattr("d2cli.commands.budget.WorkFiles", Spy)
    return folders


# -- the same bytes --------------------------------------------------------------------------------
@every_line
def test_outputs_do_not_depend_on_the_memory(name, inputs, spilled):
    line = LINES[name]
    whole, least = needs_of(inputs, line)
    assert inputs(*line, "--max-memory", whole, "-q") == (0, "", "")
    expected = outputs()
    assert expected
    assert spilled == []
    for memory in (least, (least + whole) // 2, whole - 1):
        more = ["--max-memory", memory, "--work-dir", "work", "-q"]
        assert inputs(*line, *more) == (0, "", "")
        assert outputs() == expected
        assert spilled.pop() == LocalFolder(Path("work"))
        assert list(Path("work").iterdir()) == []


@pytest.mark.parametrize("name", ["propagate", "propagate --edges mutual", "select budgets"])
def test_outputs_do_not_depend_on_the_place_of_files(name, inputs, objects):
    line = LINES[name]
    _, least = needs_of(inputs, line)
    more = ["--max-memory", least, "--work-dir"]
    assert inputs(*line, *more, "work", "-q") == (0, "", "")
    expected, where = outputs(), "objects://bucket/work"
    code, _, err = inputs(*line, *more, where)
    assert (code, f" in {where}" in err) == (0, True)
    assert outputs() == expected
    assert os.listdir(objects) == []
    found = plan_of(inputs, line, *more, where)
    assert found["disk"]["work_dir"] == where


@every_line
def test_plan_states_files_memory_and_io(name, inputs):
    line = LINES[name]
    whole, least = needs_of(inputs, line)
    kept = plan_of(inputs, line, "--max-memory", whole)
    assert kept["disk"]["work_dir"] is None
    assert kept["disk"]["work_dir_bytes"] == 0
    memory = (least + whole) // 2
    found = plan_of(inputs, line, "--max-memory", memory, "--work-dir", "work")
    assert least <= found["memory"]["peak_bytes"] - ledger.BASE <= memory
    assert found["memory"]["budget_bytes"] == memory
    assert found["disk"]["work_dir"] == "work"
    spilled = found["disk"]["work_dir_bytes"]
    assert found["disk"]["temporary_bytes"] == kept["disk"]["temporary_bytes"] + spilled
    assert found["disk"]["written_bytes"] == kept["disk"]["written_bytes"]
    assert found["io"]["written_bytes"] >= kept["io"]["written_bytes"] + spilled
    assert found["io"]["read_bytes"] >= kept["io"]["read_bytes"] + spilled
    out = inputs(*line, "--max-memory", memory, "--work-dir", "work", "--plan")[1]
    assert "edges, at most " in next(x for x in out.splitlines() if x.startswith("files "))
    assert "at least" in next(x for x in out.splitlines() if x.startswith("io "))


@pytest.mark.parametrize("rule", ["union", "directed", "mutual"])
def test_files_take_no_more_than_the_plan_says(rule, inputs, monkeypatch):
    line = [*PROPAGATE, "--edges", rule]
    _, least = needs_of(inputs, line)
    most, written, put = [0], [0], WorkFiles.put

    def counted(files, *name, **arrays):
        put(files, *name, **arrays)
        written[0] += sum(array.nbytes for array in arrays.values())
        sizes = (path.stat().st_size for path in Path("work").rglob("*") if path.is_file())
        most[0] = max(most[0], sum(sizes))

    monkeypatch.setattr(WorkFiles, "put", counted)
    more = ["--max-memory", least, "--work-dir", "work"]
    found = plan_of(inputs, line, *more)
    assert inputs(*line, *more, "-q")[0] == 0
    assert 0.3 * found["disk"]["work_dir_bytes"] < most[0] <= found["disk"]["work_dir_bytes"]
    io = found["io"]["written_bytes"] - found["disk"]["written_bytes"]
    assert 0.3 * io < written[0] <= io


def test_notice_says_what_is_kept_in_files(inputs):
    _, least = needs_of(inputs, PROPAGATE)
    err = inputs(*PROPAGATE, "--max-memory", least, "--work-dir", "work")[2]
    (notice,) = [text for text in err.splitlines() if "kept in files" in text]
    assert notice.startswith("notice: kept in files, to keep to ")
    assert notice.endswith(" in work")


def test_without_a_folder_files_are_beside_the_output(inputs, spilled):
    Path("there").mkdir()
    line = [*PROPAGATE[:-1], "there/o.npy"]
    _, least = needs_of(inputs, line)
    assert inputs(*line, "--max-memory", least, "-q")[0] == 0
    assert spilled == [LocalFolder(Path("there"))]
    assert sorted(p.name for p in Path("there").iterdir()) == ["o.npy", "o.npy.json"]


def test_memory_that_is_available_is_kept_to(inputs, spilled, monkeypatch):
    """Without the option too: then the smallest need is no reason to refuse."""
    from d2cli.runtime.memory import Available

    some = Available(1 << 20, "of the machine")
    monkeypatch.setattr("d2cli.commands.budget.available_memory", lambda: some)
    assert inputs(*PROPAGATE, "-q")[0] == 0
    assert spilled == [LocalFolder(Path())]


# -- refusals --------------------------------------------------------------------------------------
@every_line
def test_too_little_for_files_is_refused_before_any_work(name, inputs, spilled):
    line = LINES[name]
    _, least = needs_of(inputs, line)
    before = set(os.listdir())
    code, out, err = inputs(*line, "--max-memory", least - 1)
    assert (code, out) == (1, "")
    assert "even with everything else in files; --max-memory is " in err
    assert err.startswith("error: this run needs at least ")
    assert set(os.listdir()) == before
    assert spilled == []


def test_raising_messages_keep_edges_in_memory(inputs):
    """Unclamped messages cannot use files."""
    line = [*SELECT, "--mode", "paper", "--gamma-reverse", "1", "--size", "9", "--out", "o.npy"]
    line += ["--max-memory", 1]
    found = plan_of(inputs, line)
    assert found["disk"]["work_dir"] is None
    assert "in files" not in inputs(*line)[2]


def test_work_folder_is_checked_if_files_are_needed(inputs, monkeypatch):
    whole, least = needs_of(inputs, PROPAGATE)
    access = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != Path() and access(p, mode))
    code, _, err = inputs(*PROPAGATE, "--max-memory", least)
    assert code == 1
    assert err.startswith("error: .: the folder for files that do not fit in memory cannot be")
    assert "hint: name another with --work-dir" in err
    found = plan_of(inputs, PROPAGATE, "--max-memory", whole)  # no files: no matter
    assert found["disk"]["work_dir"] is None
    assert inputs(*PROPAGATE, "--max-memory", whole, "--plan", "-q")[0] == 0


def test_compressed_graph_is_read_as_a_whole(inputs, spilled):
    with pa.memory_map("g.arrow") as source:
        table = pa.ipc.open_file(source).read_all()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with (
        pa.OSFile("c.arrow", "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as writer,
    ):
        writer.write_table(table)
    line = ["propagate", "--graph", "c.arrow", *SCORES, "--out", "o.npy"]
    _, least = needs_of(inputs, line)
    code, _, err = inputs(*line, "--max-memory", least, "--work-dir", "work")
    assert code == 0
    assert "c.arrow: is read as a whole" in err
    assert np.load("o.npy").tobytes() == np.load("p.npy").tobytes()
    assert spilled == [LocalFolder(Path("work"))]


def test_damaged_graph_is_refused_alike(inputs):
    graph = random_graph(N, K)
    graph.neighbors[700, 3] = 700
    write_graph("bad.arrow", graph)
    line = ["propagate", "--graph", "bad.arrow", "--scores", "scores.npy", "--out", "o.npy"]
    whole, least = needs_of(inputs, line)
    refused = [inputs(*line, "--max-memory", memory, "-q") for memory in (whole, least)]
    assert refused[0] == refused[1]
    assert "bad.arrow: row 700: lists itself as a neighbour" in refused[0][2]


# -- the end of a run ------------------------------------------------------------------------------
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, MemoryError])
@pytest.mark.parametrize(
    ("module", "function", "line"),
    [
        (propagate_run, "pass_forward", PROPAGATE),
        (propagate_run, "message_notices", PROPAGATE),
        (select_run, "pass_forward", LINES["select"]),
        (select_run, "select", LINES["select"]),
        (parts, "fill_part", LINES["select"]),
    ],
)
def test_no_file_stays_after_an_error(module, function, line, error, inputs, monkeypatch):
    _, least = needs_of(inputs, line)
    before = set(os.listdir())
    seen = []

    def fail(*_, **__):
        seen.append(len(list(Path("work").iterdir())))
        raise error

    monkeypatch.setattr(module, function, fail)
    code = inputs(*line, "--max-memory", least, "--work-dir", "work")[0]
    assert code == (130 if error is KeyboardInterrupt else 1)
    assert seen[0] >= 2  # the lock and files of edges
    assert list(Path("work").iterdir()) == []
    assert set(os.listdir()) == before


def test_full_disk_is_one_line(inputs, monkeypatch):
    _, least = needs_of(inputs, PROPAGATE)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalFolder, "write", full)
    code, _, err = inputs(*PROPAGATE, "--max-memory", least, "--work-dir", "work", "-q")
    assert code == 1
    error, hint = err.splitlines()
    assert error.startswith("error: ")
    assert "/work/.d2prune-" in error
    assert error.endswith("cannot be written (No space left on device)")
    assert hint == "hint: --work-dir names another folder for what does not fit in memory"
    assert list(Path("work").iterdir()) == []


def test_ranges_are_read_only_if_memory_is_short(inputs, monkeypatch):
    def loaded(_):
        raise AssertionError("the graph is loaded")

    whole, least = needs_of(inputs, PROPAGATE)
    monkeypatch.setattr(GraphFile, "load", loaded)
    assert inputs(*PROPAGATE, "--max-memory", least, "-q")[0] == 0
    assert "the graph is loaded" in inputs(*PROPAGATE, "--max-memory", whole)[2]


# -- peaks -----------------------------------------------------------------------------------------
ROWS = 1_000_000


@compiled
@pytest.mark.parametrize("command", ["propagate", "select"])
def test_a_million_rows_keep_to_the_memory(command, run_cli, peak_of):
    """Everything in memory takes 260 MiB and more."""
    write_graph("g.arrow", random_graph(ROWS, 10))
    np.save("s.npy", np.random.default_rng(1).beta(0.5, 3, ROWS))
    line = [command, *GRAPH, "--scores", "s.npy", "--out", "o.npy", "--threads", "2"]
    line += ["--ratio", "0.3"] if command == "select" else []
    whole, least = needs_of(run_cli, line)
    assert least < 0.75 * whole
    digests = set()
    for memory in (least, (least + whole) // 2, whole):
        peak = peak_of(*line, "--max-memory", memory, "--json", "-q")
        assert peak < memory + 300 * ledger.MIB  # program, libraries and the allocator's reserve
        if memory < whole:
            assert peak < memory + ledger.BASE + 8 * ledger.MIB
        digests.add(Path("o.npy").read_bytes())
    assert len(digests) == 1
