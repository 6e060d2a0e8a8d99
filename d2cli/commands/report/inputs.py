"""What ``report`` opens and reads: the data, and selections that are checked against it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli import defaults
from d2cli.commands.bad_rows import BadRows
from d2cli.commands.budget import Room
from d2cli.commands.inputs import Inputs
from d2cli.commands.pages import REPORT_NEEDS, check_at_least, check_page
from d2cli.commands.requests import ReportRequest
from d2cli.commands.settle import Direction, contradiction
from d2cli.defaults import HigherIs, Metric, choices
from d2cli.engine.threads import thread_count
from d2cli.errors import DataError, UsageError
from d2cli.files.examples import open_images, open_texts
from d2cli.files.frame import Frame
from d2cli.files.locate.paths import expand
from d2cli.files.output.atomic import check_target
from d2cli.files.parts.row_lists import row_lists
from d2cli.files.provenance.fingerprint import describe_files
from d2cli.files.score_file import recorded_direction
from d2cli.files.selection_file import SelectionFile, StoredSelection, open_selection
from d2cli.files.sources import Source, blame, in_order
from d2cli.messages.utility import utility

#: More selections would not fit side by side.
MOST_SELECTIONS = 8


@dataclass(frozen=True)
class ReportJob:
    """A run of ``report``: its inputs opened, its options settled."""

    request: ReportRequest
    metric: Metric
    threads: int
    room: Room
    inputs: Inputs
    emb: Source
    scores: Source
    images: Source | None
    texts: Source | None
    labels: Source | None
    selections: list[SelectionFile]


@dataclass(frozen=True)
class Media:
    """The source of images or texts, and each row's place in it (None: the same place)."""

    source: Source
    rows: NDArray[np.int64] | None

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The places in the source of these rows of the frame."""
        return rows if self.rows is None else self.rows[rows]


@dataclass(frozen=True)
class ReportData:
    """What was read, in the order of the embeddings.

    Attributes:
        rows: the rows of the frame that the report is about, ascending; None: all. Everything else
            is of these rows, numbered 0, 1, 2, ….
        emb: the embeddings, not read yet.
        scores: (n,) as in the file.
        difficulty: (n,) 0 … 1, the share of rows that are no harder (with ``better``: no better).
        codes, classes: (n,) class numbers and the names of the classes; None and () without labels.
    """

    frame: Frame
    bad: BadRows
    rows: NDArray[np.int64] | None
    emb: Source
    scores: NDArray[np.float64]
    difficulty: NDArray[np.float64]
    selections: list[StoredSelection]
    metric: Metric
    higher_is: HigherIs
    notices: list[str]
    codes: NDArray[np.int64] | None
    classes: tuple[str, ...]
    images: Media | None
    texts: Media | None

    def number(self, row: int) -> int:
        """The number in the frame of a row of the report."""
        return row if self.rows is None else int(self.rows[row])


def open_report_job(request: ReportRequest, skim: bool = False) -> ReportJob:
    """Open the inputs and settle the options; only headers are read.

    Raises:
        D2Error: if options conflict, an input cannot be used, or a package is missing.
    """
    if request.emb is None or request.scores is None or not request.selected:
        raise UsageError("report needs --emb, --scores and --selected")
    options = request.options
    check_at_least(1, measured_rows=options.measured_rows, map_rows=options.map_rows)
    check_at_least(0, examples=options.examples, seed=options.seed)
    check_page("report", request.out, REPORT_NEEDS)
    room = Room.of(request.run, request.out)
    inputs = Inputs(request.id_column, skim)
    emb = inputs.source(request.emb, "embeddings", "emb", read_as=request.emb_options)
    scores = inputs.source(request.scores, "scores", "scores")
    assert emb is not None and scores is not None
    media: dict[str, Source] = {}
    for option, given, opened in (
        ("images", request.images, open_images), ("texts", request.texts, open_texts),
    ):  # fmt: skip
        if given is not None:
            media[option] = opened(given.paths, given.key, request.id_column, skim=skim)
            inputs.remember(option, media[option])
    labels = inputs.source(request.labels, "labels", "labels")
    lists = [one for each in request.selected for one in row_lists(expand([each], "selected"))]
    if len(lists) > MOST_SELECTIONS:
        raise UsageError(f"{len(lists)} selections are more than the {MOST_SELECTIONS} of a page")
    selections = [open_selection(*paths, skim=skim) for paths in lists]
    for one in selections:
        described = partial(describe_files, one.paths, one.n)
        inputs.add("selected", one.paths, one.layout, described, repeats=True)
    metric = options.metric or _agreed(
        {one.recorded("graph", "metric") for one in selections},
        Metric, "the selections were made with different metrics", "--metric",
    )  # fmt: skip
    emb.scale_parts(metric or defaults.METRIC)
    return ReportJob(
        request, metric or defaults.METRIC, thread_count(request.run.threads), room,
        inputs, emb, scores, media.get("images"), media.get("texts"), labels, selections,
    )  # fmt: skip


def _agreed(values: set[Any], kind: Any, conflict: str, option: str) -> Any:
    """The one choice of `kind` among recorded values, or None; refuses two that differ."""
    found = values & set(choices(kind))
    if len(found) > 1:
        raise UsageError(f"{conflict}: {', '.join(sorted(found))}", f"choose one with {option}")
    return found.pop() if found else None


def read_report_data(job: ReportJob) -> ReportData:
    """Read and join every input but the embeddings, and check the target.

    Raises:
        D2Error: if inputs do not fit each other, or the target cannot be written.
    """
    check_target(job.request.out, job.inputs.paths)
    frame = Frame.of(job.emb, job.request.id_column)
    bad = BadRows.of(job.request.bad_rows, frame, can_exclude=False)
    scores, origin = frame.vector(job.scores)
    bad.settle_numbers(scores, "scores", origin, "score")
    codes, classes = None, list[str]()
    if job.labels is not None:
        codes, classes, labelled = frame.classes(job.labels)
        bad.settle_labels(codes < 0, "labels", labelled)
    if bad.policy == "drop":
        bad.settle_embeddings(job.emb, job.metric)
    rows = bad.rows
    images, texts = (
        None if source is None else Media(source, _some(frame.rows_of(source), rows))
        for source in (job.images, job.texts)
    )
    selections = [_of_rows(one.read(frame), bad, rows) for one in job.selections]
    frame.check_id_column()
    job.inputs.note_rows(frame, bad.found)
    notices = [notice for rows in selections for notice in _check_origin(job, rows)]
    higher_is, origin_of_direction = _direction(job)
    settled = Direction(higher_is, defaults.TRANSFORM, origin_of_direction)
    job.inputs.note("scores", settled.text, **settled.facts)
    if origin_of_direction == "default":
        notices += contradiction(job.scores, "higher-is")
    if rows is not None:
        scores, codes = scores[rows], None if codes is None else codes[rows]
    with blame(scores=in_order(origin, rows)):
        difficulty = utility(scores, higher_is, "rank")
    return ReportData(
        frame, bad, rows, job.emb, scores, difficulty, selections, job.metric, higher_is, notices,
        codes, tuple(classes), images, texts,
    )  # fmt: skip


def _some(
    places: NDArray[np.int64] | None, rows: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    """The places of some rows; None stands for all, each in its own place."""
    if places is None or rows is None:
        return rows if places is None else places
    return places[rows]


def _of_rows(
    selection: StoredSelection, bad: BadRows, rows: NDArray[np.int64] | None
) -> StoredSelection:
    """The selection with the numbers of `rows`; a selected row that cannot be used is refused."""
    if rows is None:
        return selection
    if (lost := selection.rows[~bad.used[selection.rows]]).size:
        says = f"row {lost[0]} is selected, and cannot be used"
        raise DataError(f"{selection.file.name}: {says}", "select again with --bad-rows drop")
    numbers = np.cumsum(bad.used) - 1
    order = None if selection.order is None else numbers[selection.order]
    return selection._replace(rows=numbers[selection.rows], order=order)


def _check_origin(job: ReportJob, selection: StoredSelection) -> list[str]:
    """Refuse a selection of other embeddings; a notice if its scores were others."""
    file, described = selection.file, job.inputs.described
    theirs, notices = file.recorded("inputs", "emb", "fingerprint"), []
    if theirs not in (None, described["emb"]["fingerprint"]):
        known = described["emb"]["path"]
        if not selection.by_id:
            raise DataError(
                f"{file.name}: was selected from other embeddings than {known}",
                "give the embeddings that it was selected from, or a selection by id",
            )
        notices.append(
            f"{file.name}: was selected from other embeddings than {known}, and is joined to "
            "them by id"
        )
    scores = file.recorded("inputs", "scores", "fingerprint")
    if scores not in (None, described["scores"]["fingerprint"]):
        notices.append(f"{file.name}: was selected by other scores than --scores")
    return notices


def _direction(job: ReportJob) -> tuple[HigherIs, str]:
    """The meaning of a high score and where it comes from.

    As given, else as selections by these scores record it, else as the scores record it.
    """
    if job.request.options.higher_is is not None:
        return job.request.options.higher_is, "option"
    ours = job.inputs.described["scores"]["fingerprint"]
    by_ours = [x for x in job.selections if x.recorded("inputs", "scores", "fingerprint") == ours]
    agreed: HigherIs | None = _agreed(
        {one.recorded("parameters", "higher_is") for one in by_ours},
        HigherIs, "the selections record different meanings of a high score", "--higher-is",
    )  # fmt: skip
    recorded = recorded_direction(job.scores)
    if agreed is None and recorded is None:
        return defaults.HIGHER_IS, "default"
    return agreed or (recorded[1] if recorded else defaults.HIGHER_IS), "recorded"
