"""``d2prune score``, and the direction that ``select`` and ``propagate`` read from its files."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from d2cli import (
    knn_distance,
    label_disagreement,
    prototypicality,
    read_graph,
    score_dynamics,
    target_similarity,
)
from d2cli.files.formats import fields
from d2cli.files.formats import numpy_files as arrays
from tests.cli.test_refusals import snapshot
from tests.conftest import unless_given

KINDS = ["el2n", "aum", "forgetting", "entropy"]


@pytest.fixture
def dynamics(data):
    """Logits of 40 rows as ``z.npy``, (6, 40, 3) float16, beside emb, scores and labels."""
    rng = np.random.default_rng(11)
    data.z = rng.normal(size=(6, data.n, 3)).astype(np.float16)
    data.z[:, np.arange(data.n), data.labels] += 1
    np.save("z.npy", data.z)
    return data


@pytest.fixture
def score(run_cli):
    """Runs ``d2prune score`` on two threads; a refused run must change no file."""

    def call(*args, kinds=("el2n",), out="o.npy", labels="labels.npy"):
        chosen = [word for kind in kinds for word in ("--kind", kind)]
        labelled = ["--labels", labels] if labels else []
        before = snapshot(Path())
        result = run_cli(
            "score", *chosen, *unless_given(("--threads", 2), args), *args, *labelled, "--out", out
        )
        assert result[0] == 0 or snapshot(Path()) == before
        return result

    return call


def done(result):
    assert result[0] == 0, result[2]
    return result[2]


def refused(result, *says, code=1):
    got, out, err = result
    assert (got, out) == (code, ""), err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1
    for text in says:
        assert text in err


def beside(path):
    return json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))


def wanted(rows, kinds=KINDS, **z):
    return score_dynamics(kinds, labels=rows.labels, **(z or {"logits": rows.z}))


# -- inputs ---------------------------------------------------------------------------------------
def test_scores_of_one_array_equal_the_api(dynamics, score):
    done(score("--logits", "z.npy"))
    found = np.load("o.npy")
    assert found.dtype == np.float64
    assert found.tobytes() == wanted(dynamics)["el2n"].tobytes()


def test_scores_do_not_depend_on_the_block_size(dynamics, score, monkeypatch):
    monkeypatch.setattr(fields, "BLOCK_BYTES", 50)
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 50)
    done(score("--logits", "z.npy"))
    assert np.load("o.npy").tobytes() == wanted(dynamics)["el2n"].tobytes()


def as_fortran(z, y):
    np.save("f.npy", np.asfortranarray(z))
    return ["--logits", "f.npy"]


def as_npz(z, y):
    np.savez("m.npz", logits=z, other=z)
    return ["--logits", "m.npz"]


def as_fortran_npz(z, y):
    np.savez("m.npz", logits=np.asfortranarray(z))
    return ["--logits", "m.npz", "--logits-key", "logits"]


def as_files(z, y):
    Path("run").mkdir()
    for epoch, values in enumerate(z):  # epoch_10 is read after epoch_9
        np.save(f"run/epoch_{epoch + 7}.npy", values)
    return ["--logits", "run"]


def as_runs(z, y):
    np.save("first.npy", z[:4])
    np.save("then.npy", z[4:])
    return ["--logits", "first.npy", "--logits", "then.npy"]


def as_tables(z, y):
    for epoch, values in enumerate(z):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel(), pa.float16()), 3)
        with pa.ipc.new_file(f"t{epoch}.arrow", pa.schema({"logits": lists.type})) as writer:
            writer.write(pa.record_batch({"logits": lists}))
    return ["--logits", "t*.arrow"]


def as_csv(z, y):
    for epoch, values in enumerate(z):
        head = ",".join(f"z_{c}" for c in range(3))
        np.savetxt(f"t{epoch}.csv", values, "%.17g", ",", header=head, comments="")
    return ["--logits", "t*.csv"]


FORMS = [as_fortran, as_npz, as_fortran_npz, as_files, as_runs, as_tables, as_csv]


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("epochs", [None, "2:5", "6"])
def test_logits_in_every_format_give_the_same_scores(dynamics, score, form, epochs):
    chosen = {None: slice(None), "2:5": slice(1, 5), "6": slice(5, 6)}[epochs]
    args = form(dynamics.z, dynamics.labels)
    done(score(*args, *(["--epochs", epochs] if epochs else [])))
    same = wanted(dynamics, ["el2n"], logits=dynamics.z[chosen])["el2n"]
    assert np.load("o.npy").tobytes() == same.tobytes()


def test_two_dimensional_outputs_are_one_epoch(dynamics, score):
    p = np.exp(dynamics.z[0].astype(np.float64))
    np.save("p.npy", p / p.sum(axis=1, keepdims=True))
    done(score("--probs", "p.npy", kinds=["margin"]))
    same = wanted(dynamics, ["margin"], logits=dynamics.z[:1])["margin"]
    np.testing.assert_allclose(np.load("o.npy"), same, rtol=1e-12, atol=1e-15)
    refused(score("--probs", "p.npy", kinds=["forgetting"], out="x.npy"), "at least 2", code=2)


EPOCHS = {"1:3": (0, 3), ":3": (0, 3), "4:": (3, 6), "2": (1, 2), "1:6": (0, 6), ":": (0, 6)}


@pytest.mark.parametrize("text", EPOCHS)
def test_epochs_selects_a_range(dynamics, score, text):
    done(score("--logits", "z.npy", "--epochs", text, kinds=["entropy"], labels=None))
    start, stop = EPOCHS[text]
    same = wanted(dynamics, ["entropy"], logits=dynamics.z[start:stop])["entropy"]
    assert np.load("o.npy").tobytes() == same.tobytes()
    assert beside("o.npy")["scores"]["entropy"]["epochs"] == [start + 1, stop]


@pytest.mark.parametrize("text", ["0:3", "3:2", "1:7", "7", "a:b", "", "1:2:3", "-2:"])
def test_invalid_epochs_are_refused(dynamics, score, text):
    refused(score("--logits", "z.npy", "--epochs", text), "hint: epochs count from 1", code=2)


def test_rows_of_epochs_and_labels_are_joined_by_id(dynamics, score):
    """Each epoch has an order of its own, and so have the labels."""
    rng = np.random.default_rng(0)
    ids = np.array(dynamics.ids)
    for epoch, values in enumerate(dynamics.z):
        order = rng.permutation(dynamics.n) if epoch else np.arange(dynamics.n)
        rows = pa.array(list(values[order].astype(np.float32)), pa.list_(pa.float32()))
        pq.write_table(pa.table({"id": ids[order], "logits": rows}), f"e{epoch}.parquet")
    order = rng.permutation(dynamics.n)
    labels = pa.table({"id": ids[order], "label": dynamics.labels[order]})
    pq.write_table(labels, "l.parquet")
    done(score("--logits", "e*.parquet", labels="l.parquet", kinds=KINDS, out="o.parquet"))
    table = pq.read_table("o.parquet")
    assert table["id"].to_pylist() == dynamics.ids
    for kind, scores in wanted(dynamics).items():
        assert table[kind].to_numpy().tobytes() == scores.tobytes()
    pq.write_table(labels.slice(1), "l.parquet")
    said = score("--logits", "e*.parquet", labels="l.parquet")
    refused(said, "l.parquet: label: has no id")


# -- refusals -------------------------------------------------------------------------------------
def test_exchanged_axes_give_a_hint(dynamics, score, run_cli):
    np.save("t.npy", dynamics.z.transpose(1, 0, 2))
    said = ["t.npy: has the shape (40, 6, 3)", "(n, epochs, classes)", "transpose(1, 0, 2)"]
    refused(score("--logits", "t.npy"), *said)
    both = ["--emb", "emb.npy", "--logits", "t.npy"]
    refused(score(*both, kinds=["entropy", "knn-distance"], out="x.csv", labels=None), *said)
    err = done(score("--logits", "t.npy", kinds=["entropy"], labels=None))
    assert "notice: t.npy: 40 epochs of 6 rows: if that is the other way round" in err
    refused(score("--logits", "t.npy", out="t.npy", kinds=["entropy"], labels=None), code=2)


REFUSED = {
    "nan": ((2, 5, 1), np.nan, "bad.npy: epoch 3, row 5, class 1: is nan"),
    "inf": ((0, 0, 0), np.inf, "bad.npy: epoch 1, row 0, class 0: is inf"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_outputs_that_are_not_finite_are_refused(dynamics, score, case):
    at, value, says = REFUSED[case]
    dynamics.z[at] = value
    np.save("bad.npy", dynamics.z)
    refused(score("--logits", "bad.npy"), says)
    Path("one").mkdir()
    for epoch, values in enumerate(dynamics.z):
        np.save(f"one/{epoch}.npy", values)
    refused(score("--logits", "one"), says.replace("bad.npy", f"one/{at[0]}.npy"))


def test_logits_and_probabilities_are_told_apart(dynamics, score):
    refused(score("--probs", "z.npy"), "is no probability", "hint: give logits as --logits")
    p = np.exp(dynamics.z.astype(np.float32))
    p /= p.sum(axis=2, keepdims=True)
    np.save("p.npy", p)
    err = done(score("--logits", "p.npy"))
    assert "notice: p.npy: every row is >= 0 and adds up to 1: if these are probabilities" in err


def test_bad_labels_are_refused(dynamics, score):
    np.save("l.npy", dynamics.labels + 1)
    said = "l.npy: row", "is none of the outputs' 3 classes", "hint: these labels count from 1"
    refused(score("--logits", "z.npy", labels="l.npy"), *said)
    np.save("l.npy", np.array(dynamics.ids))
    refused(score("--logits", "z.npy", labels="l.npy"), "l.npy: labels must be class numbers")
    np.save("l.npy", dynamics.labels[1:])
    refused(score("--logits", "z.npy", labels="l.npy"), "has the shape (6, 40, 3), so 40 rows")


def test_outputs_of_other_shapes_and_dtypes_are_refused(dynamics, score):
    np.save("rows.npy", dynamics.z[0, 1:])
    np.save("classes.npy", dynamics.z[0, :, :2])
    np.save("whole.npy", np.zeros((6, 40, 3), np.int64))
    np.save("flat.npy", np.zeros(40))
    both = ["--logits", "z.npy", "--logits"]
    refused(
        score(*both, "rows.npy"),
        "rows.npy: has 39 rows, z.npy has 40",
        "each of several files is one epoch",
    )
    refused(score(*both, "classes.npy"), "classes.npy: has 2 classes, z.npy has 3")
    refused(score("--logits", "whole.npy"), "whole.npy: outputs must be floats, not int64")
    refused(score("--logits", "flat.npy"), "flat.npy: outputs must be (epochs, n, classes)")


USAGE = [
    (["--probs", "z.npy"], ["aum"], "--kind aum is defined on logits"),
    (["--probs", "z.npy", "--logits", "z.npy"], ["el2n"], "give one"),
    ([], ["el2n"], "--kind el2n needs --logits or --probs"),
    ([], ["prototypicality"], "--kind prototypicality needs --emb"),
    ([], ["knn-distance"], "--kind knn-distance needs --graph or --emb"),
    (["--logits", "z.npy"], ["el2n", "el2n"], "asked for twice"),
    (["--logits", "z.npy"], ["el3n"], "unknown kind 'el3n'; did you mean el2n?"),
    (["--logits", "z.npy"], ["el2n,aum,EL2N"], "asked for twice"),
    (["--logits", "z.npy"], ["el2n,"], "unknown kind ''"),
    (["--logits", "z.npy"], ["dual"], "of 10, and 6 are used\nhint: use more epochs, or a"),
    (["--logits", "z.npy"], ["dyn-unc"], "or a shorter window: --window 6"),
    (["--logits", "z.npy", "--window", 7], ["tdds"], "a window of 7, and 6 are used"),
    (["--logits", "z.npy", "--window", 2], ["tdds"], "window must be at least 3 for tdds, not 2"),
    (["--logits", "z.npy", "--epochs", "2"], ["loss-drop"], "(epochs, n, classes)"),
    (["--emb", "emb.npy"], ["target-similarity"], "--kind target-similarity needs --target"),
    (["--target", "emb.npy"], ["target-similarity"], "--kind target-similarity needs --emb"),
    (["--logits", "z.npy"], ["el2n", "aum"], ".npy holds one kind of score, not 2"),
    (["--logits", "z.npy", "--id-column", "key"], ["el2n"], "--id-column key: no input has"),
]


@pytest.mark.parametrize(("args", "kinds", "says"), USAGE)
def test_wrong_usage_is_refused(dynamics, score, args, kinds, says):
    refused(score(*args, kinds=kinds), says, code=2)


def test_probabilities_of_the_labels_alone_get_a_hint(dynamics, score):
    p = np.exp(wanted(dynamics, ["loss"], logits=dynamics.z[:1])["loss"] * -1)
    np.save("p.npy", np.tile(p, (6, 1)))
    said = "p.npy: has the shape (6, 40), so 6 rows an epoch", "numpy.stack([p, 1 - p], axis=2)"
    refused(score("--probs", "p.npy"), *said)


def test_missing_labels_and_unknown_endings_are_refused(dynamics, score):
    said = "--kind el2n needs --labels"
    refused(score("--logits", "z.npy", labels=None), said, code=2)
    taken_for = ["--target", "labels.npy"]
    said = "--target takes embeddings; labels are given with --labels"
    refused(score("--logits", "z.npy", *taken_for, labels=None), said, code=2)
    refused(score("--logits", "z.npy", out="o.txt"), ".txt is not known", code=2)
    refused(score("--logits", "z.npy", out="o"), "none is not known", code=2)


@pytest.mark.parametrize(
    "kinds",
    [["EL2N", "Aum", "Loss"], ["el2n,aum,loss"], ["el2n, AUM", "loss"]],
    ids=["any case", "commas", "both"],
)
def test_kinds_in_any_case_and_several_by_comma(dynamics, score, kinds):
    done(score("--logits", "z.npy", kinds=kinds, out="o.parquet"))
    table = pq.read_table("o.parquet")
    assert table.column_names[-3:] == ["el2n", "aum", "loss"]
    for kind, scores in wanted(dynamics, ["el2n", "aum", "loss"]).items():
        assert table[kind].to_numpy().tobytes() == scores.tobytes()
    assert beside("o.parquet")["scores"]["loss"]["higher_is"] == "harder"


def test_kinds_with_underscores_are_those_with_hyphens(dynamics, score):
    done(score("--emb", "emb.npy", "-k", 4, kinds=["knn_distance"]))
    assert list(beside("o.npy")["scores"]) == ["knn-distance"]


def test_unused_options_print_a_notice(dynamics, score):
    args = ["--emb", "emb.npy", "--n-clusters", 3, "--graph", "g.arrow", "-k", 3]
    err = done(score("--logits", "z.npy", *args))
    said = "--n-clusters, --graph, --n-neighbors, --emb: not used for el2n"
    assert f"notice: {said}" in err
    args = ["--window", 3, "--target", "none.npy", "--target-reduce", "mean"]
    err = done(score("--logits", "z.npy", *args))
    assert "notice: --window, --target, --target-reduce: not used for el2n" in err
    err = done(score("--logits", "z.npy", "--emb", "emb.npy", "-k", 4, kinds=["knn-distance"]))
    assert "notice: --logits: not used for knn-distance" in err


# -- what changes from epoch to epoch --------------------------------------------------------------
CHANGES = ["dual", "dyn-unc", "tdds", "loss-drop"]


def test_scores_of_changes_equal_the_api_and_record_the_window(dynamics, score):
    done(score("--logits", "z.npy", "--window", 4, kinds=CHANGES, out="o.parquet"))
    same = score_dynamics(CHANGES, logits=dynamics.z, labels=dynamics.labels, window=4)
    table, entry = pq.read_table("o.parquet"), beside("o.parquet")
    for kind in CHANGES:
        assert table[kind].to_numpy().tobytes() == same[kind].tobytes()
        found = entry["scores"][kind]
        assert found["higher_is"] == "better"
        assert found.get("window") == (None if kind == "loss-drop" else 4)
    assert entry["parameters"]["window"] == 4
    done(score("--logits", "z.npy", kinds=["loss-drop"]))
    assert "window" not in beside("o.npy")["parameters"]


def test_epochs_in_orders_and_types_of_their_own(dynamics, score):
    """As a shuffling loader writes them; what is kept of an epoch is put into the rows' order."""
    rng = np.random.default_rng(5)
    z = dynamics.z.astype(np.float32) / 3
    z[::2] = z[::2].astype(np.float16)
    for epoch, values in enumerate(z):
        order = rng.permutation(dynamics.n)
        np.save(f"z_{epoch}.npy", values[order].astype(np.float32 if epoch % 2 else np.float16))
        np.save(f"i_{epoch}.npy", order)
    rows = ["--epoch-rows", "i_*.npy", "--window", 3]
    done(score("--logits", "z_*.npy", *rows, kinds=CHANGES, out="o.arrow"))
    with pa.ipc.open_file("o.arrow") as reader:
        table = reader.read_all()
    for kind, scores in score_dynamics(CHANGES, logits=z, labels=dynamics.labels, window=3).items():
        assert table[kind].to_numpy().tobytes() == scores.tobytes()


