"""``d2prune select``: embeddings or a graph, and scores, in; selections out."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, nullcontext

from d2cli.api import own_scores, select
from d2cli.commands.budget import Spill
from d2cli.commands.finish import Clock, Summary, Terminal, begin, finish
from d2cli.commands.graph.run import build_key, describe_graph, graph_notices, lists_of, store_of
from d2cli.commands.plan import spills_of
from d2cli.commands.propagate.missing import missing_lines, without_gaps
from d2cli.commands.propagate.run import (
    describe_messages,
    edges_for,
    median_decisions,
    message_notices,
    pass_forward,
)
from d2cli.commands.requests import AUTO, Budget
from d2cli.commands.select.inputs import (
    SelectData,
    SelectJob,
    Target,
    name_targets,
    read_select_data,
)
from d2cli.commands.select.outputs import (
    Outcome,
    Picked,
    budget_lines,
    budget_notices,
    check_formats,
    lines_of,
    outputs_of,
    whole_provenance,
)
from d2cli.commands.select.plan import plan_select
from d2cli.commands.settle import scores_for_rule, settle_size
from d2cli.engine.checkpoints import NONE, Checkpoint
from d2cli.files.output.atomic import check_target
from d2cli.files.output.checkpoint import PartsFolder, kept
from d2cli.files.sources import blame
from d2cli.graph.lists import NeighborLists
from d2cli.messages.forward import own_scores_decision
from d2cli.messages.parts import in_parts
from d2cli.runtime.decisions import Decision
from d2cli.selection.costs.budget import prefix
from d2cli.selection.greedy import Selection


def run_select(job: SelectJob, terminal: Terminal) -> Summary:
    """Select, for each budget, and write the selections.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    clock = begin(job.inputs, job.room.engine)
    with clock.stage("read"):
        search, spill = spills_of(lambda: plan_select(job), job.room)
        parts = store_of(job.room, search)
        data = read_select_data(job, in_ranges=spill is not None)
    budgets = [(budget, _size(budget, data)) for budget in job.request.budgets]
    targets = name_targets(job.request.output, budgets)
    check_formats(job.request.output, targets, data.frame.ids)
    for target in targets:
        if target.path != "-":
            check_target(target.path, job.inputs.paths, target.parts)
    with (
        _checkpoint(job, data, targets[0].path, terminal, parts) as checkpoint,
        ExitStack() as opened,
    ):
        graph = data.graph
        if graph is None:
            with clock.stage("graph"):
                graph = _build(job, data, terminal, checkpoint, opened, parts)
        outcome = _choose(job, data, graph, spill, targets, clock, terminal)
        outputs = outputs_of(job, data, outcome)
        messages = describe_messages(job.settings.messages, outcome.sigma, outcome.edges)
        return finish(
            job.inputs,
            clock,
            job.settings.threads,
            outputs,
            [
                *outcome.missing,
                *lines_of(job, data, outcome),
                ("graph", describe_graph(graph)),
                ("messages", messages),
                *budget_lines(job, data, outcome),
            ],
            [
                *data.frame.notices,
                *data.notices,
                *unused_options(job),
                *graph_notices(graph),
                *outcome.notices,
                *budget_notices(job, data, outcome),
            ],
            provenance=whole_provenance(outputs),
            decisions=(
                *outcome.decisions,
                *(d for picked in outcome.picked for d in picked.selection.decisions),
            ),
            terminal=terminal,
        )


def _size(budget: Budget, data: SelectData) -> int:
    """The budget in rows."""
    n = data.frame.n
    left_out = 0 if data.left_out is None else int(data.left_out.sum())
    included = 0 if data.included is None else int(data.included.sum())
    return settle_size(budget, n, n - left_out, included)


def _checkpoint(
    job: SelectJob, data: SelectData, target: str, terminal: Terminal, parts: PartsFolder | None
) -> AbstractContextManager[Checkpoint]:
    """The checkpoint of a graph that is built on the way, beside the first output."""
    if data.graph is not None or (target == "-" and parts is None):
        return nullcontext(NONE)
    build = build_key(job.inputs, job.settings.graph, data.within, data.left_out)
    return kept(target, build, job.request.checkpoint, terminal.tell, parts)


def _build(
    job: SelectJob, data: SelectData, terminal: Terminal, checkpoint: Checkpoint,
    opened: ExitStack, parts: PartsFolder | None,
) -> NeighborLists:  # fmt: skip
    assert job.emb is not None
    return lists_of(
        job.emb, job.settings.graph, job.settings.threads, terminal.progress, checkpoint,
        opened, parts, labels=data.within, within=job.within, excluded=data.left_out, bad=data.bad,
        engine=job.room.engine,
    )  # fmt: skip


