"""The program on terminals and pipes that cannot show every character."""

import json
import os
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ASCII = {"PYTHONIOENCODING": "ascii"}
STRICT = {"PYTHONIOENCODING": "ascii:strict"}
LATIN = {"PYTHONIOENCODING": "latin-1"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SETTINGS = [ASCII, STRICT, LATIN, C_LOCALE]
BASE = ["select", "--emb", "Größe×/emb.npy", "--scores", "scores.npy", "--size", "9", "-k", "4"]


@pytest.fixture
def program(data, tmp_path, monkeypatch):
    """Runs a command in a process of its own: (exit code, stdout, stderr), as bytes."""
    (tmp_path / "Größe×").mkdir()
    os.rename("emb.npy", "Größe×/emb.npy")
    for name in ("PYTHONIOENCODING", "LC_ALL", "PYTHONUTF8"):
        monkeypatch.delenv(name, raising=False)

    def call(*line, **environment):
        done = subprocess.run(
            [sys.executable, "-m", "d2cli", *map(str, line)],
            capture_output=True, check=False, env=os.environ | environment,
        )  # fmt: skip
        assert b"defect" not in done.stderr
        assert b"Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return call


LINES = {
    "plan": ([*BASE, "--plan"], 0, b"40 x 4 float32"),
    "explain": ([*BASE, "--explain", "--out", "o.npy"], 0, b"sigma = "),
    "json": ([*BASE, "--json", "--out", "o.npy"], 0, b'"select"'),
    "help": (["select", "--help"], 0, b"Fraction of all rows to keep"),
    "about": (["--help"], 0, b"D2 pruning"),
    "no command": ([], 2, b"D2 pruning"),
    "no file": (
        ["select", "--emb", "Größe×/no.npy", "--scores", "s", "--size", "9"],
        1,
        b"no such",
    ),
    "usage": ([*BASE, "--ratio", "π"], 2, b"--ratio must be a number"),
    "option": ([*BASE, "--größe", "3"], 2, b"No such option"),
}


#: Other encodings differ from ASCII in standard output alone.
CASES = [(setting, name) for setting in (ASCII, C_LOCALE) for name in LINES]
CASES += [(setting, name) for setting in (STRICT, LATIN) for name in ("plan", "help", "explain")]


@pytest.mark.parametrize(
    ("setting", "name"), CASES, ids=[f"{'+'.join(s.values())} {name}" for s, name in CASES]
)
def test_no_character_ends_a_run(program, setting, name):
    line, expected, says = LINES[name]
    code, out, err = program(*line, **setting)
    assert code == expected, err
    encoding = "latin-1" if setting is LATIN else "ascii"
    shown = (out + err).decode(encoding)
    if encoding == "ascii":
        assert says.decode() in shown


def test_ids_on_stdout_are_the_bytes_of_the_text_file(program, data):
    ids = pa.array([f"é×\u4e00-{i}" for i in range(data.n)])
    pq.write_table(pa.table({"id": ids, "score": data.scores}), "s.parquet")
    emb = pa.FixedSizeListArray.from_arrays(pa.array(data.emb.ravel()), 4)
    pq.write_table(pa.table({"id": ids, "emb": emb}), "e.parquet")
    line = ["select", "--emb", "e.parquet", "--scores", "s.parquet", "--size", "9", "-k", "4"]
    line += ["--as", "id", "-q", "--out"]
    assert program(*line, "o.txt")[0] == 0
    with open("o.txt", "rb") as file:
        wanted = file.read()
    assert wanted.decode("utf-8").startswith("é×\u4e00-")
    for setting in SETTINGS:
        code, out, err = program(*line, "-", **setting)
        assert (code, out) == (0, wanted), err


def test_json_is_the_same_under_every_encoding(program):
    found = [program(*BASE, "--out", "o.npy", "--json", **s)[1] for s in (ASCII, LATIN, {})]
    assert len({json.dumps(json.loads(out)["inputs"]) for out in found}) == 1


def test_changed_inputs_are_noticed_under_the_c_locale(program, data):
    """Their recorded names are no names there until they are encoded as UTF-8."""
    line = ["--graph", "g.arrow", "--scores", "scores.npy", "--size", "9"]
    for made, read in (({}, C_LOCALE), (C_LOCALE, {})):
        np.save("Größe×/emb.npy", data.emb)
        graph = ["graph", "--emb", "Größe×/emb.npy", "--out", "g.arrow", "-k", 4]
        assert program(*graph, **made)[0] == 0
        assert program("select", *line, **read)[0] == 0
        np.save("Größe×/emb.npy", data.emb + 1)
        code, _, err = program("select", *line, **read)
        assert (code, b"has changed since" in err) == (1, True)
