"""Scores from embeddings alone."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from d2cli.defaults import METRIC, SEED, TARGET_REDUCE, Metric, TargetReduction
from d2cli.difficulty.sizes import (
    TARGET_ROWS,
    centre_rows,
    compared_rows,
    default_clusters,
    sampled_rows,
)
from d2cli.engine.threads import Progress, for_blocks, silent, thread_count
from d2cli.errors import D2Error, DataError, UsageError
from d2cli.graph.vectors import Group, check_form, power_of_two_scale, prepare
from d2cli.limits import check_choice
from d2cli.runtime.floats.products import one_thread_per_product, product


def prototypicality(
    embeddings: NDArray[np.floating], n_clusters: int | None = None, *, metric: Metric = METRIC,
    seed: int = SEED, threads: int | None = None, progress: Progress = silent,
) -> NDArray[np.float64]:  # fmt: skip
    """Compute the distance from each row to the nearest of K k-means centres.

    Source: Sorscher et al., "Beyond neural scaling laws", 2022, arXiv 2206.14486: a row far from
    every prototype is hard. The centres are scikit-learn's (k-means++, Lloyd's iterations, one
    start, on one thread so that sums keep their order). If n > 256 K, they are fitted to a random
    sample of 256 K rows.

    Args:
        embeddings: (n, d) float16, float32 or float64; may be memory-mapped; not changed.
        n_clusters: K, 1 … n; default √n.
        metric: ``euclidean``; or ``cosine``: rows and centres have unit length, and the distance
            √(2 - 2 cos) has the order of the cosine distance.
        seed: of the sample and of the first centres.
        threads, progress: as in :func:`d2cli.score_dynamics`.

    Returns:
        (n,) float64, high = hard.

    Raises:
        D2Error: if scikit-learn is not installed.
        UsageError: for a K or a seed out of range.
        DataError: for embeddings that :func:`~d2cli.graph.vectors.prepare` refuses.
    """
    vectors = prepare(embeddings, metric, threads=threads)
    n, d = vectors.shape
    k = default_clusters(n) if n_clusters is None else n_clusters
    if not 1 <= k <= n:
        raise UsageError(f"n_clusters must be between 1 and the number of rows, {n:,}, not {k}")
    if seed < 0:
        raise UsageError(f"seed must be at least 0, not {seed}")
    threads = thread_count(threads)
    centres = _centres(vectors, k, seed, metric, threads)
    middle = centres.mean(axis=0)  # keeps digits if the data is far from 0
    about = centres - middle
    halves = np.einsum("ij,ij->i", about, about) / 2
    scores = np.empty(n)

    def measure(start: int, stop: int) -> None:
        rows = vectors[start:stop] - middle
        nearest = np.argmin(halves - product(rows, about.T), axis=1)
        gaps = rows - about[nearest]
        scores[start:stop] = np.sqrt(np.einsum("ij,ij->i", gaps, gaps))

    with one_thread_per_product():
        for_blocks(measure, n, centre_rows(k, d), threads, progress, "distances")
    return scores


def target_similarity(
    embeddings: NDArray[np.floating], target: NDArray[np.floating],
    reduce: TargetReduction = TARGET_REDUCE, *, skip: NDArray[np.bool_] | None = None,
    threads: int | None = None, progress: Progress = silent,
) -> NDArray[np.float64]:  # fmt: skip
    """Compute the cosine similarity of each row to a target set.

    Source: Wang et al., "CLIPLoss and norm-based data selection methods for multimodal contrastive
    learning", 2024, arXiv 2405.19547: ``max`` is their NormSim with p = ∞ (for cosines >= 0). They
    compare images with the images of the downstream tasks.

    Args:
        embeddings: (n, d) float16, float32 or float64; may be memory-mapped and is read in blocks;
            not changed.
        target: (m, d), likewise.
        reduce: ``max``, the similarity to the nearest target row; or ``mean``, over all of them.
        skip: (n,) bool, rows that are not looked at and score 0.
        threads, progress: as in :func:`d2cli.score_dynamics`.

    Returns:
        (n,) float64, -1 … 1, high = near the target. Computed in float64 if one of the inputs is,
        else in float32.

    Raises:
        UsageError: for another `reduce`.
        DataError: for embeddings or a target that :func:`~d2cli.graph.vectors.prepare` refuses
            under ``cosine``, zero vectors among them, or that differ in d.
    """
    check_choice("reduce", reduce, TargetReduction)
    check_form(embeddings, "cosine")
    threads = thread_count(threads)
    try:
        goals = prepare(target, "cosine", threads=threads)
    except DataError as error:
        message = error.message.replace("embeddings", "the target", 1)
        raise DataError(message, argument="target", row=error.row) from None
    if embeddings.shape[1] != goals.shape[1]:
        raise DataError(
            f"the target has {goals.shape[1]} columns, the embeddings have {embeddings.shape[1]}",
            argument="target",
        )
    if reduce == "mean":
        goals = goals.mean(axis=0, dtype=np.float64, keepdims=True).astype(goals.dtype)
    scores = np.zeros(len(embeddings))
    starts = range(0, len(goals), TARGET_ROWS)

    def measure(start: int, stop: int) -> None:
        try:
            rows = prepare(
                embeddings[start:stop], "cosine", threads=1,
                skip=None if skip is None else skip[start:stop],
            )  # fmt: skip
        except DataError as error:
            if error.row is not None:
                error.row += start
            raise
        rows = rows.astype(np.result_type(rows, goals), copy=False)
        parts = (goals[at : at + TARGET_ROWS].astype(rows.dtype, copy=False) for at in starts)
        highest = np.max([product(rows, part.T).max(axis=1) for part in parts], axis=0)
        scores[start:stop] = np.clip(highest, -1.0, 1.0)

    step = compared_rows(len(goals), goals.shape[1])
    with one_thread_per_product():
        for_blocks(measure, len(embeddings), step, threads, progress, "similarities")
    return scores


def _centres(
    vectors: NDArray[np.floating], k: int, seed: int, metric: Metric, threads: int
) -> NDArray[np.float64]:
    """Fit `k` centres; returns (k, d) float64."""
    try:
        from sklearn.cluster import KMeans  # noqa: PLC0415
        from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    except ImportError:
        problem = "prototypicality needs scikit-learn, which is not installed"
        raise D2Error(problem, "pip install 'd2prune[score]'") from None
    rng = np.random.default_rng(seed)
    sample, n = vectors, vectors.shape[0]
    if (size := sampled_rows(n, k)) < n:
        sample = vectors[np.sort(rng.choice(n, size, replace=False))]
    # Scaled, float32 squares neither overflow nor underflow. Centred, they keep their digits.
    scale = power_of_two_scale(threads, Group(vectors))
    middle = sample.mean(axis=0, dtype=np.float64).astype(sample.dtype)
    means = KMeans(k, n_init=1, max_iter=100, random_state=int(rng.integers(2**31)))
    with threadpool_limits(1), warnings.catch_warnings():  # OpenMP too
        # The warning means fewer distinct rows than centres: each row then lies on a centre.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means.fit((sample - middle) * np.asarray(scale, sample.dtype))
    centres = means.cluster_centers_.astype(np.float64) / scale + middle
    if metric == "cosine":
        lengths = np.sqrt(np.einsum("ij,ij->i", centres, centres))
        centres /= np.where(lengths > 0, lengths, 1.0)[:, None]
    return centres
