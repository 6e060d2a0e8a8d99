"""The plan of ``score``, held against what a run reads, writes and needs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from d2cli.planning.ledger import BASE

from d2cli.difficulty.kinds import KINDS

OF_OUTPUTS = [w for kind, k in KINDS.items() if k.family == "dynamics" for w in ("--kind", kind)]
GRAPH_KINDS = ["--kind", "knn-distance", "--kind", "label-disagreement"]


pytestmark = pytest.mark.usefixtures("reference_machine")


@pytest.fixture
def planned(data, run_cli):
    """Runs ``score`` with and without --plan: the plan as an object, and the bytes written."""
    np.save("z.npy", np.random.default_rng(0).normal(size=(3, data.n, 3)).astype(np.float32))

    def call(*args):
        args = ["score", *args, "--labels", "labels.npy", "--threads", 1]
        before = set(Path().iterdir())
        code, out, err = run_cli(*args, "--plan", "--json")
        assert code == 0, err
        assert set(Path().iterdir()) == before
        assert run_cli(*args, "-q")[0] == 0
        return json.loads(out)

    return call


LINES = [
    [*OF_OUTPUTS, "--logits", "z.npy", "--epochs", "2:3", "--out", "o.parquet"],
    [*OF_OUTPUTS, "--logits", "z.npy", "--out", "{kind}.npy"],
    ["--kind", "prototypicality", "--kind", "knn-distance", "--emb", "emb.npy", "--out", "o.csv"],
    ["--kind", "prototypicality", "--metric", "cosine", "--emb", "emb.npy", "--out", "o.npy"],
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[-1])
def test_a_plan(planned, line):
    found = planned(*line)
    assert found["plan"] == "score"
    assert all(read["rows"] == 40 for read in found["reads"])
    assert found["memory"]["peak_bytes"] == sum(found["memory"]["parts"].values())
    for output in found["disk"]["outputs"]:
        assert output["bytes"] == pytest.approx(os.path.getsize(output["path"]), abs=8000)


def test_a_plan_on_a_graph(planned, run_cli):
    assert run_cli("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.arrow", "-q")[0] == 0
    found = planned(*GRAPH_KINDS, "--graph", "g.arrow", "--out", "o.arrow")
    assert "the graph as it is" in found["method"]


def test_what_the_run_refuses_the_plan_refuses(planned, run_cli):
    line = ["score", "--kind", "el2n", "--logits", "z.npy", "--out", "o.npy"]
    assert run_cli(*line, "--plan")[0] == 2
    line += ["--labels", "labels.npy"]
    assert run_cli(*line, "--epochs", "9", "--plan")[0] == 2
    code, _, err = run_cli(*line, "--max-memory", "10MiB")
    assert (code, "more than --max-memory 10 MiB" in err) == (1, True)
    assert not Path("o.npy").exists()


def test_a_plan_loads_no_kernel(tmp_path):
    np.save(tmp_path / "z.npy", np.zeros((2, 9, 3)))
    line = ["score", "--kind", "entropy", "--logits", "z.npy", "--out", "o.npy", "--plan"]
    code = (
        f"import sys; from d2cli.cli.main import run; run({line!r});"
        "print([m for m in ('numba', 'hnswlib', 'rich', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_peak_is_predicted(run_cli, peak_of):
    n = 400_000
    z = np.random.default_rng(0).random((3, n, 4), np.float32)
    np.save("z.npy", z.astype(np.float16))
    np.save("l.npy", np.zeros(n, np.int64))
    files = ["--logits", "z.npy", "--labels", "l.npy", "--out", "o.parquet"]
    line = ["score", *OF_OUTPUTS, *files, "--threads", "2", "--json", "-q"]
    predicted = json.loads(run_cli(*line, "--plan")[1])["memory"]["peak_bytes"]
    assert predicted > BASE * 1.1
    assert predicted == pytest.approx(peak_of(*line), rel=0.3)
