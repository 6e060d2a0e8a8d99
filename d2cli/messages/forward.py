"""Edge weights and forward message passing (arXiv 2310.07931, equations 2 and 3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Bandwidth, Kernel
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.errors import UsageError
from d2cli.graph.knn_graph import Edges
from d2cli.graph.lists import NeighborLists, ranges
from d2cli.limits import check_choice, check_hops, check_not_negative
from d2cli.messages.by_rows import write_rows
from d2cli.messages.parts import EdgeParts, Span, in_parts
from d2cli.messages.sizes import PART_EDGES
from d2cli.runtime.decisions import Decision
from d2cli.runtime.jit import kernel

_LEAST = float(np.finfo(np.float32).smallest_subnormal)  # the least distance above 0
_KEPT_BITS = 32  #: own_scores rounds to multiples of 2**-_KEPT_BITS of the largest score


def resolve_bandwidth(graph: NeighborLists | Edges | EdgeParts, bandwidth: Bandwidth) -> float:
    """The bandwidth σ: an edge of length σ has the weight 1/e at γ = 1.

    ``median`` is the median of all listed distances. If that is 0 (more than half of the distances
    are 0, from exact duplicates), σ is the median of the distances above 0. If no distance is above
    0, σ is 1, and every weight is 1.

    Raises:
        UsageError: for ``median`` of edges, or a number that is not positive and finite.
    """
    if bandwidth == "median":
        if isinstance(graph, Edges | EdgeParts):
            raise UsageError("edges alone have no median bandwidth: give bandwidth a number")
        return _median(graph, 0.0) or _median(graph, _LEAST) or 1.0
    sigma = float(bandwidth)
    if not (math.isfinite(sigma) and sigma > 0):
        raise UsageError(f"bandwidth must be 'median' or a number above 0, not {bandwidth}")
    return sigma


def _median(lists: NeighborLists, least: float) -> float:
    """The median of the finite distances of at least `least`, as float64; 0 if there are none.

    Bits of floats of at least 0 ascend with their values. So the two middle values are found from
    counts of the upper 16 bits, and then of the lower 16 bits, without a copy of the distances.
    """
    upper = _counts(lists, least)
    total = int(upper.sum())
    if not total:
        return 0.0
    low, high = (_ranked(lists, least, upper, rank) for rank in ((total - 1) // 2, total // 2))
    return (low + high) / 2


def _ranked(lists: NeighborLists, least: float, upper: NDArray[np.int64], rank: int) -> float:
    """The distance at a place in ascending order, from the counts of the upper 16 bits."""
    ends = np.cumsum(upper)
    above = int(np.searchsorted(ends, rank, side="right"))
    before = int(ends[above] - upper[above])
    lower = np.cumsum(_counts(lists, least, above))
    below = int(np.searchsorted(lower, rank - before, side="right"))
    return float(np.array(above << 16 | below, np.int32).view(np.float32))


def _counts(lists: NeighborLists, least: float, above: int = -1) -> NDArray[np.int64]:
    """(65536,) how many distances have each upper half; or each lower half, with that upper one."""
    counts = np.zeros(1 << 16, np.int64)
    for _, _, distances in ranges(lists):
        _count_bits(distances, least, above, counts)
    return counts


@kernel
def _count_bits(distances, least, above, counts):
    """Count the upper 16 bits of distances, or the lower 16 bits of those whose upper are `above`.

    Infinite distances and those below `least` are not counted.
    """
    bits = distances.view(np.int32)
    for i in range(distances.shape[0]):
        for p in range(distances.shape[1]):
            if least <= distances[i, p] < np.inf:
                found = bits[i, p] & 0x7FFFFFFF  # -0.0 is 0.0
                if above < 0:
                    counts[found >> 16] += 1
                elif found >> 16 == above:
                    counts[found & 0xFFFF] += 1


def bandwidth_decision(graph: NeighborLists, sigma: float) -> Decision:
    """How :func:`resolve_bandwidth` came to `sigma` from ``median``."""
    listed = int(_counts(graph, 0.0).sum())
    zero = listed - int(_counts(graph, _LEAST).sum())
    rule = "σ = median of the listed distances"
    if zero == listed:
        rule = "σ = 1, because no listed distance is above 0"
    elif 2 * zero > listed:
        rule = "σ = median of the listed distances above 0, because more than half are 0"
    numbers = {"distances": listed, "zero_share": zero / listed if listed else 0.0}
    return Decision("bandwidth", sigma, rule, numbers)


def check_kernel(kernel_name: str, gamma: float, name: str) -> None:
    """Refuse an unknown kernel, and a γ that is negative or not finite; `name` is that of γ."""
    check_choice("kernel", kernel_name, Kernel)
    check_not_negative(name, gamma)


@kernel
def scaled(distance, sigma, squared):
    """The distance of one edge in its weight exp(-γ x), in float64: (d/σ)² if `squared`, or d/σ."""
    x = np.float64(distance) / sigma
    return x * x if squared else x


@kernel
def weight(distance, gamma, sigma, squared):
    """The weight e(γ) of one edge in float64: exp(-γ (d/σ)²) if `squared`, else exp(-γ d/σ)."""
    if gamma == 0.0:
        return 1.0  # d/σ may overflow to inf, and 0 · inf is NaN
    return math.exp(-gamma * scaled(distance, sigma, squared))


def forward(
    edges: Edges | EdgeParts, scores: NDArray[np.float64], *, kernel_name: Kernel, sigma: float,
    gamma: float, hops: int, floor: float | None, threads: int | None,
    progress: Progress = silent,
) -> NDArray[np.float64]:  # fmt: skip
    """The forward pass of :func:`d2cli.api.propagate`; `gamma` is γ_f.

    `scores` are (n,) float64, finite, and may be negative; 0 `hops` return a copy of them. Each sum
    runs over the neighbours in ascending row number.
    """
    check_kernel(kernel_name, gamma, "gamma_forward")
    check_hops(hops)
    squared, sent_at_least = kernel_name == "gaussian", -math.inf if floor is None else floor
    u, parts, count = scores, in_parts(edges), thread_count(threads)
    for _ in range(hops):
        before, u = u, np.empty_like(u)
        message = (gamma, sigma, squared, sent_at_least)
        rows = partial(_pass_rows, before, message)
        write_rows(parts, rows, u, count, lambda done: progress("propagate", done, scores.size))
    return u.copy() if u is scores else u


def _pass_rows(
    scores: NDArray[np.float64], message: tuple[float, float, bool, float], part: Edges,
    first: int, out: NDArray[np.float64], start: int, stop: int,
) -> None:  # fmt: skip
    """One forward pass, as :data:`d2cli.messages.by_rows.Rows`."""
    _forward_rows(part, first, scores, *message, out, start, stop)


@kernel
def _forward_rows(edges, first, scores, gamma, sigma, squared, floor, out, start, stop):
    """Write the rows ``start … stop`` of a part that begins at row `first`, of one forward pass.

    `scores` are (n,), and `out` holds the rows of the part.
    """
    for p in range(start, stop):
        u = scores[first + p]
        for e in range(edges.indptr[p], edges.indptr[p + 1]):
            sent = max(scores[edges.indices[e]], floor)
            u += weight(edges.distances[e], gamma, sigma, squared) * sent
        out[p] = u


def own_scores(
    passed: Callable[[NDArray[np.float64]], NDArray[np.float64]], propagated: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Estimate the scores s before a forward pass from its result u alone.

    ``s_i ≈ u_i − Σ_j e_ij m_j`` with m = u / c, where c is the forward pass of scores that are all
    1. m_i is the weighted mean of the scores around row i and stands for the unknown s_j. The
    estimate is exact up to rounding where neighbouring scores are equal. It is rounded to 2⁻³² of
    the largest u, so that equal scores stay equal: sums have rounding errors of about 2⁻⁵⁰.

    `passed` is the forward pass, from (n,) scores to (n,) propagated scores. Returns a new (n,)
    float64 array, which is finite unless the pass of ones overflows after many hops.
    """
    # Sums of means may overflow where u does not. Scaling by a power of two is exact, and sums of
    # fewer than 2²⁰ values below 2¹⁰⁰⁰ stay within float64.
    largest = int(np.frexp(np.abs(propagated).max(initial=0.0))[1])
    exponent = max(0, largest - 1000)
    u = np.ldexp(propagated, -exponent)
    means = u / passed(np.ones_like(u))
    steps = np.rint(np.ldexp(u - (passed(means) - means), _KEPT_BITS - (largest - exponent)))
    return np.ldexp(steps + 0.0, largest - _KEPT_BITS)  # + 0.0 turns -0.0 into 0.0


