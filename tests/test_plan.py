"""What a run would need is known before it, and a run that needs too much is refused."""

import json
import os
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from d2cli.planning import ledger, messages, search
from d2cli.planning.speed import Speed, measure

from d2cli.commands import plan as plans
from d2cli.files.graph_file import write_graph
from d2cli.graph import build, hnsw, vectors
from d2cli.graph.exact import pairs, screen
from d2cli.graph.exact import search as exact
from d2cli.graph.ivf import cell_search, cells, reduce, routing
from d2cli.graph.ivf import search as ivf
from d2cli.graph.knn_graph import KnnGraph
from d2cli.runtime.memory import Available
from d2cli.selection import greedy as sampling
from d2cli.selection import thinning

EMB = ["--emb", "emb.npy"]
ONE = [*EMB, "--scores", "scores.npy", "--size", "9"]
COMMANDS = {
    "graph": ["graph", *EMB, "--out", "g2.arrow"],
    "propagate": ["propagate", "--graph", "g.arrow", "--scores", "scores.npy", "--out", "p2.npy"],
    "select": ["select", *ONE],
    "select --graph": ["select", "--graph", "g.arrow", "--propagated", "p.npy", "--ratio", "0.5"],
}


pytestmark = pytest.mark.usefixtures("reference_machine")


@pytest.fixture
def staged(data, run_cli):
    assert run_cli("graph", *EMB, "-k", 4, "--out", "g.arrow", "-q")[0] == 0
    forward = ["--graph", "g.arrow", "--scores", "scores.npy", "--edges", "mutual"]
    assert run_cli("propagate", *forward, "--out", "p.npy", "-q")[0] == 0
    return run_cli


def files():
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in Path().iterdir()}


# -- --plan ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", COMMANDS)
def test_a_plan_is_printed_and_nothing_is_written(command, staged):
    before = files()
    code, out, err = staged(*COMMANDS[command], "--plan")
    assert code == 0
    assert files() == before
    labels = {line.split(" ", 1)[0] for line in out.splitlines()}
    assert {"reads", "method", "memory", "writes", "time"} <= labels
    assert "roughly" in out
    assert all(line.startswith("notice: ") for line in err.splitlines())
    assert staged(*COMMANDS[command], "--plan", "-q")[2] == ""


@pytest.mark.parametrize("command", COMMANDS)
def test_a_plan_is_one_object(command, staged):
    before = files()
    code, out, _ = staged(*COMMANDS[command], "--plan", "--json", "--threads", 1)
    assert code == 0
    assert files() == before
    found = json.loads(out)
    assert found["plan"] == command.split()[0]
    assert found["threads"] == 1
    assert found["reads"][0]["rows"] == 40
    assert found["memory"]["peak_bytes"] == sum(found["memory"]["parts"].values())
    assert 0 <= found["memory"]["mapped_bytes"] < found["memory"]["peak_bytes"]
    parts = {k: v for k, v in found["seconds"].items() if k != "total"}
    assert found["seconds"]["total"] == pytest.approx(sum(parts.values()), abs=0.01)
    assert found["disk"]["written_bytes"] > 0


def test_what_is_read_is_described(staged):
    found = json.loads(staged("graph", *EMB, "--out", "x.arrow", "--plan", "--json")[1])
    assert found["reads"] == [
        {
            "option": "emb",
            "paths": ["emb.npy"],
            "bytes": os.path.getsize("emb.npy"),
            "rows": 40,
            "rows_exact": True,
            "width": 4,
            "dtype": "float32",
            "memory_mapped": True,
        }
    ]
    assert "exact (auto: up to 20,000 rows)" in found["method"]


