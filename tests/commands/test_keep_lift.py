"""``--keep-lift`` from the command line: selections, staged steps, summaries, reports."""

import json
from pathlib import Path

import numpy as np
import pytest

from d2cli import build_graph, defaults, own_scores, propagate, select
from d2cli.defaults import DirectionDefaults
from d2cli.evaluation.lift import lift
from d2cli.messages.utility import utility

N = 300
EMB, SCORES = ("--emb", "emb.npy"), ("--scores", "scores.npy")


@pytest.fixture
def rows(run_cli):
    """300 rows in clusters: embeddings, scores of both signs, labels; rows to in- and exclude."""
    rng = np.random.default_rng(2)
    centres = 4 * rng.normal(size=(12, 3))
    emb = (centres[rng.integers(0, 12, N)] + rng.normal(size=(N, 3))).astype(np.float32)
    scores = rng.normal(0.2, 0.3, N)
    np.save("emb.npy", emb)
    np.save("scores.npy", scores)
    np.save("labels.npy", np.arange(N) % 4)
    Path("in.txt").write_text("5\n2\n77\n")
    Path("out.txt").write_text("3\n17\n40\n")
    return emb, scores


def sidecar_of(path="selected.npy"):
    return json.loads(Path(f"{path}.json").read_text())


@pytest.mark.parametrize("hops", [0, 1, 2])
def test_selection_equals_the_api(rows, run_cli, hops):
    options = ("--keep-lift", 0.8, "--hops", hops, "--higher-is", "better")
    assert run_cli("select", *EMB, *SCORES, "--ratio", 0.2, *options)[0] == 0
    emb, scores = rows
    graph = build_graph(emb, 10)
    centred = utility(scores, "better")
    u = propagate(graph, centred, hops=hops)
    own = centred if hops == 0 else own_scores(graph, u, hops=hops)
    found = select(graph, u, 60, keep_lift=0.8, scores=own)
    assert np.load("selected.npy").tolist() == sorted(found.order.tolist())
    entry = sidecar_of()
    assert entry["parameters"]["keep_lift"] == 0.8
    assert entry["parameters"]["gamma_reverse"] == "auto"
    assert entry["parameters"]["score_transform"] == "center"
    assert entry["selection"] == {
        "gamma_reverse": found.gamma_reverse,
        "gamma_reverse_at_bound": found.at_bound,
        "messages_ran_out_at": found.ran_out_at,
        "thinned_from": None,
        "kept_lift": found.lift.reached,
        "selected_neighbours": found.lift.neighbours,
        "selected_neighbours_by_score": found.lift.neighbours_by_score,
    }
    assert [d["name"] for d in entry["decisions"]] == [
        "method", "score_transform", "bandwidth", "own_scores", "gamma_reverse",
    ]  # fmt: skip
    if hops == 0:
        assert found.lift.reached == pytest.approx(lift(scores, found.order), rel=1e-12)


STAGED = [
    ["--hops", "0", "--higher-is", "better"],
    ["--higher-is", "better"],
    ["--hops", "2", "--higher-is", "better", "--score-transform", "shift"],
    ["--hops", "0", "--score-transform", "minmax"],
    ["--score-transform", "rank"],
    ["--higher-is", "easier", "--score-transform", "center", "--kernel", "exponential"],
]
ROWS = [
    [],
    ["--include", "in.txt"],
    ["--balance", "uniform", "--labels", "labels.npy"],
    ["--include", "in.txt", "--balance", "proportional", "--labels", "labels.npy"],
    ["--cutoff", "auto"],
    ["--complement", "--as", "mask"],
]


