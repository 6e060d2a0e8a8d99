"""``--explain`` prints what provenance records of each automatic decision."""

import json
from pathlib import Path

import numpy as np
import pytest

DATA = ["--emb", "emb.npy", "--scores", "scores.npy"]


def recorded(path):
    return json.loads(Path(f"{path}.json").read_text())["decisions"]


@pytest.mark.parametrize(("ratio", "thinning"), [("0.05", ["thinning"]), ("0.2", [])])
def test_explain_prints_the_recorded_decisions(select, data, ratio, thinning):
    code, out, err = select(*DATA, "--ratio", ratio, "--explain")
    assert (code, out) == (0, "")
    decisions = recorded("selected.npy")
    names = [decision["name"] for decision in decisions]
    assert names == [
        *("method", "higher_is", "bandwidth", "own_scores", "cutoff", "keep_lift"),
        *(*thinning, "gamma_reverse"),
    ]
    lines = {line.split(None, 1)[0]: line for line in err.splitlines() if line.strip()}
    for decision in decisions:
        assert lines[decision["name"]].endswith(str(decision["value"]))
        assert decision["rule"] in err
        assert all(name in lines for name in decision["numbers"])
    assert err.count("bounds") == 1
    assert lines["bounds"].split(None, 1)[1] == "0.01 … 100"


def test_decisions_are_printed_on_request_only(select, data):
    assert "rule" not in select(*DATA, "--ratio", "0.2")[2]


def test_given_values_are_no_decisions(select, data):
    options = ["--gamma-reverse", "1", "--bandwidth", "2", "--method", "exact", "--cutoff", "0"]
    assert select(*DATA, "--ratio", "0.2", *options, "--explain", "-q")[0] == 0
    assert [decision["name"] for decision in recorded("selected.npy")] == ["higher_is"]


@pytest.mark.parametrize("command", ["graph", "propagate", "score"])
def test_every_command_explains(command, run_cli, data):
    assert run_cli("graph", *DATA[:2], "-k", 4, "--out", "g.arrow", "-q")[0] == 0
    line = {
        "graph": ["graph", *DATA[:2], "-k", 4, "--out", "out.arrow"],
        "propagate": ["propagate", "--graph", "g.arrow", *DATA[2:], "--out", "out.npy"],
        "score": ["score", "--kind", "knn-distance", *DATA[:2], "-k", 4, "--out", "out.npy"],
    }[command]
    code, _, err = run_cli(*line, "--explain")
    assert code == 0
    (output,) = Path().glob("out.*[!n]") if command == "graph" else Path().glob("out.npy")
    found = recorded(output)
    assert found
    assert all(decision["rule"] in err for decision in found)


def test_the_numbers_of_the_cutoff_follow_its_rule(select, data):
    scores = np.where(np.arange(data.n) < 12, 8.0, 1.0) + np.arange(data.n) / 1000
    np.save("scores.npy", scores)
    assert select(*DATA, "--size", 4, "--explain", "-q")[0] == 0
    (cutoff,) = (d for d in recorded("selected.npy") if d["name"] == "cutoff")
    numbers = cutoff["numbers"]
    assert numbers["above_threshold"] == 12
    wanted = max(numbers["hard"] - numbers["size"] // 2, numbers["scattered"])
    assert cutoff["value"] == min(wanted, numbers["rows"] // 2)


def test_own_scores_are_the_propagated_ones_without_hops(select, data):
    for hops, value in ((0, "the propagated scores"), (1, "estimated from the propagated scores")):
        assert select(*DATA, "--ratio", "0.2", "--hops", hops, "-q")[0] == 0
        (found,) = (d for d in recorded("selected.npy") if d["name"] == "own_scores")
        assert (found["value"], found["numbers"]["hops"]) == (value, hops)