@pytest.mark.parametrize(
    "options",
    [
        ["--within", "labels.npy"],
        ["--exclude", "x.txt"],
        ["--metric", "cosine", "--method", "hnsw"],
        ["--method", "ivf", "--recall", "0.99"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("command", ["graph", "select"])
def test_options_of_the_search_are_taken_in(command, options, staged):
    Path("x.txt").write_text("3\n7\n")
    plain = json.loads(staged(*COMMANDS[command], "--plan", "--json")[1])
    found = json.loads(staged(*COMMANDS[command], *options, "--plan", "--json")[1])
    needs = [(plan["memory"]["peak_bytes"], plan["method"]) for plan in (found, plain)]
    assert needs[0] != needs[1]
    if "labels.npy" in options or "x.txt" in options:
        assert found["reads"][-1]["option"] == options[0].strip("-")


@pytest.mark.parametrize("ending", ["npy", "txt", "csv", "parquet", "arrow"])
@pytest.mark.parametrize("more", [[], ["--as", "mask"], ["--complement"]], ids=" ".join)
def test_the_size_of_outputs(ending, more, run_cli):
    n = 3000
    rng = np.random.default_rng(3)
    np.save("e.npy", rng.standard_normal((n, 2)).astype(np.float32))
    np.save("s.npy", rng.random(n))
    if "--as" in more and ending not in ("npy", "txt"):
        return
    neighbors = (np.arange(n)[:, None] + np.arange(1, 3)) % n
    neighbors.sort(axis=1)
    graph = KnnGraph(neighbors.astype(np.int32), np.ones((n, 2), np.float32))
    write_graph("g.arrow", graph)
    line = ["select", "--graph", "g.arrow", "--scores", "s.npy", "--ratio", "0.3", *more]
    line += ["--gamma-reverse", "1", "--out", f"o.{ending}"]
    found = json.loads(run_cli(*line, "--plan", "--json")[1])
    assert run_cli(*line, "-q")[0] == 0
    (output,) = found["disk"]["outputs"]
    assert output["path"] == f"o.{ending}"
    assert output["bytes"] == pytest.approx(os.path.getsize(f"o.{ending}"), rel=0.3, abs=5000)


def test_a_disk_that_is_full_is_said(staged, monkeypatch):
    full = SimpleNamespace(free=999)
    monkeypatch.setattr(plans.shutil, "disk_usage", lambda folder: full)
    assert "999 B are free in ." in staged(*COMMANDS["graph"], "--plan")[2]


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        (["graph", "--emb", "none.npy", "--out", "g.arrow"], 1, "none.npy: no such file"),
        (["graph", *EMB, "--out", "g.npy"], 2, "a graph is an Arrow file"),
        (["select", *EMB, "--size", "9"], 2, "needs --scores"),
        (
            ["propagate", "--graph", "emb.npy", "--scores", "scores.npy", "--out", "p.npy"],
            1,
            "graph",
        ),
    ],
)
def test_what_the_run_would_refuse(line, code, said, staged):
    found, out, err = staged(*line, "--plan")
    assert (found, out) == (code, "")
    assert said in err


OUT_OF_RANGE = [
    ["-k", "0"],
    ["-k", "-5"],
    ["--hnsw-m", "0"],
    ["--recall", "nan"],
    ["--ef", "0"],
    ["--method", "hnsw", "--ef-construction", "0"],
    ["--threads", "0"],
    ["--cutoff", "nan"],
    ["--cutoff", "1"],
    ["--size", "0"],
    ["--size", "41"],
    ["--ratio", "nan"],
    ["--gamma-reverse", "nan"],
    ["--hops", "-1"],
    ["--hops", "100000000000"],
    ["-k", "100000000"],
    ["--mode", "paper"],
]


@pytest.mark.parametrize("options", OUT_OF_RANGE, ids=" ".join)
def test_a_plan_is_never_a_defect(options, staged):
    """What is out of range is refused by the plan or by the run, as it is without a plan."""
    line = ["select", *EMB, "--scores", "scores.npy", *options]
    line += [] if {"--size", "--ratio"} & set(options) else ["--size", "9"]
    for more in ([], ["--plan"], ["--max-memory", "8GiB"]):
        code, _, err = staged(*line, *more)
        assert code == 2 or (more == ["--plan"] and code == 0), err
        assert "defect" not in err


# -- --max-memory ---------------------------------------------------------------------------------
@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_that_needs_too_much_is_refused(command, staged):
    before = files()
    code, out, err = staged(*COMMANDS[command], "--max-memory", "100MB")
    assert (code, out) == (1, "")
    assert files() == before
    lines = err.splitlines()
    assert lines[0].startswith("error: this run needs about ")
    assert lines[0].endswith("more than --max-memory 95.4 MiB")
    assert len(lines) == 2 if "emb.npy" in COMMANDS[command] else 1
    assert staged(*COMMANDS[command], "--max-memory", "8GiB", "-q")[0] == 0


def test_the_hint_names_a_way_that_fits(staged):
    np.save("wide.npy", np.zeros((40_000, 1000), np.float16))
    line = ["graph", "--emb", "wide.npy", "--out", "g.arrow", "--threads", "4"]
    found = json.loads(staged(*line, "--plan", "--json")[1])
    _, _, err = staged(*line, "--max-memory", found["memory"]["peak_bytes"] - 1)
    assert re.fullmatch(r"hint: (--|one float32).* needs about [\d.]+ MiB", err.splitlines()[1])
    _, _, err = staged(*line, "--max-memory", "250MiB")
    assert "is not enough, but needs only about" in err.splitlines()[1]


def test_a_plan_and_a_limit(staged):
    code, out, err = staged(*COMMANDS["graph"], "--plan", "--max-memory", "1MiB")
    assert code == 1
    assert out.startswith("reads")
    assert "more than --max-memory" in err


def test_a_limit_that_is_none(staged):
    code, out, err = staged(*COMMANDS["graph"], "--max-memory", "lots")
    assert (code, out) == (2, "")
    assert "--max-memory must be a size such as 8GiB" in err


def test_a_run_that_needs_more_than_there_is_goes_on_with_a_notice(staged, monkeypatch):
    some = Available(1 << 20, "of the machine")
    monkeypatch.setattr(plans, "available_memory", lambda: some)
    code, _, err = staged(*COMMANDS["graph"])
    assert code == 0
    notices = [text for text in err.splitlines() if text.startswith("notice: this run needs about")]
    assert len(notices) == 1
    assert notices[0].endswith(" and 1 MiB are available of the machine")
    assert staged(*COMMANDS["graph"], "-q")[2] == ""


def test_mapped_pages_can_be_taken_back():
    book = ledger.Ledger()
    book.hold("embeddings", 1 << 30, mapped=True)
    book.hold("graph", 1 << 20)
    needs = book.estimate()

    def said(size):
        return plans.memory_notices(needs, Available(size, "of the machine"))

    assert said(needs.peak) == []
    assert "it would be slow rather than fail" in said(needs.peak - needs.mapped)[0]
    assert "slow" not in said(needs.peak - needs.mapped - 1)[0]
    assert plans.memory_notices(needs, None) == []


# -- the arithmetic -------------------------------------------------------------------------------
def test_the_plan_knows_the_kernels_numbers():
    assert vectors._BLOCK_NUMBERS == search.CHECKED
    assert (screen.QUERIES, screen._BASE) == (search.QUERIES, search.BASE_ROWS)
    assert (screen._KEPT_NUMBERS, screen._CENTRE_ROWS, exact._SPARE[0]) == (
        search.KEPT_NUMBERS, search.CENTRE_ROWS, search.SPARE,
    )  # fmt: skip
    assert (pairs._ROWS, exact._FEW_ROWS) == (search.PAIR_ROWS, search.FEW_ROWS)
    assert search.SAMPLE_ROWS == build.AIM_SAMPLE + build.RECALL_SAMPLE
    assert (search.FIRST_WIDTH, search.AXES_ROWS, search.AXES_BLOCK) == (
        reduce._FIRST_WIDTH, reduce._SAMPLE_ROWS, reduce._BLOCK,
    )  # fmt: skip
    assert (reduce._WIDTH_SAMPLE, reduce._WIDTH_STEP) == (search.WIDTH_ROWS, search.WIDTH_STEP)
    assert search.AXES_ROWS_PER_DIMENSION == reduce._SAMPLE_ROWS_PER_DIMENSION
    assert (search.CELLS_PER_ROOT, search.SMALLEST_MEAN, search.LARGEST_MEAN) == (
        routing._ROOTS, routing._SMALLEST_MEAN, routing._LARGEST_MEAN,
    )  # fmt: skip
    assert (search.LARGEST, search.CELL_QUERIES) == (cells._LARGEST, cell_search._QUERIES)
    assert (search.SAMPLE_PER_CELL, search.FITTING_ROUNDS) == (
        routing._SAMPLE_PER_CELL, routing._FITTING_ROUNDS,
    )  # fmt: skip
    assert (search.ROUTE_WIDTH, search.AROUND) == (routing._ROUTE_WIDTH, routing._AROUND)
    assert (search.FEW_CELLS, search.GROUP, search.FEW_GROUPS) == (
        routing._FEW_CELLS, routing._GROUP, routing._FEW_GROUPS,
    )  # fmt: skip
    assert (search.HNSW_M, search.INDEX_EFFORT, search.INDEX_WIDTH) == (
        routing._HNSW_M, routing._HNSW_EF_CONSTRUCTION, routing._INDEX_WIDTH,
    )  # fmt: skip
    assert (ivf._STRICT, ivf._EFFORTS[:2]) == (search.STRICT, search.EFFORTS)
    assert search.INDEX_BLOCK == hnsw._BLOCK
    runs = []
    sampling._smallest(lambda gamma: runs.append(gamma) or gamma > 1, lambda *_: None)
    assert len(runs) == messages.GAMMA_SEARCHES
    assert Fraction(messages.SPREAD).limit_denominator(1000) == thinning.SPREAD_CLUSTERED
    for size in (0, 1, 37, 99, 100):
        longer = sampling._longer(np.array([size]), np.array([100]))
        assert messages.outlasting(size, 100) == longer[0]


def test_a_ledger_keeps_the_most_at_one_time():
    book = ledger.Ledger()
    book.hold("a", 100, mapped=True)
    book.stage = "second"
    with book.passing("b", 50):
        book.spend(flops=2e9, steps=1.0, threads=2)
    book.free("a", "never there")
    book.stage = "third"
    book.touch("b", 120)
    book.hold("c", 20)
    found = book.estimate()
    assert (found.peak, found.stage, found.mapped) == (ledger.BASE + 150, "second", 100)
    assert found.parts == {"program": ledger.BASE, "a": 100, "b": 50}
    speed = Speed(products=1e9, steps=0.5, alone=1.0, shared=0.5)
    assert found.seconds(speed) == {"second": 4.0}
    assert found.core_seconds(speed) == 4.0


@pytest.mark.parametrize("method", ["exact", "ivf", "hnsw"])
def test_checkpoints_take_room_where_a_run_is_long_enough(method, staged):
    line = ["graph", *EMB, "--method", method, "--out", "g2.arrow", "--plan"]
    short = json.loads(staged(*line, "--json")[1])
    long = json.loads(staged(*line, "--json", "--checkpoint", 0)[1])
    assert short["disk"]["temporary_bytes"] == short["disk"]["written_bytes"]
    assert long["disk"]["temporary_bytes"] >= long["disk"]["written_bytes"] + 2 * 40 * 10 * 8
    assert "checkpoints, at most about" in staged(*line, "--checkpoint", 0)[1]
    assert "checkpoints" not in staged(*line, "--checkpoint", "off")[1]


def test_the_machine_is_looked_at():
    for threads in (1, 2):
        speed = measure(threads)
        assert speed.products > 1e8
        assert speed.steps > 0.001
        assert 0 < speed.shared <= 1
        assert 0 < speed.alone <= 1


# -- predicted and measured -----------------------------------------------------------------------
def rows_of(n, d):
    rng = np.random.default_rng(n)
    return rng.standard_normal((n, d)).astype(np.float32)


def graph_of_a_ring(n, k):
    steps = np.arange(1, k + 1)
    neighbors = np.sort((np.arange(n)[:, None] + steps) % n, axis=1).astype(np.int32)
    return KnnGraph(neighbors, np.ones((n, k), np.float32))


def exact_from_npy():
    np.save("e.npy", rows_of(2500, 6000))
    return ["graph", "--emb", "e.npy", "--method", "exact", "--out", "o.arrow"]


def cells_from_parquet():
    rows = rows_of(30_000, 192)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    ids = [f"image {i}" for i in range(len(rows))]
    pq.write_table(pa.table({"id": ids, "embedding": lists}), "e.parquet")
    return ["graph", "--emb", "e.parquet", "--recall", "0.5", "--out", "o.arrow"]


def selection_from_graph():
    write_graph("g.arrow", graph_of_a_ring(500_000, 10))
    np.save("s.npy", np.random.default_rng(1).random(500_000))
    line = ["select", "--graph", "g.arrow", "--scores", "s.npy", "--ratio", "0.3"]
    return [*line, "--gamma-reverse", "1"]


@pytest.mark.parametrize("case", [exact_from_npy, cells_from_parquet, selection_from_graph])
def test_the_peak_is_predicted(case, run_cli, peak_of):
    line = [*case(), "--threads", "2", "--json", "-q"]
    predicted = json.loads(run_cli(*line, "--plan")[1])["memory"]["peak_bytes"]
    assert predicted > ledger.BASE * 1.2  # more than the program by itself
    assert predicted == pytest.approx(peak_of(*line), rel=0.3)
