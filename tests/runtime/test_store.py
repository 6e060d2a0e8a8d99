"""Arrays of numbered parts: in memory and in a folder."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.engine import store as store_module
from d2cli.engine.store import Store


def stores(tmp_path):
    return {"memory": Store(), "folder": Store(tmp_path / "work")}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A store in memory and one in a folder, for all examples of a test."""
    return list(stores(tmp_path_factory.mktemp("store")).values())


@pytest.fixture(params=["memory", "folder"])
def store(request, tmp_path):
    return stores(tmp_path)[request.param]


ARRAYS = {
    "codes": np.arange(24, dtype=np.uint8).reshape(6, 4),
    "scores": np.array([5, -(2**31), 2**31 - 1], np.int32),
    "ends": np.array([0, 2**40], np.int64),
    "points": np.arange(-64, 64, dtype=np.int8).reshape(1, 1, 32, 4),
    "none": np.empty((0, 3), np.int32),
    "halves": np.array([0.5, np.inf], np.float32),
}


def test_parts_are_returned_as_they_were_stored(store):
    store.put("blocks", 7, **ARRAYS)
    for key, array in ARRAYS.items():
        found = store.get("blocks", 7, key)
        assert type(found) is np.ndarray
        assert found.dtype == array.dtype
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, array)


@given(
    n=st.integers(0, 9), start=st.integers(0, 12),
    stop=st.one_of(st.none(), st.integers(0, 12)), flat=st.booleans(),
)  # fmt: skip
def test_memory_and_folder_give_the_same_slices(both, n, start, stop, flat):
    array = np.arange(n, dtype=np.int32) if flat else np.arange(2 * n).reshape(n, 2)
    for one in both:
        one.put("rows", 0, rows=array)
        found = one.get("rows", 0, "rows", start, stop)
        np.testing.assert_array_equal(found, array[start:stop])
        assert found.dtype == array.dtype
        one.drop("rows", 0)


def test_parts_have_names_and_numbers(store):
    assert not store.has("lists", 0)
    store.put("lists", 0, a=np.array([1]))
    store.put("lists", 1, a=np.array([2]))
    store.put("boxes", 0, a=np.array([3]))
    assert [store.has("lists", part) for part in (0, 1, 2)] == [True, True, False]
    found = [
        store.get(name, part, "a")[0] for name, part in (("lists", 0), ("lists", 1), ("boxes", 0))
    ]
    assert found == [1, 2, 3]
    store.drop("lists", 0)
    assert [store.has("lists", part) for part in (0, 1)] == [False, True]
    assert store.has("boxes", 0)
    store.drop("lists", 0)  # again: no error


def test_a_part_is_replaced_as_a_whole(store):
    store.put("lists", 3, a=np.array([1]), b=np.array([2]))
    store.put("lists", 3, a=np.array([5]))
    assert store.get("lists", 3, "a").tolist() == [5]
    with pytest.raises((KeyError, FileNotFoundError)):
        store.get("lists", 3, "b")


def test_missing_parts_are_errors(store):
    with pytest.raises((KeyError, FileNotFoundError)):
        store.get("lists", 0, "a")


def test_arrays_of_files_are_copies_and_those_of_memory_are_views(tmp_path):
    for name, one in stores(tmp_path).items():
        one.put("lists", 0, a=np.zeros(3))
        one.get("lists", 0, "a")[1] = 7
        assert one.resident == (name == "memory")
        assert one.get("lists", 0, "a").tolist() == [0, 7 if one.resident else 0, 0]


class _KilledError(Exception):
    pass


def killed(*_):
    raise _KilledError


@pytest.mark.parametrize("moment", ["save", "replace"])
def test_a_killed_run_leaves_no_part_of_a_part(tmp_path, monkeypatch, moment):
    """What it left is replaced by the next run, whatever keys the part had."""
    if moment == "save":
        save = np.save
        monkeypatch.setattr(
            store_module.np,
            "save",
            lambda path, array: killed() if path.stem == "b" else save(path, array),
        )
    else:
        monkeypatch.setattr(store_module.os, "replace", killed)
    first = Store(tmp_path)
    with pytest.raises(_KilledError):
        first.put("lists", 0, a=np.array([1]), old=np.array([1]), b=np.array([2]))
    monkeypatch.undo()
    assert not first.has("lists", 0)
    assert (tmp_path / "lists-00000.new").is_dir()
    again = Store(tmp_path)
    assert not again.has("lists", 0)
    again.put("lists", 0, a=np.array([3]), b=np.array([4]))
    assert [again.get("lists", 0, key).tolist() for key in "ab"] == [[3], [4]]
    assert sorted(path.name for path in (tmp_path / "lists-00000").iterdir()) == ["a.npy", "b.npy"]
    assert [path.name for path in tmp_path.iterdir()] == ["lists-00000"]


def test_a_run_killed_while_it_drops_a_part(tmp_path, monkeypatch):
    one = Store(tmp_path)
    one.put("lists", 0, a=np.array([1]))
    remove = store_module.shutil.rmtree

    def remove_or_die(path, ignore_errors=False):
        remove(path, ignore_errors=True) if ignore_errors else killed()

    with monkeypatch.context() as patch:
        patch.setattr(store_module.shutil, "rmtree", remove_or_die)
        with pytest.raises(_KilledError):
            one.drop("lists", 0)
    assert not Store(tmp_path).has("lists", 0)
    one.put("lists", 0, a=np.array([2]))
    one.drop("lists", 0)
    assert os.listdir(tmp_path) == []


def test_another_store_of_the_folder_continues(tmp_path):
    Store(tmp_path / "work").put("blocks", 12, **ARRAYS)
    again = Store(tmp_path / "work")
    assert again.has("blocks", 12)
    np.testing.assert_array_equal(again.get("blocks", 12, "codes", 2, 5), ARRAYS["codes"][2:5])


def test_state_of_parts_in_memory():
    """Other arrays of a state are no parts; a part is the same after restoring it again."""
    one, again = Store(), Store()
    one.put("blocks", 7, **ARRAYS)
    one.put("lists", 12, a=np.array([1]))
    one.put("lists", 3, a=np.array([2]))
    one.drop("lists", 3)
    state = {**one.state(), "plan": np.array([9])}
    for _ in range(2):
        again.restore(state)
    assert not again.has("lists", 3)
    assert again.state().keys() == one.state().keys()
    for key, array in ARRAYS.items():
        np.testing.assert_array_equal(again.get("blocks", 7, key), array)
    assert again.get("lists", 12, "a").tolist() == [1]


def test_state_of_parts_in_a_folder_is_empty(tmp_path):
    one = Store(tmp_path)
    one.put("lists", 0, a=np.array([1]))
    assert one.state() == {}
