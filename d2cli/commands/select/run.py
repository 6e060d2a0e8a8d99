"""``d2prune select``: embeddings or a graph, and scores, in; selections out."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import IO

import numpy as np
from numpy.typing import NDArray

from d2cli.api import prepare_edges, select
from d2cli.commands.graph import build_key, graph_of
from d2cli.commands.propagate import about_own, pass_forward
from d2cli.commands.requests import Budget, GraphOptions, SelectRequest, check_select
from d2cli.commands.select.inputs import Inputs, read_inputs
from d2cli.commands.select.outputs import Outcome, Picked, entries, plan_targets, write_all
from d2cli.commands.select.summary import summarise
from d2cli.commands.summary import Clock, Summary
from d2cli.engine.checkpoints import NONE, Checkpoint
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.files.output.atomic import check_target
from d2cli.files.output.checkpoint import Tell, kept, unheard
from d2cli.files.sources import blame
from d2cli.graph.knn_graph import Edges, KnnGraph
from d2cli.selection.budgets import budget_of, check_size
from d2cli.selection.greedy import Selection


def run_select(
    request: SelectRequest,
    progress: Progress = silent,
    stdout: IO[str] | None = None,
    tell: Tell = unheard,
) -> Summary:
    """Select, for each budget, and write the selections.

    Args:
        request: what to do.
        progress: called with the stage, and how much is done of how much.
        stdout: the text stream for an output named ``-``.
        tell: called with what the user should know at once.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    check_select(request)
    threads = thread_count(request.threads)
    clock = Clock()
    with clock.stage("read"):
        inputs = read_inputs(request)
    n = inputs.frame.n
    taking_part = n if inputs.drop is None else n - int(inputs.drop.sum())
    budgets = [(b, _size(b, n, taking_part, inputs.include)) for b in request.budgets]
    targets = plan_targets(request.output, budgets, inputs.frame.ids)
    for target in targets:
        if target != "-":
            check_target(target, inputs.paths)
    with _kept(request, inputs, targets, tell) as checkpoint:
        graph = inputs.graph
        if graph is None:
            with clock.stage("graph"):
                graph = _build(request, inputs, threads, progress, checkpoint)
        outcome = _choose(request, inputs, graph, targets, budgets, clock, threads, progress)
        provenance = entries(outcome)
        write_all(outcome, provenance, clock, threads, stdout)
    return summarise(outcome, provenance, clock.run(threads), _without_effect(request, inputs))


def _choose(
    request: SelectRequest,
    inputs: Inputs,
    graph: KnnGraph,
    targets: list[str],
    budgets: list[tuple[Budget, int]],
    clock: Clock,
    threads: int,
    progress: Progress,
) -> Outcome:
    """From the graph to the selections."""
    with clock.stage("edges"):
        csr, sigma = prepare_edges(
            graph,
            edges=inputs.messages.edges,
            bandwidth=inputs.messages.bandwidth,
            drop=inputs.drop,
        )
    if inputs.propagated is not None:
        u = inputs.propagated
    else:
        with clock.stage("propagate"):
            assert inputs.wanted is not None and inputs.origin is not None
            u = pass_forward(
                csr, sigma, inputs.wanted, inputs.messages, inputs.origin, threads, progress
            )
    if inputs.late_cutoff == "auto" and inputs.difficulty is None:
        with clock.stage("propagate"):
            inputs.difficulty = about_own(csr, sigma, u, inputs.messages, threads)
    with clock.stage("select"):
        selections = _select_all(request, inputs, csr, sigma, u, budgets, progress)
    picked = [
        Picked(target, budget, selection)
        for target, (budget, _), selection in zip(targets, budgets, selections, strict=True)
    ]
    return Outcome(request, inputs, graph, csr, sigma, u, picked)


#: Options of the graph step alone.
_HNSW_ONLY = ("--hnsw-m", "--ef-construction", "--ef")
_GRAPH_ONLY = (
    "--n-neighbors",
    "--metric",
    "--method",
    "--recall",
    "--seed",
    "--checkpoint",
    *_HNSW_ONLY,
)
#: Options that do nothing where there is no cutoff.
_OF_CUTOFF = ("--cutoff-scores", "--cutoff-higher-is")