def test_an_epoch_that_lacks_rows_is_refused(dynamics, score):
    for epoch, values in enumerate(dynamics.z):
        np.save(f"z_{epoch}.npy", values)
        np.save(f"i_{epoch}.npy", np.maximum(np.arange(dynamics.n), epoch == 3))
    rows = ["--epoch-rows", "i_*.npy", "--window", 3]
    refused(score("--logits", "z_*.npy", *rows, kinds=["dual"]), "i_3.npy: lists row 1 2 times")


def test_rows_that_are_dropped_do_not_change_the_others(dynamics, score):
    same = score_dynamics(CHANGES, logits=dynamics.z, labels=dynamics.labels, window=3)
    dynamics.z[4, 7] = np.nan
    np.save("z.npy", dynamics.z)
    args = ["--logits", "z.npy", "--window", 3]
    refused(score(*args, kinds=["tdds"]), "z.npy: epoch 5, row 7", "--bad-rows drop")
    done(score(*args, "--bad-rows", "drop", kinds=CHANGES, out="{kind}.npy"))
    for kind in CHANGES:
        found = np.load(f"{kind}.npy")
        assert np.flatnonzero(np.isnan(found)).tolist() == [7]
        np.testing.assert_array_equal(np.delete(found, 7), np.delete(same[kind], 7))


