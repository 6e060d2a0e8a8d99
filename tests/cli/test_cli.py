"""The command line on the sample data: results, notices, exit codes, help."""

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from d2cli import __version__
from d2cli.cli import compare, console, graph, main, propagate, report, score, select
from d2cli.cli.main import run

ROOT = Path(__file__).parents[2]
DATA = ROOT / "sample_data"
EMB, SCORES, LABELS = (str(DATA / f"{name}.npy") for name in ("emb", "scores", "labels"))
ONE = ["--emb", "e.npy", "--scores", "s.npy"]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The first 120 rows of the sample data, in the current folder."""
    monkeypatch.chdir(tmp_path)
    np.save("e.npy", np.load(EMB)[:120])
    np.save("s.npy", np.load(SCORES)[:120])
    np.save("l.npy", np.load(LABELS)[:120])
    np.save("z.npy", np.load(DATA / "logits.npy")[:, :120])
    return tmp_path


def selected(path="selected.npy"):
    return np.load(path)


def test_select_writes_sorted_row_numbers(small, capsys):
    assert run(["select", *ONE, "--ratio", "0.5"]) == 0
    kept = selected()
    assert kept.dtype == np.int64
    assert kept.size == 60
    assert (np.diff(kept) > 0).all()
    out, err = capsys.readouterr()
    assert out == ""
    assert "kept" in err
    assert "60 of 120 rows" in err


MESSAGES = [
    [],
    ["--edges", "directed"],
    ["--edges", "mutual", "--kernel", "exponential"],
    ["--bandwidth", "2.5", "--gamma-forward", "0.5", "--hops", "2"],
    ["--mode", "paper", "--bandwidth", "10", "--gamma-reverse", "0.5"],
    ["--mode", "reference", "--gamma-reverse", "0.1"],
    ["--higher-is", "easier", "--score-transform", "rank"],
]
GRAPHS = [
    [],
    ["-k", "3", "--metric", "cosine"],
    ["--method", "hnsw", "--recall", "0.9", "--seed", "3"],
    ["--within", "l.npy"],
    ["--exclude", "x.txt"],
]


@pytest.mark.parametrize(
    ("graph", "messages"),
    [
        pytest.param(graph, messages, id=" ".join([*graph, *messages]))
        for graph in GRAPHS
        for messages in MESSAGES
        if not ("reference" in messages and "hnsw" in graph)  # reference needs an exact graph
    ],
)
def test_three_steps_give_the_bytes_of_one(small, graph, messages):
    Path("x.txt").write_text("3\n17\n40\n")
    reverse = messages[messages.index("--gamma-reverse") :] if "--gamma-reverse" in messages else []
    forward = messages[: len(messages) - len(reverse)]
    budget = ["--ratio", "0.3", "-q"]
    assert run(["select", *ONE, *graph, *messages, *budget]) == 0
    assert run(["graph", "--emb", "e.npy", *graph, "--out", "g.arrow", "-q"]) == 0
    scores = ["--graph", "g.arrow", "--scores", "s.npy", *forward]
    assert run(["propagate", *scores, "--out", "p.npy", "-q"]) == 0
    staged = ["select", "--graph", "g.arrow", "--propagated", "p.npy"]
    assert run([*staged, *reverse, *budget, "--out", "staged.npy"]) == 0
    two = ["select", *scores, *reverse, *budget, "--out", "two.npy"]
    assert run(two) == 0
    assert Path("staged.npy").read_bytes() == Path("selected.npy").read_bytes()
    assert Path("two.npy").read_bytes() == Path("selected.npy").read_bytes()


@pytest.mark.parametrize("method", ["exact", "blocks", "hnsw"])
def test_outputs_do_not_depend_on_threads(small, method):
    outputs = {}
    for threads in (1, 2, 4, 2):
        many = ["--threads", str(threads), "-q"]
        assert run(["graph", "--emb", "e.npy", "--method", method, *many, "--out", "g.arrow"]) == 0
        scores = ["--graph", "g.arrow", "--scores", "s.npy", *many]
        assert run(["propagate", *scores, "--out", "p.npy"]) == 0
        assert run(["select", *scores, "--ratio", "0.4", "--out", "o.parquet"]) == 0
        for name in ("g.arrow", "p.npy", "o.parquet"):
            outputs.setdefault(name, set()).add(Path(name).read_bytes())
    assert {name: len(found) for name, found in outputs.items()} == dict.fromkeys(outputs, 1)


OPTIONS = [
    ["--order", "rank"],
    ["--complement"],
    ["--balance", "proportional", "--labels", "l.npy"],
    ["--balance", "uniform", "--labels", "l.npy"],
    ["--cutoff", "0.2"],
    ["--cutoff", "0.2", "--cutoff-scores", "l.npy", "--cutoff-higher-is", "easier"],
    ["--include", "some.npy"],
    ["--include", "some.npy", "--cutoff", "0.3", "--balance", "uniform", "--labels", "l.npy"],
    ["--exclude", "some.npy"],
    ["--gamma-reverse", "0"],
    ["--gamma-reverse", "5"],
    ["--mode", "paper", "--gamma-reverse", "1", "--balance", "uniform", "--labels", "l.npy"],
    ["--within", "l.npy", "--labels", "l.npy", "--balance", "proportional"],
    ["--within", "l.npy", "--exclude", "some.npy"],
    ["-k", "200"],
    ["--metric", "cosine", "--method", "hnsw"],
]


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
@pytest.mark.parametrize("ratio", ["0.1", "0.5"])
def test_invariants_of_a_selection_under_every_option(small, options, ratio):
    some = np.array([5, 2, 77])
    np.save("some.npy", some)
    inputs = {name: Path(name).read_bytes() for name in ("e.npy", "s.npy", "l.npy", "some.npy")}
    assert run(["select", *ONE, *options, "--ratio", ratio, "-q"]) == 0
    kept = selected()
    size = round(float(ratio) * 120)
    assert kept.size == (120 - size if "--complement" in options else size)
    assert np.unique(kept).size == kept.size
    assert kept.min() >= 0
    assert kept.max() < 120
    if "--order" not in options:
        assert (np.diff(kept) > 0).all()
    if "--include" in options:
        assert np.isin(some, kept).all()
    if "--exclude" in options:
        assert not np.isin(some, kept).any()
    if "--cutoff" in options and "--cutoff-scores" not in options and "--include" not in options:
        hardest = np.argsort(-np.load("s.npy"), kind="stable")[:24]
        assert not np.isin(hardest, kept).any()
    if "uniform" in options:
        counts = np.bincount(np.load("l.npy")[kept], minlength=10)
        room = np.bincount(np.load("l.npy"), minlength=10)
        if "--include" not in options:
            assert counts.max() - counts[counts < room].min(initial=counts.max()) <= 1
    assert {name: Path(name).read_bytes() for name in inputs} == inputs
    before = Path("selected.npy").read_bytes()
    assert run(["select", *ONE, *options, "--ratio", ratio, "-q"]) == 0
    assert Path("selected.npy").read_bytes() == before


def test_ratio_1_keeps_every_row(small):
    assert run(["select", *ONE, "--ratio", "1", "-q"]) == 0
    assert selected().tolist() == list(range(120))


def test_selection_and_complement_hold_every_row_once(small):
    assert run(["select", *ONE, "--size", "33", "-q"]) == 0
    assert run(["select", *ONE, "--size", "33", "--complement", "--out", "rest.npy", "-q"]) == 0
    assert sorted([*selected(), *selected("rest.npy")]) == list(range(120))


@pytest.mark.parametrize("gamma", ["auto", "0.8"])
def test_several_budgets_equal_single_runs(small, gamma):
    many = ["--ratio", "0.10", "--ratio", "0.5", "--out", "k_{ratio}.npy"]
    assert run(["select", *ONE, *many, "--gamma-reverse", gamma, "-q"]) == 0
    for ratio in ("0.10", "0.5"):
        assert run(["select", *ONE, "--ratio", ratio, "--gamma-reverse", gamma, "-q"]) == 0
        assert Path(f"k_{ratio}.npy").read_bytes() == Path("selected.npy").read_bytes()


def test_default_names_of_several_outputs(small):
    assert run(["select", *ONE, "--ratio", "0.1", "--ratio", "0.2", "-q"]) == 0
    assert run(["select", *ONE, "--size", "7", "--ratio", "0.1", "-q"]) == 0
    assert {p.name for p in small.glob("selected*.npy")} == {
        "selected_0.1.npy", "selected_0.2.npy", "selected_7.npy", "selected_12.npy",
    }  # fmt: skip


def test_gains_fall_in_the_order_of_ranks(small):
    assert (
        run(["select", *ONE, "--ratio", "0.5", "--order", "rank", "--out", "o.parquet", "-q"]) == 0
    )
    table = pq.read_table("o.parquet").to_pydict()
    assert table["rank"] == list(range(60))
    assert table["gain"] == sorted(table["gain"], reverse=True)


def test_select_uses_the_recorded_kernel_unless_one_is_given(small):
    assert run(["graph", "--emb", "e.npy", "--out", "g.arrow", "-q"]) == 0
    told = ["--graph", "g.arrow", "--scores", "s.npy", "--kernel", "exponential", "--out", "p.npy"]
    assert run(["propagate", *told, "-q"]) == 0
    staged = ["select", "--graph", "g.arrow", "--propagated", "p.npy", "--size", "40", "-q"]
    assert run(staged) == 0
    assert (
        json.loads(Path("selected.npy.json").read_text())["parameters"]["kernel"] == "exponential"
    )
    assert run([*staged, "--kernel", "gaussian"]) == 0
    assert json.loads(Path("selected.npy.json").read_text())["parameters"]["kernel"] == "gaussian"


LATE = [
    (
        ["--mode", "paper", "--gamma-reverse", "1"],
        "--mode default, and --mode paper comes too late",
    ),
    (["--hops", "3"], "--hops 1, and --hops 3 comes too late"),
    (["--gamma-forward", "0.5"], "--gamma-forward 0.5 comes too late"),
    (["--score-transform", "rank"], "--score-transform rank comes too late"),
    (["--higher-is", "easier"], "--higher-is easier comes too late"),
    (["--within", "l.npy"], "--within is for building a graph"),
]


@pytest.mark.parametrize(("options", "message"), LATE)
def test_options_that_contradict_propagate_are_refused(small, capsys, options, message):
    assert run(["graph", "--emb", "e.npy", "--out", "g.arrow", "-q"]) == 0
    forward = ["--graph", "g.arrow", "--scores", "s.npy", "--out", "p.npy", "-q"]
    assert run(["propagate", *forward]) == 0
    staged = ["select", "--graph", "g.arrow", "--propagated", "p.npy", "--size", "40"]
    assert run([*staged, *options]) == 2
    assert message in capsys.readouterr().err


UNUSED = [
    (["--metric", "cosine", "-k", "3"], "--n-neighbors, --metric: not used, since --graph"),
    (["--labels", "l.npy"], "--labels: not used without --balance"),
    (
        ["--cutoff-scores", "s.npy", "--gamma-reverse", "1"],
        "--cutoff-scores: not used without --cutoff",
    ),
]


@pytest.mark.parametrize(("options", "message"), UNUSED)
def test_unused_options_print_a_notice(small, capsys, options, message):
    assert run(["graph", "--emb", "e.npy", "--out", "g.arrow", "-q"]) == 0
    staged = ["select", "--graph", "g.arrow", "--scores", "s.npy", "--size", "40"]
    assert run([*staged, *options]) == 0
    assert f"notice: {message}" in capsys.readouterr().err
    assert run(["select", *ONE, "--size", "9", "--ef", "30"]) == 0
    assert "notice: --ef: not used without --method hnsw" in capsys.readouterr().err


def test_cutoff_uses_the_direction_recorded_by_propagate(small):
    """The cutoff drops the lowest AUM, although ``select`` is not given the direction."""
    np.save("aum.npy", np.load(DATA / "aum.npy")[:120])
    assert run(["graph", "--emb", "e.npy", "--out", "g.arrow", "-q"]) == 0
    told = ["--higher-is", "easier", "--score-transform", "shift"]
    forward = ["--graph", "g.arrow", "--scores", "aum.npy"]
    assert run(["propagate", *forward, *told, "--out", "p.npy", "-q"]) == 0
    cut = ["--cutoff", "0.2", "--size", "40", "-q"]
    staged = [*("--graph", "g.arrow", "--propagated", "p.npy", "--scores", "aum.npy"), *cut]
    assert run(["select", *staged]) == 0
    hardest = np.argsort(np.load("aum.npy"), kind="stable")[:24]
    assert not np.isin(hardest, selected()).any()
    found = json.loads(Path("selected.npy.json").read_text())["parameters"]
    assert (found["higher_is"], found["score_transform"]) == ("easier", "shift")


def test_scores_other_than_the_propagated_ones_are_refused(small, capsys):
    assert run(["graph", "--emb", "e.npy", "--out", "g.arrow", "-q"]) == 0
    forward = ["--graph", "g.arrow", "--scores", "s.npy", "--out", "p.npy", "-q"]
    assert run(["propagate", *forward]) == 0
    np.save("other.npy", np.load("s.npy") * 2)
    staged = ["select", "--graph", "g.arrow", "--propagated", "p.npy", "--size", "40"]
    assert run([*staged, "--scores", "other.npy"]) == 1
    assert "p.npy: was not propagated from other.npy" in capsys.readouterr().err


def test_embeddings_given_with_a_graph_must_be_its_own(small, capsys):
    assert run(["graph", "--emb", "e.npy", "--out", "g.arrow", "-q"]) == 0
    both = ["select", "--graph", "g.arrow", "--scores", "s.npy", "--size", "9"]
    assert run([*both, "--emb", "e.npy", "-q"]) == 0
    np.save("other.npy", np.load("e.npy")[::-1])
    assert run([*both, "--emb", "other.npy"]) == 1
    assert "was not built from other.npy" in capsys.readouterr().err


NOTICES = [
    (["--gamma-reverse", "0.01", "--ratio", "0.9"], "messages ran out after"),
    (["--keep-lift", "0.01", "--ratio", "0.2"], "no messages spread the picks more"),
    (["--scores", "zero.npy", "--ratio", "0.5"], "every score is 0"),
    (["--scores", "zero.npy", "--ratio", "0.5"], "every lift is 1"),
    (["--bandwidth", "1e-3", "--ratio", "0.5"], "edge weights are below 2^-53"),
    (["--emb", "same.npy", "--ratio", "0.5"], "duplicates"),
    (
        ["--method", "hnsw", "--ef", "4", "--hnsw-m", "2", "--recall", "1", "--ratio", "0.1"],
        "target",
    ),
]


@pytest.mark.parametrize(("options", "message"), NOTICES)
def test_unusual_results_print_a_notice(small, capsys, options, message):
    np.save("zero.npy", np.zeros(120))
    same = np.load("e.npy")
    same[:110] = same[0]
    np.save("same.npy", same)
    base = [] if "--emb" in options else ["--emb", "e.npy"]
    base += [] if "--scores" in options else ["--scores", "s.npy"]
    assert run(["select", *base, *options]) == 0
    err = capsys.readouterr().err
    assert any(line.startswith("notice: ") and message in line for line in err.splitlines()), err
    assert run(["select", *base, *options, "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_cutoff_on_a_given_graph_prints_a_notice(small, capsys):
    assert run(["graph", "--emb", "e.npy", "--out", "g.arrow", "-q"]) == 0
    late = ["select", "--graph", "g.arrow", "--scores", "s.npy", "--ratio", "0.5"]
    assert run([*late, "--cutoff", "0.1"]) == 0
    assert "12 rows are left out of a graph" in capsys.readouterr().err


@pytest.mark.parametrize("budgets", [["--size", "9"], ["--size", "9", "--size", "20"]])
def test_json_summary_is_one_object_on_stdout(small, capsys, budgets):
    out = ["--out", "o_{size}.npy", "--json"]
    assert run(["select", *ONE, *budgets, *out]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["command"] == "select"
    assert found["outputs"] == [f"o_{size}.npy" for size in budgets[1::2]]
    assert found["run"]["peak_memory_bytes"] > 0
    assert found["run"]["seconds"]["total"] > 0
    staged = (
        ["graph", "--emb", "e.npy", "--out", "g.arrow"],
        ["propagate", "--graph", "g.arrow", "--scores", "s.npy", "--out", "p.npy"],
    )
    for command in staged:
        assert run([*command, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["command"] == command[0]


def test_selection_on_stdout_is_text(small, capsys):
    assert run(["select", *ONE, "--size", "9", "-q"]) == 0
    assert run(["select", *ONE, "--size", "9", "--out", "-"]) == 0
    out = capsys.readouterr().out
    assert [int(line) for line in out.splitlines()] == selected().tolist()


def shell(line, cwd):
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(
        ["bash", "-c", line], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def test_closed_pipe_is_no_error(small):
    line = (
        "python -m d2cli select --emb e.npy --scores s.npy --ratio 1 --out - -q | head -n 1;"
        "echo ${PIPESTATUS[0]}"
    )
    done = shell(line, small)
    assert done.stdout.split() == ["0", "0"]
    assert done.stderr == ""


CLOSED = "standard output is closed"
FULL = "standard output: cannot be written (No space left on device)"
STREAMS = {
    "--json >&-": CLOSED,
    "--plan >&-": CLOSED,
    "--out - >&-": CLOSED,
    "--json >/dev/full": FULL,
    "--plan --json >/dev/full": FULL,
    "--plan >/dev/full": FULL,
    "--out - >/dev/full": FULL,
}


@pytest.mark.parametrize("end", STREAMS)
def test_closed_or_full_stdout_is_one_error(end, small):
    done = shell(f"python -m d2cli select --emb e.npy --scores s.npy --size 3 -q {end}", small)
    assert (done.returncode, done.stderr) == (1, f"error: {STREAMS[end]}\n")


def test_messages_do_not_go_to_stdout_if_stderr_is_closed(small):
    line = "python -m d2cli select --emb e.npy --scores s.npy --size 3 --out - 2>&-"
    done = shell(line, small)
    assert (done.returncode, len(done.stdout.split())) == (0, 3)


def test_cutoff_scores_without_a_cutoff_are_not_recorded(small):
    line = ["select", *ONE, "--size", "3", "--cutoff-scores", "s.npy", "--cutoff"]
    for cutoff, recorded in (("0", False), ("0.1", True)):
        assert run([*line, cutoff]) == 0
        inputs = json.loads(Path("selected.npy.json").read_text())["inputs"]
        assert ("cutoff_scores" in inputs) == recorded


def test_broken_pipe_exits_with_0(small, monkeypatch, tmp_path):
    class Closed:
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        def flush(self):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        def fileno(self):
            return self.file.fileno()

    closed = Closed()
    with (tmp_path / "sink").open("w") as closed.file:
        monkeypatch.setattr(sys, "stdout", closed)
        assert run(["select", *ONE, "--size", "3", "--out", "-", "-q"]) == 0


@pytest.mark.parametrize("module", [main, compare, graph, propagate, report, score, select])
def test_help_ends_with_an_example_that_runs(module, small, capsys):
    name = "" if module is main else module.__name__.rsplit(".", 1)[-1]
    assert run([name, "--help"] if name else ["--help"]) == 0
    shown = capsys.readouterr().out
    example = getattr(module, "EXAMPLE", None) or module._EXAMPLE
    text = example.replace("\b\n", "").replace("\\\n", "")
    lines = [line.strip() for line in text.splitlines() if line.strip().startswith("d2prune ")]
    assert lines
    assert shown.rindex("Example") > shown.index("--help ")
    Path("sample_data").mkdir()
    for folder in (small, small / "sample_data"):  # examples use both
        (folder / "emb.npy").symlink_to(small / "e.npy")
        (folder / "scores.npy").symlink_to(small / "s.npy")
        (folder / "labels.npy").symlink_to(small / "l.npy")
        (folder / "logits.npy").symlink_to(small / "z.npy")
    for line in lines:
        assert line.split("--")[0].strip() in shown
        assert run([*shlex.split(line)[1:], "-q"]) == 0, line


def test_version_is_printed(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"d2prune {__version__}\n"


@pytest.mark.parametrize("arguments", [["nonsense"], ["select", "--nonsense"], ["graph"]])
def test_wrong_usage_prints_an_error_and_a_hint(arguments, capsys):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("hint: ")
    assert len(lines) == 2


def test_no_arguments_print_help(capsys):
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: d2prune")
    assert len(err.splitlines()) > 10


def test_interruption_writes_no_file(small, capsys, monkeypatch):
    from d2cli.commands.select import run as step

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(step, "select", interrupted)
    before = sorted(p.name for p in small.iterdir())
    assert run(["select", *ONE, "--size", "3"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert sorted(p.name for p in small.iterdir()) == before


@pytest.mark.parametrize(
    ("raised", "message"),
    [(ValueError("odd"), "unexpected ValueError: odd"), (MemoryError(), "out of memory")],
)
def test_unexpected_errors_are_one_line_without_debug(small, capsys, monkeypatch, raised, message):
    from d2cli.commands.select import run as step

    def fail(*_, **__):
        raise raised

    monkeypatch.setattr(step, "select", fail)
    assert run(["select", *ONE, "--size", "3"]) == 1
    assert message in capsys.readouterr().err
    with pytest.raises(type(raised)):
        run(["select", *ONE, "--size", "3", "--debug"])


def test_debug_raises_the_error(small):
    from d2cli.errors import UsageError

    with pytest.raises(UsageError):
        run(["select", *ONE, "--debug"])


def test_progress_is_printed_to_terminals_only(monkeypatch, capsys):
    with console.progress_bar() as report:
        report("graph", 1, 2)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(console, "_QUIET_SECONDS", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with console.progress_bar() as report:
        report("graph", 1, 2)
        report("graph", 2, 2)
    assert "graph" in capsys.readouterr().err
    monkeypatch.setattr(console, "_QUIET_SECONDS", 60.0)
    with console.progress_bar() as report:
        report("graph", 1, 2)
    assert capsys.readouterr().err == ""
