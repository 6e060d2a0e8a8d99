"""Outputs whose inputs have changed since are refused; all others are accepted."""

import importlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from d2cli.files.provenance import fingerprint as module

PICK = ["--graph", "g.arrow", "--propagated", "p.npy", "--size", 9]
STALE = "error: {}, which has changed since\n"


@pytest.fixture
def staged(data, run_cli):
    """A graph and scores propagated on it."""
    Path("out.txt").write_text("3\n")
    args = ["--emb", "emb.npy", "-k", 4, "--out", "g.arrow", "--exclude", "out.txt"]
    assert run_cli("graph", *args)[0] == 0
    args = ["--graph", "g.arrow", "--scores", "scores.npy", "--out", "p.npy"]
    assert run_cli("propagate", *args)[0] == 0


def change(path):
    """Change one value, and keep the time of change."""
    times = os.stat(path)
    content = bytearray(Path(path).read_bytes())
    content[-2] ^= 1
    Path(path).write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("path", ["emb.npy", "out.txt"])
def test_graph_of_changed_inputs_is_refused(staged, run_cli, select, path):
    change(path)
    pass_on = ["propagate", "--graph", "g.arrow", "--scores", "scores.npy", "--out", "p2.npy"]
    for call, args in ((run_cli, pass_on), (select, PICK)):
        code, _, err = call(*args)
        assert code == 1
        assert err.startswith(STALE.format(f"g.arrow: was built from {path}"))
        assert "hint: build the graph again: d2prune graph --emb EMB --out g.arrow; " in err
        code, _, err = call(*args, "--allow-stale")
        assert code == 0
        assert f"notice: g.arrow: was built from {path}, which has changed since\n" in err


def test_propagated_file_of_changed_scores_is_refused(staged, select):
    change("scores.npy")
    code, _, err = select(*PICK)
    assert code == 1
    assert err.startswith(STALE.format("p.npy: was propagated from scores.npy"))
    assert "d2prune propagate --graph g.arrow" in err
    assert not Path("selected.npy").exists()
    assert select(*PICK, "--allow-stale")[0] == 0


def test_missing_inputs_are_ignored(staged, select):
    os.mkdir("archive")
    for name in ("emb.npy", "scores.npy"):
        shutil.move(name, "archive")
    assert select(*PICK)[0] == 0


def test_paths_are_relative_to_the_folder_of_the_run(staged, select, data):
    """Relative paths are resolved in the folder of the recorded run."""
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    np.save("emb.npy", data.emb + 1)
    np.save("scores.npy", data.scores + 1)
    assert select("--graph", "../g.arrow", "--propagated", "../p.npy", "--size", 9)[0] == 0
    change("../emb.npy")
    assert select("--graph", "../g.arrow", "--propagated", "../p.npy", "--size", 9)[0] == 1


def test_touched_or_copied_inputs_are_accepted(staged, select):
    for name in ("emb.npy", "scores.npy"):
        os.utime(name)
        shutil.copy(name, "copy")
        os.replace("copy", name)
    code, _, err = select(*PICK)
    assert code == 0
    assert "changed" not in err


def test_a_changed_date_of_a_sampled_file_prints_a_notice(data, run_cli, select, monkeypatch):
    monkeypatch.setattr(module, "WHOLE_UP_TO", 256)
    monkeypatch.setattr(module, "_PIECE", 128)  # reads the first and the last 128 of 768 bytes
    assert run_cli("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.arrow")[0] == 0
    args = ["--graph", "g.arrow", "--scores", "scores.npy", "--size", 9]
    assert "changed" not in select(*args)[2]
    data.emb[17, 1] += 1
    np.save("emb.npy", data.emb)
    code, _, err = select(*args)
    assert code == 0
    said = "notice: g.arrow: was built from emb.npy, whose date has changed since; size and"
    assert said in err
    data.emb[39, 3] += 1
    np.save("emb.npy", data.emb)
    assert select(*args)[0] == 1


def test_one_missing_file_of_several_is_a_change(data, run_cli, select):
    os.mkdir("shards")
    for i, rows in enumerate(np.split(np.arange(40), [15])):
        np.save(f"shards/{i}.npy", data.emb[rows])
    assert run_cli("graph", "--emb", "shards", "-k", 4, "--out", "g.arrow")[0] == 0
    args = ["--graph", "g.arrow", "--scores", "scores.npy", "--size", 9]
    assert select(*args)[0] == 0
    os.unlink("shards/1.npy")
    assert select(*args)[2].startswith(STALE.format("g.arrow: was built from shards/0.npy"))
    shutil.rmtree("shards")
    assert select(*args)[0] == 0


