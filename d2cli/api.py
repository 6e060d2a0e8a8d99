"""The three steps on arrays. The command line does nothing that these do not.

>>> graph = build_graph(embeddings)                       # (n, d) floats
>>> u = propagate(graph, scores)                          # (n,) float64
>>> kept = select(graph, u, len(scores) // 2, difficulty=scores).order  # rows, best first
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.defaults import BALANCE, HOPS, MODES, Balance, EdgeRule, Kernel, choices
from d2cli.engine.threads import Progress, silent
from d2cli.errors import DataError, UsageError
from d2cli.graph.build import build_graph
from d2cli.graph.knn_graph import Edges, KnnGraph, check_edges
from d2cli.messages import forward as messages
from d2cli.messages.edges import edges_of
from d2cli.messages.forward import check_bandwidth, check_scores, forward, resolve_bandwidth
from d2cli.selection.budgets import check_size, class_quotas, cutoff_rows
from d2cli.selection.cutoff import automatic_cutoff, within_quotas
from d2cli.selection.greedy import Rules, Selection, greedy
from d2cli.selection.thinning import thinned, widened

__all__ = ["build_graph", "own_scores", "prepare_edges", "propagate", "select"]

_OURS = MODES["default"]


def prepare_edges(
    graph: KnnGraph,
    *,
    edges: EdgeRule = _OURS.edges,
    bandwidth: float | Literal["median"] = _OURS.bandwidth,
    drop: NDArray[np.bool_] | None = None,
) -> tuple[Edges, float]:
    """The edges and the bandwidth σ that both message passes use, worked out once.

    :func:`propagate` and :func:`select` do this themselves when they are given a graph; whoever
    calls both on one graph can do it first and give them the result.
    """
    sigma = resolve_bandwidth(graph, bandwidth)  # first: its median needs a copy of the distances
    return edges_of(graph, edges, drop), sigma


def propagate(
    graph: KnnGraph | Edges,
    scores: NDArray[np.floating],
    *,
    edges: EdgeRule = _OURS.edges,
    kernel: Kernel = _OURS.kernel,
    bandwidth: float | Literal["median"] = _OURS.bandwidth,
    gamma_forward: float = _OURS.gamma_forward,
    hops: int = HOPS,
    floor: float | None = _OURS.floor,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.float64]:
    """Let each score take in its neighbours': ``u_i = s_i + Σ_j e_ij(γ_f) s_j``.

    Source: arXiv 2310.07931, equation 3.

    Args:
        graph: of n rows, or edges from :func:`prepare_edges` (then `edges` is not used and
            `bandwidth` must be a number).
        scores: (n,) finite and >= 0, higher = more wanted (see :func:`d2cli.messages.utility.utility`).
        edges: who is whose neighbour, see :func:`d2cli.messages.edges.edges_of`.
        kernel: ``gaussian``: e(γ) = exp(-γ (d/σ)²); ``exponential``: exp(-γ d/σ).
        bandwidth: σ in units of distance, or ``median``: the median listed distance.
        gamma_forward: γ_f >= 0.
        hops: how often the step is made.
        floor: the least score that a neighbour sends, or None.
        threads: how many to use (default: every core); the result does not depend on it.
        progress: called with the stage, and how many rows are done of how many.

    Returns:
        (n,) float64, a new array.

    Raises:
        DataError: for scores that are not finite or are negative, or sums beyond float64.
    """
    csr, sigma = _edges_and_sigma(graph, edges, bandwidth)
    values = np.asarray(scores, np.float64)
    check_scores(values, csr.indptr.size - 1)
    negative = values < 0
    if negative.any():
        row = int(np.argmax(negative))
        raise DataError(f"score is negative ({values[row]:g})", argument="scores", row=row)
    u = forward(
        csr, values, kernel_name=kernel, sigma=sigma, gamma=gamma_forward,
        hops=hops, floor=floor, threads=threads, progress=progress,
    )  # fmt: skip
    if not np.isfinite(u).all():
        row = int(np.argmin(np.isfinite(u)))
        raise DataError(
            "propagated score is beyond float64",
            "bring the scores to 0 … 1: --score-transform minmax",
            argument="scores",
            row=row,
        )
    return u


def own_scores(
    graph: KnnGraph | Edges,
    propagated: NDArray[np.floating],
    *,
    edges: EdgeRule = _OURS.edges,
    kernel: Kernel = _OURS.kernel,
    bandwidth: float | Literal["median"] = _OURS.bandwidth,
    gamma_forward: float = _OURS.gamma_forward,
    hops: int = HOPS,
    floor: float | None = _OURS.floor,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """About the scores that :func:`propagate` was given, from what it returned; same options.

    It is what the command line goes by where a cutoff sets itself, since who selects from
    propagated scores has no others. See :func:`d2cli.messages.forward.own_scores`.

    Returns:
        (n,) float64, a new array.
    """
    csr, sigma = _edges_and_sigma(graph, edges, bandwidth)
    return messages.own_scores(
        csr, np.asarray(propagated, np.float64), kernel_name=kernel, sigma=sigma,
        gamma=gamma_forward, hops=hops, floor=floor, threads=threads,
    )  # fmt: skip


def select(
    graph: KnnGraph | Edges,
    propagated: NDArray[np.floating],
    size: int,
    *,
    edges: EdgeRule = _OURS.edges,
    kernel: Kernel = _OURS.kernel,
    bandwidth: float | Literal["median"] = _OURS.bandwidth,
    gamma_reverse: float | Literal["auto"] = "auto",
    clamped: bool = _OURS.clamped,
    labels: ArrayLike | None = None,
    balance: Balance = BALANCE,
    include: NDArray[np.bool_] | None = None,
    exclude: NDArray[np.bool_] | None = None,
    difficulty: NDArray[np.floating] | None = None,
    cutoff: float | Literal["auto"] | None = None,
    progress: Progress = silent,
) -> Selection:
    """Pick `size` rows greedily; each pick lowers its neighbours' scores.

    With a γ_r of ``auto``, a small budget is spent by thinning the picks for a larger one, see
    :mod:`d2cli.selection.thinning`. With a number the order is that of the plain loop.

    Args:
        graph: of n rows, or edges from :func:`prepare_edges` (then `edges` is not used,
            `bandwidth` must be a number, and excluded rows must be dropped from them already).
        propagated: (n,) finite scores after the forward pass; not changed.
        size: how many rows to keep, 1 … the rows that take part.
        edges, kernel, bandwidth: as in :func:`propagate`.
        gamma_reverse: γ_r >= 0; small is strong. ``auto``: the smallest with which messages outlast
            the picks, see :func:`d2cli.selection.greedy.greedy`.
        clamped: whether a score below zero sends nothing (else it raises its neighbours).
        labels: (n,) one class a row, needed for a `balance`.
        balance: ``none``; ``proportional`` to the rows that take part; ``uniform``.
        include: (n,) bool, rows that count as picked first.
        exclude: (n,) bool, rows that take no part; those that the graph excludes never do.
        difficulty: (n,) finite, higher = harder, for example the scores: what a cutoff goes by.
        cutoff: β, the share of the hardest rows that are not picked; ``auto``: as many as
            :func:`d2cli.selection.cutoff.automatic_cutoff` says, and of no class of a `balance` so many
            that it could not fill its share. None: ``auto`` where there is a
            `difficulty` and `gamma_reverse` is ``auto``, else 0.
        progress: called with the stage, and how many are done of how many.

    Returns:
        The picks in order, see :class:`~d2cli.selection.greedy.Selection`.
    """
    n = graph.n if isinstance(graph, KnnGraph) else graph.indptr.size - 1
    drop = _mask(exclude, n, "exclude")
    if isinstance(graph, KnnGraph) and graph.excluded is not None:
        drop = graph.excluded if drop is None else drop | graph.excluded
    csr, sigma = _edges_and_sigma(graph, edges, bandwidth, drop)
    chosen = _mask(include, n, "include")
    if cutoff is None:
        cutoff = "auto" if gamma_reverse == "auto" and difficulty is not None else 0.0
    # A cutoff that sets itself leaves every class its share; shares are of what one that is given
    # leaves.
    classes = quotas = None
    if cutoff == "auto":
        classes, quotas = _classes(labels, balance, n, size, drop, chosen)
    cut = _cut(difficulty, csr, size, drop, chosen, cutoff, classes, quotas)
    if cut is not None:
        drop = cut if drop is None else drop | cut
    if cutoff != "auto":
        classes, quotas = _classes(labels, balance, n, size, drop, chosen)
    rules = Rules(chosen, drop, classes, quotas)
    taking_part = n if drop is None else n - int(drop.sum())
    check_size(size, 0 if chosen is None else int(chosen.sum()), taking_part)
    u = np.asarray(propagated, np.float64)
    check_scores(u, n)
    wide, wide_rules = size, rules
    if gamma_reverse == "auto":
        wide, wide_rules = widened(size, rules, csr, u)
    selection = greedy(
        csr, u, wide,
        kernel_name=kernel, sigma=sigma, gamma=gamma_reverse, clamped=clamped,
        rules=wide_rules, progress=progress,
    )  # fmt: skip
    return replace(thinned(selection, size, rules), cut=0 if cut is None else int(cut.sum()))


def _cut(
    difficulty: NDArray[np.floating] | None,
    edges: Edges,
    size: int,
    drop: NDArray[np.bool_] | None,
    chosen: NDArray[np.bool_] | None,
    cutoff: float | Literal["auto"],
    classes: NDArray[np.int64] | None,
    quotas: NDArray[np.int64] | None,
) -> NDArray[np.bool_] | None:
    """The rows that are too hard to be picked, or None."""
    if cutoff == 0:
        return None
    if difficulty is None:
        raise UsageError("a cutoff needs a difficulty to go by")
    values, n = np.asarray(difficulty, np.float64), edges.indptr.size - 1
    check_scores(values, n)
    spared = np.zeros(n, np.bool_)
    for mask in (drop, chosen):
        if mask is not None:
            spared |= mask
    if cutoff != "auto":
        return cutoff_rows(values, cutoff, spared)
    included = 0 if chosen is None else int(chosen.sum())
    check_size(size, included, included + int((~spared).sum()))
    if size == included:
        return None  # nothing is picked
    cut = automatic_cutoff(values, size - included, spared, edges)
    if classes is None or quotas is None:
        return cut
    return within_quotas(cut, values, drop, classes, quotas)


def _edges_and_sigma(
    graph: KnnGraph | Edges,
    edges: EdgeRule,
    bandwidth: float | Literal["median"],
    drop: NDArray[np.bool_] | None = None,
) -> tuple[Edges, float]:
    if isinstance(graph, KnnGraph):
        return prepare_edges(graph, edges=edges, bandwidth=bandwidth, drop=drop)
    if bandwidth == "median":
        raise UsageError("edges alone have no median bandwidth: give bandwidth a number")
    check_edges(graph)
    return graph, check_bandwidth(bandwidth)


def _mask(mask: NDArray[np.bool_] | None, n: int, name: str) -> NDArray[np.bool_] | None:
    if mask is None:
        return None
    mask = np.asarray(mask)
    if mask.shape != (n,) or mask.dtype != np.bool_:
        raise DataError(f"{name} must be ({n},) bool, not {mask.shape} {mask.dtype}", argument=name)
    return mask


def _classes(
    labels: ArrayLike | None,
    balance: Balance,
    n: int,
    size: int,
    drop: NDArray[np.bool_] | None,
    include: NDArray[np.bool_] | None,
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Class numbers and quotas, or (None, None) where there is no balance to keep."""
    if balance not in choices(Balance):
        raise UsageError(f"balance must be one of {', '.join(choices(Balance))}, not {balance!r}")
    if balance == "none":
        return None, None
    if labels is None:
        raise UsageError(f"balance={balance} needs labels")
    values = np.asarray(labels)
    if values.shape != (n,):
        raise DataError(f"labels must be ({n},), not {values.shape}", argument="labels")
    names, codes = np.unique(values, return_inverse=True)
    takes_part = np.ones(n, np.bool_) if drop is None else ~drop
    available = np.bincount(codes[takes_part], minlength=names.size)
    chosen = None if include is None else np.bincount(codes[include], minlength=names.size)
    check_size(size, 0 if include is None else int(include.sum()), int(available.sum()))
    return codes, class_quotas(available, size, balance, chosen)
