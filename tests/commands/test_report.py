"""``d2prune report``: the page, its numbers against plain loops, examples, refusals."""

import json
import os
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.cli.main import run
from d2cli.commands import pages
from d2cli.files.examples import images_at, open_images
from d2cli.page.projection import project
from d2cli.page.text import Decimals, list_words, percent
from d2cli.page.thumbnails import LONGEST, thumbnail
from tests import naive_evaluation as naive
from tests.conftest import unless_given

BASE = ["--emb", "emb.npy", "--scores", "scores.npy"]
EVIL = "<script>alert('x')</script>&\"$x^2$"


class Reader(HTMLParser):
    """The tags with their attributes, and the texts, of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.data = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.data.append(data)

    def of(self, *names):
        return [attrs for tag, attrs in self.tags if tag in names]


@pytest.fixture
def kept(data, select):
    """Selections of 8 and of 16 of the 40 rows, as tables with ranks."""
    assert select(*BASE, "--size", 8, "--size", 16, "--out", "k_{size}.parquet")[0] == 0
    return data


@pytest.fixture
def report(run_cli):
    """Runs ``d2prune report`` into ``r.html``; returns (exit code, stdout, stderr)."""
    usual = ("--out", "r.html", "--map", "pca")
    return lambda *args: run_cli("report", *BASE, *unless_given(usual, args), *args)


def read():
    return Reader(Path("r.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A page with labels, images, texts and two selections."""
    rng = np.random.default_rng(7)
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("page"))
    try:
        np.save("emb.npy", rng.normal(size=(40, 4)).astype(np.float32))
        np.save("scores.npy", rng.random(40))
        np.save("images.npy", rng.integers(0, 256, (40, 9, 7), dtype=np.uint8))
        np.save("names.npy", np.array(["cat", EVIL, "dog"])[rng.integers(0, 3, 40)])
        Path("texts.txt").write_text("".join(f"{EVIL}, text {i}\n" for i in range(40)))
        sizes = ["--size", "8", "--size", "16", "--out", "k_{size}.parquet", "-q"]
        assert run(["select", *BASE, *sizes]) == 0
        shown = ["--labels", "names.npy", "--images", "images.npy", "--texts", "texts.txt"]
        args = [*shown, "--selected", "k_*.parquet", "--map", "pca", "--out", "r.html", "-q"]
        assert run(["report", *BASE, *args]) == 0
        reader = read()
        reader.page = Path("r.html").read_text(encoding="utf-8")
    finally:
        os.chdir(before)
    return reader


# -- the page -------------------------------------------------------------------------------------
def test_page_has_no_scripts_and_no_external_addresses(full):
    assert not full.of("script", "link", "iframe", "object", "embed", "base", "form")
    for _, attrs in full.tags:
        assert not [name for name in attrs if name.startswith("on")]
        for name in ("href", "src", "srcset", "action", "poster", "xlink:href"):
            assert attrs.get(name, "#").startswith(("#", "data:image/")), attrs
    page = full.page
    assert not re.search(r"@import|url\((?!#)|https?://(?!www\.w3\.org)", page)
    policy = [m for m in full.of("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy[0]["content"].startswith("default-src 'none'")


def test_texts_and_labels_are_escaped(full):
    page = full.page
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    assert any(EVIL in text for text in full.data)


def test_heading_levels_have_no_gaps(full):
    levels = [int(tag[1]) for tag, _ in full.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))


def test_ids_are_unique_and_links_have_targets(full):
    ids = [attrs["id"] for _, attrs in full.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in full.tags:
        for name in ("aria-labelledby", "aria-describedby"):
            assert set(attrs.get(name, "").split()) <= set(ids)
        if attrs.get("href", "").startswith("#"):
            assert attrs["href"][1:] in ids
        for used in re.findall(r"url\(#([^)]+)\)", " ".join(v or "" for v in attrs.values())):
            assert used in ids
    assert full.of("a")[0] == {"class": "skip", "href": "#report"}
    assert full.of("main")[0]["id"] == "report"


def test_figures_and_tables_are_accessible(full):
    assert full.of("html")[0]["lang"] == "en"
    assert any(m.get("name") == "viewport" for m in full.of("meta"))
    figures = full.of("figure")
    drawn = [s for s in full.of("svg") if s.get("role") == "img"]
    assert len(figures) == len(drawn) == len(full.of("figcaption")) == 12
    assert all("aria-labelledby" in s for s in drawn)
    assert all(image["alt"] for image in full.of("img"))
    assert len(full.of("table")) == len(full.of("caption"))
    assert all(cell.get("scope") in ("row", "col") for cell in full.of("th"))
    assert full.data.count("Numbers of this figure") == len(figures)


def test_every_colour_has_a_light_and_a_dark_value(full):
    page = full.page
    assert "prefers-color-scheme: dark" in page
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.S))
    assert not re.search(r"#[0-9a-fA-F]{6}", drawings)
    assert set(re.findall(r"var\((--[a-z]+)\)", drawings)) >= {"--kept", "--dropped", "--ink"}
    for variable in set(re.findall(r"var\((--[a-z]+)\)", page)) - {"--share"}:
        assert page.count(f"{variable}:") == (1 if variable == "--font" else 2)


