"""Every output records its provenance, and the next step checks its inputs against it."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli import __version__
from d2cli.files.provenance.fingerprint import fingerprint

PACKAGES = {"d2prune", "python", "numpy", "pyarrow", "numba", "hnswlib"}


@pytest.fixture
def staged(data, run_cli):
    """A graph and scores propagated on it."""
    assert run_cli("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.arrow")[0] == 0
    args = ["--graph", "g.arrow", "--scores", "scores.npy", "--out", "p.npy"]
    assert run_cli("propagate", *args, "--edges", "mutual", "--gamma-forward", 0.5)[0] == 0


def beside(path):
    return json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))


def check_input(entry, path, rows):
    assert entry["path"] == path
    assert entry["size"] == os.path.getsize(path)
    assert entry["rows"] == rows
    assert entry["fingerprint"] == fingerprint([Path(path)])


def check_common(entry, path, command):
    assert entry["format_version"] == 1
    assert entry["program"] == "d2prune"
    assert entry["command"] == command
    assert set(entry["versions"]) == PACKAGES
    assert entry["versions"]["d2prune"] == __version__
    assert entry["versions"]["numpy"] == np.__version__
    assert entry["output"] == {
        "size": os.path.getsize(path),
        "fingerprint": fingerprint([Path(path)]),
    }
    assert entry["run"]["threads"] >= 1
    assert entry["run"]["peak_memory_bytes"] > 1 << 20
    seconds = entry["run"]["seconds"]
    assert seconds["total"] >= max(seconds.values()) >= 0


# -- what is recorded -----------------------------------------------------------------------------
def test_sidecar_of_a_graph(staged):
    entry = beside("g.arrow")
    check_common(entry, "g.arrow", "graph")
    check_input(entry["inputs"]["emb"], "emb.npy", 40)
    assert entry["parameters"]["n_neighbors"] == 4
    assert entry["parameters"]["seed"] == 0
    assert {"graph", "write"} <= set(entry["run"]["seconds"])


def test_sidecar_of_propagated_scores(staged):
    entry = beside("p.npy")
    check_common(entry, "p.npy", "propagate")
    check_input(entry["inputs"]["graph"], "g.arrow", 40)
    check_input(entry["inputs"]["scores"], "scores.npy", 40)
    asked = {"edges": "mutual", "gamma_forward": 0.5, "kernel": "gaussian", "higher_is": "harder"}
    assert entry["parameters"].items() >= asked.items()
    assert entry["counts"]["rows"] == 40
    assert entry["messages"]["sigma"] > 0
    values = np.load("p.npy")
    assert values.dtype == np.float64
    assert values.shape == (40,)


def test_sidecar_of_a_selection(data, select):
    Path("in.txt").write_text("1\n2\n")
    Path("out.txt").write_text("3\n")
    code, _, _ = select(
        *("--emb", "emb.npy", "--scores", "scores.npy", "--labels", "labels.npy", "--seed", 9),
        *("--ratio", "0.40", "--balance", "uniform", "--cutoff", 0.1, "--cutoff-scores"),
        *("scores.npy", "--include", "in.txt", "--exclude", "out.txt", "--metric", "cosine"),
    )
    assert code == 0
    entry = beside("selected.npy")
    check_common(entry, "selected.npy", "select")
    for name, path in (
        ("emb", "emb.npy"), ("scores", "scores.npy"), ("labels", "labels.npy"),
        ("cutoff_scores", "scores.npy"),
    ):  # fmt: skip
        check_input(entry["inputs"][name], path, 40)
    check_input(entry["inputs"]["include"][0], "in.txt", 2)
    check_input(entry["inputs"]["exclude"][0], "out.txt", 1)
    asked = {
        "ratio": 0.4, "size": None, "balance": "uniform", "cutoff": 0.1, "metric": "cosine",
        "seed": 9, "n_neighbors": 4, "gamma_reverse": "auto", "as": "index", "order": "index",
        "complement": False, "mode": "default", "edges": "union", "kernel": "gaussian",
        "bandwidth": "median", "gamma_forward": 4.0, "hops": 1, "score_transform": "none",
    }  # fmt: skip
    assert entry["parameters"].items() >= asked.items()
    counts = {"rows": 40, "included": 2, "cut_off": 4, "excluded": 1, "dropped": 0, "kept": 16}
    assert entry["counts"].items() >= counts.items()
    assert entry["selection"]["gamma_reverse"] > 0
    assert entry["graph"]["method"] == "exact"
    assert {"read", "graph", "propagate", "select", "write"} <= set(entry["run"]["seconds"])


def test_provenance_names_fields_and_files(data, select):
    Path("shards").mkdir()
    for i, rows in enumerate(np.split(np.arange(40), [15])):
        table = pa.table({"vec": data.emb[rows].tolist(), "el2n": data.scores[rows]})
        pq.write_table(table, f"shards/{i}.parquet")
    assert select("--emb", "shards", "--scores", "shards", "--size", 5)[0] == 0
    inputs = beside("selected.npy")["inputs"]
    assert inputs["emb"]["path"] == ["shards/0.parquet", "shards/1.parquet"]
    assert inputs["emb"]["rows"] == 40
    assert (inputs["emb"]["field"], inputs["scores"]["field"]) == ("vec", "el2n")


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_tables_have_provenance_in_their_metadata(data, select, ending):
    args = ["--emb", "emb.npy", "--scores", "scores.npy", "--ratio", "0.2"]
    assert select(*args, "--out", f"k{ending}")[0] == 0
    if ending == ".parquet":
        schema = pq.read_schema(f"k{ending}")
    else:
        schema = pa.ipc.open_file(f"k{ending}").schema
    inside = json.loads(schema.metadata[b"d2prune"])
    whole = beside(f"k{ending}")
    check_common(whole, f"k{ending}", "select")
    assert inside == {k: v for k, v in whole.items() if k not in ("output", "run")}


def test_each_budget_has_its_own_sidecar(data, select):
    args = ["--emb", "emb.npy", "--scores", "scores.npy"]
    assert select(*args, "--ratio", "0.1", "--ratio", "0.2", "--out", "k_{ratio}.npy")[0] == 0
    for ratio, kept in (("0.1", 4), ("0.2", 8)):
        entry = beside(f"k_{ratio}.npy")
        check_common(entry, f"k_{ratio}.npy", "select")
        assert entry["parameters"]["ratio"] == float(ratio)
        assert entry["counts"]["kept"] == kept


def test_standard_output_writes_no_sidecar(data, select, tmp_path):
    before = sorted(tmp_path.iterdir())
    args = ["--emb", "emb.npy", "--scores", "scores.npy", "--ratio", "0.2", "--out", "-"]
    assert select(*args)[0] == 0
    assert sorted(tmp_path.iterdir()) == before


def test_json_summary_equals_the_sidecar(data, select):
    args = ["--emb", "emb.npy", "--scores", "scores.npy", "--ratio", "0.2", "--json"]
    code, out, _ = select(*args)
    assert code == 0
    said, whole = json.loads(out), beside("selected.npy")
    assert said["outputs"] == ["selected.npy"]
    same = set(whole) - {"output", "run"}
    assert {k: said[k] for k in same} == {k: whole[k] for k in same}


# -- what is checked ------------------------------------------------------------------------------
FROM_P = ["--graph", "g.arrow", "--propagated", "p.npy", "--size", 9]


def test_select_inherits_the_settings_of_propagate(staged, select):
    assert select(*FROM_P)[0] == 0
    assert beside("selected.npy")["parameters"].items() >= {"edges": "mutual"}.items()
    assert beside("selected.npy")["parameters"]["gamma_forward"] == 0.5
    assert select(*FROM_P, "--edges", "union")[0] == 0
    assert beside("selected.npy")["parameters"]["edges"] == "union"


def test_a_changed_file_is_refused(staged, select):
    values = np.load("p.npy")
    values[7] += 1
    np.save("p.npy", values)
    code, out, err = select(*FROM_P)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "error: p.npy: is not the file that p.npy.json describes: it has changed since",
        "hint: make it again, or remove p.npy.json if the change was intended",
    ]
    assert not Path("selected.npy").exists()
    Path("p.npy.json").unlink()
    assert select(*FROM_P)[0] == 0


def test_a_graph_built_again_from_other_data_is_refused(staged, data, run_cli, select):
    np.save("emb.npy", data.emb + 1 / 64)
    assert run_cli("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.arrow")[0] == 0
    code, _, err = select(*FROM_P)
    assert code == 1
    assert err.startswith("error: p.npy: was propagated on another graph than g.arrow\n")


def test_a_graph_built_again_from_the_same_data_is_accepted(staged, run_cli, select):
    assert run_cli("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.arrow", "--threads", 1)[0] == 0
    assert select(*FROM_P)[0] == 0


def test_moved_files_are_accepted(staged, select):
    Path("there").mkdir()
    for name in ("g.arrow", "p.npy", "p.npy.json"):
        os.rename(name, f"there/{name}")
    args = ["--graph", "there/g.arrow", "--propagated", "there/p.npy", "--size", 9]
    assert select(*args)[0] == 0
    assert beside("selected.npy")["parameters"]["edges"] == "mutual"


def test_embeddings_given_with_a_graph_must_be_its_own(staged, data, select):
    args = ["--graph", "g.arrow", "--emb", "emb.npy", "--scores", "scores.npy", "--size", 9]
    assert select(*args)[0] == 0
    data.emb[0, 0] += 1
    np.save("emb.npy", data.emb)
    code, _, err = select(*args)
    assert code == 1
    assert err.startswith("error: g.arrow: was not built from emb.npy\n")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"program": "another"}', "\xff"])
def test_other_json_files_are_ignored(staged, select, text):
    Path("p.npy.json").write_text(text, encoding="latin-1")
    assert select(*FROM_P)[0] == 0


OTHER = "p.npy.json is damaged, or of another version of d2prune"
DAMAGED = "p.npy.json is damaged: {!r} is not an object"


@pytest.mark.parametrize(
    ("part", "value", "says"),
    [
        ("format_version", 2, OTHER),
        ("parameters", None, OTHER),
        ("inputs", 3, DAMAGED.format("inputs")),
        ("inputs", {}, "was propagated on another graph"),
        ("output", [], DAMAGED.format("output")),
        ("output", {}, "it has changed since"),
    ],
)
def test_damaged_sidecars_are_refused(staged, select, part, value, says):
    Path("p.npy.json").write_text(json.dumps({**beside("p.npy"), part: value}))
    code, _, err = select(*FROM_P)
    assert code == 1
    assert err.startswith("error: p.npy: ")
    assert says in err.splitlines()[0]


# -- decisions ------------------------------------------------------------------------------------
STEPS = {
    "graph": (["graph", "--emb", "emb.npy", "--out", "g2.arrow"], "g2.arrow", {"method"}),
    "propagate": (
        ["propagate", "--graph", "g.arrow", "--scores", "scores.npy", "--out", "p2.npy"],
        "p2.npy",
        {"higher_is", "bandwidth"},
    ),
    "select": (
        ["select", "--emb", "emb.npy", "--scores", "scores.npy", "--ratio", "0.1"],
        "selected.npy",
        {"method", "higher_is", "bandwidth", "own_scores", "cutoff", "keep_lift"}
        | {"thinning", "gamma_reverse"},
    ),
    "score": (
        ["score", "--kind", "knn-distance", "--emb", "emb.npy", "--out", "o.npy"],
        "o.npy",
        {"method"},
    ),
}


@pytest.mark.parametrize("command", STEPS)
def test_decisions_are_recorded_as_json(staged, run_cli, command):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    line, out, names = STEPS[command]
    assert run_cli(*line)[0] == 0
    text = Path(f"{out}.json").read_text(encoding="utf-8")
    decisions = json.loads(text, parse_constant=refuse)["decisions"]
    assert {decision["name"] for decision in decisions} == names
    for decision in decisions:
        assert set(decision) == {"name", "value", "rule", "numbers"}
        assert isinstance(decision["rule"], str) and decision["rule"]
        assert isinstance(decision["numbers"], dict)


# -- fingerprints ---------------------------------------------------------------------------------
@given(st.binary(min_size=1, max_size=50), st.integers(0, 49), st.integers(1, 255))
def test_fingerprint_changes_with_any_byte_of_a_small_file(tmp_path_factory, content, at, flip):
    path = tmp_path_factory.mktemp("f") / "f"
    path.write_bytes(content)
    first = fingerprint([path])
    assert fingerprint([path]) == first
    changed = bytearray(content)
    changed[at % len(content)] ^= flip
    path.write_bytes(changed)
    assert fingerprint([path]) != first
    path.write_bytes(content + b"\0")
    assert fingerprint([path]) != first


def test_fingerprint_samples_the_whole_of_a_large_file(tmp_path):
    path = tmp_path / "large"
    values = np.zeros(20 << 20, np.uint8)
    values.tofile(path)
    seen = {fingerprint([path])}
    for at in (0, 65_535, values.size - 65_536, values.size - 1):
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"\1")
        seen.add(fingerprint([path]))
    with path.open("ab") as file:
        file.write(b"\0")
    seen.add(fingerprint([path]))
    assert len(seen) == 6


def test_fingerprint_depends_on_the_order_of_files(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"12")
    b.write_bytes(b"3")
    assert fingerprint([a, b]) != fingerprint([b, a])
    a.write_bytes(b"1")
    first = fingerprint([a, b])
    b.write_bytes(b"23")
    assert fingerprint([a, b]) != first
