"""The small CNN of sample_data/make_sample.py, trained on part of Fashion-MNIST."""

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
    SmallCnn,
    Split,
    accuracy,
    evaluate,
    load_split,
    to_inputs,
    train,
)

from mlp import batches

__all__ = ["BATCH_SIZE", "Split", "load_split", "to_inputs", "train", "train_on"]


def train_on(
    images: Tensor, labels: Tensor, kept: np.ndarray, seed: int, iterations: int,
    test_images: Tensor, test_labels: Tensor,
) -> float:  # fmt: skip
    """Accuracy on the test images after `iterations` batches of BATCH_SIZE of the kept ones."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    model = SmallCnn().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    schedule = OneCycleLR(optimizer, PEAK_LEARNING_RATE, iterations)
    order = torch.from_numpy(batches(kept, iterations * BATCH_SIZE, seed))
    model.train()
    for batch in order.split(BATCH_SIZE):
        _, logits = model(images[batch])
        loss = functional.cross_entropy(logits, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    _, logits = evaluate(model, test_images)
    return accuracy(logits, test_labels)
