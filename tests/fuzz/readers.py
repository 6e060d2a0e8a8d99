"""Readers of input files under fuzzing: they read any file, or refuse it with a `D2Error`.

    python -m tests.fuzz.readers CORPUS -max_total_time=600

The first byte of an input selects the reader; the rest is the file. Any other exception is a
finding. The first input for each place that raises one is kept, and fuzzing continues. A crash, a
timeout or too much memory ends the run; libFuzzer reports it.
"""

from __future__ import annotations

import hashlib
import os
import resource
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

os.environ["NUMBA_DISABLE_JIT"] = "1"  # compiled code is not instrumented

import atheris

with atheris.instrument_imports(include=["d2cli", "zipfile", "numpy.lib"]):
    import zipfile  # noqa: F401

    import numpy as np
    import pyarrow as pa

    from d2cli.errors import D2Error
    from d2cli.files.frame import Frame
    from d2cli.files.graph_file import open_graph
    from d2cli.files.provenance.sidecar import read_sidecar, sidecar_path
    from d2cli.files.sources import open_source

from tests.fuzz.seeds import seeds

#: Limit of the address space in bytes. Inputs of a few KiB need far less.
ROOM = 3 << 30
#: The folder of the findings.
FINDINGS = Path(os.environ.get("D2PRUNE_FINDINGS", "build/fuzz/findings"))
FOLDER = Path(tempfile.mkdtemp(prefix="d2prune-fuzz-", dir="/dev/shm"))
FILE = str(FOLDER / "input")


def _embeddings() -> None:
    source = open_source([FILE], "embeddings", "emb")
    matrix = source.matrix()
    assert matrix.shape[0] == source.n
    float(np.asarray(matrix[-1:], np.float64).sum())  # reads the last page of a memory map
    source.ids()


def _scores() -> None:
    source = open_source([FILE], "scores", "scores")
    values, _ = Frame.of(source).vector(source)
    assert values.shape == (source.n,)


def _labels() -> None:
    source = open_source([FILE], "labels", "labels")
    codes = Frame(source.n, "emb").labels(source)
    assert codes.shape == (source.n,)
    assert 0 <= codes.min() <= codes.max() < source.n


def _rows() -> None:
    Frame(6, "emb").mask([open_source([FILE], "rows", "exclude", key_option=None)])


def _rows_by_id() -> None:
    frame = Frame(2, "emb", pa.array(["id1", "id2"], pa.large_string()))
    frame.mask([open_source([FILE], "rows", "exclude", key_option=None)])


def _graph() -> None:
    open_graph(FILE).load()


def _sidecar() -> None:
    os.replace(FILE, sidecar_path(FILE))
    Path(FILE).write_bytes(b"x")
    read_sidecar(Path(FILE))


READERS = (_embeddings, _scores, _labels, _rows, _rows_by_id, _graph, _sidecar)


def read(data: bytes) -> None:
    """Read one input; anything but success or a `D2Error` that names the file is a finding."""
    if not data:
        return
    Path(FILE).write_bytes(data[1:])
    try:
        READERS[data[0] % len(READERS)]()
    except D2Error as error:
        if "input" in error.message:  # the name of the file
            return
        _keep(data, error)
    except Exception as error:
        _keep(data, error)


def _keep(data: bytes, error: Exception) -> None:
    """Keep the first input that raises this error at this place."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "d2cli" in f.filename]
    place = f"{type(error).__name__} {Path(frames[-1].filename).name} {frames[-1].name}"
    kept = FINDINGS / hashlib.blake2b(place.encode(), digest_size=6).hexdigest()
    if kept.exists():
        return
    kept.write_bytes(data)
    print(f"finding {kept}: {place}: {str(error)[:200]}", file=sys.stderr, flush=True)


def write_seeds(corpus: Path) -> None:
    """Write every seed once for each reader."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, content in enumerate(seeds()):
        for reader in range(len(READERS)):
            (corpus / f"seed-{number}-{reader}").write_bytes(bytes([reader]) + content)


def main() -> None:
    """Fuzz until an option of libFuzzer stops it."""
    FINDINGS.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("error")  # a warning would be printed beside the error
    write_seeds(Path(sys.argv[1]))
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
