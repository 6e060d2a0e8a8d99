"""What ``report`` reads: the data once, and selections of it, checked against it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from d2cli import defaults
from d2cli.commands.pages import check_count
from d2cli.commands.requests import ReportRequest
from d2cli.defaults import HigherIs, Metric
from d2cli.errors import DataError, UsageError
from d2cli.files.examples import open_images, open_texts
from d2cli.files.frame import Frame
from d2cli.files.paths import expand
from d2cli.files.provenance.fingerprint import describe
from d2cli.files.score_file import recorded_direction
from d2cli.files.selection_file import StoredSelection, open_selection
from d2cli.files.sources import Source, blame, open_source
from d2cli.messages.utility import utility


@dataclass
class Media:
    """Something to show of each row: its source, and each row's place in it (None: the same)."""

    source: Source
    rows: NDArray[np.int64] | None

    def places(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where in the source these rows of the frame stand."""
        return rows if self.rows is None else self.rows[rows]


@dataclass
class ReportInputs:
    """Everything that was read, in the order of the embeddings.

    Attributes:
        scores: (n,) as in the file.
        difficulty: (n,) 0 … 1, the share of rows that are no harder (or no better).
        codes, classes: (n,) class numbers and the classes' names, or None and nothing.
    """

    frame: Frame
    emb: Source
    scores: NDArray[np.float64]
    difficulty: NDArray[np.float64]
    selections: list[StoredSelection]
    metric: Metric
    higher_is: HigherIs
    described: dict[str, Any]
    paths: list[Path]
    notices: list[str]
    codes: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    images: Media | None = None
    texts: Media | None = None


def read_report_inputs(request: ReportRequest) -> ReportInputs:
    """Open every input, join them, and settle what the selections' provenance says."""
    ids = request.id_column
    emb = open_source(request.emb.paths, "embeddings", "emb", request.emb.key, ids)
    frame = Frame.of(emb)
    described: dict[str, Any] = {"emb": describe(emb)}
    source = open_source(request.scores.paths, "scores", "scores", request.scores.key, ids)
    scores, origin = frame.vector(source)
    described["scores"] = describe(source)
    media: dict[str, Media] = {}
    for name, given_input, opener in (
        ("images", request.images, open_images),
        ("texts", request.texts, open_texts),
    ):
        if given_input is not None:
            shown = opener(given_input.paths, given_input.key, ids)
            media[name] = Media(shown, frame.rows_of(shown))
            described[name] = describe(shown)
    codes: NDArray[np.int64] | None = None
    classes: list[str] = []
    paths = [*emb.paths, *source.paths, *(p for m in media.values() for p in m.source.paths)]
    if request.labels is not None:
        labels = open_source(request.labels.paths, "labels", "labels", request.labels.key, ids)
        codes, classes = frame.classes(labels)
        described["labels"] = describe(labels)
        paths += labels.paths
    files = expand(request.selected, "selected")
    check_count(len(files))
    selections = [open_selection(path).read(frame) for path in files]
    frame.check_id_column(ids)
    described["selected"] = [s.described for s in selections]
    notices = [note for s in selections for note in _check_origin(s, described)]
    higher_is = request.options.higher_is or _direction(selections, described, source)
    with blame(scores=origin):
        difficulty = utility(scores, higher_is, "rank")
    return ReportInputs(
        frame, emb, scores, difficulty, selections,
        metric=request.options.metric or _metric(selections),
        higher_is=higher_is, described=described, paths=[*paths, *files], notices=notices,
        codes=codes, classes=tuple(classes), images=media.get("images"), texts=media.get("texts"),
    )  # fmt: skip


def _check_origin(selection: StoredSelection, described: dict[str, Any]) -> list[str]:
    """Refuse a selection of other embeddings; say where its scores were others."""
    theirs = selection.recorded("inputs", "emb", "fingerprint")
    notices = []
    if theirs not in (None, described["emb"]["fingerprint"]):
        known = described["emb"]["path"]
        if not selection.by_id:
            raise DataError(
                f"{selection.path}: was selected from other embeddings than {known}",
                "give the embeddings that it was selected from, or a selection by id",
            )
        notices.append(
            f"{selection.path}: was selected from other embeddings than {known}, and is joined to "
            "them by id"
        )
    scores = selection.recorded("inputs", "scores", "fingerprint")
    if scores not in (None, described["scores"]["fingerprint"]):
        notices.append(f"{selection.path}: was selected by other scores than --scores")
    return notices


def _direction(
    selections: list[StoredSelection], described: dict[str, Any], source: Source
) -> HigherIs:
    """What a high score says, as the selections that went by these scores recorded it.

    Where none did, as the step that made the scores recorded it.
    """
    told = {
        s.recorded("parameters", "higher_is")
        for s in selections
        if s.recorded("inputs", "scores", "fingerprint") == described["scores"]["fingerprint"]
    } & set(get_args(HigherIs))
    if len(told) > 1:
        raise UsageError(
            f"the selections disagree on what a high score says: {', '.join(sorted(told))}",
            "say it with --higher-is",
        )
    if told:
        return told.pop()
    recorded = recorded_direction(source)
    return recorded[1] if recorded else defaults.HIGHER_IS


def _metric(selections: list[StoredSelection]) -> Metric:
    """The metric of the graphs that the selections were made on."""
    told = {s.recorded("graph", "metric") for s in selections} & set(get_args(Metric))
    if len(told) > 1:
        raise UsageError(
            "the selections were made under different metrics", "say one with --metric"
        )
    return told.pop() if told else defaults.METRIC
