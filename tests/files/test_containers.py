"""Arrays in other containers: safetensors, files of vectors, HDF5, zarr, ``.npy.gz``, ORC."""

import gzip
import json
import os
import shutil
import struct
import warnings
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pyarrow as pa
import pytest
import zarr
from pyarrow import orc
from safetensors.numpy import save_file

from d2cli.errors import DataError
from d2cli.files.epochs import open_epochs
from d2cli.files.formats import fields
from d2cli.files.formats.converted import Reading
from d2cli.files.sources import open_source


def source(path, key=None, role="embeddings", **more):
    return open_source([str(path)], role, "emb", key, **more)


def refusal(path, key=None, role="embeddings"):
    with pytest.raises(DataError) as error:
        source(path, key, role).matrix()
    return error.value


def vecs(values):
    width = np.full((len(values), 1), values.shape[1], "<i4")
    return np.hstack([width.view("u1"), np.ascontiguousarray(values).view("u1")]).tobytes()


def fbin(values):
    return struct.pack("<II", *values.shape) + values.tobytes()


def write_h5(path, emb, scores, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("model/emb", data=emb, **options)
        file["scores"] = scores
        file["ids"] = [f"id{i}" for i in range(len(scores))]
        file.attrs["made by"] = "a test"


def write_zarr(path, emb, scores, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(str(path), mode="w", **options)
        for name, values in (("model/emb", emb), ("scores", scores)):
            array = group.create_array(name, shape=values.shape, dtype=values.dtype,
                                       chunks=(7, *values.shape[1:]))  # fmt: skip
            array[:] = values


def write_zip(path, emb, scores):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = zarr.storage.ZipStore(str(path), mode="w")
        array = zarr.create_array(store, shape=emb.shape, dtype=emb.dtype, chunks=(7, 4))
        array[:] = emb
        store.close()


WRITERS = {
    "e.safetensors": lambda e, s: save_file({"scores": s, "model.emb": e}, "e.safetensors"),
    "e.fbin": lambda e, s: Path("e.fbin").write_bytes(fbin(e)),
    "e.fvecs": lambda e, s: Path("e.fvecs").write_bytes(vecs(e)),
    "e.h5": lambda e, s: write_h5("e.h5", e, s),
    "e.hdf5": lambda e, s: write_h5("e.hdf5", e, s, chunks=(7, 3), compression="gzip"),
    "e.bin": lambda e, s: write_h5("e.bin", e, s, chunks=(7, 3), shuffle=True),
    "e.zarr": lambda e, s: write_zarr("e.zarr", e, s),
    "folder": lambda e, s: write_zarr("folder", e, s, zarr_format=2),
    "e.zip": lambda e, s: write_zip("e.zip", e, s),
    "e.npy.gz": lambda e, s: Path("e.npy.gz").write_bytes(gzip.compress(npy(e))),
    "f.npy.gz": lambda e, s: Path("f.npy.gz").write_bytes(gzip.compress(npy(np.asfortranarray(e)))),
    "e.orc": lambda e, s: orc.write_table(
        pa.table({"emb": pa.array(e.tolist(), pa.list_(pa.float32())), "score": s}), "e.orc"
    ),
}
MAPPED = ("e.safetensors", "e.fbin", "e.h5")


def npy(values):
    np.save("plain.npy", values)
    return Path("plain.npy").read_bytes()


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("block", [100, fields.BLOCK_BYTES])
def test_every_container_gives_the_same_selection(same, data, monkeypatch, name, block):
    monkeypatch.setattr(fields, "BLOCK_BYTES", block)
    WRITERS[name](data.emb, data.scores)
    layout = source(name, skim=True).layout()
    assert (layout.rows, layout.width, layout.dtype) == (40, 4, np.float32)
    assert layout.mapped == (name in MAPPED)
    assert layout.size > 0
    same(emb=name)


@pytest.mark.parametrize("name", ["e.safetensors", "e.h5", "e.hdf5", "e.zarr", "e.orc"])
def test_scores_in_containers(same, data, name):
    WRITERS[name](data.emb, data.scores)
    same(scores=name)
    assert "model/emb" in refusal(name, "absent").hint or name in ("e.safetensors", "e.orc")


def test_a_folder_of_stores(same, data):
    Path("shards").mkdir()
    for i, rows in ((2, slice(0, 25)), (10, slice(25, 40))):
        write_zarr(f"shards/{i}.zarr", data.emb[rows], data.scores[rows])
    same(emb="shards", scores="shards")
    same(emb="shards/*.zarr", scores="shards")


@pytest.mark.parametrize(("ending", "kind"), [("u8bin", np.uint8), ("i8bin", np.int8)])
def test_vectors_of_bytes(run_cli, ending, kind):
    values = np.arange(-20, 20).reshape(10, 4).astype(kind)
    path = Path(f"e.{ending}")
    path.write_bytes(fbin(values))
    np.testing.assert_array_equal(source(path).matrix(), values)
    bits = source(path, reading=Reading(bits=True)).matrix()
    assert bits.shape == (10, 32)


@pytest.mark.parametrize(("ending", "kind"), [("bvecs", np.uint8), ("ivecs", np.int32)])
def test_prefixed_vectors(run_cli, ending, kind):
    values = np.arange(40).reshape(10, 4).astype(kind)
    Path(f"e.{ending}").write_bytes(vecs(values))
    np.testing.assert_array_equal(source(f"e.{ending}").matrix(), values)


def test_first_bytes_of_vectors_can_be_those_of_another_format(run_cli):
    values = np.ones((640, 3), np.float32)  # 640 is 80 02 00 00, as a pickle begins
    Path("e.fbin").write_bytes(fbin(values))
    assert source("e.fbin").matrix().shape == (640, 3)


def test_bfloat16_of_safetensors(run_cli):
    values = np.random.default_rng(0).normal(size=(9, 5)).astype(ml_dtypes.bfloat16)
    save_file({"emb": values, "x": np.ones(3, np.int8)}, "e.safetensors")
    found = source("e.safetensors")
    np.testing.assert_array_equal(found.matrix(), values.astype(np.float32))
    assert found.notices == []


def test_epochs_in_hdf5_and_zarr(run_cli, monkeypatch):
    monkeypatch.setattr(fields, "BLOCK_BYTES", 64)
    values = np.random.default_rng(0).normal(size=(4, 11, 3)).astype(np.float32)
    with h5py.File("z.h5", "w") as file:
        file.create_dataset("logits", data=values, chunks=(2, 3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array("z.zarr", shape=values.shape, dtype="f4", chunks=(1, 4, 3))
        array[:] = values
    for path in ("z.h5", "z.zarr"):
        epochs = open_epochs([path], "logits", None, None)
        assert (epochs.count, epochs.n, epochs.classes) == (4, 11, 3)
        found = np.zeros_like(values)
        for epoch, start, block, _, _ in epochs.blocks(epochs.frame(), range(1, 4)):
            found[epoch, start : start + len(block)] = block
        np.testing.assert_array_equal(found[1:], values[1:])


def test_ids_of_hdf5(data, select):
    order = np.random.default_rng(0).permutation(40)
    for path, rows in (("e.h5", np.arange(40)), ("s.h5", order)):
        with h5py.File(path, "w") as file:
            file["id"] = [data.ids[i] for i in rows]
            file["emb"], file["score"] = data.emb[rows], data.scores[rows]
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 9)[0] == 0
    expected = Path("selected.npy").read_bytes()
    code, _, err = select("--emb", "e.h5", "--scores", "s.h5", "--size", 9)
    assert code == 0, err
    assert Path("selected.npy").read_bytes() == expected


def test_layouts_read_no_data(run_cli):
    """Of a file whose data are far larger than the machine: it is sparse, and mapped or chunked."""
    n = 10**8
    with h5py.File("e.h5", "w") as file:
        file.create_dataset("emb", shape=(n, 64), dtype="f4", chunks=(1000, 64))
        file["emb"][:1000] = 1
    with Path("e.fbin").open("wb") as file:
        file.write(struct.pack("<II", n, 64))
        os.truncate(file.fileno(), 8 + n * 256)
    for path in ("e.h5", "e.fbin"):
        layout = source(path, skim=True).layout()
        assert (layout.rows, layout.width) == (n, 64)
        assert layout.reading < 100 << 20


# -- what is wrong --------------------------------------------------------------------------------
def test_arrays_that_were_never_written(run_cli):
    with h5py.File("e.h5", "w") as file:
        file.create_dataset("emb", shape=(9, 4), dtype="f4", chunks=(3, 4))
    assert "emb: holds no data: it was created and never written" in refusal("e.h5", "emb").message
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = zarr.create_array("e.zarr", shape=(9, 4), dtype="f4", chunks=(3, 4))
    assert "never written" in refusal("e.zarr").message
    array[:6] = 1
    found = source("e.zarr")
    assert found.notices == ["e.zarr: 1 of 3 chunks are absent and read as 0.0"]
    array[:] = 1
    assert source("e.zarr").notices == []


def test_virtual_datasets_whose_files_are_gone(run_cli):
    with h5py.File("part.h5", "w") as file:
        file["x"] = np.ones((9, 4), "f4")
    layout = h5py.VirtualLayout((9, 4), "f4")
    layout[:] = h5py.VirtualSource("part.h5", "x", (9, 4))
    with h5py.File("e.h5", "w") as file:
        file.create_virtual_dataset("emb", layout)
    assert source("e.h5").matrix().sum() == 36
    os.unlink("part.h5")
    assert "part.h5 is not there" in refusal("e.h5", "emb").message


@pytest.mark.parametrize("name", [n for n in WRITERS if Path(n).suffix and n != "e.zarr"])
def test_cut_files_are_refused(run_cli, name):
    values = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    WRITERS[name](values, values[:, 0].copy())
    content = Path(name).read_bytes()
    for length in (1, 7, 9, 60, len(content) // 2, len(content) - 20, len(content) - 1):
        if name == "e.fvecs" and length % 20 == 0:
            continue  # a file of fewer vectors
        Path(name).write_bytes(content[:length])
        try:
            found = source(name).matrix()
        except DataError as error:
            assert name in error.message
        else:  # what is missing is behind the data
            np.testing.assert_array_equal(found, values)


def test_a_store_without_some_of_its_files(run_cli):
    values = np.ones((40, 4), np.float32)
    write_zarr("e.zarr", values, values[:, 0])
    shutil.copytree("e.zarr", "copy.zarr")
    Path("copy.zarr/model/emb/zarr.json").write_text("{")
    assert "copy.zarr" in refusal("copy.zarr").message
    chunk = next(p for p in Path("e.zarr/model/emb").rglob("*") if p.is_file() and p.name == "0")
    chunk.write_bytes(b"noise")
    assert "e.zarr: cannot be read as zarr" in refusal("e.zarr").message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (struct.pack("<II", 10, 4), "10 vectors of 4 float32 values, which are not the 8 bytes"),
        (struct.pack("<II", 2**32 - 1, 2**32 - 1) + bytes(9), "which are not the 17 bytes"),
        (b"", "the file is empty"),
        (bytes(5), "is too short for a .fbin file"),
    ],
)
def test_sizes_in_vector_files_must_fit(run_cli, content, says):
    Path("e.fbin").write_bytes(content)
    assert says in refusal("e.fbin").message


def test_lengths_in_vector_files_must_be_equal(run_cli):
    values = np.ones((10, 4), np.float32)
    content = bytearray(vecs(values))
    content[20 * 7 : 20 * 7 + 4] = struct.pack("<i", 3)
    Path("e.fvecs").write_bytes(content)
    assert "row 7 has 3 values, the rows before have 4" in refusal("e.fvecs").message
    for width in (0, -1, 5):
        Path("e.fvecs").write_bytes(struct.pack("<i", width) + bytes(16))
        assert "which do not divide" in refusal("e.fvecs").message


def test_provenance_of_a_store(data, select, run_cli):
    write_zarr("e.zarr", data.emb, data.scores)
    args = "--emb", "e.zarr", "--scores", "scores.npy", "--size", 9
    assert select(*args)[0] == 0
    described = json.loads(Path("selected.npy.json").read_text())["inputs"]["emb"]
    assert "e.zarr/model/emb/zarr.json" in described["path"]
    code, out, err = select("--emb", "e.zarr", "--scores", "e.zarr", "--size", 9, "--plan")
    assert code == 0
    assert "e.zarr: model/emb: 40 × 4 float32" in out + err
    write_zarr("e.zarr", data.emb[::-1], data.scores)
    assert run_cli("graph", "--emb", "e.zarr", "--out", "g.arrow", "-k", 4)[0] == 0
    write_zarr("e.zarr", data.emb, data.scores)
    code, _, err = select("--graph", "g.arrow", "--scores", "scores.npy", "--size", 9)
    assert (code, "which has changed since" in err) == (1, True)
