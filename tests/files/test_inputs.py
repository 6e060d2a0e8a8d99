"""The same rows in any file format give the same selection, byte for byte."""

import os
import random
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from d2cli.files.formats import fields, tables
from d2cli.files.formats.arrow_types import list_matrix
from d2cli.files.locate.tree import natural_key
from d2cli.files.sources import open_source


def nested(values, kind=None):
    """A column of lists."""
    flat = pa.array(values.ravel(), kind)
    offsets = np.arange(0, values.size + 1, values.shape[1])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)


def fixed(values):
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def large(values):
    offsets = pa.array(np.arange(0, values.size + 1, values.shape[1]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, pa.array(values.ravel()))


def numbered(values, name="emb_{}", order=None):
    return {name.format(i): values[:, i] for i in order or range(values.shape[1])}


def write_ipc(path, table, new=pa.ipc.new_file, rows=None):
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table, rows)


def write_csv(path, columns, header=True):
    table = pa.table(columns)
    options = pa.csv.WriteOptions(include_header=header)
    pa.csv.write_csv(table, path, options)


# -- arrays ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_npy_in_every_layout(same, data, kind, layout):
    np.save("e.npy", layout(data.emb.astype(kind)))
    np.save("s.npy", data.scores.astype(kind))
    same(emb="e.npy", scores="s.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kind", ["<f2", ">f4"])
@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
def test_npz_members(same, data, save, kind, layout):
    save("e.npz", b32_img=layout(data.emb.astype(kind)), b32_txt=-data.emb, note=np.array("x"))
    save("s.npz", el2n=data.scores, labels=data.labels, names=np.array(data.ids, object))
    same("--emb-key", "b32_img", "--scores-key", "el2n", emb="e.npz", scores="s.npz")
    same("--emb-key", "b32_img", emb="e.npz", scores="s.npz")


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.float16, np.bool_])
def test_scores_of_other_types(tmp_path, kind):
    values = np.arange(5).astype(kind)
    np.save(tmp_path / "s.npy", values)
    vector = open_source([str(tmp_path / "s.npy")], "scores", "scores").vector()
    assert vector.dtype == np.float64
    np.testing.assert_array_equal(vector, values)


def test_npy_of_python_2(same, data):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (40L, 4L), }".ljust(117) + b"\n"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    Path("e.npy").write_bytes(start + data.emb.tobytes() + b"and more")
    same(emb="e.npy")


def test_npy_version_2(same, data):
    with open("e.npy", "wb") as file:
        np.lib.format.write_array(file, data.emb, version=(2, 0))
    same(emb="e.npy")


def test_format_is_found_from_content(same, data):
    os.rename("emb.npy", "emb.parquet")
    pq.write_table(pa.table({"score": data.scores}), "scores.csv")
    same(emb="emb.parquet", scores="scores.csv")


# -- tables ---------------------------------------------------------------------------------------
LISTS = {
    "list<half>": lambda v: nested(v.astype("f2")),
    "list<float>": nested,
    "list<double>": lambda v: nested(v.astype("f8")),
    "large_list": large,
    "fixed_size_list<half>": lambda v: fixed(v.astype("f2")),
    "fixed_size_list": fixed,
    "numbered": numbered,
    "numbered backwards": lambda v: numbered(v, "x{}", (3, 1, 0, 2)),
    "numbered, no prefix": lambda v: numbered(v, "{}"),
    "numbered mixed": lambda v: {**numbered(v), "emb_2": v[:, 2].astype("f8")},
}
FILES = {
    "parquet": lambda t: pq.write_table(t, "e.file"),
    "parquet groups": lambda t: pq.write_table(t, "e.file", row_group_size=7, data_page_size=64),
    "parquet 2": lambda t: pq.write_table(t, "e.file", version="1.0", compression="gzip"),
    "arrow": lambda t: write_ipc("e.file", t),
    "arrow batches": lambda t: write_ipc("e.file", t, rows=7),
    "stream": lambda t: write_ipc("e.file", t, pa.ipc.new_stream, rows=7),
    "feather": lambda t: pyarrow.feather.write_feather(t, "e.file", compression="lz4"),
}


