"""``d2prune propagate``: a graph file and scores in, propagated scores out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2cli.api import prepare_edges, propagate
from d2cli.commands.budget import Room, Spill, work_files
from d2cli.commands.finish import Output, Summary, Terminal, begin, finish
from d2cli.commands.graph.run import describe_graph
from d2cli.commands.plan import spills_of
from d2cli.commands.propagate.inputs import PropagateJob, Scores, read_propagate_data
from d2cli.commands.propagate.missing import missing_lines, without_gaps
from d2cli.commands.propagate.plan import plan_propagate
from d2cli.commands.requests import MEDIAN
from d2cli.commands.settle import Messages
from d2cli.engine.tasks import Engine
from d2cli.engine.threads import Progress
from d2cli.files.provenance.sidecar import new_provenance
from d2cli.files.sources import blame
from d2cli.graph.knn_graph import Edges
from d2cli.graph.lists import NeighborLists
from d2cli.messages.forward import bandwidth_decision, resolve_bandwidth, vanished_share
from d2cli.messages.part_tasks import edges_by_tasks
from d2cli.messages.parts import EdgeParts, in_parts, stored_edges
from d2cli.runtime.decisions import Decision

#: A notice is printed if a larger share of the edge weights is too small to have an effect.
VANISHED_NOTICE = 0.5


def run_propagate(job: PropagateJob, terminal: Terminal) -> Summary:
    """Pass scores along the graph's edges and write the result.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    clock = begin(job.inputs, job.room.engine)
    messages = job.messages
    with clock.stage("read"):
        _, spill = spills_of(lambda: plan_propagate(job), job.room)
        data = read_propagate_data(job, in_ranges=spill is not None)
    drop = data.bad.dropped if data.bad.dropped.any() else None
    prepared = edges_for(data.graph, messages, drop, spill, job.room)
    with clock.stage("propagate"), prepared as (edges, sigma):
        scores, filled = without_gaps(
            edges, sigma, data.scores, messages, job.threads, terminal.progress
        )
        u = pass_forward(edges, sigma, scores, messages, job.threads, terminal.progress)
        if data.bad.any_left_out:  # rows without a score have no propagated score either
            u[~data.bad.used] = np.nan
        median = median_decisions(data.graph, messages, sigma)
        notices = message_notices(edges, messages, sigma, scores, median)
        count = in_parts(edges).count
    direction = data.scores.direction
    decisions: tuple[Decision, ...] = (*direction.decisions, *median, *filled)
    provenance = new_provenance(
        "propagate",
        {
            **direction.recorded,
            **messages.recorded,
            "id_column": job.request.id_column,
            "bad_rows": job.request.bad_rows,
            "missing_scores": job.request.missing_scores,
        },
        inputs=job.inputs.described,
        counts={"rows": data.graph.n, "edges": count},
        messages={"sigma": sigma},
        bad_rows=data.bad.section,
        decisions=[decision.as_json() for decision in decisions],
    )

    def store(path: Path) -> None:
        with path.open("wb") as file:
            np.save(file, u, allow_pickle=False)

    return finish(
        job.inputs,
        clock,
        job.threads,
        [Output(job.request.out, provenance, store)],
        [
            ("graph", f"{data.graph.n:,} rows, {describe_graph(data.graph)}"),
            ("messages", describe_messages(messages, sigma, count)),
            *data.bad.lines,
            *missing_lines(filled),
            ("written", job.request.out),
        ],
        [*data.notices, *notices],
        decisions=decisions,
    )


@contextmanager
def edges_for(
    graph: NeighborLists,
    messages: Messages,
    drop: NDArray[np.bool_] | None,
    spill: Spill | None,
    room: Room,
) -> Iterator[tuple[Edges | EdgeParts, float]]:
    """The edges and σ: in memory, or with a `spill` in files that the end of the block removes.

    Raises:
        OutputError: if a file cannot be written.
    """
    if spill is None:
        rule, bandwidth = messages.edges, messages.bandwidth
        yield prepare_edges(graph, edges=rule, bandwidth=bandwidth, drop=drop)
        return
    (room.engine or Engine(1)).grant(spill.room)
    with work_files(room) as files:
        sigma, rule = resolve_bandwidth(graph, messages.bandwidth), messages.edges
        if room.engine is not None:
            yield edges_by_tasks(graph, rule, drop, files, room.engine, spill.room), sigma
        else:
            yield stored_edges(graph, rule, drop, files, spill.room), sigma


def pass_forward(
    edges: Edges | EdgeParts,
    sigma: float,
    scores: Scores,
    messages: Messages,
    threads: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """The forward pass under settled options; errors name the file of the scores."""
    with blame(scores=scores.origin):
        return propagate(
            edges,
            scores.utility,
            kernel=messages.kernel,
            bandwidth=sigma,
            gamma_forward=messages.gamma_forward,
            hops=messages.hops,
            floor=messages.floor,
            threads=threads,
            progress=progress,
        )


def describe_messages(messages: Messages, sigma: float, edges: int) -> str:
    """One line for people; `edges` is their number."""
    median = " (median distance)" if messages.bandwidth == "median" else ""
    return (
        f"{edges:,} {messages.edges} edges, {messages.kernel} kernel, "
        f"σ = {sigma:.4g}{median}, γ_f = {messages.gamma_forward:g}"
        + ("" if messages.hops == 1 else f", {messages.hops} hops")
    )


def median_decisions(
    graph: NeighborLists, messages: Messages, sigma: float
) -> tuple[Decision, ...]:
    """How σ was chosen; nothing if it was given."""
    return (bandwidth_decision(graph, sigma),) if messages.bandwidth == MEDIAN else ()


def message_notices(
    edges: Edges | EdgeParts,
    messages: Messages,
    sigma: float,
    scores: Scores | None,
    median: tuple[Decision, ...],
) -> list[str]:
    """What the user should know about messages.

    Args:
        edges, messages, sigma: along which messages pass, and how.
        scores: what they carry, or None if that is read as propagated.
        median: as of :func:`median_decisions`.
    """
    notices = []
    if scores is not None and not scores.utility.any():
        transform = scores.direction.score_transform
        after = "" if transform in (None, "none") else f" after --score-transform {transform}"
        notices.append(
            f"every score is 0{after}: no message is sent, and the order is that of the rows"
        )
    vanished = vanished_share(edges, messages.kernel, messages.gamma_forward, sigma)
    if vanished > VANISHED_NOTICE:
        notices.append(
            f"{vanished:.0%} of the edge weights are below 2^-53 at σ = {sigma:.4g}: their "
            "messages vanish; --bandwidth median fits the weights to the data"
        )
    if any(decision.numbers["zero_share"] > 1 / 2 for decision in median):
        notices.append(
            f"more than half of all listed distances are 0 (duplicates): σ = {sigma:.4g} is the "
            "median of the others"
        )
    return notices
