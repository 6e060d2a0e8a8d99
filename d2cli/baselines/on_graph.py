"""Baselines that look at the same kNN graph as D2 pruning."""

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

_OURS = MODES["default"]


def facility_location(
    graph: KnnGraph,
    size: int,
    *,
    edges: EdgeRule = _OURS.edges,
    kernel: Kernel = _OURS.kernel,
    bandwidth: float | Literal["median"] = _OURS.bandwidth,
    gamma: float = 1.0,
) -> NDArray[np.int64]:
    """Facility location: every row is served by the pick most similar to it.

    Greedy maximisation of ``f(S) = Σ_i max_{j∈S} e_ij`` over the edges of the graph, with e_ii = 1
    and e_ij = 0 where there is no edge: within 1 - 1/e of the best possible. Ties go to the lowest
    row. Gains only fall, so a row's gain is worked out again only when it leads (Minoux 1978).

    Source: Nemhauser, Wolsey, Fisher 1978; on a sparse graph as in Wei, Iyer, Bilmes: Submodularity
    in data subset selection and active learning, ICML 2015.

    Args:
        graph: of n rows; not changed.
        size: how many to keep, 1 … n.
        edges, kernel, bandwidth: as in :func:`d2cli.propagate`, so that similarity is the weight of
            our messages.
        gamma: γ of the kernel.

    Returns:
        (size,) int64, in the order of the picks: every prefix is the selection for that size.
    """
    check_kernel(kernel, gamma, "gamma")
    check_size(size, 0, graph.n)
    csr = edges_of(graph, edges)
    similarity = np.empty(csr.indices.size)
    sigma = resolve_bandwidth(graph, bandwidth)
    _weights(csr.distances, gamma, sigma, kernel == "gaussian", similarity)
    order = np.empty(size, np.int64)
    _serve(csr.indptr, csr.indices, similarity, order)
    return order


@kernel
def _weights(distances, gamma, sigma, squared, out):
    """The weight of every edge."""
    for e in range(distances.shape[0]):
        out[e] = weight(distances[e], gamma, sigma, squared)


@kernel
def _gain(indptr, indices, similarity, served, j):
    """How much better all rows would be served if j were picked."""
    gain = 1.0 - served[j]
    for e in range(indptr[j], indptr[j + 1]):
        gain += max(similarity[e] - served[indices[e]], 0.0)
    return gain


@kernel
def _serve(indptr, indices, similarity, order):
    """Lazy greedy picks. Edges run both ways with one similarity, or only from server to served."""
    n = indptr.shape[0] - 1
    served = np.zeros(n)
    rows = np.arange(n)
    values = np.empty(n)
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
    """Removal of near-duplicates: rows go that are too close to one that comes before them.

    In a random order, each row's nearest neighbour that comes before it is found, among those that
    either one lists. Rows nearer to theirs than a threshold are dropped; the threshold is the one
    that leaves `size` rows. Rows without such a neighbour, of which the graph says nothing, go
    last, the latest first.

    Source: Abbas, Tirumala, Simig, Ganguli, Morcos: SemDeDup: data-efficient learning at web-scale
    through semantic deduplication, arXiv 2303.09540, algorithm A7. There pairs come from k-means
    cells and the order from the distance to their centres, a choice that is found to matter little.

    Args:
        graph: of n rows; not changed.
        size: how many to keep, 1 … n.
        seed: of the order.

    Returns:
        (size,) int64, the last to be dropped first: every prefix is the selection for that size.
    """
    n = graph.n
    check_size(size, 0, n)
    rank = np.random.default_rng(seed).permutation(n)
    listed = graph.neighbors >= 0
    here = np.nonzero(listed)[0]
    there = graph.neighbors[listed]
    later = np.where(rank[here] > rank[there], here, there)
    nearest = np.full(n, np.inf, np.float32)
    np.minimum.at(nearest, later, graph.distances[listed])
    return np.lexsort((rank, -nearest))[:size]