@pytest.mark.parametrize("lists", LISTS)
@pytest.mark.parametrize("file", FILES)
def test_embeddings_in_tables(same, data, lists, file):
    columns = LISTS[lists](data.emb)
    columns = columns if isinstance(columns, dict) else {"embedding": columns}
    FILES[file](pa.table({"text": data.ids, **columns, "forgetting": data.scores, "n": [1] * 40}))
    same("--scores-key", "forgetting", emb="e.file", scores="e.file")


@pytest.mark.parametrize("block", [1, 64, 200])
@pytest.mark.parametrize("lists", LISTS)
def test_blocks_smaller_than_the_file(data, run_cli, monkeypatch, lists, block):
    monkeypatch.setattr(fields, "BLOCK_BYTES", block)
    monkeypatch.setattr(tables, "BATCH_BYTES", block)
    monkeypatch.setattr(tables, "COLUMNS_AT_A_TIME", 3)  # of 4
    columns = LISTS[lists](data.emb)
    columns = columns if isinstance(columns, dict) else {"embedding": columns}
    pq.write_table(pa.table({"s": data.scores, **columns}), "e.parquet", row_group_size=11)
    np.savez("e.npz", emb=data.emb)
    for path in ("e.parquet", "e.npz"):
        matrix = open_source([path], "embeddings", "emb").matrix()
        np.testing.assert_array_equal(matrix, data.emb)
    np.testing.assert_array_equal(
        open_source(["e.parquet"], "scores", "scores", "s").vector(), data.scores
    )


@pytest.mark.parametrize("make", [nested, large, fixed])
def test_slices_of_longer_arrays(same, data, make):
    longer = make(np.vstack([data.emb[:3] + 9, data.emb, data.emb[:5]]))
    write_ipc("e.arrow", pa.table({"emb": longer.slice(3, 40)}))
    same(emb="e.arrow")
    pieces = pa.chunked_array([longer.slice(3, 11), longer.slice(14, 0), longer.slice(14, 29)])
    write_ipc("e.arrow", pa.table({"emb": pieces}))
    same(emb="e.arrow")
    np.testing.assert_array_equal(list_matrix(longer.slice(3, 40), 4, "e"), data.emb)


@pytest.mark.parametrize("file", ["parquet", "arrow"])
def test_arrow_tensors(same, data, file):
    kind = pa.fixed_shape_tensor(pa.float32(), [2, 2])
    table = pa.table({"image": pa.ExtensionArray.from_storage(kind, fixed(data.emb))})
    FILES[file](table)
    same(emb="e.file")


def test_usual_name_is_chosen_first(same, data):
    table = {"vector": nested(-data.emb), "embedding": nested(data.emb), "other": nested(-data.emb)}
    pq.write_table(pa.table(table), "e.parquet")
    pq.write_table(pa.table({"loss": -data.scores, "score": data.scores}), "s.parquet")
    same(emb="e.parquet", scores="s.parquet")


def test_names_with_dots(same, data):
    columns = {"emb.old": nested(-data.emb), "emb": nested(data.emb)}
    pq.write_table(pa.table({**columns, "s.raw": -data.scores, "s": data.scores}), "e.parquet")
    same("--emb-key", "emb", "--scores-key", "s", emb="e.parquet", scores="e.parquet")


def test_labels_and_ids_are_not_taken_for_scores(same, data):
    columns = {"uid": data.ids, "label": data.labels, "aesthetic": data.scores}
    pq.write_table(pa.table(columns), "s.parquet")
    same(scores="s.parquet")
    pq.write_table(pa.table({"id": range(40), "loss": data.scores}), "s.parquet")
    same(scores="s.parquet")
    same("--id-column", "none", scores="s.parquet")


# -- text -----------------------------------------------------------------------------------------
def test_csv_columns(same, data):
    write_csv("e.csv", numbered(data.emb, "dim{}"))
    write_csv("s.csv", {"name": data.ids, "el2n": data.scores})
    same(emb="e.csv", scores="s.csv")


