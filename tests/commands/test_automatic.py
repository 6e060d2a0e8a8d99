"""``select`` and ``compare`` with an automatic cutoff and thinning, from the command line."""

import json
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from d2cli import build_graph, own_scores, prepare_edges, propagate, select
from d2cli.messages.utility import utility
from d2cli.selection.cutoff import automatic_cutoff
from d2cli.selection.gamma.least import least_lift


@pytest.fixture
def skewed(data):
    """The last eight of 40 scores are far above the others."""
    data.scores = np.where(np.arange(data.n) < 32, data.scores / 40, 2 + data.scores / 40)
    np.save("scores.npy", data.scores)
    return data


def sidecar_of(path="selected.npy"):
    return json.loads(Path(f"{path}.json").read_text())


EMB = ("--emb", "emb.npy", "--scores", "scores.npy")


def test_automatic_cutoff_equals_the_api(skewed, run_cli):
    assert run_cli("select", *EMB, "--ratio", 0.25, "--json")[0] == 0
    entry = sidecar_of()
    graph = build_graph(skewed.emb, 10)
    u = propagate(graph, utility(skewed.scores))
    own = own_scores(graph, u)
    cut = automatic_cutoff(own, 10, np.ones(40, bool), prepare_edges(graph)[0]).cut_rows
    assert entry["counts"]["cut_off"] == cut.sum() > 0
    assert entry["parameters"]["cutoff"] == "auto"
    assert not cut[np.load("selected.npy")].any()
    assert np.load("selected.npy").tolist() == sorted(
        select(graph, u, 10, scores=own, difficulty=own).order.tolist()
    )


@pytest.mark.parametrize("score", [0.3, 1.0, 3.0, 1e-9])
def test_equal_scores_cut_nothing(data, run_cli, score):
    np.save("scores.npy", np.full(data.n, score))
    assert run_cli("select", *EMB, "--ratio", 0.1)[0] == 0
    assert sidecar_of()["counts"]["cut_off"] == 0


def test_summary_names_cutoff_and_thinning(skewed, run_cli):
    _, _, err = run_cli("select", *EMB, "--size", 2)
    cut = sidecar_of()["counts"]["cut_off"]
    assert f"the hardest {cut} rows ({cut / 40:.1%}) left out (auto)" in err
    section = sidecar_of()["selection"]
    assert section["thinned_from"] > 2
    assert f"0.01 (auto), {section['thinned_from']} picks thinned to 2" in err
    (least,) = (d["value"] for d in sidecar_of()["decisions"] if d["name"] == "keep_lift")
    assert section["kept_lift"] >= least == float(least_lift(2, 40 - cut, True))
    assert f"{section['kept_lift']:.4g} (at least {least:.4g}, auto)" in err
    assert "notice: gamma_reverse" not in err


def test_all_rows_are_kept_without_a_notice(data, run_cli):
    """Every selection of all rows has the same mean score; there is nothing to choose."""
    for options in ((), ("--keep-lift", 0.5)):
        code, _, err = run_cli("select", *EMB, "--ratio", 1, *options)
        assert code == 0
        assert "notice: " not in err
        assert np.load("selected.npy").tolist() == list(range(40))


@pytest.mark.parametrize("cutoff", [[], ["--cutoff", "0"], ["--cutoff", "0.1"]], ids=" ".join)
@pytest.mark.parametrize("other", [[], ["--cutoff-scores", "other.npy"]], ids=" ".join)
def test_two_groups_are_those_of_the_scores_or_of_the_scores_of_an_automatic_cutoff(
    skewed, run_cli, cutoff, other
):
    """`scores` form two groups, `other` do not; no row of the high group is cut by 0.1."""
    np.save("other.npy", [9 + NormalDist().inv_cdf((i + 0.5) / 40) for i in range(40)])
    assert run_cli("select", *EMB, "--ratio", 0.1, *cutoff, *other)[0] == 0
    (least,) = (d for d in sidecar_of()["decisions"] if d["name"] == "keep_lift")
    assert least["numbers"]["two_groups"] == (not (other and not cutoff))


def test_each_budget_has_its_own_cutoff(skewed, run_cli):
    out = ("--out", "{ratio}.npy")
    assert run_cli("select", *EMB, "--ratio", 0.1, "--ratio", 0.3, *out)[0] == 0
    cuts = [sidecar_of(f"{ratio}.npy")["counts"]["cut_off"] for ratio in (0.1, 0.3)]
    assert cuts[0] > cuts[1] > 0
    for ratio in ("0.1", "0.3"):
        assert run_cli("select", *EMB, "--ratio", ratio, "--out", "alone.npy")[0] == 0
        assert Path("alone.npy").read_bytes() == Path(f"{ratio}.npy").read_bytes()


