"""The plans of ``report`` and ``compare``, held against what the runs read, write and need."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from d2cli.planning.ledger import BASE

DATA = ["--emb", "emb.npy", "--scores", "scores.npy"]
COMPARE = ["compare", *DATA, "--out", "c.html"]
FEW = ["--methods", "d2,random", "--ratio", "0.3"]


pytestmark = pytest.mark.usefixtures("reference_machine")


@pytest.fixture
def kept(data, run_cli):
    """Selections in several forms, texts and images."""
    for size, name in ((9, "k9.parquet"), (5, "k5.npy"), (7, "k7.txt")):
        assert run_cli("select", *DATA, "--size", size, "--out", name, "-q")[0] == 0
    np.save("mask.npy", np.arange(data.n) < 10)
    np.savez("images.npz", np.zeros((data.n, 8, 8), np.uint8))
    Path("texts.txt").write_text("".join(f"text, {i}\n" for i in range(data.n)))
    return run_cli


def selected(*names):
    return [word for name in names for word in ("--selected", name)]


LINES = {
    "report": ["report", *DATA, *selected("k9.parquet"), "--out", "r.html"],
    "report, much": [
        *("report", *DATA, *selected("k9.parquet", "k5.npy", "k7.txt"), "--labels", "labels.npy"),
        *("--images", "images.npz", "--texts", "texts.txt", "--map", "pca", "--out", "r.html"),
    ],
    "compare": [*COMPARE, *FEW],
    "compare, all": [*COMPARE, "--size", "5", "--size", "9", "--labels", "labels.npy"],
}


def planned(run_cli, *line):
    code, out, err = run_cli(*line, "--plan", "--json", "--threads", 1)
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize("line", LINES)
def test_a_plan(line, kept):
    line = LINES[line]
    before = {p: p.stat().st_mtime_ns for p in Path().iterdir()}
    found = planned(kept, *line)
    code, out, err = kept(*line, "--plan")
    assert (code, out.startswith("reads"), "defect" in err) == (0, True, False)
    assert {p: p.stat().st_mtime_ns for p in Path().iterdir()} == before
    assert found["plan"] == line[0]
    assert found["memory"]["peak_bytes"] == sum(found["memory"]["parts"].values())
    given = {path for read in found["reads"] for path in read["paths"]}
    assert given == {w for w in line if w.endswith((".npy", ".npz", ".parquet", ".txt"))}
    assert kept(*line, "-q")[0] == 0
    (output,) = found["disk"]["outputs"]
    assert output["bytes"] == pytest.approx(os.path.getsize(output["path"]), rel=0.6)


@pytest.mark.parametrize("line", LINES)
def test_a_run_that_needs_too_much_is_refused(line, kept):
    code, out, err = kept(*LINES[line], "--max-memory", "100MiB")
    assert (code, out) == (1, "")
    assert "more than --max-memory 100 MiB" in err
    assert not list(Path().glob("*.html"))


def test_what_a_selection_holds_is_read_from_its_header(kept):
    found = planned(kept, "report", *DATA, *selected("k9.parquet", "mask.npy"), "--out", "r.html")
    rows = [read["rows"] for read in found["reads"] if read["option"] == "selected"]
    assert rows == [9, 40]
    assert any("a mask does not say how many rows it keeps" in n for n in found["notices"])


def test_more_work_takes_more(kept):
    seconds = [
        planned(kept, *COMPARE, "--methods", methods, *budgets)["seconds"]["total"]
        for methods, budgets in (
            ("d2", ["--ratio", "0.1"]),
            ("d2,k-center,moderate", ["--ratio", "0.1"]),
            ("d2,k-center,moderate", ["--ratio", "0.1", "--ratio", "0.5"]),
        )
    ]
    assert seconds == sorted(seconds) and seconds[0] < seconds[2]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ([*COMPARE, "--ratio", "0.95"], 2, "more than the 36 rows"),
        ([*COMPARE, "--ratio", "0.3", "--cutoff", "nan"], 2, "cutoff must be"),
        ([*COMPARE, "--size", "41"], 2, "41"),
        (COMPARE, 2, "needs --ratio or --size"),
        (["compare", *DATA, "--ratio", "0.3", "--out", "c.npy"], 2, "is a web page"),
        (["report", *DATA, *selected("none.npy"), "--out", "r.html"], 1, "none.npy"),
        (["report", *DATA, *selected("k5.npy"), "--map-rows", "0", "--out", "r.html"], 2, "map"),
        (["report", *DATA, *selected(*["k5.npy"] * 9), "--out", "r.html"], 2, "more than the 8"),
    ],
)
def test_what_the_run_refuses_the_plan_refuses(line, code, said, kept):
    for more in (["--plan"], []):
        found, out, err = kept(*line, *more)
        assert (found, out) == (code, "")
        assert said in err


@pytest.mark.parametrize("line", ["report, much", "compare"])
def test_a_plan_loads_no_kernel(line, kept):
    code = (
        f"import sys; from d2cli.cli.main import run; run({[*LINES[line], '--plan']!r});"
        "heavy = ('numba', 'hnswlib', 'rich', 'sklearn', 'matplotlib', 'PIL', 'jinja2');"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_peak_is_predicted(run_cli, peak_of):
    n, d = 100_000, 128
    np.save("emb.npy", np.random.default_rng(0).standard_normal((n, d), np.float32))
    np.save("scores.npy", np.random.default_rng(1).random(n))
    np.save("kept.npy", np.arange(0, n, 2500))
    line = ["report", *DATA, *selected("kept.npy"), "--measured-rows", "300", "--map", "pca"]
    line += ["--metric", "cosine", "--threads", "2", "--out", "r.html", "--json", "-q"]
    predicted = json.loads(run_cli(*line, "--plan")[1])["memory"]["peak_bytes"]
    assert predicted > BASE * 1.5
    assert predicted == pytest.approx(peak_of(*line), rel=0.3)
