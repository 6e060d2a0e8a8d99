"""Types of Arrow and parquet: nested columns, decimals, UUIDs, binary, dictionaries, nulls."""

import decimal
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import DataError
from d2cli.files.epochs import open_epochs
from d2cli.files.formats.arrow_types import list_matrix, type_name
from d2cli.files.sources import open_source

F = pa.float32()


def write(columns, path="t.parquet"):
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    if path.endswith(".parquet"):
        pq.write_table(table, path, row_group_size=11)
    else:
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, 11)
    return path


def matrix(path, key=None):
    return open_source([path], "embeddings", "emb", key).matrix()


def values(path, role, key=None):
    return open_source([path], role, role, key).column().to_pylist()


PATHS = ["t.parquet", "t.arrow"]


# -- nested columns -------------------------------------------------------------------------------
@pytest.mark.parametrize("path", PATHS)
def test_fields_of_structs(same, data, path):
    rows = [
        {"model": "x", "vector": e, "inner": {"el2n": s, "y": y}}
        for e, s, y in zip(data.emb.tolist(), data.scores, data.labels.tolist(), strict=True)
    ]
    write({"id": data.ids, "emb": rows}, path)
    keys = "--emb-key", "emb.vector", "--scores-key", "emb.inner.el2n"
    same(*keys, emb=path, scores=path)
    assert values(path, "labels", "emb.inner.y") == data.labels.tolist()
    assert open_source([path], "embeddings", "emb", "emb.vector", skim=True).layout().width == 4


def test_a_column_is_preferred_to_a_field_of_the_same_name(run_cli):
    write({"e": [{"v": 1.0}, {"v": 2.0}], "e.v": [3.0, 4.0]})
    assert open_source(["t.parquet"], "scores", "scores", "e.v").vector().tolist() == [3, 4]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", [(1, 4), (4, 1), (2, 2)])
def test_lists_of_lists(same, data, path, shape):
    """As Hugging Face stores Array2D, once its extension type is not loaded."""
    kind = pa.list_(pa.list_(F))
    write(
        {"emb": pa.array(data.emb.reshape(40, *shape).tolist(), kind), "label": data.labels}, path
    )
    same(emb=path)
    fixed = pa.list_(pa.list_(F, shape[1]), shape[0])
    write({"emb": pa.array(data.emb.reshape(40, *shape).tolist(), fixed)}, path)
    same(emb=path)
    assert open_source([path], "embeddings", "emb", skim=True).layout().width == 4


def test_lists_of_lists_are_no_outputs(run_cli):
    write({"logits": pa.array([[[0.5, 1.0]], [[1.0, 2.0]]], pa.list_(pa.list_(F)))})
    with pytest.raises(DataError, match=r"logits: each row is list<list<float>>: a row of outputs"):
        open_epochs(["t.parquet"], "logits", None, None)


def test_ragged_lists_of_lists_name_the_row(run_cli):
    rows = [[[1.0, 2.0], [3.0, 4.0]], None, [[1.0, 2.0], [3.0]]]
    write({"emb": pa.array(rows, pa.list_(pa.list_(F)))})
    with pytest.raises(DataError, match="emb: row 2 has 1 values, the rows before have 2"):
        matrix("t.parquet")


@pytest.mark.parametrize("kind", [pa.list_view(F), pa.large_list_view(F), pa.large_list(F)])
def test_views_of_lists(same, data, kind):
    write({"emb": pa.array(data.emb.tolist(), kind)}, "t.arrow")
    same(emb="t.arrow")


# -- numbers --------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "kind", [pa.decimal32(7, 3), pa.decimal64(9, 3), pa.decimal128(38, 3), pa.decimal256(50, 3)]
)
def test_decimals(same, data, path, kind):
    score = [decimal.Decimal(str(s)) for s in data.scores]
    write({"id": data.ids, "score": pa.array(score, kind)}, path)
    same(scores=path)


def test_decimals_without_fraction_are_integers(run_cli):
    whole = [decimal.Decimal(2**60 + 1), decimal.Decimal(-7)]
    write({"id": pa.array(whole, pa.decimal128(38, 0)), "score": [1.0, 2.0]})
    assert open_source(["t.parquet"], "scores", "scores").ids().to_pylist() == [2**60 + 1, -7]
    write({"id": pa.array([decimal.Decimal(2**70)], pa.decimal128(38, 0)), "score": [1.0]})
    with pytest.raises(DataError, match="id: cannot be read"):
        open_source(["t.parquet"], "scores", "scores").ids()


