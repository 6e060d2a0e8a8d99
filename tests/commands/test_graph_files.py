"""``graph`` and ``select`` build graphs in a bounded memory: the same bytes with parts in files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.commands.budget import Spill
from d2cli.commands.graph import plan as graph_plan
from d2cli.commands.graph import run as graph_run
from d2cli.commands.select import plan as select_plan
from d2cli.files.output.checkpoint import FileCheckpoint
from d2cli.files.output.part_files import PartFiles
from d2cli.files.output.work_folder import LocalFolder
from d2cli.graph.blocks import plan, rank, ranked
from tests.marks import compiled

N = 3000
BLOCKS = ["--method", "blocks", "-k", "5"]


def embeddings():
    """Clusters, exact copies, and rows far tighter than the others."""
    rng = np.random.default_rng(3)
    middles = rng.normal(size=(N // 40, 16))
    rows = middles[rng.integers(0, len(middles), N)] + 0.2 * rng.normal(size=(N, 16))
    rows[100:400] = rows[7] + 1e-4 * rng.normal(size=(300, 16))
    rows[500:530] = rows[3]
    return rows.astype(np.float32)


@pytest.fixture
def inputs(run_cli):
    rows = embeddings()
    np.save("emb.npy", rows)
    np.save("half.npy", rows.astype(np.float16))
    np.save("double.npy", rows.astype(np.float64))
    np.save("fortran.npy", np.asfortranarray(rows))
    Path("shards").mkdir()
    for at, part in enumerate(np.array_split(rows, 3)):
        np.save(f"shards/{at}.npy", part)
    table = {"id": [f"r{i}" for i in range(N)], "embedding": list(rows), "score": rows[:, 0] ** 2}
    pq.write_table(pa.table(table), "emb.parquet", row_group_size=700)
    np.save("scores.npy", rows[:, 0] ** 2)
    np.save("labels.npy", np.arange(N) % 2)
    np.savetxt("x.txt", [3, 7, 400], fmt="%d")
    Path("work").mkdir()
    return run_cli


@pytest.fixture
def in_files(monkeypatch):
    """From now on, searches keep their parts in files, a few groups of rows in memory."""
    real = graph_plan.arrange_build

    def call(room=200_000):
        def arranged(*arguments):
            return real(*arguments)[0], Spill("the search", 1, 1, 1, room=room)

        for module in (graph_plan, select_plan):
            monkeypatch.setattr(module, "arrange_build", arranged)
        monkeypatch.setattr(plan, "CELL_ROWS", 128)
        for module in (rank, ranked):
            monkeypatch.setattr(module, "PART_ROWS", 512)
        monkeypatch.setattr(rank, "PASSING_NUMBERS", 1)

    monkeypatch.setattr(plan, "CELL_ROWS", 128)
    return call


GRAPH = ["graph", *BLOCKS]
LINES = {
    "one file": [*GRAPH, "--emb", "emb.npy"],
    "cosine": [*GRAPH, "--emb", "emb.npy", "--metric", "cosine"],
    "float16": [*GRAPH, "--emb", "half.npy"],
    "float16 cosine": [*GRAPH, "--emb", "half.npy", "--metric", "cosine"],
    "float64": [*GRAPH, "--emb", "double.npy"],
    "columns first": [*GRAPH, "--emb", "fortran.npy"],
    "shards": [*GRAPH, "--emb", "shards"],
    "table with ids": [*GRAPH, "--emb", "emb.parquet"],
    "labels": [*GRAPH, "--emb", "emb.npy", "--within", "labels.npy"],
    "excluded": [*GRAPH, "--emb", "emb.npy", "--exclude", "x.txt"],
    "exact": ["graph", "--method", "exact", "-k", "5", "--emb", "emb.npy"],
    "select": ["select", *BLOCKS, "--emb", "emb.npy", "--scores", "scores.npy", "--size", "99"],
}


def outputs(run_cli, line, name, work="work"):
    """Run a line; the bytes of its output, without what differs between runs."""
    out = name if line[0] == "graph" else f"{name}.npy"
    code, _, err = run_cli(*line, "--out", out, "--work-dir", work, "-q")
    assert code == 0, err
    return Path(out).read_bytes()


@compiled
@pytest.mark.parametrize("case", LINES)
def test_bytes_do_not_depend_on_where_parts_are(inputs, in_files, case, monkeypatch):
    wanted = outputs(inputs, LINES[case], "a.arrow")
    written, put = [], PartFiles.put
    monkeypatch.setattr(
        PartFiles, "put", lambda self, *a, **arrays: written.append(a) or put(self, *a, **arrays)
    )
    for room in (1, 200_000):
        in_files(room)
        written.clear()
        assert outputs(inputs, LINES[case], "b.arrow") == wanted
        assert bool(written) == (case != "exact")
        assert os.listdir("work") == []


@compiled
@pytest.mark.parametrize("case", ["columns first", "table with ids", "labels", "select"])
def test_bytes_do_not_depend_on_the_place_of_parts(inputs, in_files, objects, case):
    wanted = outputs(inputs, LINES[case], "a.arrow")
    in_files()
    assert outputs(inputs, LINES[case], "b.arrow", "objects://bucket/work") == wanted
    assert os.listdir(objects) == []


@compiled
def test_a_stopped_run_is_continued_from_an_address(inputs, in_files, objects, monkeypatch):
    wanted = outputs(inputs, LINES["one file"], "g.arrow")
    in_files()
    put, left = PartFiles.put, 40

    def stops(self, *arguments, **arrays):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        put(self, *arguments, **arrays)

    monkeypatch.setattr(PartFiles, "put", stops)
    line = [*LINES["one file"], "--out", "h.arrow", "--work-dir", "objects://bucket/work"]
    code, _, err = inputs(*line)
    assert code == 130
    assert "finished work is kept in objects://bucket/work/.d2prune-" in err
    assert len(os.listdir(objects)) > 9
    code, _, err = inputs(*line)
    assert (code, "resumed from" in err) == (0, True)
    assert Path("h.arrow").read_bytes() == wanted
    assert os.listdir(objects) == []


@pytest.mark.parametrize("case", ["graph", "excluded", "select"])
def test_few_rows(run_cli, in_files, monkeypatch, case):
    """Several groups even so; one row is listed twice and one left out."""
    rows = embeddings()[:260]
    rows[200] = rows[7]
    np.save("emb.npy", rows)
    np.save("scores.npy", rows[:, 0] ** 2)
    np.savetxt("x.txt", [3], fmt="%d")
    Path("work").mkdir()
    line = {
        "graph": [*GRAPH, "--emb", "emb.npy"],
        "excluded": [*GRAPH, "--emb", "emb.npy", "--exclude", "x.txt"],
        "select": ["select", *BLOCKS, "--emb", "emb.npy", "--scores", "scores.npy", "--size", "9"],
    }[case]
    monkeypatch.setattr(plan, "CELL_ROWS", 32)
    wanted = outputs(run_cli, line, "a.arrow")
    in_files(1)
    monkeypatch.setattr(plan, "CELL_ROWS", 32)
    assert outputs(run_cli, line, "b.arrow") == wanted
    assert os.listdir("work") == []


@compiled
def test_errors_name_the_row_and_leave_nothing(inputs, in_files):
    rows = embeddings()
    rows[1234, 3] = np.nan
    np.save("bad.npy", rows)
    in_files()
    line = [*GRAPH, "--emb", "bad.npy", "--work-dir", "work", "--out", "g.arrow"]
    code, _, err = inputs(*line)
    assert code == 1
    assert "row 1234" in err
    assert not Path("g.arrow").exists()
    assert os.listdir("work") == []


@compiled
def test_a_full_disk_leaves_the_old_output_and_can_be_continued(inputs, in_files, monkeypatch):
    wanted = outputs(inputs, LINES["one file"], "g.arrow")
    in_files()
    real, left = os.replace, 60

    def fills(source, target):
        nonlocal left
        left -= "parts" in str(target)
        if left == 0:
            raise OSError(28, os.strerror(28))
        real(source, target)

    monkeypatch.setattr(os, "replace", fills)
    line = [*GRAPH, "--emb", "emb.npy", "--work-dir", "work", "--out", "g.arrow"]
    code, _, err = inputs(*line)
    assert code == 1
    assert "No space left" in err
    assert "--work-dir" in err
    assert Path("g.arrow").read_bytes() == wanted
    (kept,) = os.listdir("work")
    assert f"finished work is kept in work/{kept}" in err
    left = 10**9
    code, _, err = inputs(*line)
    assert code == 0
    assert "resumed from" in err
    assert Path("g.arrow").read_bytes() == wanted
    assert os.listdir("work") == []


@compiled
def test_a_disk_that_is_full_while_rows_are_copied_is_one_line(inputs, in_files, monkeypatch):
    in_files()

    def full(*_, **__):
        raise OSError("40 requested and 12 written")

    monkeypatch.setattr(LocalFolder, "write", full)
    line = [*LINES["table with ids"], "--work-dir", "work", "--out", "g.arrow"]
    code, _, err = inputs(*line, "-q")
    assert (code, len(err.splitlines())) == (1, 2)
    assert err.startswith("error: work: cannot be read or written (40 requested and 12 written")
    assert os.listdir("work") == []


@compiled
def test_without_checkpoints_nothing_is_left(inputs, in_files, monkeypatch):
    in_files()
    real, left = PartFiles.put, 40

    def stops(self, *arguments, **arrays):
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        real(self, *arguments, **arrays)

    monkeypatch.setattr(PartFiles, "put", stops)
    line = [*GRAPH, "--emb", "emb.npy", "--work-dir", "work", "--out", "g.arrow"]
    code, _, _ = inputs(*line, "--checkpoint", "off")
    assert code == 130
    assert os.listdir("work") == []


@compiled
@pytest.mark.parametrize("seconds", [0, 1000])
@pytest.mark.parametrize("case", ["labels", "excluded"])
def test_finished_groups_of_a_stopped_run_are_not_searched_again(
    inputs, in_files, case, seconds, monkeypatch
):
    """Whether their lists were saved together, or their parts are still there."""
    wanted = outputs(inputs, LINES[case], "g.arrow")
    in_files()
    written, put = [], PartFiles.put
    monkeypatch.setattr(
        PartFiles, "put", lambda self, *a, **arrays: written.append(a) or put(self, *a, **arrays)
    )
    line = [*LINES[case], "--work-dir", "work", "--out", "h.arrow", "--checkpoint", seconds]

    def stops(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_run, "store_graph", stops)
        code, _, err = inputs(*line)
    assert (code, bool(written)) == (130, True)
    assert "no checkpoint can be written" not in err
    written.clear()
    code, _, err = inputs(*line)
    assert (code, written) == (0, [])
    assert "resumed from" in err
    assert Path("h.arrow").read_bytes() == wanted
    assert os.listdir("work") == []


@compiled
@pytest.mark.parametrize("case", ["one file", "labels"])
def test_a_run_with_files_follows_a_killed_one_without(inputs, in_files, case, monkeypatch):
    """The state of the killed run may be larger than the memory of the other, and is not read."""
    wanted = outputs(inputs, LINES[case], "g.arrow")
    line = [*LINES[case], "--out", "h.arrow", "--checkpoint", 0]
    real, states = FileCheckpoint.save, []  # of the last group

    def stops(self, stage, state, part=0):
        real(self, stage, state, part)
        if stage == "blocks" and part == (case == "labels"):
            states.append(stage)
            if len(states) == 2:
                raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileCheckpoint, "save", stops)
        assert inputs(*line)[0] == 130
    in_files()
    loaded, load = [], FileCheckpoint.load
    monkeypatch.setattr(
        FileCheckpoint, "load", lambda self, *a: loaded.append(a[0]) or load(self, *a)
    )
    code, _, err = inputs(*line)
    assert code == 0, err
    assert "blocks" not in loaded
    assert Path("h.arrow").read_bytes() == wanted
    assert [name for name in os.listdir() if name.startswith(".d2prune")] == []


@compiled
def test_two_runs_of_the_same_build_do_not_share_parts(inputs, in_files):
    """The second one has a folder of its own, and both end."""
    in_files()
    wanted = outputs(inputs, LINES["one file"], "a.arrow")
    line = [*GRAPH, "--emb", "emb.npy", "--work-dir", "work", "--out", "g.arrow"]
    real, inner = FileCheckpoint.store, []

    def store(self):
        found = real(self)
        if not inner:
            inner.append(True)
            assert inputs(*line)[0] == 0
            assert Path("g.arrow").read_bytes() == wanted
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FileCheckpoint, "store", store)
        assert inputs(*line)[0] == 0
    assert Path("g.arrow").read_bytes() == wanted
    assert os.listdir("work") == []


KILLED = """
import sys
from d2cli.commands.budget import Spill
from d2cli.commands.graph import plan as graph_plan
from d2cli.graph.blocks import plan
from d2cli.cli.main import run
real = graph_plan.arrange_build
graph_plan.arrange_build = lambda *a: (real(*a)[0], Spill("the search", 1, 1, 1, room=200_000))
plan.CELL_ROWS = 128
sys.exit(run(sys.argv[1:]))
"""


@compiled
def test_a_run_killed_at_any_moment_is_continued(inputs, in_files):
    wanted = outputs(inputs, LINES["one file"], "g.arrow")
    line = [*GRAPH, "--emb", "emb.npy", "--work-dir", "work", "--out", "h.arrow", "--threads", "2"]
    rng, kills, resumed = np.random.default_rng(0), 0, False
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, *line], stderr=subprocess.PIPE, text=True
        )
        try:
            _, err = process.communicate(timeout=float(rng.uniform(1.0, 3.0)) + 0.5 * kills)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        resumed |= "resumed from" in err
        assert process.returncode == 0, err
        break
    assert Path("h.arrow").read_bytes() == wanted
    assert os.listdir("work") == []
    assert kills or not resumed
