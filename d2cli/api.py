"""The three steps on arrays: graph, forward messages, selection. The command line calls these.

>>> graph = build_graph(embeddings)                       # (n, d) floats
>>> u = propagate(graph, scores)                          # (n,) float64
>>> kept = select(graph, u, len(scores) // 2, scores=scores, difficulty=scores)
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli.defaults import BALANCE, HOPS, MODES, Balance, Bandwidth, EdgeRule, Kernel
from d2cli.engine.threads import Progress, silent
from d2cli.errors import DataError, UsageError
from d2cli.files.output.remote_folder import work_folder
from d2cli.files.output.work_files import WorkFiles
from d2cli.graph.build import build_graph
from d2cli.graph.knn_graph import Edges, KnnGraph, check_edges
from d2cli.graph.lists import NeighborLists
from d2cli.limits import check_choice
from d2cli.messages import forward as messages
from d2cli.messages.edges import edges_of
from d2cli.messages.forward import resolve_bandwidth
from d2cli.messages.part_tasks import edges_by_tasks
from d2cli.messages.parts import EdgeParts, in_parts, stored_edges
from d2cli.messages.sizes import edges_bytes, room_for_edges
from d2cli.messages.spread import spread
from d2cli.messages.utility import check_scores, refuse_scores
from d2cli.selection.budgets import check_size, class_quotas, cutoff_count, hardest
from d2cli.selection.costs.budget import budget_in_cost
from d2cli.selection.cutoff import automatic_cutoff, give_back_for_quotas, two_groups
from d2cli.selection.gamma.lift import KeepLift
from d2cli.selection.greedy import GammaRule, Rules, Selection, greedy

if TYPE_CHECKING:
    from pathlib import Path

    from d2cli.engine.tasks import Engine

__all__ = ["build_graph", "own_scores", "prepare_edges", "propagate", "select", "spread_scores"]

_OURS = MODES["default"]


def prepare_edges(
    graph: NeighborLists | Edges | EdgeParts, *, edges: EdgeRule = _OURS.edges,
    bandwidth: Bandwidth = _OURS.bandwidth, drop: NDArray[np.bool_] | None = None,
    memory: int | None = None, work_dir: str | Path | None = None, engine: Engine | None = None,
) -> tuple[Edges | EdgeParts, float]:  # fmt: skip
    """The edges and the bandwidth σ that both message passes use.

    :func:`propagate` and :func:`select` call this. A program that calls both can call it once and
    pass them the result.

    Args:
        graph, edges, bandwidth: as in :func:`propagate`; edges are checked and returned.
        drop: (n,) bool, rows of a graph whose edges are dropped.
        memory: bytes for edges and messages. If the edges of a graph do not fit beside the rows,
            they are kept in temporary files of `work_dir`, and results are the same. None: edges
            are kept in memory.
        work_dir: a folder, or an address of an object store (extra ``remote``), for temporary
            files, which are removed when the result is no longer used.
        engine: if its tasks do not share the memory of this process, they put the edges into files
            of `work_dir`, which all of them must reach, and messages and selections of the edges
            use the engine too. Results are the same. The graph must be possible to pickle, as one
            in a file is. Otherwise, the engine is not used.

    Raises:
        UsageError: if an option is out of range, or if there is no `work_dir` for edges that do not
            fit, or for an engine.
    """
    sigma = resolve_bandwidth(graph, bandwidth)
    if not isinstance(graph, Edges | EdgeParts):
        room = None if memory is None else room_for_edges(memory, graph.n)
        if engine is not None and not engine.shared:
            if work_dir is None:
                raise UsageError(
                    "tasks of other processes exchange edges in files: they need a work_dir",
                    "name a folder that all machines see, or an address",
                )
            files = WorkFiles(work_folder(work_dir))
            if room is None:
                room = edges_bytes(graph.n, graph.n_neighbors, edges)
            return edges_by_tasks(graph, edges, drop, files, engine, room), sigma
        needed = edges_bytes(graph.n, graph.n_neighbors, edges)
        if room is None or needed <= room:
            return edges_of(_in_memory(graph), edges, drop), sigma
        if work_dir is None:
            raise UsageError(
                f"edges take {needed:,} bytes, and {room:,} are left for them: they need a work_dir"
            )
        return stored_edges(graph, edges, drop, WorkFiles(work_folder(work_dir)), room), sigma
    if isinstance(graph, Edges):
        check_edges(graph)
    return graph, sigma


def _in_memory(graph: NeighborLists) -> KnnGraph:
    return (
        graph if isinstance(graph, KnnGraph) else KnnGraph(*graph.rows(0, graph.n), graph.excluded)
    )


def propagate(
    graph: NeighborLists | Edges | EdgeParts, scores: NDArray[np.floating], *,
    edges: EdgeRule = _OURS.edges, kernel: Kernel = _OURS.kernel,
    bandwidth: Bandwidth = _OURS.bandwidth, gamma_forward: float = _OURS.gamma_forward,
    hops: int = HOPS, floor: float | None = _OURS.floor, threads: int | None = None,
    progress: Progress = silent, memory: int | None = None, work_dir: str | Path | None = None,
    engine: Engine | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Forward message passing: ``u_i = s_i + Σ_{j∈N(i)} e_ij(γ_f) s_j`` (arXiv 2310.07931, eq. 3).

    Args:
        graph: of n rows, in memory or read in ranges (:mod:`d2cli.graph.lists`), or edges from
            :func:`prepare_edges`; with edges, `edges` is ignored and `bandwidth` must be a number.
        scores: (n,) finite, the utility: higher = keep (:func:`d2cli.messages.utility.utility`).
            A negative score lowers its neighbours. Not changed.
        edges: the rule of edges, see :func:`d2cli.messages.edges.edges_of`.
        kernel: ``gaussian``: e(γ) = exp(-γ (d/σ)²); ``exponential``: exp(-γ d/σ).
        bandwidth: σ in units of distance, or ``median``: the median of the listed distances.
        gamma_forward: γ_f >= 0.
        hops: number of forward passes.
        floor: a neighbour sends max(s_j, floor), as in the research code; None: s_j.
        threads: number of threads; the result does not depend on it. None: every core.
        progress: called with (stage, rows done, rows).
        memory, work_dir, engine: as in :func:`prepare_edges`; the result does not depend on them.

    Returns:
        (n,) float64, a new array.

    Raises:
        UsageError: if an option is out of range.
        DataError: if a score is not finite, or if a sum is beyond float64.
    """
    csr, sigma = prepare_edges(
        graph, edges=edges, bandwidth=bandwidth, memory=memory, work_dir=work_dir, engine=engine
    )
    values = np.asarray(scores, np.float64)
    check_scores(values, in_parts(csr).n)
    u = messages.forward(
        csr, values, kernel_name=kernel, sigma=sigma, gamma=gamma_forward,
        hops=hops, floor=floor, threads=threads, progress=progress,
    )  # fmt: skip
    hint = "bring the scores to 0 … 1: --score-transform minmax"
    refuse_scores(u, ~np.isfinite(u), "propagated score is beyond float64", hint)
    return u


