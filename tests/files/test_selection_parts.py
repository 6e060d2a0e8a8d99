"""A selection as a folder of parts: the same content as one file, and refusals of other folders."""

import json
import os
import shutil
import signal
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.cli.main import run
from d2cli.errors import DataError
from d2cli.files import sizes
from d2cli.files.frame import Frame
from d2cli.files.output import temporary
from d2cli.files.parts import part_kinds
from d2cli.files.parts.records import PART_KEY
from d2cli.files.provenance.fingerprint import fingerprint
from d2cli.files.provenance.sidecar import KEY, new_provenance, read_sidecar
from d2cli.files.selection_file import Kept, open_selection, store_selection
from d2cli.files.sources import open_source
from d2cli.runtime.ledger import Ledger
from tests.faults import killed_at

PICK = ["--emb", "emb.npy", "--scores", "with_ids.parquet", "--size", 18]
REPORT = ["report", "--emb", "emb.npy", "--scores", "with_ids.parquet", "--map", "none"]
REPORT += ["--out", "r.html"]
#: Parts of the 18 rows of a selection.
NAMES = [f"part-0000{number}.parquet" for number in range(3)]
P0, P1, P2 = (f"k.d2/{name}" for name in NAMES)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(part_kinds, "PART_ROWS", 8)


@pytest.fixture
def kept(data, select):
    """``k.parquet`` and ``k.d2``, the same selection of 18 of 40 rows."""
    pq.write_table(pa.table({"id": data.ids, "el2n": data.scores}), "with_ids.parquet")
    for out in ("k.parquet", "k.d2"):
        code, _, err = select(*PICK, "--out", out)
        assert code == 0, err
    return data


def content(folder="k.d2"):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def rewrite(path, change):
    """Replace the table of a part; `change` takes and returns a table."""
    pq.write_table(change(pq.read_table(path)), path)


# -- content --------------------------------------------------------------------------------------
def test_parts_hold_consecutive_rows_and_the_metadata_of_the_file(kept):
    whole, found = pq.read_table("k.parquet"), [pq.read_table(f"k.d2/{name}") for name in NAMES]
    assert sorted(os.listdir("k.d2")) == NAMES
    assert [one.num_rows for one in found] == [8, 8, 2]
    assert pa.concat_tables(found).equals(whole)
    assert whole.column_names == ["index", "rank", "id", "score", "propagated", "gain"]
    digests = set()
    for number, one in enumerate(found):
        assert one.schema.equals(whole.schema)
        assert one.schema.metadata[KEY] == whole.schema.metadata[KEY]
        record = json.loads(one.schema.metadata[PART_KEY])
        digests.add(record.pop("selection"))
        assert record == {"part": number, "parts": 3, "first_row": 8 * number, "rows": 18}
    assert len(digests) == 1
    assert len(digests.pop()) == 32


def test_the_sidecar_describes_all_parts(kept):
    entry = read_sidecar(Path("k.d2"))
    paths = [Path(P0), Path(P1), Path(P2)]
    assert entry["command"] == "select"
    assert entry["output"]["size"] == sum(path.stat().st_size for path in paths)
    assert entry["output"]["fingerprint"] == fingerprint(paths)
    names = {name for name in os.listdir() if name.startswith((".", "k.d2"))}
    assert names == {"k.d2", "k.d2.json"}