def _choose(
    job: SelectJob,
    data: SelectData,
    graph: NeighborLists,
    spill: Spill | None,
    targets: list[Target],
    clock: Clock,
    terminal: Terminal,
) -> Outcome:
    """From the graph to one selection a budget."""
    settings = job.settings
    messages, threads = settings.messages, settings.threads
    with ExitStack() as stack:
        with clock.stage("edges"):
            prepared = edges_for(graph, messages, data.left_out, spill, job.room)
            edges, sigma = stack.enter_context(prepared)
        with clock.stage("propagate"):
            u, scores = data.propagated, data.scores
            filled: tuple[Decision, ...] = ()
            if u is None:
                assert scores is not None
                scores, filled = without_gaps(
                    edges, sigma, scores, messages, threads, terminal.progress, data.left_out
                )
                u = pass_forward(edges, sigma, scores, messages, threads, terminal.progress)
            median = median_decisions(graph, messages, sigma)
            decisions = (*graph.info.decisions, *data.direction.decisions, *median, *filled)
            own = None
            if job.needs_own_scores:
                decisions += (own_scores_decision(messages.gamma_forward, messages.hops),)
                own = own_scores(
                    edges, u, kernel=messages.kernel, bandwidth=sigma, threads=threads,
                    gamma_forward=messages.gamma_forward, hops=messages.hops, floor=messages.floor,
                )  # fmt: skip
            difficulty = own if data.difficulty is None else data.difficulty
            if data.late_cutoff:
                assert scores is not None
                difficulty = scores.utility

        def picks(target: Target) -> Selection:
            include, cost = job.request.include, target.budget.cost
            with blame(include=include[0] if include else None, costs=job.cost):
                return select(
                    edges,
                    u,
                    target.size if cost is None else None,
                    kernel=messages.kernel,
                    bandwidth=sigma,
                    gamma_reverse=settings.gamma_reverse,
                    keep_lift=settings.keep_lift,
                    scores=scores_for_rule(own, settings.keep_lift, messages),
                    clamped=messages.clamped,
                    labels=data.labels,
                    balance=job.request.balance,
                    include=data.included,
                    exclude=data.left_out,
                    cutoff=AUTO if settings.cutoff == AUTO else data.late_cutoff,
                    difficulty=difficulty,
                    costs=data.costs,
                    cost_budget=None if cost is None else float(cost),
                    threads=threads,
                    progress=terminal.progress,
                )

        with clock.stage("select"):
            if job.nested:
                largest = picks(max(targets, key=lambda one: float(one.budget.cost or one.size)))
                selections = [_prefix(largest, target, data) for target in targets]
            else:
                selections = [picks(target) for target in targets]
        return Outcome(
            graph,
            in_parts(edges).count,
            sigma,
            u,
            decisions,
            message_notices(edges, messages, sigma, scores, median),
            missing_lines(filled),
            [Picked(target, s) for target, s in zip(targets, selections, strict=True)],
        )


def _prefix(selection: Selection, target: Target, data: SelectData) -> Selection:
    """The selection of a smaller budget."""
    if target.budget.cost is not None:
        assert data.costs is not None
        return prefix(selection, data.costs, float(target.budget.cost))
    return selection.prefix(target.size)


_HNSW_ONLY = ("--hnsw-m", "--ef-construction", "--ef")
#: Options of the graph step alone.
_GRAPH_ONLY = (
    "--n-neighbors",
    "--metric",
    "--method",
    "--recall",
    "--seed",
    "--checkpoint",
    *_HNSW_ONLY,
)


def unused_options(job: SelectJob) -> list[str]:
    """Notices of options whose step is not run: a Makefile may give them to every command."""
    request, named, notices = job.request, job.request.named, []
    late = [name for name in _GRAPH_ONLY if name in named and request.graph]
    if late:
        notices.append(f"{', '.join(late)}: not used, since --graph is built already")
    if "--labels" in named and "--balance" not in named:
        notices.append("--labels: not used without --balance")
    if job.settings.cutoff == 0 and "--cutoff" not in named:
        options = [o for o in ("--cutoff-scores", "--cutoff-higher-is") if o in named]
        notices += [f"{option}: not used without --cutoff" for option in options]
    hnsw = [name for name in _HNSW_ONLY if name in named and not late]
    if hnsw and request.graph_options.method != "hnsw":
        notices.append(f"{', '.join(hnsw)}: not used without --method hnsw")
    return notices
