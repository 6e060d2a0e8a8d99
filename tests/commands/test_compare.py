"""``d2prune compare``: the numbers, the page, refusals."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

from d2cli import baselines, build_graph
from d2cli.defaults import CompareMethod, choices
from tests import naive_baselines
from tests.conftest import unless_given

METHODS = choices(CompareMethod)
#: Those that need nothing but embeddings and scores.
USUAL = tuple(name for name in METHODS if name != "dual-sampling")
#: The extra `report`.
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")


@pytest.fixture
def compare(run_cli, data):
    """Runs ``compare`` of the 40 rows with -k 4 on one thread into c.html."""
    given = ("--emb", "emb.npy", "--scores", "scores.npy", "--out", "c.html", "-k", 4)
    return lambda *args: run_cli("compare", *unless_given((*given, "--threads", 1), args), *args)


def numbers(result):
    code, out, err = result
    assert code == 0, err
    return json.loads(out)


def nearest(emb, rows):
    return [min(naive_baselines.length(e, emb[r]) for r in rows) for e in emb]


def test_measures_of_every_method_equal_the_plain_loops(compare, data):
    found = numbers(compare("--ratio", 0.1, "--size", 12, "--labels", "labels.npy", "--json"))
    assert [c["kept"] for c in found["comparison"]] == [4, 12]
    assert [c["ratio"] for c in found["comparison"]] == ["0.1", None]
    for budget in found["comparison"]:
        assert [m["method"] for m in budget["methods"]] == list(USUAL)
        shared = np.array(budget["shared"])
        assert shared.shape == (14, 14) and (np.diag(shared) == budget["kept"]).all()
        for m in budget["methods"]:
            assert sum(m["classes"]["kept"]) == budget["kept"]
    expected = {
        "random": baselines.random_rows(40, 12),
        "highest": baselines.highest(data.scores, 12),
        "cutoff": baselines.highest_after_cutoff(data.scores, 12, 0.1),
        "ccs": baselines.coverage_centric(data.scores, 12, 0.1),
        "moderate": baselines.moderate(data.emb, 12, data.labels),
        "k-center": baselines.k_center(data.emb, 12),
        "zcore": baselines.zcore(data.emb, 12),
    }
    graph = build_graph(data.emb, 4)
    for name in ("d2_paper", "graph_cut", "infomax", "semdedup_then_score"):
        rows = getattr(baselines, name)(graph, data.scores, 12)
        expected[name.replace("_", "-")] = rows
    by_name = {m["method"]: m for m in found["comparison"][1]["methods"]}
    ranks = np.argsort(np.argsort(data.scores)) + 1
    for name, rows in expected.items():
        far = nearest(data.emb, rows)
        assert by_name[name]["coverage"]["mean"] == pytest.approx(np.mean(far), rel=1e-5)
        assert by_name[name]["coverage"]["p95"] == pytest.approx(np.quantile(far, 0.95), rel=1e-5)
        assert by_name[name]["difficulty"] == pytest.approx(np.mean(ranks[rows]) / 40)
    both = len({*expected["random"].tolist()} & {*expected["highest"].tolist()})
    at = USUAL.index("random"), USUAL.index("highest")
    assert found["comparison"][1]["shared"][at[0]][at[1]] == both


def rows_by_shares(found, name):
    """How many rows each method shares with one of them, by method."""
    names = [m["method"] for m in found["methods"]]
    return dict(zip(names, found["shared"][names.index(name)], strict=True))


def test_settings_of_methods(compare, data):
    given = ("--alpha", 0.5, "--dedup-lift", 0.4, "--paper-gamma-reverse", 2, "--size", 9)
    methods = ("d2-paper", "highest", "semdedup-then-score", "graph-cut", "infomax")
    found = numbers(compare(*given, "--methods", ",".join(methods), "--json"))["comparison"][0]
    graph = build_graph(data.emb, 4)
    expected = {
        "d2-paper": baselines.d2_paper(graph, data.scores, 9, gamma_reverse=2.0),
        "semdedup-then-score": baselines.semdedup_then_score(graph, data.scores, 9, lift=0.4),
        "graph-cut": baselines.graph_cut(graph, data.scores, 9, alpha=0.5),
        "infomax": baselines.infomax(graph, data.scores, 9, alpha=0.5),
    }
    best = {*baselines.highest(data.scores, 9).tolist()}
    shared = {name: len({*rows.tolist()} & best) for name, rows in expected.items()}
    assert rows_by_shares(found, "highest") == {**shared, "highest": 9}
    assert len({*shared.values()}) > 2


@pytest.fixture
def confidence(data):
    """40 mean probabilities, in confidence.npy."""
    values = np.random.default_rng(3).random(data.n)
    np.save("confidence.npy", values)
    return values


def test_dual_sampling_with_confidence(compare, data, confidence, tmp_path):
    given = ("--size", 9, "--size", 12, "--confidence", "confidence.npy")
    found = numbers(compare(*given, "--json"))
    by_name = [{m["method"]: m for m in c["methods"]} for c in found["comparison"]]
    assert list(by_name[0]) == list(METHODS)
    for size, methods in zip((9, 12), by_name, strict=True):
        rows = baselines.dual_sampling(data.scores, confidence, size)
        far = nearest(data.emb, rows)
        assert methods["dual-sampling"]["coverage"]["mean"] == pytest.approx(np.mean(far), rel=1e-5)
    record = json.loads((tmp_path / "c.html.json").read_text())["inputs"]["confidence"]
    assert record["rows"] == 40 and record["joined"]


def test_confidence_of_bad_rows_is_dropped(compare, data, confidence):
    confidence[[2, 5]] = np.nan
    np.save("confidence.npy", confidence)
    given = ("--size", 9, "--confidence", "confidence.npy", "--methods", "dual-sampling")
    code, _, err = compare(*given)
    assert code == 1 and "confidence is nan; 2 of 40 rows" in err
    found = numbers(compare(*given, "--bad-rows", "drop", "--json"))
    rows = np.delete(np.arange(40), [2, 5])
    kept = rows[baselines.dual_sampling(data.scores[rows], confidence[rows], 9)]
    far = np.delete(nearest(data.emb, kept), [2, 5])
    mean = found["comparison"][0]["methods"][0]["coverage"]["mean"]
    assert mean == pytest.approx(np.mean(far), rel=1e-5)
    assert found["bad_rows"]["inputs"]["confidence"]["count"] == 2


def test_confidence_that_is_no_confidence_is_refused(compare, run_cli, data, confidence):
    given = ("--size", 9, "--confidence", "confidence.npy")
    code, out, err = compare("--size", 9, "--methods", "d2,dual-sampling")
    assert (code, out) == (2, "") and "needs --confidence" in err and "score --kind" in err
    code, out, err = compare(*given, "--methods", "d2")
    assert (code, out) == (2, "") and "--confidence is for dual-sampling" in err
    np.save("confidence.npy", np.where(np.arange(40) == 7, 1.5, confidence))
    code, out, err = compare(*given)
    assert (code, out) == (1, "") and "confidence.npy: row 7: confidence is 1.5" in err
    np.save("z.npy", np.random.default_rng(0).normal(size=(2, 40, 3)))
    line = ("--logits", "z.npy", "--labels", "labels.npy", "--out", "{kind}.npy")
    assert run_cli("score", "--kind", "entropy,confidence", *line)[0] == 0
    code, out, err = compare("--size", 9, "--confidence", "entropy.npy")
    assert (code, out) == (1, "") and "of kind entropy" in err
    assert compare("--size", 9, "--confidence", "confidence.npy")[0] == 0


def test_vanishing_messages_of_the_paper_are_told(compare, data):
    np.save("emb.npy", data.emb * 100)
    _, _, err = compare("--size", 9, "--methods", "d2-paper")
    assert "notice: d2-paper: 100% of the edge weights" in err
    np.save("emb.npy", data.emb / 100)
    _, _, err = compare("--size", 9, "--methods", "d2-paper")
    assert "edge weights" not in err


def test_d2_selects_the_rows_of_select(compare, select, data):
    found = numbers(compare("--ratio", 0.3, "--methods", "d2", "--json"))["comparison"][0]
    given = ("--emb", "emb.npy", "--scores", "scores.npy", "--ratio", 0.3, "--json")
    kept = numbers(select(*given))
    far = nearest(data.emb, np.load("selected.npy"))
    assert found["methods"][0]["coverage"]["mean"] == pytest.approx(np.mean(far), rel=1e-5)
    assert found["methods"][0]["gamma_reverse"] == kept["selection"]["gamma_reverse"]


class _Elements(HTMLParser):
    """The tags, addresses and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in ("src", "href") and v]

    def handle_data(self, text):
        self.words.append(" ".join(text.split()))  # no-break spaces become plain


