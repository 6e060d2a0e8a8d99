"""Data sets, splits and label noise; embeddings and scores, computed once and cached."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import cnn
import mlp
from methods import Arrays, save
from store import Inputs

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
#: Share of texts held out for testing, and of a training set held out for tuning.
HELD_OUT = 0.1
SPLIT_SEED = 20_231_011
CLASSES = {"fashion_mnist": 10, "wordnet": 45, "kernel_docs": 52}
#: Data sets of texts, whose embeddings are given and serve all seeds, noise and scores.
TEXTS = ("wordnet", "kernel_docs")
#: EL2N on Fashion-MNIST is the mean over this many first epochs of one CNN.
CNN_EPOCHS = 5
#: EL2N on texts is the mean over this many classifiers, each after this many batches.
MLP_MODELS, MLP_ITERATIONS = 5, 800
#: Number of centres of prototypicality.
PROTOTYPES = 100
#: Number of neighbours of kNN distance.
DENSITY_NEIGHBORS = 10
PIXEL_COMPONENTS = 64


@dataclass(frozen=True)
class Data:
    """The training and test rows of one comparison.

    Attributes:
        rows: float32 (n, …), inputs of the classifier.
        labels: (n,) int64, with noise.
        clean: (n,) bool, True for labels that were not replaced.
        test_rows, test_labels: the rows on which accuracy is measured.
    """

    rows: Tensor
    labels: Tensor
    clean: np.ndarray
    test_rows: Tensor
    test_labels: Tensor


@lru_cache(maxsize=1)
def load(dataset: str, noise: float, split: str, seed: int, folder: Path) -> Data:
    """Return training and test rows. Validation rows have the noise of the training rows."""
    rows, labels, test_rows, test_labels = _whole(dataset, folder)
    noisy = with_noise(labels.numpy(), noise, CLASSES[dataset], seed)
    clean = noisy == labels.numpy()
    noisy_labels = torch.from_numpy(noisy)
    if split == "test":
        return Data(rows, noisy_labels, clean, test_rows, test_labels)
    held, rest = divide(len(rows))
    return Data(rows[rest], noisy_labels[rest], clean[rest], rows[held], noisy_labels[held])


@lru_cache(maxsize=1)
def _whole(dataset: str, folder: Path) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if dataset == "fashion_mnist":
        training, test = (cnn.load_split(FASHION_MNIST, p) for p in ("train", "t10k"))
        mean, std = float(training.images.mean()), float(training.images.std())
        rows, test_rows = (cnn.to_inputs(s.images, mean, std) for s in (training, test))
        return rows, torch.from_numpy(training.labels), test_rows, torch.from_numpy(test.labels)
    emb = np.load(folder / f"{dataset}.npy")
    # Unit vectors, scaled to a variance of about 1 per column.
    rows = torch.from_numpy(emb * np.float32(np.sqrt(emb.shape[1])))
    labels = torch.from_numpy(np.load(folder / f"{dataset}_labels.npy"))
    held, rest = divide(len(rows))
    return rows[rest], labels[rest], rows[held], labels[held]


def divide(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a random tenth of n rows, and the other rows; both ascending."""
    held = np.zeros(n, bool)
    held[np.random.default_rng(SPLIT_SEED).permutation(n)[: round(HELD_OUT * n)]] = True
    return np.flatnonzero(held), np.flatnonzero(~held)


def with_noise(labels: np.ndarray, noise: float, classes: int, seed: int) -> np.ndarray:
    """Replace the share `noise` of the labels by another class, each equally likely."""
    rng = np.random.default_rng((seed, 2))
    noisy = labels.copy()
    wrong = rng.permutation(len(labels))[: round(noise * len(labels))]
    noisy[wrong] = (noisy[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return noisy


def arrays_of(inputs: Inputs, data_folder: Path, cache: Path) -> Arrays:
    """Return embeddings and scores; compute them if the cache does not have them."""
    place, shared = cache / inputs.name, shared_place(inputs, cache)
    labelled = inputs.scores == "el2n"
    kept = place / ("confidence.npy" if labelled else "scores.npy")  # the last that is saved
    if not kept.exists():
        embeddings, scores, confidence = _make(inputs, data_folder)
        save(shared / "embeddings.npy", embeddings)
        save(place / "scores.npy", scores)
        if confidence is not None:
            save(place / "confidence.npy", confidence)
    labels, confidence = None, None
    if labelled:
        confidence = np.load(place / "confidence.npy")
        data = load(inputs.dataset, inputs.noise, inputs.split, inputs.seed, data_folder)
        labels = data.labels.numpy()
    embeddings = np.load(shared / "embeddings.npy", mmap_mode="r")
    scores = np.load(place / "scores.npy")
    return Arrays(embeddings, scores, labels, inputs.seed, confidence, shared)


def shared_place(inputs: Inputs, cache: Path) -> Path:
    """Return the folder of the embeddings and of graphs and orders that depend on them alone."""
    if inputs.dataset in TEXTS:
        return cache / f"{inputs.dataset}-{inputs.split}"
    if inputs.scores != "el2n":
        return cache / f"{inputs.dataset}-pixels-{inputs.split}"
    return cache / inputs.name


def _make(inputs: Inputs, folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Embeddings, scores and, of a model that was trained on labels, confidence."""
    data = load(inputs.dataset, inputs.noise, inputs.split, inputs.seed, folder)
    if inputs.scores != "el2n":
        return *_without_labels(inputs, data), None
    if inputs.dataset == "fashion_mnist":
        # One CNN, trained on the noisy labels.
        return cnn.embed(data.rows, data.labels, CNN_EPOCHS, 1000 + inputs.seed)
    classes = CLASSES[inputs.dataset]
    kept = [np.arange(len(data.rows))] * MLP_MODELS
    seeds = [1000 + MLP_MODELS * inputs.seed + m for m in range(MLP_MODELS)]
    stack = mlp.train_stack(data.rows, data.labels, kept, seeds, classes, MLP_ITERATIONS)
    return _unit(data), *mlp.difficulty(stack, data.rows, data.labels)


def _unit(data: Data) -> np.ndarray:
    return (data.rows / np.sqrt(data.rows.shape[1])).numpy()


def _without_labels(inputs: Inputs, data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (of texts, or principal components of pixels) and scores."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA

    if inputs.dataset in TEXTS:
        emb = _unit(data)
    else:
        pca = PCA(PIXEL_COMPONENTS, svd_solver="covariance_eigh")
        emb = pca.fit_transform(data.rows.flatten(1).numpy()).astype(np.float32)
    if inputs.scores == "knn-distance":
        from d2cli import build_graph

        graph = build_graph(emb, DENSITY_NEIGHBORS, threads=1)
        return emb, graph.distances.mean(axis=1, dtype=np.float64)
    means = MiniBatchKMeans(PROTOTYPES, random_state=inputs.seed, n_init=3, batch_size=4096)
    return emb, means.fit(emb).transform(emb).min(axis=1).astype(np.float64)
