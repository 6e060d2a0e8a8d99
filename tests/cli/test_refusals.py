"""Unusable input is refused: one line that names the file and the place, and no output."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def refuse(run_cli, data, tmp_path):
    """Run a command line that must be refused, in a folder with an old output."""
    Path("selected.npy").write_bytes(b"old")

    def call(*args, code=1, says=(), hint=""):
        before = snapshot(tmp_path)
        got, out, err = run_cli(*args)
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        hints = [line for line in err.splitlines() if line.startswith("hint: ")]
        assert (got, out) == (code, ""), err
        assert len(errors) == 1
        assert len(hints) <= 1
        assert err.splitlines() == errors + hints
        assert "defect" not in err
        for text in says:
            assert text in errors[0]
        assert hint in (hints or [""])[0]
        assert snapshot(tmp_path) == before

    return call


def snapshot(folder):
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"), key=str)
    }


def select(emb="emb.npy", scores="scores.npy", budget=("--ratio", "0.5")):
    return ["select", "--emb", emb, "--scores", scores, *budget]


# -- writers of small files, each returns the file's name -----------------------------------------
def npy(values, path="bad.npy"):
    np.save(path, values)
    return path


def npz(path="bad.npz", **members):
    np.savez(path, **members)
    return path


def parquet(path="bad.parquet", **columns):
    pq.write_table(pa.table(columns), path)
    return path


def arrow(path="bad.arrow", new=pa.ipc.new_file, **columns):
    table = pa.table(columns)
    with pa.OSFile(path, "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def stream(path="bad.arrows", **columns):
    return arrow(path, pa.ipc.new_stream, **columns)


def raw(content, path="bad.bin"):
    Path(path).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def csv(values, path="bad.csv"):
    rows = [",".join(str(cell) for cell in row) for row in values]
    return raw("\n".join(["a_0,a_1,a_2,a_3", *rows]) + "\n", path)


def put(values, at, new):
    changed = np.array(values, float)
    changed[at] = new
    return changed


def lists(values, kind=None):
    return pa.array([None if row is None else list(row) for row in values], kind)


def row_put(values, row, new):
    return [new if i == row else list(v) for i, v in enumerate(values)]


# -- embeddings -----------------------------------------------------------------------------------
FIXED = pa.list_(pa.float32(), 4)
EMBEDDINGS = {
    "nan": (lambda d: npy(put(d.emb, (3, 1), NAN)), ["bad.npy: row 3", "column 1 is nan"]),
    "inf": (lambda d: npy(put(d.emb, (3, 1), INF)), ["bad.npy: row 3", "column 1 is inf"]),
    "nan half": (
        lambda d: npy(put(d.emb, (9, 0), NAN).astype("f2")),
        ["bad.npy: row 9", "column 0 is nan"],
    ),
    "nan fortran": (
        lambda d: npy(np.asfortranarray(put(d.emb, (3, 1), -INF))),
        ["bad.npy: row 3", "column 1 is -inf"],
    ),
    "nan npz": (
        lambda d: npz(img=put(d.emb, (3, 1), NAN)),
        ["bad.npz: img: row 3", "column 1 is nan"],
    ),
    "nan parquet": (
        lambda d: parquet(emb=lists(put(d.emb, (3, 1), NAN))),
        ["bad.parquet: emb: row 3", "column 1 is nan"],
    ),
    "nan arrow": (
        lambda d: arrow(emb=lists(put(d.emb, (3, 1), NAN), FIXED)),
        ["bad.arrow: emb: row 3", "column 1 is nan"],
    ),
    "nan csv": (lambda d: csv(put(d.emb, (3, 1), NAN)), ["bad.csv: a: row 3", "column 1 is nan"]),
    "inf csv": (lambda d: csv(put(d.emb, (3, 1), INF)), ["bad.csv: a: row 3", "column 1 is inf"]),
    "text csv": (
        lambda d: csv([*d.emb[:3].tolist(), ["1", "2", "x", "4"], *d.emb[4:].tolist()]),
        ["bad.csv: a_2: holds string"],
    ),
    "too long": (lambda d: npy(put(d.emb, (3, 1), 1e200)), ["bad.npy: row 3", "longer"]),
    "1-D": (lambda d: npy(d.emb[:, 0]), ["bad.npy: embeddings must be two-dim", "(40,)"]),
    "3-D": (lambda d: npy(d.emb[None]), ["bad.npy: embeddings must be two-dim", "(1, 40, 4)"]),
    "0-D": (lambda d: npy(np.float32(1)), ["bad.npy: embeddings must be two-dim", "()"]),
    "no columns": (lambda d: npy(d.emb[:, :0]), ["bad.npy: embeddings have no columns"]),
    "uint16": (lambda d: npy(d.emb.astype("u2")), ["bad.npy: ", "uint16"]),
    "complex": (lambda d: npy(d.emb + 1j), ["bad.npy: embeddings must be numbers", "complex64"]),
    "text": (lambda d: npy(d.emb.astype("U8")), ["bad.npy: embeddings must be numbers"]),
    "fewer": (lambda d: npy(d.emb[:-1]), ["scores.npy: has 40 rows", "bad.npy has 39"]),
    "object": (lambda d: npy(d.emb.astype(object)), ["bad.npy: ", "dtype object"]),
    "truncated": (
        lambda d: raw(Path("emb.npy").read_bytes()[:-1]),
        ["bad.bin: is cut off", "640 bytes", "639"],
    ),
    "truncated header": (
        lambda d: raw(Path("emb.npy").read_bytes()[:50]),
        ["bad.bin: the .npy header cannot be read"],
    ),
    "truncated parquet": (
        lambda d: raw(Path(parquet(emb=lists(d.emb))).read_bytes()[:-9]),
        ["bad.bin: cannot be read"],
    ),
    "truncated arrow": (
        lambda d: raw(Path(arrow(emb=lists(d.emb))).read_bytes()[:200]),
        ["bad.bin: cannot be read"],
    ),
    "truncated npz": (
        lambda d: raw(Path(npz(emb=d.emb)).read_bytes()[:-30]),
        ["bad.bin: is not a readable .npz file"],
    ),
    "no arrays": (lambda d: npz(), ["bad.npz: the .npz file holds no arrays"]),
    "ragged": (
        lambda d: parquet(emb=lists(row_put(d.emb, 5, [1.0, 2.0, 3.0]))),
        ["bad.parquet: emb: row 5 has 3 values", "4"],
    ),
    "ragged arrow": (
        lambda d: stream(emb=lists(row_put(d.emb, 5, []))),
        ["bad.arrows: emb: row 5 has 0 values", "4"],
    ),
    "null list": (
        lambda d: parquet(emb=lists(row_put(d.emb, 5, None))),
        ["bad.parquet: emb: row 5: column 0 is nan (or null)"],
    ),
    "null first": (
        lambda d: parquet(emb=lists(row_put(d.emb, 0, None))),
        ["bad.parquet: emb: row 0: column 0 is nan (or null)"],
    ),
    "null fixed": (
        lambda d: arrow(emb=lists(row_put(d.emb, 5, None), FIXED)),
        ["bad.arrow: emb: row 5: column 0 is nan (or null)"],
    ),
    "null inside": (
        lambda d: parquet(emb=lists(row_put(d.emb, 5, [1.0, None, 3.0, 4.0]))),
        ["bad.parquet: emb: row 5: column 1 is nan (or null)"],
    ),
    "null inside fixed": (
        lambda d: arrow(emb=lists(row_put(d.emb, 5, [1.0, 2.0, 3.0, None]), FIXED)),
        ["bad.arrow: emb: row 5: column 3 is nan (or null)"],
    ),
    "null numbered": (
        lambda d: parquet(x_0=[*d.emb[:-1, 0].tolist(), None], x_1=d.emb[:, 1]),
        ["bad.parquet: x: row 39: column 0 is nan (or null)"],
    ),
    "list of text": (
        lambda d: parquet(emb=pa.array([["a"]] * d.n)),
        ["bad.parquet: has no column or member that could be embeddings", "emb"],
    ),
    "no rows npy": (lambda d: npy(d.emb[:0]), ["bad.npy: there are no rows"]),
    "no rows npz": (lambda d: npz(emb=d.emb[:0]), ["bad.npz: emb: there are no rows"]),
    "no rows parquet": (
        lambda d: parquet(emb=lists([], pa.list_(pa.float32()))),
        ["bad.parquet: emb: there are no rows"],
    ),
    "no rows arrow": (lambda d: arrow(emb=lists([], FIXED)), ["bad.arrow: emb: there are no"]),
    "no rows stream": (lambda d: stream(emb=lists([], FIXED)), ["bad.arrows: emb: there are no"]),
    "no rows csv": (lambda d: csv([]), ["bad.csv: ", "there are no rows"]),
    "ambiguous": (
        lambda d: npz(b32_img=d.emb, b32_txt=d.emb, x=d.scores),
        ["bad.npz: b32_img, b32_txt could all be embeddings"],
    ),
    "ambiguous parquet": (
        lambda d: parquet(clip=lists(d.emb), dino=lists(d.emb)),
        ["bad.parquet: clip, dino could all be embeddings"],
    ),
    "none": (
        lambda d: parquet(a=d.scores, b=d.ids),
        ["bad.parquet: has no column or member that could be embeddings"],
    ),
    "empty file": (lambda d: raw(b""), ["bad.bin: the file is empty"]),
    "binary": (lambda d: raw(bytes(range(100))), ["bad.bin: is not .npy"]),
    "feather 1": (lambda d: raw(b"FEA1" + bytes(50)), ["bad.bin: is Feather version 1"]),
    "broken text": (lambda d: raw("a,b\n1,2,3\n4\n", "bad.csv"), ["bad.csv: cannot be read"]),
    "latin header": (lambda d: raw(b"\xef,b\n1,2\n", "bad.csv"), ["bad.csv: cannot be read"]),
    "missing": (lambda d: "missing.npy", ["missing.npy: no such file or folder"]),
    "not a folder": (lambda d: "emb.npy/x.npy", ["emb.npy/x.npy: Not a directory"]),
    "no match": (lambda d: "emb_*.npy", ["emb_*.npy: no file matches"]),
}


@pytest.mark.parametrize("case", EMBEDDINGS)
def test_bad_embeddings_are_refused(refuse, data, case):
    write, says = EMBEDDINGS[case]
    refuse(*select(emb=write(data)), says=says)


def test_bad_embeddings_give_a_hint(refuse, data):
    refuse(*select(npy(data.emb.astype(object))), hint="numpy.save(")
    refuse(*select(npz(a=data.emb, b=data.emb)), hint="--emb-key")
    refuse(*select(parquet(a=data.scores, b=data.ids)), hint="it has: a: double; b: string")
    refuse(*select(), "--emb-key", "x", says=["emb.npy", "'x'"], hint="leave --emb-key out")
    refuse(*select(npz(a=data.emb)), "--emb-key", "x", says=["bad.npz", "'x'"], hint="it has: a")
    refuse(
        *select(parquet(emb=lists(data.emb), t=data.ids)), "--emb-key", "img",
        says=["bad.parquet: has no column or member 'img'"],
        hint="it has: emb: list<float>; t: string",
    )  # fmt: skip
    many = {f"a{i}": data.ids for i in range(30)}
    refuse(*select(parquet(**many)), hint="a19: string; … (30)")
    columns = {"emb": lists(data.emb), "meta": data.ids}
    refuse(*select(parquet(**columns)), "--emb-key", "meta", says=["bad.parquet: meta: embeddings"])


@pytest.mark.parametrize("command", ["graph", "select"])
def test_zero_vector_under_cosine_is_refused(refuse, data, command):
    bad = npy(put(data.emb, 7, 0))
    args = select(bad) if command == "select" else ["graph", "--emb", bad, "--out", "g.arrow"]
    refuse(*args, "--metric", "cosine", says=["bad.npy: row 7", "zero vector"], hint="euclidean")


def test_errors_name_the_row_in_the_file(refuse, data):
    # The search has fewer rows, and each file counts its own rows.
    bad = npy(put(data.emb, (20, 2), NAN))
    npy(np.arange(10), "first.npy")
    says = ["bad.npy: row 20", "column 2"]
    refuse(*select(bad), "--exclude", "first.npy", says=says)
    refuse(*select(bad), "--within", "labels.npy", says=says)
    for i, rows in enumerate(np.split(put(data.emb, (20, 2), NAN), [15, 18])):
        npy(rows, f"shard_{i}.npy")
    refuse(*select("shard_*.npy"), says=["shard_2.npy: row 2", "column 2"])


def test_shards_of_different_widths_are_refused(refuse, data):
    Path("shards").mkdir()
    npy(data.emb[:20], "shards/0.npy")
    npy(data.emb[20:, :3], "shards/1.npy")
    refuse(*select("shards"), says=["shards/1.npy: rows have 3 values", "shards/0.npy have 4"])


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False, 'shape': (40, 4",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-40, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 4), }",
        "{'descr': [('a',)], 'fortran_order': False, 'shape': (40, 4), }",
        "{'descr': '<f4', 'fortran_order': 7, 'shape': (40, 4), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 'x', }",
        "{'shape': (40, 4)}",
        "{1: 2, 'a': 3}",
        "{[]: 1}",
        "import os",
        "(" * 9000,
        "",
    ],
)
def test_bad_npy_headers_are_refused(refuse, data, header):
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    refuse(*select(raw(start + data.emb.tobytes(), "bad.npy")), says=["bad.npy: "])


def test_damaged_npz_is_refused(refuse):
    rng = np.random.default_rng(0)
    np.savez_compressed("bad.npz", emb=rng.normal(size=(40, 64)))
    whole = Path("bad.npz").read_bytes()
    for at in (50, 100, 1000, len(whole) // 2):
        damaged = bytearray(whole)
        damaged[at : at + 40] = b"\xff" * 40
        Path("bad.npz").write_bytes(damaged)
        refuse(*select("bad.npz"), says=["bad.npz"])


def test_wrong_checksum_of_npz_is_refused(refuse, data):
    damaged = bytearray(Path(npz(emb=data.emb)).read_bytes())
    damaged[400] ^= 1  # in the data: only the checksum reveals it
    refuse(*select(raw(bytes(damaged), "bad.npz")), says=["bad.npz: emb: ", "CRC"])


def damage(path, width, n=40):
    """Make the offsets of one column point outside its values."""
    offsets = np.arange(0, (n + 1) * width, width, dtype=np.int32)
    wrong = offsets.copy()
    wrong[7] = 10**9
    whole = Path(path).read_bytes()
    assert whole.count(offsets.tobytes()) == 1
    Path(path).write_bytes(whole.replace(offsets.tobytes(), wrong.tobytes()))
    return path


@pytest.mark.parametrize("write", [arrow, stream])
def test_invalid_arrow_offsets_do_not_crash(refuse, data, write):
    bad = damage(write(emb=lists(data.emb)), 4)
    refuse(*select(bad), says=[f"{bad}: cannot be read", "ffset"])
    bad = damage(write(id=data.ids, score=data.scores), 5)
    refuse(*select(scores=bad), says=[f"{bad}: cannot be read", "ffset"])
    bad = damage(graph_file("g.arrow", extra=[("id", pa.array(data.ids))]), 5)
    args = ["--scores", "scores.npy", "--out", "p.npy"]
    refuse("propagate", "--graph", bad, *args, says=["g.arrow: cannot be read", "ffset"])


# -- pickles --------------------------------------------------------------------------------------
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_never_unpickled(refuse, data, protocol):
    class Mine:
        def __reduce__(self):
            return Path.touch, (Path("was_run"),)

    raw(pickle.dumps({"el2n": Mine()}, protocol), "dynamics.pickle")
    refuse(
        *select(scores="dynamics.pickle"), says=["dynamics.pickle: is a pickle"], hint="d['NAME']"
    )


def test_hint_for_a_pickle_works(data, run_cli):
    raw(pickle.dumps({"el2n": data.scores.tolist()}), "dynamics.pickle")
    Path("scores.npy").unlink()
    _, _, err = run_cli(*select(scores="dynamics.pickle"), "--scores-key", "el2n")
    hint = next(line for line in err.splitlines() if line.startswith("hint: "))
    exec(hint.split("in Python: ")[1], {})
    np.testing.assert_array_equal(np.load("el2n.npy"), data.scores)


def test_pickled_arrays_are_refused(refuse, data):
    refuse(*select(scores=npy(np.array([{"a": 1}]))), says=["bad.npy: ", "pickled"])
    bad = npz(el2n=data.scores, names=np.array(data.ids, object))
    refuse(*select(scores=bad), "--scores-key", "names", says=["bad.npz: names: ", "pickled"])


def test_torch_files_are_refused(refuse):
    with zipfile.ZipFile("scores.pt", "w") as archive:
        archive.writestr("scores/data.pkl", b"\x80\x02")
    refuse(*select(scores="scores.pt"), says=["scores.pt: is a PyTorch file"], hint="torch.load(")


# -- scores ---------------------------------------------------------------------------------------
SCORES = {
    "nan": (lambda d: npy(put(d.scores, 3, NAN)), ["bad.npy: row 3", "nan"], ""),
    "inf": (lambda d: npy(put(d.scores, 3, INF)), ["bad.npy: row 3", "inf"], ""),
    "nan parquet": (
        lambda d: parquet(el2n=put(d.scores, 3, NAN)),
        ["bad.parquet: el2n: row 3", "nan"],
        "",
    ),
    "null parquet": (
        lambda d: parquet(el2n=[*d.scores[:-1].tolist(), None]),
        ["bad.parquet: el2n: row 39: score is nan (or null)"],
        "",
    ),
    "nan csv": (
        lambda d: raw("el2n\n" + "1\n" * 5 + "nan\n" + "1\n" * 34, "bad.csv"),
        ["bad.csv: el2n: row 5"],
        "",
    ),
    "negative": (
        lambda d: npy(put(d.scores, 3, -0.5)),
        ["bad.npy: row 3", "negative (-0.5)"],
        "--score-transform shift, minmax or rank",
    ),
    "2-D": (lambda d: npy(d.emb), ["bad.npy: scores must be one-dimensional"], ""),
    "text": (lambda d: npy(np.array(d.ids)), ["bad.npy: scores must be numbers"], ""),
    "fewer": (lambda d: npy(d.scores[1:]), ["bad.npy: has 39 rows", "emb.npy has 40"], "ids"),
    "ambiguous": (
        lambda d: parquet(el2n=d.scores, forgetting=d.scores, uid=d.ids, label=d.labels),
        ["bad.parquet: el2n, forgetting could all be scores"],
        "--scores-key",
    ),
    "none": (lambda d: parquet(uid=d.ids), ["bad.parquet: has no column", "scores"], "has: uid"),
    "double name": (
        lambda d: raw("a,a\n" + "1,2\n" * d.n, "bad.csv"),
        ["bad.csv: has no columns, or only columns of the same name"],
        "",
    ),
    "empty": (lambda d: npy(d.scores[:0]), ["bad.npy: there are no rows"], ""),
    "twice the id": (
        lambda d: parquet(id=["a", *d.ids[1:-1], "a"], score=d.scores),
        ["bad.parquet: score: row 0", "the id 'a' occurs 2 times"],
        "--id-column none",
    ),
    "float ids": (
        lambda d: parquet(id=d.scores, score=d.scores),
        ["bad.parquet: id: ids must be integers or text, not float64"],
        "--id-column none",
    ),
    "null id": (
        lambda d: parquet(id=[*d.ids[:5], None, *d.ids[6:]], score=d.scores),
        ["bad.parquet: id: row 5 is null"],
        "",
    ),
}


@pytest.mark.parametrize("case", SCORES)
def test_bad_scores_are_refused(refuse, data, case):
    write, says, hint = SCORES[case]
    refuse(*select(scores=write(data)), says=says, hint=hint)


def test_easier_needs_a_transform(refuse):
    refuse(
        *select(), "--higher-is", "easier",
        says=["scores.npy: row 0", "easier"], hint="--score-transform shift, minmax or rank",
    )  # fmt: skip


# -- labels, include, exclude, cutoff -------------------------------------------------------------
def test_bad_labels_are_refused(refuse, data):
    balance = [*select(), "--balance", "uniform"]
    refuse(*balance, code=2, says=["--balance uniform needs --labels"])
    refuse(*balance, "--labels", npy(data.labels[:-1]), says=["bad.npy: has 39 rows", "40"])
    refuse(
        *balance,
        "--labels",
        npy(data.scores),
        says=["bad.npy: row 0 is", "labels must be text or whole"],
    )
    refuse(*balance, "--labels", "emb.npy", says=["emb.npy: labels must be one-dimensional"])
    refuse(*select(), "--labels-key", "x", code=2, says=["--labels-key"])


ROWS = {
    "above": (lambda: npy([3, 40]), ["bad.npy: row 1: 40 is no row of emb.npy (0 … 39)"]),
    "below": (lambda: raw("3\n-1\n", "bad.txt"), ["bad.txt: ", "row 1: -1 is no row"]),
    "huge": (lambda: npy(np.array([2**63], "u8")), ["bad.npy: row 0: 9223372036854775808 is no"]),
    "mask": (lambda: npy(np.ones(39, bool)), ["bad.npy: the mask has 39 values", "40"]),
    "floats": (lambda: npy(np.array([1.0])), ["bad.npy: rows must be integers or text"]),
    "ids": (lambda: raw("id001\n", "bad.txt"), ["bad.txt: ", "no input has ids"]),
    "ambiguous": (lambda: parquet(a=[1], b=[2]), ["bad.parquet: a, b could all be rows"]),
    "missing": (lambda: "missing.txt", ["missing.txt: no such file"]),
}


@pytest.mark.parametrize("case", ROWS)
@pytest.mark.parametrize("option", ["--include", "--exclude"])
def test_bad_row_lists_are_refused(refuse, case, option):
    write, says = ROWS[case]
    refuse(*select(), option, write(), says=says)


def test_unknown_ids_are_refused(refuse, data):
    parquet("with_ids.parquet", id=data.ids, score=data.scores)
    bad = raw("id003\nnobody\n", "bad.txt")
    for option in ("--include", "--exclude"):
        refuse(
            *select(scores="with_ids.parquet"), option, bad,
            says=["bad.txt: ", "row 1", "emb.npy has no id 'nobody'"],
        )  # fmt: skip


def test_row_lists_with_ids_of_another_type_are_refused(refuse, data):
    parquet("numbers.parquet", id=range(40), score=data.scores)
    refuse(
        *select(scores="numbers.parquet"), "--exclude", raw("id001\n", "bad.txt"),
        says=["bad.txt: ", "ids are large_string, but int64 in emb.npy"],
    )  # fmt: skip


@pytest.mark.parametrize("more", [[], ["--higher-is", "better"], ["--score-transform", "rank"]])
def test_nothing_is_left_of_rows_that_are_all_excluded(refuse, more):
    npy(np.arange(40), "all.npy")
    refuse(*select(), "--exclude", "all.npy", *more, says=["no row is left: all are excluded"])


def test_contradicting_include_exclude_and_budget_are_refused(refuse):
    npy(np.arange(12), "in.npy")
    npy(np.arange(11, 30), "out.npy")
    include = ["--include", "in.npy"]
    refuse(
        *select(), *include, "--exclude", "out.npy",
        says=["in.npy: row 11", "to be included, and is excluded"],
    )  # fmt: skip
    for gamma in ("auto", "1"):
        small = select(budget=["--size", "11", "--gamma-reverse", gamma])
        refuse(*small, *include, code=2, says=["budget of 11", "12 included"])
    sizes = ["--size", "30", "--size", "11", "--out", "kept_{size}.npy", "--gamma-reverse", "1"]
    refuse(*select(budget=sizes), *include, code=2, says=["budget of 11"])


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("--size 41", "a budget of 41 is more than the 40"),
        ("--size 31 --exclude ten.npy", "a budget of 31 is more than the 30 rows"),
        ("--ratio 0.9 --cutoff 0.2", "a budget of 36 is more than the 32 rows"),
        ("--ratio 0.5 --cutoff 1", "cutoff must be at least 0 and below 1"),
        ("--ratio 0.5 --cutoff -0.1", "cutoff must be at least 0 and below 1"),
        ("--ratio 0.5 --cutoff nan", "cutoff must be at least 0 and below 1"),
    ],
)
def test_budgets_above_the_available_rows_are_refused(refuse, args, says):
    npy(np.arange(10), "ten.npy")
    refuse(*select(budget=args.split()), code=2, says=[says])


def test_bad_cutoff_scores_are_refused(refuse, data):
    cut = [*select(), "--cutoff", "0.1", "--cutoff-scores"]
    refuse(*cut, npy(put(data.scores, 3, NAN)), says=["bad.npy: row 3", "nan"])
    refuse(*cut, npy(data.scores[1:]), says=["bad.npy: has 39 rows"])


# -- usage ----------------------------------------------------------------------------------------
USAGE = [
    ("--ratio 0", "ratio must be above 0 and at most 1, not 0"),
    ("--ratio -0.5", "ratio must be above 0"),
    ("--ratio 1.01", "ratio must be above 0 and at most 1, not 1.01"),
    ("--ratio nan", "ratio must be above 0"),
    ("--ratio half", "--ratio must be a number, not 'half'"),
    ("--size 0", "a budget must be at least 1, not 0"),
    ("--size -3", "a budget must be at least 1, not -3"),
    ("--size 1.5", "--size"),
    ("", "--ratio or --size"),
    ("--ratio 0.5 --ratio 0.2 --out x.npy", "several budgets would be written to x.npy"),
    ("--ratio 0.5 --size 20 --out x_{size}.npy", "several budgets would be written to x_20.npy"),
    ("--size 4 --out x_{ratio}.npy", "{ratio} in --out needs every budget to be a --ratio"),
    ("--ratio 0.5 --as id", "--as id needs ids"),
    ("--ratio 0.5 --as datacomp-uid", "--as datacomp-uid needs ids"),
    ("--ratio 0.5 --as mask --order rank", "--order rank has no meaning with --as mask"),
    ("--ratio 0.5 --as mask --out x.parquet", "x.parquet: --as is for .npy and text"),
    ("--ratio 0.5 --complement --order rank", "--complement has no rank"),
    ("--ratio 0.5 --json --out -", "--json and --out - both want standard output"),
    ("--ratio 0.5 --mode paper", "--mode paper has no automatic gamma_reverse"),
    ("--ratio 0.5 --mode reference --gamma-reverse auto", "--mode reference has no automatic"),
    (
        "--ratio 0.5 --mode reference --gamma-reverse 1 --method hnsw",
        "--mode reference is defined on an exact graph",
    ),
    ("--ratio 0.5 --gamma-reverse much", "--gamma-reverse must be auto or a number, not 'much'"),
    ("--ratio 0.5 --gamma-reverse -1", "gamma_reverse"),
    ("--ratio 0.5 --gamma-reverse nan", "gamma_reverse"),
    ("--ratio 0.5 --gamma-forward -1", "gamma_forward"),
    ("--ratio 0.5 --gamma-forward x", "--gamma-forward"),
    ("--ratio 0.5 --bandwidth wide", "--bandwidth must be median or a number, not 'wide'"),
    ("--ratio 0.5 --bandwidth 0", "bandwidth"),
    ("--ratio 0.5 --bandwidth -1", "bandwidth"),
    ("--ratio 0.5 --bandwidth nan", "bandwidth"),
    ("--ratio 0.5 --hops -1", "hops"),
    ("--ratio 0.5 --metric manhattan", "manhattan"),
    ("--ratio 0.5 --method brute", "brute"),
    ("--ratio 0.5 --edges none", "none"),
    ("--ratio 0.5 --kernel box", "box"),
    ("--ratio 0.5 --mode best", "best"),
    ("--ratio 0.5 --higher-is worse", "worse"),
    ("--ratio 0.5 --score-transform log", "log"),
    ("--ratio 0.5 --balance equal", "equal"),
    ("--ratio 0.5 --order random", "random"),
    ("--ratio 0.5 --as json", "json"),
    ("--ratio 0.5 -k 0", "n_neighbors must be at least 1, not 0"),
    ("--ratio 0.5 -k many", "--n-neighbors"),
    ("--ratio 0.5 --recall 0", "recall"),
    ("--ratio 0.5 --hnsw-m 1", "hnsw_m"),
    ("--ratio 0.5 --seed -1", "seed"),
    ("--ratio 0.5 --threads 0", "threads must be at least 1, not 0"),
    ("--ratio 0.5 --out x.pickle", "x.pickle: the ending gives the format, and .pickle is not"),
    ("--ratio 0.5 --out x", "x: the ending gives the format"),
    ("--ratio 0.5 --out emb.npy", "emb.npy: the output would overwrite this input"),
    ("--ratio 0.5 --out ./scores.npy", "scores.npy: the output would overwrite this input"),
    ("--ratio 0.5 --id-column key", "--id-column key: no input has a column of this name"),
    ("--ratio 0.5 --keep 3", "--keep"),
    ("--ratio 0.5 --propagated scores.npy", "--propagated belongs to a graph"),
    ("--ratio 0.5 --cutoff-higher-is easier", "--cutoff-higher-is needs --cutoff-scores"),
    (
        "--ratio 0.5 --cutoff 0.1 --cutoff-higher-is harder",
        "--cutoff-higher-is needs --cutoff-scores",
    ),
]


@pytest.mark.parametrize(("args", "says"), USAGE, ids=[args for args, _ in USAGE])
def test_wrong_usage_is_refused(refuse, args, says):
    refuse(*select(budget=args.split()), code=2, says=[says])


def test_wrong_usage_gives_a_hint(refuse):
    refuse(*select(), "--mode", "paper", code=2, hint="--gamma-reverse 1.0")
    two = ["--ratio", "0.1", "--ratio", "0.2", "--out", "x.npy"]
    refuse(*select(budget=two), code=2, hint="{ratio}")
    refuse(*select(), "--as", "id", code=2, hint="--id-column")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("select --scores scores.npy --ratio 0.5", "select needs --emb or --graph"),
        ("select --emb emb.npy --ratio 0.5", "select needs --scores or --propagated"),
        ("select --emb= --scores scores.npy --ratio 0.5", "--emb is given an empty path"),
        ("graph --out g.arrow", "graph needs --emb"),
        ("graph --emb emb.npy", "--out"),
        ("graph --emb emb.npy --out g.npy", "g.npy: a graph is an Arrow file"),
        ("propagate --graph g.arrow --out p.npy", "propagate needs --scores"),
        ("propagate --scores scores.npy --out p.npy", "--graph"),
        ("propagate --graph g.arrow --scores scores.npy", "--out"),
        ("propagate --graph g.arrow --scores scores.npy --out p.csv", "p.csv: propagated scores"),
        ("prune", "prune"),
    ],
)
def test_missing_options_are_refused(refuse, args, says):
    refuse(*args.split(), code=2, says=[says])


# -- outputs --------------------------------------------------------------------------------------
def test_unwritable_outputs_are_refused(refuse):
    Path("folder.npy").mkdir()
    Path("x.npy.json").mkdir()
    refuse(
        *select(), "--out", "no/where/x.npy",
        says=["no/where/x.npy: the folder ", "no/where does not exist"], hint="mkdir -p",
    )  # fmt: skip
    refuse(*select(), "--out", "folder.npy", says=["folder.npy: is not a regular file"])
    refuse(*select(), "--out", "x.npy", says=["x.npy.json: is not a regular file"])
    os.mkfifo("pipe.npy")
    refuse(*select(), "--out", "pipe.npy", says=["pipe.npy: is not a regular file"])
    for command in ("graph --emb emb.npy", "propagate --graph g.arrow --scores scores.npy"):
        out = "no/g.arrow" if command.startswith("graph") else "no/p.npy"
        if command.startswith("propagate"):
            graph_file("g.arrow")
        refuse(*command.split(), "--out", out, says=[f"{out}: the folder "])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_folder_is_refused(refuse):
    Path("locked").mkdir(mode=0o500)
    refuse(*select(), "--out", "locked/x.npy", says=["locked/x.npy: the folder", "cannot be writ"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_unreadable_file_is_refused(run_cli, data):
    Path("emb.npy").chmod(0)
    code, out, err = run_cli(*select())
    assert (code, out) == (1, "")
    assert "emb.npy: Permission denied" in err


def test_inputs_are_not_overwritten_through_links_or_other_options(refuse, data):
    os.symlink("emb.npy", "link.npy")
    os.link("scores.npy", "hard.npy")
    npy(np.arange(3), "rows.npy")
    graph_file("g.arrow")
    over = "the output would overwrite this input"
    refuse(*select(), "--out", "link.npy", code=2, says=[over])
    refuse(*select(), "--out", "hard.npy", code=2, says=[over])
    for option in ("--include", "--exclude", "--cutoff-scores", "--labels", "--within"):
        given = "labels.npy" if option in ("--labels", "--within") else "rows.npy"
        if option == "--cutoff-scores":
            given = npy(data.scores, "c.npy")
        args = [*select(), "--cutoff", "0.1", option, given, "--out", given]
        refuse(*args, code=2, says=[f"{given}: {over}"])
    graph = ["select", "--graph", "g.arrow", "--scores", "scores.npy", "--ratio", "0.5"]
    refuse(*graph, "--out", "g.arrow", code=2, says=[over])
    args = ["propagate", "--graph", "g.arrow", "--scores", "scores.npy", "--out", "scores.npy"]
    refuse(*args, code=2, says=[over])
    arrow("e.arrow", emb=lists(data.emb))
    refuse("graph", "--emb", "e.arrow", "--out", "e.arrow", code=2, says=[over])
    arrow("x.arrow", index=[1])
    args = ["graph", "--emb", "emb.npy", "--exclude", "x.arrow", "--out", "x.arrow"]
    refuse(*args, code=2, says=[over])


# -- odd inputs -----------------------------------------------------------------------------------
def test_inputs_that_are_no_regular_files_are_refused(refuse):
    os.mkfifo("pipe.npy")
    Path("empty").mkdir()
    Path("empty/notes.md").write_text("x")
    Path("empty/.hidden.npy").write_bytes(b"")
    refuse(*select("pipe.npy"), says=["pipe.npy: is not a regular file"])
    refuse(*select("/dev/null"), says=["/dev/null: is not a regular file"])
    refuse(*select("empty"), says=["empty: the folder holds no data files for --emb"])
    graph = ["--scores", "scores.npy", "--out", "p.npy"]
    refuse("propagate", "--graph", "empty", *graph, says=["empty: the folder holds no data files"])
    refuse("propagate", "--graph", "pipe.npy", *graph, says=["pipe.npy: is not a regular file"])


def test_paths_with_line_breaks_are_printed_on_one_line(refuse):
    refuse(*select("two\nlines.npy"), says=["two\\nlines.npy: no such file"])


# -- graphs ---------------------------------------------------------------------------------------
K = 3


def graph_file(path="bad.arrow", n=40, meta=None, drop=(), cast=None, extra=(), **cells):
    """A graph: row i lists i+1, i+2, i+3. ``neighbors_2_0=9`` puts 9 into row 2, place 0."""
    columns = {
        "neighbors": [[(i + p) % n for p in (1, 2, 3)] for i in range(n)],
        "distances": [[0.5, 1.0, 1.5] for _ in range(n)],
    }
    for name, value in cells.items():
        column, row, place = name.split("_")
        columns[column][int(row)][int(place)] = value
    kinds = {"neighbors": pa.list_(pa.int32(), K), "distances": pa.list_(pa.float32(), K)}
    kinds |= cast or {}
    arrays = {name: pa.array(values, kinds[name]) for name, values in columns.items()}
    arrays |= dict(extra)
    table = pa.table({name: array for name, array in arrays.items() if name not in drop})
    entry = {"format_version": 1, "graph": {"method": "exact"}} if meta is None else meta
    if entry != "none":
        text = entry if isinstance(entry, str) else json.dumps(entry)
        table = table.replace_schema_metadata({"d2prune": text})
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return path


GRAPHS = {
    "no metadata": ({"meta": "none"}, ["is not a graph"]),
    "no json": ({"meta": "{"}, ["metadata cannot be read"]),
    "a list": ({"meta": [1]}, ["metadata cannot be read"]),
    "no version": ({"meta": {"a": 1}}, ["metadata cannot be read"]),
    "odd graph": (
        {"meta": {"format_version": 1, "graph": "x"}},
        ["metadata is damaged: 'graph' is no"],
    ),
    "odd inputs": (
        {"meta": {"format_version": 1, "inputs": 3}},
        ["metadata is damaged: 'inputs' is no"],
    ),
    "future": ({"meta": {"format_version": 2}}, ["format version 2", "reads 1"]),
    "no neighbors": ({"drop": ["neighbors"]}, ["no column 'neighbors'"]),
    "no distances": ({"drop": ["distances"]}, ["no column 'distances'"]),
    "int16": (
        {"cast": {"neighbors": pa.list_(pa.int16(), K)}},
        ["neighbors must be fixed_size_list<int32>"],
    ),
    "lists": (
        {"cast": {"distances": pa.list_(pa.float32())}},
        ["distances must be fixed_size_list<float"],
    ),
    "out of range": ({"neighbors_4_2": 40}, ["row 4", "no row of the graph"]),
    "below": ({"neighbors_4_0": -2}, ["row 4", "no row of the graph"]),
    "self": ({"neighbors_4_1": 4}, ["row 4", "itself"]),
    "nan": ({"distances_4_1": NAN}, ["row 4", "NaN"]),
    "negative": ({"distances_4_0": -1.0}, ["row 4", "negative"]),
    "infinite": ({"distances_4_2": INF}, ["row 4", "infinite"]),
    "unsorted": ({"distances_4_0": 9.0}, ["row 4", "sorted"]),
    "tie": ({"distances_4_0": 1.0, "neighbors_4_0": 39}, ["row 4", "sorted"]),
    "twice": ({"neighbors_4_1": 5}, ["row 4", "twice"]),
    "half missing": ({"neighbors_4_2": -1}, ["row 4", "missing place"]),
    "hole": ({"neighbors_4_1": -1, "distances_4_1": INF}, ["row 4", "missing place"]),
    "null row": ({"neighbors_4_0": None}, ["neighbors: row 4", "null"]),
    "no rows": ({"n": 0}, ["there are no rows"]),
    "excluded type": (
        {"extra": [("excluded", pa.array(["false"] * 40))]},
        ["excluded must be bool, not string"],
    ),
    "excluded lists": (
        {"extra": [("excluded", pa.array([False] * 7 + [True] + [False] * 32))]},
        ["row 4", "lists an excluded row"],
    ),
    "null id": ({"extra": [("id", pa.array([None] + ["a"] * 39))]}, ["id: row 0 is null"]),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_bad_graph_files_are_refused(refuse, case):
    changes, says = GRAPHS[case]
    args = ["--scores", "scores.npy", "--out", "p.npy"]
    refuse("propagate", "--graph", graph_file(**changes), *args, says=["bad.arrow", *says])


def test_other_files_are_refused_as_graphs(refuse, data):
    args = ["--scores", "scores.npy", "--ratio", "0.5"]
    for path in ("emb.npy", parquet(emb=lists(data.emb)), stream(emb=lists(data.emb)), raw(b"")):
        refuse("select", "--graph", path, *args, says=[path])
    refuse("select", "--graph", "emb.npy", *args, hint="d2prune graph")
    refuse("select", "--graph", "missing.arrow", *args, says=["missing.arrow: no such file"])
    whole = Path(graph_file()).read_bytes()
    refuse("select", "--graph", raw(whole[:-100]), *args, says=["bad.bin"])


def test_graphs_of_other_data_are_refused(refuse, data, run_cli):
    args = ["--scores", "scores.npy", "--ratio", "0.5"]
    refuse(
        "select", "--graph", graph_file(n=39), *args,
        says=["scores.npy: has 40 rows, bad.arrow has 39"],
    )  # fmt: skip
    assert run_cli("graph", "--emb", "emb.npy", "--out", "g.arrow", "-k", 3)[0] == 0
    npy(data.emb[::-1], "other.npy")
    refuse(
        "select", "--graph", "g.arrow", "--emb", "other.npy", *args,
        says=["g.arrow: was not built from other.npy"], hint="build the graph again",
    )  # fmt: skip
    assert run_cli("graph", "--emb", "other.npy", "--out", "h.arrow", "-k", 3)[0] == 0
    propagate = ["--scores", "scores.npy", "--out", "p.npy"]
    assert run_cli("propagate", "--graph", "g.arrow", *propagate)[0] == 0
    refuse(
        "select", "--graph", "h.arrow", "--propagated", "p.npy", "--ratio", "0.5",
        says=["p.npy: was propagated on another graph than h.arrow"], hint="d2prune propagate",
    )  # fmt: skip
    ids = [("id", pa.array(data.ids))]
    parquet("s.parquet", id=[*data.ids[:-1], "new"], score=data.scores)
    refuse(
        "select", "--graph", graph_file(extra=ids), "--scores", "s.parquet", "--ratio", "0.5",
        says=["s.parquet: ", f"has no id {data.ids[-1]!r}", "row 39 of bad.arrow"],
    )  # fmt: skip


@pytest.mark.parametrize("value", [NAN, INF])
def test_bad_propagated_scores_are_refused(refuse, data, value):
    args = ["select", "--graph", graph_file("g.arrow"), "--ratio", "0.5", "--propagated"]
    refuse(*args, npy(put(data.scores, 9, value)), says=["bad.npy: row 9", "propagated score is"])
    refuse(*args, npy(data.scores[1:]), says=["bad.npy: has 39 rows, g.arrow has 40"])


def test_reference_on_an_approximate_graph_is_refused(refuse):
    graph_file("g.arrow", meta={"format_version": 1, "graph": {"method": "hnsw"}})
    args = ["--graph", "g.arrow", "--scores", "scores.npy", "--mode", "reference"]
    exact = "--mode reference is defined on an exact graph"
    refuse("propagate", *args, "--out", "p.npy", code=2, says=[exact], hint="--method exact")
    refuse("select", *args, "--ratio", "0.5", "--gamma-reverse", "1", code=2, says=[exact])


# -- ids ------------------------------------------------------------------------------------------
IDS = {
    "missing": (
        lambda d: parquet(id=[*d.ids[:-1], "new"], score=d.scores),
        ["bad.parquet: score: has no id", "row 39 of e.parquet"],
    ),
    "fewer": (
        lambda d: parquet(id=d.ids[:30], score=d.scores[:30]),
        ["bad.parquet: score: has no id", "one of 10 missing ids"],
    ),
    "other type": (
        lambda d: parquet(id=range(d.n), score=d.scores),
        ["bad.parquet: score: ids are int64, but large_string in e.parquet: emb"],
    ),
    "not ids": (
        lambda d: parquet(key=d.scores, score=d.scores),
        ["bad.parquet: key: ids must be integers or text, not float64"],
    ),
    "no ids, fewer rows": (lambda d: npy(d.scores[1:]), ["bad.npy: has 39 rows", "has 40"]),
}


@pytest.mark.parametrize("case", IDS)
def test_inputs_with_other_ids_are_refused(refuse, data, case):
    write, says = IDS[case]
    parquet("e.parquet", id=data.ids, key=data.ids, emb=lists(data.emb))
    column = ["--id-column", "key"] if case == "not ids" else []
    key = [] if case == "no ids, fewer rows" else ["--scores-key", "score"]
    refuse(*select("e.parquet", write(data)), *key, *column, says=says)


def test_ids_in_some_shards_only_are_refused(refuse, data):
    Path("s").mkdir()
    parquet("s/0.parquet", id=data.ids[:20], score=data.scores[:20])
    parquet("s/1.parquet", score=data.scores[20:])
    refuse(
        *select(scores="s"), says=["s/0.parquet", "only some files of --scores have the column id"]
    )
    parquet("s/1.parquet", id=range(20), score=data.scores[20:])
    refuse(*select(scores="s"), says=["s/1.parquet: id: is int64, but large_string in s/0"])


def test_other_ids_are_refused_as_datacomp_uids(refuse, data):
    uids = [f"{i:032x}" for i in range(data.n)]
    for bad in ("0" * 31, "0" * 31 + "g", "0" * 33, ""):
        scores = parquet(uid=[*uids[:6], bad, *uids[7:]], score=data.scores)
        refuse(
            *select(scores=scores), "--as", "datacomp-uid",
            says=[f"the id of row 6, {bad!r}, is no DataComp uid"],
        )  # fmt: skip


def test_datacomp_uids_are_npy_only(refuse, data):
    scores = parquet(uid=[f"{i:032x}" for i in range(data.n)], score=data.scores)
    refuse(
        *select(scores=scores), "--as", "datacomp-uid", "--out", "x.txt", code=2,
        says=["x.txt: --as datacomp-uid is written to .npy only"],
    )  # fmt: skip


def test_ids_with_line_breaks_are_refused_in_text(refuse, data):
    scores = parquet(id=[f"{i}\n" for i in range(data.n)], score=data.scores)
    refuse(*select(scores=scores), "--as", "id", "--out", "x.txt", says=["line break"])
