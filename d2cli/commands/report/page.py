"""The page of a report: its map, figures and example rows, and what its template reads."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.report.inputs import ReportData, ReportJob
from d2cli.commands.report.measures import QUANTILES, Measures, SelectionMeasures
from d2cli.commands.requests import ReportOptions
from d2cli.evaluation.balance import BinCounts
from d2cli.evaluation.selections import RANDOM_SEEDS, sample_rows
from d2cli.files.examples import images_at, texts_at
from d2cli.page import figures
from d2cli.page.page import FigureView, render
from d2cli.page.projection import project
from d2cli.page.text import Decimals
from d2cli.page.thumbnails import Thumbnail, thumbnail

#: Classes shown; of more, half with the lowest and half with the highest share kept.
MOST_CLASSES = 40
#: Names of the lowest and of the highest scores, by direction.
_ENDS = {
    "harder": ("easiest", "hardest"),
    "easier": ("easiest", "hardest"),
    "better": ("worst", "best"),
}
#: Longer texts are cut, and so are longer ids and labels.
_LONGEST, _LONGEST_ID = 280, 60
_MAP_METHODS = {"tsne": "t-SNE", "pca": "The first two principal axes"}


@dataclass(frozen=True)
class ShownRow:
    """A row by its id or number, its class (or nothing), its score, its text and its image."""

    name: str
    label: str
    score: str
    text: str | None
    image: Thumbnail | None


@dataclass(frozen=True)
class RowMap:
    """The rows (m,) on the map, their places (m, 2), and the name of the method."""

    rows: NDArray[np.int64]
    places: NDArray[np.float64]
    method: str


def map_rows(vectors: NDArray[np.floating], options: ReportOptions) -> RowMap | None:
    """Draw the rows of the map and place them; None without a map."""
    if options.map == "none":
        return None
    rows = sample_rows(vectors.shape[0], options.map_rows, options.seed)
    places = project(vectors[rows], options.map, options.seed)
    return RowMap(rows, places, _MAP_METHODS[options.map])


def report_page(
    job: ReportJob, data: ReportData, measures: Measures, numbers: dict[str, Any],
    row_map: RowMap | None,
) -> str:  # fmt: skip
    """Render the page; `numbers` are the report in the JSON."""
    selections = []
    for place, (m, own) in enumerate(zip(measures.selections, numbers["selections"], strict=True)):
        letter = "ABCDEFGH"[place] if len(measures.selections) > 1 else ""
        name = Path(m.file.name).name
        label = f"{letter}: {name}" if letter else name
        selections.append(
            {
                "letter": letter,
                "label": label,
                "file": m.file,
                "has_order": m.selection.order is not None,
                "numbers": own,
                "figures": _figures(letter.lower() or "a", label, data, measures, m, row_map),
            }
        )
    first, (low, high) = measures.selections[0].classes, _ENDS[data.higher_is]
    context = {
        "numbers": numbers,
        "selections": selections,
        "rows": _example_rows(data, measures),
        "classes": [] if first is None else _shown_classes(first),
        "class_count": 0 if first is None else int((first.full > 0).sum()),
        "low": low,
        "high": high,
        "map": row_map,
        "random_seeds": RANDOM_SEEDS,
        "options": job.request.options,
        "emb": data.emb,
        "inputs": job.inputs.described,
        "notices": data.notices,
    }
    largest = [m.coverage.max for m in measures.selections]
    return render("report.html", context, {"distance": Decimals([*largest, measures.threshold])})


def _figures(
    name: str, label: str, data: ReportData, measures: Measures, m: SelectionMeasures,
    row_map: RowMap | None,
) -> dict[str, list[FigureView]]:  # fmt: skip
    """The figures of one selection by section; `name` is a part of their ids."""
    ends, order, gains = _ENDS[data.higher_is], m.selection.order, m.selection.gains
    at = m.file.recorded("selection", "messages_ran_out_at")
    quantiles = (QUANTILES, m.quantiles, m.random.quantiles)
    found: dict[str, list[FigureView]] = {
        "coverage": [figures.coverage_curve(f"coverage-{name}", label, *quantiles)],
        "scores": [
            figures.score_histogram(f"scores-{name}", label, measures.bin_edges, m.bins),
            figures.kept_by_difficulty(f"order-{name}", label, m.groups, ends),
        ],
        "picks": [],
        "map": [],
    }
    if order is not None and gains is not None:
        found["picks"].append(figures.pick_curve(f"gains-{name}", label, gains, at, None))
    if order is not None:
        ranks = data.difficulty[order]
        found["picks"].append(figures.pick_curve(f"picks-{name}", label, ranks, at, ends))
    if row_map is not None:
        places, kept = row_map.places, np.isin(row_map.rows, m.selection.rows)
        view = figures.embedding_map(f"map-{name}", label, places, kept, row_map.method)
        found["map"].append(view)
    return found


def _shown_classes(counts: BinCounts) -> list[int]:
    """The classes of the table: all that have rows, or MOST_CLASSES of them."""
    shown = np.flatnonzero(counts.full)
    if shown.size > MOST_CLASSES:
        shown = shown[np.argsort(counts.retention[shown], kind="stable")]
        shown = np.concatenate([shown[: MOST_CLASSES // 2], shown[-MOST_CLASSES // 2 :]])
    return [int(c) for c in shown]


def _example_rows(data: ReportData, measures: Measures) -> dict[int, ShownRow]:
    """Read what is shown of the rows that are an example of any selection, and of their twins."""
    examples = [e for m in measures.selections for some in m.examples.values() for e in some]
    shown = {row for e in examples for row in (e.row, e.twin) if row is not None}
    rows = np.array(sorted(shown), np.int64)
    texts: Iterable[str | None] = [None] * rows.size
    images: Iterable[Thumbnail | None] = [None] * rows.size
    if data.texts is not None and rows.size:
        found = texts_at(data.texts.source, data.texts.places(rows))
        texts = (_cut(text or "", _LONGEST) or "(no text)" for text in found)
    if data.images is not None and rows.size:
        images = map(thumbnail, images_at(data.images.source, data.images.places(rows)))
    score = Decimals([float(np.abs(data.scores).max())])
    return {
        data.number(row): ShownRow(
            _name(data, row), _label(data, row), score(data.scores[row]), text, image
        )
        for row, text, image in zip(rows.tolist(), texts, images, strict=True)
    }


def _name(data: ReportData, row: int) -> str:
    ids, row = data.frame.ids, data.number(row)
    return f"row {row:,}" if ids is None else _cut(str(ids[row].as_py()), _LONGEST_ID)


def _label(data: ReportData, row: int) -> str:
    return "" if data.codes is None else _cut(data.classes[data.codes[row]], _LONGEST_ID)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
