"""Selections read back: every form names the same rows, and those of other data are refused."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.commands.report.inputs import read_report_inputs
from d2cli.commands.requests import Input, ReportOptions, ReportRequest
from d2cli.errors import DataError
from d2cli.files.frame import Frame
from d2cli.files.selection_file import open_selection
from d2cli.files.sources import open_source

IDS = ["--emb", "emb.npy", "--scores", "with_ids.parquet", "--size", 16]


@pytest.fixture
def frame(data):
    """The 40 rows with ids that are DataComp uids."""
    rng = np.random.default_rng(0)
    data.uids = [rng.bytes(16).hex() for _ in range(40)]
    data.uids[5] = "F" * 32
    table = pa.table({"uid": data.uids, "el2n": data.scores})
    pq.write_table(table, "with_ids.parquet")
    return Frame.of(open_source(["with_ids.parquet"], "scores", "scores", None, None))


FORMS = [
    ("k.npy", []),
    ("k.npy", ["--as", "mask"]),
    ("k.npy", ["--as", "id"]),
    ("k.npy", ["--as", "datacomp-uid"]),
    ("k.npy", ["--order", "rank"]),
    ("k.txt", []),
    ("k.txt", ["--as", "mask"]),
    ("k.txt", ["--as", "id"]),
    ("k.csv", []),
    ("k.parquet", ["--order", "rank"]),
    ("k.arrow", []),
]


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize(("out", "options"), FORMS, ids=lambda v: " ".join(v) if v else "index")
def test_every_form_is_read_back(frame, select, out, options, complement):
    if complement and "--order" in options:
        pytest.skip("what is dropped has no rank")
    assert select(*IDS, "--order", "rank", "--out", "order.npy")[0] == 0
    order = np.load("order.npy")
    extra = ["--complement"] if complement else []
    assert select(*IDS, *options, *extra, "--out", out)[0] == 0
    found = open_selection(out).read(frame)
    assert found.rows.tolist() == sorted(order.tolist())
    assert found.dropped == complement
    assert found.recorded("counts", "kept") == 16
    assert found.recorded("counts", "kept", "deeper") is None
    ranked = not complement and ("--order" in options or out in ("k.csv", "k.parquet", "k.arrow"))
    assert (found.order is not None) == ranked
    if ranked:
        assert found.order.tolist() == order.tolist()
    if found.gains is not None:
        assert (np.diff(found.gains) <= 0).all()


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_tables_know_their_origin_without_the_file_beside(frame, select, ending):
    assert select(*IDS, "--complement", "--out", f"k.{ending}")[0] == 0
    Path(f"k.{ending}.json").unlink()
    assert open_selection(f"k.{ending}").read(frame).dropped


def test_what_has_no_provenance_is_taken_as_it_looks(frame):
    np.save("rows.npy", np.array([3, 1]))
    found = open_selection("rows.npy").read(frame)
    assert (found.rows.tolist(), found.order, found.provenance) == ([1, 3], None, {})
    Path("ids.txt").write_text("\n".join(IDS_OF(frame, [7, 2])) + "\n")
    assert open_selection("ids.txt").read(frame).rows.tolist() == [2, 7]
    np.save("mask.npy", np.arange(40) < 2)
    assert open_selection("mask.npy").read(frame).rows.tolist() == [0, 1]


def IDS_OF(frame, rows):  # noqa: N802
    return [frame.ids[row].as_py() for row in rows]


def write_table(columns):
    pq.write_table(pa.table(columns), "k.parquet")


BROKEN = [
    (lambda: np.save("k.npy", np.array([1, 40])), "k.npy", "40 is no row"),
    (lambda: np.save("k.npy", np.array([1, 1])), "k.npy", "row 1 stands twice"),
    (lambda: np.save("k.npy", np.ones(39, bool)), "k.npy", "the mask has 39 values"),
    (lambda: np.save("k.npy", np.zeros(40, bool)), "k.npy", "nothing is kept"),
    (lambda: np.save("k.npy", np.empty(0, np.int64)), "k.npy", "nothing is kept"),
    (lambda: np.save("k.npy", np.zeros(2, "u8,u8")), "k.npy", "has no such uid"),
    (lambda: write_table({"index": [1, 2], "rank": [0, 2]}), "k.parquet", "rank must count"),
    (lambda: write_table({"index": [1, 2], "rank": [0.0, 1.0]}), "k.parquet", "rank must count"),
]


@pytest.mark.parametrize(("make", "path", "said"), BROKEN)
def test_what_is_no_selection_is_refused(frame, make, path, said):
    make()
    with pytest.raises(DataError, match=said):
        open_selection(path).read(frame)


def test_uids_need_ids(frame, data):
    np.save("k.npy", np.zeros(2, "u8,u8"))
    without = Frame.of(open_source(["emb.npy"], "embeddings", "emb", None, None))
    with pytest.raises(DataError, match="no input has such ids"):
        open_selection("k.npy").read(without)


def test_other_outputs_and_damaged_provenance_are_refused(frame, select, run_cli):
    assert run_cli("graph", "--emb", "emb.npy", "--out", "g.arrow", "-q")[0] == 0
    with pytest.raises(DataError, match="is no selection: d2prune graph made it"):
        open_selection("g.arrow").read(frame)
    table = pa.table({"index": [1]}).replace_schema_metadata({b"d2prune": b"{}"})
    pq.write_table(table, "k.parquet")
    with pytest.raises(DataError, match="provenance is damaged"):
        open_selection("k.parquet").read(frame)
    assert select(*IDS, "--out", "k.npy")[0] == 0
    np.save("k.npy", np.load("k.npy")[::-1])
    with pytest.raises(DataError, match="has changed since"):
        open_selection("k.npy").read(frame)


# -- against the data of a report -----------------------------------------------------------------
def asked(selected, scores="scores.npy", emb="emb.npy", **options):
    return read_report_inputs(
        ReportRequest(Input([emb]), Input([scores]), selected, "r.html",
                      options=ReportOptions(**options))
    )  # fmt: skip


def test_a_selection_of_other_data_is_refused(data, select):
    rows = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 9]
    assert select(*rows)[0] == 0
    np.save("other.npy", data.emb + 1)
    with pytest.raises(DataError, match=r"was selected from other embeddings than other\.npy"):
        asked(["selected.npy"], emb="other.npy")
    np.save("fewer.npy", data.emb[:30])
    np.save("few.npy", data.scores[:30])
    with pytest.raises(DataError, match=r"was selected from 40 rows, and fewer\.npy has 30"):
        asked(["selected.npy"], emb="fewer.npy", scores="few.npy")
    np.save("double.npy", data.scores * 2)
    assert "by other scores than --scores" in asked(["selected.npy"], "double.npy").notices[0]


def test_a_selection_by_id_may_come_from_a_copy(frame, data, select):
    assert select(*IDS, "--out", "k.parquet")[0] == 0
    want = pq.read_table("k.parquet")["index"].to_pylist()
    turned = np.arange(40)[::-1].copy()
    np.save("turned.npy", data.emb[turned])
    pq.write_table(pq.read_table("with_ids.parquet").take(turned), "turned.parquet")
    found = asked(["k.parquet"], "turned.parquet", "turned.npy")
    assert sorted(39 - row for row in found.selections[0].rows.tolist()) == want
    assert "is joined to them by id" in found.notices[0]


def test_what_selections_disagree_on_must_be_said(data, select):
    rows = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 9]
    assert select(*rows, "--out", "a.npy")[0] == 0
    other = ["--metric", "cosine", "--higher-is", "easier", "--score-transform", "rank"]
    assert select(*rows, *other, "--out", "b.npy")[0] == 0
    for told, option in (({}, "--higher-is"), ({"higher_is": "easier"}, "--metric")):
        with pytest.raises(Exception, match="selections") as error:
            asked(["a.npy", "b.npy"], **told)
        assert option in error.value.hint
    found = asked(["?.npy"], higher_is="easier", metric="cosine")
    assert (found.metric, found.higher_is) == ("cosine", "easier")
    assert found.difficulty[np.argmin(data.scores)] == 1.0
    assert asked(["b.npy"]).metric == "cosine"
    assert json.loads(Path("b.npy.json").read_text())["graph"]["metric"] == "cosine"
