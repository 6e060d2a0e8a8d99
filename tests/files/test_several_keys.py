"""Several ``--emb-key``: matrices side by side, with equal weight under cosine."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from d2cli.files.formats.composed import JoinedField
from d2cli.files.formats.fields import Field
from d2cli.files.sources import open_source

KEYS = ("--emb-key", "l14_img", "--emb-key", "l14_txt")


def unit(values):
    return values / np.linalg.norm(values.astype(np.float64), axis=1, keepdims=True)


def lists(values):
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


@pytest.fixture
def parts(data):
    """An image and a text part of other lengths, and what cosine and euclidean must see."""
    rng = np.random.default_rng(5)
    img, txt = 20 * data.emb, rng.normal(size=(data.n, 3)).astype(np.float32)
    np.save("cosine.npy", np.hstack([unit(img), unit(txt)]).astype(np.float32))
    np.save("euclidean.npy", np.hstack([img, txt]))
    return {"l14_img": img, "l14_txt": txt}


def write(form, parts):
    if form == "npz":
        np.savez("emb.npz", b32_img=parts["l14_txt"], **parts)
    elif form == "parquet":
        pq.write_table(pa.table({k: lists(v) for k, v in parts.items()}), "emb.parquet")
    elif form == "shards":
        Path("shards").mkdir()
        for at, rows in enumerate([slice(13), slice(13, 14), slice(14, None)]):
            np.savez(f"shards/{at}.npz", **{k: v[rows] for k, v in parts.items()})
        return "shards", KEYS
    else:
        struct = pa.StructArray.from_arrays([lists(v) for v in parts.values()], [*parts])
        pq.write_table(pa.table({"emb": struct}), "emb.parquet")
        return "emb.parquet", ("--emb-key", "emb.l14_img", "--emb-key", "emb.l14_txt")
    return f"emb.{form}", KEYS


@pytest.mark.parametrize("form", ["npz", "parquet", "shards", "struct"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_parts_are_joined_in_the_order_given(select, data, parts, form, metric):
    path, keys = write(form, parts)
    rest = ("--scores", "scores.npy", "--ratio", "0.4", "--metric", metric)
    assert select("--emb", f"{metric}.npy", *rest, "--out", "expected.npy")[0] == 0
    assert select("--emb", path, *keys, *rest)[0] == 0
    np.testing.assert_array_equal(np.load("selected.npy"), np.load("expected.npy"))
    recorded = json.loads(Path("selected.npy.json").read_text())["inputs"]["emb"]["field"]
    assert recorded == [key for key in keys if not key.startswith("--")]


@pytest.mark.parametrize("swapped", [False, True])
def test_matrix_has_the_parts_in_order(data, parts, swapped):
    path, _ = write("npz", parts)
    names = ("l14_txt", "l14_img") if swapped else ("l14_img", "l14_txt")
    source = open_source([path], "embeddings", "emb", names)
    expected = np.hstack([parts[name] for name in names])
    np.testing.assert_array_equal(source.matrix(), expected)
    source.scale_parts("cosine")
    expected = np.hstack([unit(parts[name]) for name in names])
    np.testing.assert_allclose(source.matrix(), expected, rtol=1e-6)
    assert source.matrix().dtype == np.float32


def test_row_without_one_part_is_refused_with_its_name(select, data, parts):
    parts["l14_txt"][[7, 9]] = 0
    path, keys = write("npz", parts)
    args = ("--emb", path, *keys, "--scores", "scores.npy", "--ratio", "0.4")
    code, out, err = select(*args, "--metric", "cosine")
    assert (code, out) == (1, "")
    assert "emb.npz: l14_txt: row 7" in err.splitlines()[0]
    assert "zero vector" in err.splitlines()[0]
    assert select(*args)[0] == 0  # euclidean
    Path("bad.txt").write_text("7\n9\n")
    assert select(*args, "--metric", "cosine", "--exclude", "bad.txt")[0] == 0
    assert select(*args, "--metric", "cosine", "--bad-rows", "drop")[0] == 0


def test_nan_in_a_part_is_refused(select, data, parts):
    parts["l14_img"][3, 1] = np.nan
    path, keys = write("npz", parts)
    args = ("--emb", path, *keys, "--scores", "scores.npy", "--ratio", "0.4")
    for metric in ("cosine", "euclidean"):
        code, _, err = select(*args, "--metric", metric)
        assert code == 1
        assert "row 3" in err.splitlines()[0]


def test_plan_knows_the_joined_width(run_cli, data, parts):
    path, keys = write("npz", parts)
    code, out, _ = run_cli("graph", "--emb", path, *keys, "--out", "g.arrow", "--plan", "--json")
    assert code == 0
    read = json.loads(out)["reads"][0]
    assert (read["rows"], read["width"], read["dtype"]) == (data.n, 7, "float32")


def test_plan_with_a_pilot_runs(run_cli, data, parts):
    path, keys = write("parquet", parts)
    args = ("graph", "--emb", path, *keys, "--metric", "cosine", "--out", "g.arrow", "-k", 4)
    assert run_cli(*args, "--plan", "--pilot")[0] == 0


@pytest.mark.parametrize("command", ["score", "report", "compare"])
def test_every_command_takes_several_keys(run_cli, select, data, parts, command):
    path, keys = write("npz", parts)
    joined, given = ("--emb", "cosine.npy"), ("--emb", path, *keys)
    if command == "score":
        rest = ("--kind", "prototypicality", "--n-clusters", 3, "--metric", "cosine")
        for emb, out in ((joined, "a.npy"), (given, "b.npy")):
            assert run_cli("score", *rest, *emb, "--out", out)[0] == 0
        np.testing.assert_allclose(np.load("a.npy"), np.load("b.npy"), rtol=1e-5)
        return
    found = []
    for emb in (joined, given):
        rest = ("--scores", "scores.npy", "--out", "page.html", "--json")
        if command == "report":
            assert (
                select(*emb, "--metric", "cosine", "--scores", "scores.npy", "--ratio", "0.4")[0]
                == 0
            )
            code, out, _ = run_cli("report", *emb, *rest, "--selected", "selected.npy")
        else:
            code, out, _ = run_cli("compare", *emb, *rest, "--ratio", "0.4", "--metric", "cosine",
                                   "--methods", "d2,random", "-k", 4)  # fmt: skip
        assert code == 0
        found.append(json.loads(out))
    name = "report" if command == "report" else "comparison"
    assert len(numbers(found[0][name])) > 5
    assert numbers(found[0][name]) == pytest.approx(numbers(found[1][name]), rel=1e-4)


def numbers(value):
    """All numbers of a JSON value, in order."""
    if isinstance(value, dict):
        value = [one for key, one in value.items() if key not in ("seconds", "inputs", "run")]
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [value] if isinstance(value, int | float) else []


def test_refusals(select, data, parts):
    path, _ = write("npz", parts)
    rest = ("--scores", "scores.npy", "--ratio", "0.4")
    code, _, err = select("--emb", path, "--emb-key", "l14_img", "--emb-key", "l14_img", *rest)
    assert code == 2
    assert "--emb-key l14_img is given twice" in err
    code, _, err = select("--emb", path, "--emb-key", "l14_img", "--emb-key", "no", *rest)
    assert code == 1
    assert "emb.npz: has no column or member 'no'" in err
    np.savez("odd.npz", a=np.ones((3, 2), "f4"), b=np.ones((4, 2), "f4"))
    code, _, err = select("--emb", "odd.npz", "--emb-key", "a", "--emb-key", "b", *rest)
    assert code == 1
    assert "odd.npz: b: has 4 rows, odd.npz: a has 3" in err


class Pieces(Field):
    """A matrix in blocks of given lengths."""

    def __init__(self, values, cuts):
        super().__init__(Path("x"), "x", values.shape, values.dtype)
        self.values, self.cuts = values, cuts

    def blocks(self):
        return iter(np.split(self.values, self.cuts))


@given(st.data(), st.integers(1, 30))
def test_blocks_of_any_lengths_are_joined(data, n):
    parts = []
    for width in (2, 3):
        values = data.draw(hnp.arrays(np.float64, (n, width), elements=st.floats(-9, 9)))
        cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
        parts.append(Pieces(values, cuts))
    joined = JoinedField(parts)
    whole = np.concatenate(list(joined.blocks()))
    np.testing.assert_array_equal(whole, np.hstack([part.values for part in parts]))
    joined.unit = True
    whole = np.concatenate(list(joined.blocks()))
    lengths = [np.linalg.norm(columns, axis=1) for columns in np.split(whole, [2], axis=1)]
    zero = np.any([~part.values.any(axis=1) for part in parts], axis=0)
    for length in lengths:
        np.testing.assert_allclose(length, np.where(zero, 0, 1), rtol=1e-12)
