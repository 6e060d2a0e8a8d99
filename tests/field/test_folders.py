"""Field cases D: folders that Hugging Face and Spark write are data sets, not heaps of files."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.field.make import IDS, N, P, S, X, Y, array, column, write, write_table

SCORES = ("--scores", "s.npy")
KEY = ("--emb-key", "embedding")


def table(rows=slice(None), emb=X, **more):
    """Text, embeddings, and an integer column, as a data set has them."""
    text = [f"text {i}" for i in np.arange(N)[rows]]
    found = {"text": text, "embedding": emb[rows], **{k: v[rows] for k, v in more.items()}}
    return pa.table({name: column(values) for name, values in found.items()})


def features(*names):
    value = {"dtype": "float32", "_type": "Value"}
    return {name: {"feature": value, "_type": "Sequence"} for name in names}


def saved(folder, pieces=2, emb=X, indices=None, name="data-{i:05}-of-{n:05}.arrow", **more):
    """A folder as ``Dataset.save_to_disk`` writes it."""
    folder = Path(folder)
    files = []
    for i, rows in enumerate(np.array_split(np.arange(N), pieces)):
        files.append(name.format(i=i, n=pieces))
        stream(folder / files[-1], table(rows, emb, **more))
    state = {
        "_data_files": [{"filename": file} for file in files], "_fingerprint": "0123456789abcdef",
        "_format_columns": None, "_format_kwargs": {}, "_format_type": None,
        "_output_all_columns": False, "_split": None,
    }  # fmt: skip
    if indices is not None:
        stream(folder / "indices.arrow", pa.table({"indices": pa.array(indices, pa.uint64())}))
        state |= {"_indices_data_files": [{"filename": "indices.arrow"}]}
    (folder / "state.json").write_text(json.dumps(state, indent=2))
    info = {"citation": "", "description": "", "features": features("embedding"), "license": ""}
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2))
    return str(folder)


def stream(path, what):
    """Arrow files of ``datasets`` are streams of record batches."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(path, what.schema) as writer:
        writer.write_table(what, max_chunksize=100)


@pytest.fixture(autouse=True)
def scores(field):
    array("s.npy", S)
    array("sp.npy", S[P])


# -- D1: save_to_disk -----------------------------------------------------------------------------
def test_saved_data_set(field):
    d = saved("ds", 3)
    field.works("--emb", d, *SCORES, want=field.wanted()).has_line("ds", "embedding")
    field.works("--emb", d, *KEY, *SCORES, want=field.wanted())


def test_saved_data_set_beside_a_cache_of_indices(field):
    """`shuffle` of a loaded data set writes its permutation beside the data."""
    d = saved("ds", 2)
    stream("ds/cache-0123456789abcdef.arrow", pa.table({"indices": pa.array(P, pa.uint64())}))
    got = field.right("--emb", d, *SCORES, want=field.wanted(), names=["ds"])
    if got.code:
        got.says("flatten_indices()")


def test_saved_data_set_with_indices(field):
    """The data set is its rows in the order of the indices."""
    d = saved("ds", 2, indices=P)
    got = field.select("--emb", d, "--scores", "sp.npy")
    if got.code == 0:
        field.same(got, field.wanted(X[P], S[P]))
    else:
        got.refused("flatten_indices()", names=["ds"])


def test_saved_data_set_with_some_indices(field):
    """`select` and `filter` keep a part of the rows."""
    d = saved("ds", 2, indices=P[:200])
    array("sp.npy", S[P[:200]])
    got = field.select("--emb", d, "--scores", "sp.npy")
    if got.code == 0:
        field.same(got, field.wanted(X[P[:200]], S[P[:200]]))
    else:
        got.refused("flatten_indices()", names=["ds"])


def test_saved_data_set_of_the_first_versions(field):
    """One file ``dataset.arrow``, and indices in ``indices.arrow``."""
    d = saved("ds", 1, name="dataset.arrow")
    field.works("--emb", d, *SCORES, want=field.wanted())
    d = saved("old", 1, name="dataset.arrow", indices=P)
    got = field.select("--emb", d, "--scores", "sp.npy")
    if got.code == 0:
        field.same(got, field.wanted(X[P], S[P]))
    else:
        got.refused("flatten_indices()", names=["old"])


@pytest.mark.parametrize("name", ["cache-fedcba9876543210.arrow", "tmpab12cd.arrow"])
def test_saved_data_set_beside_results_of_map(field, name):
    """`map` leaves tables of the same columns beside the data."""
    d = saved("ds", 2)
    stream(f"ds/{name}", table(P))
    field.right("--emb", d, *SCORES, want=field.wanted(), names=["ds"])


