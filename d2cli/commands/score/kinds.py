"""How ``score`` computes: each family of kinds from its input, with what is to be said of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.graph import describe_graph, graph_notices, graph_of
from d2cli.commands.requests import ScoreRequest
from d2cli.commands.score.inputs import Inputs
from d2cli.difficulty.dynamics import Dynamics, class_numbers
from d2cli.difficulty.embedding import prototypicality
from d2cli.difficulty.kinds import KINDS, of_family
from d2cli.difficulty.neighbours import knn_distance, label_disagreement
from d2cli.difficulty.sizes import default_clusters
from d2cli.engine.threads import Progress
from d2cli.files.sources import blame
from d2cli.graph.knn_graph import KnnGraph


@dataclass
class Found:
    """Scores, what is recorded of each kind, and what was noticed."""

    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    graph: KnnGraph | None = None


def score_outputs(
    request: ScoreRequest, inputs: Inputs, found: Found, threads: int, progress: Progress
) -> None:
    """Training dynamics, read through once, epoch by epoch."""
    outputs = inputs.outputs
    if outputs is None:
        return
    kinds, frame, epochs = of_family(request.kinds, "dynamics"), inputs.frame, inputs.epochs
    numbers = None
    if any(KINDS[kind].labels for kind in kinds):
        assert inputs.labels is not None
        with blame(labels=inputs.labels_origin):
            numbers = class_numbers(
                inputs.labels.to_numpy(zero_copy_only=False), frame.n, outputs.classes
            )
    with blame(outputs=outputs.name):
        gathered = Dynamics(
            kinds,
            frame.n,
            outputs.classes,
            labels=numbers,
            logits=request.logits is not None,
            threads=threads,
            first_epoch=epochs.start + 1,
        )
    total = len(epochs) * outputs.n
    for epoch, first, block, places, part in outputs.blocks(frame, epochs):
        with blame(outputs=part.where):
            gathered.add(epoch - epochs.start, first, block, places)
        done = (epoch - epochs.start) * outputs.n + first + block.shape[0]
        progress("outputs", done, total)
    with blame(outputs=outputs.name):
        found.scores.update(gathered.scores())
    detail = {"epochs": [epochs.start + 1, epochs.stop]}
    found.details.update({kind: dict(detail) for kind in kinds})
    found.lines.append(
        (
            "outputs",
            f"epochs {epochs.start + 1} to {epochs.stop} of {outputs.count} × {outputs.n:,} rows × "
            f"{outputs.classes} classes from {outputs.name}",
        )
    )
    if "forgetting" in kinds:
        never = gathered.never_right
        found.details["forgetting"].update(
            {"never_learned": never, "never_learned_counts_as": len(epochs)}
        )
        found.lines.append(
            ("never learned", f"{never:,} rows, each counts as {len(epochs)} forgettings")
        )
    if request.logits is not None and gathered.looks_like_probabilities:
        found.notices.append(
            f"{outputs.name}: every row is >= 0 and adds up to 1: if these are probabilities, give "
            "them as --probs"
        )
    if outputs.count > outputs.n:
        found.notices.append(
            f"{outputs.name}: {outputs.count:,} epochs of {outputs.n:,} rows: if that is the other "
            "way round, exchange the axes: (epochs, n, classes)"
        )


def score_embeddings(
    request: ScoreRequest, inputs: Inputs, found: Found, threads: int, progress: Progress
) -> None:
    """What embeddings alone say."""
    if "prototypicality" not in request.kinds:
        return
    assert inputs.emb is not None
    options = request.graph_options
    clusters = request.n_clusters
    if clusters is None:
        clusters = default_clusters(inputs.emb.n)
    with blame(embeddings=inputs.emb):
        found.scores["prototypicality"] = prototypicality(
            inputs.emb.matrix(),
            clusters,
            metric=options.metric,
            seed=options.seed,
            threads=threads,
            progress=progress,
        )
    found.details["prototypicality"] = {
        "n_clusters": clusters,
        "metric": options.metric,
        "seed": options.seed,
        "scikit_learn": version("scikit-learn"),
    }
    found.lines.append(("centres", f"{clusters:,} by k-means, {options.metric}"))


def score_neighbours(
    request: ScoreRequest, inputs: Inputs, found: Found, threads: int, progress: Progress
) -> None:
    """What neighbours say, on the graph that was given or on one that is built."""
    kinds = of_family(request.kinds, "graph")
    if not kinds:
        return
    graph, origin = inputs.graph, str(request.graph)
    if graph is None:
        assert inputs.emb is not None
        graph, origin = (
            graph_of(inputs.emb, request.graph_options, None, None, None, threads, progress),
            inputs.emb.name,
        )
    found.graph = graph
    with blame(graph=origin, labels=inputs.labels_origin):
        for kind in kinds:
            if kind == "knn-distance":
                found.scores[kind] = knn_distance(graph)
            else:
                assert inputs.labels is not None
                codes = inputs.labels.dictionary_encode().indices.to_numpy()
                found.scores[kind] = label_disagreement(graph, codes)
            found.details[kind] = {"n_neighbors": graph.n_neighbors}
    found.lines.append(("graph", describe_graph(graph)))
    found.notices += graph_notices(graph)
    listed = np.count_nonzero(graph.neighbors >= 0, axis=1)
    excluded = 0 if graph.excluded is None else int(graph.excluded.sum())
    few = int(np.count_nonzero((listed < graph.n_neighbors) & (listed > 0)))
    if excluded:
        found.notices.append(f"{origin}: {excluded:,} rows are excluded, and score 0")
    if few and "knn-distance" in kinds:
        found.notices.append(
            f"knn-distance: {few:,} rows list fewer than {graph.n_neighbors} neighbours, and have "
            "the distance to the farthest that they list"
        )
