"""Files that are not read: what they are, and one line of Python that converts them.

Nothing here opens a pickle, or anything else that could run code.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from d2cli.errors import DataError

if TYPE_CHECKING:
    from d2cli.files.formats.choice import Wanted

#: The endings of pickles, and of files of PyTorch and joblib, which are pickles too.
_PICKLES = (".pkl", ".pickle", ".p", ".pt", ".pth", ".ckpt", ".joblib")
_IMAGES = {
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"II*\0": "TIFF",
    b"MM\0*": "TIFF", b"BM": "BMP",
}  # fmt: skip
#: What begins with what, and the line of Python. {path}, {out} and {stem} are quoted names, {key}
#: is how the values are taken out of a dictionary.
_MAGIC: dict[bytes, tuple[str, str]] = {
    b"\x28\xb5\x2f\xfd": ("is compressed by zstd", "{unpack}'zstd').read())"),
    b"BZh": ("is compressed by bzip2", "{unpack}'bz2').read())"),
    b"\x04\x22\x4d\x18": ("is compressed by lz4", "{unpack}'lz4').read())"),
    b"\xfd7zXZ\0": (
        "is compressed by xz", "import lzma, pathlib; pathlib.Path({bare}).write_bytes("
        "lzma.decompress(pathlib.Path({path}).read_bytes()))",
    ),
    b"MATLAB 5": (
        "is a Matlab file",
        "import numpy, scipy.io; numpy.save({out}, scipy.io.loadmat({path})[{name}])",
    ),
    b"MATLAB 7": (
        "is a Matlab 7.3 file, whose arrays are transposed",
        "import h5py, numpy; numpy.save({out}, h5py.File({path})[{name}][:].T)",
    ),
    b"SQLite format 3\0": (
        "is an SQLite database",
        "import pandas, sqlite3; pandas.read_sql('select * from ' + {name}, "
        "sqlite3.connect({path})).to_parquet({table})",
    ),
    b"\xd0\xcf\x11\xe0": (
        "is an Excel file of old versions",
        "import pandas; pandas.read_excel({path}).to_parquet({table})",
    ),
    b"Obj\x01": (
        "is an Avro file",
        "import fastavro, pyarrow, pyarrow.parquet; pyarrow.parquet.write_table("
        "pyarrow.Table.from_pylist(list(fastavro.reader(open({path}, 'rb')))), {table})",
    ),
    b"RDX": ("is an R data file", "{r}"),
    b"X\n\0\0": ("is an R data file", "{r}"),
    b"FEA1": (
        "is Feather version 1",
        "import pyarrow.feather; pyarrow.feather.write_feather("
        "pyarrow.feather.read_table({path}), {table})",
    ),
    b"GGUF": ("is a GGUF model, not data", ""),
    b"%PDF": ("is a PDF document, not data", ""),
    b"\x7fELF": ("is a program, not data", ""),
}  # fmt: skip
_R = (
    "import numpy, pyreadr; "
    "numpy.save({out}, next(iter(pyreadr.read_r({path}).values())).to_numpy())"
)
_UNPACK = (
    "import pathlib, pyarrow; pathlib.Path({bare}).write_bytes("
    "pyarrow.input_stream({path}, compression="
)
_MEMMAP = (
    "import numpy; numpy.save({out}, numpy.memmap({path}, dtype='float32', mode='r', shape=(N, D)))"
)
_FAISS = re.compile(rb"I[xwHB][A-Za-z0-9]{2}")


class _Names(NamedTuple):
    """What the lines of Python are filled with."""

    path: str
    out: str
    bare: str
    table: str
    name: str
    key: str

    def fill(self, line: str) -> str:
        whole = line.replace("{unpack}", _UNPACK).replace("{r}", _R)
        for field, value in self._asdict().items():
            whole = whole.replace("{" + field + "}", value)
        return whole


def _names(path: Path, wanted: Wanted | None) -> _Names:
    """The names for the input that was asked for: its key names the array that is saved."""
    usual = {"embeddings": "emb", "outputs": "logits"}
    role = "array" if wanted is None else usual.get(wanted.role, wanted.role)
    key = wanted.key if wanted is not None else None
    out = re.sub(r"\W+", "_", key or role)
    return _Names(
        path=repr(str(path)), out=repr(f"{out}.npy"), bare=repr(str(path.with_suffix(""))),
        table=repr(f"{path.stem}.parquet"), name=repr(key or "NAME"),
        key="" if key is None else f"[{key!r}]",
    )  # fmt: skip


def refuse_foreign(path: Path, head: bytes, wanted: Wanted | None) -> None:
    """Refuse a file whose first bytes or ending are those of a format that is not read.

    Args:
        path: the file.
        head: its first bytes, at least 512 of them if it has as many, unpacked if it is gzip'd.
        wanted: what was asked for, which the line of Python is to save.

    Raises:
        DataError: naming the format, with one line of Python that converts the file.
    """
    names, ending = _names(path, wanted), path.suffix.lower()
    for magic, (what, line) in _MAGIC.items():
        if head.startswith(magic):
            raise _refused(path, what, names.fill(line))
    if _looks_pickled(head, ending):
        raise pickled(path, head, wanted)
    if head[257:262] == b"ustar":
        line = f"import tarfile; tarfile.open({names.path}).extractall('unpacked')"
        raise _refused(path, "is a tar archive", line)
    if head[8:12] == b"DUCK":
        line = f"import duckdb; duckdb.connect({names.path}).table({names.name})"
        raise _refused(path, "is a DuckDB database", f"{line}.write_parquet({names.table})")
    for magic, kind in _IMAGES.items():
        if head.startswith(magic) and b"\0" in head:
            says = f"is an image ({kind}), not {'data' if wanted is None else wanted.role}"
            raise _refused(path, says, "")
    if head.startswith(b"RIFF") and head[8:12] in (b"WEBP", b"WAVE", b"AVI "):
        raise _refused(path, "is an image, a sound or a film, not data", "")
    if _FAISS.match(head) and b"\0" in head[:64]:
        line = (
            f"import faiss, numpy; index = faiss.read_index({names.path}); "
            f"numpy.save({names.out}, index.reconstruct_n(0, index.ntotal))"
        )
        raise _refused(path, "is a faiss index", line)
    if ending == ".lance" or _ends(path, b"LANC"):
        raise _lance(path, names)
    if ".tfrecord" in path.name.lower() or _is_tfrecord(path, head):
        line = (
            "import numpy, tensorflow as tf; "
            f"numpy.save({names.out}, numpy.stack([tf.train.Example.FromString(r.numpy())"
            f".features.feature[{names.name}].float_list.value "
            f"for r in tf.data.TFRecordDataset({names.path})]))"
        )
        raise _refused(path, "is a TFRecord file", line)
    if ending in (".pb", ".onnx", ".tflite"):
        raise _refused(path, "is a protobuf message or a model, not data", "")
    if ending == ".npy":
        raise _raw_memmap(path, names)


def unknown_binary(path: Path, wanted: Wanted | None) -> DataError:
    """The refusal of bytes that are of no known format, such as a raw array."""
    return DataError(
        f"{path}: is not .npy, .npz, parquet, Arrow, CSV or another known format",
        f"a raw array needs its shape and dtype, in Python: {_names(path, wanted).fill(_MEMMAP)}",
    )


def refuse_foreign_text(path: Path, head: bytes, wanted: Wanted | None) -> None:
    """The same for text that is no table."""
    names, start = _names(path, wanted), head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise _refused(path, "is a web page or XML, not data", "download the file again")
    if start.startswith(b"version https://git-lfs"):
        hint = f"get the file itself: git lfs pull --include {path.name}"
        raise _refused(path, "is a pointer of Git LFS, not the file", hint)
    if path.suffix.lower() in (".pkl", ".pickle", ".p", ".joblib"):
        raise pickled(path, head, wanted)
    if start.startswith(b"[") and path.suffix.lower() == ".json":
        load = f"json.loads(pathlib.Path({names.path}).read_text())"
        line = f"import json, numpy, pathlib; numpy.save({names.out}, numpy.array({load}))"
        if re.match(rb"\[\s*\{", start):
            # Not pandas: it makes numbers of text such as "007", and rounds to ten decimals.
            line = (
                f"import json; rows = json.load(open({names.path}, encoding='utf-8')); "
                f"open({path.stem + '.jsonl'!r}, 'w').write(chr(10).join(map(json.dumps, rows)))"
            )
        raise _refused(path, "is one JSON document, not JSON Lines", line)


def refuse_archive(path: Path, wanted: Wanted | None) -> None:
    """Refuse a zip archive that holds no arrays of NumPy; a damaged one is left to its reader."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.namelist()
    except Exception:  # its reader says what is wrong
        return
    names = _names(path, wanted)
    if any(name.endswith("data.pkl") for name in inside):
        raise pickled(path, b"torch", wanted)
    if any(name.startswith("xl/") for name in inside):
        line = f"import pandas; pandas.read_excel({names.path}).to_parquet({names.table})"
        raise _refused(path, "is an Excel file", line)
    if inside and not any(name.endswith(".npy") for name in inside):
        line = f"import zipfile; zipfile.ZipFile({names.path}).extractall('unpacked')"
        more = ", …" if len(inside) > 1 else ""
        raise _refused(path, f"is a zip archive that holds no arrays, but {inside[0]}{more}", line)


