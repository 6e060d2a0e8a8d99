"""A folder, and addresses of stores: the same operations, and what dead runs leave."""

import errno
import os
import pickle
import re
import time
from pathlib import Path

import numpy as np
import pytest

from d2cli.errors import DataError, OutputError
from d2cli.files.locate.copies import CopyPath
from d2cli.files.output import remote_folder
from d2cli.files.output.checkpoint import FileCheckpoint, PartsFolder
from d2cli.files.output.part_files import PartFiles
from d2cli.files.output.remote_folder import RemoteFolder, place_of, work_folder
from d2cli.files.output.work_files import WorkFiles
from d2cli.files.output.work_folder import LocalFolder, StoredFile
from d2cli.files.raw.numbers import LocalFile
from tests import object_store


@pytest.fixture(params=["folder", "object store", "file system"])
def folder(request, tmp_path, objects):
    """A work folder of each kind."""
    work = tmp_path / "work"
    work.mkdir()
    kinds = {
        "folder": LocalFolder(work),
        "object store": RemoteFolder("objects://bucket/a/b"),
        "file system": RemoteFolder(f"local://{work}"),
    }
    return kinds[request.param]


@pytest.fixture
def store(objects):
    return RemoteFolder("objects://bucket/a")


@pytest.fixture
def fast(monkeypatch):
    """Runs say every few milliseconds that they live."""
    monkeypatch.setattr(remote_folder, "_BEAT", 0.02)
    monkeypatch.setattr(remote_folder, "_WATCH", 10.0)
    monkeypatch.setattr(remote_folder, "_AGAIN", 0.01)


def content(file, start, count):
    array = np.empty(count, np.uint8)
    file.read_into(array, start)
    return array.tobytes()


def test_files_are_written_whole_and_read_in_ranges(folder):
    inner = folder.child("x").child("y")
    assert (inner.names(), inner.has("a b")) == ([], False)
    inner.write("a b", [b"01234", memoryview(b"56789")])
    inner.write("empty", [])
    assert sorted(inner.names()) == ["a b", "empty"]
    assert folder.names() == ["x"]
    assert not folder.has("x")
    assert inner.has("a b")
    again = pickle.loads(pickle.dumps(StoredFile(inner, "a b")))
    assert str(again) == f"{inner}/a b"
    with again.open() as file:
        assert (file.size(), file.head(4), file.head(99)) == (10, b"0123", b"0123456789")
        assert [content(file, *place) for place in ((0, 10), (3, 2), (9, 1), (10, 0))] == [
            b"0123456789", b"34", b"9", b"",
        ]  # fmt: skip
        for place in ((9, 2), (10, 1)):
            with pytest.raises(DataError, match="a b: was cut off while it was read"):
                content(file, *place)
    inner.write("a b", [b"new"])
    with inner.open("a b") as file:
        assert content(file, 0, 3) == b"new"
    with pytest.raises(FileNotFoundError), inner.open("none") as file:
        file.head(1)
    inner.remove(["a b", "none"])
    inner.remove([])
    assert inner.names() == ["empty"]
    folder.child("x").clear()
    folder.child("x").clear()
    assert folder.names() == []


def test_files_of_several_requests(store, monkeypatch):
    monkeypatch.setattr(remote_folder, "_BLOCK", 7)
    monkeypatch.setattr(remote_folder, "_BEGINNING", 10)
    wanted = bytes(range(100))
    store.write("x", (wanted[start : start + 9] for start in range(0, 100, 9)))
    with store.open("x") as file:
        assert file.size() == 100
        for start, count in ((0, 100), (0, 3), (5, 5), (5, 6), (93, 7), (50, 0)):
            assert content(file, start, count) == wanted[start : start + count]
        with pytest.raises(DataError, match="cut off"):
            content(file, 90, 11)