def own_scores_decision(gamma: float, hops: int) -> Decision:
    """Where the scores come from if all that is known are propagated ones."""
    value = "estimated from the propagated scores"
    rule = f"s_i ≈ u_i − Σ_j e_ij u_j / c_j, c = forward pass of ones, rounded to 2^-{_KEPT_BITS}"
    if hops == 0:
        value, rule = "the propagated scores", "s_i = u_i, because there are 0 hops"
    return Decision("own_scores", value, rule, {"gamma_forward": float(gamma), "hops": hops})


def vanished_share(
    edges: Edges | EdgeParts, kernel_name: Kernel, gamma: float, sigma: float
) -> float:
    """The share of edges whose weight is below 2⁻⁵³, so that their messages vanish (0 … 1).

    It can be 1 for raw distances on unnormalised features: then the messages have no effect.
    """
    x = 53 * math.log(2) / gamma if gamma else math.inf
    farthest = sigma * (math.sqrt(x) if kernel_name == "gaussian" else x)
    parts = in_parts(edges)
    if not parts.count or farthest >= float(np.finfo(np.float32).max):
        return 0.0
    if parts.engine is None:
        counts = [_count_farther(farthest, parts, (0, len(parts)))]
    else:
        counts = parts.by_tasks(partial(_count_farther, farthest))
    return int(np.concatenate(counts).sum()) / parts.count


def _count_farther(farthest: float, parts: EdgeParts, span: Span) -> NDArray[np.int64]:
    """(1,) the number of edges of a span of parts that are longer than `farthest`."""
    count = 0
    for _, part in parts.loaded(span):
        for start in range(0, part.distances.size, PART_EDGES):  # all edges may be one part
            count += int(np.count_nonzero(part.distances[start : start + PART_EDGES] > farthest))
    return np.array([count])