def pickled(path: Path, head: bytes, wanted: Wanted | None) -> DataError:
    """Why a pickle is refused; the line saves what was asked for."""
    names, ending = _names(path, wanted), path.suffix.lower()
    torch = ending in (".pt", ".pth", ".ckpt") or head.startswith(b"torch")
    if torch:
        what = "is a PyTorch file, which is a pickle; pickles are not read"
        line = (
            f"import numpy, torch; d = torch.load({names.path}, map_location='cpu'); "
            f"numpy.save({names.out}, d{names.key}.float().numpy())"
        )
    elif b"pandas" in head:
        what = "is a pickle of pandas; pickles are not read"
        line = f"import pandas; pandas.read_pickle({names.path}).to_parquet({names.table})"
    else:
        what = "is a pickle; pickles are not read"
        load = f"pickle.loads(pathlib.Path({names.path}).read_bytes())"
        module = "pathlib, pickle"
        if ending == ".joblib" or b"joblib" in head:
            load, module = f"joblib.load({names.path})", "joblib"
        line = (
            f"import numpy, {module}; d = {load}; "
            f"numpy.save({names.out}, numpy.asarray(d{names.key}))"
        )
    hint = "unpickling can run any code"
    if wanted is not None and wanted.key is None and "to_parquet" not in line:
        hint += "; of a dictionary take d['NAME'] in place of d"
    hint += f"; if you trust the file, convert it in Python: {line}"
    return DataError(f"{path}: {what}", hint)