def test_page_does_not_depend_on_threads(kept, report):
    args = ["--selected", "k_8.parquet", "--labels", "labels.npy", "--map", "tsne", "-q"]
    pages = set()
    for threads in (1, 3):
        assert report(*args, "--threads", threads)[0] == 0
        pages.add(Path("r.html").read_bytes())
    assert len(pages) == 1


def test_large_images_and_texts_are_reduced(kept, report):
    np.save("x.npy", np.random.default_rng(1).random((40, 200, 300, 3), np.float32))
    Path("t.txt").write_text(("word " * 1000 + "\n") * 40)
    assert report("--selected", "k_8.parquet", "--images", "x.npy", "--texts", "t.txt")[0] == 0
    assert Path("r.html").stat().st_size < 600_000
    widths = [int(image["width"]) for image in read().of("img")]
    assert max(widths) == LONGEST


# -- the numbers ----------------------------------------------------------------------------------
def test_numbers_equal_the_plain_loops(kept, report):
    args = ["--selected", "k_8.parquet", "--selected", "k_16.parquet", "--labels", "labels.npy"]
    code, out, _ = report(*args, "--json")
    assert code == 0
    found = json.loads(out)
    beside = json.loads(Path("r.html.json").read_text())
    assert found["report"] == beside["report"]
    assert [entry["rows"] for entry in found["inputs"]["selected"]] == [8, 16]
    everyone = naive.nearest_other(kept.emb, range(40))
    assert found["report"]["nearest_other_median"] == np.median(everyone.astype(float))
    picked = []
    for size, numbers in zip((8, 16), found["report"]["selections"], strict=True):
        rows = pq.read_table(f"k_{size}.parquet")["index"].to_pylist()
        picked.append(set(rows))
        distances, which = naive.nearest_selected(kept.emb, set(rows))
        assert numbers["kept"] == size
        assert numbers["coverage"]["mean"] == pytest.approx(distances.mean(dtype=float))
        assert numbers["coverage"]["p95"] == pytest.approx(naive.percentile(distances, 0.95))
        assert numbers["coverage"]["random"]["mean"]["sd"] > 0
        others = naive.nearest_other(kept.emb, rows)
        assert numbers["redundancy"]["median"] == pytest.approx(np.median(others))
        full, some = naive.counts(kept.labels, set(rows), 3)
        assert (numbers["classes"]["full"], numbers["classes"]["kept"]) == (full, some)
        assert sum(numbers["scores"]["bins"]["kept"]) == size
        assert numbers["messages"]["ran_out_at"] is None
        hardest = max(rows, key=lambda r: kept.scores[r])
        assert numbers["examples"]["hardest_kept"][0]["row"] == hardest
        widest = numbers["examples"]["most_covering"][0]
        assert widest["value"] == max(np.bincount(which))
        dropped = [r for r in range(40) if r not in rows]
        near = numbers["examples"]["most_redundant_dropped"][0]
        assert near["row"] == min(dropped, key=lambda r: (distances[r], r))
        assert near["nearest_kept"] == which[near["row"]]
        far = numbers["examples"]["least_covered"][0]
        assert far["row"] == min(dropped, key=lambda r: (-distances[r], r))
    overlap = found["report"]["overlap"]
    assert overlap["shared"][0][1] == len(picked[0] & picked[1])
    assert overlap["shared_by_chance"][0][1] == 8 * 16 / 40


