"""Projection of vectors to two dimensions: principal axes, or t-SNE started from them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from d2cli.graph.vectors import Group, power_of_two_scale

#: Leading principal axes that t-SNE gets (30 in van der Maaten and Hinton 2008).
_AXES = 50


def project(vectors: NDArray[np.floating], method: str, seed: int) -> NDArray[np.float64]:
    """Project vectors (m, d) to (m, 2) float64 within 0 … 1, both axes with the same scale.

    `method` is ``tsne`` (perplexity 30, started from the principal axes, with this seed) or
    ``pca``, which is also used for fewer than 10 rows. One thread is used, because the order of
    sums across threads varies.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415
    from sklearn.manifold import TSNE  # noqa: PLC0415

    wide = np.asarray(vectors, np.float64) * power_of_two_scale(1, Group(vectors))
    wide -= wide.mean(axis=0)
    m, d = wide.shape
    if not wide.any():
        return np.full((m, 2), 0.5)
    with threadpool_limits(1):
        axes = PCA(min(m, d, _AXES), svd_solver="full").fit_transform(wide)
        if axes.shape[1] == 1:
            axes = np.column_stack([axes, np.zeros(m)])
        places = axes[:, :2]
        if method == "tsne" and m >= 10:
            start = (places / axes[:, 0].std() * 1e-4).astype(np.float32)
            tsne = TSNE(
                init=start, perplexity=min(30.0, (m - 1) / 3), learning_rate="auto",
                random_state=seed,
            )  # fmt: skip
            places = tsne.fit_transform(axes.astype(np.float32)).astype(np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    fitted: NDArray[np.float64] = (places - (low + high) / 2) / ((high - low).max() or 1) + 0.5
    return fitted
