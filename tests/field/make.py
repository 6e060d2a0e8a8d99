"""Small data of the kinds that users have, and what a right answer is.

A case is *right* if the selection is that of plain ``.npy`` files in the same row order, or if the
run is refused: exit 1 or 2, one ``error:`` line that names the file or the option, and what to do.
"""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq

N, D, CLASSES, EPOCHS = 300, 16, 5, 5
RATIO = ("--ratio", 0.3)

_rng = np.random.default_rng(13)
#: Embeddings, scores in 0 … 1, labels, text ids, and a permutation of the rows.
X = _rng.standard_normal((N, D)).astype(np.float32)
S = _rng.permutation(N) / N + 0.001
Y = _rng.integers(0, CLASSES, N)
IDS = np.array([f"id{i:04}" for i in _rng.permutation(10 * N)[:N]])
P = _rng.permutation(N)
#: Logits of five epochs; the true class is likely in different degrees.
LOGITS = _rng.standard_normal((EPOCHS, N, CLASSES)).astype(np.float32)
LOGITS[:, np.arange(N), Y] += np.linspace(-2, 4, N, dtype=np.float32)[_rng.permutation(N)]


# -- keys -----------------------------------------------------------------------------------------
def keys(name: str) -> np.ndarray | list[str]:
    """Unique values as columns of this name hold them."""
    rng = np.random.default_rng(5)
    texts = {
        "key": lambda i: f"{i * 37:09}",
        "guid": lambda i: str(uuid.UUID(int=int(rng.integers(2**62)))),
        "uuid": lambda i: str(uuid.UUID(int=int(rng.integers(2**62)), version=4)),
        "image_path": lambda i: f"/data/images/{i % 7}/{i * 13:06}.jpg",
        "url": lambda i: f"https://example.org/{i * 7919 % 1009}.jpg?size={i}",
        "filename": lambda i: f"{i:05}.png",
        "file_name": lambda i: f"photo {i}, small.jpg",
        "_id": lambda i: f"{i * 7919:024x}",
        "hash": lambda i: f"{int(rng.integers(2**62)):032x}",
        "name": lambda i: f"{'abcdefghij'[i % 10]}{i * i}",
    }
    numbers = {
        "doc_id": np.arange(N) * 1009 + 2**40,
        "sample_id": rng.permutation(10 * N)[:N],
        "image_id": rng.permutation(600_000)[:N],
        "index": np.arange(N),
        "idx": np.arange(N),
        "row": np.arange(N),
    }
    if name in numbers:
        return numbers[name].astype(np.int64)
    make = texts.get(name, lambda i: f"{name}-{i * 17}")
    return np.array([make(i) for i in range(N)])


# -- files ----------------------------------------------------------------------------------------
def column(values: Any) -> pa.Array:
    """A column of a table; rows of a matrix are lists."""
    if isinstance(values, pa.Array):
        return values
    values = np.asarray(values)
    if values.ndim == 2:
        flat = pa.array(np.ascontiguousarray(values).ravel())
        offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
        return pa.ListArray.from_arrays(pa.array(offsets), flat)
    return pa.array(values.tolist() if values.dtype.kind == "U" else values)


def numbered(columns: dict[str, Any]) -> dict[str, Any]:
    """The columns of a CSV file: a matrix is one numbered column for each dimension."""
    found: dict[str, Any] = {}
    for name, values in columns.items():
        if not isinstance(values, pa.Array) and np.ndim(values) == 2:
            found |= {f"{name}_{i}": values[:, i] for i in range(values.shape[1])}
        else:
            found[name] = values
    return found


def plain(values: Any) -> list[Any]:
    """Python values with all digits of their own type."""
    if isinstance(values, pa.Array):
        return values.to_pylist()
    values = np.asarray(values)
    if values.dtype == np.float32:
        return (
            [[float(str(v)) for v in np.atleast_1d(row)] for row in values]
            if (values.ndim == 2)
            else [float(str(v)) for v in values]
        )
    return values.tolist()


