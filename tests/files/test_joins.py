"""Inputs with ids are joined by id, in any order; others row by row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.errors import DataError
from d2cli.files.frame import Frame
from d2cli.files.sources import open_source


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture
def shuffled(data):
    """A permutation, and the same data with ids: embeddings in order, the rest permuted."""
    by = np.random.default_rng(1).permutation(data.n)
    ids = np.array(data.ids)
    parquet("e.parquet", id=data.ids, emb=data.emb.tolist())
    parquet("s.parquet", score=data.scores[by], id=ids[by])
    parquet("l.parquet", id=ids[by[::-1]], label=data.labels[by[::-1]])
    return by


def kept(path="selected.npy"):
    return np.load(path).tolist()


def test_scores_in_another_order(data, shuffled, select):
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15)[0] == 0
    by_row = kept()
    code, _, err = select("--emb", "e.parquet", "--scores", "s.parquet", "--size", 15)
    assert code == 0
    assert kept() == by_row
    assert "notice" not in err
    # Row numbers are those of the embeddings; reordered embeddings give other numbers.
    parquet("e2.parquet", id=np.array(data.ids)[shuffled], emb=data.emb[shuffled].tolist())
    assert select("--emb", "e2.parquet", "--scores", "s.parquet", "--size", 15)[0] == 0
    assert sorted(shuffled[kept()].tolist()) == by_row


def test_labels_and_cutoff_scores_in_another_order(data, shuffled, select):
    rest = ["--balance", "uniform", "--cutoff", 0.2, "--size", 12, "--gamma-reverse", 1]
    plain = ["--emb", "emb.npy", "--scores", "scores.npy", "--labels", "labels.npy"]
    assert select(*plain, "--cutoff-scores", "scores.npy", *rest)[0] == 0
    by_row = kept()
    by_id = ["--emb", "e.parquet", "--scores", "s.parquet", "--labels", "l.parquet"]
    assert select(*by_id, "--cutoff-scores", "s.parquet", *rest)[0] == 0
    assert kept() == by_row
    assert select(*plain, "--within", "labels.npy", *rest)[0] == 0
    by_row = kept()
    assert select(*by_id, "--within", "l.parquet", *rest)[0] == 0
    assert kept() == by_row


def test_unused_ids_print_a_notice(data, shuffled, select):
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15)[0] == 0
    by_row = kept()
    ids = [*np.array(data.ids)[shuffled], "extra1", "extra2"]
    parquet("more.parquet", id=ids, score=[*data.scores[shuffled], 9e9, 9e9])
    code, _, err = select("--emb", "e.parquet", "--scores", "more.parquet", "--size", 15)
    assert code == 0
    assert kept() == by_row
    text = "2 of 42 ids are not in e.parquet: emb; their rows are not used"
    assert f"notice: more.parquet: score: {text}" in err.splitlines()


def test_bad_score_is_reported_at_its_row_in_the_file(data, shuffled, select):
    values = data.scores[shuffled]
    values[11] = -1
    parquet("s.parquet", score=values, id=np.array(data.ids)[shuffled])
    code, _, err = select("--emb", "e.parquet", "--scores", "s.parquet", "--size", 15)
    assert code == 1
    assert "error: s.parquet: score: row 11: score is negative" in err


@pytest.mark.parametrize("name", ["id", "uid", "_curator_dedup_id"])
@pytest.mark.parametrize("kind", [np.int8, np.int64, np.uint64, str, "S"])
def test_usual_id_columns_of_any_type(data, shuffled, select, name, kind):
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15)[0] == 0
    by_row = kept()
    ids = np.arange(data.n).astype(kind)
    np.savez("e.npz", emb=data.emb, **{name: ids})
    np.savez("s.npz", score=data.scores[shuffled], **{name: ids[shuffled]})
    assert select("--emb", "e.npz", "--scores", "s.npz", "--size", 15)[0] == 0
    assert kept() == by_row


def test_ids_of_any_integer_or_text_type_are_joined(data, shuffled, select):
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15)[0] == 0
    by_row = kept()
    numbers = np.arange(data.n)
    for a, b in (
        (pa.array(numbers, pa.int32()), pa.array(numbers[shuffled], pa.uint64())),
        (pa.array(data.ids), pa.array(np.array(data.ids)[shuffled].tolist(), pa.large_string())),
        (pa.array(data.ids).dictionary_encode(), pa.array(np.array(data.ids)[shuffled])),
    ):
        parquet("e.parquet", id=a, emb=data.emb.tolist())
        parquet("s.parquet", id=b, score=data.scores[shuffled])
        assert select("--emb", "e.parquet", "--scores", "s.parquet", "--size", 15)[0] == 0
        assert kept() == by_row


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.large_string()])
def test_binary_parquet_columns_are_text(data, shuffled, select, kind):
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15)[0] == 0
    by_row = kept()
    ids = pa.array(data.ids).cast(kind).take(pa.array(shuffled))
    parquet("s.parquet", id=ids, score=data.scores[shuffled])
    assert select("--emb", "e.parquet", "--scores", "s.parquet", "--size", 15)[0] == 0
    assert kept() == by_row


def test_padded_keys_stay_text_in_csv_and_lists(data, shuffled, select):
    keys = [f"{i * 7:05}" for i in range(40)]
    parquet("e.parquet", id=keys, emb=data.emb.tolist())
    rows = [f"{keys[i]},{data.scores[i]},{i}" for i in shuffled]
    Path("s.csv").write_text("\n".join(["id,score,n", *rows]))
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15)[0] == 0
    by_row = kept()
    args = ["--emb", "e.parquet", "--scores", "s.csv", "--scores-key", "score"]
    assert select(*args, "--size", 15)[0] == 0
    assert kept() == by_row
    Path("x.txt").write_text("00007\n00014\n")  # ids, not the rows 7 and 14
    assert select(*args, "--size", 38, "--exclude", "x.txt")[0] == 0
    assert set(range(40)) - set(kept()) == {1, 2}
    args[0:2] = ["--emb", "emb.npy"]
    assert select(*args, "--size", 2, "--as", "id", "--out", "k.txt")[0] == 0
    assert all(len(key) == 5 for key in Path("k.txt").read_text().split())


def test_ids_above_int64(data, shuffled, select):
    ids = np.arange(data.n, dtype=np.uint64) + np.uint64(2**63)
    parquet("e.parquet", id=ids, emb=data.emb.tolist())
    parquet("s.parquet", id=ids[shuffled], score=data.scores[shuffled])
    code, _, err = select(
        "--emb", "e.parquet", "--scores", "s.parquet", "--size", 3, "--as", "id", "--out", "k.txt"
    )
    assert code == 0, err
    assert set(map(int, Path("k.txt").read_text().split())) <= set(ids.tolist())


def test_id_column_is_chosen_by_name(data, shuffled, select):
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15)[0] == 0
    by_row = kept()
    keys = np.array(data.ids)
    parquet("e.parquet", id=range(40), key=keys, emb=data.emb.tolist())
    parquet("s.parquet", id=range(40), key=keys[shuffled], score=data.scores[shuffled])
    files = ["--emb", "e.parquet", "--scores", "s.parquet", "--size", 15]
    assert select(*files)[0] == 0
    assert kept() == by_row  # `id` only counts the rows of each file
    assert select(*files, "--id-column", "id")[0] == 0
    assert kept() != by_row
    assert select(*files, "--id-column", "key")[0] == 0
    assert kept() == by_row


def test_id_column_none_joins_by_row(data, shuffled, select):
    parquet("s.parquet", id=np.array(data.ids)[::-1], score=data.scores)
    files = ["--emb", "e.parquet", "--scores", "s.parquet", "--size", 15]
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15)[0] == 0
    by_row = kept()
    assert select(*files, "--id-column", "none")[0] == 0
    assert kept() == by_row
    parquet("s.parquet", id=["same"] * 40, score=data.scores)  # ignored
    assert select(*files, "--id-column", "none")[0] == 0
    assert kept() == by_row


def test_ids_of_scores_are_used_if_embeddings_have_none(data, shuffled, select):
    args = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 15]
    assert select(*args)[0] == 0
    by_row = kept()
    parquet("s.parquet", id=data.ids, score=data.scores)
    args[3] = "s.parquet"
    assert select(*args, "--as", "id", "--out", "k.npy")[0] == 0
    assert np.load("k.npy").tolist() == [data.ids[i] for i in by_row]


def test_graph_file_keeps_the_ids(data, shuffled, run_cli, select):
    files = ["--scores", "s.parquet", "--size", 15]
    assert select("--emb", "e.parquet", *files)[0] == 0
    one_step = kept()
    assert run_cli("graph", "--emb", "e.parquet", "--out", "g.arrow", "-k", 4)[0] == 0
    assert run_cli("propagate", "--graph", "g.arrow", *files[:2], "--out", "p.npy")[0] == 0
    assert select("--graph", "g.arrow", *files)[0] == 0
    assert kept() == one_step
    assert select("--graph", "g.arrow", "--propagated", "p.npy", "--size", 15)[0] == 0
    assert kept() == one_step


# -- include and exclude --------------------------------------------------------------------------
def rows_as(form, rows, data):
    """The same rows, written in one of the formats of --include."""
    ids = [data.ids[row] for row in rows]
    if form == "npy":
        np.save("rows.file", np.array(rows, np.int32))
    elif form == "mask":
        np.save("rows.file", np.isin(np.arange(data.n), rows))
    elif form == "ids npy":
        np.save("rows.file", np.array(ids))
    elif form == "parquet":
        parquet("rows.file", index=np.array(rows), rank=np.arange(len(rows)), score=[0.5] * 3)
    elif form == "parquet ids":
        parquet("rows.file", rank=np.arange(len(rows)), id=ids, note=ids)
    elif form == "selection":
        parquet("rows.file", index=[39, 39, 39], rank=[0, 1, 2], id=ids)
    else:
        lines = ids if form == "ids txt" else map(str, rows)
        Path("rows.file").write_text("\n".join(lines))
    for path in ("rows.file.npy", "rows.file"):
        if Path(path).exists():
            return path
    raise AssertionError


FORMS = ["npy", "mask", "ids npy", "parquet", "parquet ids", "selection", "txt", "ids txt"]


@pytest.mark.parametrize("form", FORMS)
def test_include_and_exclude_in_any_format(data, shuffled, select, form):
    rows = [5, 30, 17]
    path = rows_as(form, rows, data)
    args = ["--emb", "e.parquet", "--scores", "s.parquet", "--size", 10]
    assert select(*args, "--exclude", path)[0] == 0
    assert not set(rows) & set(kept())
    assert select(*args, "--include", path)[0] == 0
    assert set(rows) <= set(kept())


def test_rows_by_named_ids(data, shuffled, select):
    parquet("e.parquet", key=data.ids, emb=data.emb.tolist())
    parquet("x.parquet", reason=["blurred", "twice"], key=[data.ids[3], data.ids[8]])
    args = ["--emb", "e.parquet", "--scores", "scores.npy", "--size", 38, "--id-column", "key"]
    assert select(*args, "--exclude", "x.parquet")[0] == 0
    assert set(range(40)) - set(kept()) == {3, 8}


def test_rows_of_several_files(data, select):
    Path("a.txt").write_text("1\n2\n")
    Path("b.txt").write_text("2\n3\n")
    args = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 37]
    assert select(*args, "--exclude", "a.txt", "--exclude", "b.txt")[0] == 0
    assert set(range(40)) - set(kept()) == {1, 2, 3}


def test_lists_of_rows_may_be_empty(data, select):
    """As a search for duplicates writes them, where there are none."""
    np.save("none.npy", np.empty(0, np.int64))
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 9)[0] == 0
    kept = np.load("selected.npy")
    for option in ("--exclude", "--include"):
        code, _, err = select(
            "--emb", "emb.npy", "--scores", "scores.npy", "--size", 9, option, "none.npy"
        )
        assert code == 0 and "none.npy, 0 rows" in err
        assert np.array_equal(np.load("selected.npy"), kept)
    assert select("--emb", "none.npy", "--scores", "scores.npy", "--size", 9)[0] == 1


def test_excluded_rows_of_a_graph_are_not_selected(data, run_cli, select):
    Path("x.txt").write_text("1\n2\n3\n")
    args = ["--emb", "emb.npy", "--out", "g.arrow", "--exclude", "x.txt"]
    assert run_cli("graph", *args)[0] == 0
    assert select("--graph", "g.arrow", "--scores", "scores.npy", "--size", 37)[0] == 0
    assert set(range(40)) - set(kept()) == {1, 2, 3}
    code, _, err = select("--graph", "g.arrow", "--scores", "scores.npy", "--size", 38)
    assert code == 2
    assert "a budget of 38 is more than the 37 rows" in err


# -- the frame itself -----------------------------------------------------------------------------
def test_equal_ids_need_no_reordering(tmp_path):
    parquet(tmp_path / "s.parquet", id=["a", "b"], score=[1.0, 2.0])
    source = open_source([str(tmp_path / "s.parquet")], "scores", "scores")
    assert Frame(2, "e", pa.array(["a", "b"], pa.large_string())).rows_of(source) is None
    rows = Frame(2, "e", pa.array(["b", "a"], pa.large_string())).rows_of(source)
    assert rows.tolist() == [1, 0]
    assert Frame(1, "e", pa.array(["b"], pa.large_string())).vector(source)[0].tolist() == [2.0]


def test_labels_become_class_numbers_in_their_order(tmp_path):
    for values in (["dog", "cat", "dog"], [10, 9, 10], [True, False, True]):
        parquet(tmp_path / "l.parquet", label=values)
        source = open_source([str(tmp_path / "l.parquet")], "labels", "labels")
        assert Frame(3, "e").labels(source)[0].tolist() == [1, 0, 1]


def test_repeated_id_is_reported_at_its_first_row(tmp_path):
    for i, ids in enumerate((["a", "b"], ["c", "b", "c"])):
        parquet(tmp_path / f"{i}.parquet", id=ids, score=np.arange(len(ids)))
    with pytest.raises(DataError, match=r"0.parquet: score: row 1: the id 'b' occurs 2 times"):
        open_source([str(tmp_path)], "scores", "scores").ids()


def test_keys_of_other_names_are_joined_if_they_hold_the_same_text(data, select):
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--size", 15)[0] == 0
    by_row = kept()
    parquet("e.parquet", id=data.ids, emb=data.emb.tolist())
    parquet("s.parquet", name=data.ids[::-1], score=data.scores[::-1])
    assert select("--emb", "e.parquet", "--scores", "s.parquet", "--size", 15)[0] == 0
    assert kept() == by_row


def test_a_table_without_the_named_id_column_is_refused(data, select):
    parquet("e.parquet", id=data.ids, emb=data.emb.tolist())
    parquet("s.parquet", name=data.ids[::-1], score=data.scores[::-1])
    args = ["--emb", "e.parquet", "--scores", "s.parquet", "--size", 5]
    code, _, err = select(*args, "--id-column", "name")
    assert code == 2
    assert "error: --id-column name: e.parquet: emb has no column of this name" in err
    code, _, err = select(*args, "--id-column", "id")
    assert code == 2
    assert "error: --id-column id: s.parquet: score has no column of this name" in err