def test_more_epochs_than_the_authors_use_print_a_notice(dynamics, score):
    np.save("z.npy", np.concatenate([dynamics.z] * 6)[:31])
    err = done(score("--logits", "z.npy", kinds=CHANGES, out="o.csv"))
    assert "notice: dual: uses all 31 epochs; its authors use the first 30 (--epochs 1:30)" in err
    assert "notice: loss-drop: uses all 31 epochs; its authors use the first 20" in err
    assert err.count("its authors") == 2
    err = done(score("--logits", "z.npy", "--epochs", ":", kinds=CHANGES, out="o.csv"))
    assert "its authors" not in err


def test_select_takes_the_highest_of_scores_that_are_better(dynamics, score, run_cli):
    done(score("--logits", "z.npy", "--window", 3, kinds=["dual"]))
    base = ["select", "--emb", "emb.npy", "-k", 4, "--ratio", "0.4"]
    done(run_cli(*base, "--scores", "o.npy", "--out", "known.npy"))
    entry = beside("known.npy")
    assert entry["inputs"]["scores"]["higher_is"] == "better"
    assert entry["parameters"]["cutoff"] == 0


# -- a target set ----------------------------------------------------------------------------------
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_target_similarity_equals_the_api(dynamics, score, reduce):
    rng = np.random.default_rng(2)
    target = rng.normal(size=(7, 4)).astype(np.float16)
    lists = pa.array(list(target.astype(np.float32)), pa.list_(pa.float32()))
    names = [f"t{i}" for i in range(7)]
    pq.write_table(pa.table({"uid": names, "goal": lists, "other": lists}), "t.parquet")
    args = ["--emb", "emb.npy", "--target", "t.parquet", "--target-key", "goal"]
    args += [] if reduce == "max" else ["--target-reduce", reduce]
    done(score(*args, kinds=["Target_Similarity"], labels=None))
    same = target_similarity(dynamics.emb, target.astype(np.float32), reduce)
    assert np.load("o.npy").tobytes() == same.tobytes()
    entry = beside("o.npy")
    kind = {"higher_is": "better", "reduce": reduce, "target_rows": 7}
    assert entry["scores"]["target-similarity"] == kind
    assert entry["parameters"]["target_reduce"] == reduce
    assert entry["inputs"]["target"]["rows"] == 7


