"""safetensors, files of vectors, HDF5, zarr, gzip'd arrays, and formats that are only named."""

import gzip
import json
import pickle
import struct
from pathlib import Path

from tests.malformed import make as m
from tests.malformed.case import EMB, LABELS, SCORES, case, cut, good

S, V, B, H, G, W = "bad.safetensors", "bad.fvecs", "bad.fbin", "bad.h5", "bad.npy.gz", "bad.zarr"
ONE = {"emb": {"dtype": "F32", "shape": [m.N, m.D], "data_offsets": [0, m.N * m.D * 4]}}
HEAD = struct.pack("<II", m.N, m.D)
MAPPED, PACKED = m.hdf5("emb", m.EMB), m.hdf5("emb", m.EMB, chunks=(7, 4), compression="gzip")


def tensor(**about):
    """A safetensors file whose one tensor claims something else."""
    return m.safetensors({"emb": ONE["emb"] | about})


def store(about, **files):
    """A folder with this ``zarr.json`` and other files."""

    def make():
        Path(W).mkdir()
        Path(W, "zarr.json").write_bytes(
            about if isinstance(about, bytes) else json.dumps(about).encode()
        )
        for name, content in files.items():
            Path(W, name).write_bytes(content)

    return make


ARRAY = {
    "zarr_format": 3, "node_type": "array", "shape": [m.N, m.D], "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [m.N, m.D]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
    "fill_value": 0.0, "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
}  # fmt: skip
BAD = [
    *cut("safetensors", EMB, S, m.safetensors(ONE), [1, 7, 8, 9, 60, 100, -1]),
    case("safetensors of 2^63 bytes of header", EMB, S, struct.pack("<Q", 1 << 63) + b"{}", "not a readable"),
    case("safetensors without tensors", EMB, S, m.safetensors({}, b""), "holds no tensors"),
    case("safetensors with a tail", EMB, S, m.safetensors(ONE) + b"x", "not a readable"),
    case("safetensors of an unknown type", EMB, S, tensor(dtype="F7"), "not a readable"),
    case("safetensors of a shape that does not fit", EMB, S, tensor(shape=[m.N, 5]), "not a readable"),
    case("safetensors of a petabyte", EMB, S, tensor(shape=[2**50, 4]), "not a readable"),
    case("safetensors that is no JSON", EMB, S, struct.pack("<Q", 9) + b"{" * 9, "not a readable"),
    *cut("fbin", EMB, B, HEAD + m.EMB.tobytes(), [1, 7, 8, 100, -1]),
    case("fbin with a tail", EMB, B, HEAD + m.EMB.tobytes() + b"x", "which are not the 649 bytes"),
    case("fbin of no columns", EMB, B, struct.pack("<II", 9, 0), "embeddings have no columns"),
    case("fbin of no rows", EMB, B, struct.pack("<II", 0, 9), "there are no rows"),
    case("fbin of a petabyte", EMB, B, struct.pack("<II", 2**32 - 1, 2**17), "which are not the 8 bytes"),
    *cut("fvecs", EMB, V, m.vectors(m.EMB), [1, 4, 9, 101, -1]),
    case("fvecs whose length changes", EMB, V, m.vectors(m.EMB[:39]) + struct.pack("<i", 3) + bytes(16),
         "row 39 has 3 values"),
    case("fvecs of negative length", EMB, V, struct.pack("<i", -4) + bytes(16), "do not divide"),
    *cut("HDF5", EMB, H, MAPPED, [8, 9, 100, 600, -1]),
    *cut("packed HDF5", EMB, H, PACKED, [8, 100, 1000, -1]),
    case("HDF5 with a damaged chunk", EMB, H, PACKED[:-200] + bytes(200)),
    case("HDF5 of text", EMB + " --emb-key emb", H, m.hdf5("emb", ["a"] * m.N), "must be two-dimensional"),
    case("HDF5 of a number", EMB, H, m.hdf5("emb", 1.5), "holds no datasets of rows"),
    *cut("gzip'd npy", EMB, G, gzip.compress(m.npy(m.EMB)), [20, 60, -9, -1]),
    case("gzip'd npy that is cut", EMB, G, gzip.compress(m.npy(m.EMB)[:-9]), "is cut off"),
    case("gzip'd npy with a tail", EMB, G, gzip.compress(m.npy(m.EMB) + b"x"), "holds more bytes"),
    case("gzip'd npy with a wrong check sum", EMB, G, gzip.compress(m.npy(m.EMB))[:-8] + bytes(8), G),
    case("gzip'd npy of a petabyte", EMB, G, gzip.compress(m.claims("<f4", (2**48, 4))), G),
    case("zarr without metadata", EMB, W, store(b""), "cannot be read as zarr"),
    case("zarr that is no JSON", EMB, W, store(b"{"), "cannot be read as zarr"),
    case("zarr of nothing", EMB, W, store({"zarr_format": 3, "node_type": "group"}), "holds no arrays"),
    case("zarr never written", EMB, W, store(ARRAY), "never written"),
    case("zarr with a short chunk", EMB, W, store(ARRAY, **{"c.0.0": b"123"}), "cannot be read as zarr"),
    case("a raw memmap called npy", EMB, "bad.npy", bytes(4) + m.EMB.tobytes(), "not a .npy header: np.memmap",
         hint="import numpy; numpy.save('emb.npy'"),
    case("a research pickle", SCORES + " --scores-key forgetting", "bad.pkl", pickle.dumps({"a": 1}),
         "is a pickle", hint="numpy.save('forgetting.npy', numpy.asarray(d['forgetting']))"),
    case("labels in a pickle", LABELS, "bad.pkl", pickle.dumps([1]), "is a pickle", hint="labels.npy"),
    case("uint16 bits", EMB, "bad.npy", m.npy(m.EMB.astype("f2").view("u2")), "uint16 may be the bits",
         hint="ml_dtypes.bfloat16"),
    case("bits of floats", EMB + " --emb-bits", "bad.npy", m.npy(m.EMB), "unpacks lists of uint8"),
    case("a scale of floats", EMB + " --emb-scale 2", "bad.npy", m.npy(m.EMB), "scales integers, not float32"),
]  # fmt: skip
GOOD = [
    good("safetensors", EMB, S, m.safetensors(ONE)),
    good("fbin", EMB, B, HEAD + m.EMB.tobytes()),
    good("fvecs", EMB, V, m.vectors(m.EMB)),
    good("HDF5", EMB, H, MAPPED),
    good("packed HDF5", EMB, H, PACKED),
    good("HDF5 by the ending of another format", EMB, "bad.npy", PACKED),
    good("scores of HDF5", SCORES, H, m.hdf5("model/score", m.SCORES)),
    good("gzip'd npy", EMB, G, gzip.compress(m.npy(m.EMB))),
    good("zarr", EMB, W, store(ARRAY, **{"c.0.0": m.EMB.tobytes()})),
]  # fmt: skip
CASES = [*BAD, *GOOD]
