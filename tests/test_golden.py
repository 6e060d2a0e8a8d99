"""The research code's dense sampler, reproduced through the command line.

The cases are what the public implementation of D2 pruning (MIT licence) computed: see
tests/golden/README.md.
"""

from pathlib import Path

import numpy as np
import pytest

from d2cli.cli.main import run

CASES = sorted((Path(__file__).parent / "golden").glob("*.npz"))


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


def test_select_in_one_step(case):
    code = run([
        *("select", "--emb", "emb.npy", "--scores", "s.npy", "--mode", "reference", "-q"),
        *("-k", case["k"], "--gamma-reverse", case["gamma"], "--size", case["size"]),
        *("--order", "rank", "--out", "order.npy"),
    ])  # fmt: skip
    assert code == 0
    np.testing.assert_array_equal(np.load("order.npy"), case["order"])


def test_in_three_steps(case):
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


def test_forward_with_the_options_spelled_out(case):
    assert run(["graph", "--emb", "emb.npy", "-k", case["k"], "--out", "g.arrow", "-q"]) == 0
    code = run([
        *("propagate", "--graph", "g.arrow", "--scores", "s.npy", "--out", "p.npy", "-q"),
        *("--kernel", "exponential", "--bandwidth", "1", "--gamma-forward", "1"),
    ])  # fmt: skip
    assert code == 0
    np.testing.assert_allclose(np.load("p.npy"), case["forward"], rtol=0, atol=1e-6)