@pytest.mark.parametrize("text", ["{}", "[]", '{"run": 3}', None])
def test_without_a_sidecar_nothing_is_checked(staged, select, text):
    """Without the section `run` the folder of the inputs is not known."""
    if text is None:
        os.unlink("g.arrow.json")
    else:
        Path("g.arrow.json").write_text(text)
    change("emb.npy")
    assert select(*PICK)[0] == 0


@pytest.mark.parametrize("path", [3, [3], "\0", "", ["fifo"]])
def test_invalid_recorded_paths_are_ignored(staged, select, path):
    os.mkfifo("fifo")
    entry = json.loads(Path("p.npy.json").read_text())
    entry["inputs"]["scores"]["path"] = path
    Path("p.npy.json").write_text(json.dumps(entry))
    assert select(*PICK)[0] == 0


@pytest.mark.parametrize("run", [3, {}, {"folder": "."}, {"folder": ".", "modified_ns": {}}])
def test_incomplete_section_run(staged, select, run):
    entry = json.loads(Path("p.npy.json").read_text())
    Path("p.npy.json").write_text(json.dumps({**entry, "run": run}))
    assert select(*PICK)[0] == 0
    change("scores.npy")
    assert select(*PICK)[0] == (1 if run and run != 3 else 0)


# -- inputs that change during the run -------------------------------------------------------------
GRAPH = ["--graph", "g.arrow"]
DATA = ["--emb", "emb.npy", "--scores", "scores.npy"]
#: By command: the line, its output, the function after which the input changes, the input, and a
#: later step with what it says of the change.
MEANWHILE = {
    "graph": (
        ["graph", "--emb", "emb.npy", "--out", "h.arrow"], "h.arrow", "graph.run.graph_of", "emb",
        ["propagate", "--graph", "h.arrow", "--scores", "scores.npy", "--out", "q.npy"],
        "error: h.arrow: was built from emb.npy, which has changed since",
    ),
    "propagate": (
        ["propagate", *GRAPH, "--scores", "scores.npy", "--out", "q.npy"], "q.npy",
        "propagate.run.prepare_edges", "scores",
        ["select", *GRAPH, "--propagated", "q.npy", "--size", 9],
        "error: q.npy: was propagated from scores.npy, which has changed since",
    ),
    "select": (
        ["select", *DATA, "--size", 9], "selected.npy", "select.run.select", "emb",
        ["report", *DATA, "--selected", "selected.npy", "--map", "none", "--out", "r.html"],
        "error: selected.npy: was selected from other embeddings than emb.npy",
    ),
    "select --graph": (
        ["select", *GRAPH, "--scores", "scores.npy", "--size", 9], "selected.npy",
        "select.run.select", "scores",
        ["report", *DATA, "--selected", "selected.npy", "--map", "none", "--out", "r.html"],
        "notice: selected.npy: was selected by other scores than --scores",
    ),
    "score": (
        ["score", "--kind", "prototypicality", "--emb", "emb.npy", "--out", "o.npy"], "o.npy",
        "score.run.compute", "emb", None, "",
    ),
    "report": (
        ["report", *DATA, "--selected", "kept.npy", "--map", "none", "--out", "r.html"], "r.html",
        "report.run.measure", "scores", None, "",
    ),
    "compare": (
        ["compare", *DATA, "--methods", "random", "--size", 9, "--out", "c.html"], "c.html",
        "compare.run.graph_of", "scores", None, "",
    ),
}  # fmt: skip


def change_after(monkeypatch, function, path, changed):
    """Call ``changed(path)`` when `function` of a command has returned for the first time."""
    module, _, name = f"d2cli.commands.{function}".rpartition(".")
    step = importlib.import_module(module)
    real, calls = getattr(step, name), []

    def meanwhile(*args, **options):
        result = real(*args, **options)
        if not calls:
            changed(path)
        calls.append(name)
        return result

    monkeypatch.setattr(step, name, meanwhile)
    return calls


