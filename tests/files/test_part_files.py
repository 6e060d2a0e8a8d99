"""Parts of a search in files: what is put is found, by a later run too, unless it is damaged."""

import errno
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from d2cli.engine.store import PartStore
from d2cli.errors import DataError, OutputError
from d2cli.files.output.part_files import PartFiles
from d2cli.files.output.work_folder import LocalFolder

SHAPES = arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5)
DTYPES = st.sampled_from(["u1", "i1", "i4", "i8", "f4", "f8"]).map(np.dtype)
ARRAYS = arrays.arrays(DTYPES, SHAPES)


@given(st.dictionaries(st.sampled_from("abc"), ARRAYS), st.integers(0, 6), st.integers(0, 6))
def test_parts_are_what_was_put(tmp_path_factory, found, start, stop):
    folder = tmp_path_factory.mktemp("parts")
    stores = [PartStore(), PartFiles(LocalFolder(folder / "x"), 100)]
    for store in stores:
        assert not store.has("name", 3)
        store.put("name", 3, **found)
    for store in (*stores, PartFiles(LocalFolder(folder / "x"), 100)):
        assert store.has("name", 3)
        assert not store.has("name", 1)
        whole = store.whole("name", 3)
        assert list(whole) == list(found)
        for key, array in found.items():
            assert whole[key].dtype == array.dtype
            np.testing.assert_array_equal(whole[key], array)
            some = store.get("name", 3, key, start, stop)
            np.testing.assert_array_equal(some, array[start:stop])
            np.testing.assert_array_equal(store.get("name", 3, key), array)


def files(folder):
    return sorted(os.listdir(folder))


def test_parts_are_replaced_and_dropped(tmp_path):
    store = PartFiles(LocalFolder(tmp_path), 1)
    for value in (1, 2):
        store.put("a b", 0, x=np.full(3, value))
    store.put("c", 0, x=np.zeros(1))
    store.put("c", 1, x=np.zeros(1))
    assert store.get("a b", 0, "x").tolist() == [2, 2, 2]
    assert files(tmp_path) == ["a b-0", "c-0", "c-1"]
    store.drop("c", 1)
    store.drop("c", 7)
    with pytest.raises(OutputError, match="c-1: is missing or damaged"):
        store.get("c", 1, "x")
    later = PartFiles(LocalFolder(tmp_path), 1)
    assert later.resumed
    assert [later.parts(name) for name in ("a b", "c", "d")] == [[0], [0], []]
    later.keep_only("c")
    assert (files(tmp_path), later.has("a b")) == (["c-0"], False)
    later.end()
    assert not tmp_path.exists()


def test_stores_within_stores_are_apart(tmp_path):
    store = PartFiles(LocalFolder(tmp_path), 1)
    store.put("x", 1, a=np.array([1]))
    inner = store.child("x-1")
    assert not inner.has("x", 1)
    inner.put("x", 1, a=np.array([2]))
    assert store.get("x", 1, "a")[0] == 1
    again = PartFiles(LocalFolder(tmp_path), 1)
    assert again.resumed
    assert again.child("x-1").get("x", 1, "a")[0] == 2
    again.child("x-1").end()
    assert files(tmp_path) == ["x-1"]


@pytest.mark.parametrize(
    "damage", ["cut", "longer", "one bit", "no head", "empty", "half written", "folder"]
)
def test_damaged_parts_are_not_found(tmp_path, damage):
    PartFiles(LocalFolder(tmp_path), 1).put("name", 0, a=np.arange(4000), b=np.arange(3.0))
    path = tmp_path / "name-0"
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-1]
    elif damage == "longer":
        content += b"x"
    elif damage == "one bit":
        content[-20] ^= 1
    elif damage == "no head":
        content[:10] = b"\0" * 10
    elif damage == "empty":
        content = bytearray()
    path.unlink()
    if damage == "half written":
        (tmp_path / "name-0.new").write_bytes(content)
    elif damage == "folder":
        path.mkdir()
    else:
        path.write_bytes(content)
    store = PartFiles(LocalFolder(tmp_path), 1)
    assert PartFiles(LocalFolder(tmp_path), 1).parts("name") == []
    assert not store.has("name", 0)
    with pytest.raises(OutputError, match="name-0: is missing or damaged") as caught:
        store.get("name", 0, "a")
    assert caught.value.hint.startswith(f"rm -r {tmp_path}")


def test_a_full_disk_names_the_folder_and_the_option(tmp_path, monkeypatch):
    store = PartFiles(LocalFolder(tmp_path), 1)
    store.put("name", 0, a=np.arange(3))

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="cannot be written") as caught:
        store.put("name", 1, a=np.arange(3))
    assert "--work-dir" in caught.value.hint
    assert str(tmp_path) in str(caught.value)
    assert files(tmp_path) == ["name-0"]
    assert store.get("name", 0, "a").tolist() == [0, 1, 2]


def test_a_part_that_becomes_shorter_is_refused(tmp_path):
    store = PartFiles(LocalFolder(tmp_path), 1)
    store.put("name", 0, a=np.arange(4000))
    os.truncate(tmp_path / "name-0", 3000)
    with pytest.raises(DataError, match="name-0: was cut off"):
        store.get("name", 0, "a")
    os.unlink(tmp_path / "name-0")
    with pytest.raises(OutputError, match="name-0: is missing or damaged"):
        store.get("name", 0, "a")


def test_a_copy_in_another_process_sees_the_same_parts(tmp_path, monkeypatch):
    """What either writes; parts of an earlier run are checked by both, new ones by none."""
    PartFiles(LocalFolder(tmp_path), 1).put("old", 0, a=np.arange(3))
    prepared = []
    store = PartFiles(LocalFolder(tmp_path), 1, lambda: prepared.append(1))
    there = pickle.loads(pickle.dumps(store))
    assert (there.room, there.folder) == (1, LocalFolder(tmp_path))
    assert not store.has("new", 0)
    there.put("new", 0, a=np.arange(4))
    assert store.get("new", 0, "a").tolist() == [0, 1, 2, 3]
    there.put("new", 0, a=np.arange(9.0))
    assert store.get("new", 0, "a").tolist() == [*range(9)]
    store.put("new", 1, b=np.arange(2))
    assert there.has("new", 1)
    assert prepared == [1]
    checked, is_whole = [], PartFiles._is_whole
    monkeypatch.setattr(
        PartFiles, "_is_whole", lambda self, file: checked.append(file) or is_whole(self, file)
    )
    for one in (store, there, store, there):
        one.whole("new", 0)
        assert one.has("old", 0)
    assert checked == ["old-0", "old-0"]
    store.drop("new", 1)
    assert not there.has("new", 1)
    assert there.names() == {"old", "new"}


def test_two_writers_of_a_part_do_not_meet(tmp_path, monkeypatch):
    """Each writes a file of its own, which replaces the other as a whole."""
    store, replace, halves = PartFiles(LocalFolder(tmp_path), 1), os.replace, []
    there = pickle.loads(pickle.dumps(store))

    def late(half, path):
        halves.append(half)
        if len(halves) == 1:
            there.put("name", 0, a=np.arange(5))
        replace(half, path)

    monkeypatch.setattr(os, "replace", late)
    store.put("name", 0, a=np.arange(5))
    assert len({*halves}) == 2
    assert store.get("name", 0, "a").tolist() == [*range(5)]
    assert files(tmp_path) == ["name-0"]
    (tmp_path / "name-1.0.new").touch()  # of a process that was killed
    assert not PartFiles(LocalFolder(tmp_path), 1).has("name", 1)
    assert files(tmp_path) == ["name-0"]