def _without_effect(request: SelectRequest, inputs: Inputs) -> list[str]:
    """Notices of options whose step is not run: a Makefile may give them to every command."""
    notices = []
    late = [name for name in _GRAPH_ONLY if name in request.named and request.graph is not None]
    if late:
        notices.append(f"{', '.join(late)}: not used, since --graph is built already")
    if "--labels" in request.named and "--balance" not in request.named:
        notices.append("--labels: not used without --balance")
    if inputs.late_cutoff == "none" and "--cutoff" not in request.named:
        for option in _OF_CUTOFF:
            if option in request.named:
                notices.append(f"{option}: not used without --cutoff")
    hnsw = [name for name in _HNSW_ONLY if name in request.named and not late]
    if hnsw and request.graph_options.method != "hnsw":
        notices.append(f"{', '.join(hnsw)}: not used without --method hnsw")
    return notices


def _size(budget: Budget, n: int, taking_part: int, include: NDArray[np.bool_] | None) -> int:
    """The budget in rows."""
    size = budget_of(budget.ratio or "nan", n) if budget.size is None else budget.size
    check_size(size, 0 if include is None else int(include.sum()), taking_part)
    return size


def _graph_options(request: SelectRequest, inputs: Inputs) -> GraphOptions:
    """How the graph is built; a mode may have a say in it."""
    options = request.graph_options
    return replace(options, method="exact") if inputs.messages.exact else options


def _kept(
    request: SelectRequest, inputs: Inputs, targets: list[str], tell: Tell
) -> AbstractContextManager[Checkpoint]:
    """The checkpoint of a graph that is built on the way, beside the first output."""
    if inputs.graph is not None or targets[0] == "-":
        return nullcontext(NONE)
    options = _graph_options(request, inputs)
    build = build_key(
        inputs.described["emb"], inputs.found, options, inputs.within_labels, inputs.drop
    )
    return kept(targets[0], build, request.checkpoint, tell)


def _build(
    request: SelectRequest,
    inputs: Inputs,
    threads: int,
    progress: Progress,
    checkpoint: Checkpoint,
) -> KnnGraph:
    assert inputs.emb is not None
    options = _graph_options(request, inputs)
    return graph_of(
        inputs.emb, options, inputs.within_labels, inputs.within, inputs.drop, threads, progress,
        checkpoint,
    )  # fmt: skip


def _select_all(
    request: SelectRequest,
    inputs: Inputs,
    csr: Edges,
    sigma: float,
    u: NDArray[np.float64],
    budgets: list[tuple[Budget, int]],
    progress: Progress,
) -> list[Selection]:
    """One selection a budget. Where they nest, one run serves them all."""

    def run(size: int) -> Selection:
        with blame(include=request.include[0] if request.include else None):
            return select(
                csr,
                u,
                size,
                kernel=inputs.messages.kernel,
                bandwidth=sigma,
                gamma_reverse=inputs.gamma_reverse,
                clamped=inputs.messages.clamped,
                labels=inputs.labels,
                balance=request.balance,
                include=inputs.include,
                exclude=inputs.drop,
                cutoff=0.0 if inputs.late_cutoff == "none" else "auto",
                difficulty=inputs.difficulty,
                progress=progress,
            )

    sizes = [size for _, size in budgets]
    if "auto" in (inputs.gamma_reverse, inputs.late_cutoff) or request.balance != "none":
        return [run(size) for size in sizes]
    largest = run(max(sizes))
    return [_prefix(largest, size) for size in sizes]


def _prefix(selection: Selection, size: int) -> Selection:
    """The selection for a smaller budget: budgets nest under one γ_r and no quotas."""
    ran_out = selection.ran_out_at
    return replace(
        selection,
        order=selection.order[:size],
        gains=selection.gains[:size],
        ran_out_at=ran_out if ran_out is not None and ran_out < size else None,
    )
