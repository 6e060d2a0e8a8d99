"""Seeds: small valid files of every format, which the fuzzer mutates."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq

N = 6
_RNG = np.random.default_rng(0)
EMB = _RNG.normal(size=(N, 3)).astype(np.float32)
SCORES = np.arange(N) / 8
LABELS = np.array([0, 1, 0, 1, 2, 2])
TEXT = [f"id{i}" for i in range(N)]


def _npy(values: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, values, version, allow_pickle=False)
    return file.getvalue()


def _npz(compression: int, **members: np.ndarray) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, values in members.items():
            archive.writestr(f"{name}.npy", _npy(values))
    return file.getvalue()


def _tables() -> Iterator[pa.Table]:
    lists = [row.tolist() for row in EMB]
    yield pa.table({"emb": pa.array(lists, pa.list_(pa.float32())), "id": TEXT, "score": SCORES})
    yield pa.table({"emb": pa.array(lists, pa.list_(pa.float16(), 3)), "label": LABELS})
    yield pa.table({f"emb_{i}": EMB[:, i] for i in range(3)} | {"uid": LABELS + np.arange(N) * 9})
    yield pa.table({"id": pa.array(TEXT).dictionary_encode(), "el2n": SCORES.astype("f4")})
    yield pa.table({"index": np.arange(N), "keep": SCORES > 0.2})
    yield pa.table({"e": [{"v": row, "m": [row, row]} for row in lists], "u": [b"\xff\0"] * N})


def _graph() -> pa.Table:
    near = np.array([[(i + 1) % N, (i + 2) % N] for i in range(N)], np.int32)
    far = np.tile(np.array([0.5, 1.0], np.float32), (N, 1))
    entry = {"format_version": 1, "graph": {"method": "exact", "metric": "euclidean"}}
    columns = {
        "neighbors": pa.FixedSizeListArray.from_arrays(near.ravel(), 2),
        "distances": pa.FixedSizeListArray.from_arrays(far.ravel(), 2),
        "id": pa.array(TEXT),
        "excluded": pa.array([False] * N),
    }
    return pa.table(columns).replace_schema_metadata({"d2prune": json.dumps(entry)})


def _ipc(table: pa.Table, new: Callable[..., pa.RecordBatchWriter], compression: str | None = None):
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with new(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=4)
    return sink.getvalue().to_pybytes()


def _parquet(table: pa.Table, **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **options)
    return sink.getvalue().to_pybytes()


def _csv(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(table, sink)
    return sink.getvalue().to_pybytes()


def seeds() -> Iterator[bytes]:
    """The content of every seed."""
    for kind in ("f2", "f4", "f8", ">f4", "i8", "u1", "?"):
        yield _npy(EMB.astype(kind))
        yield _npy(SCORES.astype(kind))
    yield _npy(np.asfortranarray(EMB), (2, 0))
    yield _npy(np.array(TEXT))
    yield _npy(np.array(TEXT, "S"))
    yield _npz(zipfile.ZIP_STORED, emb=EMB, scores=SCORES, labels=LABELS)
    yield _npz(zipfile.ZIP_DEFLATED, l14_img=EMB, ids=np.array(TEXT))
    yield _npz(zipfile.ZIP_LZMA, emb=np.asfortranarray(EMB))
    for table in (*_tables(), _graph()):
        yield _ipc(table, pa.ipc.new_file)
        yield _ipc(table, pa.ipc.new_stream)
        yield _ipc(table, pa.ipc.new_file, "zstd")
        yield _parquet(table)
        yield _parquet(table, compression="none", use_dictionary=False)
        if not any(pa.types.is_nested(field.type) for field in table.schema):
            yield _csv(table)
    yield gzip.compress(_npy(EMB))
    yield (
        struct.pack("<Q", 90)
        + json.dumps({"emb": {"dtype": "F32", "shape": [N, 3], "data_offsets": [0, N * 12]}})
        .ljust(90)
        .encode()
        + EMB.tobytes()
    )
    for options in ({}, {"chunks": (2, 3), "compression": "gzip"}):
        file = io.BytesIO()
        with h5py.File(file, "w") as root:
            root.create_dataset("a/emb", data=EMB, **options)
            root["id"], root["score"] = TEXT, SCORES
        yield file.getvalue()
    yield b'{"id": "a", "emb": [0.5, 1], "score": 1}\n{"id": "b", "emb": [2, 1], "score": 2}\n'
    yield gzip.compress(b"id,score\na,1\nb,2\n")
    yield "id,score\na,1\nb,2\n".encode("utf-16")
    yield b'id,emb\na,"[0.5, 1]"\nb,"[1 2]"\n'
    yield b"id;score\na;0,5\nb;1,25\n"
    yield b"# two\n1.0 2.0\n3.0 4.0\n"
    yield b"0.5\n0.25\n1e3\n"
    yield b"a\tb\n1\t007\n2\t008\n"
    yield b'caption,score\n"two\nlines",1\n"a ""b""",2\n'
    yield b"id,emb_0,emb_1,emb_2\nx,1,2,3\ny,4,5,6.5\n"
    entry = {"program": "d2prune", "format_version": 1, "command": "propagate"}
    yield json.dumps({**entry, "parameters": {}, "inputs": {}, "output": {}}).encode()
