"""Field cases C: rows that cannot be used are excluded, dropped, or refused together."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.field.make import IDS, LOGITS, RATIO, N, P, S, X, Y, array, lines, write, write_table

BAD = [5, 77, 200]
EMB, SCORES = ("--emb", "e.npy"), ("--scores", "s.npy")
DROP = ("--bad-rows", "drop")


def with_value(values, value, rows=BAD):
    """A copy with bad rows."""
    found = np.array(values)
    found[rows] = value
    return found


def one_entry(value):
    """Embeddings with one bad entry in each bad row."""
    found = X.copy()
    found[BAD, [0, 7, 15]] = value
    return found


BAD_EMB = {
    "NaN": with_value(X, np.nan),
    "one NaN": one_entry(np.nan),
    "infinity": one_entry(np.inf),
    "minus infinity": with_value(X, -np.inf),
    "float16": with_value(X.astype(np.float16), np.inf),
    "float64": with_value(X.astype(np.float64), np.nan),
    "beyond float32": with_value(X.astype(np.float64), 1e300),
}


def excluded(form):
    """The bad rows as the options take them."""
    if form == "mask":
        return array("x.npy", np.isin(np.arange(N), BAD))
    if form == "indices":
        return array("x.npy", np.array(BAD))
    return lines("bad.txt", BAD)


@pytest.fixture
def wanted(field):
    """The selection if the bad rows hold anything and are excluded."""

    def find(emb=X, *options):
        lines("plain.txt", BAD)
        return field.wanted(emb, S, "--exclude", "plain.txt", *options)

    return find


# -- C1: NaN in excluded rows ---------------------------------------------------------------------
@pytest.mark.parametrize("kind", BAD_EMB)
def test_bad_embeddings_in_excluded_rows(field, wanted, kind):
    array("e.npy", BAD_EMB[kind])
    array("s.npy", S)
    clean = with_value(BAD_EMB[kind], 1).astype(np.float32)
    want = wanted(clean)
    assert not np.isin(BAD, want).any()
    x = excluded("text")
    field.works(*EMB, *SCORES, "--exclude", x, want=want).has_line("exclud", x, "3")
    field.run("graph", *EMB, "--exclude", x, "--out", "g.arrow").done()
    for more in ((), ("--exclude", x)):
        field.works("--graph", "g.arrow", *SCORES, *more, want=want)
    field.run("propagate", "--graph", "g.arrow", *SCORES, "--out", "u.npy").done()
    field.works("--graph", "g.arrow", "--propagated", "u.npy", want=want)


@pytest.mark.parametrize("form", ["text", "mask", "indices", "repeated"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_excluded_rows_in_any_form(field, wanted, form, metric):
    array("e.npy", BAD_EMB["NaN"])
    array("s.npy", S)
    want = wanted(X, "--metric", metric)
    given = (*EMB, *SCORES, "--metric", metric)
    if form == "repeated":
        more = ("--exclude", lines("a.txt", BAD[:1]), "--exclude", lines("b.txt", BAD[1:]))
    else:
        more = ("--exclude", excluded(form))
    field.works(*given, *more, want=want)


@pytest.mark.parametrize("method", ["exact", "hnsw", "blocks"])
def test_bad_embeddings_in_excluded_rows_by_any_method(field, wanted, method):
    array("e.npy", BAD_EMB["one NaN"])
    array("s.npy", S)
    want = wanted(X, "--method", method)
    field.works(*EMB, *SCORES, "--method", method, "--exclude", excluded("text"), want=want)
    field.works(*EMB, *SCORES, "--method", method, *DROP, want=want)


@pytest.mark.parametrize("ending", ["parquet", "csv", "npz", "arrow"])
@pytest.mark.parametrize("by", ["row", "id"])
def test_bad_embeddings_of_tables_in_excluded_rows(field, wanted, ending, by):
    e = write(f"e.{ending}", id=IDS, embedding=BAD_EMB["NaN"])
    write("s.parquet", id=IDS[P], score=S[P])
    x = excluded("text") if by == "row" else lines("x.txt", IDS[BAD])
    given = ("--emb", e, "--scores", "s.parquet")
    field.works(*given, "--exclude", x, want=wanted())
    field.works(*given, *DROP, want=wanted())


@pytest.mark.parametrize("type_", ["list", "fixed"])
def test_null_embeddings(field, wanted, type_):
    """A failed download leaves null where the vector should be."""
    rows = [None if i in BAD else row.tolist() for i, row in enumerate(X)]
    kind = pa.list_(pa.float32()) if type_ == "list" else pa.list_(pa.float32(), 16)
    write_table("e.parquet", pa.table({"embedding": pa.array(rows, kind)}))
    array("s.npy", S)
    given = ("--emb", "e.parquet", *SCORES)
    field.select(*given).refused("--exclude", "--bad-rows drop", "3", "5", names=["e.parquet"])
    field.works(*given, *DROP, want=wanted())
    field.works(*given, "--exclude", excluded("text"), want=wanted())


def test_bad_embeddings_with_labels_and_include(field, wanted):
    array("e.npy", BAD_EMB["NaN"])
    array("s.npy", S)
    array("l.npy", Y)
    lines("x.txt", BAD)
    lines("i.txt", [0, 1])
    more = ("--exclude", "x.txt", "--include", "i.txt", "--balance", "uniform")
    want = field.wanted(X, S, *more, labels=Y)
    field.works(*EMB, *SCORES, "--labels", "l.npy", *more, want=want)
    got = field.select(*EMB, *SCORES, "--labels", "l.npy", *more[2:], *DROP)
    field.same(got, want)
    lines("i.txt", [0, BAD[0]])
    field.select(*EMB, *SCORES, "--include", "i.txt", *DROP).refused(names=["i.txt", "--include"])


def test_all_rows_bad(field):
    array("e.npy", np.full_like(X, np.nan))
    array("s.npy", S)
    field.select(*EMB, *SCORES).refused("300", names=["e.npy"])
    field.select(*EMB, *SCORES, *DROP).refused(names=["e.npy"])


# -- C2: zero vectors under cosine ----------------------------------------------------------------
@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_zero_vectors_in_excluded_rows(field, wanted, zero, dtype):
    x = X.astype(dtype)
    array("e.npy", with_value(x, zero))
    array("s.npy", S)
    cosine = ("--metric", "cosine")
    want = wanted(x, *cosine)
    got = field.select(*EMB, *SCORES, *cosine)
    got.refused("3", "5", "77", "--exclude", "--bad-rows drop", "e.npy")
    field.works(*EMB, *SCORES, *cosine, "--exclude", excluded("text"), want=want)
    field.works(*EMB, *SCORES, *cosine, *DROP, want=want)
    field.run("graph", *EMB, *cosine, "--exclude", "bad.txt", "--out", "g.arrow").done()
    field.works("--graph", "g.arrow", *SCORES, want=want)


def test_zero_vectors_under_euclidean_are_no_bad_rows(field):
    x = with_value(X, 0)
    array("e.npy", x)
    array("s.npy", S)
    field.works(*EMB, *SCORES, *DROP, want=field.wanted(x))


# -- C3: bad scores -------------------------------------------------------------------------------
BAD_SCORES = {"NaN": np.nan, "minus infinity": -np.inf, "infinity": np.inf}


@pytest.mark.parametrize("kind", BAD_SCORES)
@pytest.mark.parametrize("ending", ["npy", "parquet", "csv", "npz"])
def test_bad_scores(field, wanted, kind, ending):
    array("e.npy", X)
    bad = with_value(S, BAD_SCORES[kind])
    s = array("s.npy", bad) if ending == "npy" else write(f"s.{ending}", score=bad)
    given = (*EMB, "--scores", s)
    got = field.select(*given)
    got.refused("3", "5", "77", "200", "--exclude", "--bad-rows drop", s)
    want = wanted()
    field.works(*given, "--exclude", excluded("text"), want=want)
    field.works(*given, *DROP, want=want).has_line("dropped", "3 of 300")


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("integers", [False, True])
def test_null_scores(field, wanted, ending, integers):
    array("e.npy", X)
    values = (S * N).round().astype(int).tolist() if integers else S.tolist()
    values = [None if i in BAD else v for i, v in enumerate(values)]
    s = write(f"s.{ending}", id=IDS, score=pa.array(values))
    given = (*EMB, "--scores", s)
    got = field.select(*given)
    got.refused("3", "5", "77", "--exclude", "--bad-rows drop", names=[s])
    clean = np.array([1.0 if v is None else v for v in values])
    lines("plain.txt", BAD)
    want = field.wanted(X, clean, "--exclude", "plain.txt")
    field.works(*given, *DROP, want=want)
    field.works(*given, "--exclude", "plain.txt", want=want)


def test_empty_lines_of_one_column_are_no_rows_that_vanish(field, wanted):
    """A table of one column writes null as an empty line."""
    array("e.npy", X)
    text = "score\n" + "".join("\n" if i in BAD else f"{s}\n" for i, s in enumerate(S))
    for path, content in (("s.csv", text), ("s.txt", text.removeprefix("score\n"))):
        Path(path).write_text(content)
        field.select(*EMB, "--scores", path).refused(names=[path])
        field.right(*EMB, "--scores", path, *DROP, want=wanted(), names=[path])
        array("short.npy", np.delete(X, BAD, 0))
        got = field.select("--emb", "short.npy", "--scores", path)
        got.refused(names=[path])


def test_many_bad_scores_are_counted(field):
    """How many, the first few, both ways out; not one line for each."""
    rows = np.arange(3, 290, 2)
    array("e.npy", X)
    array("s.npy", with_value(S, np.nan, rows))
    got = field.select(*EMB, *SCORES)
    got.refused(str(len(rows)), "3", "5", "--exclude", "--bad-rows drop", "s.npy")
    assert "289" not in got.err and len(got.err) < 800, got.line


def test_bad_rows_of_two_inputs(field, wanted):
    """Those of the embeddings and those of the scores are left out together."""
    array("e.npy", with_value(X, np.nan, [5, 77]))
    array("s.npy", with_value(S, np.nan, [77, 200]))
    field.select(*EMB, *SCORES).refused("--bad-rows drop", names=["e.npy", "s.npy"])
    field.works(*EMB, *SCORES, *DROP, want=wanted())


def test_dropped_rows_are_recorded(field, wanted):
    array("e.npy", with_value(X, np.nan, [5, 77]))
    array("s.npy", with_value(S, -np.inf, [200]))
    field.works(*EMB, *SCORES, *DROP, want=wanted()).has_line("dropped", "3", "5", "77", "200")
    recorded = json.dumps(field.provenance())
    for row in ("5", "77", "200"):
        assert row in recorded
    assert field.provenance()["parameters"]["bad_rows"] == "drop"
    for out in ("kept.parquet", "mask.npy", "kept.txt"):
        more = ("--as", "mask") if out == "mask.npy" else ()
        field.select(*EMB, *SCORES, *DROP, *more, out=out).done()
    assert pq.read_table("kept.parquet")["index"].to_pylist() == wanted().tolist()
    assert np.flatnonzero(np.load("mask.npy")).tolist() == wanted().tolist()


def test_dropped_rows_are_in_the_complement(field, wanted):
    """What is dropped is what is not kept."""
    array("e.npy", BAD_EMB["NaN"])
    array("s.npy", S)
    field.select(*EMB, *SCORES, *DROP, "--complement", out="dropped.npy").done()
    assert sorted([*wanted(), *np.load("dropped.npy")]) == list(range(N))


def test_drop_without_bad_rows_changes_nothing(field):
    array("e.npy", X)
    array("s.npy", S)
    field.works(*EMB, *SCORES, *DROP, want=field.wanted())
    field.works(*EMB, *SCORES, "--bad-rows", "refuse", want=field.wanted())


@pytest.mark.parametrize("key", ["id", "url"])
def test_bad_scores_of_a_table_in_another_order(field, wanted, key):
    """Rows are named as the file has them, and excluded as the embeddings have them."""
    bad = with_value(S, np.nan)
    write("e.parquet", **{key: IDS, "embedding": X})
    write("s.parquet", **{key: IDS[P], "score": bad[P]})
    given = ("--emb", "e.parquet", "--scores", "s.parquet", "--id-column", key)
    field.select(*given).refused("3", "--exclude", "--bad-rows drop", "s.parquet")
    field.works(*given, *DROP, want=wanted())
    field.works(*given, "--exclude", excluded("text"), want=wanted())
    lines("k.txt", IDS[BAD])
    field.works(*given, "--exclude", "k.txt", want=wanted())


def test_bad_scores_of_rows_that_are_not_used(field):
    """A failed row that the embeddings do not have is no concern."""
    ids = np.array([f"a{i}" for i in range(350)])
    write("e.parquet", id=ids[:N], embedding=X)
    write("s.parquet", id=ids[::-1], score=np.r_[S, np.full(50, np.nan)][::-1])
    given = ("--emb", "e.parquet", "--scores", "s.parquet")
    got = field.select(*given)
    field.same(got, field.wanted()) if got.code == 0 else got.refused("--bad-rows drop")
    field.works(*given, *DROP, want=field.wanted())


# -- C, staged and other commands -----------------------------------------------------------------
def test_bad_rows_are_dropped_in_staged_steps(field, wanted):
    array("e.npy", with_value(X, np.nan, [5, 77]))
    array("s.npy", with_value(S, np.nan, [77, 200]))
    field.run("graph", *EMB, "--out", "g.arrow").refused(
        "2", "5", "77", "--exclude", "--bad-rows drop", "e.npy"
    )
    field.run("graph", *EMB, *DROP, "--out", "g.arrow").done()
    propagate = ("propagate", "--graph", "g.arrow", *SCORES, "--out", "u.npy")
    field.run(*propagate).refused("--bad-rows drop", names=["s.npy"])
    field.run(*propagate, *DROP).done()
    field.select("--graph", "g.arrow", *SCORES).refused("--bad-rows drop", names=["s.npy"])
    # A row whose score is bad has taken part in the graph, but can neither send nor be kept.
    for given in (("--propagated", "u.npy"), SCORES):
        got = field.select("--graph", "g.arrow", *given, *DROP).done()
        assert not np.isin(BAD, np.load("kept.npy")).any(), got.line


def test_scores_bad_at_excluded_rows_in_staged_steps(field, wanted):
    """The graph leaves rows out; their scores are not looked at either."""
    array("e.npy", BAD_EMB["NaN"])
    array("s.npy", with_value(S, np.nan))
    x = excluded("text")
    field.run("graph", *EMB, "--exclude", x, "--out", "g.arrow").done()
    for more in ((), ("--exclude", x)):
        field.works("--graph", "g.arrow", *SCORES, *more, want=wanted())
    field.run("propagate", "--graph", "g.arrow", *SCORES, "--out", "u.npy").done()
    field.works("--graph", "g.arrow", "--propagated", "u.npy", want=wanted())


@pytest.mark.parametrize("command", ["compare", "report"])
def test_bad_rows_in_pages(field, command):
    array("e.npy", BAD_EMB["NaN"])
    array("s.npy", with_value(S, np.nan))
    array("kept.npy", np.arange(10, 70))
    more = {
        "compare": (*RATIO, "--methods", "d2,highest,random"),
        "report": ("--selected", "kept.npy", "--map", "none"),
    }[command]
    got = field.run(command, *EMB, *SCORES, *more, "--out", "o.html")
    got.refused("--bad-rows drop", "3", names=["e.npy", "s.npy"])
    field.run(command, *EMB, *SCORES, *more, *DROP, "--out", "o.html").done()


@pytest.mark.parametrize("kind", ["knn-distance", "prototypicality", "label-disagreement"])
@pytest.mark.parametrize("out", ["o.parquet", "o.npy"])
def test_scores_of_bad_embeddings_are_null(field, kind, out):
    array("e.npy", BAD_EMB["NaN"])
    array("l.npy", Y)
    given = ("score", "--kind", kind, *EMB, "--out", out)
    given += ("--labels", "l.npy") if kind == "label-disagreement" else ()
    field.run(*given).refused("--bad-rows drop", "3", names=["e.npy"])
    field.run(*given, *DROP).done()
    missing(out)


def missing(out):
    """Bad rows, and no others, are null in a table and NaN in an array."""
    if out.endswith(".npy"):
        found = np.isnan(np.load(out))
    else:
        column = pq.read_table(out)
        found = column[column.column_names[-1]].is_null().to_numpy()
    assert np.flatnonzero(found).tolist() == BAD


@pytest.mark.parametrize("out", ["o.parquet", "o.npy", "o.csv"])
def test_scores_of_bad_outputs_are_null(field, out):
    """And select leaves them out in turn."""
    z = LOGITS.copy()
    z[2, BAD] = np.nan
    array("z.npy", z)
    array("l.npy", Y)
    given = ("score", "--kind", "el2n", "--logits", "z.npy", "--labels", "l.npy", "--out", out)
    field.run(*given).refused("--bad-rows drop", names=["z.npy"])
    field.run(*given, *DROP).done()
    if out != "o.csv":
        missing(out)
    array("e.npy", X)
    field.select(*EMB, "--scores", out).refused("--bad-rows drop", "3", names=[out])
    got = field.select(*EMB, "--scores", out, *DROP).done()
    assert not np.isin(BAD, np.load("kept.npy")).any(), got.line


@pytest.mark.parametrize("value", ["perhaps", "DROP!", ""])
def test_other_values_of_the_option_are_refused(field, value):
    array("e.npy", X)
    array("s.npy", S)
    got = field.select(*EMB, *SCORES, "--bad-rows", value).refused("--bad-rows")
    assert got.code == 2
