"""Baselines that use the kNN graph of D2. Arguments are described in :mod:`d2cli.baselines`."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import LIFT, MODES, PAPER_GAMMA_REVERSE, Bandwidth, EdgeRule, Kernel
from d2cli.engine.threads import Progress, silent
from d2cli.graph.knn_graph import Edges, KnnGraph, check_edges
from d2cli.limits import check_lift
from d2cli.messages.edges import edges_of
from d2cli.messages.forward import check_kernel, forward, resolve_bandwidth, weight
from d2cli.messages.utility import check_scores
from d2cli.runtime.jit import kernel
from d2cli.selection.budgets import check_size
from d2cli.selection.greedy import Rules, greedy
from d2cli.selection.heap import drop_top, heapify, sink

_DEFAULT, _PAPER = MODES["default"], MODES["paper"]
Rows = NDArray[np.int64]


def edges_and_bandwidth(
    graph: KnnGraph | Edges, rule: EdgeRule, bandwidth: Bandwidth
) -> tuple[Edges, float]:
    """The edges of a graph under `rule`, or the edges themselves after a check; and σ."""
    sigma = resolve_bandwidth(graph, bandwidth)
    if not isinstance(graph, Edges):
        return edges_of(graph, rule), sigma
    check_edges(graph)
    return graph, sigma


def d2_paper(
    graph: KnnGraph | Edges, scores: NDArray[np.floating], size: int, *,
    gamma_reverse: float = PAPER_GAMMA_REVERSE, edges: EdgeRule = _PAPER.edges,
    threads: int | None = None, progress: Progress = silent,
) -> Rows:  # fmt: skip
    """D2 pruning as published: raw distances, γ_f = 1, reverse messages of any sign.

    The weight of an edge is exp(-γ d²). A pick whose score is negative raises its neighbours.
    `gamma_reverse` is γ_r >= 0; `edges` as in :func:`d2cli.propagate`. Rows that the graph excludes
    take no part. Rows are returned in the order of the picks; every prefix is the selection of that
    size.

    Source: Maharana, Yadav, Bansal: D2 pruning: message passing for balancing diversity and
    difficulty in data pruning, ICLR 2024, arXiv 2310.07931, equations 2 to 4. This is ``d2prune
    select --mode paper``. The authors tune γ_r and k; the commands of their program also cut the
    hardest rows first, and its weights are exp(-γ d).
    """
    csr, sigma = edges_and_bandwidth(graph, edges, _PAPER.bandwidth)
    n = csr.indptr.size - 1
    values = np.asarray(scores, np.float64)
    check_scores(values, n)
    rules = Rules.none(n)
    if isinstance(graph, KnnGraph) and graph.excluded is not None:
        rules = rules.without(graph.excluded)
    check_size(size, 0, int(rules.eligible.sum()))
    propagated = forward(
        csr, values, kernel_name=_PAPER.kernel, sigma=sigma, gamma=_PAPER.gamma_forward, hops=1,
        floor=_PAPER.floor, threads=threads, progress=progress,
    )  # fmt: skip
    return greedy(
        csr, propagated, size, kernel_name=_PAPER.kernel, sigma=sigma, gamma=gamma_reverse,
        clamped=_PAPER.clamped, rules=rules, threads=threads, progress=progress,
    ).order  # fmt: skip


def facility_location(
    graph: KnnGraph | Edges, size: int, *, edges: EdgeRule = _DEFAULT.edges,
    kernel: Kernel = _DEFAULT.kernel, bandwidth: Bandwidth = _DEFAULT.bandwidth,
    gamma: float = 1.0,
) -> Rows:  # fmt: skip
    """Facility location: greedy maximisation of ``f(S) = Σ_i max_{j∈S} e_ij``.

    e_ij is the weight of a message along the edge from j to i (`edges`, `kernel`, `bandwidth` as in
    :func:`d2cli.propagate`; `gamma`: γ of the kernel), e_ii = 1, and e_ij = 0 without an edge. f(S)
    is at least 1 - 1/e of the optimum. Ties go to the lowest row. Gains only fall, so a row's gain
    is computed again only when it is at the top of the heap (lazy greedy, Minoux 1978). Rows are
    returned in the order of the picks; every prefix is the selection of that size.

    Source: Nemhauser, Wolsey, Fisher 1978; on a sparse graph as in Wei, Iyer, Bilmes: Submodularity
    in data subset selection and active learning, ICML 2015.
    """
    check_kernel(kernel, gamma, "gamma")
    csr, sigma = edges_and_bandwidth(graph, edges, bandwidth)
    check_size(size, 0, csr.indptr.size - 1)
    order = np.empty(size, np.int64)
    _serve(*csr, gamma, sigma, kernel == "gaussian", order)
    return order


@kernel
def _gain(indptr, indices, similarity, served, j):
    """Return f(S + j) - f(S); `served` (n,) is max_{j∈S} e_ij of each row."""
    gain = 1.0 - served[j]
    for e in range(indptr[j], indptr[j + 1]):
        gain += max(similarity[e] - served[indices[e]], 0.0)
    return gain


@kernel
def _serve(indptr, indices, distances, gamma, sigma, squared, order):
    """Write the greedy picks to `order`. Row j of the edges lists the rows i with e_ij > 0."""
    similarity = np.empty(distances.shape[0])
    for e in range(distances.shape[0]):
        similarity[e] = weight(distances[e], gamma, sigma, squared)
    n = indptr.shape[0] - 1
    served, rows, values = np.zeros(n), np.arange(n), np.empty(n)
    for j in range(n):
        values[j] = _gain(indptr, indices, similarity, served, j)
    heapify(values, rows, n)
    size = n
    for count in range(order.shape[0]):
        while True:
            j = rows[0]
            gain = _gain(indptr, indices, similarity, served, j)
            if gain == values[0]:
                break
            sink(values, rows, size, 0, gain, j)
        order[count] = j
        served[j] = 1.0
        for e in range(indptr[j], indptr[j + 1]):
            served[indices[e]] = max(served[indices[e]], similarity[e])
        size = drop_top(values, rows, size)


def near_duplicates(graph: KnnGraph, size: int, *, seed: int = 0) -> Rows:
    """Removal of near-duplicates: drop rows that are close to a row earlier in a random order.

    d_i is the distance from row i to its nearest earlier neighbour, among the neighbours that i
    lists and the rows that list i; inf if there is none. The rows with the largest d_i are kept,
    largest first, ties by the random order: this equals dropping all rows with d_i below a
    threshold that leaves `size` rows. Every prefix is the selection of that size.

    Source: Abbas, Tirumala, Simig, Ganguli, Morcos: SemDeDup: data-efficient learning at web-scale
    through semantic deduplication, arXiv 2303.09540, algorithm A7. The authors take pairs within
    k-means cells, and order rows by the distance to the centre, which they find to matter little.
    """
    check_size(size, 0, graph.n)
    return _farthest_first(graph, np.random.default_rng(seed).permutation(graph.n))[:size]


def _farthest_first(graph: KnnGraph, rank: Rows) -> Rows:
    """All rows by the distance to their nearest neighbour of a lower `rank` (n,), largest first.

    Neighbours of a row are the rows that it lists and the rows that list it; ties go to the lowest
    rank. A row without such a neighbour is at distance inf.
    """
    listed = graph.neighbors >= 0
    here, there = np.nonzero(listed)[0], graph.neighbors[listed]
    later = np.where(rank[here] > rank[there], here, there)
    nearest = np.full(graph.n, np.inf, np.float32)
    np.minimum.at(nearest, later, graph.distances[listed])
    return np.lexsort((rank, -nearest))


def semdedup_then_score(
    graph: KnnGraph, scores: NDArray[np.floating], size: int, *, lift: float = LIFT
) -> Rows:
    """Drop near-duplicates, then select the highest scores of the other rows, highest first.

    A row is a near-duplicate if a neighbour of a higher score is closer than a threshold; equal
    scores count as higher in lower rows. The greater the threshold, the more rows are dropped, and
    the lower is the mean score of the N = `size` best that are left. So the threshold is set by
    what it costs: it is the greatest that leaves N rows and a `lift` of λ, 0 < λ <= 1, where the
    lift of a selection is (its mean score - the mean of all rows) / (the mean of the N highest
    scores - the mean of all rows). With λ = 1, only rows are dropped that cost nothing. Rows at
    equal distances are dropped one by one. The threshold depends on N, so selections of several
    sizes do not nest. Ties go to the lowest row.

    Source of the first step: arXiv 2303.09540, see :func:`near_duplicates`. There no scores are
    known, and of two near-duplicates any one is kept; here it is the one with the higher score,
    which leaves more spread at the same lift.
    """
    check_lift("lift", lift)
    values, n = np.asarray(scores, np.float64), graph.n
    check_scores(values, n)
    check_size(size, 0, n)
    by_score = np.argsort(-values, kind="stable")
    rank, place = np.empty((2, n), np.int64)
    rank[by_score] = np.arange(n)
    place[_farthest_first(graph, rank)] = np.arange(n)  # the last rows are dropped first
    place, ranked = place[by_score], values[by_score]
    # Sums of large scores may overflow. Scaling by a power of two is exact.
    ranked = np.ldexp(ranked, -int(np.frexp(np.abs(ranked).max())[1]))

    def total(dropped: int) -> float:
        """The sum of the `size` highest scores that are left.

        Rounded sums do not rise either: each number falls, and all are added in the same order.
        """
        return float(ranked[place < n - dropped][:size].sum())

    best = total(0)
    most = (1 - lift) * max(0.0, n * best - size * float(ranked.sum()))
    counts = range(n - size + 1)
    dropped = bisect_right(counts, most, key=lambda count: n * (best - total(count))) - 1
    return by_score[place < n - dropped][:size]
