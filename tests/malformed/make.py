"""Files of every format as bytes, correct or damaged; written without the readers' code."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

N, D, K = 40, 4, 3
_RNG = np.random.default_rng(7)
#: Numbers that every float type holds, no ties.
EMB = (_RNG.integers(-512, 512, (N, D)) / 64).astype(np.float32)
SCORES = _RNG.permutation(N) / 8 + 0.125
LABELS = np.arange(N) % 3
IDS = [f"id{3 * i:03}" for i in _RNG.permutation(N)]
LISTS = [row.tolist() for row in EMB]
FIXED = pa.list_(pa.float32(), D)
NAN, INF = float("nan"), float("inf")


# -- NumPy ----------------------------------------------------------------------------------------
def npy(values: Any, version: tuple[int, int] | None = None) -> bytes:
    """An array as ``numpy.save`` writes it."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(values), version, allow_pickle=True)
    return file.getvalue()


def header(text: str | bytes, data: bytes = EMB.tobytes(), version: tuple[int, int] = (1, 0)):
    """A ``.npy`` file with any text as header."""
    text = text.encode("latin-1") if isinstance(text, str) else text
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + data


def claims(dtype: Any, shape: Any, fortran: Any = False, data: bytes = EMB.tobytes()) -> bytes:
    """A ``.npy`` file whose header claims this type and shape."""
    return header(
        f"{{'descr': {dtype!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, }}", data
    )


def npz(compression: int = zipfile.ZIP_STORED, /, **members: Any) -> bytes:
    """An archive of arrays; bytes become members unchanged."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, values in members.items():
            archive.writestr(f"{name}.npy", values if isinstance(values, bytes) else npy(values))
    return file.getvalue()


def npz_lying(member: bytes, size: int, compression: int = zipfile.ZIP_STORED) -> bytes:
    """An archive whose one member ``emb`` claims to unpack to `size` bytes."""
    content = npz(compression, emb=member)
    small, large = struct.pack("<I", len(member)), struct.pack("<I", min(size, 2**32 - 1))
    if size >= 2**32:  # the size is in a zip64 field of the directory
        at = content.rindex(b"PK\x01\x02")
        name = content[at + 28 : at + 30]
        extra = struct.pack("<HHQ", 1, 8, size)
        entry = bytearray(content[at : at + 46 + int.from_bytes(name, "little")])
        entry[24:28], entry[30:32] = large, struct.pack("<H", len(extra))
        end = bytearray(content[content.rindex(b"PK\x05\x06") :])
        end[12:16] = struct.pack("<I", len(entry) + len(extra))
        return content[:at] + bytes(entry) + extra + bytes(end)
    at = content.rindex(b"PK\x01\x02") + 24
    assert content[at : at + 4] == small
    return content[:at] + large + content[at + 4 :]


def vectors(values: np.ndarray) -> bytes:
    """A ``.fvecs`` file."""
    width = np.full((len(values), 1), values.shape[1], "<i4")
    return np.hstack([width.view("u1"), np.ascontiguousarray(values).view("u1")]).tobytes()


def safetensors(about: dict[str, Any], data: bytes = EMB.tobytes()) -> bytes:
    """A safetensors file with this header."""
    header = json.dumps(about).encode()
    return struct.pack("<Q", len(header)) + header + data


def hdf5(name: str, values: Any, **options: Any) -> bytes:
    """An HDF5 file of one dataset."""
    file = io.BytesIO()
    with h5py.File(file, "w") as root:
        root.create_dataset(name, data=values, **options)
    return file.getvalue()


# -- tables ---------------------------------------------------------------------------------------
def table(columns: pa.Table | dict[str, Any]) -> pa.Table:
    return columns if isinstance(columns, pa.Table) else pa.table(columns)


def arrow(columns: Any, new: Callable = pa.ipc.new_file, compression: str | None = None, rows=None):
    """An Arrow file (Feather version 2 where compressed)."""
    whole, sink = table(columns), pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with new(sink, whole.schema, options=options) as writer:
        writer.write_table(whole, max_chunksize=rows)
    return sink.getvalue().to_pybytes()


def stream(columns: Any, **options: Any) -> bytes:
    """An Arrow stream."""
    return arrow(columns, pa.ipc.new_stream, **options)


def parquet(columns: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table(columns), sink, **options)
    return sink.getvalue().to_pybytes()


def parquet_claiming(columns: Any, rows: int) -> bytes:
    """A parquet file whose footer claims `rows` rows."""
    content = parquet(columns)
    length = int.from_bytes(content[-8:-4], "little")
    data, footer = content[: -8 - length], content[-8 - length : -8]
    footer = footer.replace(b"\x16" + _varint(N), b"\x16" + _varint(rows), 1)
    return data + footer + struct.pack("<I", len(footer)) + b"PAR1"


def _varint(value: int) -> bytes:
    """Thrift's compact form of an i64."""
    zigzag, out = (value << 1) ^ (value >> 63), bytearray()
    while zigzag >= 0x80:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    return bytes([*out, zigzag])


def csv(columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(table(columns), sink)
    return sink.getvalue().to_pybytes()


def jsonl(name: str, values: list) -> bytes:
    """JSON Lines of one field."""
    return b"".join(json.dumps({name: value}).encode() + b"\n" for value in values)


# -- graphs ---------------------------------------------------------------------------------------
def graph(
    meta: Any = None,
    raw: bytes | None = None,
    cells: dict | None = None,
    drop: tuple = (),
    kind: pa.DataType = pa.int32(),  # noqa: B008, a constant
    **more: Any,
) -> pa.Table:
    """Row i lists i+1, i+2, i+3, as `kind`. `cells` maps (column, row, place) to another value;
    `meta` is laid over the metadata, `raw` replaces it (b"" leaves it out); `more` are columns.
    """
    lists = {
        "neighbors": [[(i + p) % N for p in range(1, K + 1)] for i in range(N)],
        "distances": [[p / 2 for p in range(1, K + 1)] for _ in range(N)],
    }
    for (column, row, place), value in (cells or {}).items():
        lists[column][row][place] = value
    kinds = {"neighbors": pa.list_(kind, K), "distances": pa.list_(pa.float32(), K)}
    columns = {name: pa.array(values, kinds[name]) for name, values in lists.items()} | more
    kept = pa.table({name: values for name, values in columns.items() if name not in drop})
    entry = {"format_version": 1, "graph": {"method": "exact", "metric": "euclidean"}, "inputs": {}}
    text = json.dumps(entry | (meta or {})).encode() if raw is None else raw
    return kept.replace_schema_metadata({"d2prune": text} if text else None)


def graph_part(**parts: Any) -> pa.Table:
    """A graph with this section `graph` in its metadata."""
    return graph({"graph": {"method": "exact", **parts}})


def built_from(**inputs: Any) -> pa.Table:
    """A graph with this section `inputs` in its metadata."""
    return graph({"inputs": inputs})


def row_put(row: int, new: Any, rows: list = LISTS) -> list:
    """Lists, one of them replaced."""
    return [new if i == row else list(old) for i, old in enumerate(rows)]


def put(values: np.ndarray, at: Any, new: Any) -> np.ndarray:
    """A changed copy."""
    changed = values.copy()
    changed[at] = new
    return changed


def damaged(content: bytes, old: bytes, new: bytes) -> bytes:
    """`content` with its one `old` replaced."""
    assert content.count(old) == 1, content.count(old)
    return content.replace(old, new)
