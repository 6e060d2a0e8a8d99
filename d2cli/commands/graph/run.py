"""``d2prune graph``: embeddings in, a graph out; and graphs that other commands build."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.bad_rows import BadRows
from d2cli.commands.budget import Room, Spill, work_errors
from d2cli.commands.finish import Output, Summary, Terminal, begin, finish
from d2cli.commands.graph.inputs import GraphJob, read_graph_data
from d2cli.commands.graph.plan import plan_graph
from d2cli.commands.inputs import Inputs
from d2cli.commands.plan import spills_of
from d2cli.commands.requests import GraphOptions, as_parameters
from d2cli.engine.checkpoints import NONE, Checkpoint
from d2cli.engine.tasks import Engine
from d2cli.engine.threads import Progress
from d2cli.files.graph_file import graph_section, store_graph
from d2cli.files.output.checkpoint import PartsFolder, digest_of, kept
from d2cli.files.provenance.sidecar import new_provenance
from d2cli.files.sources import Source, blame, in_order
from d2cli.graph.build import build_graph, build_lists
from d2cli.graph.knn_graph import KnnGraph
from d2cli.graph.lists import NeighborLists, ranges
from d2cli.graph.settings import SearchSettings


def run_graph(job: GraphJob, terminal: Terminal) -> Summary:
    """Build a graph and write it.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    clock = begin(job.inputs, job.room.engine)
    data = read_graph_data(job)
    out, options = job.request.out, job.options
    build = build_key(job.inputs, options, data.labels, data.excluded)
    spill = store_of(job.room, spills_of(lambda: plan_graph(job), job.room)[0])
    with (
        kept(out, build, job.request.checkpoint, terminal.tell, spill) as checkpoint,
        ExitStack() as opened,
    ):
        with clock.stage("graph"):
            graph = lists_of(
                job.emb, options, job.threads, clock.timed(terminal.progress), checkpoint,
                opened, spill,
                labels=data.labels, within=job.within, excluded=data.excluded, bad=data.bad,
                engine=job.room.engine,
            )  # fmt: skip
        provenance = new_provenance(
            "graph",
            {
                **as_parameters(options),
                **job.request.emb_options.recorded,
                "id_column": job.request.id_column,
                "bad_rows": job.request.bad_rows,
            },
            inputs=job.inputs.described,
            counts=counts(graph),
            graph=graph_section(graph),
            ids=data.frame.ids_section,
            bad_rows=data.bad.section,
            decisions=[decision.as_json() for decision in graph.info.decisions],
        )
        return finish(
            job.inputs,
            clock,
            job.threads,
            [
                Output(
                    out,
                    provenance,
                    lambda path: store_graph(path, graph, data.frame.ids, provenance),
                    job.parts,
                )
            ],
            [("graph", describe_graph(graph)), *data.bad.lines, ("written", out)],
            [*data.frame.notices, *graph_notices(graph)],
            decisions=graph.info.decisions,
        )


def store_of(room: Room, spill: Spill | None) -> PartsFolder | None:
    """Where and how a search keeps its parts; None: in memory."""
    return None if spill is None else PartsFolder(room.work_dir, spill.room)


def lists_of(
    emb: Source,
    options: GraphOptions,
    threads: int,
    progress: Progress,
    checkpoint: Checkpoint,
    opened: ExitStack,
    spill: PartsFolder | None,
    *,
    labels: NDArray[np.int64] | None = None,
    within: Source | None = None,
    excluded: NDArray[np.bool_] | None = None,
    bad: BadRows | None = None,
    engine: Engine | None = None,
) -> NeighborLists:
    """As :func:`graph_of`; with `spill`, embeddings are read and parts are kept in files.

    Then tasks run on the `engine`; None: in threads. The lists can be read until `opened` and the
    checkpoint end.
    """
    if spill is None:
        return graph_of(
            emb, options, threads, progress, checkpoint,
            labels=labels, within=within, excluded=excluded, bad=bad,
        )  # fmt: skip
    (engine or Engine(threads)).grant(spill.room)
    counted = nullcontext() if bad is None else bad.counting(emb, options.metric)
    settings = SearchSettings(**as_parameters(options), threads=threads)
    with counted, blame(embeddings=emb, within=within):
        with work_errors(spill.folder):
            rows = opened.enter_context(emb.reader(spill.folder))
        return build_lists(
            rows, settings, within=labels, exclude=excluded, progress=progress,
            checkpoint=checkpoint, engine=engine,
        )  # fmt: skip


def graph_of(
    emb: Source,
    options: GraphOptions,
    threads: int,
    progress: Progress,
    checkpoint: Checkpoint = NONE,
    *,
    labels: NDArray[np.int64] | None = None,
    within: Source | None = None,
    excluded: NDArray[np.bool_] | None = None,
    rows: NDArray[np.int64] | None = None,
    bad: BadRows | None = None,
) -> KnnGraph:
    """Build the graph of a source, or of some `rows` of it; errors name its files.

    If embeddings cannot be used, the error counts all such rows, which are `bad`.
    """
    counted = nullcontext() if bad is None else bad.counting(emb, options.metric)
    with counted, blame(embeddings=in_order(emb, rows), within=within):
        return build_graph(
            emb.rows_of_matrix(rows),
            **as_parameters(options),
            within=labels,
            exclude=excluded,
            threads=threads,
            progress=progress,
            checkpoint=checkpoint,
        )


def build_key(
    inputs: Inputs,
    options: GraphOptions,
    labels: NDArray[np.int64] | None,
    excluded: NDArray[np.bool_] | None,
) -> dict[str, Any]:
    """All that shapes a graph, so that only the same build resumes a checkpoint.

    The time of change counts: a fingerprint may miss a change inside a large file.
    """
    described = inputs.described["emb"]
    return {
        "versions": new_provenance("graph", {})["versions"],
        "options": as_parameters(options),
        "emb": {key: value for key, value in described.items() if key != "path"},
        "modified": inputs.whereabouts.get("modified_ns", {}).get("emb"),
        "within": digest_of(labels),
        "exclude": digest_of(excluded),
    }


def counts(graph: NeighborLists) -> dict[str, int]:
    """The sizes of a graph."""
    listed = sum(int(np.count_nonzero(neighbors >= 0)) for _, neighbors, _ in ranges(graph))
    excluded = 0 if graph.excluded is None else int(graph.excluded.sum())
    return {"rows": graph.n, "listed_neighbors": listed, "excluded": excluded}


def describe_graph(graph: NeighborLists) -> str:
    """One line for people."""
    info = graph.info
    text = f"{info.method}, {info.metric}, k = {graph.n_neighbors}"
    if info.recall is not None:
        text += (
            f", recall@{graph.n_neighbors} = {info.recall:.3f} "
            f"(measured on {info.recall_sample:,} rows)"
        )
    return text


#: What raises the recall of an approximate search, by method.
_WIDER = {
    "hnsw": "raise --ef and --ef-construction, or use --method exact",
    "blocks": "raise --recall, or use --method exact",
}


def graph_notices(graph: NeighborLists) -> list[str]:
    """What the user should know about a graph."""
    info = graph.info
    if info.recall is None or info.recall_target is None or info.recall >= info.recall_target:
        return []
    # A graph may come from elsewhere, and be exact in part.
    names = info.method.split("+")
    wider = next((_WIDER[name] for name in names if name in _WIDER), "use --method exact")
    return [
        f"recall@{graph.n_neighbors} reached {info.recall:.3f}, the target is "
        f"{info.recall_target:g}: {wider}"
    ]
