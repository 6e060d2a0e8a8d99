"""A graph as a folder of parts: the same content as one file, and refusals of other folders."""

import json
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.commands.budget import Arranged
from d2cli.errors import DataError, OutputError, UsageError
from d2cli.files.graph_file import open_graph, read_graph, write_graph
from d2cli.files.output import folder_swap as folders
from d2cli.files.output import temporary
from d2cli.files.output.atomic import Outputs, check_target
from d2cli.files.parts import part_kinds
from d2cli.files.parts.part_folders import files_of
from d2cli.files.parts.part_kinds import GRAPH
from d2cli.files.parts.records import PART_KEY
from d2cli.files.provenance.fingerprint import fingerprint
from d2cli.files.provenance.sidecar import read_sidecar
from d2cli.graph.knn_graph import BuildInfo, KnnGraph
from d2cli.graph.lists import RangedLists
from d2cli.runtime.ledger import Ledger
from tests.faults import killed_at
from tests.strategies import knn_graphs

EMB = ["graph", "--emb", "emb.npy", "-k", 3]
PASS = ["propagate", "--scores", "scores.npy", "--out", "p.npy"]
#: Parts of the 40 rows of `data`.
NAMES = [f"part-0000{number}.arrow" for number in range(3)]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(part_kinds, "PART_ROWS", 16)


@pytest.fixture
def graphs(data, run_cli):
    """``g.arrow`` and ``g.d2``, the same graph."""
    for out in ("g.arrow", "g.d2"):
        assert run_cli(*EMB, "--out", out)[0] == 0
    return run_cli


def content(folder="g.d2"):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def table(path):
    return pa.ipc.open_file(pa.BufferReader(Path(path).read_bytes())).read_all()


def rewrite(path, change, **options):
    """Replace the table of a part; `change` takes and returns a table."""
    changed = change(pa.table(table(path)))
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, changed.schema, **options) as writer,
    ):
        writer.write_table(changed, max_chunksize=7)


# -- content --------------------------------------------------------------------------------------
def test_parts_hold_consecutive_rows_and_the_metadata_of_the_file(graphs):
    whole, found = table("g.arrow"), [table(f"g.d2/{name}") for name in NAMES]
    assert sorted(os.listdir("g.d2")) == NAMES
    assert [one.num_rows for one in found] == [16, 16, 8]
    assert pa.concat_tables(found).equals(whole)
    for number, one in enumerate(found):
        assert one.schema.equals(whole.schema)
        assert one.schema.metadata[b"d2prune"] == whole.schema.metadata[b"d2prune"]
        record = json.loads(one.schema.metadata[PART_KEY])
        digest = record.pop("graph")
        assert len(digest) == 32
        assert record == {"part": number, "parts": 3, "first_row": 16 * number, "rows": 40}


def test_the_sidecar_describes_all_parts(graphs):
    entry = read_sidecar(Path("g.d2"))
    paths = [Path("g.d2", name) for name in NAMES]
    assert entry["output"]["size"] == sum(path.stat().st_size for path in paths)
    assert entry["output"]["fingerprint"] == fingerprint(paths)
    with open("g.d2/part-00001.arrow", "ab") as file:
        file.write(b"more")
    with pytest.raises(DataError, match="has changed since"):
        read_sidecar(Path("g.d2"))


