"""The memory that a run keeps to, and its folder for files."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.commands import budget
from d2cli.commands.budget import SHARE, Room, Spill, arranged, work_files
from d2cli.commands.requests import RunOptions
from d2cli.engine.tasks import Engine
from d2cli.errors import OutputError
from d2cli.files.output.work_folder import LocalFolder
from d2cli.runtime.ledger import BASE, RAY, Estimate
from d2cli.runtime.memory import Available, kept_freed

HERE = LocalFolder(Path())


def estimate(size):
    return Estimate(BASE + size, "select", {"program": BASE, "edges": size}, 0)


# -- memory ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("available", [0, BASE, 10 * BASE, 1 << 40])
def test_default_memory_is_a_share_of_what_is_available(available, monkeypatch):
    found = Available(available, "of the machine")
    monkeypatch.setattr(budget, "available_memory", lambda: found)
    room = Room.of(RunOptions(), "out.npy")
    assert room == Room(max(0, int(SHARE * available) - BASE), HERE, given=False)


def test_memory_as_given():
    room = Room.of(RunOptions(max_memory="2GiB"), "folder/out.npy")
    assert room == Room(2 << 30, LocalFolder(Path("folder")), given=True)
    assert room.holds(estimate(2 << 30))
    assert not room.holds(estimate((2 << 30) + 1))


def test_without_a_known_limit_everything_fits(monkeypatch):
    monkeypatch.setattr(budget, "available_memory", lambda: None)
    room = Room.of(RunOptions(), "-")
    assert room == Room(None, HERE)
    assert room.holds(estimate(1 << 60))


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.none() | st.integers(0, 200))
def test_files_are_used_only_if_memory_is_short_and_they_help(base, whole, least, memory):
    """Files need `least` bytes, and may use more; `base` bytes are needed in any case."""

    def account(process, tasks, spare):
        assert tasks is process
        process.hold("edges", base + (whole if spare is None else least + spare))

    found = arranged(Room(memory, HERE), account)
    spare, needed = found.spare, found.process.peak - BASE
    assert found.task is None
    freed = 0 if spare is None else found.process.parts["freed arrays"]
    assert needed == base + (whole if spare is None else least + spare + freed)
    if memory is None or base + whole <= memory:
        assert spare is None
    elif base + least <= memory:
        assert needed == memory
    else:
        assert needed == base + min(whole, least)
        assert (spare is None) == (whole <= least)


def test_tasks_of_a_cluster_have_a_ledger_of_their_own():
    """Their memory, not that of the process, decides how much of the files is in memory."""

    def account(process, tasks, spare):
        process.hold("scores", 500)
        if spare is not None:
            tasks.hold("edges", 30 + spare)

    room = Room(100, Path(), engine=Engine(1))
    found = arranged(room, account)
    assert (found.process.peak, found.spare) == (BASE + RAY + 500, 70 - kept_freed(70))
    assert found.task.peak == BASE + 100
    here = arranged(room, account, files=False)
    assert (here.process.peak, here.task, here.spare) == (BASE + 500, None, None)


# -- the work folder -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("output", "folder"),
    [
        ("-", "."),
        ("out.npy", "."),
        ("", "."),
        ("a/b/out.npy", "a/b"),
        ("kept_{ratio}.npy", "."),
        ("a/{ratio}/b/kept.npy", "a"),
        ("/{size}/kept.npy", "/"),
    ],
)
def test_work_folder_is_beside_the_output(output, folder):
    assert Room.of(RunOptions(), output).work_dir == LocalFolder(Path(folder))


def test_given_work_folder_is_used(tmp_path):
    room = Room.of(RunOptions(work_dir=str(tmp_path)), "a/out.npy")
    assert room.work_dir == LocalFolder(tmp_path)
    with work_files(room) as files:
        files.put("edges", 0, x=np.arange(9))
        assert files.folder.path.parent == tmp_path
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_work_files_are_removed_after_an_error(error, tmp_path):
    room = Room(0, LocalFolder(tmp_path))
    with pytest.raises(OutputError if error is OSError else error), work_files(room) as files:
        files.put("edges", 0, x=np.arange(9))
        assert len(list(tmp_path.iterdir())) == 2
        raise error
    assert list(tmp_path.iterdir()) == []


def test_full_disk_is_one_line_that_names_the_option(tmp_path):
    full = OSError("12 requested and 0 written")
    with pytest.raises(OutputError) as caught, work_files(Room(0, LocalFolder(tmp_path))):
        raise full
    assert str(caught.value).startswith(f"{tmp_path}: ")
    assert "12 requested and 0 written: is the disk full?" in str(caught.value)
    assert "--work-dir" in caught.value.hint


@pytest.mark.parametrize("command", ["graph", "score", "select"])
def test_work_folder_that_cannot_be_used_is_refused_before_any_work(command, data, run_cli):
    lines = {
        "graph": ["graph", "--emb", "emb.npy", "--out", "g.arrow"],
        "score": ["score", "--kind", "knn-distance", "--emb", "emb.npy", "--out", "o.npy"],
        "select": ["select", "--emb", "emb.npy", "--scores", "scores.npy", "--size", "9"],
    }
    before = set(os.listdir())
    for folder in ("nowhere", "emb.npy"):
        for more in ([], ["--plan"]):
            code, out, err = run_cli(*lines[command], "--work-dir", folder, *more)
            assert (code, out) == (1, "")
            first, hint = err.splitlines()
            assert first.startswith(f"error: {folder}: the folder for files")
            assert "--work-dir" in hint
    assert set(os.listdir()) == before


def test_work_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="memory is not a folder"):
        Room.of(RunOptions(work_dir=str(tmp_path / "file")), "out.npy")


def test_work_folder_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(OutputError, match="cannot be written"):
        Room.of(RunOptions(work_dir=str(tmp_path)), "out.npy")


def test_what_stays_of_the_first_files_counts_beside_the_second():
    first, second = Spill("the search", 100, 300, 500, 7, left=20), Spill("edges", 90, 95, 200, 9)
    assert first.and_then(second) == Spill("the search and edges", 110, 395, 700, 9)
    assert replace(first, disk=200).and_then(second).disk == 200


def test_neither_option_is_recorded(data, run_cli):
    line = ["graph", "--emb", "emb.npy", "--out"]
    Path("files").mkdir()
    assert run_cli(*line, "a.arrow", "--max-memory", "1GiB", "--work-dir", "files")[0] == 0
    assert run_cli(*line, "b.arrow")[0] == 0
    assert Path("a.arrow").read_bytes() == Path("b.arrow").read_bytes()
