"""What ``select`` reads: every input opened, joined in one order, checked against the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from d2cli import defaults
from d2cli.commands.directions import settle_direction
from d2cli.commands.graph import check_built_from, describe_rows, open_labels, stale_graph
from d2cli.commands.propagate import read_wanted
from d2cli.commands.recorded import check_recorded
from d2cli.commands.requests import Messages, ScoreOptions, SelectRequest, inherit
from d2cli.defaults import MODES, Transform
from d2cli.errors import DataError, UsageError
from d2cli.files.frame import Frame
from d2cli.files.graph_file import open_graph
from d2cli.files.paths import expand
from d2cli.files.provenance.fingerprint import describe, describe_files, fingerprint_of, whereabouts
from d2cli.files.provenance.sidecar import read_sidecar
from d2cli.files.provenance.staleness import SECOND_HAND, refuse_stale
from d2cli.files.sources import Reordered, Source, blame, open_source
from d2cli.graph.knn_graph import KnnGraph
from d2cli.messages.utility import utility
from d2cli.selection.budgets import cutoff_rows

#: Options of the propagate step alone.
_PROPAGATE_ONLY = ("--gamma-forward", "--hops", "--score-transform")


@dataclass
class Inputs:
    """Everything that was read, in the order of one frame; `found` says where and of when."""

    frame: Frame
    messages: Messages
    score_options: ScoreOptions
    gamma_reverse: float | Literal["auto"]
    described: dict[str, Any]
    paths: list[Path]
    notices: list[str]
    emb: Source | None = None
    graph: KnnGraph | None = None
    scores: NDArray[np.float64] | None = None
    wanted: NDArray[np.float64] | None = None
    origin: Source | Reordered | None = None
    propagated: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None
    within: Source | None = None
    within_labels: NDArray[np.int64] | None = None
    include: NDArray[np.bool_] | None = None
    drop: NDArray[np.bool_] | None = None
    cut: int = 0
    late_cutoff: Literal["auto", "none"] = "none"
    difficulty: NDArray[np.float64] | None = None
    found: dict[str, Any] = field(default_factory=dict)


def read_inputs(request: SelectRequest) -> Inputs:
    """Open every input, join them, and settle what depends on them."""
    emb = None
    if request.emb is not None:
        emb = open_source(
            request.emb.paths, "embeddings", "emb", request.emb.key, request.id_column
        )
    if request.graph is not None:
        inputs = _read_graph(request, request.graph, emb)
    else:
        assert emb is not None
        frame = Frame.of(emb)
        described = {"emb": describe(emb)}
        inputs = Inputs(frame, *_settle(request, {}), described, [*emb.paths], [], emb=emb)
    _read_scores(request, inputs)
    _read_rows(request, inputs)
    for name, given_input in (("labels", request.labels), ("within", request.within)):
        source, labels = open_labels(given_input, name, request.id_column, inputs.frame)
        if source is not None:
            inputs.described[name] = describe(source)
            inputs.paths += source.paths
            if name == "labels":
                inputs.labels = labels
            else:
                inputs.within, inputs.within_labels = source, labels
    inputs.frame.check_id_column(request.id_column)
    inputs.found = whereabouts(inputs.described)
    return inputs


def _read_graph(request: SelectRequest, path: str, emb: Source | None) -> Inputs:
    """A graph file, and what was propagated on it, checked against one another."""
    stored = open_graph(path).load()
    if emb is not None:
        check_built_from(stored, path, emb)
    stale = stale_graph(path, stored.file, request.allow_stale)
    frame = Frame(stored.graph.n, path, stored.ids, stored.ids is not None)
    described: dict[str, Any] = {"graph": describe_files([Path(path)], stored.graph.n)}
    inherited: dict[str, Any] = {}
    if request.propagated is not None:
        beside = read_sidecar(Path(request.propagated))
        if beside is not None and beside.get("command") == "propagate":
            inherited = beside["parameters"]
            check_recorded(inherited, request.propagated)
            its_inputs = beside["inputs"]
            if fingerprint_of(beside, "graph") != described["graph"]["fingerprint"]:
                raise DataError(
                    f"{request.propagated}: was propagated on another graph than {path}",
                    f"run: d2prune propagate --graph {path} --scores SCORES "
                    f"--out {request.propagated}",
                )
            stale += refuse_stale(
                request.propagated,
                beside,
                "propagated from",
                f"run: d2prune propagate --graph {path} --scores SCORES --out {request.propagated}",
                request.allow_stale,
                "graph",
            )
            described[SECOND_HAND] = its_inputs.get("scores", {})
        elif late := [n for n in _PROPAGATE_ONLY if n in request.named]:
            raise UsageError(
                f"{late[0]} is for propagate, and {request.propagated} is propagated already"
            )
    settled = _settle(request, inherited)
    settled[0].check_method(stored.graph.info.method)
    paths = [Path(path), *(emb.paths if emb is not None else [])]
    inputs = Inputs(frame, *settled, described, paths, stale, graph=stored.graph)
    if request.propagated is not None:
        source = open_source(
            [request.propagated], "scores", "propagated", None, request.id_column, key_option=None
        )
        values, origin = frame.vector(source)
        with blame(scores=origin):
            # Checked as scores are, but of any sign: hops under other rules may go below zero.
            finite = np.isfinite(values)
            if not finite.all():
                row = int(np.argmin(finite))
                raise DataError(f"propagated score is {values[row]}", argument="scores", row=row)
        inputs.propagated = values
        described["propagated"] = describe(source)
        inputs.paths += source.paths
    return inputs


def _settle(
    request: SelectRequest, inherited: dict[str, Any]
) -> tuple[Messages, ScoreOptions, float | Literal["auto"]]:
    """What is given, else what an earlier step recorded, else what the mode says."""
    path = request.propagated or ""
    messages = inherit(request.messages, inherited, path).resolved()
    scores = inherit(request.score_options, inherited, path).resolved()
    gamma = request.gamma_reverse
    if gamma is None:
        gamma = MODES[messages.mode].gamma_reverse
    if gamma is None or (gamma == "auto" and not messages.clamped):
        raise UsageError(
            f"--mode {messages.mode} has no automatic gamma_reverse",
            "give it a number, for example --gamma-reverse 1.0",
        )
    if request.graph is None and request.graph_options.method != "auto":
        messages.check_method(request.graph_options.method)
    return messages, scores, gamma


def _read_scores(request: SelectRequest, inputs: Inputs) -> None:
    if request.scores is None:
        return
    source = open_source(
        request.scores.paths, "scores", "scores", request.scores.key, request.id_column
    )
    if "propagated_from" not in inputs.described:  # else that step has settled it
        inputs.score_options, said = settle_direction(source, request.score_options)
        inputs.notices += said
    if inputs.propagated is None:
        inputs.scores, inputs.wanted, inputs.origin = read_wanted(
            source, inputs.frame, inputs.score_options
        )
    else:
        inputs.scores, inputs.origin = inputs.frame.vector(source)
    inputs.described["scores"] = describe(source)
    theirs = inputs.described.pop(SECOND_HAND, {}).get("fingerprint")
    if theirs not in (None, inputs.described["scores"]["fingerprint"]):
        raise DataError(
            f"{request.propagated}: was not propagated from {source.name}",
            "give the scores that it was made from; --cutoff-scores may be others",
        )
    inputs.paths += source.paths


def _read_rows(request: SelectRequest, inputs: Inputs) -> None:
    """Who is included, excluded and cut off."""
    frame = inputs.frame
    excluded = np.zeros(frame.n, np.bool_)
    if inputs.graph is not None and inputs.graph.excluded is not None:
        excluded |= inputs.graph.excluded
    for name, arguments in (("include", request.include), ("exclude", request.exclude)):
        if not arguments:
            continue
        mask = frame.mask(arguments, name, request.id_column)
        inputs.described[name] = describe_rows(arguments, request.id_column)
        inputs.paths += expand(arguments, name)
        if name == "include":
            inputs.include = mask
        else:
            excluded |= mask
    if inputs.include is not None and (inputs.include & excluded).any():
        row = int(np.argmax(inputs.include & excluded))
        raise DataError(f"{request.include[0]}: row {row} is both included and excluded")
    _settle_cutoff(request, inputs)
    if request.early_cutoff:
        # rank only looks at the order, and refuses nothing but what is not finite
        difficulty = _difficulty(request, inputs, "rank")
        spared = excluded if inputs.include is None else excluded | inputs.include
        cut = cutoff_rows(difficulty, request.early_cutoff, spared)
        inputs.cut = int(cut.sum())
        excluded |= cut
    graph = inputs.graph
    if graph is not None:
        late = int((excluded if graph.excluded is None else excluded & ~graph.excluded).sum())
        if late:
            inputs.notices.append(
                f"{late:,} rows are left out of a graph that was built with them: rows that listed "
                "them have fewer neighbours than a new graph would give"
            )
    if excluded.any():
        inputs.drop = excluded


def _settle_cutoff(request: SelectRequest, inputs: Inputs) -> None:
    """Whether the cutoff sets itself, which waits for the propagated scores and for each budget."""
    backwards = inputs.score_options.higher_is == "better" and request.cutoff_scores is None
    if request.cutoff == "auto" or (
        request.cutoff is None and inputs.gamma_reverse == "auto" and not backwards
    ):
        inputs.late_cutoff = "auto"
        if request.cutoff_scores is not None:
            inputs.difficulty = _difficulty(request, inputs, "shift")
    if backwards and request.cutoff:
        inputs.notices.append(
            "--cutoff drops the highest scores, which --higher-is better calls the best; "
            "--cutoff-scores can name a difficulty to go by"
        )


def _difficulty(
    request: SelectRequest, inputs: Inputs, transform: Transform
) -> NDArray[np.float64]:
    """What the cutoff goes by, higher = harder."""
    if request.cutoff_scores is None:
        if inputs.scores is None:
            raise UsageError("--cutoff needs --scores or --cutoff-scores")
        values, higher_is = inputs.scores, inputs.score_options.higher_is
        origin = inputs.origin
    else:
        source = open_source(
            request.cutoff_scores.paths, "scores", "cutoff-scores",
            request.cutoff_scores.key, request.id_column,
        )  # fmt: skip
        values, origin = inputs.frame.vector(source)
        inputs.described["cutoff_scores"] = describe(source)
        inputs.paths += source.paths
        settled, said = settle_direction(
            source, ScoreOptions(request.cutoff_higher_is, "rank"), "cutoff-higher-is"
        )
        higher_is = settled.higher_is
        inputs.notices += said
    with blame(scores=origin):
        return utility(
            values, request.cutoff_higher_is or higher_is or defaults.HIGHER_IS, transform
        )
