"""Every method of the comparison, by name, on arrays. Does not import torch."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from d2cli import build_graph, own_scores, prepare_edges, propagate, select, spread_scores, utility
from d2cli.baselines import (
    coverage_centric,
    d2_paper,
    dual_sampling,
    facility_location,
    graph_cut,
    highest,
    highest_after_cutoff,
    infomax,
    k_center,
    moderate,
    near_duplicates,
    random_rows,
    semdedup_then_score,
    zcore,
)
from d2cli.defaults import N_NEIGHBORS, PAPER_GAMMA_REVERSE
from d2cli.graph.knn_graph import KnnGraph
from d2cli.selection.budgets import cutoff_count, hardest

#: Methods without settings whose order of picks depends neither on the budget nor on the scores:
#: one run serves all budgets.
NESTED = ("k-center", "facility-location", "near-duplicates", "zcore")
#: Those of them whose order depends on the seed.
SEEDED = ("near-duplicates", "zcore")
#: The share of the scores that ``d2-partial`` knows.
KNOWN = 0.1


@dataclass(frozen=True)
class Arrays:
    """The inputs of a method.

    Attributes:
        embeddings: (n, d) float32.
        scores: (n,) float64, higher = harder, at least 0.
        labels: (n,) int64, the labels of the training (noise included); None in comparisons
            without labels.
        confidence: (n,) float64, the mean probability of these labels; None without labels.
        seed: for methods that draw at random.
        place: a folder for graphs, which many selections share; None: build a graph each time.
    """

    embeddings: np.ndarray
    scores: np.ndarray
    labels: np.ndarray | None
    seed: int
    confidence: np.ndarray | None = None
    place: Path | None = None

    def graph(self, k: int = N_NEIGHBORS, cut: np.ndarray | None = None) -> KnnGraph:
        """Return the kNN graph without the rows of the mask `cut` (n,)."""
        if self.place is None:
            return build_graph(self.embeddings, k, exclude=cut, threads=1)
        # Many seeds share the folder and cut equally many, but other rows: hence the digest.
        digest = "all" if cut is None else hashlib.md5(cut.tobytes()).hexdigest()
        path = self.place / f"graph-{k}-{digest}.npz"
        if not path.exists():
            graph = build_graph(self.embeddings, k, exclude=cut, threads=1)
            save(path, neighbors=graph.neighbors, distances=graph.distances)
        with np.load(path) as kept:
            return KnnGraph(kept["neighbors"], kept["distances"], cut)


def choose(
    method: str, arrays: Arrays, size: int, settings: dict[str, Any]
) -> tuple[np.ndarray, dict[str, Any]]:
    """Return (size,) rows, and values to record with the result."""
    emb, scores, seed = arrays.embeddings, arrays.scores, arrays.seed
    if method == "d2":
        return d2(arrays, size, **settings)
    if method == "d2-paper":
        return as_published(arrays, size, **settings), {}
    if method == "d2-partial":
        return d2(arrays, size, known=KNOWN, **settings)
    if method == "random":
        rows = random_rows(len(emb), size, seed=seed)
    elif method == "highest":
        rows = highest(scores, size)
    elif method == "cutoff":
        rows = highest_after_cutoff(scores, size, **settings)
    elif method == "ccs":
        rows = coverage_centric(scores, size, seed=seed, **settings)
    elif method == "moderate":
        rows = moderate(emb, size, arrays.labels)
    elif method == "k-center":
        rows = k_center(emb, size)
    elif method == "facility-location":
        rows = facility_location(arrays.graph(), size)
    elif method == "near-duplicates":
        rows = near_duplicates(arrays.graph(), size, seed=seed)
    elif method == "semdedup-then-score":
        rows = semdedup_then_score(arrays.graph(), scores, size, **settings)
    elif method == "graph-cut":
        rows = graph_cut(arrays.graph(), scores, size, **settings)
    elif method == "infomax":
        rows = infomax(arrays.graph(), scores, size, threads=1, **settings)
    elif method == "zcore":
        rows = zcore(emb, size, seed=seed, threads=1)
    elif method == "dual-sampling" and arrays.confidence is not None:
        rows = dual_sampling(scores, arrays.confidence, size, seed=seed, **settings)
    else:
        raise ValueError(method)
    return rows, {}


def d2(
    arrays: Arrays, size: int, *, k: int = N_NEIGHBORS, gamma_reverse: float | str = "auto",
    cutoff: float | str | None = None, known: float = 1.0,
) -> tuple[np.ndarray, dict[str, Any]]:  # fmt: skip
    """``d2prune select --emb --scores --size`` with these options, on arrays.

    A cutoff that is a number is applied before the graph is built, an automatic cutoff after it.
    Only a random share `known` of the scores is used, as with ``--missing-scores spread``.
    """
    scores = arrays.scores
    if cutoff is None:
        cutoff = "auto" if gamma_reverse == "auto" else 0.0
    cut = None if cutoff == "auto" else hardest_rows(scores, cutoff)
    graph = arrays.graph(k, cut)
    edges, sigma = prepare_edges(graph, drop=cut)
    filled = utility(scores)
    if known < 1:
        order = np.random.default_rng((arrays.seed, 3)).permutation(len(scores))
        filled[order[round(known * len(scores)) :]] = np.nan
        filled = spread_scores(edges, filled, bandwidth=sigma, threads=1)
    u = propagate(edges, filled, bandwidth=sigma, threads=1)
    own = own_scores(edges, u, bandwidth=sigma, threads=1)
    kept = select(
        edges, u, size, bandwidth=sigma, gamma_reverse=gamma_reverse, exclude=cut,
        scores=own, difficulty=own,
        cutoff="auto" if cutoff == "auto" else 0.0,
    )  # fmt: skip
    recorded = ("gamma_reverse", "ran_out_at", "cut", "thinned_from")
    return kept.order, {name: getattr(kept, name) for name in recorded}


def as_published(
    arrays: Arrays, size: int, *, k: int = N_NEIGHBORS,
    gamma_reverse: float = PAPER_GAMMA_REVERSE, cutoff: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """D2 as published, with these options; the hardest rows are cut before the graph is built."""
    graph = arrays.graph(k, hardest_rows(arrays.scores, cutoff))
    return d2_paper(graph, arrays.scores, size, gamma_reverse=gamma_reverse, threads=1)


def hardest_rows(scores: np.ndarray, cutoff: float) -> np.ndarray | None:
    """Return the mask (n,) of the rows that a cutoff leaves out, or None for a cutoff of 0."""
    if cutoff == 0:
        return None
    n = len(scores)
    ranks = utility(scores, transform="rank")
    return hardest(ranks, cutoff_count(cutoff, n), np.ones(n, bool))


def nested_order(method: str, arrays: Arrays, most: int, own: Path) -> np.ndarray:
    """Return the first `most` picks of a method whose selections nest, computed once and cached.

    Orders that depend on the seed are cached in the folder `own`. The other orders depend on the
    embeddings alone.
    """
    folder = own if method in SEEDED or arrays.place is None else arrays.place
    path = folder / f"{method}.npy"
    if path.exists():
        return np.load(path)
    rows, _ = choose(method, arrays, most, {})
    save(path, rows)
    return rows


def save(path: Path, array: np.ndarray | None = None, **arrays: np.ndarray) -> None:
    """Write one array, or several by name. The file appears under its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"partial-{os.getpid()}-{path.name}")
    if array is None:
        np.savez(partial, **arrays)
    else:
        np.save(partial, array)
    partial.replace(path)