@pytest.mark.parametrize("path", PATHS)
def test_labels_that_are_whole_floats(data, select, path):
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 9,
                  "--balance", "uniform", "--labels", "labels.npy")[0] == 0  # fmt: skip
    expected = Path("selected.npy").read_bytes()
    write({"label": data.labels.astype(np.float64), "score": data.scores}, path)
    np.save("y.npy", data.labels.astype(np.float32))
    for labels in (path, "y.npy"):
        assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 9,
                      "--balance", "uniform", "--labels", labels)[0] == 0  # fmt: skip
        assert Path("selected.npy").read_bytes() == expected


@pytest.mark.parametrize(
    ("wrong", "says"), [(1.5, "row 2 is 1.5"), (np.inf, "row 2 is inf"), (np.nan, "row 2 is null")]
)
def test_labels_that_are_no_whole_numbers(run_cli, wrong, says):
    np.save("y.npy", np.array([1, 2, wrong]))
    with pytest.raises(DataError, match=rf"y\.npy: {says}"):
        open_source(["y.npy"], "labels", "labels").column()


def test_integers_are_embeddings_under_a_usual_name_only(run_cli):
    ids = pa.array([[101, 7], [101, 9]], pa.list_(pa.int64()))
    write({"input_ids": ids, "score": [1.0, 2.0]})
    with pytest.raises(DataError, match="no column or member that could be embeddings") as error:
        matrix("t.parquet")
    assert error.value.hint == "it has: input_ids: list<int64>; score: double"
    assert matrix("t.parquet", "input_ids").tolist() == [[101, 7], [101, 9]]
    write({"input_ids": ids, "embedding": pa.array([[1, -2], [3, 4]], pa.list_(pa.int8()))})
    found = matrix("t.parquet")
    assert (found.tolist(), found.dtype) == ([[1, -2], [3, 4]], np.float32)


# -- ids and text ---------------------------------------------------------------------------------
UUIDS = [uuid.UUID(int=i * 7919 << 90 | i) for i in range(40)]


@pytest.mark.parametrize("path", PATHS)
def test_uuids_are_their_canonical_text(same, data, path):
    order = np.random.default_rng(0).permutation(40)
    raw = pa.array([u.bytes for u in UUIDS], pa.binary(16))
    known = pa.ExtensionArray.from_storage(pa.uuid(), raw)
    write({"id": known, "emb": data.emb.tolist()}, path)
    text = [str(UUIDS[i]) for i in order]
    for ids in (known.take(pa.array(order)), raw.take(pa.array(order)), text):
        write({"id": ids, "score": data.scores[order]}, f"s.{path}")
        same(emb=path, scores=f"s.{path}")
    assert values(path, "rows", None) == [str(u) for u in UUIDS]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3), pa.binary_view()])
def test_binary_is_text_or_hexadecimal(run_cli, kind):
    for raw, expected in (
        ([b"abc", b"xyz"], ["abc", "xyz"]),
        ([b"abc", b"\xff\x00\x01"], ["616263", "ff0001"]),
    ):
        write({"id": pa.array(raw, kind)}, "t.arrow")
        assert values("t.arrow", "rows") == expected


def test_binary_slices_and_nulls(run_cli):
    ids = pa.array([b"\xff\x01", None, b"\xfe\x02", b"ab"], pa.binary(2)).slice(1)
    write({"id": ids}, "t.arrow")
    part = open_source(["t.arrow"], "rows", "include").parts[0]
    assert part.column(nulls=True).to_pylist() == [None, "fe02", "6162"]
    with pytest.raises(DataError, match="id: row 0 is null"):
        part.column()


