"""Training of a small CNN on all of Fashion-MNIST or on a selection."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "sample_data"))
from make_sample import (
    BATCH_SIZE,
    PEAK_LEARNING_RATE,
    Split,
    accuracy,
    evaluate,
    load_split,
    to_inputs,
)

from layers import HalfCnn
from mlp import batches

__all__ = ["Split", "embed", "load_split", "to_inputs", "train_on"]


class _Run:
    """One training: a model and its optimiser, for `iterations` batches."""

    def __init__(self, seed: int, iterations: int) -> None:
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        # Every output is written before it is read, and filling it costs a tenth of the time.
        torch.utils.deterministic.fill_uninitialized_memory = False
        self.model = HalfCnn(seed)
        optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)
        self.schedule = OneCycleLR(optimizer, PEAK_LEARNING_RATE, iterations)

    def learn(self, images: Tensor, labels: Tensor, order: np.ndarray) -> None:
        """Train on the rows in `order`, batch by batch."""
        self.model.train()
        for batch in torch.from_numpy(order).split(BATCH_SIZE):
            _, logits = self.model(images[batch])
            loss = functional.cross_entropy(logits, labels[batch])
            self.schedule.optimizer.zero_grad()
            loss.backward()
            self.schedule.optimizer.step()
            self.schedule.step()


def train_on(
    images: Tensor, labels: Tensor, kept: np.ndarray, seed: int, iterations: int,
    test_images: Tensor, test_labels: Tensor,
) -> float:  # fmt: skip
    """Return the test accuracy after `iterations` batches of BATCH_SIZE of the kept images."""
    run = _Run(seed, iterations)
    run.learn(images, labels, batches(kept, iterations * BATCH_SIZE, seed))
    _, logits = evaluate(run.model, test_images)
    return accuracy(logits, test_labels)


def embed(
    images: Tensor, labels: Tensor, epochs: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return embeddings (n, 128) after `epochs` on all images, EL2N (n,) and confidence (n,).

    EL2N is the mean of ‖p − y‖₂ after each of these epochs (Paul et al. 2021, arXiv 2107.07075),
    and confidence that of the label's probability.
    """
    n = len(images)
    run = _Run(seed, epochs * -(-n // BATCH_SIZE))
    rng = np.random.default_rng((seed, 1))
    truth = functional.one_hot(labels)
    errors, confidence = torch.zeros(n), torch.zeros(n)
    for _ in range(epochs):
        run.learn(images, labels, rng.permutation(n))
        embeddings, logits = evaluate(run.model, images)
        p = logits.softmax(dim=1)
        errors += (p - truth).norm(dim=1)
        confidence += p.gather(1, labels[:, None])[:, 0]
    means = ((total / epochs).double().numpy() for total in (errors, confidence))
    return embeddings.numpy(), *means
