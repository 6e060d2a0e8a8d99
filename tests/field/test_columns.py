"""Field cases B: which column was read, what it means, and why."""

from pathlib import Path

import numpy as np
import pytest

from tests.field.make import IDS, LOGITS, RATIO, N, P, S, X, Y, array, at, write

EMB, SCORES = ("--emb", "emb.npy"), ("--scores", "m.parquet")
#: Names of columns that say high = wanted or high = easy, against the default.
TELLING = [
    "similarity", "clip_l14_similarity_score", "clip_score", "clip", "aum", "confidence", "quality",
    "quality_score", "margin", "Similarity", "AUM", "correctness",
]  # fmt: skip
HARD = ["el2n", "loss", "forgetting", "entropy", "score", "perplexity", "difficulty"]


@pytest.fixture
def captions(field):
    """Metadata of clip-retrieval: one numeric column beside text, and embeddings in arrays."""
    array("emb.npy", X)
    text = {"image_path": [f"{i}.jpg" for i in range(N)], "caption": [f"a {i}" for i in IDS]}
    return lambda name, **more: write("m.parquet", **text, **{name: S}, **more)


# -- B1: direction --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", TELLING)
def test_name_that_contradicts_the_default_direction(field, captions, name):
    captions(name)
    got = field.works(*EMB, *SCORES, want=field.wanted())
    got.has_line("m.parquet", name, "harder").has_notice(name, "--higher-is")
    recorded = field.recorded("scores")
    assert name in recorded and "harder" in recorded and "default" in recorded


@pytest.mark.parametrize("name", HARD)
def test_name_that_agrees_with_the_default_direction(field, captions, name):
    captions(name)
    got = field.works(*EMB, *SCORES, want=field.wanted()).has_line("m.parquet", name, "harder")
    assert not [line for line in got.notices if "--higher-is" in line], got.line


@pytest.mark.parametrize("meaning", ["harder", "easier", "better"])
def test_direction_that_is_given(field, captions, meaning):
    captions("similarity")
    given = ("--higher-is", meaning, "--score-transform", "shift")
    got = field.works(*EMB, *SCORES, *given, want=field.wanted(X, S, *given))
    got.has_line("m.parquet", "similarity", meaning)
    assert not [line for line in got.notices if "similarity" in line], got.line
    recorded = field.recorded("scores")
    assert meaning in recorded and "option" in recorded


def test_direction_that_is_recorded(field):
    array("emb.npy", X)
    array("z.npy", LOGITS)
    array("y.npy", Y)
    given = ("--kind", "aum", "--logits", "z.npy", "--labels", "y.npy")
    field.run("score", *given, "--out", "a.npy").done()
    got = field.select(*EMB, "--scores", "a.npy").done().has_line("a.npy", "easier", "recorded")
    assert not [line for line in got.notices if "aum" in line and "default" in line], got.line
    recorded = field.recorded("scores")
    assert "easier" in recorded and "recorded" in recorded


@pytest.mark.parametrize("command", ["propagate", "compare", "report"])
def test_notice_of_direction_in_other_commands(field, captions, command):
    captions("similarity")
    array("kept.npy", np.arange(90))
    args = {
        "propagate": ("--graph", "g.arrow", *SCORES, "--out", "u.npy"),
        "compare": (*EMB, *SCORES, *RATIO, "--methods", "d2", "--out", "c.html"),
        "report": (*EMB, *SCORES, "--selected", "kept.npy", "--map", "none", "--out", "r.html"),
    }
    field.run("graph", *EMB, "--out", "g.arrow").done()
    got = field.run(command, *args[command]).done()
    got.has_notice("similarity", "--higher-is").has_line("m.parquet", "similarity", "harder")


def test_notice_of_direction_of_an_npz_member_and_a_key(field):
    array("emb.npy", X)
    np.savez("m.npz", aum=S, other=S[::-1])
    got = field.select(*EMB, "--scores", "m.npz", "--scores-key", "aum")
    field.same(got, field.wanted()).has_notice("aum", "--higher-is")


def test_notice_of_direction_of_cutoff_scores(field, captions):
    captions("confidence")
    array("s.npy", S)
    cut = ("--cutoff", 0.2, "--cutoff-scores", "m.parquet")
    got = field.select(*EMB, "--scores", "s.npy", *cut).done()
    got.has_notice("confidence").has_line("m.parquet", "confidence")


