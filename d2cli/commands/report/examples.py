"""The examples of a report: rows as pictures or texts, with what is said of them."""

from __future__ import annotations

import numpy as np

from d2cli.commands.report.inputs import ReportData
from d2cli.commands.report.measures import Example, Measures
from d2cli.files.examples import images_at, texts_at
from d2cli.page.page import Card, Gallery, Part, Shown
from d2cli.page.text import Decimals, count
from d2cli.page.thumbnails import Thumbnail, thumbnail

#: Longer texts, and longer ids, are cut.
_LONGEST, _LONGEST_ID = 280, 60


class _Shelf:
    """What is shown of the rows that any selection has among its examples, read in one go."""

    def __init__(self, data: ReportData, rows: list[int]) -> None:
        self.data = data
        unique = np.unique(np.array(rows, np.int64))
        self.images: dict[int, Thumbnail] = {}
        self.texts: dict[int, str | None] = {}
        if data.images is not None and unique.size:
            found = images_at(data.images.source, data.images.places(unique))
            self.images = dict(zip(unique.tolist(), map(thumbnail, found), strict=True))
        if data.texts is not None and unique.size:
            texts = texts_at(data.texts.source, data.texts.places(unique))
            self.texts = dict(zip(unique.tolist(), texts, strict=True))

    def name(self, row: int) -> str:
        """The id, or the row number."""
        ids = self.data.frame.ids
        return f"row {row:,}" if ids is None else _cut(str(ids[row].as_py()), _LONGEST_ID)

    def label(self, row: int) -> str:
        """The class, or nothing."""
        if self.data.codes is None:
            return ""
        return _cut(self.data.classes[self.data.codes[row]], _LONGEST_ID)

    def shown(self, row: int, what: str) -> Shown:
        text = None
        if row in self.texts:
            text = _cut(self.texts[row] or "", _LONGEST) or "(no text)"
        label = self.label(row)
        words = f"{what}, {self.name(row)}" + (f", class {label}" if label else "")
        return Shown(self.images.get(row), text, words)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def example_parts(
    data: ReportData, measures: Measures, titles: list[str | None], high: str
) -> list[Part]:
    """One part a selection, a gallery a kind of example."""
    examples = [m.examples for m in measures.selections]
    rows = [
        row
        for kinds in examples
        for some in kinds.values()
        for e in some
        for row in (e.row, e.twin)
        if row is not None
    ]
    shelf = _Shelf(data, rows)
    distances = Decimals([m.coverage.max for m in measures.selections])
    scores = Decimals([float(np.abs(data.scores).max())])

    def gallery(title: str, note: str, what: str, some: list[Example], kind: str) -> Gallery:
        cards = []
        for e in some:
            score = f"score {scores(float(data.scores[e.row]))}"
            label = shelf.label(e.row)
            lines = [shelf.name(e.row), *([f"class {label}"] if label else [])]
            text = shelf.shown(e.row, what).text
            if shelf.images and text is not None:  # the picture stands where the text would
                lines.append(text)
            if kind == "covers":
                lines += [f"nearest of {count(int(e.value))} rows", score]
            elif kind == "score":
                lines += [score]
            else:
                assert e.twin is not None
                twin = shelf.name(e.twin)
                other = shelf.label(e.twin)
                twin += f" · {other}" if other and other != label else ""
                lines += [f"{distances(e.value)} from {twin}", score]
            twin_shown = None
            if kind == "near" and e.twin is not None:
                twin_shown = shelf.shown(e.twin, "Its nearest kept row")
            cards.append(Card(shelf.shown(e.row, what), lines, twin_shown))
        return Gallery(title, note if cards else f"{note} There are none.", cards)

    parts = []
    for title, kinds in zip(titles, examples, strict=True):
        parts.append(
            Part(
                title,
                galleries=[
                    gallery(
                        "Most covering",
                        "Kept rows that are the nearest kept row of the most others.",
                        "Kept row", kinds["most_covering"], "covers",
                    ),
                    gallery(
                        f"{high.capitalize()} kept",
                        f"The {high} of the kept rows by their scores."
                        + " Mislabelled rows are often among them." * (high == "hardest"),
                        "Kept row", kinds["hardest_kept"], "score",
                    ),
                    gallery(
                        "Most redundant dropped",
                        "Dropped rows that are closest to a kept one, which is shown beside them.",
                        "Dropped row", kinds["most_redundant_dropped"], "near",
                    ),
                    gallery(
                        "Least covered",
                        "Dropped rows that are farthest from every kept one.",
                        "Dropped row", kinds["least_covered"], "far",
                    ),
                ],
            )
        )  # fmt: skip
    return parts