def pickled_array(path: Path, shape: tuple[int, ...], wanted: Wanted) -> str:
    """How to convert a ``.npy`` file of Python objects."""
    names = _names(path, wanted)
    load = f"numpy.load({names.path}, allow_pickle=True)"
    if not shape:  # a dictionary
        load += f".item(){names.key or '[' + repr('NAME') + ']'}"
        return (
            f"unpickling can run any code; if you trust the file: import numpy; "
            f"numpy.save({names.out}, numpy.asarray({load}))"
        )
    return (
        f"unpickling can run any code; if you trust the file: import numpy; "
        f"numpy.save({names.out}, numpy.stack({load}))"
    )


def _refused(path: Path, what: str, line: str) -> DataError:
    python = line.startswith("import ")
    return DataError(f"{path}: {what}", f"in Python: {line}" if python else line or None)


def _lance(path: Path, names: _Names) -> DataError:
    line = (
        f"import lance, pyarrow.parquet; pyarrow.parquet.write_table(lance.dataset({names.path})"
        f".to_table(), {names.table})"
    )
    return _refused(path, "is a Lance data set", line)


def _raw_memmap(path: Path, names: _Names) -> DataError:
    """A file called ``.npy`` without its header: usually what ``numpy.memmap`` has written."""
    size = path.stat().st_size
    says = f"not a .npy header: np.memmap needs shape and dtype ({size:,} bytes"
    says += f" can be {size // 4:,} float32 values)" if size % 4 == 0 else ")"
    return _refused(path, says, names.fill(_MEMMAP))


def _looks_pickled(head: bytes, ending: str) -> bool:
    """Whether the first bytes are opcodes of a pickle of protocol 2 or later."""
    if ending in (".joblib", ".pkl", ".z") and head[:2] in (b"x\x01", b"x\x9c", b"x\xda"):
        return True  # compressed by zlib
    if head[:1] != b"\x80" or head[1:2] not in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return False
    if ending in _PICKLES:
        return True
    try:
        for count, _ in enumerate(pickletools.genops(head)):
            if count == 4:
                return True
    except Exception:  # bytes that are no opcodes raise almost anything
        return False
    return True  # a short pickle, up to its end


def _ends(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - len(magic)))
        return file.read() == magic


def _is_tfrecord(path: Path, head: bytes) -> bool:
    """Whether a first record, of a length that fits, begins as an Example does."""
    length = int.from_bytes(head[:8], "little")
    return head[12:13] == b"\x0a" and 0 < length <= path.stat().st_size - 16 and not head[7]
