"""Folders that other programs write, and our own outputs beside data.

The layouts of Hugging Face `datasets` were taken from version 5.2 and, for indices mappings, 1.11.
"""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.errors import DataError
from d2cli.files.locate.hives import partition_of
from d2cli.files.locate.paths import expand, locate
from d2cli.files.locate.splits import check_splits, shown_glob
from d2cli.files.sources import open_source

SCORES = ("--scores", "scores.npy", "--ratio", "0.4")


def table_of(data, rows=slice(None)):
    emb = data.emb[rows]
    lists = pa.FixedSizeListArray.from_arrays(pa.array(emb.ravel()), emb.shape[1])
    return pa.table({"text": np.array(data.ids)[rows], "embedding": lists})


def write_stream(path, table):
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def write_parquet(path, table):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)


def save_to_disk(folder, tables, **state):
    """The files of ``Dataset.save_to_disk``."""
    folder = Path(folder)
    folder.mkdir(parents=True)
    names = [f"data-{i:05}-of-{len(tables):05}.arrow" for i in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        write_stream(folder / name, table)
    files = [{"filename": name} for name in names]
    state = {"_data_files": files, "_fingerprint": "ec5cefdbd7c574a4", "_split": "train", **state}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text('{"features": {}}')


def indices(n):
    order = np.random.default_rng(3).permutation(n)
    return pa.table({"indices": pa.array(order, pa.uint64())})


def refused(select, *args, says, hint=""):
    code, out, err = select(*args, "--out", "refused.npy")
    assert (code, out) == (1, "")
    assert says in err.splitlines()[0]
    assert hint in err.splitlines()[1] if hint else True
    assert not Path("refused.npy").exists()
    return err


# -- Hugging Face ---------------------------------------------------------------------------------
def test_saved_data_set_reads_the_listed_files_in_their_order(same, data):
    halves = [table_of(data, slice(25, None)), table_of(data, slice(25))]
    save_to_disk("saved", halves)
    state = json.loads(Path("saved/state.json").read_text())
    state["_data_files"].reverse()
    Path("saved/state.json").write_text(json.dumps(state))
    write_stream("saved/data-00002-of-00003.arrow", table_of(data))  # of an earlier save
    same(emb="saved")


def test_caches_beside_a_saved_data_set_are_left_out_with_a_notice(same, select, data):
    save_to_disk("saved", [table_of(data)])
    write_stream("saved/cache-9d168c55ad365fe1.arrow", indices(data.n))
    write_stream("saved/cache-768af658bee88052_00000_of_00002.arrow", table_of(data))
    Path("saved/tmpx1y2z3").write_bytes(b"half")
    same(emb="saved")
    same(emb="saved/*.arrow")
    code, _, err = select("--emb", "saved", *SCORES)
    assert code == 0
    assert "cache-9d168c55ad365fe1.arrow" in err
    assert "flatten_indices()" in err


def test_cache_folder_of_load_dataset_is_read(same, data):
    Path("0.0.0/a859").mkdir(parents=True)
    write_stream("0.0.0/a859/parquet-train-00000-of-00002.arrow", table_of(data, slice(11)))
    write_stream("0.0.0/a859/parquet-train-00001-of-00002.arrow", table_of(data, slice(11, None)))
    write_stream("0.0.0/a859/cache-9d168c55ad365fe1.arrow", indices(data.n))
    Path("0.0.0/a859/dataset_info.json").write_text("{}")
    same(emb="0.0.0/a859")


@pytest.mark.parametrize("key", ["_indices_files", "_indices_data_files"])
def test_indices_mapping_is_refused_with_python_that_applies_it(select, data, key):
    save_to_disk("saved", [table_of(data)], **{key: [{"filename": "indices.arrow"}]})
    write_stream("saved/indices.arrow", indices(data.n))
    for argument in ("saved", "saved/data-*.arrow", "saved/data-00000-of-00001.arrow"):
        refused(
            select, "--emb", argument, *SCORES,
            says="saved: an indices mapping (indices.arrow) reorders its rows",
            hint="datasets.Dataset.from_file('saved/data-00000-of-00001.arrow').select("
            "datasets.Dataset.from_file('saved/indices.arrow')['indices']).flatten_indices()",
        )  # fmt: skip


def test_saved_data_set_with_a_missing_file_is_refused(select, data):
    save_to_disk("saved", [table_of(data, slice(9)), table_of(data, slice(9, None))])
    Path("saved/data-00001-of-00002.arrow").unlink()
    refused(select, "--emb", "saved", *SCORES,
            says="saved: data-00001-of-00002.arrow is missing, which state.json lists")  # fmt: skip


def test_folder_of_caches_only_is_refused(select, data):
    Path("saved").mkdir()
    write_stream("saved/cache-9d168c55ad365fe1.arrow", indices(data.n))
    refused(select, "--emb", "saved", *SCORES,
            says="only caches of datasets (cache-9d168c55ad365fe1.arrow)")  # fmt: skip


def test_data_set_dict_is_refused_with_its_splits(same, select, data):
    for split in ("train", "my_test"):
        save_to_disk(f"dict/{split}", [table_of(data)])
    Path("dict/dataset_dict.json").write_text('{"splits": ["train", "my_test"]}')
    refused(select, "--emb", "dict", *SCORES, says="dict: holds 2 splits: train and my_test",
            hint="--emb dict/train or --emb dict/my_test")  # fmt: skip
    same(emb="dict/train")
    shutil.rmtree("dict/my_test")
    refused(select, "--emb", "dict", *SCORES, says="dict: the split my_test is missing")
    Path("dict/dataset_dict.json").write_text('{"splits": ["train"]}')
    same(emb="dict")


HUB = {
    "data/train-00000-of-00002.parquet": slice(20),
    "data/train-00001-of-00002.parquet": slice(20, None),
}


def write_hub(data, more=()):
    for name, rows in HUB.items():
        write_parquet(f"hub/{name}", table_of(data, rows))
    for name in more:
        write_parquet(f"hub/{name}", table_of(data, slice(10)))
    Path("hub/README.md").write_text("# data\n")
    Path("hub/.gitattributes").write_text("")


@pytest.mark.parametrize("given", ["hub", "hub/data", "hub/data/*.parquet", "hub/**"])
def test_hub_snapshot_of_two_splits_is_refused_with_globs(same, select, data, given):
    write_hub(data, ["data/test-00000-of-00001-a09b74b3ef9c3b56.parquet"])
    err = refused(select, "--emb", given, *SCORES, says="holds 2 splits: test and train",
                  hint="--emb 'hub/data/train-*.parquet'")  # fmt: skip
    assert "--emb hub/data/test-00000-of-00001-a09b74b3ef9c3b56.parquet" in err
    same(emb="hub/data/train-*.parquet")


@pytest.mark.parametrize("given", ["hub", "hub/data"])
def test_hub_snapshot_of_one_split_is_read(same, data, given):
    write_hub(data)
    same(emb=given)


def test_absent_shard_gives_a_notice(data, select):
    write_hub(data)
    Path("hub/data/train-00001-of-00002.parquet").unlink()
    code, _, err = select("--emb", "hub", "--scores", "scores.npy", "--ratio", "0.4")
    assert code == 1
    np.save("scores.npy", data.scores[:20])
    code, _, err = select("--emb", "hub", "--scores", "scores.npy", "--ratio", "0.4")
    assert code == 0
    assert "hub/data/train: 1 of 2 shards are there" in err


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.parquet", "test.parquet"], ["test", "train"]),
        (["train.npy", "valid.npy"], ["train", "valid"]),
        (["x-train.arrow", "x-validation.arrow"], ["train", "validation"]),
        (["train_emb_0.npy", "train_emb_1.npy", "dev_emb.npy"], ["dev", "train"]),
        (["emb_0.npy", "emb_1.npy", "emb_val.npy"], ["val", "others (emb_0.npy)"]),
        (["code-00000-of-00001.parquet", "math-00000-of-00001.parquet"], ["code", "math"]),
        (["train-00000-of-00001.csv", "unsupervised-00000-of-00001.csv"],
         ["train", "unsupervised"]),
        (["train/0.npy", "eval/0.npy"], ["eval", "train"]),
        (["split=train/0.npy", "split=test/0.npy"], ["test", "train"]),
    ],
)  # fmt: skip
def test_splits_are_found(tmp_path, monkeypatch, names, splits):
    monkeypatch.chdir(tmp_path)
    paths = [f"at/{name}" for name in sorted(names)]
    with pytest.raises(DataError) as error:
        check_splits(paths, "at", "emb")
    assert set(error.value.message.partition(": holds 2 splits: ")[2].split(" and ")) == {*splits}
    for path in paths:  # each glob matches its own files
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    ways = shlex.split(error.value.hint.partition("; ")[0].removeprefix("give one: "))
    matched = [[str(p) for p in expand([way], "emb")] for way in ways if way.startswith("at")]
    assert sorted(path for group in matched for path in group) == paths