def test_target_similarity_beside_other_scores_of_embeddings(dynamics, score):
    kinds = ["target-similarity", "prototypicality", "knn-distance"]
    args = ["--emb", "emb.npy", "--target", "emb.npy", "--n-clusters", 5, "-k", 4]
    done(score(*args, kinds=kinds, out="{kind}.npy", labels=None))
    same = prototypicality(dynamics.emb, 5)
    np.testing.assert_array_equal(np.load("prototypicality.npy"), same)
    assert np.load("target-similarity.npy") == pytest.approx(1)


def test_bad_targets_are_refused(dynamics, score):
    base = ["--emb", "emb.npy", "--target", "t.npy"]
    np.save("t.npy", np.ones((3, 5)))
    said = "t.npy: rows have 5 values, those of emb.npy have 4", "hint: both need embeddings of the"
    refused(score(*base, kinds=["target-similarity"]), *said)
    np.save("t.npy", np.array([[1, 1, 1, 1], [0, 0, 0, 0.0]]))
    for policy in ("refuse", "drop"):
        said = score(*base, "--bad-rows", policy, kinds=["target-similarity"])
        refused(said, "t.npy: row 1: is a zero vector")


def test_zero_vectors_have_no_similarity(dynamics, score):
    dynamics.emb[[3, 9]] = 0
    np.save("emb.npy", dynamics.emb)
    np.save("t.npy", np.ones((2, 4)))
    base = ["--emb", "emb.npy", "--target", "t.npy"]
    said = score(*base, kinds=["target-similarity"])
    refused(said, "emb.npy: row 3: is a zero vector", "2 of 40 rows", "--bad-rows drop")
    done(score(*base, "--bad-rows", "drop", kinds=["target-similarity"]))
    found = np.load("o.npy")
    assert np.flatnonzero(np.isnan(found)).tolist() == [3, 9]
    used = np.delete(np.arange(40), [3, 9])
    same = target_similarity(dynamics.emb[used], np.ones((2, 4)))
    np.testing.assert_allclose(found[used], same, rtol=1e-12)


