"""Edge weights and forward message passing (arXiv 2310.07931, equations 2 and 3)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Kernel, choices
from d2cli.engine.threads import Progress, for_blocks, silent, thread_count
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import Edges, KnnGraph
from d2cli.limits import check_hops
from d2cli.runtime.jit import kernel

#: Rows that one task of the forward pass takes.
_BLOCK = 65_536
#: From here on exp(-x) is below 2**-53: added to a score of like size it changes nothing.
_UNFELT = 53 * math.log(2)
#: Sums over fewer than 2²⁰ neighbours of values below 2 to this power stay within float64.
_ROOMY_EXPONENT = 1000
#: Bits of the largest propagated score that own scores are rounded to.
_KEPT_BITS = 32
_FLOAT32_MOST = float(np.finfo(np.float32).max)


def resolve_bandwidth(graph: KnnGraph, bandwidth: float | Literal["median"]) -> float:
    """σ, the distance at which γ = 1 weighs 1/e.

    ``median`` is the median of all listed distances. Where more than half of them are zero (exact
    duplicates) it is the median of those above zero, and 1 where there are none: then every weight
    is 1 whatever σ is.

    Raises:
        UsageError: if a number is given that is not positive and finite.
    """
    if bandwidth != "median":
        return check_bandwidth(bandwidth)
    listed = graph.distances[np.isfinite(graph.distances)]
    if not listed.size:
        return 1.0
    sigma = _median(listed)
    if sigma == 0.0:
        listed = listed[listed > 0]
        sigma = _median(listed) if listed.size else 1.0
    return sigma


def check_bandwidth(bandwidth: float) -> float:
    """σ as a number, refused unless it is positive and finite."""
    sigma = float(bandwidth)
    if not (math.isfinite(sigma) and sigma > 0):
        raise UsageError(f"bandwidth must be 'median' or a number above 0, not {bandwidth}")
    return sigma


def _median(values: NDArray[np.float32]) -> float:
    """The median in float64; reorders `values`."""
    low, high = (values.size - 1) // 2, values.size // 2
    values.partition((low, high))
    return (float(values[low]) + float(values[high])) / 2


def check_kernel(kernel_name: str, gamma: float, name: str) -> None:
    """Refuse an unknown kernel, and a γ that is negative or not finite."""
    if kernel_name not in choices(Kernel):
        raise UsageError(f"kernel must be one of {', '.join(choices(Kernel))}, not {kernel_name!r}")
    if not (math.isfinite(gamma) and gamma >= 0):
        raise UsageError(f"{name} must be a number of at least 0, not {gamma}")


@kernel
def weight(distance, gamma, sigma, squared):
    """e(γ) of one edge: exp(-γ (d/σ)²) where `squared`, else exp(-γ d/σ); float64."""
    if gamma == 0.0:
        return 1.0  # however far: d/σ may be beyond float64, and 0 · inf is no number
    x = np.float64(distance) / sigma
    if squared:
        x = x * x
    return math.exp(-gamma * x)


def forward(
    edges: Edges,
    scores: NDArray[np.float64],
    *,
    kernel_name: Kernel,
    sigma: float,
    gamma: float,
    hops: int = 1,
    floor: float | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """Forward message passing: ``u_i = s_i + Σ_{j∈N(i)} e_ij(γ) · s_j``.

    Args:
        edges: the graph of n rows; not changed.
        scores: (n,) float64, finite and >= 0; not changed.
        kernel_name: ``gaussian`` or ``exponential``, see :func:`weight`.
        sigma: the bandwidth, in units of distance.
        gamma: γ_f, no unit.
        hops: how many times the step is made, each on the result of the last; 0 leaves the scores.
        floor: the least score that a neighbour sends (the research code has 1e-7), or None.
        threads: how many threads share the rows; the result does not depend on it.
        progress: called with the stage, and how many rows are done of how many.

    Returns:
        (n,) float64. Each sum runs over the neighbours in ascending row number.
    """
    check_kernel(kernel_name, gamma, "gamma_forward")
    check_hops(hops)
    check_scores(scores, edges.indptr.size - 1)
    squared = kernel_name == "gaussian"
    sent_at_least = -math.inf if floor is None else floor
    before = scores
    for _ in range(hops):
        after = np.empty_like(before)

        def rows(start: int, stop: int, before=before, after=after) -> None:
            _forward_rows(edges, before, gamma, sigma, squared, sent_at_least, start, stop, after)

        for_blocks(rows, scores.size, _BLOCK, thread_count(threads), progress, "propagate")
        before = after
    return before.copy() if before is scores else before


def own_scores(
    edges: Edges,
    propagated: NDArray[np.float64],
    *,
    kernel_name: Kernel,
    sigma: float,
    gamma: float,
    hops: int = 1,
    floor: float | None = None,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """About the scores that a forward pass began with, from its result u alone.

    ``s_i ≈ u_i − Σ_j e_ij m_j`` with m = u / c, and c what the pass makes of scores that are all 1:
    m is the mean of the scores around a row, which here stands for what its neighbour sent. It is
    as good as exact where scores around are alike; and so that these stay alike, all are rounded to
    2⁻³² of the largest u: sums leave traces of 2⁻⁵⁰.

    Args:
        edges, kernel_name, sigma, gamma, hops, floor, threads: as given to :func:`forward`.
        propagated: (n,) float64, finite; not changed.

    Returns:
        (n,) float64, finite (unless so many hops are made that the pass of ones is not).
    """

    def passed(scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return forward(
            edges, scores, kernel_name=kernel_name, sigma=sigma, gamma=gamma,
            hops=hops, floor=floor, threads=threads,
        )  # fmt: skip

    check_scores(propagated, edges.indptr.size - 1)
    # Sums of means may leave float64 where u itself just fits: a power of two rounds nothing.
    largest = int(np.frexp(np.abs(propagated).max(initial=0.0))[1])
    exponent = max(0, largest - _ROOMY_EXPONENT)
    u = np.ldexp(propagated, -exponent)
    means = u / passed(np.ones_like(u))
    steps = np.rint(np.ldexp(u - (passed(means) - means), _KEPT_BITS - (largest - exponent)))
    return np.ldexp(steps + 0.0, largest - _KEPT_BITS)  # -0.0 is 0.0


@kernel
def _forward_rows(edges, scores, gamma, sigma, squared, floor, start, stop, out):
    """out[start:stop] of one forward step."""
    for i in range(start, stop):
        u = scores[i]
        for e in range(edges.indptr[i], edges.indptr[i + 1]):
            sent = max(scores[edges.indices[e]], floor)
            u += weight(edges.distances[e], gamma, sigma, squared) * sent
        out[i] = u


def vanished_share(edges: Edges, kernel_name: Kernel, gamma: float, sigma: float) -> float:
    """The share of edges whose weight is too small for any message to be felt (0 … 1).

    Raw distances on unnormalised features can make it 1: then nothing is diverse about the result.
    """
    if not edges.indices.size or gamma == 0:
        return 0.0
    x = _UNFELT / gamma
    farthest = sigma * (math.sqrt(x) if kernel_name == "gaussian" else x)
    if farthest >= _FLOAT32_MOST:
        return 0.0
    return float(np.count_nonzero(edges.distances > farthest)) / edges.indices.size


def check_scores(scores: NDArray[np.float64], n: int) -> None:
    """Refuse scores that are not n finite numbers in one dimension."""
    if scores.ndim != 1 or scores.size != n:
        raise DataError(
            f"scores must be one number for each of {n:,} rows, not {scores.shape}",
            argument="scores",
        )
    finite = np.isfinite(scores)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"score is {scores[row]}", argument="scores", row=row)