@pytest.mark.parametrize(
    "names",
    [
        ["part-00000-4e3f-c000.snappy.parquet", "part-00001-4e3f-c000.snappy.parquet"],
        ["img_emb_0.npy", "img_emb_1.npy"],
        ["test_0.npy", "test_1.npy"],
        ["trainer_0.npy", "tested_1.npy", "value.npy"],
        ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"],
        ["dynamics_epoch_0.jsonl", "dynamics_epoch_1.jsonl"],
    ],
)
def test_shards_of_one_set_are_no_splits(names):
    check_splits([f"train/{name}" for name in names], "train", "emb")


@given(st.lists(st.text("ab01[*-", min_size=1, max_size=5), min_size=2, max_size=6, unique=True),
       st.data())  # fmt: skip
def test_shown_glob_matches_exactly_its_group(names, draw):
    import fnmatch

    paths = sorted(f"x/{name}.npy" for name in names)
    group = draw.draw(st.lists(st.sampled_from(paths), min_size=1, unique=True))
    shown = shlex.split(shown_glob(group, paths))
    if len(group) > 1 and len(shown) == 1:
        assert {p for p in paths if fnmatch.fnmatchcase(p, shown[0])} == {*group}
    else:
        assert shown[0] == group[0]


def test_split_folders_are_refused_and_one_is_read(same, select, data):
    write_parquet("root/train/0.parquet", table_of(data))
    same(emb="root")
    Path("selected.npy").unlink()
    write_parquet("root/test/0.parquet", table_of(data))
    refused(select, "--emb", "root", *SCORES, says="root: holds 2 splits: test and train",
            hint="--emb root/test or --emb root/train")  # fmt: skip
    refused(select, "--emb", "root/*/*.parquet", *SCORES, says="holds 2 splits: test and train",
            hint="--emb root/test/0.parquet or --emb root/train/0.parquet")  # fmt: skip


