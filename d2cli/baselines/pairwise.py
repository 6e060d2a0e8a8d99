"""Baselines that maximise ``f(S) = Σ_{i∈S} I_i - α Σ_{i,j∈S} K_ij``: scores less similarities.

- I_i: the scores, scaled to 0 … 1 (the lowest is 0, the highest 1), so that α means the same for
  every kind of score;
- K_ij: the weight of a message along the edge between i and j (`edges`, `kernel`, `bandwidth` as in
  :func:`d2cli.propagate`; `gamma`: γ of the kernel); 0 without an edge, and K_ii = 0. Any other
  value of K_ii would change f by the same amount for all sets of one size;
- `alpha`: α >= 0. Each pair counts twice, as (i, j) and as (j, i).

Other arguments are described in :mod:`d2cli.baselines`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.baselines.on_graph import Rows, edges_and_bandwidth
from d2cli.defaults import ALPHA, INFOMAX_ITERATIONS, MODES, Bandwidth, EdgeRule, Kernel
from d2cli.engine.threads import Progress, silent
from d2cli.errors import UsageError
from d2cli.graph.knn_graph import Edges, KnnGraph
from d2cli.limits import check_not_negative
from d2cli.messages.forward import check_kernel, forward, weight
from d2cli.messages.utility import check_scores, utility
from d2cli.runtime.jit import kernel
from d2cli.selection.budgets import check_size
from d2cli.selection.heap import drop_top, heapify, sink

_DEFAULT = MODES["default"]


def graph_cut(
    graph: KnnGraph | Edges, scores: NDArray[np.floating], size: int, *, alpha: float = ALPHA,
    edges: EdgeRule = _DEFAULT.edges, kernel: Kernel = _DEFAULT.kernel,
    bandwidth: Bandwidth = _DEFAULT.bandwidth, gamma: float = 1.0,
) -> Rows:  # fmt: skip
    """Greedy maximisation of f: each pick adds most to f, and lowers its neighbours by 2 α K.

    Ties go to the lowest row. Rows are returned in the order of the picks, which equals that of the
    plain loop; every prefix is the selection of that size.

    Source: Böther, Sebastian, Awasthi, Klimovic, Ramalingam: On distributed larger-than-memory
    subset selection with pairwise submodular functions, MLSys 2025, arXiv 2402.16442: the
    centralised greedy algorithm. There f = α Σ u - β Σ s, with each pair counted once.
    """
    csr, sigma, values = _problem(graph, scores, size, alpha, edges, kernel, bandwidth, gamma)
    order = np.empty(size, np.int64)
    _cut(csr, values, 2 * alpha, gamma, sigma, kernel == "gaussian", order)
    return order


def infomax(
    graph: KnnGraph | Edges, scores: NDArray[np.floating], size: int, *, alpha: float = ALPHA,
    iterations: int = INFOMAX_ITERATIONS, edges: EdgeRule = _DEFAULT.edges,
    kernel: Kernel = _DEFAULT.kernel, bandwidth: Bandwidth = _DEFAULT.bandwidth,
    gamma: float = 1.0, threads: int | None = None, progress: Progress = silent,
) -> Rows:  # fmt: skip
    """InfoMax: maximise f over numbers X_i >= 0 of sum p = `size`, and keep the p highest.

    From X = 0, X ← p · softmax(I - 2 α K X) is repeated `iterations` >= 1 times. Rows are returned
    with the highest X first, ties to the lowest row. X depends on p, so selections of several sizes
    do not nest. If α · p / n is large, the iteration does not converge but alternates between two
    states, and the selection is poor: then choose a smaller α.

    Source: Tan, Wu, Huang, Zhao, Qi: Data pruning by information maximization, ICLR 2025, arXiv
    2506.01701. The authors too keep the similarities of nearest neighbours only. They solve large
    data sets in parts; here all rows are solved together.
    """
    if iterations < 1:
        raise UsageError(f"iterations must be at least 1, not {iterations}")
    csr, sigma, values = _problem(graph, scores, size, alpha, edges, kernel, bandwidth, gamma)
    relaxed = np.zeros(values.size)  # X
    for done in range(iterations):
        progress("infomax", done, iterations)
        passed = forward(
            csr, relaxed, kernel_name=kernel, sigma=sigma, gamma=gamma, hops=1, floor=None,
            threads=threads,
        )  # fmt: skip
        logits = values - 2 * alpha * (passed - relaxed)  # a forward pass of X is X + K X
        shares = np.exp(logits - logits.max())
        relaxed = shares * (size / shares.sum())
    progress("infomax", iterations, iterations)
    return np.argsort(-logits, kind="stable")[:size]


def _problem(
    graph: KnnGraph | Edges, scores: NDArray[np.floating], size: int, alpha: float,
    rule: EdgeRule, kernel_name: Kernel, bandwidth: Bandwidth, gamma: float,
) -> tuple[Edges, float, NDArray[np.float64]]:  # fmt: skip
    """The edges, σ and the scaled scores (n,), after all checks."""
    check_kernel(kernel_name, gamma, "gamma")
    check_not_negative("alpha", alpha)
    csr, sigma = edges_and_bandwidth(graph, rule, bandwidth)
    values = np.asarray(scores, np.float64)
    check_scores(values, csr.indptr.size - 1)
    check_size(size, 0, values.size)
    return csr, sigma, utility(values, transform="minmax")


@kernel
def _cut(edges, values, penalty, gamma, sigma, squared, order):
    """Write the greedy picks to `order`; `penalty` is 2 α. Changes `values` (n,), the gains.

    Gains only fall, so a row of the heap is moved only when it is at the top.
    """
    n = values.shape[0]
    rows, heap = np.arange(n), values.copy()
    heapify(heap, rows, n)
    size = n
    for count in range(order.shape[0]):
        while heap[0] != values[rows[0]]:
            sink(heap, rows, size, 0, values[rows[0]], rows[0])
        i = rows[0]
        order[count] = i
        size = drop_top(heap, rows, size)
        for e in range(edges.indptr[i], edges.indptr[i + 1]):
            x = weight(edges.distances[e], gamma, sigma, squared)
            values[edges.indices[e]] -= penalty * x
