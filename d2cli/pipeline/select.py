"""``d2prune select``: embeddings or a graph, and scores, in; selections out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.api import prepare_edges, select
from d2cli.budgets import budget_of, cutoff_rows
from d2cli.defaults import MODES
from d2cli.errors import DataError, UsageError
from d2cli.graph import Csr, KnnGraph
from d2cli.io.atomic import check_target
from d2cli.io.graph_file import load_graph
from d2cli.io.joins import Frame
from d2cli.io.provenance import describe, describe_files, fingerprint, read_sidecar
from d2cli.io.sources import Source, blame, open_source
from d2cli.parallel import Progress, silent, thread_count
from d2cli.pipeline.graph import describe_rows, graph_notices, graph_of, open_labels
from d2cli.pipeline.propagate import message_notices, pass_forward, read_wanted
from d2cli.pipeline.requests import Budget, MessageOptions, Messages, SelectRequest
from d2cli.pipeline.select_outputs import Picked, plan_targets, write_all
from d2cli.pipeline.summary import Clock, Summary
from d2cli.sampling import Selection
from d2cli.scores import wanted


def run_select(request: SelectRequest, progress: Progress = silent, stdout: Any = None) -> Summary:
    """Select, for each budget, and write the selections.

    Args:
        request: what to do.
        progress: called with the stage, and how much is done of how much.
        stdout: the text stream for an output named ``-``.

    Raises:
        D2Error: where anything is wrong; then no output has changed.
    """
    _check(request)
    threads = thread_count(request.threads)
    clock = Clock()
    with clock.stage("read"):
        inputs = _read(request)
    n = inputs.frame.n
    budgets = [(b, _size(b, n, inputs.drop)) for b in request.budgets]
    targets = plan_targets(request.output, budgets, inputs.frame.ids)
    for target in targets:
        if target != "-":
            check_target(target, inputs.paths)
    graph = inputs.graph
    if graph is None:
        with clock.stage("graph"):
            graph = _build(request, inputs, threads, progress)
    with clock.stage("edges"):
        csr, sigma = prepare_edges(
            graph,
            edges=inputs.messages.edges,
            bandwidth=inputs.messages.bandwidth,
            drop=inputs.drop,
        )
    if inputs.propagated is not None:
        u = inputs.propagated
    else:
        with clock.stage("propagate"):
            assert inputs.wanted is not None and inputs.origin is not None
            u = pass_forward(csr, sigma, inputs.wanted, inputs.messages, inputs.origin, threads)
    with clock.stage("select"):
        selections = _select_all(request, inputs, csr, sigma, u, budgets, progress)
    picked = [
        Picked(target, budget, selection)
        for target, (budget, _), selection in zip(targets, budgets, selections, strict=True)
    ]
    notices = [
        *inputs.frame.notices,
        *inputs.notices,
        *graph_notices(graph),
        *message_notices(graph, csr, inputs.messages, sigma, inputs.wanted),
    ]
    return write_all(request, inputs, graph, csr, sigma, u, picked, clock, threads, notices, stdout)


@dataclass
class Inputs:
    """Everything that was read, in the order of one frame."""

    frame: Frame
    messages: Messages
    gamma_reverse: float | Literal["auto"]
    described: dict[str, Any]
    paths: list[Path]
    notices: list[str]
    emb: Source | None = None
    graph: KnnGraph | None = None
    scores: NDArray[np.float64] | None = None
    wanted: NDArray[np.float64] | None = None
    origin: Any = None
    propagated: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None
    within: Source | None = None
    within_labels: NDArray[np.int64] | None = None
    include: NDArray[np.bool_] | None = None
    drop: NDArray[np.bool_] | None = None
    cut: int = 0


def _check(request: SelectRequest) -> None:
    """Refuse what makes no sense whatever the data."""
    if request.emb is None and request.graph is None:
        raise UsageError("select needs --emb or --graph", "d2prune select --help has examples")
    if request.scores is None and request.propagated is None:
        raise UsageError("select needs --scores or --propagated")
    if request.propagated is not None and request.graph is None:
        raise UsageError("--propagated belongs to a graph: give --graph too")
    if request.within is not None and request.graph is not None:
        raise UsageError("--within is for building a graph, and --graph has one already")
    if not request.budgets:
        raise UsageError("select needs --ratio or --size")
    for budget in request.budgets:
        if budget.size is not None and budget.size < 1:
            raise UsageError(f"--size must be at least 1, not {budget.size}")
    if request.balance != "none" and request.labels is None:
        raise UsageError(f"--balance {request.balance} needs --labels")
    if request.output.complement and request.output.order == "rank":
        raise UsageError("--complement has no rank: what is dropped was never picked")


def _size(budget: Budget, n: int, drop: NDArray[np.bool_] | None) -> int:
    """The budget in rows."""
    if budget.size is not None:
        size = budget.size
    else:
        size = budget_of(float(budget.ratio or "nan"), n)
    taking_part = n if drop is None else n - int(drop.sum())
    if size > taking_part:
        raise UsageError(
            f"a budget of {size:,} is more than the {taking_part:,} of {n:,} rows that take part",
            "ask for less, or cut off and exclude less",
        )
    return size


def _read(request: SelectRequest) -> Inputs:
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
        frame = Frame(emb.n, emb.name, emb.ids())
        settled, gamma = _settle(request, request.messages, {})
        described = {"emb": describe(emb)}
        inputs = Inputs(frame, settled, gamma, described, [*emb.paths], [], emb=emb)
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
    return inputs


def _read_graph(request: SelectRequest, path: str, emb: Source | None) -> Inputs:
    """A graph file, and what was propagated on it, checked against one another."""
    stored = load_graph(path)
    if emb is not None:
        built_from = stored.provenance.get("inputs", {}).get("emb", {})
        if built_from.get("fingerprint") != fingerprint(emb.paths):
            raise DataError(
                f"{path}: was not built from {emb.name}",
                "build the graph again, or leave --emb out",
            )
    frame = Frame(stored.graph.n, path, stored.ids)
    described: dict[str, Any] = {"graph": describe_files([Path(path)], stored.graph.n)}
    inherited: dict[str, Any] = {}
    if request.propagated is not None:
        beside = read_sidecar(Path(request.propagated))
        if beside is not None and beside.get("command") == "propagate":
            inherited = beside["parameters"]
            if beside["inputs"]["graph"]["fingerprint"] != described["graph"]["fingerprint"]:
                raise DataError(
                    f"{request.propagated}: was propagated on another graph than {path}",
                    f"run: d2prune propagate --graph {path} --scores SCORES "
                    f"--out {request.propagated}",
                )
    settled, gamma = _settle(request, request.messages, inherited)
    settled.check_method(stored.graph.info.method)
    inputs = Inputs(frame, settled, gamma, described, [Path(path)], [], graph=stored.graph)
    if request.propagated is not None:
        source = open_source([request.propagated], "scores", "propagated", None, request.id_column)
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
    request: SelectRequest, options: MessageOptions, inherited: dict[str, Any]
) -> tuple[Messages, float | Literal["auto"]]:
    """Messages and γ_r, from what is given, then from an earlier step, then from the mode."""
    messages = options.or_else(inherited).resolved()
    gamma = request.gamma_reverse
    if gamma is None:
        gamma = MODES[messages.mode].gamma_reverse
    if gamma is None or (gamma == "auto" and not messages.clamped):
        raise UsageError(
            f"--mode {messages.mode} has no automatic gamma_reverse",
            "give it a number, for example --gamma-reverse 1.0",
        )
    if request.emb is not None and request.graph is None and request.graph_options.method == "hnsw":
        messages.check_method("hnsw")
    return messages, gamma


def _read_scores(request: SelectRequest, inputs: Inputs) -> None:
    if request.scores is None:
        return
    source = open_source(
        request.scores.paths, "scores", "scores", request.scores.key, request.id_column
    )
    if inputs.propagated is None:
        inputs.scores, inputs.wanted, inputs.origin = read_wanted(
            source, inputs.frame, request.score_options
        )
    else:
        inputs.scores, inputs.origin = inputs.frame.vector(source)
    inputs.described["scores"] = describe(source)
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
        inputs.described[name] = describe_rows(arguments)
        if name == "include":
            inputs.include = mask
        else:
            excluded |= mask
    if inputs.include is not None and (inputs.include & excluded).any():
        row = int(np.argmax(inputs.include & excluded))
        raise DataError(f"{request.include[0]}: row {row} is both included and excluded")
    if request.cutoff:
        difficulty = _difficulty(request, inputs)
        spared = excluded if inputs.include is None else excluded | inputs.include
        cut = cutoff_rows(difficulty, request.cutoff, spared)
        inputs.cut = int(cut.sum())
        excluded |= cut
        if inputs.graph is not None:
            inputs.notices.append(
                f"{inputs.cut:,} rows are cut off a graph that was built with them: rows that "
                "listed them have fewer neighbours than a new graph would give"
            )
    if excluded.any():
        inputs.drop = excluded


def _difficulty(request: SelectRequest, inputs: Inputs) -> NDArray[np.float64]:
    """What the cutoff goes by, higher = harder."""
    if request.cutoff_scores is None:
        if inputs.scores is None:
            raise UsageError("--cutoff needs --scores or --cutoff-scores")
        values, higher_is = inputs.scores, request.score_options.higher_is
        origin = inputs.origin
    else:
        source = open_source(
            request.cutoff_scores.paths, "scores", "cutoff-scores",
            request.cutoff_scores.key, request.id_column,
        )  # fmt: skip
        values, origin = inputs.frame.vector(source)
        inputs.described["cutoff_scores"] = describe(source)
        inputs.paths += source.paths
        higher_is = "harder"
    with blame(scores=origin):
        # rank only looks at the order, and refuses nothing but what is not finite
        return wanted(values, request.cutoff_higher_is or higher_is, "rank")


def _build(request: SelectRequest, inputs: Inputs, threads: int, progress: Progress) -> KnnGraph:
    assert inputs.emb is not None
    options = request.graph_options
    if inputs.messages.exact:
        options = replace(options, method="exact")
    return graph_of(
        inputs.emb, options, inputs.within_labels, inputs.within, inputs.drop, threads, progress
    )


def _select_all(
    request: SelectRequest,
    inputs: Inputs,
    csr: Csr,
    sigma: float,
    u: NDArray[np.float64],
    budgets: list[tuple[Budget, int]],
    progress: Progress,
) -> list[Selection]:
    """One selection a budget. Where they nest, one run serves them all."""

    def run(size: int) -> Selection:
        with blame(include=request.include[0] if request.include else None):
            return select(
                csr,
                u,
                size,
                kernel=inputs.messages.kernel,
                bandwidth=sigma,
                gamma_reverse=inputs.gamma_reverse,
                clamped=inputs.messages.clamped,
                labels=inputs.labels,
                balance=request.balance,
                include=inputs.include,
                exclude=inputs.drop,
                progress=progress,
            )

    sizes = [size for _, size in budgets]
    if inputs.gamma_reverse == "auto" or request.balance != "none":
        return [run(size) for size in sizes]
    largest = run(max(sizes))
    return [_prefix(largest, size) for size in sizes]


def _prefix(selection: Selection, size: int) -> Selection:
    """The selection for a smaller budget: budgets nest under one γ_r and no quotas."""
    if size < selection.included:
        raise UsageError(
            f"a budget of {size:,} has no room for {selection.included:,} included rows"
        )
    ran_out = selection.ran_out_at
    return replace(
        selection,
        order=selection.order[:size],
        gains=selection.gains[:size],
        ran_out_at=ran_out if ran_out is not None and ran_out < size else None,
    )
