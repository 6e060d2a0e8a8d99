"""What the recipes write is right: rows, uids, texts, and the order that the next step needs."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.field.make import CLASSES, IDS, N, P, S, X, Y, array, at, lines, write
from tests.recipes.conftest import PAGES
from tests.recipes.standins import use_standins
from tests.standin_torch import use_standin_torch

COLOURS = ("red", "green", "blue", "black", "white")
TEXTS = np.array([f"example {i} is {COLOURS[i % 5]}" for i in range(N)])
SHARDS = np.array_split(np.arange(N), 3)
#: The longest recipe, in lines.
RECIPE_LINES = 60


def test_every_recipe_is_followed():
    text = Path(__file__).read_text(encoding="utf-8")
    assert PAGES
    assert [name for name in PAGES if f'recipe.follow("{name}")' not in text] == []


def test_recipes_are_short():
    long = [
        name for name, path in PAGES.items() if len(path.read_text().splitlines()) > RECIPE_LINES
    ]
    assert long == []


# -- DataComp -------------------------------------------------------------------------------------
def test_datacomp_small(recipe):
    rng = np.random.default_rng(1)
    uids = np.array([rng.bytes(16).hex() for _ in range(N)])
    members = {
        name: rng.standard_normal((N, d)).astype(np.float16)
        for name, d in (("b32_img", 8), ("b32_txt", 8), ("l14_img", 16), ("l14_txt", 16))
    }
    b32, l14 = rng.uniform(0.05, 0.4, (2, N)).astype(np.float32)
    l14[[7, 120]], l14[200], members["l14_img"][250] = np.nan, -np.inf, 0
    names = sorted(rng.bytes(16).hex() for _ in SHARDS)
    for name, rows in zip(names, SHARDS, strict=True):
        path = f"data/metadata/small/{name}"
        write(
            f"{path}.parquet",
            uid=uids[rows],
            url=np.array([f"https://example.org/{i}.jpg" for i in rows]),
            text=TEXTS[rows],
            original_width=rng.integers(200, 900, len(rows)),
            original_height=rng.integers(200, 900, len(rows)),
            clip_b32_similarity_score=b32[rows],
            clip_l14_similarity_score=l14[rows],
            sha256=np.array([rng.bytes(32).hex() for _ in rows]),
        )
        write(f"{path}.npz", **{name: values[rows] for name, values in members.items()})
    recipe.follow("datacomp-small")

    image, text = (np.float32(members[name]) for name in ("l14_img", "l14_txt"))
    both = np.hstack([image, text / np.linalg.norm(text, axis=1, keepdims=True)])
    lengths = np.linalg.norm(image, axis=1, keepdims=True)
    both[:, :16] /= np.where(lengths == 0, 1, lengths)
    options = ("--metric", "cosine", "--higher-is", "better")
    bad = np.array([7, 120, 200, 250])
    for name, emb, said in zip(("subset", "subset_both"), (image, both), recipe.said, strict=True):
        said.has_line("bad rows", "4 of 300")
        found = np.load(f"{name}.npy")
        assert found.dtype == np.dtype("u8,u8")
        assert np.array_equal(found, np.unique(found))
        rows = recipe.wanted(emb, l14, *options, exclude=bad)
        assert set(resharded(found, uids)) == set(rows.tolist())
        assert len(found) == round(0.3 * N)
    assert recipe.names[0]["uids"] == sorted(uids[recipe.wanted(image, l14, *options, exclude=bad)])


def resharded(subset, uids):
    """The rows that DataComp's resharder keeps: it searches each uid in the sorted file."""
    for row, uid in enumerate(uids):
        key = np.array([divmod(int(uid, 16), 1 << 64)], subset.dtype)[0]
        first, end = (np.searchsorted(subset, key, side) for side in ("left", "right"))
        yield from [row] * (end - first)


# -- Hugging Face ---------------------------------------------------------------------------------
def test_huggingface(recipe, tmp_path, monkeypatch):
    use_standins(monkeypatch)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / ".cache"))
    for number, rows in enumerate(SHARDS):
        write(f"reviews/train-{number}.parquet", text=TEXTS[rows], label=Y[rows])
    recipe.follow("huggingface")

    emb, scores = np.load("emb.npy"), np.load("scores.npy")
    assert np.array_equal(np.load("labels.npy"), Y)
    rows = recipe.wanted(emb, scores, "--metric", "cosine", "--balance", "proportional", labels=Y)
    kept = pq.read_table("reviews_kept.parquet")
    assert kept["text"].to_pylist() == TEXTS[rows].tolist()
    assert kept["label"].to_pylist() == Y[rows].tolist()
    assert np.array_equal(np.load("kept_again.npy"), rows)


