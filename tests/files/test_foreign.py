"""Files that are not read are named, with one line of Python that converts what was asked for."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import scipy.io

from d2cli.errors import DataError
from d2cli.files.sources import open_source

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)


def refusal(path, role="embeddings", option="emb", key=None):
    with pytest.raises(DataError) as error:
        open_source([str(path)], role, option, key)
    assert "cut off" not in f"{error.value.message} {error.value.hint}"
    assert str(path) in error.value.message
    return error.value


def line_of(error):
    """The line of Python in a hint."""
    return "import" + error.hint.partition("import")[2].partition("; of a dictionary")[0]


def npy(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def packed_by(codec):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(npy(VALUES))
    return sink.getvalue().to_pybytes()


# -- lines of Python that can be run here ---------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("e.npy.zst", lambda: packed_by("zstd"), "is compressed by zstd"),
        ("e.npy.lz4", lambda: packed_by("lz4"), "is compressed by lz4"),
        ("e.npy.bz2", lambda: bz2.compress(npy(VALUES)), "is compressed by bzip2"),
        ("e.npy.xz", lambda: lzma.compress(npy(VALUES)), "is compressed by xz"),
    ],
)
def test_compressed_files(run_cli, name, content, says):
    Path(name).write_bytes(content())
    error = refusal(name)
    assert says in error.message
    exec(line_of(error))
    np.testing.assert_array_equal(open_source(["e.npy"], "embeddings", "emb").matrix(), VALUES)


def test_matlab(run_cli):
    scipy.io.savemat("m.mat", {"feats": VALUES})
    error = refusal("m.mat", key="feats")
    assert "is a Matlab file" in error.message
    exec(line_of(error))
    np.testing.assert_array_equal(np.load("feats.npy"), VALUES)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["d.pkl", "d.pickle", "d", "d.npy", "d.bin"])
def test_pickles(run_cli, protocol, name):
    scores = {"forgetting": [1.0, 2.0], "el2n": [3.0, 4.0]}
    Path(name).write_bytes(pickle.dumps(scores, protocol))
    error = refusal(name, "scores", "scores", "forgetting")
    assert "is a pickle" in error.message
    exec(line_of(error))
    assert np.load("forgetting.npy").tolist() == [1, 2]
    error = refusal(name, "labels", "labels")
    assert "numpy.save('labels.npy', numpy.asarray(d))" in error.hint
    assert "of a dictionary take d['NAME']" in error.hint


def test_a_dictionary_in_npy(run_cli):
    np.save("d.npy", {"forgetting": [1.0, 2.0]})
    error = refusal("d.npy", "scores", "scores", "forgetting")
    assert "holds pickled Python objects" in error.message
    exec(line_of(error))
    assert np.load("forgetting.npy").tolist() == [1, 2]
    np.save("d.npy", np.array([np.ones(3), np.zeros(3), None], object)[:2])
    error = refusal("d.npy")
    exec(line_of(error))
    assert np.load("emb.npy").shape == (2, 3)


def test_torch_files(run_cli):
    with zipfile.ZipFile("d.pt", "w") as archive:
        archive.writestr("d/data.pkl", b"")
        archive.writestr("d/data/0", b"")
    Path("old.pth").write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2))
    for path in ("d.pt", "old.pth"):
        error = refusal(path, "scores", "scores", "forgetting")
        assert "is a PyTorch file" in error.message
        assert f"torch.load('{path}', map_location='cpu')" in error.hint
        assert "numpy.save('forgetting.npy', d['forgetting'].float().numpy())" in error.hint


def test_a_pickle_of_pandas(run_cli):
    Path("d.pkl").write_bytes(b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x11pandas.core.frame\x94.")
    error = refusal("d.pkl", "scores", "scores", "loss")
    assert line_of(error) == "import pandas; pandas.read_pickle('d.pkl').to_parquet('d.parquet')"


@pytest.mark.parametrize("size", [4 * 3 * 40, 4 * 3 * 40 + 1])
def test_a_raw_memmap_called_npy(run_cli, size):
    rng = np.random.default_rng(0)
    Path("e.npy").write_bytes(rng.bytes(size))
    error = refusal("e.npy")
    assert "not a .npy header: np.memmap needs shape and dtype" in error.message
    assert ("can be 120 float32 values" in error.message) == (size % 4 == 0)
    if size % 4 == 0:
        exec(line_of(error).replace("N, D", "40, 3"))
        assert np.load("emb.npy").shape == (40, 3)


def test_memmaps_that_begin_as_another_format_might(run_cli):
    """80 03 is how pickles begin, too."""
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    for start in (b"\x80\x03\x9f\x3f", b"\x80\x02\xff\xff", b"\x80\x05\x00\x00"):
        Path("e.npy").write_bytes(start + values.tobytes()[4:])
        assert "np.memmap needs shape and dtype" in refusal("e.npy").message


def test_databases(run_cli):
    with sqlite3.connect("d.db") as base:
        base.execute("create table scores (id text, el2n real)")
    base.close()
    assert "is an SQLite database" in refusal("d.db").message
    Path("d.duckdb").write_bytes(bytes(8) + b"DUCK" + bytes(4000))
    error = refusal("d.duckdb", key="items")
    assert line_of(error).endswith(
        "duckdb.connect('d.duckdb').table('items').write_parquet('d.parquet')"
    )


def test_archives(run_cli):
    Path("a.npy").write_bytes(npy(VALUES))
    with tarfile.open("d.tar", "w") as archive:
        archive.add("a.npy")
    error = refusal("d.tar")
    assert "is a tar archive" in error.message
    Path("d.tar.gz").write_bytes(gzip.compress(Path("d.tar").read_bytes()))
    assert "is a tar archive" in refusal("d.tar.gz").message
    for member, says in (
        ("xl/workbook.xml", "is an Excel file"),
        ("scores.csv", "is a zip archive that holds no arrays, but scores.csv"),
    ):
        with zipfile.ZipFile("d.zip", "w") as archive:
            archive.writestr(member, "x")
        error = refusal("d.zip")
        assert says in error.message
        assert "d.zip" in line_of(error)


MAGIC = {
    "is an Avro file": b"Obj\x01\x04\x14avro.codec",
    "is an image (PNG), not embeddings": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "is an image (JPEG)": b"\xff\xd8\xff\xe0\0\x10JFIF",
    "is an image (GIF)": b"GIF89a\0\0",
    "is a faiss index": b"IxFI\x10\0\0\0" + bytes(30),
    "is a Lance data set": bytes(100) + b"LANC",
    "is an R data file": gzip.compress(b"RDX3\nX\n\0\0\0\x03"),
    "is an Excel file of old versions": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(100),
    "is a TFRecord file": (50).to_bytes(8, "little") + b"abcd" + b"\x0a" + bytes(60),
    "is a GGUF model": b"GGUF\x03\0\0\0",
    "is Feather version 1": b"FEA1" + bytes(60),
}


@pytest.mark.parametrize("says", MAGIC)
def test_formats_are_named(run_cli, says):
    Path("file").write_bytes(MAGIC[says])
    assert says in refusal("file").message


def test_protobuf_by_ending(run_cli):
    Path("model.onnx").write_bytes(b"\x08\x07\x12\0")
    assert "is a protobuf message or a model" in refusal("model.onnx").message


def test_text_that_is_no_table(run_cli):
    Path("e.npy").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n"
    )
    assert "is a pointer of Git LFS" in refusal("e.npy").message
    Path("e.csv").write_text("<!DOCTYPE html><html><body>404</body></html>\n")
    assert "is a web page or XML" in refusal("e.csv").message
    Path("e.json").write_text(json.dumps(VALUES.tolist()))
    error = refusal("e.json")
    assert "is one JSON document, not JSON Lines" in error.message
    exec(line_of(error))
    np.testing.assert_array_equal(np.load("emb.npy"), VALUES)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_records_of_one_json_document_are_written_as_they_are(run_cli):
    records = [{"id": "007", "score": 1e-12, "text": "é\u2028\n"}, {"id": "08", "score": 2.0}]
    Path("e.json").write_text(json.dumps(records, ensure_ascii=False), encoding="utf-8")
    exec(line_of(refusal("e.json")))
    assert [json.loads(line) for line in Path("e.jsonl").read_text().splitlines()] == records
    source = open_source(["e.jsonl"], "scores", "scores", "score")
    assert source.vector().tolist() == [1e-12, 2.0]
    assert source.ids().to_pylist() == ["007", "08"]


def test_packages_that_are_not_installed(run_cli, monkeypatch):
    from d2cli.files.formats import extras

    def absent(name):
        raise ImportError(name)

    Path("e.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    Path("e.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    Path("e.zarr").mkdir()
    Path("e.zarr/zarr.json").write_text("{}")
    monkeypatch.setattr(extras.importlib, "import_module", absent)
    for path, extra in (("e.h5", "hdf5"), ("e.safetensors", "safetensors"), ("e.zarr", "zarr")):
        assert refusal(path).hint == f"pip install 'd2prune[{extra}]'"


def test_noise_is_of_no_known_format(run_cli):
    Path("file").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(DataError, match=r"is not \.npy.*or another known format"):
        open_source(["file"], "embeddings", "emb")
