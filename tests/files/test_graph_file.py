"""The graph on disk: the content of the file, and the round trip."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli import __version__
from d2cli.commands.graph.run import counts
from d2cli.errors import DataError, OutputError
from d2cli.files.graph_file import graph_section, open_graph, read_graph, write_graph
from d2cli.graph.knn_graph import BuildInfo, KnnGraph
from d2cli.graph.lists import RangedLists
from tests.strategies import knn_graphs


@pytest.fixture
def table(data, run_cli):
    """The graph of the small data, k = 3, as any Arrow tool sees it."""
    args = ["--emb", "emb.npy", "-k", 3, "--metric", "cosine", "--seed", 5, "--out", "g.arrow"]
    assert run_cli("graph", *args)[0] == 0
    with pa.memory_map("g.arrow") as source:
        return pa.ipc.open_file(source).read_all()


def test_columns_of_a_graph_file(table):
    assert table.schema.field("neighbors").type == pa.list_(pa.int32(), 3)
    assert table.schema.field("distances").type == pa.list_(pa.float32(), 3)
    assert table.column_names == ["neighbors", "distances"]
    assert table.num_rows == 40
    assert open_graph("g.arrow").ids() is None
    assert table.column("neighbors").num_chunks == 1


def test_metadata_of_a_graph_file(table):
    entry = json.loads(table.schema.metadata[b"d2prune"])
    assert entry["format_version"] == 1
    assert entry["program"] == "d2prune"
    assert entry["command"] == "graph"
    assert entry["versions"]["d2prune"] == __version__
    built = {"n_neighbors": 3, "metric": "cosine", "method": "exact", "seed": 5, "recall": None}
    assert entry["graph"].items() >= built.items()
    assert entry["parameters"].items() >= {"n_neighbors": 3, "method": "auto"}.items()
    assert entry["counts"] == {"rows": 40, "listed_neighbors": 120, "excluded": 0}
    assert entry["inputs"]["emb"]["path"] == "emb.npy"
    assert "run" not in entry  # the part that differs between runs is in the sidecar only


def test_distances_are_metric_and_ascending(table, data):
    graph = read_graph("g.arrow")
    unit = data.emb / np.linalg.norm(data.emb, axis=1, keepdims=True)
    for i in range(40):
        true = np.linalg.norm(unit - unit[i], axis=1)
        true[i] = np.inf
        nearest = np.argsort(true, kind="stable")[:3]
        np.testing.assert_allclose(graph.distances[i], true[nearest], rtol=1e-5)
        assert i not in graph.neighbors[i]


def test_read_graph_maps_the_file(table):
    before = pa.total_allocated_bytes()
    graph = read_graph("g.arrow")
    assert pa.total_allocated_bytes() == before
    assert not graph.neighbors.flags.owndata
    assert not graph.neighbors.flags.writeable


@pytest.mark.parametrize("k", [1, 3, 39, 50])
def test_missing_neighbours_are_minus_1_at_infinity(data, run_cli, k):
    assert run_cli("graph", "--emb", "emb.npy", "-k", k, "--out", "g.arrow")[0] == 0
    graph = read_graph("g.arrow")
    assert graph.neighbors.shape == (40, k)
    assert (graph.neighbors[:, 39:] == -1).all()
    assert np.isposinf(graph.distances[:, 39:]).all()
    assert np.isfinite(graph.distances[:, :39]).all()


def test_ids_and_excluded_rows(data, run_cli):
    pq.write_table(pa.table({"uid": data.ids, "emb": data.emb.tolist()}), "e.parquet")
    Path("x.txt").write_text(f"{data.ids[4]}\n{data.ids[9]}\n")
    args = ["--emb", "e.parquet", "--exclude", "x.txt", "--out", "g.arrow"]
    assert run_cli("graph", *args)[0] == 0
    stored = open_graph("g.arrow").load()
    assert stored.ids.to_pylist() == data.ids
    assert open_graph("g.arrow").ids().equals(stored.ids)
    assert np.flatnonzero(stored.graph.excluded).tolist() == [4, 9]
    assert not np.isin(stored.graph.neighbors, [4, 9]).any()
    assert open_graph("g.arrow").provenance["counts"]["excluded"] == 2


def test_within_lists_rows_of_the_same_label(data, run_cli):
    args = ["--emb", "emb.npy", "--within", "labels.npy", "-k", 3, "--out", "g.arrow"]
    assert run_cli("graph", *args)[0] == 0
    neighbors = read_graph("g.arrow").neighbors
    rows, places = np.nonzero(neighbors >= 0)
    assert (data.labels[neighbors[rows, places]] == data.labels[rows]).all()


def test_the_same_command_gives_the_same_bytes(table, run_cli):
    first = Path("g.arrow").read_bytes()
    args = ["--emb", "emb.npy", "-k", 3, "--metric", "cosine", "--seed", 5, "--out", "g.arrow"]
    assert run_cli("graph", *args, "--threads", 1)[0] == 0
    assert Path("g.arrow").read_bytes() == first


@given(knn_graphs(), st.booleans(), st.booleans())
def test_graph_round_trip(tmp_path_factory, lists, with_ids, with_excluded):
    neighbors, distances = lists[:2]
    n = len(neighbors)
    excluded = neighbors[:, 0] == -1 if with_excluded else None
    ids = pa.array([f"é{i}" for i in range(n)], pa.large_string()) if with_ids else None
    info = BuildInfo("euclidean", "exact", 3, 0.5, 0.9, 7)
    graph = KnnGraph(neighbors.astype(np.int32), distances.astype(np.float32), excluded, info)
    path = tmp_path_factory.mktemp("graph") / "g.arrow"
    write_graph(path, graph, ids)
    stored = open_graph(path).load()
    np.testing.assert_array_equal(stored.graph.neighbors, graph.neighbors)
    np.testing.assert_array_equal(stored.graph.distances, graph.distances)
    assert (stored.graph.excluded is None) == (excluded is None)
    if excluded is not None:
        np.testing.assert_array_equal(stored.graph.excluded, excluded)
    assert stored.graph.info == info
    assert (stored.ids is None) == (ids is None)
    if ids is not None:
        assert stored.ids.equals(ids)


def test_graph_files_rewritten_by_other_tools_are_read(table, data, run_cli, select):
    """A graph rewritten in several batches, compressed or with other string types is the same."""
    args = ["--scores", "scores.npy", "--size", 9]
    assert select("--graph", "g.arrow", *args)[0] == 0
    first = np.load("selected.npy").tolist()
    again = table.append_column("id", pa.array(data.ids, pa.string()))
    with pa.OSFile("again.arrow", "wb") as sink:
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(sink, again.schema, options=options) as writer:
            writer.write_table(again, max_chunksize=7)
    pq.write_table(pa.table({"id": data.ids[::-1], "s": data.scores[::-1]}), "s.parquet")
    assert select("--graph", "again.arrow", *args)[0] == 0
    assert np.load("selected.npy").tolist() == first
    args[1] = "s.parquet"
    assert select("--graph", "again.arrow", *args)[0] == 0
    assert np.load("selected.npy").tolist() == first
    pyarrow.feather.write_feather(table, "again.feather")
    assert select("--graph", "again.feather", *args)[0] == 0


def test_failed_write_keeps_the_old_graph(table, monkeypatch):
    old = Path("g.arrow").read_bytes()
    graph = read_graph("g.arrow")

    def fail(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("d2cli.files.graph_file.as_metadata", fail)
    with pytest.raises(OutputError, match=r"g\.arrow: cannot be written"):
        write_graph("g.arrow", graph)
    assert Path("g.arrow").read_bytes() == old
    assert sorted(p.name for p in Path().glob("*g.arrow*")) == ["g.arrow", "g.arrow.json"]


@given(knn_graphs(), st.booleans())
def test_ranges_of_a_file_equal_the_whole_graph(tmp_path_factory, graph, some_excluded):
    path = tmp_path_factory.mktemp("ranged") / "g.arrow"
    alone = graph[0][:, 0] < 0
    excluded = alone & ~np.isin(np.arange(len(alone)), graph[0]) if some_excluded else None
    write_graph(path, KnnGraph(*graph, excluded))
    lists = open_graph(path).ranged()
    assert (lists.n, lists.n_neighbors) == graph[0].shape
    assert lists.info == open_graph(path).info
    assert (lists.excluded is None) == (excluded is None)
    assert excluded is None or lists.excluded.tolist() == excluded.tolist()
    for start in range(0, lists.n, 5):
        stop = min(lists.n, start + 5)
        neighbors, distances = lists.rows(start, stop)
        assert neighbors.tobytes() == graph[0][start:stop].tobytes()
        assert distances.tobytes() == graph[1][start:stop].tobytes()


@given(knn_graphs(), st.booleans(), st.booleans(), st.integers(1, 40))
def test_lists_written_in_ranges_give_the_same_file(
    tmp_path_factory, lists, with_ids, with_excluded, numbers
):
    folder = tmp_path_factory.mktemp("stored")
    alone = lists[0][:, 0] < 0
    excluded = alone & ~np.isin(np.arange(len(alone)), lists[0]) if with_excluded else None
    info = BuildInfo("cosine", "blocks", 3, 0.5, 0.9, 7)
    graph = KnnGraph(*lists, excluded, info)
    ids = pa.array([f"é{i}" for i in range(graph.n)]) if with_ids else None
    ranged = RangedLists(graph.n, graph.n_neighbors, excluded, graph.rows, info)
    write_graph(folder / "whole", graph, ids, {"a": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("d2cli.graph.lists.RANGE_NUMBERS", numbers)
        write_graph(folder / "ranged", ranged, ids, {"a": 1})
        assert counts(ranged) == counts(graph)
    assert (folder / "ranged").read_bytes() == (folder / "whole").read_bytes()
    assert graph_section(ranged) == graph_section(graph)


#: Writes lists of 200 MB that are not in memory; prints by how much the peak memory has grown.
_STORING = """
import resource, sys
from pathlib import Path
import numpy as np
from d2cli.files.graph_file import store_graph
from d2cli.graph.lists import RangedLists
def rows(start, stop):
    return np.full((stop - start, 10), -1, np.int32), np.full((stop - start, 10), np.inf, "f4")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
