"""Baselines that use the kNN graph of D2. Arguments are described in :mod:`d2cli.baselines`."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import MODES, EdgeRule, Kernel
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages.edges import edges_of
from d2cli.messages.forward import check_kernel, resolve_bandwidth, weight
from d2cli.runtime.jit import kernel
from d2cli.selection.budgets import check_size
from d2cli.selection.heap import drop_top, heapify, sink

_DEFAULT = MODES["default"]


def facility_location(
    graph: KnnGraph, size: int, *, edges: EdgeRule = _DEFAULT.edges,
    kernel: Kernel = _DEFAULT.kernel, bandwidth: float | Literal["median"] = _DEFAULT.bandwidth,
    gamma: float = 1.0,
) -> NDArray[np.int64]:  # fmt: skip
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
    check_size(size, 0, graph.n)
    csr = edges_of(graph, edges)
    sigma = resolve_bandwidth(graph, bandwidth)
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


def near_duplicates(graph: KnnGraph, size: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Removal of near-duplicates: drop rows that are close to a row earlier in a random order.

    d_i is the distance from row i to its nearest earlier neighbour, among the neighbours that i
    lists and the rows that list i; inf if there is none. The rows with the largest d_i are kept,
    largest first, ties by the random order: this equals dropping all rows with d_i below a
    threshold that leaves `size` rows. Every prefix is the selection of that size.

    Source: Abbas, Tirumala, Simig, Ganguli, Morcos: SemDeDup: data-efficient learning at web-scale
    through semantic deduplication, arXiv 2303.09540, algorithm A7. The authors take pairs within
    k-means cells, and order rows by the distance to the centre, which they find to matter little.
    """
    n = graph.n
    check_size(size, 0, n)
    rank = np.random.default_rng(seed).permutation(n)
    listed = graph.neighbors >= 0
    here, there = np.nonzero(listed)[0], graph.neighbors[listed]
    later = np.where(rank[here] > rank[there], here, there)
    nearest = np.full(n, np.inf, np.float32)
    np.minimum.at(nearest, later, graph.distances[listed])
    return np.lexsort((rank, -nearest))[:size]
