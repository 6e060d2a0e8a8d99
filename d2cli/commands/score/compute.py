"""How ``score`` computes: each family of kinds from its input."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.graph.run import describe_graph, graph_notices, graph_of
from d2cli.commands.score.inputs import ScoreData, ScoreJob
from d2cli.difficulty.dynamics import Dynamics, class_numbers
from d2cli.difficulty.embedding import prototypicality, target_similarity
from d2cli.difficulty.kinds import KINDS
from d2cli.difficulty.neighbours import knn_distance, label_disagreement
from d2cli.difficulty.sizes import Outputs, default_clusters
from d2cli.engine.threads import Progress
from d2cli.errors import DataError
from d2cli.files.sources import blame, in_order
from d2cli.graph.knn_graph import KnnGraph
from d2cli.runtime.decisions import Decision


@dataclass
class Scored:
    """Scores by kind, what is recorded of each kind, and what there is to say."""

    scores: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    decisions: tuple[Decision, ...] = ()
    graph: KnnGraph | None = None


def compute(job: ScoreJob, data: ScoreData, progress: Progress) -> Scored:
    """All kinds that were asked for, in the order of the request."""
    scored = Scored()
    if job.families["dynamics"]:
        _from_outputs(job, data, scored, progress)
    if job.families["embeddings"]:
        _from_embeddings(job, data, scored, progress)
    if job.families["graph"]:
        _from_neighbours(job, data, scored, progress)
    scored.scores = {kind: scored.scores[kind] for kind in job.request.kinds}
    for values in scored.scores.values():
        values[data.bad.dropped] = np.nan
    return scored


def _from_outputs(job: ScoreJob, data: ScoreData, scored: Scored, progress: Progress) -> None:
    """Training dynamics: the outputs are read through once, epoch by epoch."""
    outputs, kinds, epochs = job.outputs, job.families["dynamics"], job.epochs
    assert outputs is not None
    numbers = None
    if any(KINDS[kind].labels for kind in kinds):
        assert data.labels is not None
        labels = data.labels  # a row without a label is dropped: any label does
        if labels.null_count:
            labels = labels.fill_null(labels.drop_null()[0])
        with blame(labels=data.labels_origin):
            numbers = class_numbers(
                labels.to_numpy(zero_copy_only=False), data.frame.n, outputs.classes
            )

    dtype, window = outputs.layout().dtype, job.request.window
    about = Outputs(data.frame.n, outputs.classes, len(epochs), dtype.itemsize, window)

    def read_through(marks_bad: bool) -> Dynamics:
        with blame(outputs=outputs.name):
            dynamics = Dynamics(
                kinds,
                about,
                dtype,
                labels=numbers,
                logits=job.logits,
                threads=job.threads,
                first_epoch=epochs.start + 1,
                marks_bad=marks_bad,
            )
        total = len(epochs) * outputs.n
        for epoch, first, block, places, part in outputs.blocks(data.frame, epochs):
            with blame(outputs=part.where):
                dynamics.add(epoch - epochs.start, first, block, places)
            done = (epoch - epochs.start) * outputs.n + first + block.shape[0]
            progress("outputs", done, total)
        return dynamics

    option, drop = "logits" if job.logits else "probs", data.bad.policy == "drop"
    try:
        dynamics = read_through(marks_bad=drop)
    except DataError as error:
        rows = np.empty(0, np.int64)
        if not drop:
            with suppress(DataError):  # other faults than values that are not finite
                marked = read_through(marks_bad=True).bad
                rows = rows if marked is None else np.flatnonzero(marked)
        if rows.size:
            raise data.bad.refusal(error.message, rows, error.hint) from error
        raise
    if dynamics.bad is not None:
        data.bad.settle(dynamics.bad, option, outputs.source, lambda row: "is not finite")
    with blame(outputs=outputs.name):
        scored.scores.update(dynamics.scores())
    used = [epochs.start + 1, epochs.stop]
    scored.details.update({kind: {"epochs": list(used)} for kind in kinds})
    scored.lines.append(
        (
            "outputs",
            f"epochs {used[0]} to {used[1]} of {outputs.count} × {outputs.n:,} rows × "
            f"{outputs.classes} classes from {outputs.name}",
        )
    )
    for kind in kinds:
        if KINDS[kind].windowed:
            scored.details[kind]["window"] = window
        early = KINDS[kind].early
        if job.request.epochs is None and early is not None and len(epochs) > early:
            scored.notices.append(
                f"{kind}: uses all {len(epochs)} epochs; its authors use the first {early} "
                f"(--epochs 1:{early})"
            )
    if "forgetting" in kinds:
        never = dynamics.never_right
        scored.details["forgetting"].update(
            {"never_learned": never, "never_learned_counts_as": len(epochs)}
        )
        scored.lines.append(
            ("never learned", f"{never:,} rows, each counts as {len(epochs)} forgettings")
        )
    if job.logits and dynamics.looks_like_probabilities:
        scored.notices.append(
            f"{outputs.name}: every row is >= 0 and adds up to 1: if these are probabilities, give "
            "them as --probs"
        )
    if outputs.count > outputs.n:
        scored.notices.append(
            f"{outputs.name}: {outputs.count:,} epochs of {outputs.n:,} rows: if that is the other "
            "way round, exchange the axes: (epochs, n, classes)"
        )


def _from_embeddings(job: ScoreJob, data: ScoreData, scored: Scored, progress: Progress) -> None:
    """Scores from embeddings alone, or from embeddings and a target set."""
    for kind in job.families["embeddings"]:
        if KINDS[kind].target:
            _similarity(job, data, scored, progress)
        else:
            _prototypicality(job, data, scored, progress)


def _prototypicality(job: ScoreJob, data: ScoreData, scored: Scored, progress: Progress) -> None:
    assert job.emb is not None
    options, kind = job.options, "prototypicality"
    clusters = job.request.n_clusters
    if clusters is None:
        clusters = default_clusters(job.emb.n)
        rule = Decision("n-clusters", clusters, "√n, rounded", {"rows": job.emb.n})
        scored.decisions += (rule,)
    used = data.bad.rows
    with data.bad.counting(job.emb, options.metric), blame(embeddings=in_order(job.emb, used)):
        found = prototypicality(
            job.emb.rows_of_matrix(used),
            clusters,
            metric=options.metric,
            seed=options.seed,
            threads=job.threads,
            progress=progress,
        )
    scored.scores[kind] = found if used is None else np.full(data.frame.n, np.nan)
    if used is not None:
        scored.scores[kind][used] = found
    scored.details[kind] = {
        "n_clusters": clusters,
        "metric": options.metric,
        "seed": options.seed,
        "scikit_learn": version("scikit-learn"),
    }
    scored.lines.append(("centres", f"{clusters:,} by k-means, {options.metric}"))


def _similarity(job: ScoreJob, data: ScoreData, scored: Scored, progress: Progress) -> None:
    assert job.emb is not None
    assert job.target is not None
    reduce, kind = job.request.target_reduce, "target-similarity"
    with data.bad.counting(job.emb, "cosine"), blame(embeddings=job.emb, target=job.target):
        scored.scores[kind] = target_similarity(
            job.emb.matrix(),
            job.target.matrix(),
            reduce,
            skip=data.bad.left_out,
            threads=job.threads,
            progress=progress,
        )
    scored.details[kind] = {"reduce": reduce, "target_rows": job.target.n}
    scored.lines.append(("target", f"{reduce} cosine to {job.target.n:,} rows"))


def _from_neighbours(job: ScoreJob, data: ScoreData, scored: Scored, progress: Progress) -> None:
    """Scores from the graph that was given, or from one that is built."""
    kinds, graph = job.families["graph"], data.graph
    origin = "" if job.graph is None else job.graph.name
    if graph is None:
        assert job.emb is not None
        origin, excluded = job.emb.name, data.bad.left_out
        graph = graph_of(
            job.emb, job.options, job.threads, progress, excluded=excluded, bad=data.bad
        )
        scored.decisions += graph.info.decisions
    scored.graph = graph
    with blame(graph=origin, labels=data.labels_origin):
        for kind in kinds:
            if kind == "knn-distance":
                scored.scores[kind] = knn_distance(graph)
            else:
                assert data.labels is not None
                codes = data.labels.dictionary_encode().indices.fill_null(0).to_numpy()
                scored.scores[kind] = label_disagreement(graph, codes)
            scored.details[kind] = {"n_neighbors": graph.n_neighbors}
    scored.lines.append(("graph", describe_graph(graph)))
    scored.notices += graph_notices(graph)
    listed = np.count_nonzero(graph.neighbors >= 0, axis=1)
    left_out = None if data.graph is None else graph.excluded
    count = 0 if left_out is None else int(left_out.sum())
    few = int(np.count_nonzero((listed < graph.n_neighbors) & (listed > 0)))
    if count:
        scored.notices.append(f"{origin}: {count:,} rows are excluded, and score 0")
    if few and "knn-distance" in kinds:
        scored.notices.append(
            f"knn-distance: {few:,} rows list fewer than {graph.n_neighbors} neighbours, and have "
            "the distance to the farthest that they list"
        )