def test_quantised_embeddings_and_targets_are_read_alike(dynamics, score):
    np.save("emb.npy", (dynamics.emb * 8).astype(np.int8))
    np.save("t.npy", np.array([[3, -4, 0, 1]], np.int8))
    base = ["--emb", "emb.npy", "--target", "t.npy", "--emb-scale", "0.5"]
    done(score(*base, kinds=["target-similarity"]))
    rows = (dynamics.emb * 8).astype(np.int8).astype(np.float32)
    same = target_similarity(rows, np.array([[3, -4, 0, 1.0]], np.float32))
    np.testing.assert_allclose(np.load("o.npy"), same, rtol=1e-5, atol=1e-6)


# -- embeddings and neighbours ---------------------------------------------------------------------
def test_scores_of_embeddings_and_graphs_equal_the_api(dynamics, score, run_cli):
    kinds = ["prototypicality", "knn-distance", "label-disagreement", "el2n"]
    args = ["--emb", "emb.npy", "--n-clusters", 5, "--seed", 3, "-k", 4, "--logits", "z.npy"]
    done(score(*args, kinds=kinds, out="{kind}.npy"))
    done(run_cli("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.arrow"))
    graph = read_graph("g.arrow")
    same = {
        "prototypicality": prototypicality(dynamics.emb, 5, seed=3),
        "knn-distance": knn_distance(graph),
        "label-disagreement": label_disagreement(graph, dynamics.labels),
        "el2n": wanted(dynamics)["el2n"],
    }
    for kind, scores in same.items():
        np.testing.assert_array_equal(np.load(f"{kind}.npy"), scores)
        assert list(beside(f"{kind}.npy")["scores"]) == [kind]
    built = ["--graph", "g.arrow", "--emb", "emb.npy"]
    done(score(*built, kinds=kinds[1:3], out="o.csv"))
    table = pa.csv.read_csv("o.csv")
    for kind in kinds[1:3]:
        np.testing.assert_array_equal(table[kind].to_numpy(), same[kind])
    np.save("other.npy", dynamics.emb[::-1])
    args = ["--graph", "g.arrow", "--emb", "other.npy"]
    refused(score(*args, kinds=["knn-distance"]), "g.arrow: was not built from other.npy")