@given(knn_graphs(), st.booleans(), st.booleans(), st.integers(1, 9))
def test_folder_and_file_have_equal_content(tmp_path_factory, lists, with_ids, some_excluded, rows):
    neighbors, distances = lists[:2]
    n, folder = len(neighbors), tmp_path_factory.mktemp("parts")
    alone = neighbors[:, 0] == -1 if some_excluded else None
    ids = pa.array([f"é{i}" for i in range(n)]) if with_ids else None
    info = BuildInfo("euclidean", "exact", 3, 0.5, 0.9, 7)
    graph = KnnGraph(neighbors.astype(np.int32), distances.astype(np.float32), alone, info)
    ranged = RangedLists(n, graph.n_neighbors, alone, graph.rows, info)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_kinds, "PART_ROWS", rows)
        patch.setattr("d2cli.graph.lists.RANGE_NUMBERS", 5)
        write_graph(folder / "g.arrow", graph, ids)
        write_graph(folder / "g.d2", graph, ids)
        write_graph(folder / "r.d2", ranged, ids)
        file, both = open_graph(folder / "g.arrow"), open_graph(folder / "g.d2")
        assert content(folder / "g.d2") == content(folder / "r.d2")
        assert len(both.paths) == -(-n // rows)
        assert (both.n, both.n_neighbors, both.info) == (file.n, file.n_neighbors, info)
        assert both.provenance == file.provenance
        one, other, third = file.load(), both.load(), both.ranged()
    assert (both.ids() is None) if ids is None else both.ids().equals(file.ids())
    assert (other.ids is None) if ids is None else other.ids.equals(one.ids)
    for start in range(0, n, 3):
        for lists_of in (other.graph, third):
            for left, right in zip(lists_of.rows(start, n), one.graph.rows(start, n), strict=True):
                np.testing.assert_array_equal(left, right)
    for excluded in (other.graph.excluded, third.excluded):
        assert (excluded is None) == (alone is None)
        assert alone is None or (excluded == alone).all()


def test_graphs_of_other_lists_have_other_digests(tmp_path, monkeypatch):
    """Also graphs of more rows than a digest covers."""
    monkeypatch.setattr("d2cli.files.graph_file._PIECE", 64)
    monkeypatch.setattr("d2cli.files.graph_file._PIECES", 3)
    seen = set()
    for number in range(3):
        neighbors = (np.arange(40)[:, None] + [[1, 2]]) % 40
        neighbors.sort(axis=1)
        distances = np.full((40, 2), 1 + number, np.float32)
        write_graph(tmp_path / "g.d2", KnnGraph(neighbors.astype(np.int32), distances))
        raw = table(tmp_path / "g.d2" / NAMES[0]).schema.metadata[PART_KEY]
        seen.add(json.loads(raw)["graph"])
    assert len(seen) == 3


def test_read_graph_takes_folders_globs_and_parts(graphs):
    whole = read_graph("g.arrow")
    for places in (
        ["g.d2"],
        ["g.d2/"],
        ["g.?2"],
        ["g.d2/*.arrow"],
        [f"g.d2/{name}" for name in NAMES],
    ):
        graph = read_graph(*places)
        np.testing.assert_array_equal(graph.neighbors, whole.neighbors)
        np.testing.assert_array_equal(graph.distances, whole.distances)


def test_parts_that_other_tools_rewrote_are_read(graphs):
    whole = read_graph("g.arrow")
    rewrite("g.d2/part-00001.arrow", lambda t: t)
    rewrite("g.d2/part-00002.arrow", lambda t: t, options=pa.ipc.IpcWriteOptions(compression="lz4"))
    assert open_graph("g.d2").ranged() is None
    np.testing.assert_array_equal(read_graph("g.d2").neighbors, whole.neighbors)


# -- commands -------------------------------------------------------------------------------------
def in_files(room, account, **_):
    """As for a graph that does not fit in memory."""
    ledger = Ledger()
    account(ledger, ledger, 1 << 20)
    return Arranged(ledger.estimate(), spare=1 << 20)


@pytest.mark.parametrize("in_ranges", [False, True])
def test_steps_on_a_folder_equal_those_on_the_file(graphs, monkeypatch, in_ranges):
    if in_ranges:
        monkeypatch.setattr("d2cli.commands.propagate.plan.arranged", in_files)
        monkeypatch.setattr("d2cli.commands.select.plan.arranged", in_files)
    values = {}
    ways = {
        "file": ["--graph", "g.arrow"], "folder": ["--graph", "g.d2/"],
        "glob": ["--graph", "g.d2/*.arrow"],
        "parts": [word for name in NAMES for word in ("--graph", f"g.d2/{name}")],
    }  # fmt: skip
    for way, graph in ways.items():
        code, _, err = graphs(*PASS, *graph)
        assert code == 0, err
        assert ("g.d2: 40 rows, k = 3, 3 parts" in err) == (way != "file")
        code, _, err = graphs("select", *graph, "--propagated", "p.npy", "--size", 9)
        assert code == 0, err
        values[way] = [np.load("p.npy").tolist(), np.load("selected.npy").tolist()]
    assert all(found == values["file"] for found in values.values())
    entry = read_sidecar(Path("p.npy"))["inputs"]["graph"]
    assert entry["path"] == [f"g.d2/{name}" for name in NAMES]
    assert entry["rows"] == 40


def test_scores_from_a_folder_equal_those_from_the_file(graphs):
    args = ["score", "--kind", "knn-distance,label-disagreement", "--labels", "labels.npy"]
    for graph, out in (("g.arrow", "a.csv"), ("g.d2", "b.csv")):
        assert graphs(*args, "--graph", graph, "--out", out)[0] == 0
    assert Path("a.csv").read_bytes() == Path("b.csv").read_bytes()


def test_ids_and_excluded_rows_lie_with_their_part(data, run_cli):
    pq.write_table(pa.table({"uid": data.ids, "emb": data.emb.tolist()}), "e.parquet")
    pq.write_table(pa.table({"uid": data.ids[::-1], "s": data.scores[::-1]}), "s.parquet")
    Path("x.txt").write_text(f"{data.ids[4]}\n{data.ids[39]}\n")
    args = ["graph", "--emb", "e.parquet", "--exclude", "x.txt", "-k", 3, "--out"]
    kept = []
    for out in ("g.arrow", "g.d2"):
        assert run_cli(*args, out)[0] == 0
        stored = open_graph(out).load()
        assert stored.ids.to_pylist() == data.ids
        assert np.flatnonzero(stored.graph.excluded).tolist() == [4, 39]
        assert run_cli("select", "--graph", out, "--scores", "s.parquet", "--size", 9)[0] == 0
        kept.append(np.load("selected.npy").tolist())
    assert kept[0] == kept[1]


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_three_shards_to_a_folder_to_a_selection(data, run_cli, kind):
    os.mkdir("shards")
    for number, rows in enumerate((slice(0, 7), slice(7, 30), slice(30, 40))):
        if kind == "npy":
            np.save(f"shards/emb_{number}.npy", data.emb[rows])
        else:
            columns = {"uid": data.ids[rows], "embedding": data.emb[rows].tolist()}
            pq.write_table(pa.table(columns), f"shards/emb_{number}.parquet")
    pq.write_table(pa.table({"uid": data.ids, "s": data.scores}), "s.parquet")
    scores = "scores.npy" if kind == "npy" else "s.parquet"
    kept = []
    assert run_cli(*EMB, "--out", "g.arrow")[0] == 0
    for way in (
        ["shards"],
        [f"shards/*.{kind}"],
        sorted(f"shards/{n}" for n in os.listdir("shards")),
    ):
        emb = [word for one in way for word in ("--emb", one)]
        assert run_cli("graph", *emb, "-k", 3, "--out", "g.d2")[0] == 0
        assert (read_graph("g.d2").neighbors == read_graph("g.arrow").neighbors).all()
        args = ["--graph", "g.d2", "--scores", scores, "--out", "p.npy"]
        assert run_cli("propagate", *args)[0] == 0
        args = ["--graph", "g.d2", *emb, "--propagated", "p.npy", "--size", 9]
        assert run_cli("select", *args)[0] == 0
        kept.append(np.load("selected.npy").tolist())
    args = ["--graph", "g.arrow", "--scores", "scores.npy", "--size", 9]
    assert run_cli("select", *args)[0] == 0
    assert all(one == np.load("selected.npy").tolist() for one in kept)


def test_plan_and_pilot_of_a_folder(graphs):
    code, out, _ = graphs(*EMB, "--out", "g.d2", "--plan", "--json")
    assert code == 0
    (written,) = json.loads(out)["disk"]["outputs"]
    size = sum(map(len, content().values()))
    assert written["path"] == "g.d2"
    assert size / 3 < written["bytes"] < 3 * size  # headers are most of it
    code, out, err = graphs(*PASS, "--graph", "g.d2", "--plan", "--pilot")
    assert code == 0, err
    assert "g.d2: 40 rows, k = 3, exact" in out
    assert "3 parts" in out
    assert graphs(*EMB, "--out", "g.d2", "--plan", "--pilot")[0] == 0
    code, out, _ = graphs(*EMB, "--out", "g.d2/", "--json")
    assert (code, json.loads(out)["outputs"]) == (0, ["g.d2"])


def test_the_same_command_gives_the_same_bytes(graphs):
    before = content()
    assert graphs(*EMB, "--out", "g.d2", "--threads", 1)[0] == 0
    assert content() == before


def test_scores_propagated_on_another_graph_are_refused(graphs):
    assert graphs(*PASS, "--graph", "g.d2")[0] == 0
    assert graphs("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.d2")[0] == 0
    code, _, err = graphs("select", "--graph", "g.d2", "--propagated", "p.npy", "--size", 3)
    assert code == 1
    assert "p.npy: was propagated on another graph than g.d2" in err


def test_changed_embeddings_are_refused(graphs, data):
    np.save("emb.npy", data.emb + 1)
    for graph in ("g.d2", "g.d2/*.arrow"):
        code, _, err = graphs(*PASS, "--graph", graph)
        assert code == 1
        assert err.startswith("error: g.d2: was built from emb.npy, which has changed since")
    args = ["select", "--emb", "emb.npy", "--scores", "scores.npy", "--size", 3, "--graph", "g.d2"]
    assert "g.d2: was not built from emb.npy" in graphs(*args)[2]


# -- malformed ------------------------------------------------------------------------------------
def cut(name, size):
    return lambda: os.truncate(name, size)


def other_k():
    write_graph("other.d2", KnnGraph(*(np.tile(a, (40, 1)) for a in LONELY)))
    os.replace("other.d2/part-00001.arrow", "g.d2/part-00001.arrow")


LONELY = np.full(2, -1, np.int32), np.full(2, np.inf, np.float32)


def other_graph():
    graph = read_graph("g.arrow")
    write_graph("other.d2", KnnGraph(graph.neighbors, graph.distances * 2))
    os.replace("other.d2/part-00001.arrow", "g.d2/part-00001.arrow")


def without_record(t):
    return t.replace_schema_metadata({b"d2prune": t.schema.metadata[b"d2prune"]})


def record(**changed):
    def change(t):
        entry = json.loads(t.schema.metadata[PART_KEY]) | changed
        return t.replace_schema_metadata(
            {**t.schema.metadata, PART_KEY: json.dumps(entry).encode()}
        )

    return lambda: rewrite("g.d2/part-00001.arrow", change)


P0, P1, P2 = (f"g.d2/{name}" for name in NAMES)
MALFORMED = {
    "cut off": (cut(P1, 900), f"{P1}: cannot be read"),
    "empty part": (cut(P1, 0), f"{P1}: the file is empty"),
    "missing": (lambda: os.unlink(P1), "g.d2: part-00001.arrow is missing: the graph has 3 parts"),
    "last missing": (lambda: os.unlink(P2), "g.d2: part-00002.arrow is missing"),
    "another k": (other_k, f"{P1}: is a part of another graph than {P0}"),
    "two graphs": (other_graph, f"{P1}: is a part of another graph than {P0}"),
    "twice": (lambda: shutil.copy(P0, P1), f"{P1}: is part 0, as {P0} is"),
    "exchanged": (lambda: folders._exchange(Path(P0), Path(P1)), f"{P0}: is part 1, where part 0"),
    "a whole graph": (lambda: shutil.copy("g.arrow", P1), f"{P1}: is no part of a graph"),
    "a whole graph first": (lambda: shutil.copy("g.arrow", "g.d2/a.arrow"), "g.d2/a.arrow: is no"),
    "fewer rows": (lambda: rewrite(P1, lambda t: t.slice(1)), f"{P1}: has 15 rows, and must"),
    "no record": (lambda: rewrite(P1, without_record), f"{P1}: is no part of a graph"),
    "columns": (lambda: rewrite(P1, lambda t: t.append_column("excluded", pa.array([False] * 16))),
                f"{P1}: has other columns, or another k, than {P0}"),
    "record damaged": (record(part="1"), f"{P1}: its 'd2prune.part' metadata is damaged"),
    "record beyond": (record(part=3), f"{P1}: its 'd2prune.part' metadata is damaged"),
    "record with more": (record(more=3), f"{P1}: its 'd2prune.part' metadata is damaged"),
    "other files": (lambda: np.save("g.d2/a.npy", np.ones(3)), "g.d2/a.npy: is not a graph"),
    "empty": (lambda: [os.unlink(one) for one in (P0, P1, P2)], "g.d2: the folder holds no data"),
    "a file": (lambda: (shutil.rmtree("g.d2"), Path("g.d2").touch()), "g.d2: the file is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_folders_are_refused(graphs, case):
    make, says = MALFORMED[case]
    make()
    for command in (PASS, ["select", "--scores", "scores.npy", "--size", 9]):
        code, out, err = graphs(*command, "--graph", "g.d2")
        assert (code, out) == (1, "")
        assert err.startswith(f"error: {says}")
        assert len(err.splitlines()) <= 2


def test_a_bad_row_is_named_as_in_its_part(graphs):
    lists = table(P1)["neighbors"].to_pylist()
    lists[5][1] = 40
    wrong = pa.array(lists, pa.list_(pa.int32(), 3))
    rewrite(P1, lambda t: t.set_column(0, "neighbors", wrong))
    says = f"error: {P1}: row 5: lists a neighbour that is no row of the graph\n"
    assert graphs(*PASS, "--graph", "g.d2")[2] == says
    ids = [str(i) for i in range(40)]
    write_graph("i.d2", read_graph("g.arrow"), pa.array([*ids[:20], "3", *ids[21:]]))
    err = graphs(*PASS, "--graph", "i.d2")[2]
    assert "i.d2/part-00000.arrow: id: row 3: the id '3' occurs 2 times" in err


def test_parts_given_by_name_must_be_all_and_in_order(graphs):
    for paths, says in (
        ([P1, P0, P2], f"{P1}: is part 1, where part 0 must come"),
        ([P0, P1], "g.d2: part-00002.arrow is missing"),
        ([P0, P0, P1, P2], f"{P0}: is given twice"),
        (["g.arrow", "g.arrow"], "g.arrow: is no part of a graph"),
    ):
        graph = [word for one in paths for word in ("--graph", one)]
        code, _, err = graphs(*PASS, *graph)
        assert code == 1
        assert err.startswith(f"error: {says}")


def test_other_files_that_are_no_data_do_not_matter(graphs):
    for name in ("README.md", "_SUCCESS", ".hidden.arrow"):
        Path("g.d2", name).write_text("x")
    assert graphs(*PASS, "--graph", "g.d2")[0] == 0


def test_parts_are_no_data_for_other_options(graphs):
    code, _, err = graphs("graph", "--emb", "g.d2", "--out", "h.d2")
    assert code == 1
    assert "g.d2: holds no data for --emb, only outputs of d2prune" in err


# -- neighbours as int64 --------------------------------------------------------------------------
def wide(t):
    """A table with neighbours as int64, as programs with more rows than int32 counts write them."""
    lists = t["neighbors"].combine_chunks()
    values = lists.flatten().cast(pa.int64())
    return t.set_column(
        t.schema.get_field_index("neighbors"), "neighbors",
        pa.FixedSizeListArray.from_arrays(values, lists.type.list_size),
    )  # fmt: skip


def as_one_batch(path, t):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, t.schema) as writer:
        writer.write_table(t.combine_chunks())


@pytest.mark.parametrize("parted", [False, True])
def test_neighbours_of_int64_are_read(graphs, monkeypatch, parted):
    monkeypatch.setattr("d2cli.files.parts.arrow_graph._CONVERTED", 10)
    whole, name = read_graph("g.d2"), "g.d2" if parted else "g.arrow"  # not mapped
    for path in files_of(Path(name)):
        as_one_batch(path, wide(pa.table(table(path))))
    graph, lists = read_graph(name), open_graph(name).ranged()
    for found in (graph.rows(0, 40), lists.rows(0, 40)):
        assert found[0].dtype == np.int32
        np.testing.assert_array_equal(found[0], whole.neighbors)
        np.testing.assert_array_equal(found[1], whole.distances)
    np.testing.assert_array_equal(lists.rows(15, 20)[0], whole.neighbors[15:20])
    assert graphs(*PASS, "--graph", name)[0] == 0


@pytest.mark.parametrize("value", [2**31 - 1, 2**32 + 5, -2, -(2**31) - 1])
def test_neighbours_beyond_int32_are_refused(graphs, monkeypatch, value):
    monkeypatch.setattr("d2cli.files.parts.arrow_graph._CONVERTED", 10)
    changed = wide(table("g.arrow"))
    values = changed["neighbors"].combine_chunks().flatten().to_numpy().copy()
    values[3 * 17 + 1] = value
    lists = pa.FixedSizeListArray.from_arrays(pa.array(values), 3)
    as_one_batch("g.arrow", changed.set_column(0, "neighbors", lists))
    says = f"g.arrow: row 17 lists {value}, which is no row of the graph"
    for read in (lambda: read_graph("g.arrow"), lambda: open_graph("g.arrow").ranged()):
        with pytest.raises(DataError, match=says):
            read()


def test_more_rows_than_int32_counts_are_refused(graphs, monkeypatch):
    monkeypatch.setattr("d2cli.files.graph_file.MAX_ROWS", 39)
    code, _, err = graphs(*PASS, "--graph", "g.d2")
    assert (code, err) == (1, "error: g.d2: 40 rows are more than 39\n")


# -- the folder appears whole or not at all ------------------------------------------------------
def graph_at_x():
    shutil.copytree("g.d2", "x.d2")


NO_GRAPHS = {
    "empty": (lambda: os.mkdir("x.d2"), "it is empty"),
    "notes": (lambda: (graph_at_x(), Path("x.d2/n.txt").touch()), "it holds n.txt"),
    "hidden": (lambda: (graph_at_x(), Path("x.d2/.n").touch()), "it holds .n"),
    "folder": (lambda: (graph_at_x(), os.mkdir("x.d2/n")), "it holds n"),
    "odd name": (lambda: (os.mkdir("x.d2"), shutil.copy(P0, "x.d2/part-000000.arrow")),
                 "it holds part-000000.arrow"),
    "link": (lambda: (os.mkdir("x.d2"), os.symlink(f"../{P0}", "x.d2/part-00000.arrow")),
             "it holds part-00000.arrow"),
    "other Arrow file": (lambda: (graph_at_x(), shutil.copy("g.arrow", "x.d2/part-00000.arrow")),
                         "part-00000.arrow is damaged, or no part of a graph"),
    "no Arrow file": (lambda: (graph_at_x(), shutil.copy("emb.npy", "x.d2/part-00000.arrow")),
                      "part-00000.arrow is damaged, or no part of a graph"),
    "a file": (lambda: Path("x.d2").touch(), "is a file"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_GRAPHS)
def test_folders_that_are_no_graph_are_never_replaced(graphs, case):
    make, says = NO_GRAPHS[case]
    make()
    before = sorted(map(str, Path().rglob("*")))
    code, _, err = graphs(*EMB, "--out", "x.d2")
    assert code == 1
    assert err.startswith("error: x.d2: is")
    assert says in err
    with pytest.raises(OutputError, match=r"x\.d2: is"):  # also without the check before the run
        write_graph("x.d2", read_graph("g.arrow"))
    assert sorted(map(str, Path().rglob("*"))) == before


def test_outputs_inside_graphs_and_graphs_over_inputs_are_refused(graphs):
    before = content()
    code, _, err = graphs(*PASS[:-1], "g.d2/p.npy", "--graph", "g.d2")
    assert code == 2
    assert err.startswith("error: g.d2/p.npy: lies inside the graph ")
    assert graphs(*EMB, "--out", "g.d2/g.d2")[0] == 2
    with pytest.raises(UsageError, match=r"g\.d2: the output would overwrite an input"):
        check_target("g.d2", [Path(P1)], GRAPH)
    for args in (["--out", "s3://x/g.d2"], ["--out", "g.d3"]):
        assert graphs(*EMB, *args)[0] == 2
    assert content() == before


def names():
    return {name for name in os.listdir() if name.startswith((".", "g.d2"))}


def test_an_old_folder_is_replaced_by_fewer_parts(graphs, exchanges, monkeypatch):
    monkeypatch.setattr(part_kinds, "PART_ROWS", 30)
    assert graphs(*EMB, "--out", "g.d2")[0] == 0
    assert sorted(content()) == NAMES[:2]
    assert names() == {"g.d2", "g.d2.json"}
    assert "previous" not in json.loads(Path("g.d2.json").read_text())


def test_a_failed_part_changes_nothing(graphs, exchanges, monkeypatch):
    before = content()
    real, made = pa.OSFile, []

    def third_fails(*args):
        made.append(args)
        if len(made) == 3:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(pa, "OSFile", third_fails)
    code, _, err = graphs("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.d2")
    assert (code, err) == (
        1,
        f"error: {Path.cwd()}/g.d2: cannot be written (No space left on device)\n",
    )
    assert content() == before
    assert names() == {"g.d2", "g.d2.json"}


@pytest.mark.parametrize("there", [True, False])
def test_a_failed_later_output_restores_the_folder(graphs, exchanges, monkeypatch, there):
    if not there:
        shutil.rmtree("g.d2")
    before, real = content() if there else None, os.replace

    def refused(source, final):
        if Path(final).name == "z":
            raise OSError(1, "Operation not permitted")
        real(source, final)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(OutputError, match="z: cannot be written"), Outputs() as outputs:
        place = outputs.place("g.d2", GRAPH)
        place.mkdir()
        shutil.copy("g.arrow", place / NAMES[0])
        outputs.place("z").write_text("z")
    assert os.path.exists("g.d2") == there
    assert not there or content() == before
    assert not {name for name in names() if name.startswith(".")}


def test_a_run_killed_at_any_rename_leaves_the_old_or_the_new_graph(graphs, exchanges):
    old, graph = content(), read_graph("g.arrow")
    new_graph = KnnGraph(graph.neighbors[:, :2].copy(), graph.distances[:, :2].copy())
    write_graph("n.d2", new_graph)
    new = content("n.d2")
    shutil.copytree("g.d2", "kept.d2")
    shutil.copy("g.d2.json", "kept.json")
    seen = []
    for number in range(1, 9):
        shutil.rmtree("g.d2", ignore_errors=True)
        shutil.copytree("kept.d2", "g.d2")
        shutil.copy("kept.json", "g.d2.json")
        write = partial(write_graph, "g.d2", new_graph)
        code = killed_at(number, exchanges, write)
        there = content() if os.path.exists("g.d2") else None
        seen.append("away" if there is None else "new" if there == new else "old")
        if there is None:  # nothing is lost: a command that reads the graph puts it back
            assert graphs(*PASS, "--graph", "g.d2")[0] == 0
            assert content() == old
        assert content() in (old, new)
        temporary.sweep(Path.cwd())
        assert names() == {"g.d2", "g.d2.json"}
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert code == 0
    assert seen == (["old", "new"] if exchanges else ["old", "away", "new"])


def test_a_folder_that_cannot_be_put_back_keeps_its_note(graphs, monkeypatch):
    """The second rename and the way back fail: the next run puts the old folder back."""
    monkeypatch.setattr(folders, "_exchange", lambda *_: False)
    before, real, made = content(), os.rename, []

    def refused(source, final):
        made.append(final)
        if len(made) > 1:
            raise OSError(5, "Input/output error")
        real(source, final)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refused)
        with pytest.raises(OutputError, match=r"g\.d2: cannot be written"):
            write_graph("g.d2", read_graph("g.arrow"))
    assert {Path(name).suffix for name in names()} == {".d2", ".note", ".json"}
    assert not os.path.exists("g.d2")
    assert open_graph("g.d2").n == 40
    assert content() == before
    assert names() == {"g.d2", "g.d2.json"}


def test_notes_that_lead_elsewhere_are_not_followed(graphs, tmp_path):
    run = f".d2prune-{temporary._host()}-0123456789ab"
    for number, text in enumerate(("half", "[]", '{"output": "../g.d2", "old": "x"}',
                                   '{"output": "no.d2", "old": "g.d2"}')):  # fmt: skip
        Path(f"{run}-{number}.note").write_text(text)
    before = content()
    temporary.sweep(tmp_path)
    assert content() == before
    assert names() == {"g.d2", "g.d2.json"}
    assert not os.path.exists("no.d2")


def test_sidecar_without_a_folder_is_removed(graphs):
    """A first run was killed between its two renames."""
    os.rename("g.d2", f".d2prune-{temporary._host()}-0123456789ab-1.tmp.d2")
    os.mkdir(f".d2prune-{temporary._host()}-0123456789ab-2.tmp.d2")
    temporary.sweep(Path.cwd())
    assert names() == set()


def test_systems_that_cannot_exchange_names_say_so(graphs, monkeypatch):
    with pytest.raises(OSError, match="No such file"):
        folders._exchange(Path("no"), Path("nothing"))
    monkeypatch.setattr("sys.platform", "darwin")
    assert not folders._exchange(Path("no"), Path("nothing"))
    monkeypatch.setattr("sys.platform", "linux")
    for number, found in ((22, False), (38, False)):
        library = type("Library", (), {"renameat2": staticmethod(lambda *_: -1)})
        monkeypatch.setattr(folders.ctypes, "CDLL", lambda *_, library=library, **__: library)
        monkeypatch.setattr(folders.ctypes, "get_errno", lambda number=number: number)
        assert folders._exchange(Path("no"), Path("nothing")) == found
    monkeypatch.setattr(folders.ctypes, "CDLL", lambda *_, **__: object())
    assert not folders._exchange(Path("no"), Path("nothing"))