def test_pieces_are_written_as_they_come(store, monkeypatch):
    """A file need not fit in memory."""
    monkeypatch.setattr(remote_folder, "_BLOCK", 8)
    made, written = [], []

    def pieces():
        for number in range(6):
            made.append(number)
            yield bytes(8)

    opened = type(store._connected().store).open

    def watched(self, *arguments, **options):
        file = opened(self, *arguments, **options)
        write = file.write
        file.write = lambda block: written.append(len(made)) or write(block)
        return file

    monkeypatch.setattr(type(store._connected().store), "open", watched)
    store.write("whole", pieces())
    assert len(written) == 6
    assert written[0] < 6


def test_a_file_that_ends_with_an_error_is_not_there(folder, monkeypatch):
    monkeypatch.setattr(remote_folder, "_BLOCK", 4)
    folder.write("x", [b"old"])

    def pieces():
        yield b"0123456789"
        raise ValueError("stopped")

    for name in ("x", "y"):
        with pytest.raises(ValueError, match="stopped"):
            folder.write(name, pieces())
    if "local://" not in str(folder):  # a file system, whose files are there when they are begun
        assert folder.names() == ["x"]
        with folder.open("x") as file:
            assert file.head(9) == b"old"


def test_a_large_file_has_no_more_requests_than_a_store_allows(store, monkeypatch):
    sent, real = [], object_store._Upload._upload_chunk

    def counted(self, final=False):
        sent.append(1)
        return real(self, final)

    monkeypatch.setattr(object_store._Upload, "_upload_chunk", counted)
    monkeypatch.setattr(remote_folder, "_BLOCK", 5)
    monkeypatch.setattr(remote_folder, "_REQUESTS", 4)
    store.write("x", (bytes(3) for _ in range(100)), size=300)
    assert len(sent) <= 5


