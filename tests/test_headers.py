"""Headers: what inputs say of themselves, with their data never read."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from d2cli.errors import DataError
from d2cli.files.graph_file import write_graph
from d2cli.files.headers import read_graph_header, read_header
from d2cli.files.sources import open_source
from d2cli.graph.knn_graph import KnnGraph

N, D = 300, 6


def lists(rows, kind):
    values = pa.array(rows.ravel())
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
    offsets = np.arange(len(rows) + 1) * rows.shape[1]
    if kind == "large":
        return pa.LargeListArray.from_arrays(pa.array(offsets), values)
    return pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), values)


def write_ipc(path, table, stream=False, compression=None):
    options = pa.ipc.IpcWriteOptions(compression=compression)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=128)


def write(form, path, rows):
    """`rows` in one form; returns the path and the key that names them."""
    table = pa.table({"id": [f"x{i:05}" for i in range(len(rows))], "embedding": lists(rows, form)})
    family = pa.table({f"emb_{c}": rows[:, c] for c in range(rows.shape[1])})
    if form == "npy":
        np.save(path, rows)
    elif form == "npz":
        np.savez_compressed(path, a=rows, b=np.zeros(3))
        return "a"
    elif form == "csv":
        pa.csv.write_csv(family, path)
    elif form == "family":
        pq.write_table(family, path)
    elif form in ("list", "large"):
        pq.write_table(table, path, row_group_size=70)
    elif form == "fixed":
        write_ipc(path, table)
    else:
        table = table.set_column(1, "embedding", lists(rows, "list"))
        write_ipc(path, table, form == "stream", "zstd" if form == "zstd" else None)
    return None


FORMS = ["npy", "npz", "csv", "family", "list", "large", "fixed", "arrow", "stream", "zstd"]


@pytest.mark.parametrize("form", FORMS)
def test_a_header_says_what_reading_finds(form, tmp_path):
    rows = np.random.default_rng(1).standard_normal((N, D)).astype(np.float32)
    path = tmp_path / "input"
    key = write(form, path if form != "npz" else tmp_path / "input.npz", rows)
    path = next(tmp_path.iterdir())
    header = read_header([str(path)], "embeddings", "emb", key)
    source = open_source([str(path)], "embeddings", "emb", key)
    assert header.exact
    assert (header.rows, header.width) == source.matrix().shape == (N, D)
    assert header.size == path.stat().st_size
    assert header.mapped == (form == "npy")
    assert (header.ids is not None) == bool(source.id_parts)
    if form != "csv":
        assert header.dtype == np.float32
    if header.ids is not None:
        assert header.text_ids
        assert 6 <= header.ids <= 16


@pytest.mark.parametrize("form", ["npy", "list", "fixed", "zstd"])
def test_no_data_are_read(form, tmp_path):
    """What lies between the headers may be anything."""
    rows = np.random.default_rng(1).standard_normal((20_000, D)).astype(np.float32)
    path = tmp_path / "input"
    if form == "npy":
        with path.open("wb") as file:
            np.save(file, rows)
    else:
        write(form, path, rows)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1000] = bytes(range(250)) * 4
    path.write_bytes(content)
    header = read_header([str(path)], "embeddings", "emb")
    assert (header.rows, header.width) == (20_000, D)


@pytest.mark.parametrize("form", ["npy", "list", "fixed", "stream"])
def test_a_name_need_not_be_utf8(form, tmp_path):
    rows = np.ones((N, D), np.float32)
    path = tmp_path / "plain.npy"
    write(form, path, rows)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.npy"))
    path.rename(odd)
    assert read_header([str(odd)], "embeddings", "emb").rows == N


def test_a_column_may_have_dots_in_its_name(tmp_path):
    rows = np.ones((5, 3), np.float32)
    table = pa.table({"a.emb": lists(rows, "list"), "a": lists(rows[:, :2], "list")})
    pq.write_table(table, tmp_path / "e.parquet")
    assert read_header([str(tmp_path)], "embeddings", "emb", "a.emb").width == 3
    assert read_header([str(tmp_path)], "embeddings", "emb", "a").width == 2


def test_rows_of_a_long_csv_are_estimated(tmp_path):
    path = tmp_path / "long.csv"
    line = '"a caption\nof two lines",0.25,0.125\n'
    path.write_text("caption,emb_0,emb_1\n" + line * 30_000)
    header = read_header([str(path)], "embeddings", "emb")
    assert not header.exact
    assert header.rows == pytest.approx(30_000, rel=0.02)
    assert header.width == 2


def test_shards_are_added_up(tmp_path):
    for i in (1, 2, 10):
        np.save(tmp_path / f"e_{i}.npy", np.ones((i, 3), np.float16))
    header = read_header([str(tmp_path)], "embeddings", "emb")
    assert (header.rows, header.width, header.dtype) == (13, 3, np.float16)
    assert not header.mapped
    assert header.largest_mapped == 60
    np.save(tmp_path / "e_3.npy", np.ones((2, 4), np.float16))
    with pytest.raises(DataError, match=r"rows of \[3, 4\] values"):
        read_header([str(tmp_path)], "embeddings", "emb")


@pytest.mark.parametrize(
    ("array", "plain"),
    [
        (np.ones((4, 3)), True),
        (np.asfortranarray(np.ones((4, 3))), False),
        (np.ones((4, 3), ">f4"), False),
    ],
)
def test_what_has_to_be_copied_is_known(array, plain, tmp_path):
    np.save(tmp_path / "e.npy", array)
    assert read_header([str(tmp_path / "e.npy")], "embeddings", "emb").plain is plain


def test_a_graph(tmp_path):
    neighbors = np.tile(np.arange(1, 4, dtype=np.int32), (9, 1))
    neighbors[np.arange(1, 4), np.arange(3)] = 0
    neighbors.sort(axis=1)
    graph = KnnGraph(neighbors, np.ones(neighbors.shape, np.float32))
    write_graph(tmp_path / "g.arrow", graph, pa.array([f"{i:08}" for i in range(9)]))
    header = read_graph_header(str(tmp_path / "g.arrow"))
    assert (header.rows, header.n_neighbors, header.method) == (9, 3, "unknown")
    assert header.text_ids
    assert header.paths == [tmp_path / "g.arrow"]


@pytest.mark.parametrize("kind", ["npy", "plain", "no lists", "absent"])
def test_no_graph(kind, tmp_path):
    path = tmp_path / "g.arrow"
    if kind == "npy":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    elif kind != "absent":
        table = pa.table({"neighbors": [1, 2]})
        if kind == "no lists":
            table = table.replace_schema_metadata({b"d2prune": b'{"graph": {}}'})
        write_ipc(path, table)
    with pytest.raises(DataError, match=r"g\.arrow"):
        read_graph_header(str(path))
