"""Columns that two inputs share: what they tell about the order of rows, and the join."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import DataError
from d2cli.files.frame import Frame
from d2cli.files.keys import (
    broadened,
    is_ascending,
    is_counter,
    is_shuffled_count,
    relate,
    same_relation,
    same_values,
)
from d2cli.files.sources import open_source


def array(values):
    return broadened(pa.array(values))


def naive_relation(one, other):
    """The relation of two columns that differ, with plain loops."""
    unique = [len(set(v)) == len(v) and None not in v for v in (one, other)]
    if all(unique):
        missing = [value for value in one if value not in other]
        if not missing:
            return "match", [other.index(value) for value in one]
        return ("disjoint" if len(missing) == len(one) else "partial"), None
    if any(len(set(v)) > 0.5 * len(v) for v in (one, other)):
        return ("repeated" if any(value in other for value in one) else "unrelated"), None
    same = sorted(map(str, one)) == sorted(map(str, other))
    return ("shuffled" if same else "unrelated"), None


VALUES = st.lists(st.integers(0, 12), min_size=1, max_size=12)


@given(VALUES, VALUES, st.booleans())
def test_relations_equal_plain_loops(one, other, text):
    if text:
        one, other = ([f"v{value}" for value in values] for values in (one, other))
    if one == other:
        return
    found = relate(array(one), array(other))
    kind, rows = naive_relation(one, other)
    assert found.kind == kind
    if rows is not None:
        assert found.rows.tolist() == rows


@given(VALUES, st.lists(st.integers(1, 5), max_size=6), st.lists(st.integers(1, 5), max_size=6))
def test_columns_are_compared_whatever_their_pieces(values, cuts, other_cuts):
    def pieces(values, cuts):
        start = 0
        for size in (*cuts, len(values)):
            yield pa.array(values[start : start + size], pa.int64())
            start += size

    assert same_values(pieces(values, cuts), pieces(values, other_cuts))
    assert not same_values(pieces(values, cuts), pieces([*values, 1], other_cuts))
    changed = [*values[:-1], values[-1] + 1]
    assert not same_values(pieces(values, cuts), pieces(changed, other_cuts))


@pytest.mark.parametrize(
    ("values", "counter", "shuffled", "ascending"),
    [
        ([0, 1, 2, 3], True, False, True),
        ([3, 0, 1, 2], False, True, False),
        ([2, 1, 4, 3], False, True, False),
        ([5, 9, 7, 6], False, False, False),
        (["0", "1", "2", "10"], False, False, True),
        (["img_3.jpg", "img_1.jpg", "img_2.jpg"], False, True, False),
        (["img_2.jpg", "img_9.jpg", "img_10.jpg"], False, False, True),
        (["a", "b", "c"], False, False, True),
        (["b", "a", "c"], False, False, False),
        (["a1b2", "a2b1"], False, False, True),
        ([1, None], False, False, False),
    ],
)
def test_order_of_ids(values, counter, shuffled, ascending):
    ids = array(values)
    assert is_counter(ids) == counter
    assert is_shuffled_count(ids) == shuffled
    assert is_ascending(ids) == ascending


def test_equal_columns_that_tell_nothing():
    assert not same_relation(array([0, 1, 2])).says
    assert not same_relation(array(["train"] * 4)).says
    assert same_relation(array([4, 4, 5, 5])).says
    assert not same_relation(array([4, 4, 5, 5])).is_key
    assert same_relation(array([4, 8, 5])).is_key


COLUMNS = ["key", "index", "label", "title", "other"]


@given(st.sets(st.sampled_from(COLUMNS)), st.integers(0, 2**32 - 1), st.booleans())
def test_a_join_is_right_or_refused(tmp_path_factory, columns, seed, more):
    """Scores in another order: with any column that can tell, they are joined right or refused."""
    folder = Path(tmp_path_factory.mktemp("keys"))
    rng = np.random.default_rng(seed)
    n = int(rng.integers(3, 30))
    m = n + (int(rng.integers(1, 5)) if more else 0)
    order = rng.permutation(m)
    values = {
        "key": np.array([f"k{value}" for value in rng.permutation(10 * m)[:m]]),
        "label": rng.integers(0, 2, m),
        "title": np.array([f"t{value}" for value in rng.integers(0, 3 * m, m)]),
        "other": rng.permutation(1000 * m)[:m],
    }
    one = {name: values[name][:n] for name in columns - {"index"}}
    two = {name: values[name][order] for name in columns - {"index"}}
    if "index" in columns:
        one["index"], two["index"] = np.arange(n), np.arange(m)
    pq.write_table(pa.table({**one, "emb": np.eye(n).tolist()}), folder / "e.parquet")
    pq.write_table(pa.table({**two, "score": order.astype(float)}), folder / "s.parquet")
    emb = open_source([str(folder / "e.parquet")], "embeddings", "emb")
    scores = open_source([str(folder / "s.parquet")], "scores", "scores", "score")
    try:
        found, _ = Frame.of(emb).vector(scores)
    except DataError:
        assert columns - {"index"} or m != n or "index" in columns
        return
    if found.tolist() == list(range(n)):
        return
    # Only what is equal in both orders may be joined row by row.
    assert m == n
    assert all((one[name] == two[name]).all() for name in columns)