# -- what can go wrong -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("address", "says", "hint"),
    [
        ("objects://nowhere/x", "The specified bucket does not exist", "--work-dir"),
        ("objects://closed/x", "Access Denied", "--work-dir"),
        ("abc://b/x", "Protocol not known: abc", "--work-dir"),
        ("gs://b/x", "is not installed", "pip install 'd2prune[remote]'"),
        ("simplecache::objects://bucket/x", "a chain of addresses cannot be written", "--work-dir"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_any_work(
    objects, data, run_cli, address, says, hint
):
    before = set(os.listdir())
    for more in ([], ["--plan"]):
        code, out, err = run_cli(
            "graph", "--emb", "emb.npy", "--out", "g.arrow", "--work-dir", address, *more
        )
        assert (code, out) == (1, "")
        first, second = err.splitlines()
        assert first.startswith(f"error: {address}: ")
        assert says in first
        assert hint in second
    assert set(os.listdir()) == before


def test_checking_an_address_leaves_nothing(store, objects):
    store.check()
    assert os.listdir(objects) == []


def test_a_folder_that_the_user_named_is_not_made(tmp_path):
    folder = RemoteFolder(f"local://{tmp_path}/none")
    with pytest.raises(OutputError, match="cannot be written"):
        folder.check()
    with pytest.raises(FileNotFoundError):
        folder.child("x").write("y", [b"1"])
    assert os.listdir(tmp_path) == []


def test_addresses_of_local_files_are_folders():
    for text in ("file:///x/y", "local:///x/y", "/x/y", Path("/x/y")):
        assert work_folder(text) == LocalFolder(Path("/x/y"))
    assert work_folder("s3://b/x/") == RemoteFolder("s3://b/x")


def test_a_store_that_fails_is_one_line(store, monkeypatch):
    parts = PartFiles(store, 1)
    parts.put("x", 0, a=np.arange(3))

    def fails(*_, **__):
        raise RuntimeError("503\nslow down")

    with monkeypatch.context() as patch:
        patch.setattr(object_store.ObjectStore, "cat_file", fails)
        with pytest.raises(OutputError, match=r"objects://bucket/a: cannot be read \(503 slow"):
            parts.get("x", 0, "a")
        patch.setattr(object_store.ObjectStore, "pipe_file", fails)
        with pytest.raises(OutputError, match="cannot be written") as caught:
            parts.put("x", 1, a=np.arange(3))
        assert "--work-dir" in caught.value.hint
        with pytest.raises(OSError, match="slow down") as failed:
            store.write("y", [b"1"])
        assert failed.value.errno == errno.EIO
    assert parts.get("x", 0, "a").tolist() == [0, 1, 2]
    store.remove(["x-0"])
    with pytest.raises(OutputError, match="x-0: is missing or damaged") as caught:
        parts.get("x", 0, "a")
    assert caught.value.hint.startswith("remove what is below objects://bucket/a")


# -- who has a folder ------------------------------------------------------------------------------
def test_a_folder_belongs_to_one_run(folder, fast):
    first = folder.child("x").claim()
    for patient in (True, False):
        assert folder.child("x").claim(patient=patient) is None
    first.end()
    second = folder.child("x").claim()
    assert second is not None
    second.end()


def killed(folder, seconds):
    """The lock of a run that was killed some `seconds` ago."""
    folder.write("lock", [str(time.time() - seconds).encode()])
    return folder


def test_the_folder_of_a_killed_run_is_taken_after_a_wait(store, fast, monkeypatch):
    monkeypatch.setattr(remote_folder, "_WATCH", 0.6)
    store.write("x", [b"1"])
    killed(store, 1)
    assert store.claim(patient=False) is None
    began = time.monotonic()
    claim = store.claim()
    assert 0.5 < time.monotonic() - began < 30
    assert sorted(store.names()) == ["lock", "x"]
    claim.end()
    assert store.names() == ["x"]


def test_the_folder_of_a_run_that_was_killed_long_ago_is_taken_at_once(store, monkeypatch):
    monkeypatch.setattr(remote_folder, "_WATCH", 1e9)
    killed(store, 4000)
    store.claim(patient=False).end()
    store.write("lock", [b"damaged"])
    store.claim().end()


def test_a_run_that_ends_while_another_waits(store, fast, monkeypatch):
    killed(store, 1)
    naps = []
    monkeypatch.setattr(remote_folder.time, "sleep", lambda _: naps.append(store.remove(["lock"])))
    store.claim().end()
    assert len(naps) == 1


def test_temporary_files_of_dead_runs_are_removed(store, fast):
    dead, alive, other = (store.child(f".d2prune-{digit * 12}.tmp") for digit in "abc")
    for one, seconds in ((dead, 4000), (alive, 100)):
        one.write("edges-0", [b"1"])
        killed(one, seconds)
    other.write("edges-0", [b"1"])  # without a lock: its run has ended, or was killed at its end
    store.write("mine", [b"1"])
    files = WorkFiles(store)
    own = files.folder
    assert re.fullmatch(r"objects://bucket/a/\.d2prune-[0-9a-f]{12}\.tmp", str(own))
    names = {folder.inside.rpartition("/")[2] for folder in (alive, own)}
    assert {*store.names()} == {*names, "mine"}
    files.end()
    assert {*store.names()} == names - {own.inside.rpartition("/")[2]} | {"mine"}


def test_temporary_files_go_with_their_last_reference(folder):
    files = WorkFiles(folder)
    copy = pickle.loads(pickle.dumps(files))
    copy.put("x", 0, a=np.arange(9))
    copy.end()
    assert files.get("x", 0, "a").tolist() == [*range(9)]
    assert len(folder.names()) == (2 if isinstance(folder, LocalFolder) else 1)
    del files
    assert folder.names() == []


def test_a_run_says_that_it_lives_until_it_ends(store, fast):
    claim, seen = store.claim(), set()
    until = time.monotonic() + 60
    while len(seen) < 3:
        assert time.monotonic() < until
        seen.add(store._time())
    claim.end()
    time.sleep(0.1)
    assert store.names() == []


# -- checkpoints -----------------------------------------------------------------------------------
class KilledError(Exception):
    """The end of a run."""


def checkpoint(folder, build="one", told=None):
    tell = (lambda text: None) if told is None else told.append
    return FileCheckpoint("g.arrow", build, 0, tell, PartsFolder(folder, 1))


def test_a_build_is_continued_from_an_address(folder, tmp_path, fast):
    state, told = {"a": np.arange(6).reshape(2, 3), "b": np.float32(2.5)}, []
    with pytest.raises(KilledError), checkpoint(folder, told=told) as first:
        first.store().put("x", 0, a=np.arange(3))
        first.save("stage", lambda: state)
        raise KilledError
    assert told == [f"finished work is kept in {first.folder}: the same command continues it"]
    with checkpoint(folder, told=told) as again:
        assert again.store().get("x", 0, "a").tolist() == [0, 1, 2]
        found = again.load("stage")
        assert found["a"].tolist() == state["a"].tolist()
        assert found["b"] == 2.5
    assert told[1:] == [f"resumed from the checkpoint of an unfinished run ({first.folder})"]
    assert folder.names() == []


def test_a_second_run_of_a_build_has_a_folder_of_its_own(folder, fast):
    with checkpoint(folder) as first:
        first.store().put("x", 0, a=np.arange(3))
        with checkpoint(folder) as second:
            assert not second.store().has("x", 0)
            assert second.folder != first.folder
        assert first.store().has("x", 0)
    assert folder.names() == []


def test_checkpoints_of_other_builds_are_removed_if_their_runs_are_dead(folder, fast):
    with pytest.raises(KilledError), checkpoint(folder, "other") as dead:
        dead.store().put("x", 0, a=np.arange(3))
        raise KilledError
    with checkpoint(folder, "third") as alive:
        alive.store().put("x", 0, a=np.arange(3))
        with checkpoint(folder) as mine:
            mine.store().put("x", 0, a=np.arange(3))
        assert folder.names() == [str(alive.folder).rpartition("/")[2]]


@pytest.mark.parametrize("damage", ["cut", "one bit", "empty"])
def test_damaged_states_and_parts_at_an_address_are_not_found(store, fast, damage, monkeypatch):
    with pytest.raises(KilledError), checkpoint(store) as first:
        first.store().put("x", 0, a=np.arange(3000))
        first.save("stage", lambda: {"a": np.arange(3000)})
        raise KilledError
    for folder, name in ((first.folder, "stage"), (first.folder.child("all.parts"), "x-0")):
        size = folder.size(name)
        whole = bytearray(folder.fetch(name, 0, size))
        whole[-20] ^= 1
        folder.write(name, [{"cut": whole[:-1], "one bit": bytes(whole), "empty": b""}[damage]])
    with checkpoint(store) as again:
        assert again.load("stage") is None
        assert not again.store().has("x", 0)


# -- inputs at addresses ---------------------------------------------------------------------------
def test_a_copied_input_is_read_from_the_store_where_the_copy_is_not(objects, tmp_path):
    (objects / "x.bin").write_bytes(b"0123456789")
    (tmp_path / "copy").write_bytes(b"0123456789")
    here = place_of(CopyPath.of(tmp_path / "copy", "objects://bucket/x.bin", None))
    there = pickle.loads(pickle.dumps(here))
    (objects / "x.bin").write_bytes(b"9876543210")
    with there.open() as file:
        assert content(file, 2, 3) == b"234"
    (tmp_path / "copy").unlink()
    with there.open() as file:
        assert content(file, 2, 3) == b"765"
        with pytest.raises(DataError, match=r"objects://bucket/x\.bin: was cut off"):
            content(file, 8, 3)
    assert str(there) == "objects://bucket/x.bin"
    assert place_of(tmp_path / "x") == LocalFile(tmp_path / "x")
