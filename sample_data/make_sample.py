"""Make the sample data set: 5,000 Fashion-MNIST images with embeddings and difficulty scores.

A small CNN is trained once on all 60,000 training images. After every epoch one pass over the
training set in evaluation mode records each image's logits. The three difficulty scores are
computed from these logits, and the embeddings come from the last pass. A seeded, class-balanced
subset of the images is written to ``--out``. README.md beside this script describes every file.

Needs torch, numpy and pyarrow, and the four Fashion-MNIST files (Debian package
``dataset-fashion-mnist``). With the same seed, versions, machine and ``--threads``, two runs
give the same arrays.
"""

from __future__ import annotations

import argparse
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR

CLASS_NAMES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
EMBEDDING_SIZE = 128
PER_CLASS = 500
EL2N_EPOCHS = 5  # EL2N is the mean over this many first epochs
BATCH_SIZE = 128
EVALUATION_BATCH_SIZE = 250
PEAK_LEARNING_RATE = 3e-3


@dataclass(frozen=True)
class Split:
    """One Fashion-MNIST split: images uint8 (n, 28, 28) and labels int64 (n,)."""

    images: np.ndarray
    labels: np.ndarray


def convolution_block(channels_in: int, channels_out: int) -> nn.Sequential:
    """Convolve and pool; pooling before normalisation and ReLU saves 3/4 of their work."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class SmallCnn(nn.Module):
    """Two convolution blocks and a hidden layer of EMBEDDING_SIZE units, the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            convolution_block(1, 32),
            convolution_block(32, 64),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(64 * 7 * 7, EMBEDDING_SIZE),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(0.25), nn.Linear(EMBEDDING_SIZE, len(CLASS_NAMES)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (embeddings, logits)."""
        embeddings = self.features(images)
        return embeddings, self.head(embeddings)


def difficulty_scores(logits: Tensor, labels: Tensor) -> dict[str, np.ndarray]:
    """Return float32 el2n (high = hard), aum (high = easy) and forgetting (high = hard).

    `logits` (epochs, n, classes) are recorded after each epoch. An example that was never
    classified correctly gets the number of epochs as its forgetting score.
    """
    target = functional.one_hot(labels, logits.shape[2])
    errors = logits[:EL2N_EPOCHS].softmax(dim=2) - target
    assigned = (logits * target).sum(dim=2)
    largest_other = logits.masked_fill(target.bool(), -torch.inf).amax(dim=2)
    correct = logits.argmax(dim=2) == labels
    forgotten = (correct[:-1] & ~correct[1:]).sum(dim=0)
    forgetting = torch.where(correct.any(dim=0), forgotten, len(logits))
    return {
        "el2n": errors.norm(dim=2).mean(dim=0).numpy(),
        "aum": (assigned - largest_other).mean(dim=0).numpy(),
        "forgetting": forgetting.numpy().astype(np.float32),
    }


def read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes."""
    data = gzip.decompress(path.read_bytes())
    dimensions = data[3]
    shape = np.frombuffer(data, dtype=">u4", count=dimensions, offset=4)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def load_split(folder: Path, prefix: str) -> Split:
    """Load the split whose files start with prefix ("train" or "t10k")."""
    try:
        images = read_idx(folder / f"{prefix}-images-idx3-ubyte.gz")
        labels = read_idx(folder / f"{prefix}-labels-idx1-ubyte.gz")
    except FileNotFoundError as error:
        raise SystemExit(
            f"make_sample.py: {error.filename} not found: "
            "install the Debian package dataset-fashion-mnist, or give --fashion-mnist DIR"
        ) from None
    return Split(images, labels.astype(np.int64))


def to_inputs(images: np.ndarray, mean: float, std: float) -> Tensor:
    """Return images as standardised float32 (n, 1, 28, 28)."""
    pixels = torch.from_numpy(images.astype(np.float32))
    return ((pixels - mean) / std).unsqueeze(1)


def train_epoch(model: SmallCnn, schedule: OneCycleLR, inputs: Tensor, labels: Tensor) -> None:
    """Train for one pass over the inputs in a random order."""
    model.train()
    for batch in torch.randperm(len(inputs)).split(BATCH_SIZE):
        _, logits = model(inputs[batch])
        loss = functional.cross_entropy(logits, labels[batch])
        schedule.optimizer.zero_grad()
        loss.backward()
        schedule.optimizer.step()
        schedule.step()


@torch.no_grad()
def evaluate(model: SmallCnn, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return (embeddings, logits) of all inputs, in evaluation mode."""
    model.eval()
    outputs = [model(batch) for batch in inputs.split(EVALUATION_BATCH_SIZE)]
    embeddings, logits = zip(*outputs, strict=True)
    return torch.cat(embeddings), torch.cat(logits)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Return the share of rows whose largest logit is the label's."""
    return (logits.argmax(dim=1) == labels).float().mean().item()


def train(
    training: Split, test: Split, epochs: int, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Train the CNN; return the training set's embeddings (n, 128) and difficulty scores."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    mean, std = float(training.images.mean()), float(training.images.std())
    inputs, test_inputs = (to_inputs(split.images, mean, std) for split in (training, test))
    labels, test_labels = (torch.from_numpy(split.labels) for split in (training, test))
    model = SmallCnn().to(memory_format=torch.channels_last)  # the fast layout on a CPU
    optimizer = torch.optim.AdamW(model.parameters())
    steps = epochs * -(-len(inputs) // BATCH_SIZE)
    schedule = OneCycleLR(optimizer, PEAK_LEARNING_RATE, steps)
    logits_by_epoch = []
    for epoch in range(1, epochs + 1):
        train_epoch(model, schedule, inputs, labels)
        embeddings, logits = evaluate(model, inputs)
        logits_by_epoch.append(logits)
        _, test_logits = evaluate(model, test_inputs)
        seen, unseen = accuracy(logits, labels), accuracy(test_logits, test_labels)
        print(f"epoch {epoch}: accuracy {seen:.4f}, on the test set {unseen:.4f}", flush=True)
    return embeddings.numpy(), difficulty_scores(torch.stack(logits_by_epoch), labels)


def choose_balanced(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Return sorted positions of per_class random examples of every class."""
    rng = np.random.default_rng(seed)
    chosen = [
        rng.choice(np.flatnonzero(labels == label), per_class, replace=False)
        for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(chosen))


def write_arrays(out: Path, columns: dict[str, np.ndarray], images: np.ndarray) -> None:
    """Write one .npy file for each column, and the images as a compressed .npz file."""
    file_names = {"embedding": "emb", "el2n": "scores", "label": "labels", "id": "ids"}
    for name, values in columns.items():
        np.save(out / f"{file_names.get(name, name)}.npy", values)
    np.savez_compressed(out / "images.npz", images=images)


def write_parquet(out: Path, columns: dict[str, np.ndarray], seed: int) -> None:
    """Write sample.parquet in row order, and scores.parquet in a shuffled one."""
    columns = dict(columns)
    rows = pa.array(list(columns.pop("embedding")), type=pa.list_(pa.float32()))
    table = pa.table(columns)
    class_names = pa.array([CLASS_NAMES[label] for label in columns["label"]])
    sample = table.append_column("class_name", class_names).append_column("embedding", rows)
    pq.write_table(sample, out / "sample.parquet", compression="zstd", compression_level=19)
    order = np.random.default_rng(seed).permutation(len(table))
    pq.write_table(table.take(order), out / "scores.parquet", compression="zstd")


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    here = Path(__file__).resolve().parent
    debian = Path("/usr/share/datasets/fashion-mnist")
    parser = argparse.ArgumentParser(description="Make the Fashion-MNIST sample data set.")
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    add = parser.add_argument
    add(
        "--fashion-mnist",
        type=Path,
        metavar="DIR",
        default=debian,
        help="folder of the four .gz files",
    )
    add("--out", type=Path, metavar="DIR", default=here, help="folder of the sample")
    add("--epochs", type=int, default=10, help="training epochs")
    add("--seed", type=int, default=0, help="seed of the training and of the choice of images")
    add("--threads", type=int, default=2, help="torch threads; the results depend on their number")
    add("--full-embeddings", type=Path, metavar="PATH", help="write all 60,000 rows to this .npy")
    add("--full-scores", type=Path, metavar="PATH", help="write all scores, labels to this .npz")
    return parser.parse_args()


def main() -> None:
    """Train, choose the sample and write every file."""
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    training = load_split(arguments.fashion_mnist, "train")
    test = load_split(arguments.fashion_mnist, "t10k")
    embeddings, scores = train(training, test, arguments.epochs, arguments.seed)

    ids = np.array([f"fmnist-train-{i:05d}" for i in range(len(training.labels))])
    full = {"id": ids, "label": training.labels, **scores, "embedding": embeddings}
    if arguments.full_embeddings:
        np.save(arguments.full_embeddings, embeddings)
    if arguments.full_scores:
        np.savez(arguments.full_scores, label=training.labels, **scores)

    chosen = choose_balanced(training.labels, PER_CLASS, arguments.seed)
    sample = {name: values[chosen] for name, values in full.items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_arrays(arguments.out, sample, training.images[chosen])
    write_parquet(arguments.out, sample, arguments.seed)


if __name__ == "__main__":
    main()
