"""``d2prune graph``: embeddings in, a graph file out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.api import build_graph
from d2cli.commands.requests import GraphOptions, GraphRequest, Input, check_graph, given
from d2cli.commands.summary import Clock, Summary, last_line
from d2cli.engine.checkpoints import NONE, Checkpoint
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.errors import DataError
from d2cli.files.frame import Frame
from d2cli.files.graph_file import GraphFile, StoredGraph, graph_section, store_graph
from d2cli.files.output.atomic import Outputs, check_target
from d2cli.files.output.checkpoint import Tell, digest_of, kept, unheard
from d2cli.files.paths import expand
from d2cli.files.provenance.fingerprint import (
    describe,
    describe_files,
    fingerprint,
    fingerprint_of,
    whereabouts,
)
from d2cli.files.provenance.sidecar import new_provenance, sidecar_path, write_sidecar
from d2cli.files.provenance.staleness import changes, refuse_stale
from d2cli.files.sources import Source, blame, open_source
from d2cli.graph.knn_graph import KnnGraph


def run_graph(request: GraphRequest, progress: Progress = silent, tell: Tell = unheard) -> Summary:
    """Build a graph and write it; `tell` is called with what the user should know at once.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    check_graph(request)
    threads = thread_count(request.threads)
    clock = Clock()
    emb = open_source(request.emb.paths, "embeddings", "emb", request.emb.key, request.id_column)
    frame = Frame.of(emb)
    within, labels = open_labels(request.within, "within", request.id_column, frame)
    exclude = frame.mask(request.exclude, "exclude", request.id_column) if request.exclude else None
    frame.check_id_column(request.id_column)
    inputs = [*emb.paths, *(within.paths if within else []), *expand(request.exclude, "exclude")]
    check_target(request.out, inputs)
    described: dict[str, Any] = {"emb": describe(emb)}
    if within:
        described["within"] = describe(within)
    if request.exclude:
        described["exclude"] = describe_rows(request.exclude, request.id_column)
    found = {"inputs": described, "run": whereabouts(described)}
    build = build_key(described["emb"], found["run"], request.options, labels, exclude)
    with kept(request.out, build, request.checkpoint, tell) as checkpoint:
        with clock.stage("graph"):
            graph = graph_of(
                emb, request.options, labels, within, exclude, threads, progress, checkpoint
            )
        entry = new_provenance(
            "graph",
            {**given(request.options), "id_column": request.id_column},
            inputs=described,
            counts=counts(graph),
            graph=graph_section(graph),
        )
        with Outputs() as outputs:
            note = outputs.place(sidecar_path(request.out))
            data = outputs.place(request.out)
            with clock.stage("write"):
                store_graph(data, graph, frame.ids, entry)
            run = {**clock.run(threads), **found["run"]}
            write_sidecar(note, data, entry, run)
    return Summary(
        [request.out],
        entry,
        run,
        [
            ("graph", describe_graph(graph)),
            ("rows", f"{emb.n:,} × {emb.parts[0].width():,} from {emb.name}"),
            ("written", request.out),
            last_line(run),
        ],
        [*frame.notices, *graph_notices(graph), *changed_meanwhile(found)],
    )


def changed_meanwhile(found: dict[str, Any]) -> list[str]:
    """Notices of inputs that are no longer what they were when the run began."""
    return [
        f"{change.path}: was changed while it was used; make the output again"
        for change in changes(found)
    ]


def stale_graph(path: str, file: GraphFile, allowed: bool) -> list[str]:
    """Refuse a graph whose inputs have changed since, or say so where it is `allowed`."""
    hint = f"build the graph again: d2prune graph --emb EMB --out {path}"
    return refuse_stale(path, file.provenance_of_run(), "built from", hint, allowed)


def open_labels(
    given_input: Input | None, option: str, id_column: str | None, frame: Frame
) -> tuple[Source | None, NDArray[np.int64] | None]:
    """The source of labels and the class number of each row, or (None, None)."""
    if given_input is None:
        return None, None
    source = open_source(
        given_input.paths, "labels", option, given_input.key, id_column, key_option="labels-key"
    )
    return source, frame.labels(source)


