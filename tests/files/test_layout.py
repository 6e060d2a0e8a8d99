"""Layouts: what the headers of inputs say, without reading their data."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from d2cli.errors import DataError
from d2cli.files.epochs import open_epochs
from d2cli.files.examples import open_texts
from d2cli.files.graph_file import open_graph, write_graph
from d2cli.files.sources import open_source
from d2cli.graph.knn_graph import KnnGraph

N, D = 300, 6


def layout_of(path, role="embeddings", key=None):
    return open_source([str(path)], role, "emb", key, skim=True).layout()


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
def test_layout_equals_the_data(form, tmp_path):
    rows = np.random.default_rng(1).standard_normal((N, D)).astype(np.float32)
    path = tmp_path / "input"
    key = write(form, path if form != "npz" else tmp_path / "input.npz", rows)
    path = next(tmp_path.iterdir())
    header = layout_of(path, key=key)
    source = open_source([str(path)], "embeddings", "emb", key)
    assert header.exact
    assert (header.rows, header.width) == source.matrix().shape == (N, D)
    assert header.size == path.stat().st_size
    assert header.mapped == (form == "npy")
    assert (header.id_sizes is not None) == bool(source.id_parts)
    if form != "csv":
        assert header.dtype == np.float32
    if header.id_sizes is not None:
        assert header.id_sizes.text
        assert 6 <= header.id_sizes.length <= 16


@pytest.mark.parametrize("form", ["npy", "list", "fixed", "zstd"])
def test_layout_reads_no_data(form, tmp_path):
    """The bytes in the middle of the file are overwritten."""
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
    header = layout_of(path)
    assert (header.rows, header.width) == (20_000, D)


@pytest.mark.parametrize("form", ["npy", "list", "fixed", "stream"])
def test_layout_of_a_path_that_is_not_utf8(form, tmp_path):
    rows = np.ones((N, D), np.float32)
    path = tmp_path / "plain.npy"
    write(form, path, rows)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.npy"))
    path.rename(odd)
    assert layout_of(odd).rows == N


def test_width_of_columns_with_dots_in_their_names(tmp_path):
    rows = np.ones((5, 3), np.float32)
    table = pa.table({"a.emb": lists(rows, "list"), "a": lists(rows[:, :2], "list")})
    pq.write_table(table, tmp_path / "e.parquet")
    assert layout_of(tmp_path, key="a.emb").width == 3
    assert layout_of(tmp_path, key="a").width == 2


def test_skim_estimates_the_rows_of_a_long_csv(tmp_path):
    path = tmp_path / "long.csv"
    line = '"a caption\nof two lines",0.25,0.125\n'
    path.write_text("caption,emb_0,emb_1\n" + line * 30_000)
    header = layout_of(path)
    assert not header.exact
    assert header.rows == pytest.approx(30_000, rel=0.02)
    assert header.width == 2
    whole = open_source([str(path)], "embeddings", "emb").layout()
    assert (whole.exact, whole.rows) == (True, 30_000)


def test_skim_estimates_the_rows_of_a_long_text(tmp_path):
    path = tmp_path / "long.txt"
    path.write_text("a line, with a comma\n" * 30_000)
    for skim in (True, False):
        texts = open_texts([str(path)], None, None, skim=skim).layout()
        assert texts.exact is not skim
        assert texts.rows == pytest.approx(30_000, rel=0.001 if skim else 0)
    short = tmp_path / "short.txt"
    short.write_text("one\ntwo")
    assert open_texts([str(short)], None, None, skim=True).layout().exact


def test_layout_of_epochs_in_files_of_several_shapes(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 7, 5), np.float32))
    np.save(tmp_path / "b.npy", np.zeros((7, 5), np.float32))
    paths = [str(tmp_path / name) for name in ("a.npy", "b.npy")]
    epochs = open_epochs(paths, "logits", None, None, skim=True)
    assert (epochs.count, epochs.n, epochs.classes) == (4, 7, 5)
    found = epochs.layout()
    assert (found.rows, found.width, found.size) == (7, 5, 4 * 4 * 35 + 2 * 128)


def test_layout_of_several_files(tmp_path):
    for i in (1, 2, 10):
        np.save(tmp_path / f"e_{i}.npy", np.ones((i, 3), np.float16))
    header = layout_of(tmp_path)
    assert (header.rows, header.width, header.dtype) == (13, 3, np.float16)
    assert not header.mapped
    assert header.largest_mapped == 60
    np.save(tmp_path / "e_3.npy", np.ones((2, 4), np.float16))
    with pytest.raises(
        DataError, match=r"e_3\.npy: rows have 4 values, those of .*e_1\.npy have 3"
    ):
        layout_of(tmp_path)


@pytest.mark.parametrize(
    ("array", "plain"),
    [
        (np.ones((4, 3)), True),
        (np.asfortranarray(np.ones((4, 3))), False),
        (np.ones((4, 3), ">f4"), False),
    ],
)
def test_plain_is_c_order_and_native_bytes(array, plain, tmp_path):
    np.save(tmp_path / "e.npy", array)
    assert layout_of(tmp_path / "e.npy").plain is plain


def test_open_graph_reads_the_shape(tmp_path):
    neighbors = np.tile(np.arange(1, 4, dtype=np.int32), (9, 1))
    neighbors[np.arange(1, 4), np.arange(3)] = 0
    neighbors.sort(axis=1)
    graph = KnnGraph(neighbors, np.ones(neighbors.shape, np.float32))
    write_graph(tmp_path / "g.arrow", graph, pa.array([f"{i:08}" for i in range(9)]))
    header = open_graph(tmp_path / "g.arrow")
    assert (header.n, header.n_neighbors, header.method) == (9, 3, "unknown")
    assert header.id_sizes.text
    assert header.id_sizes.length > 8
    assert header.paths == [tmp_path / "g.arrow"]


@pytest.mark.parametrize("kind", ["npy", "plain", "no lists", "absent"])
def test_open_graph_refuses_other_files(kind, tmp_path):
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
        open_graph(path)