def write(path: str | Path, **columns: Any) -> str:
    """A table; the ending sets the format. Matrices are embeddings."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    ending = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:])
    if ending == ".npz":
        np.savez(path, **{name: np.asarray(values) for name, values in columns.items()})
    elif ending in (".csv", ".tsv", ".csv.gz", ".tsv.gz"):
        cells = {name: plain(values) for name, values in numbered(columns).items()}
        text = pa.BufferOutputStream()
        options = pa.csv.WriteOptions(delimiter="\t" if ".tsv" in ending else ",")
        pa.csv.write_csv(pa.table(cells), text, options)
        store(path, text.getvalue().to_pybytes())
    elif ending in (".jsonl", ".ndjson", ".jsonl.gz", ".json"):
        rows = zip(*(plain(values) for values in columns.values()), strict=True)
        lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
        store(path, ("\n".join(lines) + "\n").encode())
    else:
        table = pa.table({name: column(values) for name, values in columns.items()})
        write_table(path, table)
    return str(path)


def write_table(path: str | Path, table: pa.Table) -> str:
    """An Arrow table as parquet, as a file or stream of record batches, or as Feather."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(table, path)
    else:
        new = pa.ipc.new_stream if path.suffix == ".arrows" else pa.ipc.new_file
        with new(path, table.schema) as writer:
            writer.write_table(table)
    return str(path)


def store(path: Path, content: bytes) -> None:
    """Write bytes, compressed if the name ends in ``.gz``."""
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def array(path: str | Path, values: Any) -> str:
    """A ``.npy`` file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.asarray(values))
    return str(path)


def lines(path: str | Path, values: Any) -> str:
    """A text file with one value a line."""
    Path(path).write_text("".join(f"{value}\n" for value in values))
    return str(path)


def at(values: Any, rows: Any) -> Any:
    """The rows of a column that may be a list, an array, or an Arrow array."""
    if isinstance(values, pa.Array):
        return values.take(pa.array(rows))
    return np.asarray(values)[rows]


# -- runs -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Outcome:
    """What a run returned and printed."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The command line and what was printed, for the messages of failed tests."""
        return f"d2prune {' '.join(self.args)}\nexit {self.code}\n{self.err}"

    def done(self, *says: str) -> Outcome:
        """The run must have worked, and printed these words."""
        assert self.code == 0, self.line
        return self.says(*says)

    def refused(self, *says: str, names: Sequence[str] = ()) -> Outcome:
        """The run must be refused: one error that names one of `names` and has all words."""
        assert self.code in (1, 2), self.line
        assert self.out == "", self.line
        errors = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, self.line
        assert "defect" not in self.err and "Traceback" not in self.err, self.line
        assert "cut off" not in self.err and "damaged" not in self.err, self.line
        assert not names or any(name in self.err for name in names), self.line
        return self.says(*says)

    def says(self, *words: str) -> Outcome:
        """All words must have been printed, in any case of letters."""
        for word in words:
            assert word.lower() in self.err.lower(), f"{word!r} is not said\n{self.line}"
        return self

    def says_one_of(self, *words: str) -> Outcome:
        """One of these words must have been printed."""
        assert any(word.lower() in self.err.lower() for word in words), f"{words}\n{self.line}"
        return self

    def never_says(self, *words: str) -> Outcome:
        """None of these words may have been printed."""
        for word in words:
            assert word.lower() not in self.err.lower(), f"{word!r} is said\n{self.line}"
        return self

    def has_line(self, *words: str) -> Outcome:
        """One line of the summary or a notice must have all words."""
        found = [
            line for line in self.err.splitlines() if all(w.lower() in line.lower() for w in words)
        ]
        assert found, f"no line with {words}\n{self.line}"
        return self

    def has_notice(self, *words: str) -> Outcome:
        """One notice must have all words."""
        return self.has_line("notice", *words)

    @property
    def notices(self) -> list[str]:
        """The lines that are notices."""
        return [line for line in self.err.splitlines() if line.startswith("notice")]


