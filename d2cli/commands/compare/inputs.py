"""What ``compare`` opens and reads."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from d2cli.baselines.by_score import check_confidence
from d2cli.commands.bad_rows import BadRows, read_labels
from d2cli.commands.budget import Room
from d2cli.commands.inputs import Inputs
from d2cli.commands.pages import COMPARE_NEEDS, check_at_least, check_page
from d2cli.commands.propagate.inputs import Scores, read_scores, settle_utility
from d2cli.commands.requests import (
    AUTO,
    Budget,
    CompareOptions,
    CompareRequest,
    GraphOptions,
    MessageOptions,
)
from d2cli.commands.settle import (
    Direction,
    Messages,
    settle_direction,
    settle_gamma_reverse,
    settle_graph,
    settle_messages,
    settle_size,
    usual_cutoff,
)
from d2cli.defaults import CompareMethod, choices
from d2cli.engine.threads import thread_count
from d2cli.errors import DataError, UsageError
from d2cli.files.frame import Frame
from d2cli.files.output.atomic import check_target
from d2cli.files.score_file import recorded_direction
from d2cli.files.sources import Reordered, Source, blame
from d2cli.limits import check_lift, check_not_negative
from d2cli.selection.budgets import check_cutoff, cutoff_count


@dataclass(frozen=True)
class CompareJob:
    """A run of ``compare``: its inputs opened, its options settled; `messages` are those of d2."""

    request: CompareRequest
    options: CompareOptions
    messages: Messages
    graph: GraphOptions
    direction: Direction
    threads: int
    room: Room
    inputs: Inputs
    emb: Source
    scores: Source
    labels: Source | None
    confidence: Source | None

    @property
    def cutoff(self) -> float | Literal["auto"]:
        """The cutoff of d2."""
        return usual_cutoff(self.options.gamma_reverse, self.direction.higher_is)

    @property
    def needs_own_scores(self) -> bool:
        """Whether d2 takes scores from the propagated ones: for the cutoff and L, or for lift."""
        return self.options.gamma_reverse == AUTO

    def budgets(self, n: int) -> dict[int, Budget]:
        """The budgets by their size in rows, in the order of the page, each size once.

        Raises:
            UsageError: if a method cannot keep that many rows.
        """
        beta, sizes = self.options.cutoff, dict[int, Budget]()
        left = n - cutoff_count(beta, n)
        cut = [method for method in self.options.methods if method in ("cutoff", "ccs")]
        for budget in self.request.budgets:
            size = settle_size(budget, n)
            if cut and size > left:
                raise UsageError(
                    f"a budget of {size:,} is more than the {left:,} rows that a cutoff of "
                    f"{beta:g} leaves",
                    f"lower --cutoff, or leave {' and '.join(cut)} out of --methods",
                )
            sizes.setdefault(size, budget)
        return sizes


@dataclass(frozen=True)
class CompareData:
    """What was read, in the order of the embeddings.

    Attributes:
        rows: the rows that are compared, ascending; None: all.
        scores, codes: of these rows; `codes` are class numbers, or None.
        confidence: of these rows, float64, 0 … 1; or None.
    """

    frame: Frame
    bad: BadRows
    rows: NDArray[np.int64] | None
    scores: Scores
    codes: NDArray[np.int64] | None
    confidence: NDArray[np.float64] | None


def open_compare_job(request: CompareRequest, skim: bool = False) -> CompareJob:
    """Open the inputs and settle the options; only headers are read.

    Raises:
        D2Error: if options conflict, an input cannot be used, or a package is missing.
    """
    if request.emb is None or request.scores is None:
        raise UsageError("compare needs --emb and --scores")
    if not request.budgets:
        raise UsageError("compare needs --ratio or --size")
    check_cutoff(request.options.cutoff)
    check_at_least(1, measured_rows=request.options.measured_rows)
    check_not_negative("--alpha", request.options.alpha)
    check_not_negative("--paper-gamma-reverse", request.options.paper_gamma_reverse)
    check_lift("--dedup-lift", request.options.dedup_lift)
    check_page("compare", request.out, COMPARE_NEEDS)
    room = Room.of(request.run, request.out)
    methods = _methods(request)
    inputs = Inputs(request.id_column, skim)
    emb = inputs.source(request.emb, "embeddings", "emb", read_as=request.emb_options)
    scores = inputs.source(request.scores, "scores", "scores")
    assert emb is not None and scores is not None
    emb.scale_parts(request.graph_options.metric)
    direction = settle_direction(scores, request.score_options)
    messages = settle_messages(MessageOptions(hops=request.options.hops), direction.higher_is)
    _, keep_lift = settle_gamma_reverse(
        request.options.gamma_reverse, request.options.keep_lift, messages, direction.higher_is
    )
    options = replace(request.options, methods=methods, keep_lift=keep_lift, hops=messages.hops)
    return CompareJob(
        request, options, messages, settle_graph(request.graph_options), direction,
        thread_count(request.run.threads), room, inputs, emb, scores,
        inputs.source(request.labels, "labels", "labels"),
        _confidence(request, inputs),
    )  # fmt: skip


def _methods(request: CompareRequest) -> tuple[CompareMethod, ...]:
    """The methods to compare, in the order of the page; without a choice, all that can be used.

    Raises:
        UsageError: if a method lacks its input, or an input has no use.
    """
    given = request.options.methods
    if "dual-sampling" in given and request.confidence is None:
        raise UsageError(
            "dual-sampling needs --confidence, the mean probability of the label",
            "make it from the outputs of each epoch: d2prune score --kind confidence",
        )
    if given and "dual-sampling" not in given and request.confidence is not None:
        raise UsageError("--confidence is for dual-sampling, which --methods does not name")
    usable = choices(CompareMethod)
    if request.confidence is None:
        usable = tuple(name for name in usable if name != "dual-sampling")
    names = tuple(name for name in usable if name in (given or usable))
    return cast("tuple[CompareMethod, ...]", names)


def _confidence(request: CompareRequest, inputs: Inputs) -> Source | None:
    """Open the mean probabilities of the labels, if they are given.

    Raises:
        DataError: if the file records that it holds another kind of score.
    """
    source = inputs.source(request.confidence, "scores", "confidence")
    recorded = None if source is None else recorded_direction(source)
    if source is not None and recorded is not None and recorded[0] != "confidence":
        raise DataError(
            f"{source.name}: is recorded as scores of kind {recorded[0]}, and --confidence needs "
            "kind confidence",
            "make them with d2prune score --kind confidence; --confidence-key names a column",
        )
    return source


def read_compare_data(job: CompareJob) -> CompareData:
    """Read and join every input but the embeddings, and check the target.

    Raises:
        D2Error: if inputs do not fit each other, or the target cannot be written.
    """
    check_target(job.request.out, job.inputs.paths)
    frame = Frame.of(job.emb, job.request.id_column)
    bad = BadRows.of(job.request.bad_rows, frame, can_exclude=False)
    scores = read_scores(job.scores, frame, bad, job.direction)
    codes = None if job.labels is None else read_labels(job.labels, frame, bad)
    confidence = None if job.confidence is None else _read_confidence(job.confidence, frame, bad)
    if bad.policy == "drop":
        bad.settle_embeddings(job.emb, job.graph.metric)
    scores, rows = settle_utility(scores, bad), bad.rows
    if rows is not None:
        scores = replace(
            scores,
            raw=scores.raw[rows],
            utility=scores.utility[rows],
            origin=Reordered(scores.origin, rows),
        )
        codes = None if codes is None else codes[rows]
        confidence = None if confidence is None else confidence[rows]
    frame.check_id_column()
    job.inputs.note_rows(frame, bad.found)
    job.inputs.note("scores", scores.direction.text, **job.direction.facts)
    if job.confidence is not None:
        job.inputs.note("confidence", "mean probability of the label")
    return CompareData(frame, bad, rows, scores, codes, confidence)


def _read_confidence(source: Source, frame: Frame, bad: BadRows) -> NDArray[np.float64]:
    """(n,) float64; usable rows have probabilities."""
    values, origin = frame.vector(source)
    bad.settle_numbers(values, "confidence", origin, "confidence")
    with blame(confidence=origin):
        check_confidence(np.where(np.isfinite(values), values, 0.0), values.size)
    return values
