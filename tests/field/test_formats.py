"""Field cases E: formats that people have are read right, or named with what to do."""

import csv
import decimal
import gzip
import io
import json
import pickle
import struct
import sys
import tarfile
import uuid
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.field.make import (
    EPOCHS,
    IDS,
    LOGITS,
    N,
    P,
    S,
    X,
    Y,
    array,
    at,
    column,
    write,
    write_table,
)

SCORES = ("--scores", "s.npy")
#: Small integers: float32 and every other type hold the same values.
WHOLE = np.random.default_rng(14).integers(-100, 100, (N, 16)).astype(np.float32)


@pytest.fixture(autouse=True)
def plain(field):
    array("s.npy", S)
    array("emb.npy", X)
    array("y.npy", Y)


def named(got, *names, python=True):
    """A refusal that names the file, and has one line of Python that makes a file to read."""
    got.refused(names=names)
    if python:
        got.says_one_of("np.", "numpy", ".save(", "to_parquet", "python", "import ")
    return got


def read_or_named(field, path, *args, want=None, scores=SCORES):
    """The selection is that of plain files, or the file is named with one line of Python."""
    got = field.select("--emb", path, *scores, *args)
    want = field.wanted() if want is None else want
    return field.same(got, want) if got.code == 0 else named(got, path)


# -- E1: quantised vectors ------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.int64])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_integer_vectors_are_numbers(field, dtype, metric):
    x = (WHOLE + 128 if dtype == np.uint8 else WHOLE).astype(dtype)
    array("e.npy", x)
    want = field.wanted(x.astype(np.float32), S, "--metric", metric)
    got = field.select("--emb", "e.npy", *SCORES, "--metric", metric)
    if dtype in (np.int8, np.uint8) or got.code == 0:
        field.same(got, want)
    else:
        got.refused(names=["e.npy"])