def test_saved_data_set_over_an_older_one(field):
    """Files that the state does not list are left from another save."""
    saved("ds", 3, emb=-X)
    d = saved("ds", 2)
    assert len(list(Path("ds").glob("*.arrow"))) == 5
    field.right("--emb", d, *SCORES, want=field.wanted(), names=["ds"])


def test_saved_data_set_with_a_lost_file(field):
    d = saved("ds", 3)
    Path("ds/data-00001-of-00003.arrow").unlink()
    field.select("--emb", d, *SCORES).refused("data-00001-of-00003.arrow", names=["ds"])


@pytest.mark.parametrize("listed", ["*.arrow", "data-*.arrow"])
def test_files_of_a_saved_data_set_given_by_glob(field, listed):
    """The indices beside the files count for the files too."""
    saved("ds", 2, indices=P)
    got = field.select("--emb", f"ds/{listed}", "--scores", "sp.npy")
    if got.code == 0:
        field.same(got, field.wanted(X[P], S[P]))
    else:
        got.refused(names=["ds"])


def test_scores_and_labels_in_a_saved_data_set(field):
    d = saved("ds", 2, score=S, label=Y)
    given = ("--emb", d, *KEY, "--scores", d, "--scores-key", "score", "--labels", d)
    got = field.select(*given, "--labels-key", "label", "--balance", "uniform")
    field.same(got, field.wanted(X, S, "--balance", "uniform", labels=Y))


def test_staged_steps_of_a_saved_data_set(field):
    d = saved("ds", 2)
    stream("ds/cache-0123456789abcdef.arrow", pa.table({"indices": pa.array(P, pa.uint64())}))
    field.staged(("--emb", d), SCORES, field.wanted())


# -- D2: snapshots of the hub ---------------------------------------------------------------------
SPLIT = slice(0, 240), slice(240, None)


def snapshot(folder="snap", train="data/train-{i:05}-of-00002.parquet",
             test="data/test-{i:05}-of-00001.parquet"):  # fmt: skip
    """A data set of two splits as the hub stores it."""
    for i, rows in enumerate((slice(0, 120), slice(120, 240))):
        write_table(f"{folder}/{train.format(i=i)}", table(rows))
    write_table(f"{folder}/{test.format(i=0)}", table(slice(240, N)))
    Path(folder, "README.md").write_text("---\nlicense: mit\n---\n# Data\n")
    Path(folder, ".gitattributes").write_text("*.parquet filter=lfs\n")
    return folder


def test_splits_in_one_folder_are_refused(field):
    root = snapshot()
    got = field.select("--emb", f"{root}/data", *SCORES)
    got.refused("data/train-*.parquet", "data/test-", names=["data"])
    array("s240.npy", S[:240])
    want = field.wanted(X[:240], S[:240])
    for glob in (f"{root}/data/train-*.parquet", f"{root}/data/train-*"):
        field.works("--emb", glob, "--scores", "s240.npy", want=want)


NAMED = {
    "validation": ("data/train-{i}.parquet", "data/validation-{i}.parquet"),
    "files": ("train{i}.parquet", "test{i}.parquet"),
    "underscore": ("train_{i}.parquet", "val_{i}.parquet"),
    "dev": ("train.{i}.parquet", "dev.{i}.parquet"),
    "last": ("emb_train_{i}.parquet", "emb_test_{i}.parquet"),
    "capital": ("Train-{i}.parquet", "Test-{i}.parquet"),
    "eval": ("x/train-{i}.parquet", "x/eval-{i}.parquet"),
}


@pytest.mark.parametrize("kind", NAMED)
def test_splits_of_other_names_are_refused(field, kind):
    train, test = NAMED[kind]
    root = snapshot("snap", train, test)
    folder = Path(root, train).parent
    got = field.select("--emb", folder, *SCORES).refused("train", names=[str(folder)])
    word = Path(test).name.split("{")[0].strip("_-.")
    got.says(word)


def test_splits_of_arrays_are_refused(field):
    array("emb/train_emb.npy", X[:240])
    array("emb/test_emb.npy", X[240:])
    field.select("--emb", "emb", *SCORES).refused("train", "test", names=["emb"])


def test_splits_that_are_both_given_are_used(field):
    """Both names in the order of the command line are what the user wants."""
    root = snapshot()
    given = ("--emb", f"{root}/data/train-*.parquet", "--emb", f"{root}/data/test-*.parquet")
    field.works(*given, *SCORES, want=field.wanted())