store_graph(Path(sys.argv[1]), RangedLists(100, 10, None, rows), None, None)
before = peak()
store_graph(Path(sys.argv[1]), RangedLists(2_500_000, 10, None, rows), None, None)
print(peak() - before)
"""


def test_lists_written_in_ranges_take_no_memory(tmp_path):
    path = tmp_path / "g.arrow"
    command = [sys.executable, "-c", _STORING, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert path.stat().st_size > 200_000_000
    assert int(done.stdout) < 40_000_000
    path.unlink()


@st.composite
def damaged_lists(draw):
    """Lists of a graph with one number changed, perhaps to the same one; and excluded rows."""
    neighbors, distances = (part.copy() for part in draw(knn_graphs(8)))
    n, k = neighbors.shape
    at = draw(st.integers(0, n - 1)), draw(st.integers(0, k - 1))
    if draw(st.booleans()):
        neighbors[at] = draw(st.integers(-2, n))
    else:
        distances[at] = draw(st.sampled_from([-1.0, 0.0, 1.0, np.inf, np.nan]))
    return neighbors, distances, np.arange(n) == draw(st.integers(-1, n - 1))


def good_row(i, neighbors, distances, excluded):
    """Whether row i keeps the contract of a graph."""
    listed = [(d, j) for j, d in zip(neighbors[i].tolist(), distances[i].tolist(), strict=True)]
    missing = [one for one in listed if one == (np.inf, -1)]
    there = listed[: len(listed) - len(missing)]
    others = [j for _, j in there]
    return (
        listed == there + missing
        and all(0 <= d < np.inf for d, _ in there)
        and all(0 <= j < len(neighbors) and j != i and not excluded[j] for j in others)
        and there == sorted(there)
        and len(set(others)) == len(others)
        and not (others and excluded[i])
    )


@given(damaged_lists())
def test_the_first_bad_row_is_found(lists):
    bad = [i for i in range(len(lists[0])) if not good_row(i, *lists)]
    try:
        KnnGraph(*lists)
        found = []
    except DataError as error:
        found = [error.row]
    assert found == bad[:1]


@given(damaged_lists(), st.integers(1, 20))
def test_ranges_refuse_what_the_whole_graph_refuses(tmp_path_factory, lists, numbers):
    neighbors, distances, excluded = lists
    k, path = neighbors.shape[1], tmp_path_factory.mktemp("damaged") / "g.arrow"
    try:
        fault = None
        KnnGraph(neighbors, distances, excluded)
    except DataError as error:
        fault = error
    alone = KnnGraph(np.full((1, k), -1, np.int32), np.full((1, k), np.inf, np.float32))
    write_graph(path, alone)
    with pa.memory_map(str(path)) as source:
        schema = pa.ipc.open_file(source).schema
    schema = pa.schema([*schema, ("excluded", pa.bool_())], schema.metadata)
    columns = [pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), k) for part in lists[:2]]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([*columns, pa.array(excluded)], schema=schema))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("d2cli.graph.lists.RANGE_NUMBERS", numbers)
        if fault is None:
            assert open_graph(path).ranged() is not None
        else:
            with pytest.raises(DataError) as refused:
                open_graph(path).ranged()
            assert f"row {fault.row}: {fault}" in str(refused.value)


def test_compressed_files_and_files_of_several_batches_have_no_ranges(table):
    compressed = pa.ipc.IpcWriteOptions(compression="lz4")
    for name, batches, options in (
        ("whole", table.to_batches(), None),
        ("compressed", table.to_batches(), compressed),
        ("several", table.to_batches(max_chunksize=7), None),
    ):
        with (
            pa.OSFile(name, "wb") as sink,
            pa.ipc.new_file(sink, table.schema, options=options) as writer,
        ):
            for batch in batches:
                writer.write_batch(batch)
        assert (open_graph(name).ranged() is None) == (name != "whole")
