"""The small CLIP model of the multimodal evidence. Skipped without torch."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
EVIDENCE = Path(__file__).parents[2] / "evidence"


@pytest.fixture(scope="module")
def clip():
    sys.path.insert(0, str(EVIDENCE))
    try:
        from multimodal import clip
    finally:
        sys.path.remove(str(EVIDENCE))
    return clip


@pytest.fixture(scope="module")
def pairs():
    """600 pictures of one colour each, and texts that tell the colour."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (600, 3), dtype=np.uint8)
    texts = np.c_[colours / 255 - 0.5, np.full(600, 0.1)].astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    return np.broadcast_to(colours[:, None, None], (600, 32, 32, 3)), texts


def test_loss_is_the_mean_of_both_cross_entropies(clip, pairs):
    pictures, texts = (part[:7] for part in pairs)
    torch.manual_seed(0)
    model = clip.Clip(4).eval()
    images, words = (
        part.detach().numpy() for part in (model.of_images(pictures.copy()), model.of_texts(texts))
    )
    assert np.linalg.norm(images, axis=1) == pytest.approx(np.ones(7))
    logits = images @ words.T / 0.07
    expected = [
        np.mean([np.log(np.exp(row).sum()) - row[i] for i, row in enumerate(table)])
        for table in (logits, logits.T)
    ]
    found = model.loss(pictures.copy(), texts).item()
    assert found == pytest.approx(np.mean(expected), rel=1e-4)


def test_training_depends_on_kept_pairs_and_seed_only_and_learns_them(clip, pairs):
    pictures, texts = pairs
    rows, kept = np.arange(600)[::-1].copy(), np.arange(400)

    def trained(seed):
        model = clip.train(pictures, rows, texts, rows, kept, seed, 6000)
        return [
            embed(model, of, rows)
            for embed, of in ((clip.embed_images, pictures), (clip.embed_texts, texts))
        ]

    images, words = trained(1)
    assert all(np.array_equal(a, b) for a, b in zip((images, words), trained(1), strict=True))
    assert not np.array_equal(images, trained(2)[0])
    assert (images * words).sum(axis=1).mean() > 0.8 > (images @ words.T).mean() + 0.3