@pytest.mark.parametrize("more", ROWS, ids=" ".join)
@pytest.mark.parametrize("messages", STAGED, ids=" ".join)
def test_three_steps_give_the_bytes_of_one(rows, run_cli, messages, more):
    kept = ["--keep-lift", "0.85", "--ratio", "0.1", "--ratio", "0.5", *more, "-q"]
    exclude = ["--exclude", "out.txt"]
    one = [*EMB, *SCORES, *messages, *exclude, *kept, "--out", "one_{ratio}.npy"]
    assert run_cli("select", *one)[0] == 0
    assert run_cli("graph", *EMB, *exclude, "--out", "g.arrow")[0] == 0
    line = ["--graph", "g.arrow", *SCORES, *messages]
    assert run_cli("propagate", *line, "--out", "p.npy")[0] == 0
    staged = ["--graph", "g.arrow", "--propagated", "p.npy", *kept, "--out", "staged_{ratio}.npy"]
    assert run_cli("select", *staged)[0] == 0
    for ratio in ("0.1", "0.5"):
        found = Path(f"one_{ratio}.npy").read_bytes()
        assert Path(f"staged_{ratio}.npy").read_bytes() == found
        alone = [*one[:-1], "alone.npy"]
        other = alone.index("0.5" if ratio == "0.1" else "0.1")
        assert run_cli("select", *alone[: other - 1], *alone[other + 1 :], "--threads", 3)[0] == 0
        assert Path("alone.npy").read_bytes() == found


def test_propagate_without_hops_writes_the_scores(rows, run_cli):
    assert run_cli("graph", *EMB, "--out", "g.arrow")[0] == 0
    line = ("--graph", "g.arrow", *SCORES, "--hops", 0, "--higher-is", "better")
    assert run_cli("propagate", *line, "--score-transform", "none", "--out", "p.npy")[0] == 0
    assert np.load("p.npy").tolist() == rows[1].tolist()


def test_cutoff_rows_do_not_count(rows, run_cli):
    """Lift 1 is the mean of the best of the rows that the cutoff leaves."""
    options = ("--keep-lift", 1, "--hops", 0, "--cutoff", 0.1, "--score-transform", "shift")
    assert run_cli("select", *EMB, *SCORES, "--size", 20, *options)[0] == 0
    ranked = np.argsort(-rows[1], kind="stable")
    assert np.load("selected.npy").tolist() == sorted(ranked[30:50].tolist())


def test_summary_and_explain_state_the_lift(rows, run_cli):
    options = ("--keep-lift", 0.9, "--hops", 0, "--higher-is", "better", "--explain")
    code, _, err = run_cli("select", *EMB, *SCORES, "--ratio", 0.1, *options)
    assert code == 0
    found = sidecar_of()["selection"]
    near, best = found["selected_neighbours"], found["selected_neighbours_by_score"]
    assert 0.9 <= found["kept_lift"] < 1
    assert near < best
    (line,) = (line for line in err.splitlines() if line.startswith("lift  "))
    assert line.split(None, 1)[1] == (
        f"{found['kept_lift']:.4g} (at least 0.9); kept neighbours per kept row: {near:.2f}, "
        f"of the highest scores {best:.2f}"
    )
    assert f"gamma_r   {found['gamma_reverse']:.4g} (auto), messages" in err
    assert "smallest γ_r whose picks have a lift of at least L" in err
    assert "thinned" not in err
    assert "notice: " not in err


NOTICES = [
    (["--keep-lift", "1", "--hops", "1"], "keeps a lift of 1: the highest scores", 1),
    (["--keep-lift", "1", "--hops", "1"], "--hops 0 sends none", 1),
    (["--keep-lift", "0.001"], "spread the picks more", 0),
    (["--scores", "same.npy", "--keep-lift", "0.5"], "have the same mean score", 0),
]


@pytest.mark.parametrize(("options", "says", "none"), NOTICES)
def test_notices(rows, run_cli, options, says, none):
    np.save("same.npy", np.full(N, 2.0))
    scores = () if "--scores" in options else (*SCORES, "--higher-is", "better")
    code, _, err = run_cli("select", *EMB, *scores, *options, "--size", 30)
    assert code == 0
    assert [says in line for line in err.splitlines() if line.startswith("notice: ")] == [True]
    found = sidecar_of()["selection"]
    assert found["kept_lift"] >= float(options[options.index("--keep-lift") + 1])
    assert (found["gamma_reverse"] is None) == none
    assert found["gamma_reverse_at_bound"] == ("high" if none else "low")
    assert ("none (auto), the highest scores without reverse messages" in err) == none