class Field:
    """Runs commands in an empty folder and checks what they select."""

    #: Selections of plain files, by what was selected from.
    _known: ClassVar[dict[Any, np.ndarray]] = {}

    def __init__(self, run_cli: Any, folder: Path) -> None:
        self._run_cli, self.folder = run_cli, folder

    def run(self, *args: Any) -> Outcome:
        """One command, on one thread."""
        words = tuple(str(arg) for arg in args)
        return Outcome(words, *self._run_cli(words[0], "--threads", 1, *words[1:]))

    def wanted(self, emb: Any = X, scores: Any = S, *options: Any, **more: Any) -> np.ndarray:
        """The rows that are selected from plain ``.npy`` files."""
        arrays = {"emb": np.asarray(emb), "scores": np.asarray(scores), **more}
        kept = (*RATIO, *map(str, options)) if "--size" not in options else options
        files = [Path(word).read_bytes() for word in kept if Path(str(word)).is_file()]
        key = (*((k, v.dtype.str, v.shape, v.tobytes()) for k, v in arrays.items()), *kept, *files)
        if key not in self._known:
            folder = self.folder / ".plain"
            folder.mkdir(exist_ok=True)
            args = []
            for name, values in arrays.items():
                np.save(folder / f"{name}.npy", values)
                args += [f"--{name}", folder / f"{name}.npy"]
            out = folder / "wanted.npy"
            self.run("select", *args, *kept, "--out", out).done()
            self._known[key] = np.load(out)
        return self._known[key]

    def select(self, *args: Any, out: str = "kept.npy") -> Outcome:
        """``select`` with the usual ratio; a refused run must leave no output."""
        Path(out).unlink(missing_ok=True)
        kept = () if "--size" in args or "--ratio" in args else RATIO
        got = self.run("select", *args, *kept, "--out", out)
        assert Path(out).exists() == (got.code == 0), got.line
        return got

    def same(self, got: Outcome, want: np.ndarray, out: str = "kept.npy") -> Outcome:
        """A run that worked must have written these rows."""
        got.done()
        found = np.load(out)
        assert found.tobytes() == want.tobytes(), (
            f"another selection: {len(np.intersect1d(found, want))} of {len(want)} rows\n{got.line}"
        )
        return got

    def works(self, *args: Any, want: np.ndarray) -> Outcome:
        """``select`` must work, and select these rows."""
        return self.same(self.select(*args), want)

    def right(self, *args: Any, want: np.ndarray, names: Sequence[str] = ()) -> Outcome:
        """``select`` must select these rows, or be refused."""
        got = self.select(*args)
        return self.same(got, want) if got.code == 0 else got.refused(names=names)

    def staged(
        self, emb: Sequence[Any], scores: Sequence[Any], want: np.ndarray, *both: Any
    ) -> list[Outcome]:
        """``graph``, ``propagate`` and ``select``: each step is refused or leads to these rows."""
        steps = [self.run("graph", *emb, *both, "--out", "g.arrow")]
        if steps[0].code != 0:
            return [steps[0].refused()]
        steps.append(self.run("propagate", "--graph", "g.arrow", *scores, *both, "--out", "u.npy"))
        if steps[1].code == 0:
            got = self.select("--graph", "g.arrow", "--propagated", "u.npy")
            steps.append(self.same(got, want))
        else:
            steps[1].refused()
        got = self.select("--graph", "g.arrow", *scores, *both)
        steps.append(self.same(got, want) if got.code == 0 else got.refused())
        return steps

    @staticmethod
    def provenance(out: str = "kept.npy") -> dict[str, Any]:
        """What the sidecar records."""
        return json.loads(Path(f"{out}.json").read_text(encoding="utf-8"))

    def recorded(self, option: str, out: str = "kept.npy") -> str:
        """What the sidecar records of one input, as text."""
        return json.dumps(self.provenance(out)["inputs"][option], ensure_ascii=False)
