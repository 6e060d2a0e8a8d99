"""What ``propagate`` opens and reads; how scores are read for messages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.bad_rows import BadRows
from d2cli.commands.budget import Room
from d2cli.commands.inputs import Inputs, read_graph, stale_graph
from d2cli.commands.requests import PropagateRequest
from d2cli.commands.settle import Direction, Messages, settle_direction, settle_messages
from d2cli.defaults import MissingScores
from d2cli.engine.threads import thread_count
from d2cli.errors import DataError, UsageError
from d2cli.files.frame import Frame
from d2cli.files.graph_file import GraphFile
from d2cli.files.output.atomic import check_target
from d2cli.files.sources import Reordered, Source, blame, in_order
from d2cli.graph.lists import NeighborLists
from d2cli.messages.utility import utility


@dataclass(frozen=True)
class PropagateJob:
    """A run of ``propagate``: its inputs opened, its options settled."""

    request: PropagateRequest
    messages: Messages
    direction: Direction
    threads: int
    room: Room
    inputs: Inputs
    graph: GraphFile
    scores: Source


@dataclass(frozen=True)
class Scores:
    """Scores in the order of the frame.

    Attributes:
        raw: (n,) float64 as in the file.
        origin: where each score came from, for messages.
        direction: what they mean; its transform is settled with the utility.
        utility: (n,) float64, turned so that high = keep, and transformed; 0 for rows that are
            left out, whose scores are not looked at, and for missing scores.
        missing: (n,) bool, the rows whose score is to be spread from others; None: no such row.
    """

    raw: NDArray[np.float64]
    origin: Source | Reordered
    direction: Direction
    utility: NDArray[np.float64]
    missing: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class PropagateData:
    """What was read."""

    graph: NeighborLists
    frame: Frame
    scores: Scores
    bad: BadRows
    notices: list[str]


def open_propagate_job(request: PropagateRequest, skim: bool = False) -> PropagateJob:
    """Open the inputs and settle the options; nothing but headers is read.

    Raises:
        D2Error: if the request makes no sense, or an input cannot be used.
    """
    if request.scores is None:
        raise UsageError("propagate needs --scores")
    if not request.out.endswith(".npy"):
        raise UsageError(f"{request.out}: propagated scores are a .npy file")
    room = Room.of(request.run, request.out, tasks=True)
    inputs = Inputs(request.id_column, skim)
    graph = inputs.graph(request.graph)
    if graph is None:
        raise UsageError("propagate needs --graph")
    scores = inputs.source(request.scores, "scores", "scores")
    assert scores is not None
    direction = settle_direction(scores, request.score_options)
    messages = settle_messages(request.messages, direction.higher_is)
    messages.check_method(graph.method)
    inputs.note("scores", direction.text, **direction.facts)
    return PropagateJob(
        request, messages, direction, thread_count(request.run.threads), room, inputs, graph,
        scores,
    )  # fmt: skip


def read_propagate_data(job: PropagateJob, in_ranges: bool = False) -> PropagateData:
    """Read the graph and the scores, and check the target; `in_ranges`: as of :func:`read_graph`.

    Raises:
        D2Error: if inputs do not belong together, or the target cannot be written.
    """
    check_target(job.request.out, job.inputs.paths)
    graph, ids, laid_out = read_graph(job.graph, in_ranges)
    stale = stale_graph(job.graph, job.request.allow_stale)
    frame = job.graph.frame(ids, job.request.id_column)
    bad = BadRows.of(job.request.bad_rows, frame, graph.excluded, can_exclude=False)
    policy = job.request.missing_scores
    scores = read_scores(job.scores, frame, bad, job.direction, policy)
    scores = settle_utility(scores, bad, job.messages)
    frame.check_id_column()
    job.inputs.note_rows(frame, bad.found)
    note_scores(job.inputs, scores)
    notices = [*laid_out, *stale, *frame.notices, *job.direction.notices]
    return PropagateData(graph, frame, scores, bad, notices)


def read_scores(
    source: Source, frame: Frame, bad: BadRows, direction: Direction,
    policy: MissingScores | None = None,
) -> Scores:  # fmt: skip
    """Scores in the order of the frame, without utility; adds rows that cannot be used to `bad`.

    Rows without a score (NaN or null) are among these, or with the `policy` ``spread`` `missing`.
    None: the command has no such option.
    """
    raw, origin = frame.vector(source)
    missing = np.isnan(raw) & ~bad.ignored
    if policy == "spread" and missing.any():
        bad.settle_numbers(np.where(missing, 0.0, raw), source.option, origin, "score")
        return Scores(raw, origin, direction, np.empty(0), missing)
    hint = None
    if policy == "refuse" and missing.any() and not missing.all():
        hint = "--missing-scores spread estimates missing scores from those of near rows"
    bad.settle_numbers(raw, source.option, origin, "score", hint)
    return Scores(raw, origin, direction, np.empty(0))


def settle_utility(scores: Scores, bad: BadRows, messages: Messages | None = None) -> Scores:
    """Scores with their utility, once all `bad` rows are known: a transform depends on all others.

    Missing scores take no part in it. A mode with a floor for what neighbours send takes negative
    scores as they are.

    Raises:
        DataError: if no row is left, or none has a score.
    """
    direction, rows = scores.direction, bad.rows
    allow_negative = messages is not None and messages.floor is not None
    missing, used = None, bad.used
    if not used.any():
        says = "no row is left: all are excluded, or cannot be used"
        raise DataError(f"{scores.origin.place(None)}: {says}")
    if scores.missing is not None:
        missing, used = scores.missing & used, used & ~scores.missing
        if not used.any():
            raise DataError(f"{scores.origin.place(None)}: no row has a score")
    if not allow_negative:
        known = scores.raw if rows is None and missing is None else scores.raw[used]
        direction = direction.of(known)
    turned = utility_of(scores.raw, scores.origin, direction, bad, allow_negative, missing)
    return replace(scores, direction=direction, utility=turned, missing=missing)


def note_scores(inputs: Inputs, scores: Scores) -> None:
    """Note what scores mean, and how many are missing, in the line and provenance of the input."""
    text, count = scores.direction.text, 0
    if scores.missing is not None:
        count = int(scores.missing.sum())
        text += f"; {count:,} rows without score"
    inputs.note("scores", text, **({"rows_without_score": count} if count else {}))


def utility_of(
    raw: NDArray[np.float64],
    origin: Source | Reordered,
    direction: Direction,
    bad: BadRows,
    allow_negative: bool = False,
    missing: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """(n,) the utility of the scores `raw` of rows that take part; 0 for others and `missing`."""
    meaning: Any = (direction.higher_is, direction.score_transform)
    rows = bad.rows if missing is None else np.flatnonzero(bad.used & ~missing)
    with blame(scores=in_order(origin, rows)):
        if rows is None:
            return utility(raw, *meaning, allow_negative=allow_negative)
        turned = np.zeros(raw.size)
        turned[rows] = utility(raw[rows], *meaning, allow_negative=allow_negative)
    return turned
