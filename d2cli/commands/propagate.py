"""``d2prune propagate``: a graph file and scores in, propagated scores out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.api import own_scores, prepare_edges, propagate
from d2cli.commands.directions import settle_direction
from d2cli.commands.graph import describe_graph, stale_graph
from d2cli.commands.requests import Messages, PropagateRequest, ScoreOptions, check_propagate, given
from d2cli.commands.summary import Clock, Summary, last_line
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.files.frame import Frame
from d2cli.files.graph_file import open_graph
from d2cli.files.output.atomic import Outputs, check_target
from d2cli.files.provenance.fingerprint import describe, describe_files
from d2cli.files.provenance.sidecar import new_provenance, sidecar_path, write_sidecar
from d2cli.files.sources import Reordered, Source, blame, open_source
from d2cli.graph.knn_graph import Edges, KnnGraph
from d2cli.messages.forward import vanished_share
from d2cli.messages.utility import utility

#: Above this share of weights that are too small to be felt the user hears of it.
VANISHED_NOTICE = 0.5


def run_propagate(request: PropagateRequest, progress: Progress = silent) -> Summary:
    """Pass scores along the graph's edges once and write the result.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    check_propagate(request)
    threads = thread_count(request.threads)
    clock = Clock()
    messages = request.messages.resolved()
    with clock.stage("read"):
        stored = open_graph(request.graph).load()
        graph = stored.graph
        stale = stale_graph(request.graph, stored.file, request.allow_stale)
        messages.check_method(graph.info.method)
        frame = Frame(graph.n, request.graph, stored.ids, stored.ids is not None)
        scores = open_source(
            request.scores.paths, "scores", "scores", request.scores.key, request.id_column
        )
        check_target(request.out, [*scores.paths, Path(request.graph)])
        score_options, said = settle_direction(scores, request.score_options)
        _, values, origin = read_wanted(scores, frame, score_options)
        frame.check_id_column(request.id_column)
    with clock.stage("propagate"):
        csr, sigma = prepare_edges(graph, edges=messages.edges, bandwidth=messages.bandwidth)
        u = pass_forward(csr, sigma, values, messages, origin, threads, progress)
    entry = new_provenance(
        "propagate",
        {
            **given(score_options),
            **message_record(messages),
            "id_column": request.id_column,
        },
        inputs={
            "graph": describe_files([Path(request.graph)], graph.n),
            "scores": describe(scores),
        },
        counts={"rows": graph.n, "edges": int(csr.indices.size)},
        messages={"sigma": sigma},
    )
    with Outputs() as outputs:
        note = outputs.place(sidecar_path(request.out))
        data = outputs.place(request.out)
        with clock.stage("write"), data.open("wb") as file:
            np.save(file, u, allow_pickle=False)
        run = clock.run(threads)
        write_sidecar(note, data, entry, run)
    return Summary(
        [request.out],
        entry,
        run,
        [
            ("graph", f"{graph.n:,} rows, {describe_graph(graph)}"),
            ("messages", describe_messages(messages, sigma, csr)),
            ("written", request.out),
            last_line(run),
        ],
        [*stale, *frame.notices, *said, *message_notices(graph, csr, messages, sigma, values)],
    )


def read_wanted(
    source: Source, frame: Frame, options: ScoreOptions
) -> tuple[NDArray[np.float64], NDArray[np.float64], Source | Reordered]:
    """Scores in the order of the frame: as they are in the file; at least 0 and higher = more
    wanted; and where each came from.
    """
    assert options.higher_is and options.score_transform, "options are resolved"
    raw, origin = frame.vector(source)
    with blame(scores=origin):
        return raw, utility(raw, options.higher_is, options.score_transform), origin


def pass_forward(
    csr: Edges,
    sigma: float,
    values: NDArray[np.float64],
    messages: Messages,
    origin: Source | Reordered,
    threads: int,
    progress: Progress,
) -> NDArray[np.float64]:
    """The forward pass under settled options."""
    with blame(scores=origin):
        return propagate(
            csr,
            values,
            kernel=messages.kernel,
            bandwidth=sigma,
            gamma_forward=messages.gamma_forward,
            hops=messages.hops,
            floor=messages.floor,
            threads=threads,
            progress=progress,
        )


def about_own(
    csr: Edges, sigma: float, propagated: NDArray[np.float64], messages: Messages, threads: int
) -> NDArray[np.float64]:
    """(n,) about the scores that these messages began with."""
    return own_scores(
        csr,
        propagated,
        kernel=messages.kernel,
        bandwidth=sigma,
        gamma_forward=messages.gamma_forward,
        hops=messages.hops,
        floor=messages.floor,
        threads=threads,
    )


def message_record(messages: Messages) -> dict[str, Any]:
    """What is recorded of the messages; the names are those of the options."""
    names = ("mode", "edges", "kernel", "bandwidth", "gamma_forward", "hops")
    return {name: getattr(messages, name) for name in names}


def describe_messages(messages: Messages, sigma: float, csr: Edges) -> str:
    """One line for people."""
    median = " (median distance)" if messages.bandwidth == "median" else ""
    return (
        f"{csr.indices.size:,} {messages.edges} edges, {messages.kernel} kernel, "
        f"σ = {sigma:.4g}{median}, γ_f = {messages.gamma_forward:g}"
        + ("" if messages.hops == 1 else f", {messages.hops} hops")
    )


def message_notices(
    graph: KnnGraph,
    csr: Edges,
    messages: Messages,
    sigma: float,
    scores: NDArray[np.float64] | None,
) -> list[str]:
    """What deserves a second look before messages pass."""
    notices = []
    if scores is not None and not scores.any():
        notices.append("every score is 0: no message is sent, and the order is that of the rows")
    gone = vanished_share(csr, messages.kernel, messages.gamma_forward, sigma)
    if gone > VANISHED_NOTICE:
        notices.append(
            f"{gone:.0%} of the edge weights are below 2^-53 at σ = {sigma:.4g}: their messages "
            "vanish; --bandwidth median fits the weights to the data"
        )
    if messages.bandwidth == "median":
        zero = int(np.count_nonzero(graph.distances == 0))
        if 2 * zero > int(np.count_nonzero(graph.neighbors >= 0)):
            notices.append(
                f"more than half of all listed distances are 0 (duplicates): σ = {sigma:.4g} is "
                "the median of the others"
            )
    return notices