# -- PyTorch --------------------------------------------------------------------------------------
def test_pytorch_epochlog(recipe, monkeypatch):
    use_standin_torch(monkeypatch)
    array("emb.npy", X + np.eye(CLASSES, X.shape[1], dtype=np.float32)[Y])
    array("labels.npy", Y)
    recipe.follow("pytorch-epochlog")

    logits = np.load("logits.npy").astype(np.float64)
    assert not np.isnan(logits).any()
    p = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    el2n = np.linalg.norm(p - np.eye(CLASSES)[Y], axis=2).mean(axis=0)
    own = np.take_along_axis(logits, Y[None, :, None], axis=2)[:, :, 0]
    others = np.where(np.eye(CLASSES, dtype=bool)[Y], -np.inf, logits).max(axis=2)
    aum = (own - others).mean(axis=0)
    scores = pq.read_table("scores.parquet")
    np.testing.assert_allclose(scores["el2n"], el2n, rtol=1e-6)
    np.testing.assert_allclose(scores["aum"], aum, atol=1e-6)
    emb = np.load("emb.npy")
    rows = recipe.wanted(emb, scores["el2n"])
    assert np.array_equal(np.load("kept.npy"), rows)
    easier = ("--higher-is", "easier", "--score-transform", "shift")
    by_aum = recipe.wanted(emb, scores["aum"], *easier)
    assert np.array_equal(np.load("kept_by_aum.npy"), by_aum)
    assert not np.array_equal(rows, recipe.wanted(emb, -el2n + 2))  # the direction matters

    kept, loader = recipe.names[-1]["kept"], recipe.names[-1]["loader"]
    examples = [kept[i] for i in range(len(kept))]
    assert np.array_equal([y.numpy() for _, y in examples], Y[rows])
    assert np.array_equal([x.numpy() for x, _ in examples], emb[rows])
    seen = np.concatenate([y.numpy() for _, y in loader])
    assert np.array_equal(np.sort(seen), np.sort(Y[rows]))


# -- LLM instructions -----------------------------------------------------------------------------
def test_llm_instructions(recipe):
    quality = (S * 5).round(2)
    missing = np.array([3, 64, 299])
    rows = [
        {
            "id": str(IDS[i]),
            "instruction": f"{TEXTS[i]} – erkläre “das”\u2028bitte",
            "output": "\n".join([str(i)] * 3),
            "quality": None if i in missing else float(quality[i]),
        }
        for i in range(N)
    ]
    written = [json.dumps(row, ensure_ascii=bool(i % 2)) for i, row in enumerate(rows)]
    lines("instructions.jsonl", written)
    write("embeddings.parquet", id=IDS[P], embedding=X[P])
    recipe.follow("llm-instructions")
    recipe.said[0].has_line("bad rows", "3 of 300").has_line("scores", "by id")

    scores = quality.copy()
    scores[missing] = 0
    options = ("--metric", "cosine", "--higher-is", "better")
    left_out = np.flatnonzero(np.isin(P, missing))
    kept = np.sort(P[recipe.wanted(X[P], scores[P], *options, exclude=left_out)])
    assert len(kept) == round(0.3 * N)
    found = Path("kept.jsonl").read_text(encoding="utf-8").split("\n")
    assert found == [*(written[i] for i in kept), ""]


# -- near-duplicates ------------------------------------------------------------------------------
def test_dedup_first(recipe):
    rng = np.random.default_rng(3)
    emb, first = X.copy(), np.arange(N)
    order = rng.permutation(N)
    groups = [order[:25], *order[25:65].reshape(20, 2)]  # one group is larger than k
    for group in groups:
        head = group.min()
        first[group] = head
        emb[group] = X[head] + 0.01 * rng.standard_normal((len(group), X.shape[1]))
    emb[order[65]], first[order[65]] = 3 * X[order[66]], order[65:67].min()  # the same direction
    first[order[66]] = first[order[65]]
    array("emb.npy", emb)
    array("scores.npy", S)
    recipe.follow("dedup-first")

    duplicates = np.load("duplicates.npy")
    assert np.array_equal(duplicates, np.flatnonzero(first != np.arange(N)))
    left = np.flatnonzero(first == np.arange(N))
    wanted = recipe.wanted(emb[left], S[left], "--metric", "cosine", "--size", 60)
    kept = np.load("kept.npy")
    assert np.array_equal(kept, left[wanted])
    assert len(np.unique(first[kept])) == 60


# -- duckdb ---------------------------------------------------------------------------------------
def test_duckdb_join_back(recipe):
    pytest.importorskip("duckdb")
    sources = np.array(["web", "books", "code"])[np.arange(N) % 3]
    table = {"id": IDS, "text": TEXTS, "source": sources, "year": 2000 + np.arange(N) % 25}
    for number, rows in enumerate(SHARDS):
        part = {name: values[P][rows] for name, values in table.items()}
        write(f"data/part-{number}.parquet", **part)
    write("emb.parquet", id=IDS, embedding=X)
    other = np.random.default_rng(4).permutation(N)
    write("scores.parquet", id=at(IDS, other), el2n=at(S, other))
    write("table.parquet", text=TEXTS, embedding=X, el2n=S)
    recipe.follow("duckdb-join-back")

    rows = recipe.wanted()
    train = pq.read_table("train.parquet").to_pydict()
    assert sorted(train["id"]) == sorted(IDS[rows])
    row_of = {name: row for row, name in enumerate(IDS)}
    here = [row_of[name] for name in train["id"]]
    for name in ("text", "source", "year"):
        assert train[name] == table[name][here].tolist()
    assert train["score"] == S[here].tolist()
    assert train["rank"] == list(range(len(rows)))
    assert here == pq.read_table("kept.parquet").sort_by("rank")["index"].to_pylist()
    counted = [(s, (sources == s).sum(), (sources[rows] == s).sum()) for s in np.unique(sources)]
    copied = [(len(rows),)]
    assert recipe.found == [copied, counted, copied]
    by_row = pq.read_table("train_rows.parquet")
    assert by_row.column_names == ["text", "embedding", "el2n"]
    assert by_row["text"].to_pylist() == TEXTS[rows].tolist()
