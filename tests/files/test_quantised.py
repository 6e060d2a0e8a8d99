"""Integers, packed bits, quantised values and bfloat16 as embeddings."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import DataError, UsageError
from d2cli.files.epochs import open_epochs
from d2cli.files.formats import converted, extras
from d2cli.files.formats.converted import Reading
from d2cli.files.sources import open_source

RNG = np.random.default_rng(5)


def source(path, key=None, **reading):
    return open_source([str(path)], "embeddings", "emb", key, reading=Reading(**reading))


def lists(values):
    return pa.array(values.tolist(), pa.list_(pa.from_numpy_dtype(values.dtype)))


WRITERS = {
    "npy": lambda v: np.save("e.npy", v),
    "fortran": lambda v: np.save("e.npy", np.asfortranarray(v)),
    "npz": lambda v: np.savez("e.npz", emb=v),
    "parquet": lambda v: pq.write_table(pa.table({"emb": lists(v)}), "e.parquet"),
    "numbered": lambda v: pq.write_table(
        pa.table({f"emb_{i}": v[:, i] for i in range(v.shape[1])}), "e.parquet"
    ),
}


def written(writer, values):
    for old in Path().glob("e.*"):
        old.unlink()
    WRITERS[writer](values)
    return next(Path().glob("e.*"))


# -- numbers --------------------------------------------------------------------------------------
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int32, np.int64, np.uint32])
def test_integers_are_read_as_numbers(run_cli, writer, kind):
    values = RNG.integers(0, 100, (7, 16)).astype(kind)
    found = source(written(writer, values))
    matrix = found.matrix()
    np.testing.assert_array_equal(matrix, values)
    assert matrix.dtype == (np.float32 if np.dtype(kind).itemsize < 4 else np.float64)
    assert f"{np.dtype(kind)} values are read as numbers" in found.notices[0]
    assert ("--emb-bits" in found.notices[0]) == (np.dtype(kind).itemsize == 1)
    assert not found.layout().mapped


def test_a_selection_from_integers(data, select):
    values = RNG.integers(-128, 128, (40, 16)).astype(np.int8)
    np.save("i.npy", values)
    np.save("f.npy", values.astype(np.float32))
    code, _, err = select("--emb", "f.npy", "--scores", "scores.npy", "--size", 9)
    expected = Path("selected.npy").read_bytes()
    code, _, err = select("--emb", "i.npy", "--scores", "scores.npy", "--size", 9)
    assert code == 0
    assert Path("selected.npy").read_bytes() == expected
    assert "i.npy: int8 values are read as numbers; packed bits need --emb-bits" in err


def test_uint16_may_be_bits_of_floats(run_cli):
    np.save("e.npy", np.ones((4, 3), ml_dtypes.bfloat16).view(np.uint16))
    with pytest.raises(DataError, match="uint16 may be the bits of bfloat16") as error:
        source("e.npy")
    assert "array.view(ml_dtypes.bfloat16).astype('float32')" in error.value.hint
    with pytest.raises(DataError, match="outputs must be floats, not uint16") as error:
        open_epochs(["e.npy"], "logits", None, None)
    assert "ml_dtypes.bfloat16" in error.value.hint
    assert source("e.npy", scale="2").matrix().dtype == np.float32


# -- bits -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("signed", [False, True])
def test_packed_bits(run_cli, monkeypatch, writer, signed):
    """As ``quantize_embeddings`` of sentence-transformers packs them: ubinary and binary."""
    monkeypatch.setattr(converted, "BLOCK_BYTES", 300)
    bits = RNG.random((9, 24)) > 0.5
    packed = np.packbits(bits, axis=-1)
    if signed:
        packed = (packed - 128).astype(np.int8)
    found = source(written(writer, packed), bits=True)
    np.testing.assert_array_equal(found.matrix(), bits.astype(np.float32))
    assert found.layout().width == 24
    assert not found.notices


def test_null_rows_of_packed_bits(run_cli):
    column = pa.array([[255, 0], None, [1, 128]], pa.list_(pa.uint8()))
    pq.write_table(pa.table({"codes": column}), "e.parquet")
    found = source("e.parquet", bits=True).matrix()
    np.testing.assert_array_equal(found[0], [1] * 8 + [0] * 8)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[2], [0] * 7 + [1] + [1] + [0] * 7)


def test_bits_of_other_types_are_refused(run_cli):
    for kind in (np.float32, np.int16, bool):
        np.save("e.npy", np.ones((4, 3), kind))
        with pytest.raises(DataError, match="--emb-bits unpacks lists of uint8 or int8, not"):
            source("e.npy", bits=True)


# -- scales ---------------------------------------------------------------------------------------
def quantised(values, ranges, kind):
    """As sentence-transformers does it."""
    steps = (ranges[1] - ranges[0]) / 255
    codes = (values - ranges[0]) / steps
    return (codes if kind == np.uint8 else codes - 128).astype(kind)


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("kind", [np.uint8, np.int8])
def test_ranges_of_scalar_quantisation(run_cli, writer, kind):
    values = RNG.normal(size=(200, 6)).astype(np.float32)
    ranges = np.vstack([values.min(0), values.max(0)])
    np.save("ranges.npy", ranges)
    codes = quantised(values, ranges, kind)
    found = source(written(writer, codes), scale="ranges.npy").matrix()
    steps = (ranges[1] - ranges[0]) / 255
    assert (np.abs(found - values) <= steps * 1.01).all()
    assert not source(written(writer, codes), scale="ranges.npy").notices


def test_scales(run_cli):
    codes = RNG.integers(-128, 128, (9, 4)).astype(np.int8)
    np.save("e.npy", codes)
    np.testing.assert_allclose(source("e.npy", scale="0.25").matrix(), codes * 0.25)
    per = np.array([0.5, 1.0, 2.0, 4.0])
    np.save("s.npy", per)
    np.testing.assert_allclose(source("e.npy", scale="s.npy").matrix(), codes * per)


@pytest.mark.parametrize(
    ("scale", "says"),
    [
        (np.ones(5), r"s\.npy: has 5 columns, e\.npy has 4"),
        (np.ones((3, 4)), r"a scale must be floats, \(d,\) or \(2, d\), not float64 \(3, 4\)"),
        (np.ones(4, np.int8), "a scale must be floats"),
        (np.array([1, np.nan, 1, 1]), "a scale must be finite"),
        (np.array([1.0, 0.0, 1, 1]), "column 1 of the scale is 0"),
    ],
)
def test_scales_that_do_not_fit(run_cli, scale, says):
    np.save("e.npy", np.ones((3, 4), np.int8))
    np.save("s.npy", scale)
    with pytest.raises(DataError, match=says):
        source("e.npy", scale="s.npy").matrix()


def test_scales_of_the_wrong_thing(run_cli):
    np.save("e.npy", np.ones((3, 4), np.float32))
    with pytest.raises(DataError, match="--emb-scale scales integers, not float32"):
        source("e.npy", scale="2")
    for number in ("0", "nan", "inf"):
        with pytest.raises(UsageError, match="must be a number other than 0"):
            source("e.npy", scale=number)
    with pytest.raises(DataError, match="absent: no such file"):
        source("e.npy", scale="absent")
    with pytest.raises(UsageError, match="exclude each other"):
        Reading(True, "2")


# -- options --------------------------------------------------------------------------------------
def test_options_of_commands(data, select, run_cli):
    bits = RNG.random((40, 32)) > 0.5
    np.save("plain.npy", bits.astype(np.float32))
    np.save("packed.npy", np.packbits(bits, axis=1))
    scores = "--scores", "scores.npy", "--size", 9
    assert select("--emb", "plain.npy", *scores, "--out", "a.npy")[0] == 0
    code, _, err = select("--emb", "packed.npy", "--emb-bits", *scores, "--out", "b.npy")
    assert code == 0
    assert "read as numbers" not in err
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()
    sidecar = json.loads(Path("b.npy.json").read_text())
    assert sidecar["parameters"]["emb_bits"] is True
    assert sidecar["inputs"]["emb"]["bits"] is True
    assert "emb_scale" not in sidecar["parameters"]
    np.save("ranges.npy", np.array([[-1.0] * 4, [1.0] * 4]))
    for options in (["--emb-bits"], ["--emb-scale", "ranges.npy"]):
        done = run_cli("graph", "--emb", "packed.npy", *options, "--out", "g.arrow", "-k", 4)
        assert done[0] == 0, done
        done = select("--graph", "g.arrow", *scores)
        assert done[0] == 0
    code, out, _ = select(
        "--emb", "packed.npy", "--emb-bits", *scores, "--plan", "--pilot", "--json"
    )
    assert code == 0
    assert json.loads(out)["reads"][0]["width"] == 32
    code, _, err = select("--graph", "g.arrow", *scores, "--emb-bits")
    assert (code, "--emb is read; it is not given" in err) == (2, True)


def test_a_changed_scale_is_noticed(data, select, run_cli):
    np.save("e.npy", RNG.integers(-128, 128, (40, 4)).astype(np.int8))
    np.save("s.npy", np.array([0.5, 1.0, 2.0, 4.0]))
    assert (
        run_cli("graph", "--emb", "e.npy", "--emb-scale", "s.npy", "--out", "g.arrow", "-k", 4)[0]
        == 0
    )
    np.save("s.npy", np.array([0.5, 1.0, 2.0, 8.0]))
    code, _, err = select("--graph", "g.arrow", "--scores", "scores.npy", "--size", 9)
    assert (code, "s.npy, which has changed since" in err) == (1, True)


# -- bfloat16 -------------------------------------------------------------------------------------
@pytest.mark.parametrize("writer", ["npy", "fortran", "npz"])
def test_bfloat16_of_numpy(same, data, writer):
    values = data.emb.astype(ml_dtypes.bfloat16)
    rounded = values.astype(np.float32)
    path = written(writer, values)
    found = source(path)
    np.testing.assert_array_equal(found.matrix(), rounded)
    assert found.notices == [f"{found.parts[0].where}: values of two bytes without a type are read "
                             "as bfloat16"]  # fmt: skip


def test_bfloat16_scores_and_outputs(run_cli):
    values = RNG.normal(size=(3, 5, 2)).astype(ml_dtypes.bfloat16)
    np.save("z.npy", values)
    np.save("s.npy", values[0, :, 0])
    scores = open_source(["s.npy"], "scores", "scores").vector()
    np.testing.assert_array_equal(scores, values[0, :, 0].astype(np.float64))
    epochs = open_epochs(["z.npy"], "logits", None, None)
    blocks = [block for _, _, block, _, _ in epochs.blocks(epochs.frame(), range(3))]
    np.testing.assert_array_equal(np.stack(blocks), values.astype(np.float32))
    with pytest.raises(DataError, match="labels must be integers or text"):
        open_source(["s.npy"], "labels", "labels")


def test_bfloat16_needs_its_package(run_cli, monkeypatch):
    np.save("e.npy", np.ones((3, 4), ml_dtypes.bfloat16))

    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(extras.importlib, "import_module", absent)
    with pytest.raises(DataError, match=r"e\.npy: the package ml_dtypes") as error:
        source("e.npy")
    assert error.value.hint == "pip install 'd2prune[bfloat16]'"


@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_bits_equal_numpy(tmp_path_factory, n, width, seed):
    packed = np.random.default_rng(seed).integers(0, 256, (n, width)).astype(np.uint8)
    path = tmp_path_factory.mktemp("bits") / "e.npy"
    np.save(path, packed)
    np.testing.assert_array_equal(source(path, bits=True).matrix(), np.unpackbits(packed, axis=1))
