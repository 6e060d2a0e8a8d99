"""Reading selections: every format gives the same rows; selections of other data are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.commands.report.inputs import open_report_job, read_report_data
from d2cli.commands.requests import Input, ReportOptions, ReportRequest
from d2cli.errors import DataError, UsageError
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


@pytest.mark.parametrize(
    ("out", "options", "complement"),
    [(out, options, False) for out, options in FORMS]
    + [(out, options, True) for out, options in FORMS if "--order" not in options],
    ids=lambda v: " ".join(v) or "index" if isinstance(v, list) else str(v),
)
def test_every_format_is_read_back(frame, select, out, options, complement):
    assert select(*IDS, "--order", "rank", "--out", "order.npy")[0] == 0
    order = np.load("order.npy")
    extra = ["--complement"] if complement else []
    assert select(*IDS, *options, *extra, "--out", out)[0] == 0
    found = open_selection(out).read(frame)
    assert found.rows.tolist() == sorted(order.tolist())
    assert found.file.dropped == complement
    assert found.file.recorded("counts", "kept") == 16
    assert found.file.recorded("counts", "kept", "deeper") is None
    ranked = not complement and ("--order" in options or out in ("k.csv", "k.parquet", "k.arrow"))
    assert (found.order is not None) == ranked
    if ranked:
        assert found.order.tolist() == order.tolist()
    if found.gains is not None:
        assert (np.diff(found.gains) <= 0).all()


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_table_metadata_replaces_a_missing_sidecar(frame, select, ending):
    assert select(*IDS, "--complement", "--out", f"k.{ending}")[0] == 0
    Path(f"k.{ending}.json").unlink()
    assert open_selection(f"k.{ending}").read(frame).file.dropped


def test_without_provenance_the_type_decides(frame):
    np.save("rows.npy", np.array([3, 1]))
    found = open_selection("rows.npy").read(frame)
    assert (found.rows.tolist(), found.order, found.file.provenance) == ([1, 3], None, {})
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
    (lambda: np.save("k.npy", np.array([1, 1])), "k.npy", "row 1 is repeated"),
    (lambda: np.save("k.npy", np.ones(39, bool)), "k.npy", "the mask has 39 values"),
    (lambda: np.save("k.npy", np.zeros(40, bool)), "k.npy", "no row is kept"),
    (lambda: np.save("k.npy", np.empty(0, np.int64)), "k.npy", "no row is kept"),
    (lambda: np.save("k.npy", np.zeros(2, "u8,u8")), "k.npy", "has no such uid"),
    (lambda: write_table({"index": [1, 2], "rank": [0, 2]}), "k.parquet", "rank must count"),
    (lambda: write_table({"index": [1, 2], "rank": [0.0, 1.0]}), "k.parquet", "rank must count"),
]


@pytest.mark.parametrize(("make", "path", "said"), BROKEN)
def test_invalid_selections_are_refused(frame, make, path, said):
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
    with pytest.raises(DataError, match="metadata cannot be read"):
        open_selection("k.parquet").read(frame)
    assert select(*IDS, "--out", "k.npy")[0] == 0
    np.save("k.npy", np.load("k.npy")[::-1])
    with pytest.raises(DataError, match="has changed since"):
        open_selection("k.npy").read(frame)


# -- against the data of a report -----------------------------------------------------------------
def asked(selected, scores="scores.npy", emb="emb.npy", **options):
    """The data of a report on `selected`."""
    request = ReportRequest(
        emb=Input([emb]), scores=Input([scores]), selected=tuple(selected), out="r.html",
        options=ReportOptions(**options),
    )  # fmt: skip
    return read_report_data(open_report_job(request))


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


def test_selection_by_id_is_joined_to_reordered_data(frame, data, select):
    assert select(*IDS, "--out", "k.parquet")[0] == 0
    want = pq.read_table("k.parquet")["index"].to_pylist()
    turned = np.arange(40)[::-1].copy()
    np.save("turned.npy", data.emb[turned])
    pq.write_table(pq.read_table("with_ids.parquet").take(turned), "turned.parquet")
    found = asked(["k.parquet"], "turned.parquet", "turned.npy")
    assert sorted(39 - row for row in found.selections[0].rows.tolist()) == want
    assert "is joined to them by id" in found.notices[0]


def test_selections_of_different_settings_need_options(data, select):
    rows = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 9]
    assert select(*rows, "--out", "a.npy")[0] == 0
    other = ["--metric", "cosine", "--higher-is", "easier", "--score-transform", "rank"]
    assert select(*rows, *other, "--out", "b.npy")[0] == 0
    for told, option in (({}, "--metric"), ({"metric": "cosine"}, "--higher-is")):
        with pytest.raises(UsageError, match="selections") as error:
            asked(["a.npy", "b.npy"], **told)
        assert option in error.value.hint
    found = asked(["?.npy"], higher_is="easier", metric="cosine")
    assert (found.metric, found.higher_is) == ("cosine", "easier")
    assert found.difficulty[np.argmin(data.scores)] == 1.0
    assert asked(["b.npy"]).metric == "cosine"
    assert json.loads(Path("b.npy.json").read_text())["graph"]["metric"] == "cosine"


# -- damaged provenance ---------------------------------------------------------------------------
WRONG = [None, [], ["x"], {}, "x", 3, -1, True]
REPORT = ["report", "--emb", "emb.npy", "--scores", "scores.npy", "--map", "none", "-q"]


def places(value, path=()):
    """The path of every value inside nested dicts."""
    for name, inner in value.items():
        yield (*path, name)
        if isinstance(inner, dict):
            yield from places(inner, (*path, name))


def with_change(provenance, path, *value):
    """A copy with one value replaced, or removed if no value is given."""
    changed = json.loads(json.dumps(provenance))
    inside = changed
    for name in path[:-1]:
        inside = inside[name]
    if value:
        inside[path[-1]] = value[0]
    else:
        del inside[path[-1]]
    return changed


def test_any_damage_to_a_sidecar_is_refused_or_harmless(data, select, run_cli):
    """Every value of the provenance in turn is replaced by values of other types, or removed."""
    rows = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 9]
    assert select(*rows, "--order", "rank", "--out", "k.parquet", "-q")[0] == 0
    provenance = json.loads(Path("k.parquet.json").read_text())
    frame = Frame.of(open_source(["emb.npy"], "embeddings", "emb"))
    refused, accepted = 0, []
    for path in places(provenance):
        for value in [(), *((wrong,) for wrong in WRONG)]:
            changed = with_change(provenance, path, *value)
            Path("k.parquet.json").write_text(json.dumps(changed))
            try:
                found = open_selection("k.parquet").read(frame)
            except DataError as error:
                assert error.message.startswith("k.parquet: ")
                assert "\n" not in error.message
                refused += 1
            else:
                assert found.rows.size == (31 if found.file.dropped else 9)
                accepted.append(changed)
    assert refused > 100
    for first in range(0, 24, 8):  # a report takes at most 8 selections
        for i, changed in enumerate(accepted[first :: len(accepted) // 8][:8]):
            shutil.copy("k.parquet", f"k{i}.parquet")
            Path(f"k{i}.parquet.json").write_text(json.dumps(changed))
        options = ["--higher-is", "harder", "--metric", "euclidean", "--out", "r.html"]
        code, _, err = run_cli(*REPORT, "--selected", "k?.parquet", *options)
        assert "defect" not in err
        assert code == 0 or err.startswith("error: k"), err


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("parameters",), []),
        (("counts",), 3),
        (("counts", "rows"), "40"),
        (("counts", "kept"), [9]),
        (("parameters", "order"), ["rank"]),
        (("parameters", "higher_is"), ["harder"]),
        (("graph",), "x"),
        (("graph", "metric"), {}),
        (("messages",), [1]),
        (("inputs",), [1]),
        (("inputs", "emb", "path"), []),
        (("selection",), "x"),
        (("selection", "gamma_reverse"), "x"),
        (("selection", "messages_ran_out_at"), [1]),
    ],
)
@pytest.mark.parametrize("where", ["sidecar", "metadata"])
def test_report_names_the_damage_of_provenance(data, select, run_cli, where, path, value):
    rows = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 9]
    assert select(*rows, "--out", "k.parquet", "-q")[0] == 0
    if where == "sidecar":
        provenance = json.loads(Path("k.parquet.json").read_text())
        Path("k.parquet.json").write_text(json.dumps(with_change(provenance, path, value)))
    else:
        Path("k.parquet.json").unlink()
        table = pq.read_table("k.parquet")
        provenance = json.loads(table.schema.metadata[b"d2prune"])
        changed = json.dumps(with_change(provenance, path, value))
        pq.write_table(table.replace_schema_metadata({b"d2prune": changed}), "k.parquet")
    code, out, err = run_cli(*REPORT, "--selected", "k.parquet", "--out", "r.html")
    assert (code, out) == (1, "")
    assert err.startswith("error: k.parquet: ")
    assert "damaged" in err.splitlines()[0]
    assert any(name in err.splitlines()[0] for name in path)
    assert "defect" not in err
    assert not Path("r.html").exists()


def test_open_selection_reads_only_the_header(data, select):
    rows = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 9]
    assert select(*rows, "--complement", "--out", "k.csv", "-q")[0] == 0
    file = open_selection("k.csv", skim=True)
    assert (file.kept, file.dropped) == (9, True)
    assert (file.layout().rows, file.layout().option) == (31, "selected")
    np.save("mask.npy", np.arange(40) < 2)
    assert open_selection("mask.npy").kept is None
    np.save("rows.npy", np.arange(3))
    assert open_selection("rows.npy").kept == 3