def spread_scores(
    graph: NeighborLists | Edges | EdgeParts, scores: NDArray[np.floating], *,
    edges: EdgeRule = _OURS.edges, kernel: Kernel = _OURS.kernel,
    bandwidth: Bandwidth = _OURS.bandwidth, gamma_forward: float = _OURS.gamma_forward,
    exclude: NDArray[np.bool_] | None = None, threads: int | None = None,
    progress: Progress = silent, memory: int | None = None, work_dir: str | Path | None = None,
    engine: Engine | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Fill missing scores with weighted means of their neighbours (:mod:`d2cli.messages.spread`).

    Args:
        graph, edges, kernel, bandwidth, gamma_forward, threads, progress, memory, work_dir, engine:
            as in :func:`propagate`, which is called with the result.
        scores: (n,) the utility, NaN where it is missing; not changed.
        exclude: (n,) bool, rows that take no part, besides those that the graph excludes. Their
            scores are 0 in the result. With edges, they must have been dropped from the edges.

    Returns:
        (n,) float64, a new array.

    Raises:
        UsageError: if an option is out of range.
        DataError: if a score is infinite, or a row cannot be reached from any row with a score.
    """
    n = in_parts(graph).n if isinstance(graph, Edges | EdgeParts) else graph.n
    excluded = _mask(exclude, n, "exclude")
    if not isinstance(graph, Edges | EdgeParts) and graph.excluded is not None:
        excluded = excluded | graph.excluded
    csr, sigma = prepare_edges(
        graph, edges=edges, bandwidth=bandwidth, drop=excluded, memory=memory, work_dir=work_dir,
        engine=engine,
    )  # fmt: skip
    values = np.array(scores, np.float64)
    missing = np.isnan(values)
    if values.shape == (n,):
        missing, values[excluded] = missing & ~excluded, 0.0
    check_scores(np.where(missing, 0.0, values), n)
    return spread(
        csr, values, missing, kernel_name=kernel, sigma=sigma, gamma=gamma_forward,
        threads=threads, progress=progress,
    ).values  # fmt: skip


def own_scores(
    graph: NeighborLists | Edges | EdgeParts, propagated: NDArray[np.floating], *,
    edges: EdgeRule = _OURS.edges, kernel: Kernel = _OURS.kernel,
    bandwidth: Bandwidth = _OURS.bandwidth, gamma_forward: float = _OURS.gamma_forward,
    hops: int = HOPS, floor: float | None = _OURS.floor, threads: int | None = None,
    memory: int | None = None, work_dir: str | Path | None = None, engine: Engine | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Estimate the scores that :func:`propagate` was given from its result; same options.

    The command line uses the estimate as difficulty for an automatic cutoff, because a file of
    propagated scores holds no others. See :func:`d2cli.messages.forward.own_scores`. With 0 `hops`,
    the propagated scores are the scores, and nothing is estimated. Returns a new (n,) float64
    array.
    """
    csr, sigma = prepare_edges(
        graph, edges=edges, bandwidth=bandwidth, memory=memory, work_dir=work_dir, engine=engine
    )
    values = np.asarray(propagated, np.float64)
    check_scores(values, in_parts(csr).n)
    if hops == 0:
        return values + 0.0  # a copy; + 0.0 turns -0.0 into 0.0
    passed = partial(
        messages.forward, csr, kernel_name=kernel, sigma=sigma,
        gamma=gamma_forward, hops=hops, floor=floor, threads=threads,
    )  # fmt: skip
    return messages.own_scores(passed, values)


def select(
    graph: NeighborLists | Edges | EdgeParts, propagated: NDArray[np.floating],
    size: int | None = None, *, edges: EdgeRule = _OURS.edges, kernel: Kernel = _OURS.kernel,
    bandwidth: Bandwidth = _OURS.bandwidth, gamma_reverse: float | Literal["auto"] = "auto",
    keep_lift: float | None = None, scores: NDArray[np.floating] | None = None,
    clamped: bool = _OURS.clamped, labels: ArrayLike | None = None, balance: Balance = BALANCE,
    include: NDArray[np.bool_] | None = None, exclude: NDArray[np.bool_] | None = None,
    difficulty: NDArray[np.floating] | None = None,
    cutoff: float | Literal["auto"] | None = None, costs: NDArray[np.floating] | None = None,
    cost_budget: float | None = None, threads: int | None = None,
    progress: Progress = silent, memory: int | None = None, work_dir: str | Path | None = None,
    engine: Engine | None = None,
) -> Selection:  # fmt: skip
    """Pick `size` rows greedily; each pick lowers its neighbours' scores.

    With a number for γ_r the order is that of the plain loop. With ``auto``, γ_r is the smallest
    whose picks keep a share of the attainable mean score; if an automatic share leaves more room,
    the picks are evenly spaced picks of a larger selection (:mod:`d2cli.selection.thinning`).

    Args:
        graph: of n rows, or edges from :func:`prepare_edges`; with edges, `edges` is ignored,
            `bandwidth` must be a number, and excluded rows must have been dropped from the edges.
        propagated: (n,) finite scores after the forward pass; not changed.
        size: number of rows to keep, 1 … the rows that take part; None: `cost_budget` is given.
        edges, kernel, bandwidth: as in :func:`propagate`.
        gamma_reverse: γ_r >= 0; a small value sends strong messages. ``auto``: `keep_lift` decides.
        keep_lift: L, above 0 and at most 1: γ_r is the smallest whose picks keep this share of the
            attainable mean score (:class:`d2cli.selection.gamma.lift.KeepLift`). It needs
            `gamma_reverse` to be ``auto``. None: L depends on the share of the rows that is kept
            (:func:`d2cli.selection.gamma.least.least_lift`).
        scores: (n,) finite, what :func:`propagate` was given, or :func:`own_scores`. A given
            `keep_lift` measures lift by them. With an automatic one they are used in place of
            `propagated` if difficulties form two groups, and not at all otherwise. None:
            `propagated`.
        clamped: whether a row with a negative score sends nothing (else it raises its neighbours).
        labels: (n,) class of each row, needed for a `balance`.
        balance: ``none``; ``proportional`` to the rows that take part; ``uniform``.
        include: (n,) bool, rows that are picked first.
        exclude: (n,) bool, rows that take no part, besides those that the graph excludes.
        difficulty: (n,) finite, higher = harder, for example the scores: decides what is cut. An
            automatic `keep_lift` depends on whether difficulties form two groups. None: nothing is
            cut, and `propagated` is the difficulty of that rule.
        cutoff: β: the ⌊β·n⌋ hardest rows are cut, and quotas are shares of the rest. ``auto``:
            :func:`d2cli.selection.cutoff.automatic_cutoff`, but no class is cut below its quota.
            None: ``auto`` if there is a `difficulty` and `gamma_reverse` is ``auto``, else 0.
        costs: (n,) finite, at least 0, what each row costs.
        cost_budget: picks end before the first one with which all rows that are kept would cost
            more, and with a `balance` each class ends so at its share
            (:mod:`d2cli.selection.costs.budget`). In place of `size`.
        threads: number of threads; the result does not depend on it. None: every core.
        progress: called with (stage, steps done, steps).
        memory, work_dir, engine: as in :func:`prepare_edges`; the result does not depend on them.
            Edges in files need `clamped`.

    Raises:
        UsageError: if an option is out of range, `size` rows cannot be picked, or none fits into
            the `cost_budget`.
        DataError: if an array has the wrong shape or type, or holds a number that is not finite.
    """
    n = in_parts(graph).n if isinstance(graph, Edges | EdgeParts) else graph.n
    u, decisions = np.asarray(propagated, np.float64), []
    excluded = _mask(exclude, n, "exclude")
    if not isinstance(graph, Edges | EdgeParts) and graph.excluded is not None:
        excluded = excluded | graph.excluded
    csr, sigma = prepare_edges(
        graph, edges=edges, bandwidth=bandwidth, drop=excluded, memory=memory, work_dir=work_dir,
        engine=engine,
    )  # fmt: skip
    rules = Rules(_mask(include, n, "include"), excluded)
    if cutoff is None:
        cutoff = "auto" if gamma_reverse == "auto" and difficulty is not None else 0.0
    if cutoff != 0:
        if difficulty is None:
            raise UsageError("a cutoff needs a difficulty to go by")
        hard = np.asarray(difficulty, np.float64)
        check_scores(hard, n)
        if cutoff != "auto":
            rules = rules.without(hardest(hard, cutoff_count(cutoff, n), rules.eligible))
    check_scores(u, n)
    rule = _rule_of_gamma(
        gamma_reverse, keep_lift, u, scores, u if difficulty is None else difficulty, rules
    )
    if isinstance(rule, KeepLift) and rule.two_groups:
        u = rule.scores  # without forward messages
    classes = _classes(labels, balance, n)
    if size is not None and costs is None and cost_budget is None:
        check_size(size, rules.included, n - int(rules.left_out.sum()))
        rules = _with_quotas(rules, classes, balance, size)
    elif size is None and costs is not None and cost_budget is not None:
        price = np.asarray(costs, np.float64)
        size, rules, in_rows = budget_in_cost(rules, price, cost_budget, balance, classes)
        decisions += [in_rows] if "auto" in (cutoff, gamma_reverse) else []
    else:
        raise UsageError("a selection needs a size, or costs and a cost_budget")
    if cutoff == "auto" and size > rules.included:
        cut = automatic_cutoff(hard, size - rules.included, rules.eligible, csr)
        if rules.classes is not None and rules.quotas is not None:
            cut = give_back_for_quotas(cut, hard, excluded, rules.classes, rules.quotas)
        rules = rules.without(cut.cut_rows)
        decisions.append(cut.decision)
    selection = greedy(
        csr, u, size, kernel_name=kernel, sigma=sigma, gamma=rule, clamped=clamped,
        rules=rules, threads=threads, progress=progress,
    )  # fmt: skip
    if not selection.order.size:
        raise UsageError("the first pick costs more than the cost budget", "raise the budget")
    return replace(
        selection,
        cut=int(rules.left_out.sum() - excluded.sum()),
        decisions=(*decisions, *selection.decisions),
    )


def _rule_of_gamma(
    gamma_reverse: float | Literal["auto"], keep_lift: float | None,
    propagated: NDArray[np.float64], scores: NDArray[np.floating] | None,
    difficulty: NDArray[np.floating], rules: Rules,
) -> float | GammaRule:  # fmt: skip
    """γ_r if it is given, else the rule that chooses it.

    `rules` are those before an automatic cutoff, which asks for two groups of the same rows.
    """
    if gamma_reverse != "auto":
        if not isinstance(gamma_reverse, int | float | np.number):
            raise UsageError(f"gamma_reverse must be 'auto' or a number, not {gamma_reverse!r}")
        if keep_lift is not None:
            raise UsageError(
                f"keep_lift chooses gamma_reverse, which is given as {gamma_reverse:g}",
                "give one of the two",
            )
        return gamma_reverse
    worth, n = propagated, rules.include.size
    if scores is not None:
        worth = np.asarray(scores, np.float64)
        check_scores(worth, n)
    if keep_lift is not None:
        return KeepLift(keep_lift, worth)
    hard = np.asarray(difficulty, np.float64)
    check_scores(hard, n)
    grouped = two_groups(hard[rules.eligible])[0] > 0
    return KeepLift(None, worth if grouped else propagated, grouped)


def _mask(mask: NDArray[np.bool_] | None, n: int, name: str) -> NDArray[np.bool_]:
    mask = np.zeros(n, np.bool_) if mask is None else np.asarray(mask)
    if mask.shape != (n,) or mask.dtype != np.bool_:
        raise DataError(f"{name} must be ({n},) bool, not {mask.shape} {mask.dtype}", argument=name)
    return mask


def _classes(labels: ArrayLike | None, balance: Balance, n: int) -> NDArray[np.int64] | None:
    """(n,) class numbers for a balance, or None."""
    check_choice("balance", balance, Balance)
    if balance == "none":
        return None
    if labels is None:
        raise UsageError(f"balance={balance} needs labels")
    values = np.asarray(labels)
    if values.shape != (n,):
        raise DataError(f"labels must be ({n},), not {values.shape}", argument="labels")
    return np.unique(values, return_inverse=True)[1]


def _with_quotas(
    rules: Rules, classes: NDArray[np.int64] | None, balance: Balance, size: int
) -> Rules:
    """`rules` with class numbers (n,) and the quotas of a balance."""
    if classes is None:
        return rules
    available, included = (
        np.bincount(classes[rows], minlength=int(classes.max()) + 1)
        for rows in (~rules.left_out, rules.include)
    )
    quotas = class_quotas(available, size, balance, included)
    return replace(rules, classes=classes, quotas=quotas)
