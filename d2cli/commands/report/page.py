"""The page of a report: its figures, and what its template reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.report.examples import example_rows
from d2cli.commands.report.inputs import ReportData
from d2cli.commands.report.measures import QUANTILES, Measures, SelectionMeasures
from d2cli.commands.requests import ReportOptions
from d2cli.evaluation.balance import BinCounts
from d2cli.evaluation.selections import RANDOM_SEEDS, sample_rows
from d2cli.files.selection_file import SelectionFile
from d2cli.page import figures
from d2cli.page.page import FigureView, render
from d2cli.page.projection import project
from d2cli.page.text import Decimals

#: Classes shown; of more, half with the lowest and half with the highest share kept.
MOST_CLASSES = 40
#: Names of the lowest and of the highest scores, by direction.
_ENDS = {
    "harder": ("easiest", "hardest"),
    "easier": ("easiest", "hardest"),
    "better": ("worst", "best"),
}
_MAP_METHODS = {"tsne": "t-SNE", "pca": "The first two principal axes"}


@dataclass(frozen=True)
class RowMap:
    """The rows (m,) on the map, their places (m, 2), and the name of the method."""

    rows: NDArray[np.int64]
    places: NDArray[np.float64]
    method: str


@dataclass(frozen=True)
class SelectionView:
    """A selection as the template reads it.

    Attributes:
        letter: its short name; empty for a single selection.
        label: the letter and the name of the file.
        numbers: the part of the JSON about this selection.
        figures: by section of the page.
    """

    letter: str
    label: str
    file: SelectionFile
    has_order: bool
    numbers: dict[str, Any]
    figures: dict[str, list[FigureView]]


def map_rows(vectors: NDArray[np.floating], options: ReportOptions) -> RowMap | None:
    """Draw the rows of the map and place them; None without a map."""
    if options.map == "none":
        return None
    rows = sample_rows(vectors.shape[0], options.map_rows, options.seed)
    places = project(vectors[rows], options.map, options.seed)
    return RowMap(rows, places, _MAP_METHODS[options.map])


def report_page(
    data: ReportData,
    measures: Measures,
    options: ReportOptions,
    numbers: dict[str, Any],
    row_map: RowMap | None,
    inputs: dict[str, Any],
) -> str:
    """Render the page of `numbers`, the report in the JSON, with the described `inputs`."""
    selections = []
    for place, (m, own) in enumerate(zip(measures.selections, numbers["selections"], strict=True)):
        letter = "ABCDEFGH"[place] if len(measures.selections) > 1 else ""
        label = f"{letter}: {m.file.path.name}" if letter else m.file.path.name
        drawn = _figures(letter.lower() or "a", label, data, measures, m, row_map)
        has_order = m.selection.order is not None
        selections.append(SelectionView(letter, label, m.file, has_order, own, drawn))
    first, (low, high) = measures.selections[0].classes, _ENDS[data.higher_is]
    context = {
        "numbers": numbers,
        "selections": selections,
        "rows": example_rows(data, measures),
        "classes": [] if first is None else _shown_classes(first),
        "class_count": 0 if first is None else int((first.full > 0).sum()),
        "low": low,
        "high": high,
        "map": row_map,
        "random_seeds": RANDOM_SEEDS,
        "options": options,
        "emb": data.emb,
        "inputs": inputs,
        "notices": data.notices,
    }
    largest = [m.coverage.max for m in measures.selections]
    return render("report.html", context, {"distance": Decimals([*largest, measures.threshold])})


def _figures(
    name: str,
    label: str,
    data: ReportData,
    measures: Measures,
    m: SelectionMeasures,
    row_map: RowMap | None,
) -> dict[str, list[FigureView]]:
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
