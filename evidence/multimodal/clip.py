"""A small CLIP: an image tower and a text tower, trained on pairs (Radford et al. 2021, arXiv
2103.00020). The text tower starts from fixed sentence embeddings.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

from mlp import batches

BATCH = 256
CHANNELS = 16, 32, 64
HIDDEN, WIDTH = 256, 128
PEAK_LEARNING_RATE, WEIGHT_DECAY = 3e-3, 0.1
FIRST_SCALE, LARGEST_SCALE = 1 / 0.07, 100.0


class Clip(nn.Module):
    """Both towers, to unit vectors of WIDTH numbers, and a learnt scale of the cosines."""

    def __init__(self, text_width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *CHANNELS), CHANNELS, strict=False):
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        last = CHANNELS[-1] * 4 * 4  # 32 pixels are halved three times
        self.image = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(last, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH)
        )
        self.text = nn.Sequential(
            nn.Linear(text_width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH)
        )
        self.log_scale = nn.Parameter(torch.tensor(math.log(FIRST_SCALE)))
        self.to(memory_format=torch.channels_last)  # the fast layout on a CPU

    def of_images(self, pictures: np.ndarray) -> Tensor:
        """Return (b, WIDTH) of pictures (b, 32, 32, 3) uint8."""
        pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        return functional.normalize(self.image(pixels))

    def of_texts(self, texts: np.ndarray) -> Tensor:
        """Return (b, WIDTH) of sentence embeddings (b, d) of unit length."""
        scaled = torch.from_numpy(texts) * math.sqrt(texts.shape[1])  # a variance of about 1
        return functional.normalize(self.text(scaled))

    def loss(self, pictures: np.ndarray, texts: np.ndarray) -> Tensor:
        """Return the symmetric InfoNCE of a batch of pairs."""
        scale = self.log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()
        logits = scale * self.of_images(pictures) @ self.of_texts(texts).T
        truth = torch.arange(len(logits))
        return (
            functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)
        ) / 2


def train(
    pictures: np.ndarray, rows: np.ndarray, texts: np.ndarray, captions: np.ndarray,
    kept: np.ndarray, seed: int, seen: int,
) -> Clip:  # fmt: skip
    """Train on `seen` pairs, drawn from the kept pairs as often as needed.

    Args:
        pictures, texts: (n, 32, 32, 3) uint8 and (m, d) float32; pairs use some rows of each.
        rows, captions: (p,) the picture and the text of each pair.
        kept: the pairs to train on.
        seed: of the first weights and of the batches.
        seen: number of pairs, counted as often as they are seen.
    """
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # every output is written first
    model = Clip(texts.shape[1])
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0}],
        fused=True,
    )
    order = batches(kept, seen, seed)
    schedule = OneCycleLR(optimizer, PEAK_LEARNING_RATE, -(-seen // BATCH))
    model.train()
    for start in range(0, seen, BATCH):
        batch = order[start : start + BATCH]
        loss = model.loss(pictures[rows[batch]], texts[captions[batch]])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def embed_images(model: Clip, pictures: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the image embeddings (r, WIDTH) float32 of some rows of `pictures`."""
    return np.concatenate([model.of_images(pictures[b]).numpy() for b in _blocks(rows)])


@torch.no_grad()
def embed_texts(model: Clip, texts: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the text embeddings (r, WIDTH) float32 of some rows of `texts`."""
    return np.concatenate([model.of_texts(texts[b]).numpy() for b in _blocks(rows)])


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + 1024] for start in range(0, len(rows), 1024)]