def test_page_shows_every_method_and_no_external_address(compare, tmp_path):
    assert compare("--ratio", 0.1, "--ratio", 0.3, "--labels", "labels.npy")[0] == 0
    page = _Elements((tmp_path / "c.html").read_text())
    assert not {"script", "link", "iframe"} & {*page.tags}
    assert all(a.startswith(("#", "data:")) for a in page.addresses)
    assert page.tags.count("svg") == 6 and page.tags.count("title") == 1 + 6
    for name in USUAL:
        assert page.words.count(name) >= 2 * (1 + 3 + 1) + 1, name
    assert "Keeping 10.0 %: 4 rows" in page.words and "Classes lost" in page.words


def test_page_does_not_depend_on_threads(compare, tmp_path):
    pages = []
    for threads in (1, 2):
        assert compare("--ratio", 0.3, "--threads", threads)[0] == 0
        pages.append((tmp_path / "c.html").read_bytes())
    assert pages[0] == pages[1]


def test_options_of_methods_scores_and_metric(compare, tmp_path):
    np.save("scores.npy", -np.load("scores.npy"))
    given = ("--higher-is", "easier", "--score-transform", "shift", "--metric", "cosine")
    found = numbers(
        compare("--size", 5, *given, "--methods", "k-center,random", "--methods", "highest",
                "--measured-rows", 30, "--json")
    )  # fmt: skip
    names = [m["method"] for m in found["comparison"][0]["methods"]]
    assert names == ["random", "highest", "k-center"]
    assert found["comparison"][0]["methods"][1]["difficulty"] == pytest.approx(38 / 40)
    assert "classes" not in found["comparison"][0]["methods"][0]
    text = (tmp_path / "c.html").read_text()
    assert "Distances are measured on 30 rows" in text and "Classes lost" not in text