def test_page_names_the_number_of_measured_and_mapped_rows(kept, report):
    code, out, _ = report("--selected", "k_16.parquet", "--measured-rows", 10, "--json")
    found = json.loads(out)["report"]
    assert (code, found["measured_rows"]) == (0, 10)
    assert "Measured on 10 rows drawn at random (seed 0)." in Path("r.html").read_text()
    assert report("--selected", "k_16.parquet", "--map-rows", 10, "-q")[0] == 0
    assert "10 of 40 rows, drawn at random (seed 0)" in Path("r.html").read_text()


def test_page_shows_where_the_messages_ran_out(data, select, report):
    hard = ["--size", 30, "--gamma-reverse", 0.01]
    assert select(*BASE, *hard, "--out", "k.parquet")[0] == 0
    at = json.loads(Path("k.parquet.json").read_text())["selection"]["messages_ran_out_at"]
    code, out, _ = report("--selected", "k.parquet", "--json")
    found = json.loads(out)["report"]["selections"][0]["messages"]
    assert (code, found["ran_out_at"], found["picks"]) == (0, at, 30)
    order = pq.read_table("k.parquet").sort_by("rank")["index"].to_numpy()
    place = np.argsort(np.argsort(data.scores)) + 1
    assert found["difficulty_guided"] == pytest.approx(np.median(place[order[:at]]) / 40)
    assert found["difficulty_after"] == pytest.approx(np.median(place[order[at:]]) / 40)
    page = Path("r.html").read_text()
    assert f"ran out after {at} of 30 picks" in page
    assert "messages ran out</text>" in page
    assert select(*BASE, *hard, "--out", "k.npy")[0] == 0
    assert report("--selected", "k.npy", "--map", "none")[0] == 0
    assert f"ran out after {at} of 30 picks" in Path("r.html").read_text()
    assert "does not hold the order of the picks" in Path("r.html").read_text()


@pytest.mark.parametrize(
    ("told", "low", "high"), [("easier", 0, "hardest"), ("better", -1, "best")]
)
def test_report_uses_the_direction_recorded_by_select(data, select, report, told, low, high):
    turned = ["--higher-is", told, "--score-transform", "rank", "--size", 12, "--out", "k.parquet"]
    assert select(*BASE, *turned)[0] == 0
    code, out, _ = report("--selected", "k.parquet", "--json")
    found = json.loads(out)["report"]
    assert (code, found["higher_is"]) == (0, told)
    rows = pq.read_table("k.parquet")["index"].to_numpy()
    extreme = rows[np.argsort(data.scores[rows])[low]]
    assert found["selections"][0]["examples"]["hardest_kept"][0]["row"] == extreme
    assert f"{high.capitalize()} kept" in read().data


def test_table_of_many_classes_is_shortened(data, select, report):
    np.save("emb.npy", np.vstack([data.emb, data.emb + 100]))
    np.save("scores.npy", np.tile(data.scores, 2))
    np.save("many.npy", np.arange(80))
    assert select(*BASE, "--size", 20)[0] == 0
    assert report("--selected", "selected.npy", "--labels", "many.npy", "-q")[0] == 0
    words = "The table shows 40 of 80 classes: the 20 with the lowest and the 20 with the highest"
    assert words in "".join(read().data)


def test_report_of_one_row_and_one_class(run_cli, report):
    np.save("emb.npy", np.ones((1, 3), np.float32))
    np.save("scores.npy", np.ones(1))
    np.save("labels.npy", np.array(["only"]))
    np.save("kept.npy", np.array([0]))
    code, out, _ = report("--selected", "kept.npy", "--labels", "labels.npy", "--json")
    assert code == 0
    assert json.loads(out)["report"]["selections"][0]["redundancy"]["median"] is None
    assert "does not say how it was made" in Path("r.html").read_text()


