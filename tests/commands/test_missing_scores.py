"""``--missing-scores spread``, from the command line."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli import build_graph, own_scores, propagate, select, spread_scores
from d2cli.graph import lists
from d2cli.messages import parts, sizes
from d2cli.messages.utility import utility

EMB = ("--emb", "emb.npy", "--scores", "scores.npy")
SPREAD = ("--missing-scores", "spread")


@pytest.fixture
def partial(data):
    """40 rows; every third one has a score."""
    data.missing = np.arange(data.n) % 3 > 0
    data.known = data.scores.copy()
    data.scores[data.missing] = np.nan
    np.save("scores.npy", data.scores)
    return data


def sidecar_of(path="selected.npy"):
    return json.loads(Path(f"{path}.json").read_text())


def decision_of(sidecar, name="missing_scores"):
    return next((one for one in sidecar["decisions"] if one["name"] == name), None)


def test_selection_equals_the_api(partial, run_cli):
    code, _, err = run_cli("select", *EMB, *SPREAD, "--size", 12, "--order", "rank")
    assert code == 0, err
    graph = build_graph(partial.emb, 10)
    filled = spread_scores(graph, partial.scores)
    u = propagate(graph, filled)
    kept = select(graph, u, 12, difficulty=own_scores(graph, u)).order
    assert np.load("selected.npy").tolist() == kept.tolist()
    assert "26 rows without score" in err
    assert "26 of 40 scores spread from the others along the graph, in 5 rounds" in err
    entry = sidecar_of()
    assert entry["parameters"]["missing_scores"] == "spread"
    assert entry["inputs"]["scores"]["rows_without_score"] == 26
    assert entry["bad_rows"]["dropped"] == 0
    assert decision_of(entry)["numbers"] == {
        "rows": 40, "missing": 26, "rounds": 5, "gamma_forward": 4.0,
    }  # fmt: skip


def test_explain_shows_the_rule(partial, run_cli):
    _, _, err = run_cli("select", *EMB, *SPREAD, "--size", 12, "--explain")
    assert "missing_scores" in err
    assert "over the neighbours that have a value" in err


def test_missing_scores_are_refused_by_default(partial, run_cli):
    code, _, err = run_cli("select", *EMB, "--size", 12)
    assert code == 1
    assert "scores.npy: row 1: score is nan; 26 of 40 rows cannot be used" in err
    assert "--missing-scores spread" in err
    assert run_cli("select", *EMB, "--size", 12, "--bad-rows", "drop")[0] == 0
    assert not partial.missing[np.load("selected.npy")].any()


def test_complete_scores_are_not_touched(data, run_cli):
    assert run_cli("select", *EMB, *SPREAD, "--size", 12, "--out", "a.npy")[0] == 0
    assert run_cli("select", *EMB, "--size", 12, "--out", "b.npy")[0] == 0
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()
    assert decision_of(sidecar_of("a.npy")) is None
    assert "rows_without_score" not in sidecar_of("a.npy")["inputs"]["scores"]


@pytest.mark.parametrize("direction", [[], ["--higher-is", "easier", "--score-transform", "shift"],
                                       ["--score-transform", "rank"]])  # fmt: skip
def test_staged_selection_equals_the_whole(partial, run_cli, direction):
    assert run_cli("select", *EMB, *SPREAD, *direction, "--size", 12)[0] == 0
    assert run_cli("graph", "--emb", "emb.npy", "--out", "g.arrow")[0] == 0
    given = ("--graph", "g.arrow", "--scores", "scores.npy")
    code, _, err = run_cli("propagate", *given, *SPREAD, *direction, "--out", "p.npy")
    assert code == 0, err
    assert "26 of 40 scores spread" in err
    assert np.isfinite(np.load("p.npy")).all()
    entry = sidecar_of("p.npy")
    assert decision_of(entry)["numbers"]["missing"] == 26
    assert entry["parameters"]["missing_scores"] == "spread"
    options = {"harder": {}, "easier": {"higher_is": "easier", "transform": "shift"}}
    meaning = options["easier" if "easier" in direction else "harder"]
    if "rank" in direction:
        meaning = {"transform": "rank"}
    values = np.full(40, np.nan)  # direction and transform come first, on known scores alone
    values[~partial.missing] = utility(partial.scores[~partial.missing], **meaning)
    graph = build_graph(partial.emb, 10)
    expected = propagate(graph, spread_scores(graph, values))
    assert np.load("p.npy").tobytes() == expected.tobytes()
    staged = ("--graph", "g.arrow", "--propagated", "p.npy", "--out", "staged.npy")
    assert run_cli("select", *staged, "--size", 12)[0] == 0
    assert Path("staged.npy").read_bytes() == Path("selected.npy").read_bytes()
    assert run_cli("select", *given, *SPREAD, *direction, "--size", 12, "--out", "b.npy")[0] == 0
    assert Path("b.npy").read_bytes() == Path("selected.npy").read_bytes()


def test_option_comes_too_late_after_propagate(partial, run_cli):
    assert run_cli("graph", "--emb", "emb.npy", "--out", "g.arrow")[0] == 0
    given = ("--graph", "g.arrow", "--scores", "scores.npy")
    assert run_cli("propagate", *given, *SPREAD, "--out", "p.npy")[0] == 0
    staged = ("--graph", "g.arrow", "--propagated", "p.npy", "--size", 12)
    assert run_cli("select", *staged, *SPREAD)[0] == 0
    code, _, err = run_cli("select", *staged, "--missing-scores", "refuse")
    assert code == 2
    assert "was propagated with --missing-scores spread, and --missing-scores refuse comes" in err
    Path("p.npy.json").unlink()
    code, _, err = run_cli("select", *staged, *SPREAD)
    assert code == 2
    assert "--missing-scores is for propagate" in err


def test_edges_in_files_and_threads_give_the_same_bytes(run_cli, monkeypatch):
    """3,000 rows with a score for one in 50, in memory and with little memory."""
    for module in (sizes, parts):
        monkeypatch.setattr(module, "PART_EDGES", 2_000)
    for module in (sizes, lists):
        monkeypatch.setattr(module, "RANGE_NUMBERS", 2_000)
    rng = np.random.default_rng(0)
    np.save("emb.npy", rng.normal(size=(3_000, 3)).astype("f4"))
    scores = rng.random(3_000)
    scores[rng.random(3_000) > 0.02] = np.nan
    np.save("scores.npy", scores)
    assert run_cli("graph", "--emb", "emb.npy", "--out", "g.arrow")[0] == 0
    given = ("--graph", "g.arrow", "--scores", "scores.npy", *SPREAD)
    written, peaks, planned = {}, [], ("--plan", "--json", "--out", "p.npy")
    for more in (SPREAD, ()):
        plan = run_cli("propagate", *given[:4], *more, *planned)[1]
        peaks.append(json.loads(plan)["memory"]["peak_bytes"])
    assert peaks[0] - peaks[1] >= 9 * 3_000
    plan = json.loads(run_cli("propagate", *given, "--max-memory", "1KiB", *planned)[1])
    assert plan["disk"]["work_dir_bytes"] > 0
    least = plan["memory"]["peak_bytes"] - plan["memory"]["parts"]["program"]
    for name, more in (
        ("one", ("--threads", 1)),
        ("two", ("--threads", 2)),
        ("files", ("--max-memory", least)),
    ):
        code, _, err = run_cli("propagate", *given, *more, "--out", f"{name}.npy")
        assert code == 0, err
        written[name] = Path(f"{name}.npy").read_bytes()
    assert written["one"] == written["two"] == written["files"]


def test_rows_without_a_way_to_a_score_are_refused(run_cli):
    emb = np.repeat([[0.0, 0.0], [9.0, 9.0]], 12, axis=0) + np.random.default_rng(0).random((24, 2))
    np.save("emb.npy", emb)
    scores = np.full(24, np.nan)
    scores[3] = 1.0
    np.save("scores.npy", scores)
    code, _, err = run_cli("select", *EMB, *SPREAD, "-k", 3, "--size", 5)
    assert code == 1
    assert (
        "scores.npy: row 12: has no score and no way along the graph to a row that has one" in err
    )
    assert "this is so for 12 of the 23 rows without score" in err
    assert "hint: more neighbours (-k) connect more rows" in err
    Path("far.txt").write_text("".join(f"{row}\n" for row in range(12, 24)))
    left_out = ("--exclude", "far.txt")
    assert run_cli("select", *EMB, *SPREAD, "-k", 3, "--size", 5, *left_out)[0] == 0
    np.save("scores.npy", np.full(24, np.nan))
    code, _, err = run_cli("select", *EMB, *SPREAD, "--size", 5)
    assert code == 1
    assert "scores.npy: no row has a score" in err


def test_infinite_scores_stay_bad_rows(partial, run_cli):
    partial.scores[[3, 6]] = np.inf
    np.save("scores.npy", partial.scores)
    code, _, err = run_cli("select", *EMB, *SPREAD, "--size", 12)
    assert code == 1
    assert "scores.npy: row 3: score is inf; 2 of 40 rows cannot be used: 3, 6" in err
    assert run_cli("select", *EMB, *SPREAD, "--size", 12, "--bad-rows", "drop")[0] == 0
    assert sidecar_of()["bad_rows"]["inputs"]["scores"]["rows"] == [3, 6]
    assert decision_of(sidecar_of())["numbers"]["missing"] == 26


@pytest.mark.parametrize("cutoff", ["0.2", "auto"])
def test_cutoff_goes_by_spread_scores(partial, run_cli, cutoff):
    """A number too: before the graph is built, the hardest rows cannot be known."""
    options = ("--cutoff", cutoff, "--gamma-reverse", 1, "--size", 12)
    assert run_cli("select", *EMB, *SPREAD, *options)[0] == 0
    graph = build_graph(partial.emb, 10)
    filled = spread_scores(graph, partial.scores)
    u = propagate(graph, filled)
    kept = select(
        graph, u, 12, gamma_reverse=1.0, cutoff=0.2 if cutoff == "0.2" else "auto",
        difficulty=filled if cutoff == "0.2" else own_scores(graph, u),
    )  # fmt: skip
    assert np.load("selected.npy").tolist() == sorted(kept.order.tolist())
    assert sidecar_of()["counts"]["cut_off"] == kept.cut
    if cutoff == "0.2":
        assert kept.cut == 8


def test_cutoff_by_complete_scores_comes_before_the_graph(partial, run_cli):
    np.save("other.npy", partial.known)
    options = ("--cutoff", 0.2, "--cutoff-scores", "other.npy", "--size", 12)
    assert run_cli("select", *EMB, *SPREAD, *options)[0] == 0
    cut = np.argsort(-partial.known)[:8]
    assert not {*cut.tolist()} & {*np.load("selected.npy").tolist()}
    assert decision_of(sidecar_of())["numbers"]["missing"] == (
        partial.missing.sum() - partial.missing[cut].sum()
    )


def test_scores_of_tables_are_null_where_they_were(partial, run_cli):
    scores = pa.array(partial.scores, mask=partial.missing)
    pq.write_table(pa.table({"el2n": scores}), "scores.parquet")
    given = ("--emb", "emb.npy", "--scores", "scores.parquet", *SPREAD)
    code, _, err = run_cli("select", *given, "--size", 20, "--out", "kept.parquet")
    assert code == 0, err
    kept = pq.read_table("kept.parquet")
    rows = np.array(kept["index"])
    assert kept["score"].is_null().to_pylist() == partial.missing[rows].tolist()
    assert kept["propagated"].null_count == 0


@pytest.mark.parametrize("extra", [[], ["--pilot"]])
def test_plan_and_pilot_work_with_missing_scores(partial, run_cli, extra):
    if extra:  # samples of the pilot may have no score at all
        scores = np.full(40, np.nan)
        scores[7] = 1.0
        np.save("scores.npy", scores)
    code, out, err = run_cli("select", *EMB, *SPREAD, "--size", 12, "--plan", *extra, "--json")
    assert code == 0, err
    notices = json.loads(out)["notices"]
    assert any("time is without missing scores" in one for one in notices) == bool(extra)