@pytest.mark.parametrize("command", ["select", "graph", "propagate", "score"])
def test_summary_has_a_line_for_each_input(field, command):
    ids = IDS
    write("e.parquet", id=ids, embedding=X)
    write("s.parquet", id=at(ids, P), el2n=S[P])
    write("l.parquet", id=at(ids, P), label=Y[P])
    emb, scores = ("--emb", "e.parquet"), ("--scores", "s.parquet")
    labels = ("--labels", "l.parquet", "--labels-key", "label")
    field.run("graph", *emb, "--out", "g.arrow").done()
    args, seen = {
        "select": ((*emb, *scores, *labels, "--balance", "uniform", *RATIO, "--out", "o.npy"),
                   [("e.parquet", "embedding"), ("s.parquet", "el2n", "id"),
                    ("l.parquet", "label", "id")]),
        "graph": ((*emb, "--out", "o.arrow"), [("e.parquet", "embedding", "300")]),
        "propagate": (("--graph", "g.arrow", *scores, "--out", "o.npy"),
                      [("g.arrow",), ("s.parquet", "el2n", "id", "harder")]),
        "score": (("--kind", "label-disagreement", *emb, *labels, "--out", "o.npy"),
                  [("e.parquet", "embedding"), ("l.parquet", "label", "id")]),
    }[command]  # fmt: skip
    got = field.run(command, *args).done()
    for words in seen:
        got.has_line(*words)
    quiet = field.run(command, "-q", *args).done()
    assert quiet.err == "", quiet.line


def test_json_has_what_the_summary_has(field, captions):
    import json

    captions("similarity")
    got = field.run("select", *EMB, *SCORES, *RATIO, "--json", "--out", "kept.npy").done()
    found = json.loads(got.out)
    recorded = json.dumps(found["inputs"]["scores"])
    for word in ("m.parquet", "similarity", "harder", "default", "300"):
        assert word in recorded, recorded
    assert any("similarity" in notice for notice in found["notices"]), found["notices"]


# -- B2: the only numeric column ------------------------------------------------------------------
@pytest.mark.parametrize("name", ["width", "height", "caption_length", "timestamp", "year"])
@pytest.mark.parametrize("integers", [True, False])
def test_only_numeric_column(field, captions, name, integers):
    values = np.random.default_rng(3).permutation(N) + 64 if integers else S
    array("emb.npy", X)
    write("m.parquet", caption=[f"a photo {i % 50}" for i in range(N)], **{name: values})
    got = field.select(*EMB, *SCORES)
    if got.code:
        got.refused("--scores-key", names=["m.parquet"])
    else:
        want = field.wanted(X, values.astype(float))
        field.same(got, want).has_line("m.parquet", name).has_notice(name)
    got = field.select(*EMB, *SCORES, "--scores-key", name)
    field.same(got, field.wanted(X, values.astype(float))).has_line("m.parquet", name)
    assert not got.notices, got.line


def test_only_numeric_member_of_an_npz(field):
    array("emb.npy", X)
    np.savez("m.npz", width=S)
    got = field.select(*EMB, "--scores", "m.npz")
    if got.code == 0:
        field.same(got, field.wanted()).has_notice("width")


def test_two_numeric_columns_are_ambiguous(field, captions):
    captions("width", height=S[::-1])
    field.select(*EMB, *SCORES).refused("--scores-key", "width", "height", names=["m.parquet"])


# -- B3: several keys -----------------------------------------------------------------------------
IMG, TXT = X[:, :10] * 3, np.random.default_rng(6).standard_normal((N, 6)).astype(np.float32)


def unit(x):
    return (x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)).astype(np.float32)


BOTH = ("--emb-key", "l14_img", "--emb-key", "l14_txt")


@pytest.mark.parametrize("ending", ["npz", "parquet", "arrow"])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_several_emb_keys_are_concatenated(field, ending, metric):
    array("s.npy", S)
    e = write(f"e.{ending}", l14_img=IMG, l14_txt=TXT)
    parts = [unit(IMG), unit(TXT)] if metric == "cosine" else [IMG, TXT]
    want = field.wanted(np.concatenate(parts, 1), S, "--metric", metric)
    last = field.wanted(TXT, S, "--metric", metric)
    assert want.tobytes() != last.tobytes()
    given = ("--emb", e, *BOTH, "--metric", metric)
    field.works(*given, "--scores", "s.npy", want=want).has_line(e, "l14_img", "l14_txt")
    recorded = field.recorded("emb")
    assert "l14_img" in recorded and "l14_txt" in recorded
    field.run("graph", *given, "--out", "g.arrow").done()
    field.works("--graph", "g.arrow", "--scores", "s.npy", want=want)


