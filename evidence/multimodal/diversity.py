"""Diversity of a selection: distances, Vendi score, effective numbers. Does not import torch."""

from __future__ import annotations

import numpy as np

from d2cli.evaluation.coverage import nearest_selected

MEASURED = 10_000  #: rows of the pool whose distance to the nearest kept row is measured
SEED = 20_231_011


def diversity_of(
    embeddings: np.ndarray, rows: np.ndarray, sets: np.ndarray, names: np.ndarray
) -> dict[str, float]:
    """Return the measures of the kept `rows`.

    Args:
        embeddings: (n, d) float32 unit vectors of all rows.
        rows: (N,) int64, the kept rows.
        sets, names: (n,) the set and the caption of each row.

    Returns:
        ``distance``: the mean distance to the nearest kept row, of MEASURED random rows (low: the
        kept rows cover all rows); ``vendi``, ``sets`` and ``names``: effective numbers of different
        pictures, sets and captions among the kept rows.
    """
    measured = np.random.default_rng(SEED).permutation(len(embeddings))[:MEASURED]
    distances, _ = nearest_selected(embeddings, rows, metric="euclidean", rows=measured, threads=1)
    return {
        "distance": float(distances.mean(dtype=np.float64)),
        "vendi": vendi(embeddings[rows]),
        "sets": effective_number(sets[rows]),
        "names": effective_number(names[rows]),
    }


def vendi(vectors: np.ndarray) -> float:
    """Return the Vendi score of (N, d) unit vectors with the cosine as similarity.

    exp of the entropy of the eigenvalues of K / N, K_ij = v_i · v_j. The positive ones are those of
    the (d, d) matrix Σ v_i v_iᵀ / N. Source: Friedman and Dieng: The Vendi score: a diversity
    evaluation metric for machine learning, TMLR 2023, arXiv 2210.02410.
    """
    wide = vectors.astype(np.float64)
    return _exp_entropy(np.linalg.eigvalsh(wide.T @ wide / len(wide)))


def effective_number(values: np.ndarray) -> float:
    """Return exp of the entropy of the frequencies of the values: m for m equally frequent ones."""
    _, counts = np.unique(values, return_counts=True)
    return _exp_entropy(counts / counts.sum())


def _exp_entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(np.exp(-(positive * np.log(positive)).sum()))