@pytest.mark.parametrize("how", ["tsne", "none"])
def test_page_has_a_map_unless_none_is_asked_for(kept, report, how):
    assert report("--selected", "k_8.parquet", "--map", how, "-q")[0] == 0
    assert ("t-SNE of all 40 rows" in Path("r.html").read_text()) == (how == "tsne")
    assert bool([a for a in read().of("h2") if a["id"] == "map"]) == (how == "tsne")


@pytest.mark.parametrize("method", ["pca", "tsne"])
@pytest.mark.parametrize("shape", [(1, 3), (2, 1), (12, 1), (12, 4)])
def test_projections_of_few_or_equal_rows_stay_within_the_unit_square(method, shape):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    places = project(values, method, 0)
    assert places.shape == (shape[0], 2)
    assert (places >= -1e-9).all()
    assert (places <= 1 + 1e-9).all()
    assert places.tobytes() == project(values, method, 0).tobytes()
    assert (project(np.ones_like(values), method, 0) == 0.5).all()


# -- examples -------------------------------------------------------------------------------------
def test_images_of_every_dtype_and_shape(run_cli):
    grey = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
    forms = {
        "grey.npy": grey,
        "float.npy": grey.astype(np.float32) / 255,
        "one.npy": grey.astype(np.int64)[..., None],
        "fortran.npy": np.asfortranarray(grey),
    }
    rows = np.array([31, 2, 31, 7])
    for name, images in forms.items():
        np.save(name, images)
        found = images_at(open_images([name], None, None), rows)
        assert np.array_equal(np.stack(found), grey[rows])
    np.save("rgb.npy", np.repeat(grey[..., None], 3, axis=3))
    assert images_at(open_images(["rgb.npy"], None, None), rows)[1].shape == (6, 6, 3)
    np.save("mask.npy", grey > 99)
    mask = images_at(open_images(["mask.npy"], None, None), rows)
    assert np.array_equal(np.stack(mask), np.where(grey[rows] > 99, 255, 0))
    np.savez("both.npz", x=grey, other=grey[::-1])
    two = open_images(["both.npz", "grey.npy"], None, None)
    assert np.array_equal(images_at(two, np.array([41]))[0], grey[1])
    other = open_images(["both.npz"], "other", None)
    assert np.array_equal(images_at(other, np.array([0]))[0], grey[39])


def test_texts_from_tables_are_joined_by_id(data, run_cli, select):
    pq.write_table(pa.table({"id": data.ids, "el2n": data.scores}), "s.parquet")
    texts = [f"text of {i}" for i in data.ids]
    texts[3] = None
    table = pa.table({"id": data.ids, "caption": texts})
    pq.write_table(table.take(np.arange(40)[::-1].copy()), "t.parquet")
    inputs = ["--emb", "emb.npy", "--scores", "s.parquet"]
    assert select(*inputs, "--size", 9, "--out", "k.csv")[0] == 0
    args = [*inputs, "--selected", "k.csv", "--texts", "t.parquet", "--map", "none"]
    assert run_cli("report", *args, "--examples", 40, "--out", "r.html", "-q")[0] == 0
    cards = re.findall(r"<li>(.*?)</li>", Path("r.html").read_text(), re.S)
    shown = [re.search(r"<blockquote>(.*?)</blockquote>.*?<span>(id\d+)<", c, re.S) for c in cards]
    pairs = {found[2]: found[1] for found in shown if found and "near" not in found[0]}
    assert len(pairs) > 30
    for name, text in pairs.items():
        assert text == ("(no text)" if name == data.ids[3] else f"text of {name}")


def test_thumbnails_keep_their_aspect_ratio():
    small = thumbnail(np.zeros((5, 7), np.uint8))
    assert (small.width, small.height, small.tiny) == (7, 5, True)
    large = thumbnail(np.zeros((300, 600, 3), np.uint8))
    assert (large.width, large.height, large.tiny) == (96, 48, False)
    assert large.uri.startswith("data:image/jpeg;base64,")


