"""Make ``logits.npy``: the logits of a small CNN on the sample's images, epoch by epoch.

The CNN is that of ``make_sample.py``, trained on the 5,000 images of the sample only
(``images.npz``, ``labels.npy``). After every epoch one pass in evaluation mode records each image's
logits. The script needs torch and numpy and takes half a minute. With the same seed, versions,
machine and ``--threads``, two runs give the same file.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from make_sample import (
    BATCH_SIZE,
    PEAK_LEARNING_RATE,
    SmallCnn,
    accuracy,
    evaluate,
    to_inputs,
    train_epoch,
)
from torch.optim.lr_scheduler import OneCycleLR


def train(images: np.ndarray, labels: np.ndarray, epochs: int, seed: int) -> np.ndarray:
    """Train the CNN; return its logits after each epoch, float16 (epochs, n, classes)."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    inputs = to_inputs(images, float(images.mean()), float(images.std()))
    targets = torch.from_numpy(labels)
    model = SmallCnn().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = OneCycleLR(optimizer, PEAK_LEARNING_RATE, epochs * -(-len(inputs) // BATCH_SIZE))
    recorded = []
    for epoch in range(1, epochs + 1):
        train_epoch(model, schedule, inputs, targets)
        _, logits = evaluate(model, inputs)
        recorded.append(logits.numpy().astype(np.float16))
        print(f"epoch {epoch}: accuracy {accuracy(logits, targets):.4f}", flush=True)
    return np.stack(recorded)


def main() -> None:
    """Train on the sample and write the logits beside it."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Make the sample's logits.npy.")
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.add_argument(
        "--sample", type=Path, metavar="DIR", default=here, help="folder of the sample"
    )
    parser.add_argument("--out", type=Path, default=here / "logits.npy", help="the file to write")
    parser.add_argument("--epochs", type=int, default=10, help="training epochs")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with np.load(arguments.sample / "images.npz") as archive:
        images = archive["images"]
    labels = np.load(arguments.sample / "labels.npy")
    np.save(arguments.out, train(images, labels, arguments.epochs, arguments.seed))


if __name__ == "__main__":
    main()
