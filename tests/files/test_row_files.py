"""Rows that are read when they are needed equal the matrix in memory."""

import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.engine.threads import for_blocks
from d2cli.errors import DataError, UsageError
from d2cli.files.formats import fields
from d2cli.files.formats.converted import Reading
from d2cli.files.output.work_folder import LocalFolder
from d2cli.files.raw import row_files
from d2cli.files.raw.numbers import LocalFile
from d2cli.files.raw.row_files import RawRows, RowFiles
from d2cli.files.sources import open_source

FLOAT = np.dtype("f4")


def lists(values, fixed):
    flat = pa.array(values.ravel())
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.ListArray.from_arrays(np.arange(0, values.size + 1, values.shape[1], np.int32), flat)


def write_arrow(path, columns):
    table = pa.table(columns)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, 5)


def numbered(v):
    return {f"emb_{i}": v[:, i] for i in range(v.shape[1])}


def raw_vectors(path, v):
    header = np.array(v.shape, "<u4").tobytes()
    path.write_bytes(header + v.astype("<f4").tobytes())


def each_with_its_length(path, v):
    lengths = np.full((len(v), 1), v.shape[1], "<i4").view("<f4")
    np.hstack([lengths, v.astype("<f4")]).tofile(path)


#: How values of each kind are written: to a name without its ending.
WRITERS = {
    "npy": lambda at, v: np.save(f"{at}.npy", v),
    "fortran": lambda at, v: np.save(f"{at}.npy", np.asfortranarray(v)),
    "big-endian": lambda at, v: np.save(f"{at}.npy", v.astype(v.dtype.newbyteorder(">"))),
    "npz": lambda at, v: np.savez(f"{at}.npz", emb=v),
    "npz fortran": lambda at, v: np.savez(f"{at}.npz", emb=np.asfortranarray(v)),
    "lists": lambda at, v: pq.write_table(
        pa.table({"emb": lists(v, False)}), f"{at}.parquet", row_group_size=4
    ),
    "numbered": lambda at, v: pq.write_table(
        pa.table(numbered(v)), f"{at}.parquet", row_group_size=4
    ),
    "arrow": lambda at, v: write_arrow(f"{at}.arrow", {"emb": lists(v, True)}),
    "fbin": lambda at, v: raw_vectors(Path(f"{at}.fbin"), v),
    "fvecs": lambda at, v: each_with_its_length(f"{at}.fvecs", v),
}


def test_a_copy_in_another_process_opens_files_itself(tmp_path):
    """It reads after the first was closed, and as long as the files are there."""
    values = np.arange(40, dtype="f4").reshape(10, 4)
    for name, some in (("a", values[:6]), ("b", values[6:])):
        some.astype(">f4" if name == "b" else "f4").tofile(tmp_path / name)
    pieces = [
        RawRows(LocalFile(tmp_path / "a"), 0, 6, np.dtype("f4")),
        RawRows(LocalFile(tmp_path / "b"), 0, 4, np.dtype(">f4")),
    ]
    with RowFiles(pieces, 4, np.dtype("f4")) as rows:
        copy = pickle.loads(pickle.dumps(rows))
    np.testing.assert_array_equal(copy.read(4, 9), values[4:9])
    np.testing.assert_array_equal(copy.take(np.array([9, 0, 9])), values[[9, 0, 9]])
    copy.close()
    (tmp_path / "b").unlink()
    with pytest.raises(DataError, match="b: No such file"):
        copy.read(4, 9)


@st.composite
def written(draw, folder):
    """(arguments, key, reading) of embeddings in one or several files in `folder`."""
    writer = draw(st.sampled_from([*WRITERS, "int8", "joined", "mixed"]))
    width = draw(st.integers(2, 20))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    paths = []
    for at in range(draw(st.integers(1, 3))):
        n = draw(st.integers(1, 30))
        dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
        values = rng.normal(size=(n, width)).astype(dtype)
        name = folder / str(at)
        if writer == "int8":
            np.save(f"{name}.npy", (20 * values).astype(np.int8))
        elif writer == "joined":
            np.savez(f"{name}.npz", a=values, b=values[:, ::-1].astype(np.float32))
        elif writer == "mixed":  # numbered columns and lists, which are of the same format
            WRITERS[("numbered", "lists")[at % 2]](name, values)
        else:
            WRITERS[writer](name, values)
        paths += [str(path) for path in folder.glob(f"{at}.*")]
    key = ("a", "b") if writer == "joined" else None
    reading = Reading(scale="0.25" if writer == "int8" else None)
    return paths, key, reading