@pytest.mark.parametrize("others", [("emb2.npy", "emb10.npy"), ("emb_1.npy", "emb_2.npy")])
def test_shards_without_a_number_come_first(field, others):
    """Python's `sorted` has ``emb.npy`` before ``emb2.npy`` and ``emb_1.npy``, too."""
    parts = np.split(np.arange(N), [100, 190])
    for name, rows in zip(("emb.npy", *others), parts, strict=True):
        array(f"d/{name}", X[rows])
    field.works("--emb", "d", *SCORES, want=field.wanted())


def test_one_split_is_read(field):
    for i, rows in enumerate((slice(0, 120), slice(120, N))):
        write_table(f"snap/data/train-{i:05}-of-00002.parquet", table(rows))
    Path("snap/README.md").write_text("# Data\n")
    field.works("--emb", "snap/data", *SCORES, want=field.wanted())
    field.right("--emb", "snap", *SCORES, want=field.wanted(), names=["snap"])


def test_splits_of_scores_and_labels_are_refused(field):
    array("emb.npy", X)
    write("sc/train-0.parquet", score=S[:240])
    write("sc/test-0.parquet", score=S[240:])
    field.select("--emb", "emb.npy", "--scores", "sc").refused("train", "test", names=["sc"])


# -- D3: roots ------------------------------------------------------------------------------------
def dataset_dict(root="dd"):
    """A folder as ``DatasetDict.save_to_disk`` writes it."""
    Path(root).mkdir()
    Path(root, "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    for split, rows in zip(("train", "test"), SPLIT, strict=True):
        saved(f"{root}/{split}", 1)
        stream(f"{root}/{split}/data-00000-of-00001.arrow", table(rows))
    return root


def test_root_of_a_dataset_dict_is_refused(field):
    root = dataset_dict()
    got = field.select("--emb", root, *SCORES).refused("train", "test", names=[root])
    got.says_one_of(f"{root}/train", "--emb")
    array("s240.npy", S[:240])
    want = field.wanted(X[:240], S[:240])
    field.works("--emb", f"{root}/train", "--scores", "s240.npy", want=want)


def test_root_of_a_dataset_dict_of_one_split(field):
    root = Path("dd")
    saved("dd/train", 2)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train"]}))
    field.right("--emb", "dd", *SCORES, want=field.wanted(), names=["dd"])


def test_root_of_a_snapshot_is_refused(field):
    root = snapshot()
    field.select("--emb", root, *SCORES).refused("data", names=[root])
    root = snapshot("folders", "train/{i:04}.parquet", "test/{i:04}.parquet")
    field.select("--emb", root, *SCORES).refused("train", "test", names=[root])
    root = snapshot("ref", "default/train/{i:04}.parquet", "default/test/{i:04}.parquet")
    field.select("--emb", root, *SCORES).refused("default", names=[root])
    field.select("--emb", f"{root}/default", *SCORES).refused("train", "test", names=[root])


def test_configurations_of_a_snapshot_are_refused(field):
    """Two configurations hold the same rows in two languages."""
    write_table("snap/en/train-00000-of-00001.parquet", table(slice(0, 150)))
    write_table("snap/de/train-00000-of-00001.parquet", table(slice(150, N)))
    Path("snap/README.md").write_text("# Data\n")
    field.select("--emb", "snap", *SCORES).refused("en", "de", names=["snap"])


def test_cache_of_load_dataset(field):
    """`load_dataset` keeps ``NAME-train.arrow`` and ``dataset_info.json``, without a state."""
    stream("c/parquet-train-00000-of-00002.arrow", table(slice(0, 150)))
    stream("c/parquet-train-00001-of-00002.arrow", table(slice(150, N)))
    stream("c/cache-0123456789abcdef.arrow", pa.table({"indices": pa.array(P, pa.uint64())}))
    info = {"features": features("embedding"), "splits": {"train": {"num_examples": N}}}
    Path("c/dataset_info.json").write_text(json.dumps(info))
    got = field.right("--emb", "c", *SCORES, want=field.wanted(), names=["c"])
    got.never_says("it has: indices")
    stream("c/parquet-test.arrow", table(slice(0, 20)))
    field.select("--emb", "c", *SCORES).refused("train", "test", names=["c"])


def test_folder_without_data_names_what_it_has(field):
    write("deep/a/x.parquet", embedding=X[:100])
    write("deep/b/x.parquet", embedding=X[100:])
    field.right("--emb", "deep", *SCORES, want=field.wanted(), names=["deep"])
    Path("none").mkdir()
    field.select("--emb", "none", *SCORES).refused(names=["none"])


# -- D4: hives ------------------------------------------------------------------------------------
CENTROID = np.random.default_rng(1).integers(0, 12, N)
#: The rows in the order in which a hive of centroids is read: 2 before 10.
HIVE = np.argsort(CENTROID, kind="stable")


def hive(root="kmeans", ids=IDS, part="centroid={}", values=CENTROID, ending="parquet", **columns):
    """Folders as NeMo Curator and Spark write them."""
    columns = columns or {"embeddings": X, "id": ids}
    for value in np.unique(values):
        rows = np.flatnonzero(values == value)
        here = f"{root}/{part.format(value)}/part.0.{ending}"
        write(here, **{name: np.asarray(v)[rows] for name, v in columns.items()})
    Path(root, "_SUCCESS").touch()
    return root


@pytest.mark.parametrize("name", ["id", "_curator_dedup_id"])
def test_hive_of_centroids(field, name):
    root = hive(embeddings=X, **{name: IDS})
    write("sc.parquet", **{name: IDS[P], "score": S[P]})
    got = field.select("--emb", root, "--scores", "sc.parquet", "--as", "id", out="kept.txt")
    same_ids(field, got, X[HIVE], S[HIVE], IDS[HIVE])
    array("sh.npy", S[HIVE])
    field.works("--emb", root, "--scores", "sh.npy", want=field.wanted(X[HIVE], S[HIVE]))


def same_ids(field, got, emb, scores, ids, **more):
    """The ids of the selection that rows in this order give."""
    got.done()
    want = ids[field.wanted(emb, scores, **more)]
    assert Path("kept.txt").read_text().split("\n")[:-1] == want.tolist(), got.line


def test_partition_values_are_a_column(field):
    root = hive()
    array("sh.npy", S[HIVE])
    labels = ("--labels", root, "--labels-key", "centroid", "--balance", "uniform")
    want = field.wanted(X[HIVE], S[HIVE], "--balance", "uniform", labels=CENTROID[HIVE])
    got = field.works("--emb", root, "--scores", "sh.npy", *labels, want=want)
    got.has_line(root, "centroid")
    array("lh.npy", CENTROID[HIVE])
    want = field.wanted(X[HIVE], S[HIVE], "--within", "lh.npy")
    given = ("--within", root, "--labels-key", "centroid")
    field.works("--emb", root, "--scores", "sh.npy", *given, want=want)


@pytest.mark.parametrize(
    "given", ["kmeans/*/*.parquet", "kmeans/centroid=*", "kmeans/**/*.parquet"]
)
def test_partition_values_of_a_glob(field, given):
    hive()
    array("sh.npy", S[HIVE])
    labels = ("--labels", given, "--labels-key", "centroid", "--balance", "uniform")
    want = field.wanted(X[HIVE], S[HIVE], "--balance", "uniform", labels=CENTROID[HIVE])
    got = field.select("--emb", given, "--scores", "sh.npy", *labels)
    field.same(got, want) if got.code == 0 else got.refused()


def test_one_partition(field):
    hive()
    rows = np.flatnonzero(CENTROID == 3)
    array("s3.npy", S[rows])
    want = field.wanted(X[rows], S[rows])
    field.works("--emb", "kmeans/centroid=3", "--scores", "s3.npy", want=want)


def test_two_levels_of_partitions(field):
    year, month = np.arange(N) % 2 + 2023, np.arange(N) % 11 + 1
    for y in (2023, 2024):
        hive(f"h/year={y}", part="month={}", embeddings=X[year == y], values=month[year == y],
             id=IDS[year == y])  # fmt: skip
    order = np.lexsort((month, year))
    array("sh.npy", S[order])
    given = ("--emb", "h", "--scores", "sh.npy")
    field.works(*given, want=field.wanted(X[order], S[order]))
    for name, values in (("year", year), ("month", month)):
        labels = ("--labels", "h", "--labels-key", name, "--balance", "uniform")
        want = field.wanted(X[order], S[order], "--balance", "uniform", labels=values[order])
        field.works(*given, *labels, want=want)


def test_text_partitions(field):
    language = np.array(["de", "en", "pt BR", "zh"])[np.arange(N) % 4]
    for value in np.unique(language):
        rows = language == value
        write(f"h/lang={value.replace(' ', '%20')}/0.parquet", embedding=X[rows])
    order = np.argsort(language, kind="stable")
    array("sh.npy", S[order])
    labels = ("--labels", "h", "--labels-key", "lang", "--balance", "uniform")
    want = field.wanted(
        X[order], S[order], "--balance", "uniform", labels=(np.arange(N) % 4)[order]
    )
    got = field.select("--emb", "h", "--scores", "sh.npy", *labels)
    field.same(got, want) if got.code == 0 else got.refused(names=["h"])


def test_null_partition(field):
    """Spark and pandas write ``__HIVE_DEFAULT_PARTITION__`` where the value is null."""
    rows = np.arange(N) < 250
    write("h/c=1/0.parquet", embedding=X[rows])
    write("h/c=__HIVE_DEFAULT_PARTITION__/0.parquet", embedding=X[~rows])
    got = field.select("--emb", "h", *SCORES, "--labels", "h", "--labels-key", "c",
                       "--balance", "uniform")  # fmt: skip
    if got.code == 0:
        got.never_says("__HIVE_DEFAULT_PARTITION__")
    else:
        got.refused(names=["h"])


def test_hive_of_splits_is_refused(field):
    write("h/split=train/0.parquet", embedding=X[:240])
    write("h/split=test/0.parquet", embedding=X[240:])
    field.select("--emb", "h", *SCORES).refused("train", "test", names=["h"])


def test_hive_of_scores(field):
    """Both sides are hives, of different partitions."""
    hive("emb")
    hive("sc", part="shard={}", values=np.arange(N) % 3, id=IDS, score=S)
    got = field.select("--emb", "emb", "--scores", "sc", "--scores-key", "score", "--as", "id",
                       out="kept.txt")  # fmt: skip
    same_ids(field, got, X[HIVE], S[HIVE], IDS[HIVE])


def test_spark_folder(field):
    """Markers and checksums beside the parts are no data."""
    for i, rows in enumerate(np.split(np.arange(N), [140])):
        name = f"part-{i:05}-0123-c000.snappy.parquet"
        write(f"out/{name}", embedding=X[rows])
        Path(f"out/.{name}.crc").write_bytes(b"crc\0\0")
    Path("out/_SUCCESS").touch()
    Path("out/_metadata").write_bytes(b"PAR1")
    Path("out/_committed_123").write_text("{}")
    field.works("--emb", "out", *SCORES, want=field.wanted())


# -- D5: Array2D ----------------------------------------------------------------------------------
def array2d(x, shape, extension=True):
    """A column of ``datasets.Array2D``: nested lists; metadata of the field name the type."""
    values = pa.array([row.reshape(shape).tolist() for row in x], pa.list_(pa.list_(pa.float32())))
    metadata = {
        "ARROW:extension:name": "datasets.features.features.Array2DExtensionType",
        "ARROW:extension:metadata": json.dumps([list(shape), "float32"]),
    } if extension else None  # fmt: skip
    return pa.table([values], schema=pa.schema([pa.field("emb", values.type, metadata=metadata)]))


@pytest.mark.parametrize("ending", ["parquet", "arrow", "arrows"])
@pytest.mark.parametrize("extension", [True, False])
@pytest.mark.parametrize("shape", [(1, 16), (16, 1), (2, 8)])
def test_array2d(field, ending, extension, shape):
    e = write_table(f"e.{ending}", array2d(X, shape, extension))
    got = field.right("--emb", e, *SCORES, want=field.wanted(), names=[e])
    if shape == (1, 16):
        got.done()


@pytest.mark.parametrize("shape", [(16,), (1, 16)])
@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_tensors_of_one_shape(field, shape, ending):
    storage = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 16)
    kind = pa.fixed_shape_tensor(pa.float32(), shape)
    e = write_table(f"e.{ending}", pa.table({"emb": pa.ExtensionArray.from_storage(kind, storage)}))
    field.works("--emb", e, *SCORES, want=field.wanted())


def test_tensors_whose_dimensions_are_permuted(field):
    """Refused or read: the order of the entries does not change distances."""
    storage = pa.FixedSizeListArray.from_arrays(pa.array(X.ravel()), 16)
    kind = pa.fixed_shape_tensor(pa.float32(), (2, 8), permutation=[1, 0])
    e = write_table("e.arrow", pa.table({"emb": pa.ExtensionArray.from_storage(kind, storage)}))
    field.right("--emb", e, *SCORES, want=field.wanted(), names=[e])


def test_array2d_of_a_saved_data_set(field):
    saved("ds", 1)
    stream("ds/data-00000-of-00001.arrow", array2d(X, (1, 16)))
    field.works("--emb", "ds", *SCORES, want=field.wanted())
