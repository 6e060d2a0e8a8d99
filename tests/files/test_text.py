"""Text: JSON Lines, gzip, UTF-16, decimal commas, lists in cells, columns of numbers."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import DataError
from d2cli.files.epochs import open_epochs
from d2cli.files.sources import open_source


def lines(rows, path):
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    Path(path).write_bytes(gzip.compress(text) if path.endswith(".gz") else text)
    return path


def rows_of(data):
    return [
        {"id": i, "embedding": e, "score": s, "label": y}
        for i, e, s, y in zip(
            data.ids, data.emb.tolist(), data.scores, data.labels.tolist(), strict=True
        )
    ]


def matrix(path, key=None):
    return open_source([str(path)], "embeddings", "emb", key).matrix()


# -- JSON Lines -----------------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["t.jsonl", "t.jsonl.gz", "t.txt"])
def test_json_lines(same, data, path):
    lines(rows_of(data), path)
    same(emb=path, scores=path)
    found = open_source([path], "labels", "labels").column().to_pylist()
    assert found == data.labels.tolist()


def test_json_lines_in_a_folder(same, data):
    Path("shards").mkdir()
    for i, name in enumerate(("2.jsonl.gz", "10.jsonl.gz")):
        lines(rows_of(data)[25 * i : 25 + 25 * i], f"shards/{name}")
    Path("shards/readme.md").write_text("what this is")
    same(emb="shards", scores="shards")


def test_whole_numbers_in_json_are_floats_under_a_usual_name(run_cli):
    lines(
        [{"vector": [1, 2], "input_ids": [7, 8]}, {"vector": [3, 4], "input_ids": [9, 9]}],
        "t.jsonl",
    )
    assert matrix("t.jsonl").tolist() == [[1, 2], [3, 4]]
    lines([{"tokens": [1, 2]}], "t.jsonl")
    with pytest.raises(DataError, match="could be embeddings"):
        matrix("t.jsonl")


def test_dates_stay_text(run_cli):
    lines([{"id": "2020-01-01", "score": 1}, {"id": "2020-01-02", "score": 2}], "t.jsonl")
    Path("t.csv").write_text("id,score\n2020-01-01,1\n2020-01-02,2\n")
    for path in ("t.jsonl", "t.csv"):
        ids = open_source([path], "scores", "scores").ids()
        assert ids.to_pylist() == ["2020-01-01", "2020-01-02"]


def test_long_rows_of_json(run_cli):
    lines([{"embedding": [0.123456789] * 200_000}] * 2, "t.jsonl")
    assert matrix("t.jsonl").shape == (2, 200_000)


def test_cartography_folder(run_cli):
    """allenai/cartography writes one file an epoch, each with the gold label."""
    rng = np.random.default_rng(3)
    logits, gold = rng.normal(size=(11, 30, 3)), rng.integers(0, 3, 30)
    Path("training_dynamics").mkdir()
    for e, values in enumerate(logits):
        rows = [
            {"guid": f"g{i}", f"logits_epoch_{e}": values[i].tolist(), "gold": int(gold[i])}
            for i in range(30)
        ]
        lines(rows, f"training_dynamics/dynamics_epoch_{e}.jsonl")
    np.save("z.npy", logits)
    np.save("y.npy", gold)
    labels = "training_dynamics/dynamics_epoch_0.jsonl"
    assert open_source([labels], "labels", "labels").column().to_pylist() == gold.tolist()
    for kind in ("el2n", "aum", "forgetting", "variability"):
        for z, y, out in (("training_dynamics", labels, "a.npy"), ("z.npy", "y.npy", "b.npy")):
            done = run_cli("score", "--kind", kind, "--logits", z, "--labels", y, "--out", out)
            assert done[0] == 0, done
        np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))
    assert open_epochs(["training_dynamics"], "logits", None, None, skim=True).count == 11


def test_whole_logits_are_floats(run_cli):
    lines([{"guid": "a", "logits_epoch_0": [1, 2], "gold": 0}], "t.jsonl")
    assert open_epochs(["t.jsonl"], "logits", None, None).classes == 2


# -- CSV ------------------------------------------------------------------------------------------
def csv_of(data, separator=",", number=str, cell=lambda row: f'"{row}"'):
    rows = [
        separator.join([i, cell(e), number(s)])
        for i, e, s in zip(data.ids, data.emb.tolist(), data.scores.tolist(), strict=True)
    ]
    return "\n".join([separator.join(["id", "embedding", "score"]), *rows]) + "\n"


def numpy_text(row):
    return '"' + np.array2string(np.array(row), max_line_width=20) + '"'


@pytest.mark.parametrize("cell", [lambda row: f'"{row}"', lambda row: f'" {row} "', numpy_text])
def test_lists_in_cells(same, data, cell):
    Path("t.csv").write_text(csv_of(data, cell=cell))
    same(emb="t.csv", scores="t.csv")
    layout = open_source(["t.csv"], "embeddings", "emb", skim=True).layout()
    assert (layout.rows, layout.width) == (40, 4)


@pytest.mark.parametrize(
    ("second", "says"),
    [
        ("[0.1 ... 0.3]", r"embedding: row 1: NumPy has shortened the list to '\.\.\.'"),
        ("[0.1, x, 2]", "embedding: row 1: 'x' is no number"),
        ("tensor([0.1])", "embedding: row 1 is no list in brackets"),
        ("[0.1]", "embedding: row 1 has 1 values, the rows before have 2"),
    ],
)
def test_cells_that_are_no_lists(run_cli, second, says):
    Path("t.csv").write_text(f'id,embedding\na,"[0.5, 2]"\nb,"{second}"\n')
    with pytest.raises(DataError, match=says):
        matrix("t.csv", "embedding")


def test_empty_cells_are_rows_of_nan(run_cli):
    Path("t.csv").write_text('id,embedding\na,"[0.5, nan]"\nb,\n')
    np.testing.assert_array_equal(matrix("t.csv"), [[0.5, np.nan], [np.nan, np.nan]])


@given(st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=5))
def test_lists_in_cells_keep_every_float(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("lists") / "t.csv"
    path.write_text("embedding\n" + "".join(f'"{row}"\n' for row in rows))
    np.testing.assert_array_equal(matrix(path), np.array(rows, np.float64))


@pytest.mark.parametrize("name", ["t.csv.gz", "t.gz"])
def test_gzipped_csv(same, data, name):
    Path(name).write_bytes(gzip.compress(csv_of(data).encode()))
    same(emb=name, scores=name)
    Path("s.txt.gz").write_bytes(gzip.compress("\n".join(map(str, data.scores)).encode()))
    same(scores="s.txt.gz")


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16(same, data, coding):
    mark = "" if coding == "utf-16" else "\ufeff"
    Path("t.csv").write_bytes((mark + csv_of(data)).encode(coding))
    same(emb="t.csv", scores="t.csv")
    tabs = mark + csv_of(data, "\t").replace("\n", "\r\n")  # as spreadsheets write it
    Path("t.txt").write_bytes(tabs.encode(coding))
    same(emb="t.txt", scores="t.txt")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_decimal_commas(same, data, separator):
    def number(value):
        return f"{value:.4f}".replace(".", ",")

    Path("s.csv").write_text(csv_of(data, separator, number))
    same(scores="s.csv")
    header = separator.join(f"emb_{i}" for i in range(4))
    rows = [separator.join(f"{v:.7g}".replace(".", ",") for v in row) for row in data.emb.tolist()]
    Path("e.csv").write_text("\n".join([header, *rows]))
    same(emb="e.csv")
    Path("e.csv").write_text("\n".join(rows))
    same(emb="e.csv")


def test_semicolons_with_decimal_points(same, data):
    Path("s.csv").write_text(csv_of(data, ";"))
    same(scores="s.csv", emb="s.csv")


def test_commas_that_may_separate_thousands_are_refused(run_cli):
    Path("s.csv").write_text("id;score\na;1,250\nb;2,500\n")
    with pytest.raises(DataError, match="score: scores must be numbers, not text"):
        open_source(["s.csv"], "scores", "scores", "score")


@pytest.mark.parametrize("header", ["", "made by savetxt\nof two lines"])
@pytest.mark.parametrize("form", ["%.18e", "%9.6f"])
def test_savetxt(same, data, header, form):
    np.savetxt("e.txt", data.emb, header=header, fmt=form)
    same(emb="e.txt")
    np.savetxt("s.txt", data.scores, header=header, fmt=form)
    same(scores="s.txt")
    np.savetxt("e.txt.gz", data.emb, header=header, fmt=form)
    same(emb="e.txt.gz")


def test_a_word_among_numbers_names_the_file(run_cli):
    Path("e.txt").write_text("1 2\n3 x\n")
    with pytest.raises(DataError, match=r"e\.txt: cannot be read \(could not convert string 'x'"):
        matrix("e.txt")


# -- plans ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.jsonl", "t.jsonl.gz", "t.u16", "t.txt"])
def test_skim_estimates_the_rows(tmp_path, name):
    rng, n = np.random.default_rng(0), 30_000
    values = rng.random((n, 4))
    if "jsonl" in name:
        text = "".join(json.dumps({"embedding": row}) + "\n" for row in values.tolist())
    elif name == "t.txt":
        text = "".join(" ".join(map(str, row)) + "\n" for row in values.tolist())
    else:
        text = "a,embedding\n" + "".join(f'x,"{row}"\n' for row in values.tolist())
    content = text.encode("utf-16" if name == "t.u16" else "utf-8")
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    layout = open_source([str(path)], "embeddings", "emb", skim=True).layout()
    assert not layout.exact
    assert layout.rows == pytest.approx(n, rel=0.05)
    assert layout.width == 4
    whole = open_source([str(path)], "embeddings", "emb")
    assert whole.layout().exact
    np.testing.assert_array_equal(whole.matrix(), values)