def test_label_disagreement_of_text_labels_and_excluded_rows(dynamics, score, run_cli):
    np.save("l.npy", np.array(["ant", "bee", "cat"])[dynamics.labels])
    Path("x.txt").write_text("3\n17\n")
    done(run_cli("graph", "--emb", "emb.npy", "--exclude", "x.txt", "-k", 4, "--out", "g.arrow"))
    err = done(score("--graph", "g.arrow", kinds=["label-disagreement"], labels="l.npy"))
    assert "notice: g.arrow: 2 rows are excluded, and score 0" in err
    found = np.load("o.npy")
    assert found[3] == found[17] == 0
    same = label_disagreement(read_graph("g.arrow"), dynamics.labels)
    np.testing.assert_array_equal(found, same)
    within = ["--within", "labels.npy", "-k", 30]
    done(run_cli("graph", "--emb", "emb.npy", *within, "--out", "g.arrow"))
    err = done(
        score("--graph", "g.arrow", kinds=["knn-distance", "label-disagreement"], out="o.csv")
    )
    assert "rows list fewer than 30 neighbours" in err
    assert "notice: label-disagreement: every row has the same score (0)" in err


def test_missing_scikit_learn_gives_a_hint(dynamics, score, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    said = score("--emb", "emb.npy", kinds=["prototypicality"], labels=None)
    refused(said, "prototypicality needs scikit-learn", "hint: pip install 'd2prune[score]'")


# -- provenance and summary ------------------------------------------------------------------------
@pytest.mark.parametrize("form", ["parquet", "arrow", "csv", "npy"])
def test_provenance_holds_direction_epochs_and_classes(dynamics, score, form):
    out = "{kind}.npy" if form == "npy" else f"o.{form}"
    done(score("--logits", "z.npy", kinds=["forgetting", "aum"], out=out))
    path = out.replace("{kind}", "forgetting")
    entry = beside(path)
    assert entry["command"] == "score"
    assert entry["scores"]["forgetting"]["higher_is"] == "harder"
    assert entry["scores"]["forgetting"]["never_learned_counts_as"] == 6
    assert entry["counts"] == {"rows": 40}
    assert (entry["inputs"]["logits"]["epochs"], entry["inputs"]["logits"]["classes"]) == (6, 3)
    if form == "parquet":
        inside = json.loads(pq.read_schema(path).metadata[b"d2prune"])
        assert inside["scores"] == entry["scores"]
        assert inside["scores"]["aum"]["higher_is"] == "easier"
        assert "run" not in inside


def test_output_does_not_depend_on_threads(dynamics, score, run_cli):
    kinds = [*KINDS, "variability", "prototypicality", "knn-distance", "label-disagreement"]
    args = ["--logits", "z.npy", "--emb", "emb.npy", "-k", 4]
    found = set()
    for threads in (1, 2, 3, 2):
        done(score(*args, "--threads", threads, kinds=kinds, out="o.parquet"))
        found.add(Path("o.parquet").read_bytes())
    assert len(found) == 1


def test_summary_names_direction_and_epochs(dynamics, score):
    code, out, _ = score("--logits", "z.npy", "--json", kinds=["forgetting"])
    assert code == 0
    assert json.loads(out)["scores"]["forgetting"]["never_learned"] >= 0
    err = done(score("--logits", "z.npy", kinds=["forgetting", "aum"], out="o.arrow"))
    assert "never learned" in err
    assert "high = easier" in err
    assert "epochs 1 to 6 of 6 × 40 rows × 3 classes from z.npy" in err


# -- the recorded direction ------------------------------------------------------------------------
@pytest.fixture
def scored(dynamics, score, run_cli):
    """AUM as .npy and .csv, AUM and EL2N in one parquet file, a graph, scores without sidecar."""
    for out in ("aum.npy", "aum.csv"):
        done(score("--logits", "z.npy", kinds=["aum"], out=out))
    done(score("--logits", "z.npy", kinds=["el2n", "aum"], out="both.parquet"))
    done(run_cli("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.arrow"))
    np.save("bare.npy", np.load("aum.npy"))
    return dynamics


SOURCES = [["aum.npy"], ["aum.csv"], ["both.parquet", "--scores-key", "aum"]]
TOLD = ["--higher-is", "easier", "--score-transform", "shift"]


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s[0])
def test_select_and_propagate_use_the_recorded_direction(scored, run_cli, source):
    base = ["select", "--graph", "g.arrow", "--ratio", "0.4"]
    done(run_cli(*base, "--scores", "bare.npy", *TOLD, "--out", "told.npy"))
    err = done(run_cli(*base, "--scores", *source, "--out", "known.npy"))
    told = "using --higher-is easier --score-transform shift\n"
    assert f"aum scores are recorded as higher = easier; {told}" in err
    assert Path("known.npy").read_bytes() == Path("told.npy").read_bytes()
    recorded = beside("known.npy")["parameters"]
    assert (recorded["higher_is"], recorded["score_transform"]) == ("easier", "shift")
    done(run_cli("propagate", "--graph", "g.arrow", "--scores", *source, "--out", "p.npy"))
    staged = ["--propagated", "p.npy", "--out", "staged.npy"]
    done(run_cli(*base, *staged, "--scores", *source, "--cutoff", "0.1"))
    bare = ["--scores", "bare.npy"]
    done(run_cli("propagate", "--graph", "g.arrow", *bare, *TOLD, "--out", "q.npy"))
    cut = ["--propagated", "q.npy", "--out", "cut.npy", "--cutoff", "0.1"]
    done(run_cli(*base, *cut, *bare))
    assert Path("staged.npy").read_bytes() == Path("cut.npy").read_bytes()


