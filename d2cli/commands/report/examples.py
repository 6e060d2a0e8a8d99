"""What a report shows of its example rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from d2cli.commands.report.inputs import ReportData
from d2cli.commands.report.measures import Measures
from d2cli.files.examples import images_at, texts_at
from d2cli.page.text import Decimals
from d2cli.page.thumbnails import Thumbnail, thumbnail

#: Longer texts are cut, and so are longer ids and labels.
_LONGEST, _LONGEST_ID = 280, 60


@dataclass(frozen=True)
class ShownRow:
    """A row by its id or number, its class (or nothing), its score, its text and its image."""

    name: str
    label: str
    score: str
    text: str | None
    image: Thumbnail | None


def example_rows(data: ReportData, measures: Measures) -> dict[int, ShownRow]:
    """Read what is shown of the rows that are an example of any selection, and of their twins."""
    examples = [e for m in measures.selections for some in m.examples.values() for e in some]
    rows = np.unique(np.array([r for e in examples for r in (e.row, e.twin) if r is not None], int))
    texts: Iterable[str | None] = [None] * rows.size
    images: Iterable[Thumbnail | None] = [None] * rows.size
    if data.texts is not None and rows.size:
        found = texts_at(data.texts.source, data.texts.places(rows))
        texts = (_cut(text or "", _LONGEST) or "(no text)" for text in found)
    if data.images is not None and rows.size:
        images = map(thumbnail, images_at(data.images.source, data.images.places(rows)))
    score = Decimals([float(np.abs(data.scores).max())])
    return {
        row: ShownRow(_name(data, row), _label(data, row), score(data.scores[row]), text, image)
        for row, text, image in zip(rows.tolist(), texts, images, strict=True)
    }


def _name(data: ReportData, row: int) -> str:
    ids = data.frame.ids
    return f"row {row:,}" if ids is None else _cut(str(ids[row].as_py()), _LONGEST_ID)


def _label(data: ReportData, row: int) -> str:
    return "" if data.codes is None else _cut(data.classes[data.codes[row]], _LONGEST_ID)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
