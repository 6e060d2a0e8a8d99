"""Field cases A: inputs in different orders are joined by a key they share, or refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.field.make import (
    CLASSES,
    EPOCHS,
    IDS,
    LOGITS,
    RATIO,
    N,
    P,
    S,
    X,
    Y,
    array,
    at,
    keys,
    lines,
    write,
    write_table,
)

NAMES = [
    "key", "guid", "image_path", "url", "doc_id", "sample_id", "filename", "file_name", "_id",
    "hash", "image_id", "index", "idx", "name", "uuid",
]  # fmt: skip
#: Names that no list of usual names has.
OTHER_NAMES = ["row", "sha256", "asset", "Bild-Datei", "clé", "id_str", "col 7", "TEXT", "md5"]
TABLES = ["parquet", "arrow", "arrows", "feather", "csv", "npz"]
EMB, SCORES = ("--emb", "e.parquet"), ("--scores", "s.parquet")


def test_selections_by_row_and_by_key_differ(field):
    """The cases below can fail: scores in another order lead to other rows."""
    by_key, by_row = field.wanted(), field.wanted(X, S[P])
    assert len(by_key) == len(by_row) == 90
    assert len(np.intersect1d(by_key, by_row)) < 50


# -- A1: a shared column, whatever it is called ---------------------------------------------------
def joined(field, got, key, name="s.parquet"):
    """A run that joined said so: in a line of the summary, and in the provenance."""
    if got.code == 0:
        got.has_line(name, key)
        assert key in field.recorded("scores")
    else:
        got.refused("--id-column", names=[name, "e."])


@pytest.mark.parametrize("name", NAMES + OTHER_NAMES)
def test_shared_key_of_any_name(field, name):
    k = keys(name)
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: at(k, P), "score": S[P]})
    joined(field, field.right(*EMB, *SCORES, want=field.wanted()), name)
    got = field.works(*EMB, *SCORES, "--id-column", name, want=field.wanted())
    joined(field, got, name)


@pytest.mark.parametrize("name", ["key", "doc_id", "index", "uuid"])
def test_shared_key_where_embeddings_are_shuffled_too(field, name):
    k = keys(name)
    q = P[::-1]
    write("e.parquet", **{name: at(k, q), "embedding": X[q]})
    write("s.parquet", **{name: at(k, P), "score": S[P]})
    joined(field, field.right(*EMB, *SCORES, want=field.wanted(X[q], S[q])), name)


@pytest.mark.parametrize(
    ("emb", "scores"), [*zip(TABLES, TABLES[1:] + TABLES[:1], strict=True), ("csv", "csv")]
)
def test_shared_key_in_any_two_formats(field, emb, scores):
    k = keys("url")
    e = write(f"e.{emb}", url=k, embedding=X)
    s = write(f"s.{scores}", url=at(k, P), score=S[P])
    joined(field, field.right("--emb", e, "--scores", s, want=field.wanted()), "url", s)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "csv.gz", "tsv"])
def test_shared_key_in_text_formats(field, ending):
    k = keys("url")
    e = write("e.parquet", url=k, embedding=X)
    s = write(f"s.{ending}", url=at(k, P), score=S[P])
    field.right("--emb", e, "--scores", s, want=field.wanted(), names=[s])
    e = write(f"e.{ending}", url=k, embedding=X)
    field.right("--emb", e, "--scores", s, want=field.wanted(), names=[e, s])


def binary_uuids():
    return pa.array([i.to_bytes(16, "big") for i in range(7, 7 + N)], pa.binary(16))


KINDS = {
    "int32": lambda: pa.array(np.arange(N)[::-1] * 3, pa.int32()),
    "uint64": lambda: pa.array(np.arange(N, dtype=np.uint64) + np.uint64(2**63)),
    "large text": lambda: pa.array(IDS.tolist(), pa.large_string()),
    "categories": lambda: pa.array(IDS.tolist()).dictionary_encode(),
    "whole floats": lambda: pa.array(np.arange(N) * 3.0),
    "binary": lambda: pa.array([text.encode() for text in IDS], pa.binary()),
    "fixed binary": binary_uuids,
    "uuid": lambda: pa.ExtensionArray.from_storage(pa.uuid(), binary_uuids()),
    "view": lambda: pa.array(IDS.tolist(), pa.string_view()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["id", "asset"])
def test_shared_key_of_any_type(field, kind, name):
    k = KINDS[kind]()
    write_table("e.parquet", pa.table({name: k, "embedding": list(X)}))
    taken = pa.array([k[i].as_py() for i in P], k.type)
    write_table("s.parquet", pa.table({name: taken, "score": S[P]}))
    joined(field, field.right(*EMB, *SCORES, want=field.wanted()), name)
    field.right(*EMB, *SCORES, "--id-column", name, want=field.wanted(), names=["s.parquet", "e."])


PAIRS = {
    "int, int32": (np.arange(N) * 3, pa.array(np.arange(N) * 3, pa.int32())),
    "int, digits": (np.arange(N), [str(i) for i in range(N)]),
    "int, padded": (np.arange(N), [f"{i:06}" for i in range(N)]),
    "digits, padded": ([str(i) for i in range(N)], [f"{i:06}" for i in range(N)]),
    "int, float": (np.arange(N) * 3, np.arange(N) * 3.0),
    "int, uint64": (np.arange(N) * 3, np.arange(N, dtype=np.uint64) * np.uint64(3)),
    "text, categories": (IDS, pa.array(IDS.tolist()).dictionary_encode()),
    "text, binary": (IDS, pa.array([i.encode() for i in IDS])),
    "upper case": (IDS, [i.upper() for i in IDS]),
    "ending": ([f"{i}.jpg" for i in IDS], IDS),
    "folder": ([f"/data/{i}.jpg" for i in IDS], [f"{i}.jpg" for i in IDS]),
    "blanks": (IDS, [f"{i} " for i in IDS]),
}


@pytest.mark.parametrize(
    ("name", "pair"),
    [("id", pair) for pair in PAIRS]
    + [("key", pair) for pair in ("int, digits", "int, padded", "int, float", "text, binary")]
    + [("image_id", pair) for pair in ("int, float", "digits, padded", "upper case", "folder")],
)
def test_keys_of_two_types_or_spellings(field, pair, name):
    """A key written in two ways is joined or refused, never taken for no key."""
    one, other = PAIRS[pair]
    write("e.parquet", **{name: one, "embedding": X})
    write("s.parquet", **{name: at(other, P), "score": S[P]})
    got = field.select(*EMB, *SCORES)
    if got.code == 0:
        field.same(got, field.wanted())
    else:
        got.refused(names=["s.parquet", "e.parquet"])
    write("e.parquet", **{name: other, "embedding": X})
    write("s.parquet", **{name: at(one, P), "score": S[P]})
    field.right(*EMB, *SCORES, want=field.wanted(), names=["s.parquet", "e.parquet"])


def test_zero_padded_keys_of_a_csv_stay_text(field):
    padded = [f"{i:06}" for i in range(N)]
    write("e.parquet", key=padded, embedding=X)
    write("s.csv", key=at(padded, P), score=S[P])
    field.right(*EMB, "--scores", "s.csv", want=field.wanted(), names=["s.csv"])
    write("e.csv", key=padded, embedding=X)
    field.right("--emb", "e.csv", "--scores", "s.csv", want=field.wanted(), names=["s.csv"])


def test_several_shards_on_each_side(field):
    k = keys("url")
    for i, rows in enumerate(np.split(np.arange(N), [90, 200])):
        write(f"emb/part_{i}.parquet", url=at(k, rows), embedding=X[rows])
    for i, rows in enumerate(np.split(P, [10, 50, 222])):
        write(f"scores/part_{i}.parquet", url=at(k, rows), score=S[rows])
    for emb, scores in (("emb", "scores"), ("emb/*.parquet", "scores/*.parquet")):
        got = field.right("--emb", emb, "--scores", scores, want=field.wanted())
        joined(field, got, "url", "scores")


def test_one_shard_in_another_order(field):
    """All shards but one agree row by row."""
    k = keys("url")
    order = np.arange(N)
    order[200:] = 200 + np.random.default_rng(0).permutation(100)
    for i, rows in enumerate(np.split(np.arange(N), [100, 200])):
        write(f"emb/part_{i}.parquet", url=at(k, rows), embedding=X[rows])
        write(f"s/part_{i}.parquet", url=at(k, order[rows]), score=S[order[rows]])
    field.right("--emb", "emb", "--scores", "s", want=field.wanted())


def test_two_swapped_rows(field):
    """The order differs in two rows only, which a sample of rows would miss."""
    k = keys("url")
    order = np.arange(N)
    top, low = field.wanted()[40], np.setdiff1d(order, field.wanted())[11]
    order[[top, low]] = order[[low, top]]
    write("e.parquet", url=k, embedding=X)
    write("s.parquet", url=at(k, order), score=S[order])
    assert field.wanted(X, S[order]).tobytes() != field.wanted().tobytes()
    field.right(*EMB, *SCORES, want=field.wanted())


def test_shards_in_the_other_order(field):
    k = keys("filename")
    write("e0.parquet", filename=k[:150], embedding=X[:150])
    write("e1.parquet", filename=k[150:], embedding=X[150:])
    write("s0.parquet", filename=k[:150], score=S[:150])
    write("s1.parquet", filename=k[150:], score=S[150:])
    given = ("--scores", "s1.parquet", "--scores", "s0.parquet")
    got = field.right("--emb", "e0.parquet", "--emb", "e1.parquet", *given, want=field.wanted())
    joined(field, got, "filename", "s1.parquet")


COUNTERS = ["index", "Unnamed: 0", "__index_level_0__", "row", "idx", "level_0", "row_nr", ""]


@pytest.mark.parametrize(
    ("ending", "counter"),
    [("csv", counter) for counter in COUNTERS]
    + [("parquet", counter) for counter in ("index", "__index_level_0__", "Unnamed: 0")],
)
def test_row_counter_beside_a_key(field, counter, ending):
    """Both files count their own rows from 0; only the other column says which row is which."""
    k, count = keys("image_path"), np.arange(N)
    e = write(f"e.{ending}", **{counter: count, "image_path": k, "embedding": X})
    s = write(f"s.{ending}", **{counter: count, "image_path": at(k, P), "score": S[P]})
    got = field.right("--emb", e, "--scores", s, want=field.wanted(), names=[s])
    joined(field, got, "image_path", s)


@pytest.mark.parametrize("counter", ["id", "uid"])
def test_usual_id_that_counts_rows_beside_a_key(field, counter):
    """Two keys contradict: `id` says the same order, `url` says another."""
    k, count = keys("url"), np.arange(N)
    write("e.parquet", **{counter: count, "url": k, "embedding": X})
    write("s.parquet", **{counter: count, "url": at(k, P), "score": S[P]})
    field.right(*EMB, *SCORES, want=field.wanted(), names=["s.parquet"])


def test_two_keys_that_contradict_are_refused(field):
    """Joined by one, rows differ from those joined by the other."""
    write("e.parquet", url=keys("url"), hash=keys("hash"), embedding=X)
    write("s.parquet", url=at(keys("url"), P), hash=at(keys("hash"), P[::-1]), score=S)
    field.select(*EMB, *SCORES).refused("--id-column", names=["s.parquet"])
    want = np.empty(N)
    want[P] = S
    field.works(*EMB, *SCORES, "--id-column", "url", want=field.wanted(X, want))
    want[P[::-1]] = S
    field.works(*EMB, *SCORES, "--id-column", "hash", want=field.wanted(X, want))


def test_two_keys_that_agree(field):
    k, h = keys("url"), keys("image_id")
    write("e.parquet", url=k, image_id=h, embedding=X)
    write("s.parquet", url=at(k, P), image_id=at(h, P), score=S[P])
    field.right(*EMB, *SCORES, want=field.wanted(), names=["s.parquet"])


@pytest.mark.parametrize("name", ["index", "idx", "row", "__index_level_0__"])
def test_shuffled_row_numbers_on_one_side(field, name):
    """pandas writes the old row numbers after a shuffle; the other file has none."""
    write("s.parquet", **{name: P, "score": S[P]})
    array("emb.npy", X)
    got = field.right("--emb", "emb.npy", *SCORES, want=field.wanted(), names=["s.parquet"])
    if got.code:
        got.says(name)
    write("s.csv", **{name: P, "score": S[P]})
    field.right("--emb", "emb.npy", "--scores", "s.csv", want=field.wanted(), names=["s.csv"])


@pytest.mark.parametrize("name", [*NAMES, "asset"])
def test_key_that_agrees_joins_by_row(field, name):
    k = keys(name)
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: k, "score": S})
    field.works(*EMB, *SCORES, want=field.wanted()).has_line("s.parquet", "score")


def test_shared_columns_that_are_no_keys_do_not_disturb(field):
    """Captions repeat, widths repeat, and both files hold them in the same order."""
    rng = np.random.default_rng(4)
    same = {
        "caption": np.array([f"a photo {i % 40}" for i in range(N)]),
        "width": rng.integers(9, 99, N),
    }
    write("e.parquet", **same, embedding=X)
    write("s.parquet", **same, score=S)
    got = field.select(*EMB, *SCORES, "--scores-key", "score")
    field.same(got, field.wanted())


@pytest.mark.parametrize("values", ["text", "number"])
def test_repeated_values_in_another_order(field, values):
    """A column that repeats is no key, but shows that the rows are in another order."""
    k = np.array([f"group {i % 11}" for i in range(N)]) if values == "text" else np.arange(N) % 11
    write("e.parquet", group=k, embedding=X)
    write("s.parquet", group=at(k, P), score=S[P])
    given = (*EMB, *SCORES, "--scores-key", "score")
    field.right(*given, want=field.wanted(), names=["s.parquet"])


@pytest.mark.parametrize("name", ["id", "url", "image_id"])
@pytest.mark.parametrize("side", ["emb", "scores", "both"])
def test_key_with_one_repeated_value(field, name, side):
    """One file was in the data twice: the rows of that key cannot be told apart."""
    k = np.array(keys(name))
    k[7] = k[8]
    other = np.array(keys(name))
    write("e.parquet", **{name: k if side != "scores" else other, "embedding": X})
    write("s.parquet", **{name: at(k if side != "emb" else other, P), "score": S[P]})
    field.right(*EMB, *SCORES, want=field.wanted(), names=["s.parquet", "e.parquet"])
    got = field.select(*EMB, *SCORES, "--id-column", name)
    got.refused(names=["s.parquet", "e.parquet"])


@pytest.mark.parametrize("name", ["id", "url"])
def test_key_with_a_null(field, name):
    k = [None if i == 5 else str(v) for i, v in enumerate(keys(name))]
    write_table("e.parquet", pa.table({name: k, "embedding": list(X)}))
    write_table("s.parquet", pa.table({name: [k[i] for i in P], "score": S[P]}))
    field.right(*EMB, *SCORES, want=field.wanted(), names=["s.parquet", "e.parquet"])


@pytest.mark.parametrize("name", ["id", "url", "index"])
def test_scores_that_lack_rows_are_refused(field, name):
    k = keys(name)
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: at(k, P[:280]), "score": S[P[:280]]})
    field.select(*EMB, *SCORES).refused(names=["s.parquet"])


@pytest.mark.parametrize("name", ["id", "url", "image_id"])
def test_partial_overlap_with_equal_counts_is_refused(field, name):
    """20 scores are of other rows: the counts agree, the rows do not."""
    k = np.array(keys(name))
    other = k.copy()
    other[:20] = [int(v) + 10**7 if k.dtype.kind == "i" else f"{v}x" for v in k[:20]]
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: at(other, P), "score": S[P]})
    field.select(*EMB, *SCORES).refused(names=["s.parquet"])


def test_partial_overlap_in_the_same_order_is_refused(field):
    """One score is missing and another was added: every row after it is one off."""
    k = keys("url")
    shifted = np.concatenate([k[1:], ["https://example.org/new"]])
    write("e.parquet", url=k, embedding=X)
    write("s.parquet", url=shifted, score=np.concatenate([S[1:], [0.5]]))
    field.select(*EMB, *SCORES).refused(names=["s.parquet"])


@pytest.mark.parametrize("name", ["url", "image_id", "index"])
def test_id_column_none_joins_by_row(field, name):
    k = keys(name)
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: at(k, P), "score": S[P]})
    given = (*EMB, *SCORES, "--scores-key", "score", "--id-column", "none")
    field.works(*given, want=field.wanted(X, S[P]))


@pytest.mark.parametrize("name", ["url", "image_id", "key", "index"])
def test_labels_in_another_order(field, name):
    k = keys(name)
    balance = ("--balance", "uniform")
    want = field.wanted(X, S, *balance, labels=Y)
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: k, "score": S})
    q = P[::-1]
    write("l.parquet", **{name: at(k, q), "label": Y[q]})
    labels = ("--labels", "l.parquet", "--labels-key", "label")
    field.right(*EMB, *SCORES, *labels, *balance, want=want, names=["l.parquet"])
    write("s.parquet", **{name: at(k, P), "score": S[P]})
    field.right(*EMB, *SCORES, *labels, *balance, want=want, names=["l.parquet", "s.parquet"])
    got = field.works(*EMB, *SCORES, *labels, *balance, "--id-column", name, want=want)
    got.has_line("l.parquet", "label")


def test_labels_in_one_table_with_scores(field):
    k = keys("guid")
    want = field.wanted(X, S, "--balance", "uniform", labels=Y)
    write("e.parquet", guid=k, embedding=X)
    write("s.parquet", guid=at(k, P), score=S[P], label=Y[P])
    given = ("--scores-key", "score", "--labels", "s.parquet", "--labels-key", "label")
    field.right(*EMB, *SCORES, *given, "--balance", "uniform", want=want, names=["s.parquet"])


@pytest.mark.parametrize("name", ["url", "index"])
def test_within_and_cutoff_scores_in_another_order(field, name):
    k = keys(name)
    array("plain_l.npy", Y)
    array("plain_c.npy", S[::-1])
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: k, "score": S})
    write("l.parquet", **{name: at(k, P), "label": Y[P]})
    write("c.parquet", **{name: at(k, P), "score": S[::-1][P]})
    want = field.wanted(X, S, "--within", "plain_l.npy")
    given = ("--within", "l.parquet", "--labels-key", "label")
    field.right(*EMB, *SCORES, *given, want=want, names=["l.parquet"])
    cut = ("--cutoff", 0.2, "--cutoff-scores")
    want = field.wanted(X, S, *cut, "plain_c.npy")
    field.right(*EMB, *SCORES, *cut, "c.parquet", want=want, names=["c.parquet"])


# -- A1, the other commands -----------------------------------------------------------------------
@pytest.mark.parametrize("name", ["id", "key", "url", "doc_id", "index", "uuid", "asset"])
def test_staged_steps_keep_the_key(field, name):
    """A graph file remembers the key, or the next step refuses."""
    k = keys(name)
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: at(k, P), "score": S[P]})
    field.staged(EMB, SCORES, field.wanted())
    with_key = ("--id-column", name)
    steps = field.staged(EMB, SCORES, field.wanted(), *with_key)
    assert all(step.code == 0 for step in steps), "\n".join(step.line for step in steps)


@pytest.mark.parametrize("name", ["id", "url", "image_id"])
def test_staged_steps_where_only_scores_have_a_key(field, name):
    """The graph is of an array: nothing says which score belongs to which row."""
    k = keys(name)
    array("e.npy", X)
    write("s.parquet", **{name: k, "score": S})
    write("t.parquet", **{name: at(k, P), "score": S[P]})
    field.run("graph", "--emb", "e.npy", "--out", "g.arrow").done()
    got = field.select("--graph", "g.arrow", *SCORES, "--scores-key", "score")
    field.same(got, field.wanted()).has_line(name)


@pytest.mark.parametrize("name", ["url", "image_id", "index"])
def test_compare_joins_as_select_does(field, name):
    k = keys(name)
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: at(k, P), "score": S[P]})
    write("l.parquet", **{name: at(k, P[::-1]), "label": Y[P[::-1]]})
    for file, values in (("e", X), ("s", S), ("l", Y)):
        array(f"{file}.npy", values)
    rest = (*RATIO, "--methods", "d2,highest", "--json", "--out", "c.html")
    plain = ("--emb", "e.npy", "--scores", "s.npy", "--labels", "l.npy")
    want = numbers(field.run("compare", *plain, *rest).done().out)
    given = (*EMB, *SCORES, "--scores-key", "score", "--labels", "l.parquet")
    for more in ((), ("--id-column", name)):
        got = field.run("compare", *given, "--labels-key", "label", *more, *rest)
        if got.code == 0 or more:
            assert numbers(got.done().out) == want, got.line
        else:
            got.refused(names=["s.parquet", "l.parquet", "e.parquet"])


@pytest.mark.parametrize("name", ["url", "image_id", "index"])
def test_report_joins_as_select_does(field, name):
    k = keys(name)
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: at(k, P), "score": S[P]})
    for file, values in (("e", X), ("s", S)):
        array(f"{file}.npy", values)
    rest = ("--selected", "kept.npy", "--map", "none", "--json", "--out", "r.html")
    plain = ("--emb", "e.npy", "--scores", "s.npy")
    field.works(*plain, want=field.wanted())
    want = numbers(field.run("report", *plain, *rest).done().out)
    given = (*EMB, *SCORES, "--scores-key", "score")
    for more in ((), ("--id-column", name)):
        if field.select(*given, *more).code:
            assert not more
            continue
        got = field.run("report", *given, *more, *rest)
        if got.code == 0 or more:
            assert numbers(got.done().out) == want, got.line
        else:
            got.refused(names=["s.parquet", "e.parquet"])


def numbers(text):
    """What a page says in numbers, without what depends on the files and the run."""
    import json

    return sorted(leaves(json.loads(text)))


def leaves(value, path="", left_out=("inputs", "run", "parameters", "output", "outputs", "notices",
                                     "versions", "decisions")):  # fmt: skip
    if isinstance(value, dict):
        for name, one in value.items():
            if name not in left_out and "second" not in name and name != "id":
                yield from leaves(one, f"{path}.{name}")
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from leaves(one, f"{path}.{i}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, round(float(value), 9)


@pytest.mark.parametrize("name", ["url", "image_id", "index"])
def test_scores_of_embeddings_and_labels_are_joined(field, name):
    k = keys(name)
    array("e.npy", X)
    array("l.npy", Y)
    kind = ("--kind", "label-disagreement")
    field.run("score", *kind, "--emb", "e.npy", "--labels", "l.npy", "--out", "d.npy").done()
    write("e.parquet", **{name: k, "embedding": X})
    write("l.parquet", **{name: at(k, P), "label": Y[P]})
    given = (*EMB, "--labels", "l.parquet", "--labels-key", "label")
    for more in ((), ("--id-column", name)):
        got = field.run("score", *kind, *given, *more, "--out", "d2.npy")
        if got.code == 0 or more:
            got.done()
            assert np.load("d2.npy").tobytes() == np.load("d.npy").tobytes(), got.line
        else:
            got.refused(names=["l.parquet", "e.parquet"])


@pytest.mark.parametrize("name", ["url", "image_id", "guid"])
def test_written_scores_are_joined_by_select(field, name):
    """`score` reads shuffled outputs with a key; `select` finds the rows again, or refuses."""
    k = keys(name)
    array("z.npy", LOGITS[-1])
    array("l.npy", Y)
    field.run("score", "--kind", "el2n", "--logits", "z.npy", "--labels", "l.npy",
              "--out", "w.npy").done()  # fmt: skip
    want = field.wanted(X, np.load("w.npy"))
    write("e.parquet", **{name: k, "embedding": X})
    write("z.parquet", **{name: at(k, P), "logits": LOGITS[-1][P], "label": Y[P]})
    given = ("--logits", "z.parquet", "--logits-key", "logits", "--labels", "z.parquet")
    for out in ("s.parquet", "s.csv", "s.arrow"):
        for more in ((), ("--id-column", name)):
            got = field.run("score", "--kind", "el2n", *given, "--labels-key", "label", *more,
                            "--out", out)  # fmt: skip
            if got.code:
                got.refused(names=["z.parquet"])
            else:
                field.right(*EMB, "--scores", out, *more, want=want, names=[out])


@pytest.mark.parametrize(
    ("name", "ending"),
    [("url", "parquet"), ("url", "txt"), ("image_id", "csv"), ("image_id", "txt"), ("key", "csv")],
)
def test_excluded_and_included_rows_by_key(field, name, ending):
    k = np.array(keys(name))
    rows = [3, 77, 200]
    lines("rows.txt", rows)
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: at(k, P), "score": S[P]})
    listed = lines("x.txt", k[rows]) if ending == "txt" else write(f"x.{ending}", **{name: k[rows]})
    for option in ("--exclude", "--include"):
        want = field.wanted(X, S, option, "rows.txt")
        given = (*EMB, *SCORES, "--scores-key", "score", option, listed)
        field.right(*given, want=want, names=[listed, "s.parquet"])
        got = field.select(*given, "--id-column", name)
        field.same(got, want) if got.code == 0 else got.refused(names=[listed])


@pytest.mark.parametrize("name", ["url", "image_id", "key"])
def test_rows_are_written_as_keys(field, name):
    k = np.array(keys(name))
    write("e.parquet", **{name: k, "embedding": X})
    write("s.parquet", **{name: at(k, P), "score": S[P]})
    for more in ((), ("--id-column", name)):
        got = field.select(*EMB, *SCORES, "--as", "id", *more, out="kept.txt")
        if got.code == 0 or more:
            got.done()
            assert Path("kept.txt").read_text().split("\n")[:-1] == [
                str(v) for v in k[field.wanted()]
            ], got.line
        else:
            got.refused(names=["s.parquet", "e.parquet", "--as"])


@pytest.mark.parametrize("name", ["url", "image_id"])
def test_scores_written_without_their_key(field, name):
    """An array has no ids, but its sidecar knows the rows that it was made from."""
    k = keys(name)
    write("e.parquet", **{name: k, "embedding": X})
    write("shuffled.parquet", **{name: at(k, P), "embedding": X[P]})
    array("emb.npy", X)
    given = ("score", "--kind", "knn-distance", "--emb")
    field.run(*given, "emb.npy", "--out", "w.npy").done()
    field.run(*given, "shuffled.parquet", "--out", "d.npy").done()
    field.right(*EMB, "--scores", "d.npy", want=field.wanted(X, np.load("w.npy")), names=["d.npy"])


def test_scores_of_shuffled_epochs_written_without_their_key(field):
    """The rows of the array are in the order of the first epoch, which no embeddings have."""
    k = keys("guid")
    epochs("guid", k, gold=Y)
    labels = ("--labels", "e0.parquet", "--labels-key", "gold")
    want = field.wanted(X, truth(field))
    got = field.run("score", "--kind", "el2n", *GIVEN, *labels, "--out", "d.npy")
    if got.code:
        got.refused(names=["d.npy", "e0.parquet"])
        return
    array("emb.npy", X)
    write("vectors.parquet", guid=k, embedding=X)
    field.right("--emb", "emb.npy", "--scores", "d.npy", want=want, names=["d.npy"])
    field.right("--emb", "vectors.parquet", "--scores", "d.npy", want=want, names=["d.npy"])


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_excluded_rows_of_a_selection_from_another_order(field, ending):
    """Row numbers of other embeddings name other rows."""
    k = keys("url")
    write("shuffled.parquet", url=at(k, P), embedding=X[P], score=S[P])
    given = ("--emb", "shuffled.parquet", "--scores", "shuffled.parquet", "--scores-key", "score")
    field.run("select", *given, "--size", 30, "--out", "first.npy").done()
    lines("rows.txt", sorted(P[np.load("first.npy")]))
    field.run("select", *given, "--size", 30, "--out", f"first.{ending}").done()
    write("e.parquet", url=k, embedding=X)
    write("s.parquet", url=k, score=S)
    want = field.wanted(X, S, "--exclude", "rows.txt")
    given = (*EMB, *SCORES, "--exclude", f"first.{ending}")
    field.right(*given, want=want, names=[f"first.{ending}"])


@pytest.mark.parametrize("counter", ["index", "Unnamed: 0", "__index_level_0__", ""])
@pytest.mark.parametrize("ordered", [True, False])
def test_excluded_keys_beside_a_row_counter(field, counter, ordered):
    """pandas numbers the rows of the list itself: they are no rows of the embeddings."""
    k, rows = keys("url"), [7, 77, 200]
    write("e.parquet", url=k, embedding=X)
    order = np.arange(N) if ordered else P
    write("s.parquet", url=at(k, order), score=S[order])
    write("x.csv", **{counter: np.arange(3), "url": at(k, rows)})
    lines("rows.txt", rows)
    want = field.wanted(X, S, "--exclude", "rows.txt")
    field.right(*EMB, *SCORES, "--exclude", "x.csv", want=want, names=["x.csv"])
    lines("x.txt", at(k, rows))
    field.right(*EMB, *SCORES, "--exclude", "x.txt", want=want, names=["x.txt"])


# -- A2: --id-column names the input without it ---------------------------------------------------
@pytest.mark.parametrize("ending", TABLES)
def test_named_column_that_scores_lack(field, ending):
    write("e.parquet", key=keys("key"), embedding=X)
    s = write(f"s.{ending}", id=at(IDS, P), score=S[P])
    got = field.select(*EMB, "--scores", s, "--id-column", "key").refused("key", names=[s])
    assert "s." in got.err.splitlines()[0] or s in got.err


def test_named_column_that_another_input_lacks(field):
    k = keys("key")
    write("e.parquet", key=k, embedding=X)
    write("f.parquet", id=k, embedding=X)
    write("s.parquet", key=k, score=S)
    write("l.parquet", id=k, label=Y)
    named = ("--id-column", "key")
    field.select("--emb", "f.parquet", *SCORES, *named).refused("key", names=["f.parquet"])
    given = ("--labels", "l.parquet", "--labels-key", "label", "--balance", "uniform")
    field.select(*EMB, *SCORES, *given, *named).refused("key", names=["l.parquet"])
    field.run("graph", "--emb", "f.parquet", *named, "--out", "g.arrow").refused(
        "key", names=["f.parquet", "--id-column"]
    )


def test_named_column_beside_arrays(field):
    """An array has no columns: refused, or by row and said which input has the column."""
    k = keys("key")
    write("e.parquet", key=k, embedding=X)
    write("s.parquet", key=k, score=S)
    array("emb.npy", X)
    array("s.npy", S)
    named = ("--id-column", "key")
    for given in (("--emb", "emb.npy", *SCORES), (*EMB, "--scores", "s.npy")):
        got = field.right(*given, *named, want=field.wanted(), names=["emb.npy", "s.npy"])
        got.has_line("key", ".npy") if got.code else got.has_line("row", "key")


def test_named_column_that_one_shard_lacks(field):
    k = keys("key")
    write("e.parquet", key=k, embedding=X)
    write("s/s0.parquet", key=at(k, P[:100]), score=S[P[:100]])
    write("s/s1.parquet", id=at(k, P[100:]), score=S[P[100:]])
    field.select(*EMB, "--scores", "s", "--id-column", "key").refused(
        "key", names=["s0.parquet", "s1.parquet"]
    )


def test_named_column_that_a_graph_lacks(field):
    """The graph is of a table whose ids have another name, but by chance the same values."""
    write("f.parquet", id=np.arange(N), embedding=X)
    write("s.parquet", key=P, score=S)
    field.run("graph", "--emb", "f.parquet", "--out", "g.arrow").done()
    named = ("--id-column", "key")
    field.select("--graph", "g.arrow", *SCORES, *named).refused("key", names=["g.arrow"])
    got = field.run("propagate", "--graph", "g.arrow", *SCORES, *named, "--out", "u.npy")
    got.refused("key", names=["g.arrow"])


def test_named_column_in_no_input(field):
    array("emb.npy", X)
    array("s.npy", S)
    got = field.select("--emb", "emb.npy", "--scores", "s.npy", "--id-column", "key")
    got.refused("key", names=["emb.npy", "s.npy", "--id-column"])


# -- A3: Lightly ----------------------------------------------------------------------------------
@pytest.mark.parametrize("labels", [False, True])
@pytest.mark.parametrize("score", ["score", "loss", "uncertainty"])
def test_lightly_tables(field, labels, score):
    names = [f"sub/img_{i:03}.jpg" for i in range(N)]
    more = {"labels": Y} if labels else {}
    write("embeddings.csv", filenames=names, embedding=X, **more)
    write("scores.csv", filenames=names[::-1], **{score: S[::-1]})
    given = ("--emb", "embeddings.csv", "--scores", "scores.csv")
    got = field.right(*given, want=field.wanted(), names=["scores.csv"])
    joined(field, got, "filenames", "scores.csv")
    got = field.works(*given, "--id-column", "filenames", want=field.wanted())
    joined(field, got, "filenames", "scores.csv")


# -- A4: ids on one side only, out of order -------------------------------------------------------
@pytest.mark.parametrize("out", ["s.parquet", "s.csv", "s.arrow"])
def test_ids_of_scores_that_were_made_from_shuffled_inputs(field, out):
    array("emb.npy", X)
    write("z.parquet", id=P, logits=LOGITS[-1][P])
    write("l.parquet", id=P, label=Y[P])
    given = ("--logits", "z.parquet", "--labels", "l.parquet")
    field.run("score", "--kind", "el2n", *given, "--out", out).done()
    field.select("--emb", "emb.npy", "--scores", out).refused("id", names=[out])
    field.run("graph", "--emb", "emb.npy", "--out", "g.arrow").done()
    field.select("--graph", "g.arrow", "--scores", out).refused("id", names=[out])
    got = field.run("propagate", "--graph", "g.arrow", "--scores", out, "--out", "u.npy")
    got.refused("id", names=[out])


LONE = {
    "numbers": P,
    "int32": P.astype(np.int32),
    "digits": P.astype(str),
    "padded": np.array([f"{i:06}" for i in P]),
    "descending": np.arange(N)[::-1],
    "two swapped": np.r_[np.arange(N - 2), N - 1, N - 2],
}


@pytest.mark.parametrize(
    ("ending", "kind"),
    [("parquet", kind) for kind in LONE]
    + [(ending, kind) for ending in ("csv", "npz") for kind in ("numbers", "padded")],
)
def test_lone_ids_that_permute_the_rows_are_refused(field, kind, ending):
    ids = LONE[kind]
    array("emb.npy", X)
    s = write(f"s.{ending}", id=ids, score=S[ids.astype(int)])
    field.select("--emb", "emb.npy", "--scores", s).refused("id", names=[s])


@pytest.mark.parametrize("kind", ["numbers", "padded"])
def test_lone_ids_of_embeddings_or_labels_are_refused(field, kind):
    ids = LONE[kind]
    array("emb.npy", X)
    array("s.npy", S)
    write("e.parquet", id=ids, embedding=X[P])
    field.select(*EMB, "--scores", "s.npy").refused("id", names=["e.parquet"])
    write("l.parquet", id=ids, label=Y[P])
    given = ("--labels", "l.parquet", "--labels-key", "label", "--balance", "uniform")
    got = field.select("--emb", "emb.npy", "--scores", "s.npy", *given)
    got.refused("id", names=["l.parquet"])


def test_lone_ids_that_count_from_1_are_refused(field):
    """The same numbers, as SQL and R count rows."""
    array("emb.npy", X)
    write("s.parquet", id=P + 1, score=S[P])
    field.select("--emb", "emb.npy", *SCORES).refused("id", names=["s.parquet"])


def test_lone_ids_that_count_rows_are_used_by_row(field):
    array("emb.npy", X)
    for ids in (np.arange(N), np.arange(N).astype(str), IDS):
        write("s.parquet", id=ids, score=S)
        field.works("--emb", "emb.npy", *SCORES, want=field.wanted()).has_line("id", "s.parquet")


def test_lone_ids_with_id_column_none(field):
    array("emb.npy", X)
    write("s.parquet", id=P, score=S)
    given = ("--emb", "emb.npy", *SCORES, "--scores-key", "score", "--id-column", "none")
    field.works(*given, want=field.wanted())


@pytest.mark.parametrize("commands", ["compare", "report"])
def test_lone_ids_in_other_commands(field, commands):
    array("emb.npy", X)
    array("s.npy", S)
    array("kept.npy", field.wanted())
    write("s.parquet", id=P, score=S[P])
    rest = (*RATIO, "--methods", "d2") if commands == "compare" else ("--selected", "kept.npy")
    got = field.run(commands, "--emb", "emb.npy", *SCORES, *rest, "--out", "o.html")
    got.refused("id", names=["s.parquet"])


# -- A5: rows that are not used are counted -------------------------------------------------------
@pytest.mark.parametrize("name", ["id", "url"])
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_scores_of_more_rows_are_counted(field, name, ending):
    k = np.array([f"https://example.org/{i}" for i in range(350)])
    order = np.random.default_rng(2).permutation(350)
    more = np.concatenate([S, np.linspace(0.2, 0.9, 50)])
    write("e.parquet", **{name: k[:N], "embedding": X})
    s = write(f"s.{ending}", **{name: k[order], "score": more[order]})
    got = field.select(*EMB, "--scores", s)
    if got.code == 0 or name == "id":
        field.same(got, field.wanted()).has_line(s, "50")
    got = field.works(*EMB, "--scores", s, "--id-column", name, want=field.wanted())
    got.has_line(s, "50")
    assert "50" in field.recorded("scores")


def test_unused_rows_are_counted_in_staged_steps(field):
    ids = np.array([f"id{i}" for i in range(350)])
    more = np.concatenate([S, np.linspace(0.2, 0.9, 50)])
    write("e.parquet", id=ids[:N], embedding=X)
    write("s.parquet", id=ids, score=more)
    write("l.parquet", id=ids[::-1], label=np.r_[Y, np.zeros(50, int)][::-1])
    for step in field.staged(EMB, SCORES, field.wanted())[1::2]:
        step.done().has_line("s.parquet", "50")
    given = ("--labels", "l.parquet", "--balance", "uniform")
    want = field.wanted(X, S, "--balance", "uniform", labels=Y)
    field.works(*EMB, *SCORES, *given, want=want).has_line("l.parquet", "50")


# -- A6: epochs in different orders ---------------------------------------------------------------
def truth(field, kind="el2n", logits=LOGITS):
    """The scores of plain arrays."""
    array("z.npy", logits)
    array("y.npy", Y)
    given = ("--logits", "z.npy", "--labels", "y.npy", "--out", "truth.npy")
    field.run("score", "--kind", kind, *given).done()
    return np.load("truth.npy")


def epochs(name, k, *, same=False, ending="parquet", field="logits", values=LOGITS, **first):
    """One file an epoch, each in an order of its own; `first` are columns of the first file."""
    rng = np.random.default_rng(8)
    orders = [np.arange(N) if same else rng.permutation(N) for _ in values]
    for e, order in enumerate(orders):
        more = {c: v[order] for c, v in first.items()} if e == 0 else {}
        write(f"e{e}.{ending}", **{name: at(k, order), field: values[e][order]}, **more)
    return orders


def scored(field, name, k, want, *args, first=None, kind="el2n"):
    """`score` gives each key its true score, or is refused."""
    got = field.run("score", "--kind", kind, *args, "--out", "s.parquet")
    if got.code:
        return got.refused(names=["e0.", "e1.", "e2.", "e3.", "e4.", "l.parquet"])
    import pyarrow.parquet as pq

    table = pq.read_table("s.parquet")
    values = table[table.column_names[-1]].to_numpy()
    ids = [one for one in (name, "id") if one in table.column_names]
    if ids:
        found = dict(zip(map(str, table[ids[0]].to_pylist()), values, strict=True))
        values = np.array([found[str(v)] for v in k])
    else:
        values = values[np.argsort(first)]
    assert np.allclose(values, want, rtol=1e-6), f"{np.corrcoef(values, want)[0, 1]}\n{got.line}"
    write("vectors.parquet", **{name: k, "embedding": X})
    field.right("--emb", "vectors.parquet", "--scores", "s.parquet", want=field.wanted(X, want))
    return got


GIVEN = ("--logits", "e*.parquet", "--logits-key", "logits")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("guid", "forgetting"),
        ("id", "el2n"),
        ("url", "el2n"),
        ("index", "el2n"),
        ("idx", "entropy"),
        ("image_id", "el2n"),
        ("sample", "el2n"),
    ],
)
def test_epochs_in_different_orders(field, name, kind):
    k = keys(name)
    orders = epochs(name, k, gold=Y)
    labels = ("--labels", "e0.parquet", "--labels-key", "gold")
    want = truth(field, kind)
    got = scored(field, name, k, want, *GIVEN, *labels, first=orders[0], kind=kind)
    if got.code:
        got.says("--id-column")
    more = ("--id-column", name)
    got = scored(field, name, k, want, *GIVEN, *labels, *more, first=orders[0], kind=kind)
    got.done().has_line(name)


@pytest.mark.parametrize("ending", ["parquet", "arrow", "csv", "npz", "feather"])
def test_epochs_in_different_orders_in_any_format(field, ending):
    k = keys("guid")
    orders = epochs("guid", k, ending=ending)
    write("l.parquet", guid=at(k, P), label=Y[P])
    labels = ("--labels", "l.parquet", "--labels-key", "label")
    given = ("--logits", f"e*.{ending}") + (("--logits-key", "logits") if ending != "csv" else ())
    scored(field, "guid", k, truth(field), *given, *labels, first=orders[0])


def test_probabilities_of_epochs_in_different_orders(field):
    k = keys("guid")
    e = np.exp(LOGITS.astype(np.float64))
    orders = epochs("guid", k, field="probs", values=e / e.sum(2, keepdims=True), gold=Y)
    labels = ("--labels", "e0.parquet", "--labels-key", "gold")
    given = ("--probs", "e*.parquet", "--probs-key", "probs")
    scored(field, "guid", k, truth(field), *given, *labels, first=orders[0])


def test_epochs_in_one_order(field):
    k = keys("guid")
    orders = epochs("guid", k, same=True, gold=Y)
    labels = ("--labels", "e0.parquet", "--labels-key", "gold")
    scored(field, "guid", k, truth(field), *GIVEN, *labels, first=orders[0]).done()


def test_one_epoch_in_another_order(field):
    k = keys("guid")
    epochs("guid", k, same=True, gold=Y)
    write("e3.parquet", guid=at(k, P), logits=LOGITS[3][P])
    labels = ("--labels", "e0.parquet", "--labels-key", "gold")
    scored(field, "guid", k, truth(field), *GIVEN, *labels, first=np.arange(N))


def test_labels_as_an_array_beside_shuffled_epochs(field):
    """Nothing says which label belongs to which guid."""
    epochs("guid", keys("guid"))
    array("y.npy", Y)
    got = field.run("score", "--kind", "el2n", *GIVEN, "--labels", "y.npy", "--out", "s.parquet")
    got.refused(names=["e0.parquet", "e1.parquet", "y.npy"])


@pytest.mark.parametrize("fault", ["missing", "repeated", "other", "null"])
@pytest.mark.parametrize("name", ["guid", "id"])
def test_epochs_of_different_rows_are_refused(field, fault, name):
    k = np.array([f"{name}{i}" for i in range(N)])
    epochs(name, k, gold=Y)
    ids, z = at(k, P).tolist(), LOGITS[2][P]
    if fault == "missing":
        ids, z = ids[1:], z[1:]
    else:
        ids[0] = {"repeated": ids[1], "other": "new", "null": None}[fault]
    write_table("e2.parquet", pa.table({name: ids, "logits": list(z)}))
    labels = ("--labels", "e0.parquet", "--labels-key", "gold")
    got = field.run("score", "--kind", "el2n", *GIVEN, *labels, "--out", "s.parquet")
    got.refused(names=["e2.parquet"])


def test_epochs_of_which_one_has_no_key(field):
    k = keys("guid")
    epochs("guid", k, gold=Y)
    write("e2.parquet", logits=LOGITS[2][P])
    labels = ("--labels", "e0.parquet", "--labels-key", "gold")
    got = field.run("score", "--kind", "el2n", *GIVEN, *labels, "--out", "s.parquet")
    got.refused(names=["e2.parquet", "e0.parquet"])


# -- A7: row numbers of each epoch's outputs ------------------------------------------------------
def tdds(folder=".", index="Index", dtype=np.int64, shuffled=True, count=EPOCHS):
    """What TDDS writes: outputs in the order of the loader, and the row numbers in that order."""
    rng = np.random.default_rng(9)
    for e in range(count):
        order = rng.permutation(N) if shuffled else np.arange(N)
        z = LOGITS[e % EPOCHS][order]
        array(f"{folder}/{e}_Output.npy", z)
        array(f"{folder}/{e}_{index}.npy", order.astype(dtype))
        array(f"{folder}/{e}_Loss.npy", rng.random(N))


def score_of(field, *args, kind="el2n"):
    return field.run("score", "--kind", kind, "--labels", "y.npy", *args, "--out", "s.npy")


@pytest.mark.parametrize(
    ("index", "dtype", "kind"),
    [
        ("Index", np.int64, "el2n"),
        ("idx", np.int64, "el2n"),
        ("sample_idx", np.int64, "el2n"),
        ("Index", np.int32, "forgetting"),
        ("Index", np.uint16, "aum"),
        ("idx", np.int16, "aum"),
    ],
)
def test_outputs_in_the_order_of_the_loader(field, index, dtype, kind):
    want = truth(field, kind)
    tdds(index=index, dtype=dtype)
    rows = ("--epoch-rows", f"*_{index}.npy")
    got = score_of(field, "--logits", "*_Output.npy", *rows, kind=kind).done()
    assert np.allclose(np.load("s.npy"), want, rtol=1e-12), got.line
    assert "Output" in field.recorded("logits", "s.npy")
    got = score_of(field, "--logits", "*_Output.npy", kind=kind)
    got.refused("--epoch-rows", names=["_Output.npy", f"_{index}.npy"])


def test_outputs_of_the_loader_in_a_folder(field):
    want = truth(field)
    tdds("runs/seed1")
    rows = ("--epoch-rows", "runs/seed1/*_Index.npy")
    got = score_of(field, "--logits", "runs/seed1/*_Output.npy", *rows).done()
    assert np.allclose(np.load("s.npy"), want, rtol=1e-12), got.line
    score_of(field, "--logits", "runs/seed1/*_Output.npy").refused("--epoch-rows")
    score_of(field, "--logits", "runs/seed1").refused(names=["runs/seed1"])


def test_epochs_of_the_loader_are_in_natural_order(field):
    """10 comes after 9 in both lists."""
    tdds(count=12)
    z = np.stack([LOGITS[e % EPOCHS] for e in range(12)])
    want = truth(field, "forgetting", z)
    rows = ("--epoch-rows", "*_Index.npy")
    score_of(field, "--logits", "*_Output.npy", *rows, kind="forgetting").done()
    assert np.allclose(np.load("s.npy"), want, rtol=1e-12)
    given = [word for e in range(12) for word in ("--logits", f"{e}_Output.npy")]
    rows = [word for e in range(12) for word in ("--epoch-rows", f"{e}_Index.npy")]
    score_of(field, *given, *rows, kind="forgetting").done()
    assert np.allclose(np.load("s.npy"), want, rtol=1e-12)


def test_outputs_in_row_order_beside_row_numbers(field):
    """The companions count 0 … n−1: nothing was shuffled."""
    want = truth(field)
    tdds(shuffled=False)
    for rows in ((), ("--epoch-rows", "*_Index.npy")):
        got = score_of(field, "--logits", "*_Output.npy", *rows).done()
        assert np.allclose(np.load("s.npy"), want, rtol=1e-12), got.line


FAULTS = {
    "repeated": lambda rows: np.r_[rows[1], rows[1:]],
    "one off": lambda rows: rows + 1,
    "negative": lambda rows: rows - 1,
    "short": lambda rows: rows[1:],
    "floats": lambda rows: rows + 0.5,
    "matrix": lambda rows: np.stack([rows, rows], 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_row_numbers_that_are_no_permutation_are_refused(field, fault):
    tdds()
    array("y.npy", Y)
    array("3_Index.npy", FAULTS[fault](np.load("3_Index.npy")))
    rows = ("--epoch-rows", "*_Index.npy")
    score_of(field, "--logits", "*_Output.npy", *rows).refused(names=["3_Index.npy"])


def test_row_numbers_of_fewer_epochs_are_refused(field):
    tdds()
    array("y.npy", Y)
    Path("4_Index.npy").unlink()
    rows = ("--epoch-rows", "*_Index.npy")
    score_of(field, "--logits", "*_Output.npy", *rows).refused("--epoch-rows")
    # Without the option, the four that are left still say that rows were shuffled.
    score_of(field, "--logits", "*_Output.npy").refused("--epoch-rows")


def test_row_numbers_of_some_epochs_only(field):
    """--epochs takes the files of the epochs that are used."""
    tdds()
    want = truth(field, "el2n", LOGITS[1:3])
    given = ("--logits", "*_Output.npy", "--epoch-rows", "*_Index.npy", "--epochs", "2:3")
    got = score_of(field, *given).done()
    assert np.allclose(np.load("s.npy"), want, rtol=1e-12), got.line


def test_row_numbers_with_probabilities(field):
    want = truth(field)
    tdds()
    for e in range(EPOCHS):
        z = np.exp(np.load(f"{e}_Output.npy").astype(np.float64))
        array(f"{e}_Probs.npy", z / z.sum(1, keepdims=True))
    given = ("--probs", "*_Probs.npy", "--epoch-rows", "*_Index.npy")
    score_of(field, *given).done()
    assert np.allclose(np.load("s.npy"), want, rtol=1e-6)
    score_of(field, "--probs", "*_Probs.npy").refused("--epoch-rows")


def test_classes_of_the_made_outputs():
    assert LOGITS.shape == (EPOCHS, N, CLASSES)