@given(st.data())
def test_rows_equal_the_matrix(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("rows")
    paths, key, reading = data.draw(written(folder))
    work = tmp_path_factory.mktemp("work")
    source = open_source(paths, "embeddings", "emb", key, reading=reading)
    source.scale_parts("cosine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fields, "BLOCK_BYTES", data.draw(st.sampled_from([64, 1 << 24])))
        patch.setattr(row_files, "_BUFFER_BYTES", data.draw(st.sampled_from([1, 200, 1 << 22])))
        patch.setattr(row_files, "_GAP_BYTES", data.draw(st.sampled_from([0, 50, 1 << 16])))
        patch.setattr(row_files, "_OPEN_FILES", data.draw(st.sampled_from([0, 1, 256])))
        matrix = source.matrix()
        with source.reader(LocalFolder(work)) as reader:
            assert bool(os.listdir(work)) == source.layout().copied
            assert reader.shape == matrix.shape
            assert reader.dtype == np.result_type(matrix.dtype, np.float32)
            start = data.draw(st.integers(0, source.n))
            stop = data.draw(st.integers(start, source.n))
            there = np.full(reader.shape, 99, reader.dtype)
            for found, expected in (
                (reader.read(0, source.n), matrix),
                (reader.read(start, stop), matrix[start:stop]),
                (reader.read(start, stop, there[: stop - start]), matrix[start:stop]),
            ):
                assert found.dtype == reader.dtype
                assert found.flags.c_contiguous
                np.testing.assert_array_equal(found, expected)
            rows = np.array(data.draw(st.lists(st.integers(0, source.n - 1))), np.int64)
            np.testing.assert_array_equal(reader.take(rows), matrix[rows])
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("writer", ["npy", "big-endian", "fbin"])
def test_floats_in_row_order_are_not_copied(tmp_path, writer):
    values = np.arange(12, dtype=np.float32).reshape(6, 2)
    WRITERS[writer](tmp_path / "e", values)
    [path] = tmp_path.iterdir()
    with open_source([str(path)], "embeddings", "emb").reader() as reader:
        np.testing.assert_array_equal(reader.read(0, 6), values)
        assert list(tmp_path.iterdir()) == [path]


def test_rows_that_must_be_copied_need_a_work_dir(tmp_path):
    np.save(tmp_path / "e.npy", np.ones((3, 2), np.int8))
    source = open_source([str(tmp_path / "e.npy")], "embeddings", "emb")
    with pytest.raises(UsageError, match=r"e\.npy: .* need a work_dir"):
        source.reader()


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    path = tmp_path / "e.npy"
    np.save(path, np.ones((50, 4), np.float32))
    with open_source([str(path)], "embeddings", "emb").reader() as reader:
        os.truncate(path, path.stat().st_size - 3)
        assert reader.read(0, 49).shape == (49, 4)
        for read in (lambda: reader.read(0, 50), lambda: reader.take(np.array([49]))):
            with pytest.raises(DataError, match=r"e\.npy: was cut off while it was read"):
                read()


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="nothing: No such file"):
        RowFiles(
            [RawRows(LocalFile(tmp_path / "nothing"), 0, 3, np.dtype("f4"))], 2, np.dtype("f4")
        )


@pytest.mark.parametrize("claimed", [3, 5])
def test_fewer_or_more_rows_than_the_headers_claim_are_refused(tmp_path, claimed):
    np.savez(tmp_path / "e.npz", emb=np.ones((4, 2), np.float32))
    source = open_source([str(tmp_path / "e.npz")], "embeddings", "emb")
    source.n = claimed
    says = "more rows than its header" if claimed < 4 else "4 rows were read"
    for read in (source.matrix, lambda: source.reader(LocalFolder(tmp_path))):
        with pytest.raises(DataError, match=says):
            read()
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]  # the copy is removed


@pytest.mark.parametrize("row", [-1, 6])
def test_rows_out_of_range_are_refused(tmp_path, row):
    np.save(tmp_path / "e.npy", np.ones((6, 2), np.float32))
    with (
        open_source([str(tmp_path / "e.npy")], "embeddings", "emb").reader() as reader,
        pytest.raises(IndexError, match=r"0 … 5"),
    ):
        reader.take(np.array([2, row]))


def test_threads_share_a_reader(tmp_path):
    values = np.random.default_rng(1).normal(size=(4000, 9)).astype(np.float32)
    np.save(tmp_path / "e.npy", values)
    found, together = np.zeros_like(values), threading.Barrier(4, timeout=60)

    def copy(start, stop):
        together.wait()
        for row in range(start, stop, 10):
            found[row : row + 5] = reader.read(row, row + 5)
            found[row + 5 : row + 10] = reader.take(np.arange(row + 5, row + 10))

    with open_source([str(tmp_path / "e.npy")], "embeddings", "emb").reader() as reader:
        for_blocks(copy, 4000, 1000, 4)
    np.testing.assert_array_equal(found, values)
