"""Classifiers with one hidden layer, many trained at a time.

The weights of a stack of models have one dimension more than those of one model. Each model has its
own weights, data and seed, and its numbers do not depend on the other models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

HIDDEN = 256
BATCH = 256
PEAK_LEARNING_RATE = 3e-3


@dataclass
class Stack:
    """The weights of m models: w1 (m, d, HIDDEN), b1 (m, 1, HIDDEN), w2, b2 likewise."""

    weights: list[Tensor]

    def logits(self, rows: Tensor) -> Tensor:
        """Return logits (m, batch, classes) of rows (m, batch, d)."""
        w1, b1, w2, b2 = self.weights
        return torch.baddbmm(b2, torch.baddbmm(b1, rows, w1).relu(), w2)


def train_stack(
    rows: Tensor, labels: Tensor, kept: list[np.ndarray], seeds: list[int], classes: int,
    iterations: int,
) -> Stack:  # fmt: skip
    """Train one model on each of `kept`, all for `iterations` batches of BATCH.

    Args:
        rows: (n, d) float32, features of about unit variance.
        labels: (n,) int64.
        kept: for each model, its training rows.
        seeds: for each model, the seed of its first weights and of its batches.
    """
    weights = _first_weights(rows.shape[1], classes, seeds)
    stack = Stack([w.requires_grad_() for w in weights])
    optimizer = torch.optim.AdamW(stack.weights, fused=True)
    schedule = OneCycleLR(optimizer, PEAK_LEARNING_RATE, iterations)
    order = torch.from_numpy(
        np.stack([batches(k, iterations * BATCH, s) for k, s in zip(kept, seeds, strict=True)])
    )
    for step in range(iterations):
        batch = order[:, step * BATCH : (step + 1) * BATCH]
        logits = stack.logits(rows[batch])
        loss = functional.cross_entropy(
            logits.flatten(0, 1), labels[batch].flatten(), reduction="sum"
        )
        optimizer.zero_grad()
        (loss / BATCH).backward()
        optimizer.step()
        schedule.step()
    for w in stack.weights:
        w.requires_grad_(False)
    return stack


def batches(kept: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return `count` rows: random permutations of `kept`, one after the other."""
    rng = np.random.default_rng((seed, 1))
    rounds = [rng.permutation(kept) for _ in range(-(-count // len(kept)))]
    return np.concatenate(rounds)[:count]


def _first_weights(d: int, classes: int, seeds: list[int]) -> list[Tensor]:
    """Draw first weights as torch.nn.Linear does: uniform within ±1/√inputs."""
    shapes = ((d, HIDDEN, d), (1, HIDDEN, d), (HIDDEN, classes, HIDDEN), (1, classes, HIDDEN))
    models = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        models.append(
            [
                (torch.rand(a, b, generator=generator) * 2 - 1) / math.sqrt(inputs)
                for a, b, inputs in shapes
            ]
        )
    return [torch.stack(parts) for parts in zip(*models, strict=True)]


@torch.no_grad()
def accuracies(stack: Stack, rows: Tensor, labels: Tensor) -> list[float]:
    """Return the accuracy of each model."""
    right = torch.zeros(stack.weights[0].shape[0])
    for block, truth in zip(rows.split(2048), labels.split(2048), strict=True):
        found = stack.logits(block.expand(len(right), -1, -1)).argmax(dim=2)
        right += (found == truth).sum(dim=1)
    return (right / len(rows)).tolist()


@torch.no_grad()
def difficulty(stack: Stack, rows: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return EL2N and confidence, (n,) each.

    They are means over the models: of ‖p − y‖₂ (Paul et al. 2021, arXiv 2107.07075), and of the
    label's probability.
    """
    errors, confidence = [], []
    for block, truth in zip(rows.split(2048), labels.split(2048), strict=True):
        p = stack.logits(block.expand(stack.weights[0].shape[0], -1, -1)).softmax(dim=2)
        error = p - functional.one_hot(truth, p.shape[2])
        errors.append(error.norm(dim=2).mean(dim=0))
        confidence.append(p.gather(2, truth.expand(len(p), -1)[:, :, None])[:, :, 0].mean(dim=0))
    return torch.cat(errors).double().numpy(), torch.cat(confidence).double().numpy()