def test_lightly_csv(same, data):
    columns = {"filenames": data.ids, **numbered(data.emb, "embedding_{}"), "labels": data.labels}
    write_csv("embeddings.csv", columns)
    same(emb="embeddings.csv")
    same("--balance", "none", "--labels", "embeddings.csv", emb="embeddings.csv")
    same("--id-column", "filenames", emb="embeddings.csv")


def test_headerless_lists(same, data):
    for name in ("s.txt", "s.csv", "s"):
        np.savetxt(name, data.scores)
        same(scores=name)
    np.savetxt("e.csv", data.emb, delimiter=",")
    same(emb="e.csv")
    np.savetxt("e.tsv", data.emb, delimiter="\t", fmt="%s")
    same(emb="e.tsv")
    Path("s.txt").write_text("\ufeff" + "\r\n".join(map(str, data.scores)), encoding="utf-8")
    same(scores="s.txt")


def test_pandas_csv(same, data):
    rows = [",".join(map(str, row)) for row in data.emb.tolist()]
    Path("e.csv").write_text("\n".join(["0,1,2,3", *rows]))  # index=False
    same(emb="e.csv")
    Path("e.csv").write_text("\n".join([",0,1,2,3", *(f"{i},{r}" for i, r in enumerate(rows))]))
    same(emb="e.csv")
    rows = [f"{i},{s}" for i, s in enumerate(data.scores)]
    Path("s.csv").write_text("\n".join([",el2n", *rows]))
    same(scores="s.csv")
    pq.write_table(pa.table({"el2n": data.scores, "__index_level_0__": range(40)}), "s.parquet")
    same(scores="s.parquet")


def test_csv_columns_of_whole_numbers(data, run_cli):
    # A column of zeros, written with %.9g, looks like integers; it must stay in the matrix.
    values = data.emb.copy()
    values[:, 3] = 0
    np.savetxt("e.csv", values, delimiter=",", fmt="%.9g")
    np.testing.assert_array_equal(open_source(["e.csv"], "embeddings", "emb").matrix(), values)
    np.savetxt("e.csv", np.round(values), delimiter=",", fmt="%d")
    matrix = open_source(["e.csv"], "embeddings", "emb").matrix()
    np.testing.assert_array_equal(matrix, np.round(values))


def test_captions_with_line_breaks(same, data):
    rows = [f'"a cat,\na ""dog"" {i}",{s}' for i, s in enumerate(data.scores)]
    Path("s.csv").write_text("\n".join(["caption,clip", *rows]))
    same(scores="s.csv")


def test_csv_type_known_only_in_a_late_row(tmp_path):
    values = np.ones(400_000)  # more than one block of Arrow's CSV reader
    values[-1] = 0.5
    np.savetxt(tmp_path / "s.txt", values, fmt="%g")
    vector = open_source([str(tmp_path / "s.txt")], "scores", "scores").vector()
    np.testing.assert_array_equal(vector, values)


