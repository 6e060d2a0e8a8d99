"""Arrays of numbered parts in memory."""

import numpy as np
import pytest

from d2cli.engine.store import PartStore

ARRAYS = {
    "codes": np.arange(24, dtype=np.uint8).reshape(6, 4),
    "scores": np.array([5, -(2**31), 2**31 - 1], np.int32),
    "ends": np.array([0, 2**40], np.int64),
    "points": np.arange(-64, 64, dtype=np.int8).reshape(1, 1, 32, 4),
    "none": np.empty((0, 3), np.int32),
    "halves": np.array([0.5, np.inf], np.float32),
}


@pytest.fixture
def store():
    return PartStore()


def test_parts_are_returned_as_they_were_stored(store):
    store.put("blocks", 7, **ARRAYS)
    for key, array in ARRAYS.items():
        found = store.get("blocks", 7, key)
        assert type(found) is np.ndarray
        assert found.dtype == array.dtype
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, array)


def test_slices_are_views(store):
    store.put("rows", 0, rows=np.arange(9))
    store.get("rows", 0, "rows", 2, 5)[:] = 7
    assert store.get("rows", 0, "rows").tolist() == [0, 1, 7, 7, 7, 5, 6, 7, 8]


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


def test_state_of_parts_in_memory():
    """Other arrays of a state are no parts; a part is the same after restoring it again."""
    one, again = PartStore(), PartStore()
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
