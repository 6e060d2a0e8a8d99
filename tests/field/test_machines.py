"""Field cases F: machines, terminals and habits as they are."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import d2cli
from tests.field.make import LOGITS, N, P, S, X, Y, array, write
from tests.marks import compiled

EMB, SCORES = ("--emb", "emb.npy"), ("--scores", "s.npy")


@pytest.fixture(autouse=True)
def plain(field):
    array("emb.npy", X)
    array("s.npy", S)
    array("y.npy", Y)
    array("z.npy", LOGITS)


def process(*args, root=None, **environment):
    """A run with nothing in the environment but what is given."""
    root = root or Path(d2cli.__file__).parents[1]
    needed = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root)}
    return subprocess.run(
        [sys.executable, "-m", "d2cli", *map(str, args)],
        check=False, capture_output=True, env=needed | environment, timeout=300,
    )  # fmt: skip


# -- F1: read-only install ------------------------------------------------------------------------
@compiled
def test_kernels_are_compiled_once_where_nothing_can_be_written(tmp_path):
    """A file in place of ``__pycache__`` refuses the cache even to an administrator."""
    root = tmp_path / "site"
    package = Path(d2cli.__file__).parent
    shutil.copytree(package, root / "d2cli", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in [root / "d2cli", *(p for p in (root / "d2cli").rglob("*") if p.is_dir())]:
        (folder / "__pycache__").touch()
    spare = tmp_path / "tmp"
    spare.mkdir()
    array("small.npy", np.arange(24, dtype=np.float32).reshape(12, 2))
    graph = ("graph", "--emb", "small.npy", "-k", 2, "--out", "g.arrow")
    machine = {"HOME": "/dev/null/none", "TMPDIR": str(spare), "root": root}
    machine["PYTHONDONTWRITEBYTECODE"] = "1"
    first = process(*graph, **machine)
    assert first.returncode == 0, first.stderr.decode()
    said = [line for line in first.stderr.decode().splitlines() if "compil" in line.lower()]
    assert len(said) == 1 and "once" in said[0], first.stderr.decode()
    kept = [path for path in spare.rglob("*") if path.suffix in (".nbi", ".nbc")]
    assert kept, "no compiled kernel in the temporary folder"
    assert all(not (path.stat().st_mode & 0o022) for path in kept)
    second = process(*graph, **machine)
    assert second.returncode == 0 and b"compil" not in second.stderr.lower(), second.stderr.decode()


# -- F2: ASCII terminals --------------------------------------------------------------------------
ASCII = [
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LANG": "POSIX", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii:strict"},
    {"PYTHONIOENCODING": "latin-1"},
]


@pytest.mark.parametrize("environment", ASCII, ids=["ascii", "C", "POSIX", "latin-1"])
def test_terminals_that_show_ascii_only(field, environment):
    for args, code in (
        (("select", *EMB, *SCORES, "--ratio", 0.3, "--plan"), 0),
        (("select", *EMB, "--scores", "Größe σ.npy", "--ratio", 0.3), 1),
    ):
        got = process(*args, **environment, HOME=os.environ.get("HOME", "/"))
        assert got.returncode == code, got.stderr
        assert b"Traceback" not in got.stderr and b"defect" not in got.stderr, got.stderr
        assert b"UnicodeEncodeError" not in got.stderr
        shown = (got.stdout + got.stderr).decode(
            "latin-1" if environment.get("PYTHONIOENCODING") == "latin-1" else "ascii"
        )
        assert shown


@pytest.mark.parametrize("words", [
    ("select", *EMB, *SCORES, "--ratio", 0.3, "--explain"),
    ("select", *EMB, *SCORES, "--ratio", 0.3, "--json"),
    ("select", "--help"), ("score", "--help"), ("graph", *EMB, "--out", "g.arrow"),
    ("select", "--emb", "é.npy", *SCORES, "--ratio", 0.3),
    ("select", *EMB, *SCORES, "--ratio", 0.3, "--out", "gewählt.npy"),
])  # fmt: skip
def test_streams_that_hold_ascii_only(field, monkeypatch, words):
    import io

    from d2cli.cli.main import run

    array("é.npy", X)
    streams = [io.BytesIO(), io.BytesIO()]
    for name, made in zip(("stdout", "stderr"), streams, strict=True):
        text = io.TextIOWrapper(made, encoding="ascii", errors="strict", write_through=True)
        monkeypatch.setattr(sys, name, text)
    code = run([str(word) for word in words])
    out, err = (made.getvalue().decode("utf-8", "replace") for made in streams)
    monkeypatch.undo()
    assert code == 0, err
    assert out or err
    assert "defect" not in err and "Unicode" not in err


# -- F3: own outputs beside the shards ------------------------------------------------------------
def shards():
    os.makedirs("d", exist_ok=True)
    for i, rows in enumerate(np.split(np.arange(N), [100, 210])):
        array(f"d/emb_{i}.npy", X[rows])


OUTPUTS = ["selected.npy", "kept.parquet", "kept.csv", "kept.txt", "kept.arrow", "a_first.npy"]


@pytest.mark.parametrize("out", OUTPUTS)
def test_own_selection_beside_the_shards(field, out):
    shards()
    for _ in range(3):
        field.run("select", "--emb", "d", *SCORES, "--ratio", 0.3, "--out", f"d/{out}").done()
        field.works("--emb", "d", *SCORES, want=field.wanted())
    assert out not in field.recorded("emb")


def test_default_output_in_the_current_folder(field, monkeypatch, tmp_path):
    shards()
    monkeypatch.chdir(tmp_path / "d")
    scores = ("--scores", tmp_path / "s.npy", "--ratio", 0.3)
    for _ in range(3):
        field.run("select", "--emb", ".", *scores).done()
        assert np.load("selected.npy").tobytes() == field.wanted().tobytes()
    for more in (("--as", "mask"), ("--complement",), ("--ratio", 0.1)):
        field.run("select", "--emb", ".", *scores, *more).done()
        field.run("select", "--emb", ".", *scores, "--out", tmp_path / "k.npy").done()
        assert np.load(tmp_path / "k.npy").tobytes() == field.wanted().tobytes()


def test_all_own_outputs_beside_the_shards(field):
    """Graph, propagated and plain scores, and a page."""
    shards()
    want = field.wanted()
    field.run("graph", "--emb", "d", "--out", "d/graph.arrow").done()
    field.works("--emb", "d", *SCORES, want=want)
    given = ("--graph", "d/graph.arrow", *SCORES)
    field.run("propagate", *given, "--out", "d/propagated.npy").done()
    field.works("--emb", "d", *SCORES, want=want)
    for out in ("d/knn.npy", "d/knn.parquet", "d/knn.csv"):
        field.run("score", "--kind", "knn-distance", "--emb", "d", "--out", out).done()
        field.works("--emb", "d", *SCORES, want=want)
    more = ("--ratio", 0.3, "--methods", "d2,random")
    field.run("compare", "--emb", "d", *SCORES, *more, "--out", "d/c.html").done()
    field.works("--emb", "d", *SCORES, want=want)
    field.run("graph", "--emb", "d", "--out", "d/graph.arrow").done()
    field.works("--emb", "d/*", *SCORES, want=want)


def test_own_outputs_that_are_named_are_read(field):
    """Scores that `score` wrote are data where the user names them."""
    os.makedirs("o")
    given = ("--kind", "el2n", "--logits", "z.npy", "--labels", "y.npy")
    field.run("score", *given, "--out", "o/scores.parquet").done()
    field.run("score", *given, "--out", "o/scores.npy").done()
    want = field.wanted(X, np.load("o/scores.npy"))
    for scores in ("o/scores.npy", "o/scores.parquet", "o/*.parquet", "o/*.npy"):
        got = field.select(*EMB, "--scores", scores)
        field.same(got, want)
    os.remove("o/scores.parquet")
    got = field.select(*EMB, "--scores", "o")
    field.same(got, want) if got.code == 0 else got.refused(names=["o"])


def test_foreign_file_with_a_name_of_an_output_is_data(field):
    """Only the sidecar says what is an output."""
    shards()
    os.rename("d/emb_2.npy", "d/selected.npy")
    field.works("--emb", "d", *SCORES, want=field.wanted())


def test_output_that_was_replaced_is_data_again(field):
    """The sidecar is of another file: shards must not vanish silently."""
    shards()
    field.run("select", "--emb", "d", *SCORES, "--ratio", 0.3, "--out", "d/selected.npy").done()
    os.replace("d/emb_2.npy", "d/selected.npy")
    field.right("--emb", "d", *SCORES, want=field.wanted(), names=["d/selected.npy", "selected"])


def test_scores_beside_tables(field):
    k = np.array([f"u{i}" for i in range(N)])
    write("d/part.parquet", id=k, embedding=X, score=S)
    for _ in range(2):
        out = ("--ratio", 0.3, "--out", "d/selected.parquet")
        given = ("--emb", "d", "--scores", "d", "--scores-key", "score")
        field.run("select", *given, *out).done()
        field.works(*given, want=field.wanted())


# -- F4: what was meant ---------------------------------------------------------------------------
PLAIN = ("select", *EMB, *SCORES)
MEANT = {
    ("--ratio", "30%"): "0.3",
    ("--ratio", "30"): "0.3",
    ("--ratio", "0,3"): "0.3",
    ("--ratio", "12.5%"): "0.125",
}


@pytest.mark.parametrize("given", MEANT)
@pytest.mark.parametrize("command", ["select", "compare"])
def test_ratios_as_people_write_them(field, given, command):
    out = ("--out", "c.html", "--methods", "d2") if command == "compare" else ()
    got = field.run(command, *EMB, *SCORES, *given, *out)
    if got.code == 0:
        assert command == "compare" or MEANT[given] == "0.3"
        assert command == "compare" or np.load("selected.npy").tobytes() == field.wanted().tobytes()
    else:
        assert got.refused("--ratio", MEANT[given]).code == 2


MISSPELT = {
    "--embeddings": "--emb", "--embedding": "--emb", "--embs": "--emb", "--score": "--scores",
    "--label": "--labels", "--output": "--out", "--id-col": "--id-column",
    "--higher": "--higher-is", "--balanced": "--balance", "--badrows": "--bad-rows",
    "--neighbors": "--n-neighbors", "--ratios": "--ratio",
}  # fmt: skip


@pytest.mark.parametrize("option", MISSPELT)
def test_misspelt_options(field, option):
    got = field.run("select", *EMB, *SCORES, "--ratio", 0.3, option, "x").refused(option)
    assert got.code == 2
    words = got.err.replace(",", " ").replace("?", " ").replace("'", " ").replace("`", " ").split()
    assert MISSPELT[option] in words, got.line


def test_options_of_other_commands(field):
    """The option exists, but elsewhere."""
    got = field.run("graph", *EMB, "--ratio", 0.3, "--out", "g.arrow").refused("--ratio")
    assert got.code == 2


@pytest.mark.parametrize("kinds", ["EL2N", "el2n,aum", "EL2N, AUM", "El2N,aum,forgetting", "AUM"])
def test_kinds_in_any_case_and_several(field, kinds):
    single = [kind.strip().lower() for kind in kinds.split(",")]
    given = ("score", "--logits", "z.npy", "--labels", "y.npy")
    import pyarrow.parquet as pq

    field.run(*given, "--kind", kinds, "--out", "s.parquet").done()
    table = pq.read_table("s.parquet")
    assert [name for name in table.column_names if name in single] == single
    for kind in single:
        field.run(*given, "--kind", kind, "--out", "one.npy").done()
        assert np.array_equal(np.load("one.npy"), table[kind].to_numpy())


def probabilities():
    z = LOGITS.astype(np.float64)
    e = np.exp(z - z.max(2, keepdims=True))
    return e / e.sum(2, keepdims=True)


@pytest.mark.parametrize("kind", ["loss", "Loss", "perplexity"])
def test_loss_and_perplexity(field, kind):
    given = ("score", "--kind", kind, "--labels", "y.npy", "--out", "o.npy")
    field.run(*given, "--logits", "z.npy").done()
    loss = -np.log(probabilities()[:, np.arange(N), Y])
    if kind.lower() == "loss":
        want = [loss.mean(0)]
    else:
        want = [np.exp(loss.mean(0)), np.exp(loss).mean(0)]
    found = np.load("o.npy")
    assert any(np.allclose(found, one, rtol=1e-5) for one in want)
    array("p.npy", probabilities())
    field.run(*given, "--probs", "p.npy").done()
    assert np.allclose(np.load("o.npy"), found, rtol=1e-5)
    assert "harder" in str(field.provenance("o.npy"))
    got = field.select(*EMB, "--scores", "o.npy").done().has_line("o.npy", "harder")
    assert not got.notices, got.line


def test_loss_of_a_probability_of_zero(field):
    """−log 0 is infinite: refused or finite, never an output that select cannot read."""
    z = np.zeros((1, N, 5), np.float32)
    z[0, np.arange(N), (Y + 1) % 5] = 1
    array("p.npy", z)
    given = ("score", "--kind", "loss", "--labels", "y.npy", "--out", "o.npy")
    got = field.run(*given, "--probs", "p.npy")
    if got.code == 0:
        assert np.isfinite(np.load("o.npy")).all()
    else:
        got.refused(names=["p.npy"])


@pytest.mark.parametrize("kind", ["el2m", "grand", "margins", "forget", ""])
def test_unknown_kinds(field, kind):
    given = ("--kind", kind, "--logits", "z.npy", "--labels", "y.npy", "--out", "o.npy")
    got = field.run("score", *given).refused("el2n")
    assert got.code == 2


def test_permutation_of_the_rows_is_one():
    assert sorted(P) == list(range(N))
