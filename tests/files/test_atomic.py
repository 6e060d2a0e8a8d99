"""An output is written completely or not at all."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from d2cli.errors import OutputError
from d2cli.files.output.atomic import Outputs

ARGS = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 9]


@pytest.fixture
def folder(data, tmp_path):
    """Read every file of the current folder; links are followed."""

    def read():
        names = sorted(os.listdir(tmp_path))
        return {n: os.readlink(n) if os.path.islink(n) else Path(n).read_bytes() for n in names}

    return read


def half(error):
    """A writer that fails after its first bytes."""

    def fail(*args, **options):
        for to in args:
            if isinstance(to, Path) or (isinstance(to, str) and os.sep in to):
                Path(to).write_bytes(b"half of it")
            elif hasattr(to, "write"):
                to.write(b"half of it")
        raise error

    return fail


FULL = OSError(28, "No space left on device")


WRITERS = {
    "k.npy": (np, "save"),
    "k.csv": (pa.csv, "write_csv"),
    "k.parquet": (pa.parquet, "write_table"),
    "k.arrow": (pa, "OSFile"),
}


@pytest.mark.parametrize("out", WRITERS)
@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()], ids=["full", "interrupted"])
def test_failed_writer_changes_nothing(folder, select, monkeypatch, out, error):
    Path(out).write_bytes(b"old")
    before = folder()
    with monkeypatch.context() as patch:
        patch.setattr(*WRITERS[out], half(error))
        code, stdout, err = select(*ARGS, "--out", out)
    assert (code, stdout) == (1 if error is FULL else 130, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert folder() == before
    if error is FULL:
        assert err.endswith(f"{out}: cannot be written (No space left on device)\n")
    assert select(*ARGS, "--out", out)[0] == 0
    assert Path(out).read_bytes() != b"old"


@pytest.mark.parametrize("command", ["graph", "propagate"])
def test_failed_writer_of_graph_and_propagate(folder, run_cli, monkeypatch, command):
    assert run_cli("graph", "--emb", "emb.npy", "--out", "g.arrow")[0] == 0
    args = ["propagate", "--graph", "g.arrow", "--scores", "scores.npy", "--out", "p.npy"]
    if command == "graph":
        args = ["graph", "--emb", "emb.npy", "--out", "g.arrow", "-k", 2]
    before = folder()
    monkeypatch.setattr(np, "save", half(FULL))
    monkeypatch.setattr(pa, "OSFile", half(FULL))
    code, out, err = run_cli(*args)
    assert (code, out) == (1, "")
    assert err.endswith("cannot be written (No space left on device)\n")
    assert folder() == before


def test_failure_at_the_second_budget_writes_none(folder, select, monkeypatch):
    before = folder()
    real, calls = np.save, []

    def second_fails(*args, **options):
        calls.append(args)
        if len(calls) == 2:
            raise FULL
        real(*args, **options)

    monkeypatch.setattr(np, "save", second_fails)
    assert select(*ARGS, "--size", 5, "--out", "k_{size}.npy")[0] == 1
    assert len(calls) == 2
    assert folder() == before


def test_failed_fsync_changes_nothing(folder, select, monkeypatch):
    Path("k.npy").write_bytes(b"old")
    before = folder()

    def fail(handle):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    code, _, err = select(*ARGS, "--out", "k.npy")
    assert code == 1
    assert "k.npy" in err
    assert err.endswith("cannot be written (Input/output error)\n")
    assert folder() == before


def test_open_readers_keep_the_old_file(folder, select):
    Path("selected.npy").write_bytes(b"old")
    with open("selected.npy", "rb") as reader:
        assert select(*ARGS)[0] == 0
        assert reader.read() == b"old"  # a reader that has it open keeps the old content
    assert np.load("selected.npy").size == 9
    assert set(folder()) == {
        *("emb.npy", "labels.npy", "scores.npy", "selected.npy", "selected.npy.json")
    }


def test_output_through_a_link_keeps_the_link(folder, select):
    Path("store").mkdir()
    os.symlink("store/real.npy", "link.npy")  # its target does not exist yet
    assert select(*ARGS, "--out", "link.npy")[0] == 0
    assert os.readlink("link.npy") == "store/real.npy"
    assert np.load("store/real.npy").size == 9
    assert select(*ARGS[:-1], 5, "--out", "link.npy")[0] == 0
    assert np.load("link.npy").size == 5
    assert os.listdir("store") == ["real.npy"]
    assert Path("link.npy.json").is_file()


def test_output_through_a_linked_folder(folder, select):
    Path("store").mkdir()
    os.symlink("store", "there")
    assert select(*ARGS, "--out", "there/k.npy")[0] == 0
    assert sorted(os.listdir("store")) == ["k.npy", "k.npy.json"]


# -- the context itself ---------------------------------------------------------------------------
def test_outputs_exist_only_after_the_block(tmp_path):
    with Outputs() as outputs:
        outputs.place(tmp_path / "a").write_text("a")
        outputs.place(tmp_path / "b").write_text("b")
        assert not (tmp_path / "a").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_sidecars_are_renamed_before_outputs(tmp_path, monkeypatch):
    moved = []
    monkeypatch.setattr(os, "replace", lambda a, b: moved.append(Path(b).name))
    with Outputs() as outputs:
        for name in ("note", "data"):
            outputs.place(tmp_path / name).write_text(name)
    assert moved == ["note", "data"]
    assert list(tmp_path.iterdir()) == []


def test_unwritten_output_is_an_error(tmp_path):
    with pytest.raises(OutputError, match=r"a: cannot be written \(No such file"), Outputs() as out:
        out.place(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_other_errors_are_not_changed(tmp_path):
    with pytest.raises(ValueError, match="mine"), Outputs() as outputs:
        outputs.place(tmp_path / "a").write_text("half")
        raise ValueError("mine")
    assert list(tmp_path.iterdir()) == []


ODD = os.fsdecode(b"odd-\xff")


@pytest.mark.parametrize("ending", ["npy", "txt", "csv", "parquet", "arrow"])
def test_select_writes_into_a_folder_whose_name_is_not_utf8(data, select, ending):
    rows = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 9]
    assert select(*rows, "--out", f"k.{ending}")[0] == 0
    os.mkdir(ODD)
    code, _, err = select(*rows, "--out", f"{ODD}/k.{ending}")
    assert (code, "defect" in err) == (0, False), err
    assert Path(ODD, f"k.{ending}").read_bytes() == Path(f"k.{ending}").read_bytes()
    assert Path(ODD, f"k.{ending}.json").exists()


@pytest.mark.parametrize("ending", ["npy", "csv", "parquet", "arrow"])
def test_score_writes_into_a_folder_whose_name_is_not_utf8(data, run_cli, ending):
    args = ["score", "--kind", "prototypicality", "--emb", "emb.npy", "--n-clusters", 3]
    os.mkdir(ODD)
    code, _, err = run_cli(*args, "--out", f"{ODD}/s.{ending}")
    assert (code, "defect" in err) == (0, False), err
    assert Path(ODD, f"s.{ending}").exists()


def test_graph_and_propagate_write_into_a_folder_whose_name_is_not_utf8(data, run_cli):
    os.mkdir(ODD)
    assert run_cli("graph", "--emb", "emb.npy", "--out", f"{ODD}/g.arrow")[0] == 0
    args = ["--graph", f"{ODD}/g.arrow", "--scores", "scores.npy", "--out", f"{ODD}/p.npy"]
    assert run_cli("propagate", *args)[0] == 0