@given(st.integers(0, 20), st.integers(1, 9), st.booleans(), st.booleans(), st.randoms())
def test_folder_and_file_have_equal_content(tmp_path_factory, size, rows, ids, dropped, draw):
    """For every size below, at and above the limits of parts, in any order of rows."""
    n, folder = 24, tmp_path_factory.mktemp("parts")
    index = np.array(draw.sample(range(n), size), np.int64)
    score = pa.array(index / 8, mask=index % 3 == 0)
    columns = {"rank": pa.array(np.arange(size)), "score": score}
    names = pa.array([f"é{i}" for i in range(n)], pa.large_string())
    selection = Kept(index, n, names if ids else None, columns)
    parameters = {"complement": dropped, "order": "rank", "as": "index"}
    counts = {"rows": n, "kept": n - size if dropped else size}
    provenance = new_provenance("select", parameters, inputs={}, counts=counts)
    np.save(folder / "emb.npy", np.eye(n))
    frame = Frame.of(open_source([str(folder / "emb.npy")], "embeddings", "emb"))
    if ids:
        frame = Frame(n, "names", names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_kinds, "PART_ROWS", rows)
        for out in ("k.parquet", "k.d2", "again.d2"):
            store_selection(folder / out, Path(out).suffix, selection, "index", provenance)
        assert content(folder / "k.d2") == content(folder / "again.d2")
        assert len(content(folder / "k.d2")) == max(1, -(-size // rows))
        tables = [pq.read_table(path) for path in sorted((folder / "k.d2").iterdir())]
        assert max(table.num_rows for table in tables) <= rows
        assert pa.concat_tables(tables).equals(pq.read_table(folder / "k.parquet"))
        one, other = open_selection(folder / "k.parquet"), open_selection(folder / "k.d2")
    assert other.name == str(folder / "k.d2")
    assert (other.n, other.kept, other.dropped) == (one.n, one.kept, one.dropped)
    assert other.provenance == one.provenance
    assert other.layout().rows == size
    if size == (n if dropped else 0):
        for file in (one, other):
            with pytest.raises(DataError, match="no row is kept"):
                file.read(frame)
        return
    left, right = one.read(frame), other.read(frame)
    assert right.rows.tolist() == left.rows.tolist()
    assert right.by_id == left.by_id == (ids and size > 0)
    assert (right.order is None) == (left.order is None) == dropped
    assert dropped or right.order.tolist() == index.tolist()


def test_selections_of_other_rows_have_other_digests(kept, select):
    seen = set()
    for size in (17, 18):
        assert select(*PICK[:-1], size, "--out", "k.d2")[0] == 0
        seen.add(json.loads(pq.read_schema(P0).metadata[PART_KEY])["selection"])
    provenance = new_provenance("select", {})
    for rows in ([1, 2], [2, 1]):
        shutil.rmtree("k.d2")
        selection = Kept(np.array(rows), 40, None, {})
        store_selection(Path("k.d2"), ".d2", selection, "index", provenance)
        seen.add(json.loads(pq.read_schema(P0).metadata[PART_KEY])["selection"])
    assert len(seen) == 4


def test_other_programs_read_the_folder_as_one_table(kept):
    whole = pq.read_table("k.parquet")
    assert pa.dataset.dataset("k.d2").to_table().equals(whole)
    assert pq.read_table("k.d2").equals(whole)


# -- select ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "options",
    [
        ["--order", "rank"],
        ["--complement"],
        ["--balance", "uniform", "--labels", "labels.npy"],
        ["--id-column", "none"],
        ["--engine", "local", "--threads", 2],
    ],
    ids=lambda options: options[0],
)
def test_options_give_the_rows_of_the_one_file(kept, select, options):
    for out in ("k.parquet", "k.d2"):
        assert select(*PICK, *options, "--out", out)[0] == 0
    assert pq.read_table("k.d2").equals(pq.read_table("k.parquet"))
    for one in content():
        assert pq.read_schema(f"k.d2/{one}").metadata[KEY] == pq.read_schema("k.parquet").metadata[
            KEY
        ]  # fmt: skip


def test_an_empty_selection_is_one_part_without_rows(kept, select):
    assert select(*PICK[:-2], "--ratio", 1, "--complement", "--out", "k.d2")[0] == 0
    assert list(content()) == NAMES[:1]
    assert pq.read_table(P0).num_rows == 0
    assert select(*PICK, "--exclude", "k.d2", "--out", "all.npy")[0] == 0
    assert open_selection("k.d2").dropped
    code, _, err = select(*PICK, "--include", "k.d2")
    assert code == 0, err


def test_budgets_in_the_name(kept, select):
    ratios = ["--ratio", "0.2", "--ratio", "0.4", "--out", "r_{ratio}.d2/"]
    code, out, err = select(*PICK[:-2], *ratios, "--json")
    assert code == 0, err
    assert json.loads(out)["outputs"] == ["r_0.2.d2", "r_0.4.d2"]
    assert [pq.read_table(f"r_{ratio}.d2").num_rows for ratio in ("0.2", "0.4")] == [8, 16]
    assert select(*PICK, "--out", "s_{size}.d2")[0] == 0
    assert len(content("s_18.d2")) == 3
    np.save("cost.npy", np.ones(40))
    cost = ["--cost", "cost.npy", "--cost-budget", 9, "--out", "c_{cost}.d2"]
    assert select(*PICK[:-2], *cost)[0] == 0
    assert pq.read_table("c_9.d2").num_rows == 9
    assert select(*PICK, "--size", 4, "--out", "k.d2")[2].startswith("error: several budgets")
    for name in ("r_0.2.d2", "s_18.d2", "c_9.d2"):
        assert read_sidecar(Path(name))["command"] == "select"


def test_the_ending_in_capitals_is_a_folder_too(kept, select):
    assert select(*PICK, "--out", "K.D2")[0] == 0
    assert pq.read_table("K.D2").equals(pq.read_table("k.parquet"))
    assert select(*PICK, "--out", "K.D2")[0] == 0


@pytest.mark.parametrize("form", ["id", "mask"])
def test_as_is_refused(kept, select, form):
    before = content()
    code, _, err = select(*PICK, "--as", form, "--out", "k.d2")
    assert (code, err) == (2, "error: k.d2: --as is for .npy and text; tables have all columns\n")
    assert content() == before


def test_the_same_command_gives_the_same_bytes(kept, select):
    before = content()
    assert select(*PICK, "--out", "k.d2", "--threads", 2)[0] == 0
    assert content() == before


def test_plan_states_the_bytes_of_all_parts(kept, select):
    code, out, err = select(*PICK, "--out", "k.d2", "--plan", "--json")
    assert code == 0, err
    (written,) = json.loads(out)["disk"]["outputs"]
    size = sum(map(len, content().values()))
    assert written["path"] == "k.d2"
    assert size / 4 < written["bytes"] < 4 * size  # headers are most of it
    assert select(*PICK, "--out", "k.d2", "--plan", "--pilot")[0] == 0
    assert sorted(content()) == NAMES


def test_memory_of_writing_has_the_ids_of_one_part():
    ids = sizes.Ids(10**6, 92.0, True)
    peaks = {}
    for ending in (".parquet", ".d2"):
        ledger = Ledger()
        sizes.write(ledger, ending, 10**6, 5, ids)
        peaks[ending] = ledger.estimate().peak
    assert peaks[".parquet"] - peaks[".d2"] == 100 * (10**6 - 8)


def test_tables_hold_the_rows_of_one_part_at_a_time(kept, select, monkeypatch):
    written = []

    def note(table, path, ending):
        assert ending == ".parquet"
        written.append((table.num_rows, Path(path).name))

    monkeypatch.setattr("d2cli.files.selection_file.write_table", note)
    provenance = new_provenance("select", {})
    ids = pa.array(kept.ids, pa.large_string())
    selection = Kept(np.arange(18), 40, ids, {})
    store_selection(Path("n.d2"), ".d2", selection, "index", provenance)
    assert written == [(8, NAMES[0]), (8, NAMES[1]), (2, NAMES[2])]


# -- reading --------------------------------------------------------------------------------------
WAYS = [["k.d2"], ["k.d2/"], ["k.d2/*.parquet"], ["k.*2"]]


def numbers(run_cli, *selected):
    """The selections in the JSON of a report, without their paths."""
    args = [word for one in selected for word in ("--selected", one)]
    code, out, err = run_cli(*REPORT, *args, "--json", "-q")
    assert code == 0, err
    found = json.loads(out)["report"]["selections"]
    return [one.pop("path") for one in found], found


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
def test_report_reads_a_folder_as_one_selection(kept, run_cli, way):
    (path,), found = numbers(run_cli, *way)
    assert path == "k.d2"
    assert found == numbers(run_cli, "k.parquet")[1]
    described = read_sidecar(Path("r.html"))["inputs"]["selected"]
    assert described[0]["path"] == "k.parquet"


def test_report_of_several_folders_and_files(kept, run_cli, select):
    assert select(*PICK[:-1], 9, "--out", "l.d2")[0] == 0
    paths, found = numbers(run_cli, "?.d2", "k.parquet")
    assert paths == ["k.d2", "l.d2", "k.parquet"]
    assert found[0] == found[2]
    assert numbers(run_cli, "k.d2", "?.d2")[0] == ["k.d2", "k.d2", "l.d2"]
    paths, again = numbers(run_cli, "?.d2/*")
    assert (paths, again) == (["k.d2", "l.d2"], found[:2])
    described = read_sidecar(Path("r.html"))["inputs"]["selected"]
    assert [one["rows"] for one in described] == [18, 9]
    assert described[0]["path"] == [P0, P1, P2]
    page = Path("r.html").read_text()
    assert "A: k.d2" in page
    assert "B: l.d2" in page


def test_report_plan_counts_the_rows_of_all_parts(kept, run_cli):
    plans = []
    for name in ("k.d2", "k.parquet"):
        code, out, err = run_cli(*REPORT, "--selected", name, "--plan", "--json")
        assert code == 0, err
        plans.append(json.loads(out)["memory"]["peak_bytes"])
    assert plans[0] == plans[1]
    assert run_cli(*REPORT, "--selected", "k.d2", "--plan", "--pilot")[0] == 0


@pytest.mark.parametrize("option", ["--include", "--exclude"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way[0])
def test_rows_of_a_folder_equal_those_of_the_file(kept, select, option, way):
    rows = ["--emb", "emb.npy", "--scores", "with_ids.parquet", "--size", 20]
    for names, out in ((["k.parquet"], "a.npy"), (way, "b.npy")):
        code, _, err = select(*rows, option, names[0], "--out", out)
        assert code == 0, err
    assert np.load("a.npy").tolist() == np.load("b.npy").tolist()
    assert "18 rows" in err
    entry = read_sidecar(Path("b.npy"))["inputs"][option[2:]]
    assert [one["path"] for one in entry] == [[P0, P1, P2]]


def test_rows_are_joined_by_the_ids_of_the_parts(kept, data, select):
    turned = np.arange(40)[::-1].copy()
    np.save("turned.npy", data.emb[turned])
    pq.write_table(pq.read_table("with_ids.parquet").take(turned), "turned.parquet")
    args = ["--emb", "turned.npy", "--scores", "turned.parquet", "--include", "k.d2"]
    assert select(*args, "--size", 18, "--out", "t.npy")[0] == 0
    assert sorted(39 - np.load("t.npy")) == pq.read_table("k.d2")["index"].to_pylist()


@pytest.mark.parametrize("way", ["k.d2", "k.d2/*.parquet"])
def test_columns_are_read_by_name(kept, data, select, way):
    rows = pq.read_table("k.parquet")["index"].to_numpy()
    some = {"id": np.array(data.ids)[rows], "emb": data.emb[rows].tolist()}
    pq.write_table(pa.table(some), "some.parquet")
    for scores, out in (("k.parquet", "a.npy"), (way, "b.npy")):
        args = ["--emb", "some.parquet", "--scores", scores, "--scores-key", "propagated"]
        code, _, err = select(*args, "--size", 6, "--out", out)
        assert code == 0, err
    assert np.load("a.npy").tolist() == np.load("b.npy").tolist()


def test_parts_beside_data_are_left_out(kept, data, select):
    np.save("whole.npy", data.emb)
    os.makedirs("set/data")
    os.rename("whole.npy", "set/data/emb.npy")
    shutil.copytree("k.d2", "set/k.d2")
    shutil.copytree("k.d2", "set/data/k.d2")
    for emb in ("set", "set/data", "set/**/emb*"):
        code, _, err = select("--emb", emb, *PICK[2:], "--out", "x.npy")
        assert code == 0, err
        assert np.load("x.npy").tolist() == pq.read_table("k.parquet")["index"].to_pylist()
    shutil.rmtree("set/data")
    assert select("--emb", "set", *PICK[2:])[2].startswith("error: set: the folder holds no data")
    shutil.copy("with_ids.parquet", "set/all.parquet")
    code, _, err = select("--emb", "emb.npy", "--scores", "set/**/*.parquet", "--size", 18)
    assert code == 0, err
    assert "set/**/*.parquet: outputs of d2prune are not read as data" in err


def test_a_remote_folder_is_one_selection(kept, select, run_cli, tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    folder = tmp_path.parent / f"{tmp_path.name}-temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name in NAMES:
        memory.pipe(f"/b/k.d2/{name}", Path("k.d2", name).read_bytes())
    rows = ["--emb", "emb.npy", "--scores", "with_ids.parquet", "--size", 20]
    for include, out in (("k.parquet", "a.npy"), ("memory://b/k.d2", "b.npy")):
        code, _, err = select(*rows, "--include", include, "--out", out)
        assert code == 0, err
    assert np.load("a.npy").tolist() == np.load("b.npy").tolist()
    (path,), found = numbers(run_cli, "memory://b/k.d2")
    assert path == "memory://b/k.d2"
    assert found == numbers(run_cli, "k.parquet")[1]
    memory.rm(f"/b/k.d2/{NAMES[1]}")
    code, _, err = select(*rows, "--include", "memory://b/k.d2")
    assert code == 1
    assert err.startswith("error: memory://b/k.d2: part-00001.parquet is missing")
    memory.store.clear()


# -- malformed ------------------------------------------------------------------------------------
def record(**changed):
    def change(table):
        entry = json.loads(table.schema.metadata[PART_KEY]) | changed
        metadata = {**table.schema.metadata, PART_KEY: json.dumps(entry).encode()}
        return table.replace_schema_metadata(metadata)

    return lambda: rewrite(P1, change)


def other_selection():
    run(["select", *map(str, PICK[:-1]), "17", "--out", "o.d2", "-q"])
    os.replace("o.d2/part-00001.parquet", P1)


def without_record(table):
    return table.replace_schema_metadata({KEY: table.schema.metadata[KEY]})


def swap(one, other):
    os.rename(one, "swapped")
    os.rename(other, one)
    os.rename("swapped", other)


def damage():
    """Zeros in place of the pages of all columns: the header stays as it was."""
    data, group = bytearray(Path(P1).read_bytes()), pq.ParquetFile(P1).metadata.row_group(0)
    for column in map(group.column, range(group.num_columns)):
        start = column.dictionary_page_offset or column.data_page_offset
        data[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    Path(P1).write_bytes(data)


MALFORMED = {
    "cut off": (lambda: os.truncate(P1, 900), f"{P1}: cannot be read"),
    "empty part": (lambda: os.truncate(P1, 0), f"{P1}: the file is empty"),
    "missing": (lambda: os.unlink(P1), "k.d2: part-00001.parquet is missing: the selection has 3"),
    "first missing": (lambda: os.unlink(P0), "k.d2: part-00000.parquet is missing"),
    "last missing": (lambda: os.unlink(P2), "k.d2: part-00002.parquet is missing"),
    "two selections": (other_selection, f"{P1}: is a part of another selection than {P0}"),
    "twice": (lambda: shutil.copy(P0, P1), f"{P1}: is part 0, as {P0} is"),
    "exchanged": (lambda: swap(P0, P1), f"{P0}: is part 1, where part 0"),
    "a file": (lambda: shutil.copy("k.parquet", P1), f"{P1}: is no part of a selection"),
    "a file first": (lambda: shutil.copy("k.parquet", "k.d2/a.parquet"), "k.d2/a.parquet: is no p"),
    "another format": (lambda: np.save("k.d2/rows.npy", [1]), "k.d2/rows.npy: is no part of a s"),
    "text": (lambda: Path(P1).write_text("1\n2\n"), f"{P1}: is no part of a selection"),
    "fewer rows": (lambda: rewrite(P1, lambda t: t.slice(1)), f"{P1}: has 7 rows, and must have 8"),
    "no record": (lambda: rewrite(P1, without_record), f"{P1}: is no part of a selection"),
    "columns": (lambda: rewrite(P1, lambda t: t.drop_columns("gain")),
                f"{P1}: has other columns than {P0}"),
    "record damaged": (record(part="1"), f"{P1}: its 'd2prune.part' metadata is damaged"),
    "record of both": (record(graph="x"), f"{P1}: its 'd2prune.part' metadata is damaged"),
    "record beyond": (record(first_row=18), f"{P1}: its 'd2prune.part' metadata is damaged"),
    "a graph's": (lambda: shutil.copy("g.d2/part-00000.arrow", "k.d2/part-00001.arrow"),
                  "k.d2/part-00001.arrow: is a part of a graph, not of a selection"),
    "no files": (lambda: [*map(os.unlink, (P0, P1, P2))], "k.d2: the folder holds no data files"),
    "a folder": (lambda: (shutil.rmtree("k.d2"), Path("k.d2").touch()), "k.d2: the file is empty"),
}  # fmt: skip


@pytest.fixture
def graph(kept, run_cli):
    """``g.d2``, a graph of the rows in parts."""
    assert run_cli("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.d2")[0] == 0


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_folders_are_refused(graph, select, run_cli, case):
    make, says = MALFORMED[case]
    make()
    for command in (
        partial(run_cli, *REPORT, "--selected", "k.d2"),
        partial(select, *PICK, "--include", "k.d2"),
        partial(select, *PICK, "--exclude", "k.d2"),
    ):
        code, out, err = command()
        assert (code, out) == (1, "")
        assert err.startswith(f"error: {says}"), err
        assert len(err.splitlines()) <= 2


def test_damaged_pages_name_the_part_or_the_folder(kept, select, run_cli):
    damage()
    code, _, err = select(*PICK, "--include", "k.d2")
    assert code == 1
    assert err.startswith(f"error: {P1}"), err
    assert len(err.splitlines()) <= 2
    code, _, err = run_cli(*REPORT, "--selected", "k.d2")
    assert code == 1
    assert "k.d2.json describes: it has changed since" in err
    Path("k.d2.json").unlink()
    code, _, err = run_cli(*REPORT, "--selected", "k.d2")
    assert code == 1
    assert err.startswith(f"error: {P1}"), err


def test_a_folder_of_another_name_is_checked_too(kept, select, run_cli):
    os.rename("k.d2", "kept")
    assert numbers(run_cli, "kept")[0] == ["kept"]
    os.unlink("kept/part-00001.parquet")
    for args in (("--selected", "kept"), ("--selected", "kept/part-00000.parquet")):
        code, _, err = run_cli(*REPORT, *args)
        assert code == 1
        assert err.startswith("error: kept: part-00001.parquet is missing"), err
    assert "kept: part-00001.parquet is missing" in select(*PICK, "--include", "kept")[2]


def test_parts_given_alone_are_incomplete(kept, select, run_cli):
    for command in (
        partial(run_cli, *REPORT, "--selected", P1),
        partial(select, *PICK, "--include", P1),
        partial(select, *PICK, "--include", "k.d2/part-0000[02].parquet"),
    ):
        code, _, err = command()
        assert code == 1
        assert err.startswith("error: k.d2: part-0000"), err
        assert "is missing: the selection has 3 parts" in err
    assert open_selection(P0, P1, P2).n == 18
    with pytest.raises(DataError, match="is given twice"):
        open_selection(P0, P0, P1, P2)
    with pytest.raises(DataError, match="where part 0 must come"):
        open_selection(P1, P0, P2)


def test_files_that_are_no_data_do_not_matter(kept, select):
    for name in ("README.md", "_SUCCESS", ".hidden.parquet"):
        Path("k.d2", name).write_text("x")
    assert select(*PICK, "--include", "k.d2")[0] == 0


def test_graphs_and_selections_are_told_apart(graph, select, run_cli):
    for command in (
        partial(select, "--graph", "k.d2", *PICK[2:]),
        partial(run_cli, "score", "--kind", "knn-distance", "--graph", "k.d2", "--out", "s.npy"),
    ):
        code, _, err = command()
        assert code == 1
        assert err.startswith(f"error: {P0}: is a part of a selection, not of a graph\nhint: make")
    for command in (
        partial(select, *PICK, "--include", "g.d2"),
        partial(select, *PICK, "--exclude", "g.d2/*.arrow"),
        partial(run_cli, *REPORT, "--selected", "g.d2"),
    ):
        code, _, err = command()
        assert code == 1
        says = "g.d2/part-00000.arrow: is a part of a graph, not of a selection"
        assert err == f"error: {says}\n"


# -- the folder appears whole or not at all -------------------------------------------------------
def at_x():
    shutil.copytree("k.d2", "x.d2")


KEPT_FOLDERS = {
    "empty": (lambda: os.mkdir("x.d2"), "it is empty"),
    "notes": (lambda: (at_x(), Path("x.d2/n.txt").touch()), "it holds n.txt"),
    "link": (lambda: (os.mkdir("x.d2"), os.symlink(f"../{P0}", "x.d2/part-00000.parquet")),
             "it holds part-00000.parquet"),
    "one file": (lambda: (at_x(), shutil.copy("k.parquet", "x.d2/part-00000.parquet")),
                 "part-00000.parquet is damaged, or no part of a selection"),
    "damaged": (lambda: (at_x(), os.truncate("x.d2/part-00001.parquet", 0)),
                "part-00001.parquet is damaged, or no part of a selection"),
    "graph": (lambda: shutil.copytree("g.d2", "x.d2"), "part-00000.arrow is a part of a graph"),
    "both": (lambda: (at_x(), shutil.copy("g.d2/part-00000.arrow", "x.d2")),
             "part-00000.arrow is a part of a graph"),
    "a file": (lambda: Path("x.d2").touch(), "is a file, and a selection that ends in .d2 is a"),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT_FOLDERS)
def test_folders_that_are_no_selection_are_never_replaced(graph, select, case):
    make, says = KEPT_FOLDERS[case]
    make()
    before = sorted(map(str, Path().rglob("*")))
    code, _, err = select(*PICK, "--out", "x.d2")
    assert code == 1
    assert err.startswith("error: x.d2: is")
    assert says in err
    assert sorted(map(str, Path().rglob("*"))) == before


def test_a_selection_is_not_replaced_by_a_graph(graph, run_cli):
    before = content()
    code, _, err = run_cli("graph", "--emb", "emb.npy", "--out", "k.d2")
    assert code == 1
    says = "is not only a graph: part-00000.parquet is a part of a selection"
    assert err.startswith(f"error: k.d2: is not replaced, because it {says}\nhint: ")
    assert content() == before


def test_outputs_inside_selections_and_over_inputs_are_refused(graph, select):
    before = content()
    for out, says in (
        ("k.d2/x.npy", "k.d2/x.npy: lies inside the selection "),
        ("k.d2/k.d2", "k.d2/k.d2: lies inside the selection "),
        ("g.d2/k.d2", "g.d2/k.d2: lies inside the graph "),
        ("s3://x/k.d2", "s3://x/k.d2: outputs are written to this machine only"),
    ):
        code, _, err = select(*PICK, "--out", out)
        assert code == 2
        assert err.startswith(f"error: {says}"), err
    code, _, err = select(*PICK, "--include", "k.d2", "--out", "k.d2")
    assert (code, err) == (2, "error: k.d2: the output would overwrite an input that it holds\n")
    code, _, err = select(*PICK, "--out", "k.d2.json")
    assert code == 2
    assert content() == before


def names():
    return {name for name in os.listdir() if name.startswith((".", "k.d2"))}


def test_an_old_folder_is_replaced_by_fewer_parts(kept, exchanges, select):
    assert select(*PICK[:-1], 9, "--out", "k.d2")[0] == 0
    assert sorted(content()) == NAMES[:2]
    assert names() == {"k.d2", "k.d2.json"}
    assert "previous" not in json.loads(Path("k.d2.json").read_text())


def test_a_failed_part_changes_nothing(kept, exchanges, select, monkeypatch):
    before, real, made = content(), pq.write_table, []

    def third_fails(*args, **options):
        made.append(args)
        if len(made) == 3:
            raise OSError(28, "No space left on device")
        return real(*args, **options)

    monkeypatch.setattr(pa.parquet, "write_table", third_fails)
    code, _, err = select(*PICK, "--order", "rank", "--out", "k.d2")
    assert code == 1
    assert err == f"error: {Path.cwd()}/k.d2: cannot be written (No space left on device)\n"
    assert content() == before
    assert names() == {"k.d2", "k.d2.json"}


def test_a_run_killed_at_any_rename_leaves_the_old_or_the_new_selection(kept, exchanges, select):
    old, command = content(), ["select", *map(str, PICK), "--order", "rank", "-k", "4", "-q"]
    assert run([*command, "--out", "n.d2"]) == 0
    new = content("n.d2")
    assert new != old
    shutil.copytree("k.d2", "kept.d2")
    shutil.copy("k.d2.json", "kept.sidecar")
    seen = []
    for number in range(1, 9):
        shutil.rmtree("k.d2", ignore_errors=True)
        shutil.copytree("kept.d2", "k.d2")
        shutil.copy("kept.sidecar", "k.d2.json")
        code = killed_at(number, exchanges, lambda: run([*command, "--out", "k.d2"]))
        there = content() if os.path.exists("k.d2") else None
        seen.append("away" if there is None else "new" if there == new else "old")
        if there is None:  # nothing is lost: a command that reads the selection puts it back
            code_of_reader, _, err = select(*PICK, "--include", "k.d2", "--out", "x.npy")
            assert code_of_reader == 0, err
            assert content() == old
        assert content() in (old, new)
        assert read_sidecar(Path("k.d2"))["output"]["size"] == sum(map(len, content().values()))
        temporary.sweep(Path.cwd())
        assert names() == {"k.d2", "k.d2.json"}
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert code == 0
    assert list(dict.fromkeys(seen)) == (["old", "new"] if exchanges else ["old", "away", "new"])


# -- beside other files ----------------------------------------------------------------------------
@pytest.mark.parametrize("argument", ["lists/*", "lists"])
def test_folders_and_globs_take_files_and_folders_of_parts(kept, select, argument):
    """Both lists are left out; the sidecar of the folder is no list."""
    os.mkdir("lists")
    for name, size in (("a.parquet", 3), ("b.d2", 18)):
        assert select(*PICK[:4], "--size", size, "--out", f"lists/{name}")[0] == 0
    listed = set(pq.read_table("lists/a.parquet")["index"].to_pylist())
    listed |= set(pyarrow.dataset.dataset("lists/b.d2").to_table()["index"].to_pylist())
    code, _, err = select(*PICK[:4], "--size", 5, "--exclude", argument, "--out", "rest.npy")
    assert code == 0, err
    assert not listed & set(np.load("rest.npy").tolist())
    shutil.rmtree("lists/b.d2")
    shutil.copytree("k.d2", "lists/b.d2")
    os.unlink("lists/b.d2.json")
    os.unlink(f"lists/b.d2/{NAMES[1]}")
    code, _, err = select(*PICK[:4], "--size", 5, "--exclude", argument, "--out", "rest.npy")
    assert code == 1
    assert err.startswith(f"error: lists/b.d2: {NAMES[1]} is missing")


@pytest.mark.parametrize("argument", ["sets/*", "sets"])
def test_other_options_leave_folders_of_parts_out(kept, select, argument):
    os.mkdir("sets")
    shutil.move("emb.npy", "sets/emb.npy")
    shutil.move("k.d2", "sets/k.d2")
    shutil.move("k.d2.json", "sets/k.d2.json")
    line = ["--emb", argument, "--scores", "with_ids.parquet", "--size", 5, "--out", "five.npy"]
    code, _, err = select(*line, "--id-column", "none")
    assert code == 0, err
    assert "outputs of d2prune are not read as data: k.d2" in err


def test_parts_that_are_read_by_column_must_be_complete(kept, select):
    """Exchanged parts would give each row the score of another."""
    line = ["--emb", "emb.npy", "--scores", "all.d2", "--scores-key", "score", "--size", 5]
    assert select(*PICK[:4], "--ratio", 1, "--cutoff", 0, "--out", "all.d2")[0] == 0
    assert select(*line, "--out", "by_parts.npy")[0] == 0
    swap("all.d2/part-00000.parquet", "all.d2/part-00003.parquet")
    code, _, err = select(*line, "--out", "x.npy")
    assert code == 1
    assert err.startswith("error: all.d2/part-00000.parquet: is part 3, where part 0 must come")


@pytest.mark.parametrize("name", ["all.parquet", "all.d2"])
def test_rows_in_the_order_of_picks_are_not_joined_row_by_row(data, select, name):
    np.save("s.npy", data.scores)
    line = ["--emb", "emb.npy", "--scores", "s.npy", "--ratio", 1, "--cutoff", 0]
    assert select(*line, "--order", "rank", "--out", name)[0] == 0
    code, _, err = select(*PICK[:2], "--scores", name, "--scores-key", "score", "--size", 5)
    assert code == 1, err
    assert "index" in err