def test_folder_of_folders_is_refused_with_a_glob_that_works(same, select, data):
    for at, rows in enumerate([slice(17), slice(17, None)]):
        write_parquet(f"root/en/v{at}/0.parquet", table_of(data, rows))
    Path("root/empty").mkdir()
    err = refused(select, "--emb", "root", *SCORES,
                  says="root: the folder holds no data files for --emb, only folders: empty and en",
                  hint="--emb root/en/v0; or all: --emb 'root/*/*/*.parquet'")  # fmt: skip
    assert len(err.splitlines()) == 2
    same(emb="root/*/*/*.parquet")


def test_split_lists_beside_arrays_do_not_matter(same, data):
    Path("set").mkdir()
    np.save("set/emb.npy", data.emb)
    Path("set/train.txt").write_text("a\n")
    Path("set/test.txt").write_text("b\n")
    same(emb="set")


def test_files_of_other_programs_beside_shards_do_not_matter(same, data):
    Path("spark").mkdir()
    for at, rows in enumerate([slice(8), slice(8, None)]):
        name = f"part-{at:05}-4e3f1a2b-c000.snappy.parquet"
        pq.write_table(table_of(data, rows), f"spark/{name}")
        Path(f"spark/.{name}.crc").write_bytes(b"crc\0")
    for name in ("_SUCCESS", "_metadata", "_common_metadata", "dataset_infos.json", "LICENSE"):
        Path(f"spark/{name}").write_text("{}")
    Path("spark/_temporary").mkdir()
    same(emb="spark")


# -- hives ----------------------------------------------------------------------------------------
def write_hive(data, column="centroid", values=(10, 2, 1)):
    """Rows by `values`, in natural order of the folders; returns the rows in that order."""
    rows = np.array_split(np.arange(data.n), len(values))
    for value, mine in zip(values, rows, strict=True):
        write_parquet(f"hive/{column}={value}/part.0.parquet", table_of(data, mine))


def test_hive_is_read_in_natural_order_with_its_column(same, data):
    write_hive(data, values=(1, 2, 10))
    same(emb="hive")
    labels = open_source(["hive"], "labels", "labels", "centroid")
    assert labels.column().to_pylist() == [1] * 14 + [2] * 13 + [10] * 13
    assert labels.parts[0].dtype == np.int64


def test_partition_balances_a_selection_as_labels_do(select, data):
    write_hive(data, values=(0, 1, 2))
    args = ("--emb", "hive", "--scores", "scores.npy", "--ratio", "0.4", "--balance", "uniform")
    assert select(*args, "--labels", "hive", "--labels-key", "centroid")[0] == 0
    by_hive = np.load("selected.npy")
    np.save("labels.npy", np.repeat([0, 1, 2], [14, 13, 13]))
    assert select(*args, "--labels", "labels.npy")[0] == 0
    np.testing.assert_array_equal(np.load("selected.npy"), by_hive)