def graph_of(
    emb: Source,
    options: GraphOptions,
    labels: NDArray[np.int64] | None,
    within: Source | None,
    exclude: NDArray[np.bool_] | None,
    threads: int,
    progress: Progress,
    checkpoint: Checkpoint = NONE,
) -> KnnGraph:
    """Build the graph of a source, with its files' names in whatever is wrong."""
    with blame(embeddings=emb, within=within):
        return build_graph(
            emb.matrix(),
            options.n_neighbors,
            metric=options.metric,
            method=options.method,
            recall=options.recall,
            hnsw_m=options.hnsw_m,
            ef_construction=options.ef_construction,
            ef=options.ef,
            within=labels,
            exclude=exclude,
            threads=threads,
            seed=options.seed,
            progress=progress,
            checkpoint=checkpoint,
        )


def build_key(
    described: dict[str, Any],
    found: dict[str, Any],
    options: GraphOptions,
    labels: NDArray[np.int64] | None,
    exclude: NDArray[np.bool_] | None,
) -> dict[str, Any]:
    """All that shapes a graph, so that a checkpoint is taken up by the same build alone.

    The time of change counts here: of a checkpoint nothing may be in doubt.
    """
    return {
        "versions": new_provenance("graph", {})["versions"],
        "options": given(options),
        "emb": {key: value for key, value in described.items() if key != "path"},
        "modified": found.get("modified_ns", {}).get("emb"),
        "within": digest_of(labels),
        "exclude": digest_of(exclude),
    }


def check_built_from(stored: StoredGraph, path: str, emb: Source) -> None:
    """Refuse a graph that was built from other embeddings.

    Raises:
        DataError: also where the graph does not say what it was built from.
    """
    built_from = fingerprint_of(stored.provenance, "emb")
    if built_from != fingerprint(emb.paths):
        known = "was not built from" if built_from else "does not say whether it was built from"
        raise DataError(f"{path}: {known} {emb.name}", "build the graph again, or leave --emb out")


def describe_rows(arguments: list[str], id_column: str | None) -> list[dict[str, object]]:
    """Provenance of the files that name rows."""
    described = []
    for argument in arguments:
        source = open_source([argument], "rows", "rows", None, id_column)
        described.append(describe_files(source.paths, source.n))
    return described


def counts(graph: KnnGraph) -> dict[str, int]:
    """The sizes of a graph."""
    listed = int(np.count_nonzero(graph.neighbors >= 0))
    excluded = 0 if graph.excluded is None else int(graph.excluded.sum())
    return {"rows": graph.n, "listed_neighbors": listed, "excluded": excluded}


def describe_graph(graph: KnnGraph) -> str:
    """One line for people."""
    info = graph.info
    text = f"{info.method}, {info.metric}, k = {graph.n_neighbors}"
    if info.recall is not None:
        text += (
            f", recall@{graph.n_neighbors} = {info.recall:.3f} "
            f"(measured on {info.recall_sample:,} rows)"
        )
    return text


#: What helps where an approximate search fell short, by the method that was used.
_WIDER = {
    "hnsw": "raise --ef and --ef-construction, or use --method exact",
    "ivf": "aim higher with --recall, or use --method exact",
}


def _wider(method: str) -> str:
    """What to do; a graph may also come from elsewhere, or be partly exact."""
    return next((_WIDER[m] for m in method.split("+") if m in _WIDER), "use --method exact")


def graph_notices(graph: KnnGraph) -> list[str]:
    """What deserves a second look in a graph."""
    info = graph.info
    if info.recall is None or info.recall_target is None or info.recall >= info.recall_target:
        return []
    return [
        f"recall@{graph.n_neighbors} reached {info.recall:.3f}, the target is "
        f"{info.recall_target:g}: {_wider(info.method)}"
    ]
