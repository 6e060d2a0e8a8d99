"""The rows of the map and where they stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.commands.requests import ReportOptions
from d2cli.evaluation.selections import sample_rows
from d2cli.page.projection import project

_METHODS = {"tsne": "t-SNE", "pca": "The first two principal axes"}


@dataclass(frozen=True)
class RowMap:
    """Places (m, 2) of some rows (m,), and how they came about."""

    rows: NDArray[np.int64]
    places: NDArray[np.float64]
    method: str
    words: str

    def kept(self, selected: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
        """Which of the rows on the map are selected of n."""
        mask = np.zeros(n, np.bool_)
        mask[selected] = True
        return mask[self.rows]


def map_rows(vectors: NDArray[np.floating], options: ReportOptions) -> RowMap | None:
    """Draw the rows and place them, or None where no map is wanted."""
    if options.map == "none":
        return None
    n = vectors.shape[0]
    drawn = n > options.map_rows
    rows = sample_rows(n, options.map_rows, options.seed)
    places = project(vectors[rows], options.map, options.seed)
    method = _METHODS[options.map]
    which = f"{rows.size:,} of {n:,} rows, drawn at random" if drawn else f"all {n:,} rows"
    words = f"{method} of {which} (seed {options.seed})."
    if options.map == "tsne":
        words += (
            " Near rows stay near; how far groups lie apart, and how large they are, says little."
        )
    else:
        words += " Rows that are far apart in other directions may fall together."
    return RowMap(rows, places, method, words)
