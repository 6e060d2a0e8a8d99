"""``select --cost``, from the command line."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli import build_graph, own_scores, propagate, select
from d2cli.messages.utility import utility

EMB = ("--emb", "emb.npy", "--scores", "scores.npy")


@pytest.fixture
def priced(data):
    """40 rows that cost 1 … 9 each, as ``tokens.npy``."""
    data.costs = np.random.default_rng(3).integers(1, 10, data.n)
    np.save("tokens.npy", data.costs)
    return data


def sidecar_of(path="selected.npy"):
    return json.loads(Path(f"{path}.json").read_text())


def test_selection_equals_the_api(priced, run_cli):
    code, _, err = run_cli("select", *EMB, "--cost", "tokens.npy", "--cost-budget", "60")
    assert code == 0, err
    graph = build_graph(priced.emb, 10)
    u = propagate(graph, utility(priced.scores))
    kept = select(
        graph, u, costs=priced.costs, cost_budget=60.0,
        scores=own_scores(graph, u), difficulty=own_scores(graph, u),
    ).order  # fmt: skip
    assert np.load("selected.npy").tolist() == sorted(kept.tolist())
    spent = int(priced.costs[kept].sum())
    entry = sidecar_of()
    assert 51 < spent <= 60
    assert entry["selection"]["cost_spent"] == spent
    assert entry["selection"]["cost_left"] == 60 - spent
    assert entry["parameters"]["cost_budget"] == 60
    assert entry["parameters"]["size"] is entry["parameters"]["ratio"] is None
    assert entry["inputs"]["cost"]["rows"] == 40
    assert entry["inputs"]["cost"]["fingerprint"]
    assert [d["value"] for d in entry["decisions"] if d["name"] == "size"] == [
        int(60 * 40 / priced.costs.sum())
    ]
    assert f"{spent} of 60 spent" in err
    left = f"{60 - spent} of the cost budget of 60 is left: the next pick would exceed it"
    assert (left in err) == (spent < 60)


def test_budgets_nest_and_name_their_outputs(priced, run_cli):
    budgets = ("--cost-budget", "2e1", "--cost-budget", "90", "--cost-budget", "60.5")
    fixed = ("--gamma-reverse", 1, "--cost", "tokens.npy")
    assert run_cli("select", *EMB, *fixed, *budgets, "--order", "rank")[0] == 0
    less, some, more = (
        np.load(f"selected_{budget}.npy").tolist() for budget in ("2e1", "60.5", "90")
    )
    assert more[: len(some)] == some
    assert some[: len(less)] == less
    assert len(less) < len(some) < len(more)
    for budget, rows in (("2e1", less), ("60.5", some), ("90", more)):
        assert priced.costs[rows].sum() <= float(budget)
        assert run_cli("select", *EMB, *fixed, "--cost-budget", budget, "--order", "rank")[0] == 0
        assert np.load("selected.npy").tolist() == rows
    # Each ends before a pick that would exceed it.
    assert priced.costs[more[: len(less) + 1]].sum() > 20
    assert priced.costs[more[: len(some) + 1]].sum() > 60.5


def test_several_budgets_are_summed_up(priced, run_cli):
    budgets = ("--cost-budget", "30", "--cost-budget", "300", "--out", "k-{cost}.parquet")
    code, out, err = run_cli("select", *EMB, "--cost", "tokens.npy", *budgets, "--json")
    assert code == 0, err
    assert [one["cost_budget"] for one in json.loads(out)["selections"]] == [30, 300]
    assert sidecar_of("k-300.parquet")["counts"]["kept"] == 40
    whole = priced.costs.sum()
    left = f"k-300.parquet: {300 - whole} of the cost budget of 300 is left: every row that"
    assert any(notice.startswith(left) for notice in json.loads(out)["notices"])
    assert pq.read_table("k-30.parquet")["index"].to_pylist()


def test_classes_share_the_budget(priced, run_cli):
    shared = ("--cost", "tokens.npy", "--cost-budget", 90, "--labels", "labels.npy")
    for balance in ("proportional", "uniform"):
        code, _, err = run_cli("select", *EMB, *shared, "--balance", balance)
        assert code == 0, err
        kept = np.load("selected.npy")
        spent = np.bincount(priced.labels[kept], priced.costs[kept], 3)
        whole = np.bincount(priced.labels, priced.costs, 3)
        shares = np.full(3, 30.0) if balance == "uniform" else 90 * whole / whole.sum()
        assert (whole > shares).all()
        assert (spent <= shares).all()
        assert (spent > shares - 9).all()
        assert "left: each class ends before the pick that would exceed its share" in err


def test_included_rows_count_first_and_excluded_rows_cost_nothing(priced, run_cli):
    Path("in.txt").write_text("3\n5\n")
    Path("out.txt").write_text("7\n")
    costs = priced.costs.astype(float)
    costs[[3, 5]], costs[7] = [40, 20.5], np.nan  # an excluded row is not looked at
    np.save("tokens.npy", costs)
    rows = ("--include", "in.txt", "--exclude", "out.txt", "--cost", "tokens.npy")
    assert run_cli("select", *EMB, *rows, "--cost-budget", "60.5")[0] == 0
    assert np.load("selected.npy").tolist() == [3, 5]
    assert run_cli("select", *EMB, *rows, "--cost-budget", "100")[0] == 0
    kept = np.load("selected.npy")
    assert {3, 5} < {*kept.tolist()}
    assert costs[kept].sum() <= 100
    code, _, err = run_cli("select", *EMB, *rows, "--cost-budget", "60")
    assert code == 2
    assert "the included rows cost 60.5, more than the budget of 60" in err


def test_costs_are_joined_by_id(priced, run_cli):
    ids = pa.array(priced.ids)
    pq.write_table(pa.table({"id": ids, "el2n": priced.scores}), "scores.parquet")
    emb = pa.array(list(priced.emb))
    pq.write_table(pa.table({"id": ids, "embedding": emb}), "emb.parquet")
    shuffled = np.random.default_rng(1).permutation(priced.n)
    for name, rows in (("a", shuffled[:15]), ("b", shuffled[15:])):
        table = {"id": ids.take(pa.array(rows)), "n_tokens": priced.costs[rows], "score": rows}
        pq.write_table(pa.table(table), f"{name}.parquet")
    wanted = ("--cost-budget", 80, "--gamma-reverse", 1)
    assert run_cli("select", *EMB, "--cost", "tokens.npy", *wanted)[0] == 0
    by_row = np.load("selected.npy").tolist()
    tables = ("--emb", "emb.parquet", "--scores", "scores.parquet", "--cost", "a.parquet")
    code, _, err = run_cli("select", *tables, "--cost", "b.parquet", *wanted)
    assert code == 0, err
    assert np.load("selected.npy").tolist() == by_row
    assert "n_tokens" in err
    assert sidecar_of()["inputs"]["cost"]["joined"] == "by id"
    keyed = ("--cost", "a.parquet", "--cost", "b.parquet", "--cost-key", "score")
    assert run_cli("select", *tables[:4], *keyed, *wanted)[0] == 0
    assert np.load("selected.npy").tolist() != by_row


@pytest.mark.parametrize(("value", "says"), [(np.nan, "cost is nan"), (np.inf, "cost is inf"),
                                             (-2.0, "cost is negative (-2)")])  # fmt: skip
def test_bad_costs_are_refused_or_dropped(priced, run_cli, value, says):
    costs = priced.costs.astype(float)
    costs[[4, 9]] = value
    np.save("tokens.npy", costs)
    wanted = (*EMB, "--cost", "tokens.npy", "--cost-budget", 100)
    code, _, err = run_cli("select", *wanted)
    assert code == 1
    assert f"tokens.npy: row 4: {says}; 2 of 40 rows cannot be used: 4, 9" in err
    assert "--bad-rows drop leaves them out" in err
    assert run_cli("select", *wanted, "--bad-rows", "drop")[0] == 0
    assert not {4, 9} & {*np.load("selected.npy").tolist()}
    assert sidecar_of()["bad_rows"]["inputs"]["cost"]["rows"] == [4, 9]


def test_sums_beyond_float64_name_the_file(priced, run_cli):
    np.save("tokens.npy", np.full(40, 1e308))
    code, _, err = run_cli("select", *EMB, "--cost", "tokens.npy", "--cost-budget", 100)
    assert code == 1
    assert "tokens.npy: costs add up beyond float64" in err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--cost-budget", "9", "--ratio", "0.5"], "--cost-budget and --ratio are two kinds"),
        (["--cost-budget", "9", "--size", "5"], "--cost-budget and --size are two kinds"),
        (["--cost-budget", "9"], "--cost-budget needs --cost"),
        (["--cost", "tokens.npy"], "--cost needs --cost-budget"),
        (["--cost", "tokens.npy", "--ratio", "0.5"], "--cost needs --cost-budget"),
        (["--cost", "tokens.npy", "--cost-budget", "0"], "must be a number above 0, not 0"),
        (["--cost", "tokens.npy", "--cost-budget", "inf"], "must be a number above 0, not inf"),
        (["--cost", "tokens.npy", "--cost-budget", "1 GB"], "must be a number, not '1 GB'"),
        (["--cost", "tokens.npy", "--cost-budget", "0.5"], "the first pick costs more than"),
        (
            ["--cost", "tokens.npy", "--cost-budget", "9", "--out", "{size}.npy"],
            "{size} in --out is not known before the selection",
        ),
        (
            ["--cost", "tokens.npy", "--cost-budget", "9", "--out", "{ratio}.npy"],
            "{ratio} in --out needs every budget to be a --ratio",
        ),
        (["--ratio", "0.5", "--out", "{cost}.npy"], "{cost} in --out needs --cost-budget"),
        (
            ["--cost", "tokens.npy", "--cost-budget", "9", "--cost-budget", "8", "--out", "o.npy"],
            "several budgets would be written to o.npy",
        ),
    ],
)
def test_requests_that_make_no_sense(priced, run_cli, options, says):
    code, _, err = run_cli("select", *EMB, *options)
    assert code == 2
    assert says in err
    assert "hint:" in err or "'1 GB'" in err
    assert not list(Path().glob("*.json"))


@pytest.mark.parametrize("extra", [[], ["--pilot"]])
@pytest.mark.parametrize("complement", [[], ["--complement"]])
def test_plan_reads_costs(priced, run_cli, extra, complement):
    wanted = ("--cost", "tokens.npy", "--cost-budget", 20, "--cost-budget", 30, *complement)
    code, out, err = run_cli("select", *EMB, *wanted, "--plan", *extra, "--json")
    assert code == 0, err
    outputs = json.loads(out)["disk"]["outputs"]
    assert [one["path"] for one in outputs] == ["selected_20.npy", "selected_30.npy"]
    assert "tokens.npy" in out
    assert all(one["bytes"] >= 8 * 40 for one in outputs)


def test_decision_is_explained_only_if_a_rule_uses_it(priced, run_cli):
    wanted = ("--cost", "tokens.npy", "--cost-budget", 60, "--explain")
    assert "the rows that b_c buys" in run_cli("select", *EMB, *wanted)[2]
    assert "the rows that b_c buys" not in run_cli("select", *EMB, *wanted, "--gamma-reverse", 1)[2]