def test_copies_without_hops_print_a_notice_about_copies(run_cli, rows):
    """One pick of the better half takes the scores of all its copies: then the others follow."""
    np.save("emb.npy", np.repeat([0.0, 9.0], N // 2)[:, None].astype("f4"))
    np.save("scores.npy", np.r_[np.linspace(2, 1, N // 2), np.linspace(0.9, 0.1, N // 2)])
    line = (*EMB, *SCORES, "-k", N // 2 - 1, "--keep-lift", 0.9, "--hops", 0, "--cutoff", 0)
    code, _, err = run_cli("select", *line, "--size", 30)
    assert code == 0
    assert "exact copies take each other's scores" in err
    assert "--hops 0" not in err
    assert np.load("selected.npy").tolist() == list(range(30))


def test_negative_gains_print_no_notice_about_messages(rows, run_cli):
    """Rows below the mean have a negative utility: messages end above it, as they should."""
    options = ("--keep-lift", 0.95, "--hops", 0, "--higher-is", "better", "--ratio", 0.8)
    code, _, err = run_cli("select", *EMB, *SCORES, *options)
    assert code == 0
    assert "messages ran out after" in err
    assert "notice: " not in err


REFUSED = [
    ("--keep-lift 0.9 --gamma-reverse 1", "--gamma-reverse 1 gives it", "leave out one"),
    ("--keep-lift 0.9 --mode paper", "no automatic gamma_reverse", "--mode default"),
    ("--keep-lift 0.9 --mode reference --gamma-reverse 1", "gives it", "leave out one"),
    ("--keep-lift 0", "above 0 and at most 1, not 0", ""),
    ("--keep-lift 1.01", "above 0 and at most 1, not 1.01", ""),
    ("--keep-lift nan", "above 0 and at most 1, not nan", ""),
    ("--keep-lift 90%", "--keep-lift must be a number", "write --keep-lift 0.9"),
    ("--lift 0.9", "No such option: --lift", "did you mean --keep-lift?"),
]


@pytest.mark.parametrize("command", ["select", "compare"])
@pytest.mark.parametrize(("options", "says", "hint"), REFUSED)
def test_what_contradicts_keep_lift_is_refused(rows, run_cli, command, options, says, hint):
    if command == "compare":
        pytest.importorskip("matplotlib")
        if "--mode" in options:
            pytest.skip("compare has no modes")
    code, out, err = run_cli(command, *EMB, *SCORES, "--ratio", 0.1, *options.split(), "--out",
                             "o.npy" if command == "select" else "o.html")  # fmt: skip
    assert (code, out) == (2, "")
    assert says in err
    assert hint in err
    assert not Path("o.npy").exists()


def test_gamma_auto_may_be_given_too(rows, run_cli):
    line = (*EMB, *SCORES, "--ratio", 0.1, "--higher-is", "better", "--keep-lift", 0.9)
    assert run_cli("select", *line)[0] == 0
    assert run_cli("select", *line, "--gamma-reverse", "auto", "--out", "o.npy")[0] == 0
    assert Path("o.npy").read_bytes() == Path("selected.npy").read_bytes()


def test_defaults_of_a_direction_are_one_line_of_the_table(rows, run_cli, monkeypatch):
    line = (*EMB, *SCORES, "--ratio", 0.1, "--higher-is", "better")
    other = DirectionDefaults(keep_lift=0.9, hops=0, cutoff="auto", negative="center")
    named = ("--keep-lift", 0.9, "--hops", 0, "--cutoff", "auto", "--out", "named.npy")
    assert run_cli("select", *line, *named)[0] == 0
    with monkeypatch.context() as patch:
        patch.setitem(defaults.DIRECTIONS, "better", other)
        assert run_cli("select", *line)[0] == 0
        settled = sidecar_of()["parameters"]
        assert (settled["keep_lift"], settled["hops"], settled["cutoff"]) == (0.9, 0, "auto")
        assert Path("selected.npy").read_bytes() == Path("named.npy").read_bytes()
        assert run_cli("select", *line, "--gamma-reverse", 1)[0] == 0
        settled = sidecar_of()["parameters"]
        assert (settled["keep_lift"], settled["hops"], settled["cutoff"]) == (None, 0, 0.0)
        given = ("--mode", "paper", "--gamma-reverse", 1)
        assert run_cli("select", *line, *given)[0] == 0
        assert sidecar_of()["parameters"]["hops"] == 1


@pytest.fixture
def page():
    for package in ("matplotlib", "jinja2", "sklearn"):
        pytest.importorskip(package)


def test_compare_measures_the_lift_of_every_method(rows, run_cli, page):
    options = ("--higher-is", "better", "--keep-lift", 0.9, "--hops", 0, "--ratio", 0.1)
    code, out, err = run_cli("compare", *EMB, *SCORES, *options, "--out", "c.html", "--json")
    assert code == 0, err
    found = {m["method"]: m for m in json.loads(out)["comparison"][0]["methods"]}
    assert run_cli("select", *EMB, *SCORES, *options)[0] == 0
    section = sidecar_of()["selection"]
    assert found["d2"]["lift"] == lift(utility(rows[1], "better"), np.load("selected.npy"))
    for name in ("kept_lift", "gamma_reverse", "selected_neighbours"):
        assert found["d2"][name] == section[name]
    assert found["highest"]["lift"] == 1.0
    assert abs(found["random"]["lift"]) < 0.5
    html = Path("c.html").read_text()
    assert "keeps a lift of 0.9" in html
    assert ">Lift</th>" in html
    parameters = json.loads(out)["parameters"]
    assert (parameters["keep_lift"], parameters["hops"]) == (0.9, 0)
    text = run_cli("compare", *EMB, *SCORES, *options, "--out", "c.html")[2]
    assert text.count(", lift ") == len(found)


@pytest.mark.parametrize("meaning", ["better", "easier"])
def test_report_states_the_lift(rows, run_cli, page, meaning):
    options = ("--higher-is", meaning, "--score-transform", "center", "--cutoff", 0)
    kept = ("--ratio", 0.1, "--out", "k.parquet")
    assert run_cli("select", *EMB, *SCORES, *options, *kept, "--keep-lift", 0.9)[0] == 0
    line = ("report", *EMB, *SCORES, "--selected", "k.parquet", "--map", "none", "--out", "r.html")
    code, out, err = run_cli(*line, "--json")
    assert code == 0, err
    (found,) = json.loads(out)["report"]["selections"]
    sign = -1 if meaning == "easier" else 1
    picked = np.flatnonzero(np.isin(np.arange(N), rows_of("k.parquet")))
    assert found["scores"]["lift"] == lift(sign * rows[1], picked)
    section = sidecar_of("k.parquet")["selection"]
    for name in ("kept_lift", "selected_neighbours", "selected_neighbours_by_score"):
        assert found["messages"][name] == section[name] is not None
    html = " ".join(Path("r.html").read_text().split())
    assert f"γ_r keeps a lift of {100 * section['kept_lift']:.1f}" in html
    assert f"{section['selected_neighbours']:.2f} kept neighbours on average" in html
    assert ", lift 0." in run_cli(*line)[2]


def rows_of(path):
    import pyarrow.parquet as pq

    return pq.read_table(path)["index"].to_numpy()


def test_report_of_a_selection_without_reverse_messages(rows, run_cli, page):
    options = ("--higher-is", "better", "--keep-lift", 1, "--hops", 1, "--ratio", 0.1)
    assert run_cli("select", *EMB, *SCORES, *options, "--out", "k.parquet")[0] == 0
    line = ("report", *EMB, *SCORES, "--selected", "k.parquet", "--map", "none", "--out", "r.html")
    assert run_cli(*line)[0] == 0
    assert "no γ_r kept the lift" in Path("r.html").read_text()
