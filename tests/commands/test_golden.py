"""The research code's dense sampler, reproduced through the command line.

The cases are what the public implementation of D2 pruning (MIT licence) computed: see
tests/golden/README.md.
"""

from pathlib import Path

import numpy as np
import pytest

from d2cli.cli.main import run
from tests import naive

CASES = sorted((Path(__file__).parents[1] / "golden").glob("*.npz"))


@pytest.fixture(params=CASES, ids=lambda p: p.stem)
def case(request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with np.load(request.param) as archive:
        values = dict(archive)
    np.save("emb.npy", values["embeddings"])
    np.save("s.npy", values["scores"])
    values["k"] = str(int(values["n_neighbors"]))
    values["gamma"] = str(float(values["gamma_reverse"]))
    values["size"] = str(len(values["order"]))
    return values


def test_select_in_one_step_equals_the_research_code(case):
    code = run([
        *("select", "--emb", "emb.npy", "--scores", "s.npy", "--mode", "reference", "-q"),
        *("-k", case["k"], "--gamma-reverse", case["gamma"], "--size", case["size"]),
        *("--order", "rank", "--out", "order.npy"),
    ])  # fmt: skip
    assert code == 0
    np.testing.assert_array_equal(np.load("order.npy"), case["order"])


def test_select_in_three_steps_equals_the_research_code(case):
    assert run(["graph", "--emb", "emb.npy", "-k", case["k"], "--out", "g.arrow", "-q"]) == 0
    forward = ["--graph", "g.arrow", "--scores", "s.npy", "--mode", "reference", "-q"]
    assert run(["propagate", *forward, "--out", "p.npy"]) == 0
    np.testing.assert_allclose(np.load("p.npy"), case["forward"], rtol=0, atol=1e-6)
    code = run([
        *("select", "--graph", "g.arrow", "--propagated", "p.npy", "-q"),
        *("--gamma-reverse", case["gamma"], "--size", case["size"]),
        *("--order", "rank", "--out", "order.npy"),
    ])  # fmt: skip
    assert code == 0
    np.testing.assert_array_equal(np.load("order.npy"), case["order"])


def test_options_of_the_mode_give_its_forward_pass(case):
    assert run(["graph", "--emb", "emb.npy", "-k", case["k"], "--out", "g.arrow", "-q"]) == 0
    code = run([
        *("propagate", "--graph", "g.arrow", "--scores", "s.npy", "--out", "p.npy", "-q"),
        *("--kernel", "exponential", "--bandwidth", "1", "--gamma-forward", "1"),
    ])  # fmt: skip
    assert code == 0
    np.testing.assert_allclose(np.load("p.npy"), case["forward"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("scores", ["some negative", "all negative"])
def test_negative_scores_are_taken_as_they_are(data, run_cli, scores):
    """A neighbour sends at least the floor of the mode; picks are not clamped at 0."""
    values = data.scores - (2.0 if scores == "some negative" else 9.0)
    assert (values < 0).sum() == (15 if scores == "some negative" else data.n)
    np.save("s.npy", values)
    listed = naive.knn(data.emb, 4)
    edges = naive.edges(*listed, "union")
    u = naive.forward(edges, values, "exponential", 1.0, 1.0, floor=1e-7)
    order, _ = naive.greedy(edges, u, 20, "exponential", 1.0, 0.5, clamped=False)
    mode = ["--mode", "reference", "-q"]
    one = ["select", "--emb", "emb.npy", "--scores", "s.npy", "-k", 4, *mode]
    pick = ["--gamma-reverse", 0.5, "--size", 20, "--order", "rank", "--out", "order.npy"]
    assert run_cli(*one, *pick)[0] == 0
    assert np.load("order.npy").tolist() == order.tolist()
    assert run_cli("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.arrow", "-q")[0] == 0
    forward = ["propagate", "--graph", "g.arrow", "--scores", "s.npy", *mode]
    assert run_cli(*forward, "--out", "p.npy")[0] == 0
    np.testing.assert_allclose(np.load("p.npy"), u, rtol=1e-12)
    staged = ["select", "--graph", "g.arrow", "--propagated", "p.npy", "-q"]
    assert run_cli(*staged, *pick)[0] == 0
    assert np.load("order.npy").tolist() == order.tolist()


@pytest.mark.parametrize("mode", ["default", "paper"])
def test_other_modes_refuse_negative_scores(data, run_cli, mode):
    np.save("s.npy", data.scores - 2)
    line = ["select", "--emb", "emb.npy", "--scores", "s.npy", "--mode", mode, "--size", 9]
    code, _, err = run_cli(*line, "--gamma-reverse", 1)
    assert code == 1
    assert err.startswith("error: s.npy: row ")
    assert "negative" in err
