"""What ``score`` reads: each input opened if some kind needs it, joined in one order, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from d2cli.commands.graph import check_built_from
from d2cli.commands.requests import ScoreRequest, families_of
from d2cli.difficulty.kinds import check_dynamics, of_family
from d2cli.files.epochs import Epochs, epoch_range, open_epochs
from d2cli.files.frame import Frame
from d2cli.files.graph_file import StoredGraph, open_graph
from d2cli.files.provenance.fingerprint import describe, describe_files
from d2cli.files.sources import Reordered, Source, open_source
from d2cli.graph.knn_graph import KnnGraph


@dataclass
class Inputs:
    """Everything that was opened, in the order of one frame."""

    frame: Frame
    described: dict[str, Any] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)
    emb: Source | None = None
    graph: KnnGraph | None = None
    outputs: Epochs | None = None
    epochs: range = range(0)
    labels: pa.Array | None = None
    labels_origin: Source | Reordered | None = None


def without_effect(request: ScoreRequest) -> list[str]:
    """Notices of options that no kind asked for uses."""
    families = families_of(request)
    builds = bool(families["graph"]) and request.graph is None
    unused = []
    if not families["dynamics"]:
        unused += ["--logits", "--probs", "--epochs"]
    if not families["embeddings"]:
        unused += ["--n-clusters"]
    if not families["graph"]:
        unused += ["--graph"]
    if not builds:
        unused += ["--n-neighbors", "--method", "--recall", "--hnsw-m", "--ef-construction", "--ef"]
    if not builds and not families["embeddings"]:
        unused += ["--metric", "--seed", *([] if families["graph"] else ["--emb"])]
    late = [name for name in unused if name in request.named]
    return [f"{', '.join(late)}: not used for {', '.join(request.kinds)}"] if late else []


def read_inputs(request: ScoreRequest) -> Inputs:
    """Open what the kinds need and join it; nothing large is read yet."""
    families = families_of(request)
    emb = stored = outputs = None
    if request.emb is not None and (families["embeddings"] or families["graph"]):
        emb = open_source(
            request.emb.paths, "embeddings", "emb", request.emb.key, request.id_column
        )
    if request.graph is not None and families["graph"]:
        stored = open_graph(request.graph).load()
        if emb is not None:
            check_built_from(stored, request.graph, emb)
    given_outputs = request.logits or request.probs
    if given_outputs is not None and families["dynamics"]:
        option = "logits" if request.logits is not None else "probs"
        outputs = open_epochs(given_outputs.paths, option, given_outputs.key, request.id_column)
    inputs = Inputs(_frame(request, emb, stored, outputs))
    if emb is not None:
        inputs.emb = emb
        _note(inputs, "emb", describe(emb), emb.paths)
    if stored is not None and request.graph is not None:
        inputs.graph = stored.graph
        described = describe_files([Path(request.graph)], stored.graph.n)
        _note(inputs, "graph", described, [Path(request.graph)])
    _read_labels(request, inputs, outputs)
    if outputs is not None:
        inputs.outputs = outputs
        _check_outputs(request, inputs, outputs)
    inputs.frame.check_id_column(request.id_column)
    return inputs


def _frame(
    request: ScoreRequest, emb: Source | None, stored: StoredGraph | None, outputs: Epochs | None
) -> Frame:
    """The rows: of the embeddings, else of the graph, else of the outputs."""
    if emb is not None:
        return Frame.of(emb)
    if stored is not None:
        return Frame(stored.graph.n, str(request.graph), stored.ids, stored.ids is not None)
    assert outputs is not None, "some kind needs some input"
    return outputs.frame()


def _note(inputs: Inputs, name: str, described: dict[str, Any], paths: list[Path]) -> None:
    inputs.described[name] = described
    inputs.paths += paths


def _read_labels(request: ScoreRequest, inputs: Inputs, outputs: Epochs | None) -> None:
    if request.labels is None:
        return
    source = open_source(
        request.labels.paths, "labels", "labels", request.labels.key, request.id_column
    )
    _note(inputs, "labels", describe(source), source.paths)
    if outputs is not None and source.n != inputs.frame.n and inputs.frame.ids is None:
        # Said of the outputs, whose axes may be exchanged, where they make up the frame.
        outputs.check(Frame.of(source))
    rows = inputs.frame.rows_of(source)
    values = source.column()
    inputs.labels = values if rows is None else values.take(pa.array(rows))
    inputs.labels_origin = source if rows is None else Reordered(source, rows)


def _check_outputs(request: ScoreRequest, inputs: Inputs, outputs: Epochs) -> None:
    option = "logits" if request.logits is not None else "probs"
    described = describe_files(outputs.paths, outputs.n)
    inputs.described[option] = {**described, "epochs": outputs.count, "classes": outputs.classes}
    inputs.paths += outputs.paths
    outputs.check(inputs.frame)
    inputs.epochs = epoch_range(request.epochs, outputs.count)
    kinds = of_family(request.kinds, "dynamics")
    check_dynamics(
        kinds,
        epochs=len(inputs.epochs),
        logits=option == "logits",
        labels=request.labels is not None,
    )