def test_nested_hive_has_both_columns(data):
    for a in ("x", "y"):
        for b in (3, 12):
            write_parquet(f"hive/a={a}/b={b}/0.parquet", table_of(data, slice(2)))
    assert open_source(["hive"], "labels", "l", "a").column().to_pylist() == ["x"] * 4 + ["y"] * 4
    b = open_source(["hive"], "labels", "l", "b")
    assert b.column().to_pylist() == [3, 3, 12, 12] * 2


@pytest.mark.parametrize("given", ["hive/centroid=*", "hive/centroid=*/*.parquet", "hive/**"])
def test_hive_by_glob(same, data, given):
    write_hive(data, values=(1, 2, 10))
    same("--labels", given, "--labels-key", "centroid", emb=given)


def test_partition_that_is_not_always_an_integer_is_text(data):
    write_hive(data, values=("1", "01", "x"))
    labels = open_source(["hive"], "labels", "labels", "centroid").column().to_pylist()
    assert {*labels} == {"1", "01", "x"}


def test_null_partition_is_refused_where_it_is_used(same, select, data):
    write_hive(data, values=(1, "__HIVE_DEFAULT_PARTITION__"))
    refused(select, "--emb", "emb.npy", *SCORES, "--balance", "uniform", "--labels", "hive",
            "--labels-key", "centroid",
            says="=__HIVE_DEFAULT_PARTITION__/part.0.parquet: centroid is null")  # fmt: skip


def test_partition_is_no_id(select, data):
    write_hive(data, column="id", values=(1, 2, 10))
    source = open_source(["hive"], "embeddings", "emb")
    assert source.ids() is None


def test_column_of_the_file_precedes_the_partition(data):
    write_parquet("hive/label=1/0.parquet", pa.table({"label": ["a", "b"]}))
    assert open_source(["hive"], "labels", "labels", "label").column().to_pylist() == ["a", "b"]


def test_files_beside_hive_folders_are_refused(select, data):
    write_hive(data)
    np.save("hive/kmeans_centroids.npy", data.emb[:3])
    refused(select, "--emb", "hive", *SCORES, hint="'hive/centroid=*'",
            says="data files (kmeans_centroids.npy) beside hive folders (centroid=1)")  # fmt: skip


def test_own_output_beside_hive_folders_is_left_out(select, data):
    write_hive(data)
    args = ("--emb", "hive", "--scores", "scores.npy", "--ratio", "0.4", "--out", "hive/kept.npy")
    assert select(*args)[0] == 0
    first = Path("hive/kept.npy").read_bytes()
    assert select(*args)[0] == 0
    assert Path("hive/kept.npy").read_bytes() == first


def test_partition_of_a_path():
    assert partition_of("s/a=1/b=x%20y/c=/__=/f=1.npy") == (
        ("a", "1"), ("b", "x y"), ("c", ""), ("__", ""),
    )  # fmt: skip
    assert partition_of("a=__HIVE_DEFAULT_PARTITION__/x") == (("a", None),)
    assert partition_of("=1/x=1") == ()


# -- our own outputs ------------------------------------------------------------------------------
def test_own_selection_beside_the_shards_is_left_out(select, data, run_cli):
    Path("set").mkdir()
    np.save("set/emb_0.npy", data.emb[:30])
    np.save("set/emb_1.npy", data.emb[30:])
    args = ("--emb", "set", *SCORES, "--out", "set/selected.npy")
    assert select(*args)[0] == 0
    first = Path("set/selected.npy").read_bytes()
    code, _, err = select(*args)
    assert code == 0
    assert "set: outputs of d2prune are not read as data: selected.npy" in err
    assert Path("set/selected.npy").read_bytes() == first
    assert select("--emb", "set/*.npy", *args[2:])[0] == 0
    assert Path("set/selected.npy").read_bytes() == first


def test_output_given_by_name_is_used(select, data):
    assert select("--emb", "emb.npy", *SCORES, "--out", "kept.npy")[0] == 0
    rest = ("--emb", "emb.npy", "--scores", "scores.npy", "--ratio", "0.2")
    assert select(*rest, "--exclude", "kept.npy")[0] == 0
    assert not {*np.load("kept.npy")} & {*np.load("selected.npy")}