@pytest.mark.parametrize("ending", ["npz", "parquet", "arrow"])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_integer_vectors_of_tables(field, ending, dtype):
    x = (WHOLE + 128 if dtype == np.uint8 else WHOLE).astype(dtype)
    e = write(f"e.{ending}", embedding=x)
    field.works("--emb", e, *SCORES, want=field.wanted(x.astype(np.float32)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_integer_vectors_in_staged_steps(field, dtype):
    x = (WHOLE + 128 if dtype == np.uint8 else WHOLE).astype(dtype)
    array("e.npy", x)
    steps = field.staged(("--emb", "e.npy"), SCORES, field.wanted(x.astype(np.float32)))
    assert all(step.code == 0 for step in steps)


# -- E2: packed bits ------------------------------------------------------------------------------
BITS = np.random.default_rng(15).integers(0, 2, (N, 64)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["ubinary", "binary"])
@pytest.mark.parametrize("ending", ["npy", "npz", "parquet"])
def test_packed_bits_are_told_apart(field, kind, ending):
    """``quantize_embeddings(x, "ubinary")`` packs 8 dimensions in a byte; "binary" minus 128."""
    packed = np.packbits(BITS, axis=1)
    if kind == "binary":
        packed = (packed.astype(np.int16) - 128).astype(np.int8)
    e = array("e.npy", packed) if ending == "npy" else write(f"e.{ending}", embedding=packed)
    if kind == "ubinary":
        field.select("--emb", e, *SCORES).says_one_of("np.unpackbits", "--emb-bits")
    got = field.select("--emb", e, *SCORES, "--emb-bits")
    if "No such option" in got.err:
        got.refused("np.unpackbits")
    else:
        field.same(got, field.wanted(BITS.astype(np.float32)))


def test_hints_for_packed_bits_do_not_cast(field):
    array("e.npy", np.packbits(BITS, axis=1))
    got = field.select("--emb", "e.npy", *SCORES)
    got.never_says("astype(np.float32)", "astype('float32')", 'astype("float32")', ".astype('f4')")


# -- E3: bfloat16 ---------------------------------------------------------------------------------
@pytest.fixture
def bfloat16():
    return pytest.importorskip("ml_dtypes").bfloat16


def test_bfloat16_saved_by_numpy(field, bfloat16):
    x = X.astype(bfloat16)
    array("e.npy", x)
    assert np.load("e.npy").dtype.kind == "V"
    want = field.wanted(x.astype(np.float32))
    field.works("--emb", "e.npy", *SCORES, want=want)
    np.savez("e.npz", emb=x)
    field.works("--emb", "e.npz", *SCORES, want=want)
    for step in field.staged(("--emb", "e.npy"), SCORES, want):
        step.done()


def test_bfloat16_scores(field, bfloat16):
    s = S.astype(bfloat16)
    array("sb.npy", s)
    want = field.wanted(X, s.astype(np.float64))
    got = field.select("--emb", "emb.npy", "--scores", "sb.npy")
    field.same(got, want) if got.code == 0 else got.refused(names=["sb.npy"])


def test_bfloat16_logits(field, bfloat16):
    z = LOGITS.astype(bfloat16)
    array("z.npy", z)
    array("w.npy", z.astype(np.float32))
    given = ("score", "--kind", "el2n", "--labels", "y.npy", "--logits")
    field.run(*given, "w.npy", "--out", "w_s.npy").done()
    got = field.run(*given, "z.npy", "--out", "z_s.npy")
    if got.code == 0:
        assert np.allclose(np.load("z_s.npy"), np.load("w_s.npy"))
    else:
        got.refused(names=["z.npy"])


def test_bit_patterns_of_bfloat16_are_not_numbers(field):
    """``tensor.view(torch.uint16)`` holds bit patterns; as numbers they would order nothing."""
    bits = (np.ascontiguousarray(X).view(np.uint32) >> 16).astype(np.uint16)
    array("e.npy", bits)
    got = field.select("--emb", "e.npy", *SCORES)
    if got.code == 0:
        field.same(got, field.wanted((bits.astype(np.uint32) << 16).view(np.float32)))
    else:
        got.refused("bfloat16", names=["e.npy"]).never_says("astype(np.float32)")


def test_records_of_two_bytes_that_are_no_bfloat16(field):
    """A structured dtype of two bytes is no bfloat16."""
    np.save("e.npy", np.zeros((N, 16), np.dtype([("a", "u1"), ("b", "u1")])))
    field.select("--emb", "e.npy", *SCORES).refused(names=["e.npy"])


# -- E4: other formats ----------------------------------------------------------------------------
def as_safetensors(path, x):
    pytest.importorskip("safetensors")
    from safetensors.numpy import save_file

    save_file({"embeddings": x}, path)


def as_hdf5(path, x):
    with pytest.importorskip("h5py").File(path, "w") as file:
        file["embeddings"] = x


def as_hdf5_chunks(path, x):
    with pytest.importorskip("h5py").File(path, "w") as file:
        file.create_dataset("features", data=x, chunks=(64, 5), compression="gzip")


def as_zarr(path, x):
    zarr = pytest.importorskip("zarr")
    made = zarr.open_array(path, mode="w", shape=x.shape, chunks=(64, 8), dtype=x.dtype)
    made[:] = x


def as_zarr_group(path, x):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(path, mode="w")
    made = group.create_array("embeddings", shape=x.shape, chunks=(64, 8), dtype=x.dtype)
    made[:] = x


def as_fbin(path, x):
    Path(path).write_bytes(struct.pack("<II", *x.shape) + x.tobytes())


def as_fvecs(path, x):
    count = np.full((len(x), 1), x.shape[1], np.int32)
    Path(path).write_bytes(np.hstack([count, x.view(np.int32)]).tobytes())


def as_gzip_npy(path, x):
    made = io.BytesIO()
    np.save(made, x)
    Path(path).write_bytes(gzip.compress(made.getvalue()))


def as_jsonl(path, x):
    write(path, id=IDS, embedding=x)


def as_json(path, x):
    Path(path).write_text(json.dumps([{"embedding": row.astype(float).tolist()} for row in x]))


def as_utf16(path, x):
    write("plain.csv", id=IDS, emb=x)
    Path(path).write_text(Path("plain.csv").read_text(), encoding="utf-16")


def as_bom(path, x):
    write("plain.csv", id=IDS, emb=x)
    Path(path).write_text(Path("plain.csv").read_text(), encoding="utf-8-sig")


def as_tar(path, x):
    with tarfile.open(path, "w:gz" if path.endswith("gz") else "w") as tar:
        for i, row in enumerate(x):
            made = io.BytesIO()
            np.save(made, row)
            info = tarfile.TarInfo(f"{i:06}.npy")
            info.size = len(made.getvalue())
            tar.addfile(info, io.BytesIO(made.getvalue()))


def as_zip(path, x):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "embeddings\n")


def as_gzip_csv(path, x):
    write(path, id=IDS, emb=x)


def as_orc(path, x):
    orc = pytest.importorskip("pyarrow.orc")
    orc.write_table(pa.table({"embedding": list(x)}), path)


def as_raw(path, x):
    Path(path).write_bytes(x.tobytes())


def as_avro(path, x):
    Path(path).write_bytes(b"Obj\x01" + bytes(200))


def as_sqlite(path, x):
    import sqlite3

    with sqlite3.connect(path) as made:
        made.execute("create table emb (id text, x real)")


def as_xlsx(path, x):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("[Content_Types].xml", "<Types/>")
        file.writestr("xl/workbook.xml", "<workbook/>")


def as_mat5(path, x):
    Path(path).write_bytes(
        b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\1IM" + bytes(99)
    )


def as_zstd(path, x):
    made = io.BytesIO()
    np.save(made, x)
    Path(path).write_bytes(pa.compress(made.getvalue(), "zstd", asbytes=True))


def as_bz2(path, x):
    import bz2

    made = io.BytesIO()
    np.save(made, x)
    Path(path).write_bytes(bz2.compress(made.getvalue()))


#: By the name of the file: how it is made, and whether the issue lists it as read.
FORMATS = {
    "e.safetensors": (as_safetensors, True),
    "model.bin": (as_safetensors, False),
    "e.hdf5": (as_hdf5, True),
    "e.h5": (as_hdf5_chunks, True),
    "e.zarr": (as_zarr, True),
    "g.zarr": (as_zarr_group, True),
    "e.fbin": (as_fbin, True),
    "e.fvecs": (as_fvecs, True),
    "e.npy.gz": (as_gzip_npy, False),
    "e.jsonl": (as_jsonl, True),
    "e.ndjson": (as_jsonl, False),
    "e.jsonl.gz": (as_jsonl, True),
    "e.json": (as_json, False),
    "e.csv.gz": (as_gzip_csv, True),
    "utf16.csv": (as_utf16, False),
    "bom.csv": (as_bom, True),
    "e.tar": (as_tar, False),
    "e.tar.gz": (as_tar, False),
    "00000.tgz": (as_tar, False),
    "e.zip": (as_zip, False),
    "e.orc": (as_orc, False),
    "e.bin": (as_raw, False),
    "e.dat": (as_raw, False),
    "e.avro": (as_avro, False),
    "e.sqlite": (as_sqlite, False),
    "e.db": (as_sqlite, False),
    "e.xlsx": (as_xlsx, False),
    "e.mat": (as_mat5, False),
    "e.npy.zst": (as_zstd, False),
    "e.npy.bz2": (as_bz2, False),
}


@pytest.mark.parametrize("path", FORMATS)
def test_other_formats_of_embeddings(field, path):
    make, read = FORMATS[path]
    make(path, X)
    got = read_or_named(field, path)
    if read:
        got.done().has_line(path)


@pytest.mark.parametrize("path", [p for p, (_, read) in FORMATS.items() if read])
def test_other_formats_in_staged_steps_and_plans(field, path):
    FORMATS[path][0](path, X)
    for step in field.staged(("--emb", path), SCORES, field.wanted()):
        step.done()
    before = sorted(Path().rglob("*"))
    got = field.run("select", "--emb", path, *SCORES, "--ratio", 0.3, "--plan").done()
    assert "300" in got.out + got.err
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("path", ["e.safetensors", "e.hdf5", "e.fbin", "e.fvecs", "e.jsonl"])
def test_other_formats_that_really_are_cut_off(field, path):
    FORMATS[path][0](path, X)
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: len(content) // 2 + 3])
    got = field.select("--emb", path, *SCORES)
    assert got.code == 1 and path in got.err, got.line
    assert "defect" not in got.err, got.line


@pytest.mark.parametrize("path", [p for p, (_, read) in FORMATS.items() if read])
def test_shards_of_other_formats(field, path):
    make = FORMATS[path][0]
    ending = path.split(".", 1)[1]
    for i, rows in enumerate(np.split(np.arange(N), [110])):
        if make in (as_jsonl, as_gzip_csv, as_bom):
            write(f"d{i}.{ending}", emb=X[rows])
        else:
            make(f"d{i}.{ending}", X[rows])
    got = field.select("--emb", f"d*.{ending}", *SCORES)
    field.same(got, field.wanted())


@pytest.mark.parametrize("kind", ["hdf5", "zarr", "safetensors"])
def test_members_of_other_formats(field, kind):
    """Embeddings, scores and labels in one file, each by its key."""
    path = f"all.{kind}"
    parts = {"img": X, "txt": -X[:, :5], "el2n": S, "label": Y}
    if kind == "safetensors":
        pytest.importorskip("safetensors")
        from safetensors.numpy import save_file

        save_file({k: np.ascontiguousarray(v) for k, v in parts.items()}, path)
    elif kind == "hdf5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            for name, values in parts.items():
                file[f"train/{name}"] = values
        parts = {f"train/{name}": v for name, v in parts.items()}
    else:
        group = pytest.importorskip("zarr").open_group(path, mode="w")
        for name, values in parts.items():
            group.create_array(name, shape=values.shape, dtype=values.dtype)[:] = values
    img, txt, el2n, label = parts
    field.select("--emb", path, *SCORES).refused(img, txt, "--emb-key", names=[path])
    given = ("--emb", path, "--emb-key", img, "--scores", path, "--scores-key", el2n)
    more = ("--labels", path, "--labels-key", label, "--balance", "uniform")
    got = field.select(*given, *more)
    field.same(got, field.wanted(X, S, "--balance", "uniform", labels=Y))


def test_scores_in_other_formats(field):
    for path, text in (
        ("s.csv.gz", "id,el2n\n" + "".join(f"{i},{s}\n" for i, s in zip(IDS, S, strict=True))),
        ("s.jsonl", "".join(json.dumps({"el2n": s}) + "\n" for s in S)),
        ("s.txt.gz", "".join(f"{s}\n" for s in S)),
    ):
        content = text.encode()
        Path(path).write_bytes(gzip.compress(content) if path.endswith("gz") else content)
        got = field.select("--emb", "emb.npy", "--scores", path)
        field.same(got, field.wanted()) if got.code == 0 else got.refused(names=[path])


def test_u8bin(field):
    x = (WHOLE + 128).astype(np.uint8)
    Path("e.u8bin").write_bytes(struct.pack("<II", *x.shape) + x.tobytes())
    field.works("--emb", "e.u8bin", *SCORES, want=field.wanted(x.astype(np.float32)))
    x = WHOLE.astype(np.int8)
    Path("e.i8bin").write_bytes(struct.pack("<II", *x.shape) + x.tobytes())
    read_or_named(field, "e.i8bin", want=field.wanted(x.astype(np.float32)))


def test_bvecs_and_ivecs(field):
    x = (WHOLE + 128).astype(np.uint8)
    head = np.full((N, 1), 16, np.int32).view(np.uint8).reshape(N, 4)
    Path("e.bvecs").write_bytes(np.hstack([head, x]).tobytes())
    read_or_named(field, "e.bvecs", want=field.wanted(x.astype(np.float32)))


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64", "I8"])
def test_types_of_safetensors(field, dtype):
    """The header is JSON; every type that the format lists."""
    x = {"F16": X.astype("f2"), "F64": X.astype("f8"), "I8": WHOLE.astype("i1")}
    if dtype == "BF16":
        bits = (np.ascontiguousarray(X).view(np.uint32) >> 16).astype("<u2")
        data, want = bits.tobytes(), (bits.astype(np.uint32) << 16).view(np.float32)
    else:
        data, want = x[dtype].tobytes(), x[dtype].astype(np.float32)
    about = {"emb": {"dtype": dtype, "shape": [N, 16], "data_offsets": [0, len(data)]}}
    head = json.dumps({"__metadata__": {"format": "pt"}, **about}).encode()
    Path("e.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    pytest.importorskip("safetensors")
    pytest.importorskip("ml_dtypes")
    field.works("--emb", "e.safetensors", *SCORES, want=field.wanted(want))


@pytest.mark.parametrize(
    ("path", "module", "extra"),
    [("e.h5", "h5py", "hdf5"), ("e.zarr", "zarr", "zarr"), ("e.safetensors", "safetensors", "")],
)
def test_libraries_that_are_not_installed(field, monkeypatch, path, module, extra):
    FORMATS["e.hdf5" if extra == "hdf5" else path][0](path, X)
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    got = field.select("--emb", path, *SCORES)
    if got.code == 0:  # read without the library
        field.same(got, field.wanted())
    else:
        got.refused("pip install", names=[path]).says_one_of(f"d2prune[{extra}", "d2prune[")


# -- E5: raw memmap -------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["emb_raw.npy", "0.npy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_raw_memmap_called_npy(field, path, dtype):
    made = np.memmap(path, dtype=dtype, mode="w+", shape=(N, 16))
    made[:] = X
    made.flush()
    got = field.select("--emb", path, *SCORES)
    got.refused("np.memmap", "shape", "dtype", ".npy header", names=[path])
    got = field.select("--emb", "emb.npy", "--scores", path)
    got.refused("np.memmap", "shape", "dtype", names=[path])


def test_raw_memmap_of_zeros(field):
    """An array that was made and never filled is all zero bytes."""
    np.memmap("z.npy", dtype=np.float32, mode="w+", shape=(N, 16)).flush()
    field.select("--emb", "z.npy", *SCORES).refused("np.memmap", names=["z.npy"])


# -- E6: text -------------------------------------------------------------------------------------
def cells(style):
    if style == "list":
        return [str(row.astype(float).tolist()) for row in X]
    if style == "numpy":
        return [np.array2string(row, precision=9, max_line_width=40) for row in X]
    if style == "blanks":
        return [" ".join(map(str, row)) for row in X]
    if style == "tuple":
        return [str(tuple(row.astype(float).tolist())) for row in X]
    return [np.array2string(row, threshold=5) for row in X]


@pytest.mark.parametrize("style", ["list", "numpy", "blanks", "tuple", "shortened"])
@pytest.mark.parametrize("key", [(), ("--emb-key", "embedding")])
def test_lists_in_cells_of_a_csv(field, style, key):
    with open("e.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "embedding"])
        rows.writerows(zip(IDS, cells(style), strict=True))
    got = field.select("--emb", "e.csv", *key, *SCORES)
    if style == "list":
        got.done()
    if style == "shortened":
        got.refused(names=["e.csv"])
    elif got.code == 0:
        field.same(got, field.wanted(X))
    else:
        got.refused("embedding", names=["e.csv"])


def test_lists_in_cells_with_shuffled_scores(field):
    k = np.array([f"https://example.org/{i}" for i in range(N)])
    write("e.csv", url=k, embedding=pa.array(cells("list")))
    write("s.csv", url=at(k, P), score=S[P])
    field.right("--emb", "e.csv", "--scores", "s.csv", want=field.wanted(), names=["s.csv"])


@pytest.mark.parametrize(
    "fault", ["[0.1, 0.2]", "[]", "nan", "", "[0.1, x]", "[" + "1e400, " * 15 + "1]"]
)
def test_bad_lists_in_cells_are_refused(field, fault):
    made = cells("list")
    made[7] = fault
    write("e.csv", id=IDS, embedding=pa.array(made))
    field.select("--emb", "e.csv", *SCORES).refused("embedding", names=["e.csv"])


@pytest.mark.parametrize(
    ("path", "delimiter", "header"),
    [
        ("e.txt", " ", ""),
        ("e.csv", " ", ""),
        ("e.dat", " ", ""),
        ("e.txt", "\t", ""),
        ("e.txt", ",", ""),
        ("e.csv", ",", ""),
        ("e.csv", ";", ""),
        ("e.tsv", "\t", ""),
        ("e.txt", " ", "x"),
        ("e.csv", ",", "x"),
        ("e.csv", ",", "a b, c"),
    ],
)
def test_text_of_savetxt(field, delimiter, header, path):
    np.savetxt(path, X, delimiter=delimiter, header=header, fmt="%.9g" if header else "%.18e")
    got = field.select("--emb", path, *SCORES)
    if delimiter == " " and not header:
        got.done()
    field.same(got, field.wanted()) if got.code == 0 else got.refused(names=[path])


@pytest.mark.parametrize("path", ["sc.txt", "sc.csv", "sc.dat"])
def test_scores_of_savetxt(field, path):
    np.savetxt(path, S)
    got = field.select("--emb", "emb.npy", "--scores", path)
    field.same(got, field.wanted(X, np.loadtxt(path))) if got.code == 0 else got.refused(
        names=[path]
    )


def semicolons(path, decimal_comma, columns):
    rows = zip(*columns.values(), strict=True)
    text = ";".join(columns) + "\n"
    for row in rows:
        line = ";".join(str(value) for value in row)
        text += (line.replace(".", ",") if decimal_comma else line) + "\n"
    Path(path).write_text(text)


@pytest.mark.parametrize("decimal_comma", [True, False])
def test_semicolons(field, decimal_comma):
    """Excel in many countries writes ``;`` between cells and ``,`` in numbers."""
    ids = np.arange(N) + 5000
    semicolons("e.csv", decimal_comma, {"id": ids, **{f"emb_{i}": X[:, i] for i in range(16)}})
    semicolons("sc.csv", decimal_comma, {"id": ids[P], "score": S[P]})
    array("e.npy", X)
    for emb, scores in (("e.csv", "s.npy"), ("emb.npy", "sc.csv"), ("e.csv", "sc.csv")):
        got = field.select("--emb", emb, "--scores", scores)
        if emb == "emb.npy" and got.code == 0:
            field.same(got, field.wanted(X, S[P]))  # ids that are no row numbers: by row
        elif got.code == 0:
            field.same(got, field.wanted())
        else:
            got.refused(names=[emb, scores])
            got.says_one_of("decimal", "separat", ";")


def test_thousands_in_numbers_are_not_cut(field):
    """``1,234.5`` in quotes must not become 1 or 1.234."""
    values = np.arange(N)[P] * 7.5 + 900
    Path("sc.csv").write_text("score\n" + "".join(f'"{v:,.2f}"\n' for v in values))
    got = field.select("--emb", "emb.npy", "--scores", "sc.csv")
    field.same(got, field.wanted(X, values)) if got.code == 0 else got.refused(names=["sc.csv"])


# -- E7: types of columns -------------------------------------------------------------------------
UUIDS = [
    uuid.UUID(int=int(i) * 2**90 + 12345, version=4)
    for i in np.random.default_rng(0).permutation(N)
]


@pytest.mark.parametrize("scores", ["uuid", "text", "binary"])
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_uuids_of_duckdb(field, scores, ending):
    """UUID in one table; UUID, text or 16 bytes in the other."""

    def as_type(kind, rows):
        raw = pa.array([UUIDS[i].bytes for i in rows], pa.binary(16))
        if kind == "uuid":
            return pa.ExtensionArray.from_storage(pa.uuid(), raw)
        return raw if kind == "binary" else pa.array([str(UUIDS[i]) for i in rows])

    e = write_table(f"e.{ending}", pa.table({"id": as_type("uuid", range(N)), "emb": list(X)}))
    s = write_table(f"sc.{ending}", pa.table({"id": as_type(scores, P), "score": S[P]}))
    got = field.select("--emb", e, "--scores", s)
    if scores == "uuid":
        got.done()
    field.same(got, field.wanted()) if got.code == 0 else got.refused(names=[e, s])
    if got.code == 0:
        field.select("--emb", e, "--scores", s, "--as", "id", out="kept.txt").done()
        kept = Path("kept.txt").read_text().split()
        assert kept == [str(UUIDS[i]) for i in field.wanted()]


def test_uuids_as_labels_are_refused_or_text(field):
    raw = pa.array([UUIDS[i].bytes for i in range(N)], pa.binary(16))
    write_table("l.parquet", pa.table({"label": pa.ExtensionArray.from_storage(pa.uuid(), raw)}))
    got = field.select("--emb", "emb.npy", *SCORES, "--labels", "l.parquet", "--balance", "uniform")
    assert got.code == 0 or got.refused(names=["l.parquet"])


@pytest.mark.parametrize("kind", [pa.decimal128(18, 6), pa.decimal256(40, 6), pa.decimal128(5, 4)])
def test_decimal_scores(field, kind):
    values = pa.array([decimal.Decimal(f"{s:.4f}") for s in S]).cast(kind)
    want = field.wanted(X, np.array([float(f"{s:.4f}") for s in S]))
    for ending in ("parquet", "arrow"):
        s = write_table(f"sc.{ending}", pa.table({"id": IDS, "score": values}))
        field.works("--emb", "emb.npy", "--scores", s, want=want)


@pytest.mark.parametrize("ending", ["parquet", "arrow", "jsonl"])
def test_nested_columns(field, ending):
    """``emb: struct<vector: list<float>, model: text>``."""
    if ending == "jsonl":
        rows = [{"id": i, "emb": {"vector": x.astype(float).tolist(), "model": "m"}, "m": {"s": s}}
                for i, x, s in zip(IDS.tolist(), X, S, strict=True)]  # fmt: skip
        Path("e.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        parts = {"vector": column(X), "model": pa.array(["m"] * N)}
        emb = pa.StructArray.from_arrays(list(parts.values()), list(parts))
        m = pa.StructArray.from_arrays([pa.array(S)], ["s"])
        write_table(f"e.{ending}", pa.table({"id": IDS.tolist(), "emb": emb, "m": m}))
    e = f"e.{ending}"
    got = field.select("--emb", e, "--emb-key", "emb.vector", *SCORES)
    field.same(got, field.wanted()).has_line(e, "emb.vector")
    got = field.select("--emb", e, "--emb-key", "emb.vector", "--scores", e, "--scores-key", "m.s")
    field.same(got, field.wanted())
    field.select("--emb", e, "--emb-key", "emb.vec", *SCORES).refused("emb.vec", names=[e])


def test_nested_columns_with_nulls_above(field):
    """A null struct has no vector, although its child may hold one."""
    mask = pa.array(np.isin(np.arange(N), [5, 77]))
    emb = pa.StructArray.from_arrays([column(X)], ["vector"], mask=mask)
    write_table("e.arrow", pa.table({"emb": emb}))
    got = field.select("--emb", "e.arrow", "--emb-key", "emb.vector", *SCORES)
    got.refused("5", names=["e.arrow"])


def test_column_whose_name_has_a_dot(field):
    write("e.parquet", **{"emb.vector": X})
    field.works("--emb", "e.parquet", "--emb-key", "emb.vector", *SCORES, want=field.wanted())
    field.works("--emb", "e.parquet", *SCORES, want=field.wanted())


LABELS = {
    "float": Y.astype(np.float64),
    "float32": Y.astype(np.float32),
    "bool": Y > 2,
    "text": np.array(["cat", "dog", "eel", "fox", "gnu"])[Y],
    "categories": pa.array(
        np.array(["cat", "dog", "eel", "fox", "gnu"])[Y].tolist()
    ).dictionary_encode(),
    "uint8": Y.astype(np.uint8),
    "decimal": pa.array([decimal.Decimal(int(v)) for v in Y]),
}


@pytest.mark.parametrize("kind", LABELS)
def test_types_of_labels(field, kind):
    values = LABELS[kind]
    plain_labels = (Y > 2).astype(int) if kind == "bool" else Y
    want = field.wanted(X, S, "--balance", "uniform", labels=plain_labels)
    write_table("l.parquet", pa.table({"label": column(values)}))
    given = ("--emb", "emb.npy", *SCORES, "--balance", "uniform", "--labels")
    got = field.select(*given, "l.parquet")
    if kind in ("float", "float32"):
        got.done()
    field.same(got, want) if got.code == 0 else got.refused(names=["l.parquet"])
    if not isinstance(values, pa.Array):
        got = field.select(*given, array("l.npy", values))
        field.same(got, want) if got.code == 0 else got.refused(names=["l.npy"])
        got = field.select(*given, write("l.csv", label=values))
        field.same(got, want) if got.code == 0 else got.refused(names=["l.csv"])


def test_labels_that_are_no_whole_numbers_are_refused(field):
    write("l.parquet", label=Y + 0.5)
    got = field.select("--emb", "emb.npy", *SCORES, "--labels", "l.parquet", "--balance", "uniform")
    got.refused(names=["l.parquet"])


def test_categories_of_polars(field):
    """IPC with ``dictionary<uint32, large_string>`` and ordered Enums, in several batches."""
    categories = pa.DictionaryArray.from_arrays(
        pa.array(np.arange(N), pa.uint32()), pa.array(IDS.tolist(), pa.large_string())
    )
    shuffled = pa.DictionaryArray.from_arrays(
        pa.array(P, pa.uint32()), pa.array(IDS.tolist(), pa.large_string()), ordered=True
    )
    write_table("e.arrow", pa.table({"id": categories, "emb": list(X)}))
    write_table("sc.arrow", pa.table({"id": shuffled, "score": S[P]}))
    field.works("--emb", "e.arrow", "--scores", "sc.arrow", want=field.wanted())


@pytest.mark.parametrize("kind", [pa.list_view(pa.float32()), pa.large_list_view(pa.float32()),
                                  pa.large_list(pa.float64()), pa.list_(pa.float16())])  # fmt: skip
def test_lists_of_other_types(field, kind):
    x = X.astype(np.float16).astype(np.float32)
    values = (
        pa.array([row.tolist() for row in x], kind) if "view" in str(kind) else column(x).cast(kind)
    )
    write_table("e.arrow", pa.table({"emb": values}))
    got = field.select("--emb", "e.arrow", *SCORES)
    field.same(got, field.wanted(x)) if got.code == 0 else got.refused("list", names=["e.arrow"])


def test_columns_that_are_not_read_are_listed_with_types(field):
    rows = pa.array([{"a": 1.0}] * N)
    write_table("e.parquet", pa.table({"caption": IDS.tolist(), "blob": rows}))
    field.select("--emb", "e.parquet", *SCORES).refused("blob", names=["e.parquet"])
    write_table("t.parquet", pa.table({"when": pa.array([0] * N, pa.timestamp("us"))}))
    got = field.select("--emb", "emb.npy", "--scores", "t.parquet")
    got.refused("when", "timestamp", names=["t.parquet"])


def test_strings_of_numbers_as_scores(field):
    """A parquet file of a CSV that was read as text."""
    write("t.parquet", score=S.astype(str))
    got = field.select("--emb", "emb.npy", "--scores", "t.parquet")
    if got.code == 0:
        field.same(got, field.wanted())
    else:
        got.refused("score", names=["t.parquet"])


# -- E8: cartography ------------------------------------------------------------------------------
def cartography(root="training_dynamics", count=EPOCHS, shuffle=True, guid=lambda i: 40000 + i,
                gold=Y):  # fmt: skip
    """What allenai/cartography writes: one JSON Lines file an epoch, in the loader's order."""
    rng = np.random.default_rng(16)
    Path(root).mkdir(parents=True, exist_ok=True)
    for e in range(count):
        order = rng.permutation(N) if shuffle else np.arange(N)
        z = LOGITS[e % EPOCHS].astype(float)
        rows = [{"guid": guid(int(i)), f"logits_epoch_{e}": z[i].tolist(),
                 "gold": int(gold[i])} for i in order]  # fmt: skip
        text = "".join(json.dumps(row) + "\n" for row in rows)
        Path(root, f"dynamics_epoch_{e}.jsonl").write_text(text)
    return root


KINDS = [
    "el2n",
    "aum",
    "forgetting",
    "entropy",
    "confidence",
    "variability",
    "margin",
    "correctness",
]


def by_guid(path, kind, guid=lambda i: 40000 + i):
    table = pq.read_table(path)
    (ids,) = [name for name in ("guid", "id") if name in table.column_names]
    found = dict(zip(table[ids].to_pylist(), table[kind].to_pylist(), strict=True))
    return np.array([found[guid(i)] for i in range(N)])


@pytest.mark.parametrize("given", ["training_dynamics", "training_dynamics/*.jsonl"])
def test_dynamics_of_cartography_for_every_kind(field, given):
    array("z.npy", LOGITS)
    kinds = [word for kind in KINDS for word in ("--kind", kind)]
    field.run(
        "score", *kinds, "--logits", "z.npy", "--labels", "y.npy", "--out", "w.parquet"
    ).done()
    cartography()
    got = field.run("score", *kinds, "--logits", given, "--out", "o.parquet").done()
    got.has_line("training_dynamics", "guid")
    want = pq.read_table("w.parquet")
    for kind in KINDS:
        assert np.allclose(by_guid("o.parquet", kind), want[kind].to_numpy()), f"{kind}\n{got.line}"


@pytest.mark.parametrize("guid", [lambda i: f"train-{i * 7}", lambda i: i, str])
def test_guids_of_cartography(field, guid):
    array("z.npy", LOGITS)
    given = ("score", "--kind", "el2n", "--logits")
    field.run(*given, "z.npy", "--labels", "y.npy", "--out", "w.npy").done()
    cartography(guid=guid)
    field.run(*given, "training_dynamics", "--out", "o.parquet").done()
    assert np.allclose(by_guid("o.parquet", "el2n", guid), np.load("w.npy"))
    write("e.parquet", guid=[guid(i) for i in range(N)], embedding=X)
    want = field.wanted(X, by_guid("o.parquet", "el2n", guid))
    field.right("--emb", "e.parquet", "--scores", "o.parquet", want=want, names=["o.parquet"])
    field.works("--emb", "e.parquet", "--scores", "o.parquet", "--id-column", "guid", want=want)


def test_dynamics_of_many_epochs(field):
    """dynamics_epoch_10 comes after dynamics_epoch_9."""
    array("z.npy", np.stack([LOGITS[e % EPOCHS] for e in range(12)]))
    given = ("score", "--kind", "forgetting", "--logits")
    field.run(*given, "z.npy", "--labels", "y.npy", "--out", "w.npy").done()
    cartography(count=12)
    field.run(*given, "training_dynamics", "--out", "o.parquet").done()
    assert np.allclose(by_guid("o.parquet", "forgetting"), np.load("w.npy"))


def test_dynamics_whose_labels_change_are_refused(field):
    cartography()
    other = Path("training_dynamics/dynamics_epoch_3.jsonl")
    rows = [json.loads(line) for line in other.read_text().splitlines()]
    rows[9]["gold"] = (rows[9]["gold"] + 1) % 5
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    got = field.run("score", "--kind", "el2n", "--logits", "training_dynamics", "--out", "o.npy")
    got.refused(names=["dynamics_epoch_3.jsonl", "dynamics_epoch_0.jsonl"])


def test_dynamics_with_a_row_missing_are_refused(field):
    cartography()
    other = Path("training_dynamics/dynamics_epoch_2.jsonl")
    other.write_text("".join(other.read_text().splitlines(keepends=True)[1:]))
    got = field.run("score", "--kind", "el2n", "--logits", "training_dynamics", "--out", "o.npy")
    got.refused(names=["dynamics_epoch_2.jsonl"])


def test_model_folder_of_cartography(field):
    """The folder above also holds other files of the run."""
    cartography("model/training_dynamics")
    Path("model/config.json").write_text("{}")
    Path("model/eval_results.txt").write_text("acc = 0.9\n")
    got = field.run("score", "--kind", "el2n", "--logits", "model", "--out", "o.parquet")
    if got.code:
        got.refused(names=["model"])


# -- E9: pickles ----------------------------------------------------------------------------------
class Tensor:
    """Stands for a tensor: unpickling it would need its class."""


def as_pickle(path):
    Path(path).write_bytes(pickle.dumps({"forgetting": [0.5], "el2n": [0.25]}))


def as_torch(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(OrderedDict(a=1)))
        file.writestr("archive/version", "3\n")


PICKLES = {"s.pkl": as_pickle, "s.pickle": as_pickle, "s.pt": as_torch, "s.pth": as_torch,
           "s.bin": as_torch, "s": as_pickle, "s.npy": as_pickle}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, "forgetting") for name in PICKLES]
    + [("s.pkl", key) for key in ("el2n", "accumulated_margin", None)]
    + [("s.pt", key) for key in ("el2n", None)],
)
def test_pickles_of_scores(field, name, key):
    PICKLES[name](f"p_{name}")
    more = ("--scores-key", key) if key else ()
    got = field.select("--emb", "emb.npy", "--scores", f"p_{name}", *more)
    got.refused(names=[f"p_{name}"]).never_says("emb-key", "--emb ", "labels")
    if key:
        got.says(key)
        for other in {"forgetting", "el2n", "accumulated_margin"} - {key}:
            got.never_says(other)
    if name in ("s.pkl", "s.pt"):
        got.says_one_of("pickle", "torch")
        got.says_one_of("np.save", "numpy.save", "to_parquet")


@pytest.mark.parametrize("option", ["--emb", "--labels", "--logits"])
def test_pickles_of_other_inputs(field, option):
    as_pickle("p.pkl")
    as_torch("p.pt")
    for path in ("p.pkl", "p.pt"):
        key = f"{option}-key"
        args = {
            "--emb": ("select", "--emb", path, key, "feats", *SCORES, "--ratio", 0.3),
            "--labels": ("select", "--emb", "emb.npy", *SCORES, "--labels", path, key, "feats",
                         "--balance", "uniform", "--ratio", 0.3),
            "--logits": ("score", "--kind", "el2n", "--logits", path, key, "feats", "--labels",
                         "y.npy", "--out", "o.npy"),
        }[option]  # fmt: skip
        got = field.run(*args).refused("feats", names=[path])
        got.says_one_of("np.save", "numpy.save", "to_parquet").never_says("el2n.npy", "forgetting")


def test_pickles_are_never_opened(field):
    """A pickle that would write a file when it is loaded."""

    class Trap:
        def __reduce__(self):
            return (open, ("trap", "w"))

    Path("t.pkl").write_bytes(pickle.dumps(Trap()))
    np.save("o.npy", np.array([Trap()], object), allow_pickle=True)
    for path in ("t.pkl", "o.npy"):
        field.select("--emb", "emb.npy", "--scores", path).refused(names=[path])
    assert not Path("trap").exists()


# -- E10: remote addresses ------------------------------------------------------------------------
ADDRESSES = [
    "s3://bucket/e.npy", "gs://bucket/dir/e.parquet", "hf://datasets/org/name/train.parquet",
    "https://example.invalid/e.npy", "s3://bucket/emb/*.npy",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("option", ["--emb", "--scores", "--exclude"])
def test_addresses_without_the_extra(field, monkeypatch, address, option):
    for name in [name for name in sys.modules if name.split(".")[0] == "fsspec"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fsspec", None)
    given = {"--emb": ("--emb", address, *SCORES),
             "--scores": ("--emb", "emb.npy", "--scores", address),
             "--exclude": ("--emb", "emb.npy", *SCORES, "--exclude", address)}[option]  # fmt: skip
    got = field.select(*given)
    got.refused("pip install", "d2prune[remote]", address).never_says("no such file")
    got.never_says(address.replace("://", ":/") + ":")


@pytest.fixture
def server():
    """This folder over HTTP."""
    import functools
    import http.server
    import threading

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    handler = functools.partial(Quiet, directory=str(Path.cwd()))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_addresses_that_are_read(field, server, ending, monkeypatch):
    pytest.importorskip("fsspec")
    pytest.importorskip("aiohttp")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if ending == "parquet":
        write("e.parquet", id=IDS, emb=X)
        write("sc.parquet", id=IDS[P], score=S[P])
        given = ("--emb", f"{server}/e.parquet", "--scores", f"{server}/sc.parquet")
    else:
        given = ("--emb", f"{server}/emb.npy", "--scores", f"{server}/s.npy")
    got = field.works(*given, want=field.wanted())
    assert server in got.err and server in field.recorded("emb")
    got = field.select("--emb", f"{server}/none.npy", *SCORES)
    got.refused(f"{server}/none.npy")