def test_direction_is_that_of_the_chosen_column(scored, run_cli):
    base = ["select", "--graph", "g.arrow", "--ratio", "0.4"]
    err = done(run_cli(*base, "--scores", "both.parquet", "--scores-key", "el2n"))
    assert "notice" not in err
    assert beside("selected.npy")["parameters"]["higher_is"] == "harder"
    table = pq.read_table("both.parquet")
    table = table.append_column("mine", pa.array(np.arange(40.0)))
    pq.write_table(table, "more.parquet")  # the metadata is kept
    done(run_cli(*base, "--scores", "more.parquet", "--scores-key", "mine"))
    assert beside("selected.npy")["parameters"]["higher_is"] == "harder"
    done(run_cli(*base, "--scores", "more.parquet", "--scores-key", "aum"))
    assert beside("selected.npy")["parameters"]["higher_is"] == "easier"


def test_given_direction_and_transform_override_the_recorded_ones(scored, run_cli):
    base = ["select", "--graph", "g.arrow", "--ratio", "0.4"]
    el2n = ["--scores", "both.parquet", "--scores-key", "el2n"]
    err = done(run_cli(*base, *el2n, "--higher-is", "easier"))
    assert (
        "using --higher-is easier as given, although el2n scores are recorded as higher = harder"
        in err
    )
    assert beside("selected.npy")["parameters"]["higher_is"] == "easier"
    err = done(run_cli(*base, *el2n, "--higher-is", "better"))  # read alike
    assert "notice" not in err
    done(run_cli(*base, "--scores", "aum.npy", "--score-transform", "rank"))
    assert beside("selected.npy")["parameters"]["score_transform"] == "rank"
    code, _, err = run_cli(*base, "--scores", "aum.npy", "--score-transform", "none")
    assert (code, "turn negative" in err) == (1, True)