def test_redundancy_of_one_row_is_0(compare):
    found = numbers(compare("--size", 1, "--methods", "random", "--json"))["comparison"][0]
    assert found["methods"][0]["redundancy"] == {"share": 0.0, "median": None}


def test_equal_budgets_are_compared_once(compare):
    found = numbers(compare("--ratio", 0.3, "--size", 12, "--methods", "random", "--json"))
    assert [c["ratio"] for c in found["comparison"]] == ["0.3"]


def test_budgets_are_compared_in_the_order_of_their_first_mention(compare):
    rng = np.random.default_rng(0)
    np.save("emb.npy", rng.random((5000, 2), np.float32))
    np.save("scores.npy", rng.random(5000))
    line = ["--ratio", ".01", "--ratio", ".014", "--size", 50, "--methods", "random", "--json"]
    found = numbers(compare(*line))["comparison"]
    assert [(c["kept"], c["ratio"], c["size"]) for c in found] == [
        (50, ".01", None),
        (70, ".014", None),
    ]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--ratio", 0.95), "lower --cutoff"),
        (("--ratio", 0.95, "--methods", "d2,ccs"), "leave ccs out of --methods"),
        (("--ratio", 0.3, "--cutoff", 1), "cutoff must be"),
        (("--ratio", 0.3, "--methods", "best"), "unknown method 'best'"),
        (("--ratio", 0.3, "--measured-rows", 0), "--measured-rows"),
        (("--ratio", 0.3, "--out", "c.txt"), "end its name in .html"),
        (("--ratio", 0.3, "--gamma-reverse", "low"), "--gamma-reverse"),
        (("--ratio", 0.3, "--strata", 0), "strata"),
        (("--ratio", 0.3, "--alpha", -1), "--alpha must be"),
        (("--ratio", 0.3, "--dedup-lift", 95), "--dedup-lift must be"),
        (("--ratio", 0.3, "--paper-gamma-reverse", "nan"), "--paper-gamma-reverse must be"),
        (("--ratio", "x"), "--ratio must be a number"),
        (("--size", 41), "a budget of 41"),
        ((), "--ratio or --size"),
    ],
)
def test_wrong_usage_is_refused(compare, tmp_path, args, said):
    code, out, err = compare(*args)
    assert (code, out) == (2, "") and said in err
    assert not (tmp_path / "c.html").exists()


def test_missing_inputs_and_packages_are_refused(run_cli, data, monkeypatch):
    assert run_cli("compare", "--emb", "emb.npy", "--ratio", 0.3, "--out", "c.html")[0] == 2
    from d2cli.commands import pages as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    code, _, err = run_cli(
        "compare", "--emb", "emb.npy", "--scores", "scores.npy", "--ratio", 0.3, "--out", "c.html"
    )
    assert code == 1 and "Jinja2" in err and "d2prune[report]" in err