def test_scores_of_a_folder_are_consumed_and_other_outputs_left_out(run_cli, select, data):
    logits = np.random.default_rng(1).normal(size=(2, data.n, 3)).astype(np.float32)
    np.save("logits.npy", logits)
    Path("work").mkdir()
    np.save("work/emb.npy", data.emb)
    assert run_cli("score", "--kind", "el2n", "--logits", "logits.npy", "--labels", "labels.npy",
                   "--out", "work/el2n.npy")[0] == 0  # fmt: skip
    assert run_cli("graph", "--emb", "work", "-k", 4, "--out", "work/graph.arrow")[0] == 0
    args = ("--emb", "work", "--ratio", "0.4")
    assert select(*args, "--scores", "work/el2n.npy", "--out", "work/kept.npy")[0] == 0
    expected = np.load("work/kept.npy")
    assert select(*args, "--scores", "work/[eg]l*.npy", "--out", "again.npy")[0] == 0
    np.testing.assert_array_equal(np.load("again.npy"), expected)
    Path("scores").mkdir()
    for name in ("el2n.npy", "el2n.npy.json", "kept.npy", "kept.npy.json"):
        shutil.copy(f"work/{name}", f"scores/{name}")
    code, _, err = select(*args, "--scores", "scores", "--out", "again.npy")
    assert code == 0
    np.testing.assert_array_equal(np.load("again.npy"), expected)
    assert "scores: outputs of d2prune are not read as data: kept.npy" in err


def test_table_without_its_sidecar_is_known_by_its_metadata(run_cli, select, data):
    Path("set").mkdir()
    pq.write_table(table_of(data), "set/emb.parquet")
    for out in ("set/kept.parquet", "kept.npy"):
        assert select("--emb", "set", *SCORES, "--out", out)[0] == 0
    Path("set/kept.parquet.json").unlink()
    code, _, err = select("--emb", "set", *SCORES, "--out", "again.npy")
    assert code == 0
    assert "set: outputs of d2prune are not read as data: kept.parquet" in err
    assert Path("again.npy").read_bytes() == Path("kept.npy").read_bytes()


def test_metadata_of_ours_in_a_table_with_data_does_not_matter(select, data):
    assert select("--emb", "emb.npy", *SCORES, "--out", "kept.parquet")[0] == 0
    metadata = pq.read_schema("kept.parquet").metadata
    Path("set").mkdir()
    pq.write_table(table_of(data).replace_schema_metadata(metadata), "set/emb.parquet")
    assert open_source(["set"], "embeddings", "emb").n == data.n


def test_folder_of_outputs_only_is_refused(select, data):
    Path("set").mkdir()
    for name in ("set/kept.npy", "set/table.parquet"):
        assert select("--emb", "emb.npy", *SCORES, "--out", name)[0] == 0
    says = "set: the folder holds no data files for --emb, only outputs of d2prune (kept.npy and"
    refused(select, "--emb", "set", *SCORES, says=says)
    Path("set/table.parquet.json").unlink()
    Path("set/kept.npy").unlink()
    refused(select, "--emb", "set", *SCORES, says="only outputs of d2prune (set/table.parquet)")


def test_replaced_output_is_not_left_out_silently(select, data):
    Path("set").mkdir()
    assert select("--emb", "emb.npy", *SCORES, "--out", "set/emb.npy")[0] == 0
    np.save("set/emb.npy", data.emb)
    refused(select, "--emb", "set", *SCORES, says="it has changed since", hint="remove")


def test_glob_of_folders_is_refused(select, data):
    for at in range(2):
        write_parquet(f"root/{at}/0.parquet", table_of(data))
    refused(select, "--emb", "root/[01]", *SCORES, says="matches folders, not files",
            hint="--emb 'root/[01]/*'")  # fmt: skip


def test_located_files_know_how_they_were_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a=1").mkdir()
    np.save("a=1/x.npy", np.zeros(3))
    for argument, by_name in (("a=1", False), ("a=1/*", False), ("a=1/x.npy", True)):
        (file,) = locate(argument, "emb").files
        assert (file.path, file.by_name, file.partition) == (
            Path("a=1/x.npy"), by_name, (("a", "1"),),
        )  # fmt: skip


def test_more_shards_than_the_usual_limit_of_open_files(tmp_path):
    """A soft limit of 64 open files; the hard limit stays."""
    rng = np.random.default_rng(0)
    for at in range(100):
        lists = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=8)), 4)
        write_parquet(tmp_path / f"shards/{at}.parquet", pa.table({"embedding": lists}))
    np.save(tmp_path / "scores.npy", np.arange(200.0))
    code = (
        "import resource, sys; from d2cli.cli.main import run;"
        "hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1];"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard));"
        "sys.exit(run('select --emb shards --scores scores.npy --ratio .4 -q'.split()))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert np.load(tmp_path / "selected.npy").size == 80
