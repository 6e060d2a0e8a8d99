"""Every format of a selection lists the same rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.files.selection_file import Kept, store_selection

ARGS = ["--emb", "emb.npy", "--scores", "with_ids.parquet", "--size", 16]


@pytest.fixture
def chosen(data, select):
    """The selected row numbers, in row order and in the order of the picks."""
    table = pa.table({"id": data.ids, "el2n": data.scores})
    pq.write_table(table, "with_ids.parquet")
    assert select(*ARGS)[0] == 0
    assert select(*ARGS, "--order", "rank", "--out", "order.npy")[0] == 0
    rows, order = np.load("selected.npy"), np.load("order.npy")
    assert sorted(order.tolist()) == rows.tolist() != order.tolist()
    return rows, order


def read_arrow(path):
    with pa.memory_map(path) as source:
        return pa.ipc.open_file(source).read_all()


READ = {".parquet": pq.read_table, ".arrow": read_arrow, ".csv": pyarrow.csv.read_csv}


# -- arrays and text ------------------------------------------------------------------------------
def test_npy_is_int64(chosen):
    rows, order = chosen
    for values in (rows, order):
        assert values.dtype == np.int64
        assert values.flags.c_contiguous
    assert Path("selected.npy").read_bytes()[:8] == b"\x93NUMPY\x01\x00"


@pytest.mark.parametrize("by", ["index", "rank"])
def test_text_lists_one_row_a_line(chosen, select, by):
    rows = chosen[by == "rank"]
    assert select(*ARGS, "--order", by, "--out", "k.txt")[0] == 0
    assert Path("k.txt").read_bytes() == "".join(f"{row}\n" for row in rows).encode()
    code, out, _ = select(*ARGS, "--order", by, "--out", "-")
    assert code == 0
    assert out == Path("k.txt").read_text()


@pytest.mark.parametrize("by", ["index", "rank"])
def test_ids_in_npy_and_text(chosen, data, select, by):
    ids = [data.ids[row] for row in chosen[by == "rank"]]
    assert select(*ARGS, "--order", by, "--as", "id", "--out", "k.npy")[0] == 0
    assert np.load("k.npy").tolist() == ids
    assert select(*ARGS, "--order", by, "--as", "id", "--out", "k.txt")[0] == 0
    assert Path("k.txt").read_text().splitlines() == ids
    assert select(*ARGS, "--order", by, "--as", "id", "--out", "-")[1].splitlines() == ids


def test_integer_ids_are_int64(chosen, data, select):
    pq.write_table(pa.table({"id": np.arange(40) * 3, "el2n": data.scores}), "with_ids.parquet")
    assert select(*ARGS, "--as", "id", "--out", "k.npy")[0] == 0
    ids = np.load("k.npy")
    assert ids.dtype == np.int64
    assert (ids == 3 * chosen[0]).all()


def test_mask_in_npy_and_text(chosen, select):
    rows, _ = chosen
    assert select(*ARGS, "--as", "mask", "--out", "k.npy")[0] == 0
    mask = np.load("k.npy")
    assert mask.dtype == np.bool_
    assert mask.shape == (40,)
    assert np.flatnonzero(mask).tolist() == rows.tolist()
    assert select(*ARGS, "--as", "mask", "--out", "k.txt")[0] == 0
    assert np.loadtxt("k.txt", int).tolist() == mask.astype(int).tolist()


def test_datacomp_uids_equal_those_of_datacomp(chosen, data, select):
    rows, _ = chosen
    rng = np.random.default_rng(0)
    uids = [rng.bytes(16).hex() for _ in range(40)]
    uids[rows[0]] = uids[rows[0]].upper()
    uids[rows[1]] = "f" * 32  # above int64
    pq.write_table(pa.table({"uid": uids, "el2n": data.scores}), "with_ids.parquet")
    assert select(*ARGS, "--as", "datacomp-uid", "--out", "k.npy")[0] == 0
    kept = np.load("k.npy")
    # As DataComp's own baselines write it.
    theirs = [(int(uids[r][:16], 16), int(uids[r][16:32], 16)) for r in rows]
    theirs = np.unique(np.array(theirs, np.dtype("u8,u8")))
    assert kept.dtype == np.dtype("u8,u8")
    assert kept.tobytes() == theirs.tobytes()
    assert kept.tolist() == sorted(set(kept.tolist()))


# -- tables ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("by", ["index", "rank"])
@pytest.mark.parametrize("ending", READ)
def test_columns_of_tables_agree(chosen, data, select, ending, by):
    rows, order = chosen
    assert select(*ARGS, "--order", by, "--out", f"k{ending}")[0] == 0
    table = READ[ending](f"k{ending}")
    assert table.column_names == ["index", "rank", "id", "score", "propagated", "gain"]
    index = table["index"].to_numpy()
    assert index.tolist() == (rows if by == "index" else order).tolist()
    assert order[table["rank"].to_numpy()].tolist() == index.tolist()
    assert table["id"].to_pylist() == [data.ids[i] for i in index]
    assert table["score"].to_pylist() == data.scores[index].tolist()
    propagated, gain = table["propagated"].to_numpy(), table["gain"].to_numpy()
    assert (propagated >= table["score"].to_numpy()).all()
    assert (gain <= propagated).all()
    assert (np.diff(gain[np.argsort(table["rank"].to_numpy())]) <= 0).all()


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_schema_of_tables(chosen, select, ending):
    assert select(*ARGS, "--out", f"k{ending}")[0] == 0
    schema = READ[ending](f"k{ending}").schema
    assert {f.name: str(f.type) for f in schema} == {
        "index": "int64",
        "rank": "int64",
        "id": "large_string",
        "score": "double",
        "propagated": "double",
        "gain": "double",
    }


def test_score_column_is_not_transformed(chosen, data, select):
    flags = ["--higher-is", "easier", "--score-transform", "rank", "--out", "k.parquet"]
    assert select(*ARGS, *flags)[0] == 0
    table = pq.read_table("k.parquet")
    assert table["score"].to_pylist() == data.scores[table["index"].to_numpy()].tolist()


def test_tables_without_ids_and_scores_lack_their_columns(chosen, run_cli, select):
    assert run_cli("graph", "--emb", "emb.npy", "--out", "g.arrow")[0] == 0
    args = ["--graph", "g.arrow", "--scores", "scores.npy"]
    assert run_cli("propagate", *args, "--out", "p.npy")[0] == 0
    args = ["--graph", "g.arrow", "--propagated", "p.npy", "--size", 4, "--out", "k.parquet"]
    assert select(*args)[0] == 0
    assert pq.read_table("k.parquet").column_names == ["index", "rank", "propagated", "gain"]
    assert select(*args, "--scores", "scores.npy")[0] == 0
    assert "score" in pq.read_table("k.parquet").column_names


# -- complement -----------------------------------------------------------------------------------
def test_complement_in_every_format(chosen, data, select):
    rest = sorted(set(range(40)) - set(chosen[0].tolist()))
    drop = [*ARGS, "--complement"]
    assert select(*drop, "--out", "k.npy")[0] == 0
    assert np.load("k.npy").tolist() == rest
    assert select(*drop, "--out", "-")[1].split() == [str(row) for row in rest]
    assert select(*drop, "--as", "id", "--out", "k.txt")[0] == 0
    assert Path("k.txt").read_text().split() == [data.ids[row] for row in rest]
    assert select(*drop, "--as", "mask", "--out", "k.npy")[0] == 0
    assert np.flatnonzero(np.load("k.npy")).tolist() == rest
    assert select(*drop, "--out", "k.parquet")[0] == 0
    table = pq.read_table("k.parquet")
    assert table.column_names == ["index", "id", "score", "propagated"]
    assert table["index"].to_pylist() == rest


@pytest.mark.parametrize("form", ["index", "id", "mask"])
def test_complement_of_all_rows_is_empty(chosen, select, form):
    everything = [*ARGS[:-2], "--ratio", 1, "--complement", "--as", form]
    count = 40 if form == "mask" else 0
    assert select(*everything, "--out", "k.npy")[0] == 0
    assert np.load("k.npy").size == count
    assert select(*everything, "--out", "k.txt")[0] == 0
    assert len(Path("k.txt").read_text().split()) == count


@pytest.mark.parametrize("ending", READ)
def test_complement_table_of_all_rows_is_empty(chosen, select, ending):
    everything = [*ARGS[:-2], "--ratio", 1, "--complement", "--out", f"k{ending}"]
    assert select(*everything)[0] == 0
    assert READ[ending](f"k{ending}").num_rows == 0


def test_complement_contains_cut_and_excluded_rows(chosen, data, select):
    Path("x.txt").write_text("1\n2\n")
    out = ["--cutoff", 0.1, "--exclude", "x.txt", "--complement", "--out", "k.npy"]
    assert select(*ARGS, *out)[0] == 0
    dropped = np.load("k.npy")
    assert dropped.size == 24
    rest = np.setdiff1d(np.arange(40), [1, 2])
    hardest = rest[np.argsort(-data.scores[rest])][:4]
    assert {1, 2, *hardest.tolist()} <= set(dropped.tolist())


# -- several budgets ------------------------------------------------------------------------------
def test_ratio_in_the_name_is_as_written(chosen, select):
    ratios = ["--ratio", "0.10", "--ratio", "1e-1", "--ratio", ".5", "--out", "k_{ratio}.npy"]
    assert select(*ARGS[:-2], *ratios)[0] == 0
    sizes = {p.name: np.load(p).size for p in Path().glob("k_*.npy")}
    assert sizes == {"k_0.10.npy": 4, "k_1e-1.npy": 4, "k_.5.npy": 20}


def test_size_in_the_name_is_the_number_of_rows(chosen, select):
    budgets = ["--size", "7", "--ratio", "0.5", "--out", "k_{size}.txt"]
    assert select(*ARGS[:-2], *budgets)[0] == 0
    assert {p.name for p in Path().glob("k_*.txt")} == {"k_7.txt", "k_20.txt"}
    one = select(*ARGS[:-2], "--size", "9", "--out", "only_{size}.txt")
    assert one[0] == 0
    assert len(Path("only_9.txt").read_text().split()) == 9


@pytest.mark.parametrize(
    ("budgets", "names"),
    [
        ([], ["selected.npy"]),
        (["--ratio", "0.2", "--ratio", "0.4"], ["selected_0.2.npy", "selected_0.4.npy"]),
        (["--ratio", "0.2", "--size", "3"], ["selected_3.npy", "selected_8.npy"]),
    ],
)
def test_default_output_names(data, select, budgets, names):
    args = ["--emb", "emb.npy", "--scores", "scores.npy"]
    assert select(*args, *(budgets or ["--ratio", "0.5"]))[0] == 0
    assert sorted(p.name for p in Path().glob("selected*.npy")) == names


def test_budgets_nest_and_equal_single_runs(chosen, select):
    args = [*ARGS[:-2], "--gamma-reverse", "0.5", "--order", "rank"]
    assert select(*args, "--size", 5, "--size", 12, "--out", "k_{size}.npy")[0] == 0
    for size in (5, 12):
        assert select(*args, "--size", size, "--out", "one.npy")[0] == 0
        assert Path("one.npy").read_bytes() == Path(f"k_{size}.npy").read_bytes()
    assert np.load("k_12.npy")[:5].tolist() == np.load("k_5.npy").tolist()


# -- the same bytes -------------------------------------------------------------------------------
@pytest.mark.parametrize("out", ["k.npy", "k.txt", "k.csv", "k.parquet", "k.arrow", "K.NPY"])
def test_the_same_command_gives_the_same_bytes(chosen, select, out):
    assert select(*ARGS, "--out", out)[0] == 0
    first = Path(out).read_bytes()
    Path(out).unlink()
    assert select(*ARGS, "--out", out, "--threads", 2)[0] == 0
    assert Path(out).read_bytes() == first


LINES = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(LINES, min_size=1, max_size=6, unique=True))
def test_any_ids_through_any_form(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("ids")
    index = np.arange(len(ids), dtype=np.int64)
    kept = Kept(index, len(ids), pa.array(ids, pa.large_string()), {})
    store_selection(folder / "k.csv", ".csv", kept, "index", {})
    as_text = pa.csv.ConvertOptions(column_types={"id": pa.string()}, null_values=[])
    table = pa.csv.read_csv(folder / "k.csv", convert_options=as_text)
    assert table["id"].to_pylist() == ids
    store_selection(folder / "k.txt", ".txt", kept, "id", {})
    assert (folder / "k.txt").read_bytes().decode().split("\n") == [*ids, ""]
    store_selection(folder / "k.npy", ".npy", kept, "id", {})
    assert np.load(folder / "k.npy").tolist() == ids


@given(st.lists(st.text(max_size=5), min_size=1, max_size=6, unique=True))
def test_any_ids_through_binary_tables(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("ids")
    index = np.arange(len(ids), dtype=np.int64)
    kept = Kept(index, len(ids), pa.array(ids, pa.large_string()), {})
    for ending in (".parquet", ".arrow"):
        store_selection(folder / f"k{ending}", ending, kept, "index", {})
        assert READ[ending](str(folder / f"k{ending}"))["id"].to_pylist() == ids