# -- several files --------------------------------------------------------------------------------
def shards(values, folder, save, names, at=(11, 11, 26)):
    """An array in several files; one is empty, as Spark writes them."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, piece in zip(names, np.split(values, at), strict=True):
        save(f"{folder}/{name}", piece)


PLAIN = ["img_emb_0.npy", "img_emb_1.npy", "img_emb_2.npy", "img_emb_10.npy"]
PADDED = ["img_emb_00.npy", "img_emb_01.npy", "img_emb_02.npy", "img_emb_10.npy"]


@pytest.mark.parametrize("names", [PLAIN, PADDED])
def test_folders_and_globs(same, data, names):
    shards(data.emb.astype("f2"), "img_emb", np.save, names)
    shards(data.scores, "scores", np.save, [name.replace("img_emb", "s") for name in names])
    Path("img_emb/_SUCCESS.npy").write_bytes(b"")
    Path("img_emb/.part.npy.crc").write_bytes(b"x")
    Path("img_emb/stats.json").write_text("{}")
    same(emb="img_emb", scores="scores")
    same(emb="img_emb/img*.npy", scores="scores/*")
    same(emb="i*/**/img*.npy", scores="sc?res/s_*")


def test_repeated_options(same, data):
    np.save("a.npy", data.emb[:30])
    shards(data.emb[30:], "more", np.save, ["1.npy", "2.npy"], [5])
    same("--emb", "more", emb="a.npy")
    pq.write_table(pa.table({"emb": nested(data.emb[:30].astype("f8"))}), "a.parquet")
    same("--emb", "more/1.npy", "--emb", "more/2.npy", emb="a.parquet")


def test_empty_shards(same, data):
    def save(path, values):
        pq.write_table(pa.table({"emb": nested(values)}), path)

    shards(data.emb, "spark", save, [f"part-{i}.parquet" for i in range(4)], (0, 11, 26))
    same(emb="spark")


def test_names_with_glob_characters(same, data):
    np.save("e[1].npy", data.emb)
    same(emb="e[1].npy")


def test_links_and_odd_names(same, data):
    Path("ein weg").mkdir()
    os.rename("emb.npy", "ein weg/ä,ö\n.npy")
    os.symlink("ein weg/ä,ö\n.npy", "link.npy")
    same(emb="link.npy")
    same(emb="ein weg")


def test_embedding_reader_folder(same, data):
    shards(data.emb, "both", np.save, PLAIN)
    for i, ids in enumerate(np.split(np.array(data.ids), (11, 11, 26))):
        pq.write_table(pa.table({"image_path": ids, "caption": ids}), f"both/meta_{i}.parquet")
    same(emb="both")
    shards(
        data.emb, "pq", lambda path, v: pq.write_table(pa.table({"embedding": nested(v)}), path),
        [f"{i}.parquet" for i in range(4)],
    )  # fmt: skip
    Path("pq/readme.txt").write_text("what this is")
    same(emb="pq")


def test_datacomp_folder(data, select):
    Path("metadata").mkdir()
    uids = [f"{i * 7919:032x}" for i in range(data.n)]
    for i, rows in enumerate(np.split(np.arange(data.n), [17])):
        half = data.emb[rows].astype("f2")
        np.savez(f"metadata/{i}.npz", b32_img=-half, b32_txt=-half, l14_img=half, l14_txt=-half)
        columns = {
            "uid": [uids[row] for row in rows],
            "text": [str(row) for row in rows],
            "clip_b32_similarity_score": -data.scores[rows],
            "clip_l14_similarity_score": data.scores[rows],
        }
        pq.write_table(pa.table(columns), f"metadata/{i}.parquet")
    keys = ["--emb-key", "l14_img", "--scores-key", "clip_l14_similarity_score"]
    better = ["--higher-is", "better", "--ratio", "0.4", "--out"]
    assert select("--emb", "emb.npy", "--scores", "scores.npy", *better, "plain.npy")[0] == 0
    assert select("--emb", "metadata", "--scores", "metadata", *keys, *better, "kept.npy")[0] == 0
    assert Path("kept.npy").read_bytes() == Path("plain.npy").read_bytes()
    both = ["--emb", "metadata", "--scores", "metadata", *keys, *better]
    assert select(*both, "subset.npy", "--as", "datacomp-uid")[0] == 0
    kept = np.load("subset.npy")
    assert [f"{a:016x}{b:016x}" for a, b in kept] == [uids[i] for i in np.load("kept.npy")]


def test_hugging_face_folder(same, data):
    Path("dataset").mkdir()
    for i, rows in enumerate(np.split(np.arange(data.n), [20])):
        table = pa.table(
            {"text": [data.ids[r] for r in rows], "embeddings": nested(data.emb[rows])}
        )
        write_ipc(f"dataset/data-{i:05}-of-00002.arrow", table, pa.ipc.new_stream, rows=8)
    Path("dataset/state.json").write_text("{}")
    Path("dataset/dataset_info.json").write_text("{}")
    same(emb="dataset")


def test_folder_of_several_formats_uses_the_first_that_fits(data, run_cli):
    Path("mixed").mkdir()
    np.save("mixed/ids.npy", np.array(data.ids))
    write_csv("mixed/scores.csv", {"score": data.scores})
    pq.write_table(pa.table({"caption": data.ids}), "mixed/meta.parquet")
    vector = open_source(["mixed"], "scores", "scores").vector()
    np.testing.assert_array_equal(vector, data.scores)


# -- no Python object for each value --------------------------------------------------------------
@pytest.mark.parametrize("file", ["parquet", "arrow"])
def test_reading_lists_makes_no_python_objects(tmp_path, file):
    import tracemalloc

    values = np.random.default_rng(0).random((20_000, 32), np.float32)
    table = pa.table({"id": np.arange(20_000), "emb": nested(values)})
    path = str(tmp_path / f"e.{file}")
    pq.write_table(table, path) if file == "parquet" else write_ipc(path, table)
    source = open_source([path], "embeddings", "emb")
    tracemalloc.start()  # counts the memory of Python and NumPy, not of Arrow
    matrix = source.matrix()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(matrix, values)
    assert most < 1.2 * values.nbytes  # Python floats alone would take 6 times as much


def test_a_single_npy_is_mapped(data, run_cli):
    assert isinstance(open_source(["emb.npy"], "embeddings", "emb").matrix(), np.memmap)


# -- what holds for any array ---------------------------------------------------------------------
FLOATS = hnp.arrays(
    st.sampled_from(["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]),
    st.tuples(st.integers(1, 9), st.integers(1, 5)),
    elements=st.floats(-100, 100, width=16),
)


@given(values=FLOATS, cuts=st.lists(st.integers(0, 9), max_size=3), fortran=st.booleans())
def test_any_matrix_through_any_format(tmp_path_factory, values, cuts, fortran):
    folder = tmp_path_factory.mktemp("any")
    native = values.astype(values.dtype.newbyteorder("="))
    laid = np.asfortranarray(values) if fortran else values
    np.save(folder / "e.npy", laid)
    np.savez(folder / "e.npz", emb=laid)
    columns = {"a": nested(native), "b": fixed(native), "c": large(native)}
    columns |= numbered(native, "d{}") if values.shape[1] > 1 else {}
    table = pa.table(columns)
    pq.write_table(table, folder / "e.parquet", row_group_size=4)
    write_ipc(folder / "e.arrow", table, rows=3)
    write_ipc(folder / "e.stream", table, pa.ipc.new_stream)
    reads = [("e.npy", None), ("e.npz", None)]
    for path in ("e.parquet", "e.arrow", "e.stream"):
        reads += [(path, key) for key in ("a", "b", "c", "d") if key != "d" or len(columns) > 3]
    for path, key in reads:
        got = open_source([str(folder / path)], "embeddings", "emb", key).matrix()
        np.testing.assert_array_equal(got, values)
    pieces = np.split(laid, sorted(min(cut, len(values)) for cut in cuts))
    paths = [str(folder / f"{i}.npy") for i in range(len(pieces))]
    for path, piece in zip(paths, pieces, strict=True):
        np.save(path, piece)
    got = open_source(paths, "embeddings", "emb").matrix()
    np.testing.assert_array_equal(got, values)


@given(st.lists(st.integers(0, 3000), unique=True), st.integers(1, 5), st.randoms())
def test_natural_order(numbers, width, shuffle):
    names = [f"shard{i:0{width}}_of_9.npy" for i in sorted(numbers)]
    mixed = names.copy()
    shuffle.shuffle(mixed)
    assert [str(p) for p in sorted(map(Path, mixed), key=natural_key)] == names


@given(st.lists(st.text("a1023_.", min_size=1, max_size=8), unique=True), st.integers())
def test_natural_order_does_not_depend_on_the_folder(names, seed):
    mixed = names.copy()
    random.Random(seed).shuffle(mixed)
    in_order = [sorted(map(Path, each), key=natural_key) for each in (names, mixed)]
    assert in_order[0] == in_order[1]


@given(st.lists(st.integers(-5, 2**64 - 1), min_size=1, max_size=5))
def test_ids_of_any_width(tmp_path_factory, values):
    kind = np.int64 if max(values) < 2**63 else np.uint64
    values = [v for v in values if np.iinfo(kind).min <= v]
    path = tmp_path_factory.mktemp("ids") / "ids.npy"
    np.save(path, np.array(values, kind))
    assert open_source([str(path)], "rows", "include").column().to_pylist() == values