@pytest.mark.parametrize("index", [pa.uint8(), pa.int16(), pa.uint32(), pa.uint64()])
@pytest.mark.parametrize("words", [pa.string(), pa.large_string(), pa.string_view(), pa.binary()])
def test_dictionaries_of_any_index(run_cli, index, words):
    """As polars writes Categorical and Enum columns."""
    label = pa.DictionaryArray.from_arrays(
        pa.array([1, 0, 1], index), pa.array(["cat", "dog"]).cast(words)
    )
    write({"label": label}, "t.arrow")
    assert values("t.arrow", "labels") == ["dog", "cat", "dog"]


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view()])
def test_views_of_text(run_cli, kind):
    write({"id": pa.array(["a", "a longer one, not inlined"]).cast(kind)}, "t.arrow")
    assert values("t.arrow", "rows") == ["a", "a longer one, not inlined"]


# -- nulls ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "kind", [pa.float16(), pa.float32(), pa.float64(), pa.int8(), pa.uint64(), pa.bool_()]
)
def test_null_numbers_are_nan(run_cli, path, kind):
    write({"score": pa.array([1, None, 0]).cast(kind)}, path)
    found = open_source([path], "scores", "scores").vector()
    np.testing.assert_array_equal(found, [1, np.nan, 0])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "kind", [pa.list_(F), pa.list_(F, 2), pa.large_list(F), pa.list_(pa.int8())]
)
def test_null_lists_and_null_places_are_nan(run_cli, path, kind):
    write({"emb": pa.array([None, [1, 2], [3, None], None, [5, 6]], kind)}, path)
    nan = np.nan
    expected = [[nan, nan], [1, 2], [3, nan], [nan, nan], [5, 6]]
    np.testing.assert_array_equal(matrix(path), expected)
    assert open_source([path], "embeddings", "emb", skim=True).layout().width == 2


def test_null_structs_are_nan(run_cli):
    write({"e": [{"v": [1.0, 2.0], "s": 3.0}, None, {"v": None, "s": None}]})
    nan = np.nan
    np.testing.assert_array_equal(matrix("t.parquet", "e.v"), [[1, 2], [nan, nan], [nan, nan]])
    found = open_source(["t.parquet"], "scores", "scores", "e.s").vector()
    np.testing.assert_array_equal(found, [3, nan, nan])


def test_nulls_in_numbered_columns_are_nan(run_cli):
    write({"emb_0": pa.array([1.0, None], F), "emb_1": pa.array([None, 4], pa.int8())})
    np.testing.assert_array_equal(matrix("t.parquet"), [[1, np.nan], [np.nan, 4]])


def test_all_null_lists_are_refused(run_cli):
    write({"emb": pa.array([None, None], pa.list_(F))})
    with pytest.raises(DataError, match="emb: every row is null"):
        matrix("t.parquet")


@given(st.data())
def test_list_matrix_equals_python(data):
    """Nested lists of any depth with nulls, sliced, against plain loops."""
    lengths = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))

    def lists(depth):
        if depth == len(lengths):
            return st.none() | st.integers(-4, 4).map(float)
        inner = st.lists(lists(depth + 1), min_size=lengths[depth], max_size=lengths[depth])
        return st.none() | inner

    def flat(value, depth):
        if depth == len(lengths):
            return [np.nan if value is None else value]
        inner = [None] * lengths[depth] if value is None else value
        return [x for one in inner for x in flat(one, depth + 1)]

    rows = data.draw(st.lists(lists(0), min_size=1, max_size=6))
    kind, first = pa.float32(), data.draw(st.integers(0, len(rows) - 1))
    for length in reversed(lengths):
        kind = data.draw(st.sampled_from([pa.list_(kind), pa.list_(kind, length)]))
    found = list_matrix(pa.array(rows, kind).slice(first), tuple(lengths), "e", nulls=True)
    expected = [flat(row, 0) for row in rows[first:]]
    np.testing.assert_array_equal(found, np.array(expected, np.float32))


def test_type_names():
    names = {
        pa.list_(pa.int8()): "list<int8>",
        pa.large_list(pa.list_(pa.float16(), 3)): "large_list<fixed_size_list<halffloat>[3]>",
        pa.dictionary(pa.int8(), pa.string()): "dictionary<string>",
        pa.struct([("a", pa.int8())]): "struct",
        pa.map_(pa.string(), pa.int8()): "map",
        pa.uuid(): "arrow.uuid",
        pa.fixed_shape_tensor(pa.float32(), [2, 3]): "tensor<float>[2, 3]",
        pa.decimal128(5, 2): "decimal128(5, 2)",
    }
    assert {kind: type_name(kind) for kind in names} == names