def test_lists_percentages_and_decimals_as_text():
    assert list_words(["a"]) == "a"
    assert list_words(["a", "b", "c"]) == "a, b and c"
    assert percent(float("nan")) == "–"
    assert Decimals([12.3, 0.5])(0.5) == "0.50"
    assert Decimals([1e-9])(1e-9) == "1.000e-09"
    assert Decimals([1.0])(float("inf")) == "–"


# -- refusals -------------------------------------------------------------------------------------
def test_missing_packages_give_a_hint(kept, report, monkeypatch):
    monkeypatch.setattr(pages, "find_spec", lambda name: None if name == "matplotlib" else name)
    code, _, err = report("--selected", "k_8.parquet")
    assert code == 1
    assert err.splitlines() == [
        "error: d2prune report needs matplotlib, not installed here",
        "hint: pip install 'd2prune[report]'",
    ]


REFUSED = [
    (["--selected", "k_8.parquet", "--out", "r.pdf"], 2, "d2prune report writes a web page"),
    (["--selected", "k_8.parquet", "--examples", -1], 2, "--examples must be at least 0"),
    (["--selected", "k_8.parquet", "--map-rows", 0], 2, "--map-rows must be at least 1"),
    (["--selected", "k_8.parquet"] * 9, 2, "9 selections are more than the 8"),
    (["--selected", "k_8.parquet", "--images", "emb.npy"], 1, "images must be (n, height, width)"),
    (["--selected", "k_8.parquet", "--images", "chw.npy"], 1, "transpose(0, 2, 3, 1)"),
    (["--selected", "k_8.parquet", "--images", "hot.npy"], 1, "floats 0 … 1"),
    (["--selected", "k_8.parquet", "--images", "flat.npy"], 1, "have no pixels"),
    (["--selected", "k_8.parquet", "--texts", "latin.txt"], 1, "is not UTF-8 text"),
    (["--selected", "k_8.parquet", "--texts", "short.txt"], 1, "has 2 rows"),
    (["--selected", "k_8.parquet", "--texts", "labels.npy"], 1, "texts must be text"),
]


@pytest.mark.parametrize(("args", "code", "said"), REFUSED)
def test_invalid_options_and_examples_are_refused(kept, report, args, code, said):
    np.save("chw.npy", np.zeros((40, 3, 8, 8), np.uint8))
    np.save("hot.npy", np.full((40, 8, 8), 1.5))
    np.save("flat.npy", np.zeros((40, 8, 0), np.uint8))
    Path("latin.txt").write_bytes("é\n".encode("latin-1") * 40)
    Path("short.txt").write_text("a\nb\n")
    found, out, err = report(*args)
    assert (found, out) == (code, "")
    assert said in err
    assert not Path("r.html").exists()


def test_report_does_not_overwrite_an_input(kept, report):
    Path("t.html").write_text("a\n" * 40)
    args = ["--selected", "k_8.parquet", "--texts", "t.html", "--out", "t.html"]
    assert report(*args)[0] != 0
    assert Path("t.html").read_text() == "a\n" * 40


@pytest.mark.parametrize("command", ["report", "compare"])
def test_paths_that_are_not_utf8_are_shown_with_a_replacement(command, kept, run_cli):
    folder = os.fsdecode(b"d\xff")
    os.mkdir(folder)
    for name in ("emb.npy", "k_8.parquet"):
        os.link(name, f"{folder}/{name}")
    more = {
        "report": ["--selected", f"{folder}/k_8.parquet", "--map", "none"],
        "compare": ["--size", 8, "--methods", "d2,random"],
    }[command]
    line = ["--emb", f"{folder}/emb.npy", *BASE[2:], *more, "--out", f"{folder}/page.html"]
    code, _, err = run_cli(command, *line)
    assert code == 0, err
    assert "d?/emb.npy" in Path(folder, "page.html").read_text(encoding="utf-8")