def test_several_emb_keys_of_datacomp_shards(field):
    uids = [f"{i * 7919:032x}" for i in range(N)]
    for i, rows in enumerate(np.split(np.arange(N), [120, 130])):
        np.savez(f"{i:08}.npz", l14_img=IMG[rows].astype("f2"), l14_txt=TXT[rows].astype("f2"),
                 b32_img=X[rows])  # fmt: skip
        write(f"{i:08}.parquet", uid=at(uids, rows), clip_l14_similarity_score=S[rows])
    both = np.concatenate([IMG.astype("f2"), TXT.astype("f2")], 1).astype(np.float32)
    given = ("--emb", "*.npz", "--scores", "*.parquet", "--higher-is", "better")
    want = field.wanted(both, S, "--higher-is", "better")
    field.works(*given, *BOTH, want=want)
    given = ("--emb", ".", "--scores", ".", "--scores-key", "clip_l14_similarity_score")
    got = field.select(*given, *BOTH, "--higher-is", "better")
    field.same(got, want) if got.code == 0 else got.refused()


def test_three_keys_and_a_missing_one(field):
    array("s.npy", S)
    np.savez("e.npz", a=X[:, :4], b=X[:, 4:9], c=X[:, 9:])
    keys = [word for name in "abc" for word in ("--emb-key", name)]
    field.works("--emb", "e.npz", *keys, "--scores", "s.npy", want=field.wanted())
    got = field.select("--emb", "e.npz", *keys, "--emb-key", "d", "--scores", "s.npy")
    got.refused("d", names=["e.npz"])


SINGLE = {
    "--scores-key": ("a", "b"), "--labels-key": ("a", "b"), "--id-column": ("a", "b"),
    "--metric": ("cosine", "euclidean"), "--seed": (1, 2), "--out": ("a.npy", "b.npy"),
    "--higher-is": ("harder", "easier"), "--cutoff": (0.1, 0.2), "--mode": ("paper", "default"),
    "-k": (5, 6), "--as": ("index", "mask"),
}  # fmt: skip


@pytest.mark.parametrize("option", SINGLE)
def test_single_options_given_twice_are_refused(field, option):
    array("emb.npy", X)
    array("s.npy", S)
    one, other = SINGLE[option]
    got = field.run("select", *EMB, "--scores", "s.npy", *RATIO, option, one, option, other)
    got.refused(names=[option, "--n-neighbors"])
    assert got.code == 2


# -- B4: negative scores --------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["select", "propagate", "compare"])
def test_negative_scores_that_are_better(field, command):
    array("emb.npy", X)
    array("s.npy", S - 0.5)
    scores = ("--scores", "s.npy", "--higher-is", "better")
    field.run("graph", *EMB, "--out", "g.arrow").done()
    args = {
        "select": (*EMB, *scores, *RATIO, "--out", "kept.npy"),
        "propagate": ("--graph", "g.arrow", *scores, "--out", "u.npy"),
        "compare": (*EMB, *scores, *RATIO, "--methods", "d2", "--out", "c.html"),
    }[command]
    made = {}
    for transform in (None, "center", "none", "shift"):
        named = () if transform is None else ("--score-transform", transform)
        got = field.run(command, *args, *named).done()
        assert ("because some are negative" in got.err) == (transform is None), got.line
        recorded = field.provenance(args[-1])["parameters"]["score_transform"]
        assert recorded == transform or (transform is None and recorded == "center")
        made[transform] = Path(args[-1]).read_bytes()
    assert made[None] == made["center"]
    assert command != "propagate" or len({*made.values()}) == 3


def test_negative_scores_of_a_similarity_column(field, captions):
    array("emb.npy", X)
    write("m.parquet", similarity=S - 0.1)
    rule = ("--keep-lift", 0.95, "--hops", 0, "--cutoff", 0)  # the defaults for better scores
    want = field.wanted(X, S - 0.1, "--score-transform", "center", *rule)
    field.works(*EMB, *SCORES, "--higher-is", "better", want=want)
    (decision,) = (d for d in field.provenance()["decisions"] if d["name"] == "score_transform")
    assert decision["value"] == "center"
    assert decision["numbers"] == {"lowest_score": pytest.approx(S.min() - 0.1)}