@pytest.mark.parametrize("command", MEANWHILE)
def test_input_changed_during_the_run_prints_a_notice(staged, run_cli, monkeypatch, command):
    np.save("kept.npy", np.arange(5))
    line, out, function, name, later, said = MEANWHILE[command]
    path = f"{name}.npy"
    before = module.fingerprint([Path(path)])
    with monkeypatch.context() as patch:
        calls = change_after(patch, function, path, change)
        code, _, err = run_cli(*line)
    assert code == 0, err
    assert calls
    assert module.fingerprint([Path(path)]) != before
    assert f"notice: {path}: was changed while it was used; make the output again\n" in err
    recorded = json.loads(Path(f"{out}.json").read_text())["inputs"][name]
    assert recorded["fingerprint"] == before
    if later:
        code, _, err = run_cli(*later)
        assert code == (1 if said.startswith("error") else 0)
        assert f"{said}\n" in err


@pytest.mark.parametrize("command", MEANWHILE)
def test_unchanged_inputs_print_no_notice(staged, run_cli, command):
    np.save("kept.npy", np.arange(5))
    code, _, err = run_cli(*MEANWHILE[command][0])
    assert (code, "changed" in err) == (0, False), err


@pytest.mark.parametrize("command", MEANWHILE)
def test_sampled_input_changed_during_the_run_prints_a_notice(
    staged, run_cli, monkeypatch, command
):
    """The change is between the pieces that the fingerprint reads: only the time tells."""
    np.save("kept.npy", np.arange(5))
    line, _, function, name, _, _ = MEANWHILE[command]
    path = f"{name}.npy"
    later = os.stat(path).st_mtime_ns + 10**9

    def change_the_middle(path):
        content = bytearray(Path(path).read_bytes())
        content[len(content) // 2] ^= 1
        Path(path).write_bytes(content)
        os.utime(path, ns=(later, later))

    monkeypatch.setattr(module, "WHOLE_UP_TO", 256)
    monkeypatch.setattr(module, "_PIECE", 128)  # the first and the last 128 bytes are read
    before = module.fingerprint([Path(path)])
    change_after(monkeypatch, function, path, change_the_middle)
    code, _, err = run_cli(*line)
    assert code == 0, err
    assert module.fingerprint([Path(path)]) == before
    assert f"notice: {path}: was changed while it was used; make the output again\n" in err


#: By command: the line, the function that is called while inputs are opened, and the input.
OPENED = {
    "select --propagated": (
        ["select", *GRAPH, "--propagated", "p.npy", "--size", 9],
        "select.inputs._propagated_from", "p.npy",
    ),
    "select --scores": (
        ["select", *DATA, "--size", 9], "select.inputs.settle_direction", "scores.npy",
    ),
    "propagate": (
        ["propagate", *GRAPH, "--scores", "scores.npy", "--out", "q.npy"],
        "propagate.inputs.settle_direction", "scores.npy",
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", OPENED)
def test_input_changed_after_its_provenance_was_read_is_refused(
    staged, run_cli, monkeypatch, command
):
    line, function, path = OPENED[command]
    before = sorted(os.listdir())
    calls = change_after(monkeypatch, function, path, change)
    code, _, err = run_cli(*line)
    assert (code, err) == (1, f"error: {path}: was changed while it was opened\nhint: run again\n")
    assert calls
    assert sorted(os.listdir()) == before


def test_labels_changed_while_a_graph_reads_its_inputs_are_noticed(data, run_cli, monkeypatch):
    change_after(monkeypatch, "graph.run.read_graph_data", "labels.npy", change)
    line = ["graph", "--emb", "emb.npy", "--within", "labels.npy", "--out", "g.arrow"]
    code, _, err = run_cli(*line)
    assert code == 0
    assert "notice: labels.npy: was changed while it was used; make the output again\n" in err


def test_fingerprint_reads_little_of_many_files(tmp_path):
    assert module._most_pieces(1) == module._most_pieces(8) == 128
    assert module._most_pieces(64) == 16
    assert module._most_pieces(10_000) == 2
    paths = [tmp_path / str(i) for i in range(40)]
    for path in paths:
        path.write_bytes(bytes(4 << 20))
    first = module.fingerprint(paths)
    assert module.is_sampled(paths)
    assert not module.is_sampled(paths[:8])
    with paths[7].open("r+b") as file:
        file.seek((4 << 20) - 1)
        file.write(b"1")
    assert module.fingerprint(paths) != first