def test_automatic_cutoff_from_propagated_scores_alone(skewed, run_cli):
    assert run_cli("graph", "--emb", "emb.npy", "--out", "g.arrow")[0] == 0
    assert run_cli("propagate", "--graph", "g.arrow", *EMB[2:], "--out", "p.npy")[0] == 0
    for ratio in ("0.1", "0.3"):
        assert run_cli("select", *EMB, "--ratio", ratio)[0] == 0
        staged = ("--graph", "g.arrow", "--propagated", "p.npy", "--out", "staged.npy")
        assert run_cli("select", *staged, "--ratio", ratio)[0] == 0
        assert Path("staged.npy").read_bytes() == Path("selected.npy").read_bytes()
        assert sidecar_of("staged.npy")["counts"]["cut_off"] > 0


@pytest.mark.parametrize(
    ("options", "cutoff"),
    [
        (["--cutoff", "0"], 0.0),
        (["--gamma-reverse", "1"], 0.0),
        (["--mode", "paper", "--gamma-reverse", "1"], 0.0),
        (["--higher-is", "better"], 0.0),
        (["--cutoff", "auto", "--gamma-reverse", "1"], "auto"),
        (["--cutoff", "auto", "--higher-is", "better"], "auto"),
        (["--higher-is", "better", "--cutoff-scores", "scores.npy"], "auto"),
    ],
)
def test_options_that_make_the_cutoff_automatic(skewed, run_cli, options, cutoff):
    code, _, err = run_cli("select", *EMB, "--ratio", 0.25, *options)
    assert code == 0
    assert sidecar_of()["parameters"]["cutoff"] == cutoff
    assert (sidecar_of()["counts"]["cut_off"] > 0) == (cutoff == "auto")
    backwards = "auto" in options and "better" in options
    assert ("which --higher-is better calls the best" in err) == backwards


def test_automatic_cutoff_by_other_scores(skewed, run_cli):
    np.save("other.npy", -skewed.scores)
    other = ("--cutoff-scores", "other.npy", "--cutoff-higher-is", "harder")
    assert run_cli("select", *EMB, *other, "--ratio", 0.25)[0] == 0
    edges, _ = prepare_edges(build_graph(skewed.emb, 10))
    cut = automatic_cutoff(-skewed.scores, 10, np.ones(40, bool), edges).cut_rows
    assert sidecar_of()["counts"]["cut_off"] == cut.sum() > 0
    assert not cut[np.load("selected.npy")].any()
    assert sidecar_of()["inputs"]["cutoff_scores"]["path"] == "other.npy"


def test_automatic_cutoff_ignores_included_and_excluded_rows(skewed, run_cli):
    Path("in.txt").write_text("39\n")
    Path("out.txt").write_text("38\n37\n")
    rows = ("--include", "in.txt", "--exclude", "out.txt")
    assert run_cli("select", *EMB, *rows, "--ratio", 0.1)[0] == 0
    kept = np.load("selected.npy")
    assert 39 in kept
    assert not {37, 38} & {*kept.tolist()}
    assert sidecar_of()["counts"] | {"edges": 0} == {
        "rows": 40, "edges": 0, "included": 1, "excluded": 2, "dropped": 0, "kept": 4,
        "cut_off": sidecar_of()["counts"]["cut_off"],
    }  # fmt: skip
    assert sidecar_of()["counts"]["cut_off"] == 3  # ⌊5 − 3/2⌋ of the five hard rows


def test_unknown_cutoff_is_refused(data, run_cli):
    code, _, err = run_cli("select", *EMB, "--ratio", 0.5, "--cutoff", "some")
    assert code == 2
    assert "--cutoff must be auto or a number, not 'some'" in err


def test_compare_reports_the_same_cutoff_and_thinning(skewed, run_cli):
    pytest.importorskip("matplotlib")
    assert run_cli("select", *EMB, "--ratio", 0.25)[0] == 0
    options = ("--methods", "d2", "--ratio", 0.25, "--json", "--out", "c.html")
    code, out, err = run_cli("compare", *EMB, *options)
    assert code == 0, err
    (found,) = json.loads(out)["comparison"][0]["methods"]
    assert found["cut_off"] == sidecar_of()["counts"]["cut_off"] > 0
    for name in ("gamma_reverse", "thinned_from", "kept_lift"):
        assert found[name] == sidecar_of()["selection"][name]