def test_cutoff_uses_the_recorded_direction_of_its_scores(scored, run_cli):
    base = ["select", "--graph", "g.arrow", "--size", "20", "--scores", "scores.npy"]
    cut = ["--cutoff", "0.25", "--cutoff-scores"]
    done(run_cli(*base, *cut, "bare.npy", "--cutoff-higher-is", "easier", "--out", "told.npy"))
    err = done(run_cli(*base, *cut, "aum.npy", "--out", "known.npy"))
    assert "notice: aum.npy: aum scores are recorded as higher = easier; using --cutoff-" in err
    assert "--cutoff-higher-is easier\n" in err
    assert Path("known.npy").read_bytes() == Path("told.npy").read_bytes()
    assert beside("known.npy")["parameters"]["cutoff_higher_is"] == "easier"
    err = done(run_cli(*base, *cut, "aum.npy", "--cutoff-higher-is", "harder"))
    assert "using --cutoff-higher-is harder as given, although aum scores are recorded" in err


def test_damaged_provenance_of_scores_is_refused(scored, run_cli):
    base = ["select", "--graph", "g.arrow", "--ratio", "0.4", "--out", "x.npy", "--scores"]

    def refuse(*args, says):
        code, _, err = run_cli(*base, *args)
        assert code == 1
        assert says in err

    np.save("aum.npy", np.load("aum.npy") + 1)
    refuse("aum.npy", says="aum.npy: is not the file that aum.npy.json describes")
    half = np.load("bare.npy")[:20]
    np.save("bare.npy", half)
    done(run_cli("score", "--kind", "entropy", "--logits", "z.npy", "--out", "e.npy"))
    Path("e.npy.json").write_text(
        Path("e.npy.json").read_text().replace('"higher_is": "harder"', '"higher_is": "odd"')
    )
    refuse("e.npy", says="e.npy: its provenance gives entropy no direction")
    table = pq.read_table("both.parquet")
    for raw, says in (
        (b"{", "metadata cannot be read"),
        (b'{"format_version": 99}', "has format version 99, this program reads 1"),
        (b"[]", "metadata cannot be read"),
    ):
        pq.write_table(table.replace_schema_metadata({b"d2prune": raw}), "bad.parquet")
        refuse("bad.parquet", "--scores-key", "aum", says=says)
    raw = b'{"format_version": 1, "command": "score", "scores": []}'
    pq.write_table(table.replace_schema_metadata({b"d2prune": raw}), "bad.parquet")
    refuse("bad.parquet", "--scores-key", "aum", says="damaged: 'scores' is not an object")


def test_shards_of_different_kinds_are_refused(scored, run_cli):
    table = pq.read_table("both.parquet").select(["aum"])
    pq.write_table(table.slice(0, 20), "s0.parquet")
    pq.write_table(table.slice(20).replace_schema_metadata(None), "s1.parquet")
    base = ["select", "--graph", "g.arrow", "--ratio", "0.4", "--scores", "s*.parquet"]
    code, _, err = run_cli(*base)
    assert code == 1
    assert "s1.parquet: aum: is recorded as no known score, s0.parquet: aum as aum" in err
