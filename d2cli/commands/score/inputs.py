"""What ``score`` opens and reads: each input opened if a kind needs it, joined in one order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from d2cli.commands.bad_rows import BadRows
from d2cli.commands.budget import Room
from d2cli.commands.inputs import Inputs, check_built_from
from d2cli.commands.requests import GraphOptions, Input, ScoreRequest
from d2cli.commands.settle import settle_graph
from d2cli.defaults import Metric
from d2cli.difficulty.kinds import KINDS, Family, check_dynamics, check_kinds, of_family
from d2cli.engine.threads import thread_count
from d2cli.errors import DataError, UsageError
from d2cli.files.epochs import Epochs, epoch_range, open_epochs
from d2cli.files.formats.choice import LABEL_NAMES
from d2cli.files.frame import Frame
from d2cli.files.graph_file import GraphFile
from d2cli.files.output.atomic import check_target
from d2cli.files.provenance.fingerprint import describe_files
from d2cli.files.score_file import plan_files
from d2cli.files.sources import Reordered, Source, in_order
from d2cli.graph.knn_graph import KnnGraph


@dataclass(frozen=True)
class ScoreJob:
    """A run of ``score``: its inputs opened, its options settled.

    Attributes:
        families: the kinds that were asked for, by what they are computed from.
        files: the kinds of each output file.
        outputs: a model's outputs, and `epochs` of them.
        target: the embeddings of the target set.
    """

    request: ScoreRequest
    families: dict[Family, list[str]]
    files: dict[str, list[str]]
    options: GraphOptions
    threads: int
    room: Room
    inputs: Inputs
    emb: Source | None
    target: Source | None
    graph: GraphFile | None
    outputs: Epochs | None
    epochs: range
    labels: Source | None

    @property
    def logits(self) -> bool:
        """Whether the outputs are logits, not probabilities."""
        return self.request.logits is not None

    @property
    def metrics(self) -> set[Metric]:
        """The metrics under which the embeddings must be usable."""
        asked = self.families["embeddings"] + self.families["graph"]
        return {"cosine" if KINDS[kind].target else self.options.metric for kind in asked}

    @property
    def builds(self) -> bool:
        """Whether a graph is built on the way."""
        return bool(self.families["graph"]) and self.graph is None


@dataclass(frozen=True)
class ScoreData:
    """What was read, in the order of one frame; `labels` (n,) have nulls for `bad` rows only."""

    frame: Frame
    bad: BadRows
    graph: KnnGraph | None
    labels: pa.Array | None
    labels_origin: Source | Reordered | None


def open_score_job(request: ScoreRequest, skim: bool = False) -> ScoreJob:
    """Open the inputs and settle the options; nothing but headers is read.

    Raises:
        D2Error: if the request makes no sense, or an input cannot be used.
    """
    check_kinds(list(request.kinds))
    families: dict[Family, list[str]] = {
        "dynamics": of_family(list(request.kinds), "dynamics"),
        "embeddings": of_family(list(request.kinds), "embeddings"),
        "graph": of_family(list(request.kinds), "graph"),
    }
    _check(request, families)
    files = plan_files(request.out, list(request.kinds))
    room = Room.of(request.run, request.out)
    inputs = Inputs(request.id_column, skim)
    uses_emb = families["embeddings"] or families["graph"]
    given = request.emb if uses_emb else None
    read_as = request.emb_options if uses_emb else None
    emb = inputs.source(given, "embeddings", "emb", read_as=read_as)
    if emb is not None:
        emb.scale_parts(request.graph_options.metric)
    target = _open_target(request, emb, inputs)
    graph = inputs.graph(request.graph if families["graph"] else ())
    labels = inputs.source(request.labels, "labels", "labels")
    outputs, epochs = None, range(0)
    given, option = request.logits or request.probs, "logits" if request.logits else "probs"
    if given is not None and families["dynamics"]:
        outputs = open_epochs(
            given.paths, option, given.key, request.id_column,
            epoch_rows=list(request.epoch_rows) or None, skim=skim,
        )  # fmt: skip
        about = _describe(outputs)
        inputs.add(option, outputs.paths, outputs.layout, about, shown=outputs.shown)
        if outputs.row_numbers is not None:
            inputs.remember("epoch-rows", outputs.row_numbers)
        inputs.notices.extend(outputs.source.notices)
        labels = _labels_of_first_epoch(request, outputs, labels, inputs)
        epochs = epoch_range(request.epochs, outputs.count)
    _check_labels(request, labels)
    if outputs is not None:
        check_dynamics(
            families["dynamics"],
            epochs=len(epochs),
            logits=option == "logits",
            labels=labels is not None,
            window=request.window,
        )
    return ScoreJob(
        request, families, files, settle_graph(request.graph_options),
        thread_count(request.run.threads), room, inputs, emb, target, graph, outputs, epochs,
        labels,
    )  # fmt: skip


def _open_target(request: ScoreRequest, emb: Source | None, inputs: Inputs) -> Source | None:
    """The target set, which is read as the embeddings are; None if no kind needs one."""
    if emb is None or not any(KINDS[kind].target for kind in request.kinds):
        return None
    target = inputs.source(request.target, "embeddings", "target", read_as=request.emb_options)
    assert target is not None
    target.scale_parts(request.graph_options.metric)
    ours, theirs = emb.layout().width, target.layout().width
    if ours != theirs:
        raise DataError(
            f"{target.name}: rows have {theirs} values, those of {emb.name} have {ours}",
            "both need embeddings of the same model",
        )
    return target


def _labels_of_first_epoch(
    request: ScoreRequest, outputs: Epochs, labels: Source | None, inputs: Inputs
) -> Source | None:
    """The labels as given; else those in the files of outputs, as dataset cartography writes them.

    Each file of one epoch holds the labels again: those of the first are read.
    """
    files = outputs.source.paths
    again = labels is not None and len(files) > 1 and labels.paths == files
    beside = next((name for name in LABEL_NAMES if name in outputs.source.keys), None)
    wanted = any(KINDS[kind].labels for kind in request.kinds)
    if not again and (labels is not None or beside is None or not wanted):
        return labels
    inputs.forget("labels")
    keys = request.labels.keys if request.labels is not None else ()
    keys = keys or ((beside,) if beside else ())
    return inputs.source(Input([str(files[0])], keys), "labels", "labels")


def _check_labels(request: ScoreRequest, labels: Source | None) -> None:
    """Refuse kinds that lack labels."""
    for kind in request.kinds:
        if KINDS[kind].labels and labels is None:
            hint = "--target takes embeddings; labels are given with --labels"
            raise UsageError(f"--kind {kind} needs --labels", hint if request.target else None)


def _describe(outputs: Epochs) -> Callable[[], dict[str, Any]]:
    return lambda: {
        **describe_files(outputs.paths, outputs.n),
        "epochs": outputs.count,
        "classes": outputs.classes,
    }


def _check(request: ScoreRequest, families: dict[Family, list[str]]) -> None:
    """Refuse kinds that lack their input."""
    if families["dynamics"]:
        first = families["dynamics"][0]
        if request.logits is None and request.probs is None:
            raise UsageError(f"--kind {first} needs --logits or --probs")
        if request.logits is not None and request.probs is not None:
            raise UsageError(
                "--logits and --probs are two forms of the same thing: give one",
                "probabilities are computed from logits",
            )
    if families["embeddings"] and request.emb is None:
        raise UsageError(f"--kind {families['embeddings'][0]} needs --emb")
    for kind in request.kinds:
        if KINDS[kind].target and request.target is None:
            raise UsageError(
                f"--kind {kind} needs --target",
                "--target takes embeddings of what the data is wanted for, by the same model",
            )
    if families["graph"] and request.emb is None and not request.graph:
        raise UsageError(f"--kind {families['graph'][0]} needs --graph or --emb")
    for kind in request.kinds:
        if KINDS[kind].logits_only and request.logits is None:
            raise UsageError(
                f"--kind {kind} is defined on logits: from --probs it would be another number",
                "give --logits; or use --kind margin, which is the margin of probabilities",
            )


def read_score_data(job: ScoreJob) -> ScoreData:
    """Read and join labels and the graph, and check the targets; nothing large is read yet.

    Raises:
        D2Error: if inputs do not belong together, or a target cannot be written.
    """
    for target in job.files:
        check_target(target, job.inputs.paths)
    if job.graph is not None and job.emb is not None:
        check_built_from(job.graph, job.emb)
    loaded = None if job.graph is None else job.graph.load()
    id_column = job.request.id_column
    if job.emb is not None:
        frame = Frame.of(job.emb, id_column)
    elif job.graph is not None and loaded is not None:
        frame = job.graph.frame(loaded.ids, id_column)
    elif job.labels is not None and job.outputs is not None and job.outputs.row_numbers:
        frame = Frame.of(job.labels, id_column)  # the row numbers are those of the labels
    else:
        assert job.outputs is not None, "each kind needs an input"
        frame = job.outputs.frame(id_column)
    excluded = None if loaded is None else loaded.graph.excluded
    bad = BadRows.of(job.request.bad_rows, frame, excluded, can_exclude=False)
    labels = origin = None
    if job.labels is not None:
        if job.outputs is not None and job.labels.n != frame.n and frame.ids is None:
            # If the outputs make up the frame, exchanged axes are the likely fault.
            job.outputs.check(Frame.of(job.labels))
        rows = frame.rows_of(job.labels)
        values = job.labels.column(nulls=True)
        labels = values if rows is None else values.take(pa.array(rows))
        origin = in_order(job.labels, rows)
        missing = labels.is_null().to_numpy(zero_copy_only=False)
        bad.settle_labels(missing, "labels", origin)
    if job.outputs is not None:
        job.outputs.check(frame)
        if job.labels is not None:
            job.outputs.check_labels(frame, job.labels)
            if job.labels.paths == job.outputs.paths[:1]:
                job.outputs.check_labels_agree(frame, job.labels.column_name)
    frame.check_id_column()
    frame.adopt_ids()
    if job.emb is not None and bad.policy == "drop":
        for metric in sorted(job.metrics):
            bad.settle_embeddings(job.emb, metric)
    return ScoreData(frame, bad, None if loaded is None else loaded.graph, labels, origin)


def unused_options(job: ScoreJob) -> list[str]:
    """A notice of options that no requested kind uses."""
    families, builds, unused = job.families, job.builds, []
    if not families["dynamics"]:
        unused += ["--logits", "--probs", "--epochs", "--epoch-rows"]
    if not any(KINDS[kind].windowed for kind in job.request.kinds):
        unused += ["--window"]
    if "prototypicality" not in job.request.kinds:
        unused += ["--n-clusters"]
    if job.target is None:
        unused += ["--target", "--target-reduce"]
    if not families["graph"]:
        unused += ["--graph"]
    if not builds:
        unused += ["--n-neighbors", "--method", "--recall", "--hnsw-m", "--ef-construction", "--ef"]
    if not builds and "prototypicality" not in job.request.kinds:
        unused += ["--metric", "--seed"]
    if not families["embeddings"] and not families["graph"]:
        unused += ["--emb"]
    late = [name for name in unused if name in job.request.named]
    return [f"{', '.join(late)}: not used for {', '.join(job.request.kinds)}"] if late else []
