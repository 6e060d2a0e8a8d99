"""Distances of selections, which ``report`` and ``compare`` measure alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Metric
from d2cli.engine.threads import Progress
from d2cli.evaluation.coverage import Coverage, nearest_selected
from d2cli.evaluation.redundancy import Redundancy, nearest_other, redundancy_threshold
from d2cli.evaluation.selections import sample_rows
from d2cli.files.sources import Source, blame, in_order
from d2cli.graph.vectors import prepare


@dataclass(frozen=True)
class Spread:
    """Coverage and redundancy of a selection.

    Attributes:
        distances, nearest: (m,) float32 and (m,) int32, the distance from each measured row to its
            nearest selected row, and that row.
    """

    coverage: Coverage
    redundancy: Redundancy
    distances: NDArray[np.float32]
    nearest: NDArray[np.int32]


class Ruler:
    """Measures selections of one set of vectors.

    Attributes:
        vectors: (n, d) prepared, so that distance is Euclidean with every metric.
        rows: (m,) int64, the rows whose distances are measured: a sample of at most `most`.
        threshold: the distance up to which a selected row is redundant.
    """

    def __init__(self, vectors: NDArray[np.floating], most: int, seed: int, threads: int) -> None:
        self.vectors, self.most, self.seed, self.threads = vectors, most, seed, threads
        self.rows = sample_rows(vectors.shape[0], most, seed)
        self.threshold = redundancy_threshold(
            vectors, metric="euclidean", rows=self.rows, threads=threads
        )

    def measure(self, selected: NDArray[np.int64]) -> Spread:
        """The spread of the `selected` rows (N,)."""
        distances, nearest = nearest_selected(
            self.vectors, selected, metric="euclidean", rows=self.rows, threads=self.threads
        )
        some = selected[sample_rows(selected.size, self.most, self.seed)]
        others = nearest_other(
            self.vectors, selected, metric="euclidean", rows=some, threads=self.threads
        )
        redundancy = Redundancy.of(others, self.threshold)
        return Spread(Coverage.of(distances), redundancy, distances, nearest)


def vectors_of(
    emb: Source,
    metric: Metric,
    threads: int,
    progress: Progress,
    rows: NDArray[np.int64] | None = None,
) -> NDArray[np.floating]:
    """The embeddings, or some `rows`, prepared for :class:`Ruler`; errors name the file."""
    with blame(embeddings=in_order(emb, rows)):
        return prepare(emb.rows_of_matrix(rows), metric, threads=threads, progress=progress)
