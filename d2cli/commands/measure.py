"""Distances of selections, measured for ``report`` and ``compare`` on the same sample of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Metric
from d2cli.engine.threads import Progress
from d2cli.evaluation.coverage import Coverage, nearest_selected
from d2cli.evaluation.redundancy import Redundancy, nearest_other, redundancy_threshold
from d2cli.evaluation.selections import sample_rows
from d2cli.files.sources import Source, blame
from d2cli.graph.vectors import prepare


@dataclass(frozen=True)
class Spread:
    """How one selection lies among all rows.

    Attributes:
        distances: (m,) float32, from each measured row to its nearest selected row.
        nearest: (m,) int32, that selected row.
    """

    coverage: Coverage
    redundancy: Redundancy
    distances: NDArray[np.float32]
    nearest: NDArray[np.int32]


class Ruler:
    """Measures selections of one set of vectors.

    Attributes:
        vectors: (n, d) as :func:`~d2cli.graph.vectors.prepare` returns them, so that distance is
            Euclidean whatever the metric.
        rows: (m,) int64, the rows on which distances are measured: all, or a sample.
        threshold: the distance below which a selected row is redundant.
    """

    def __init__(
        self, vectors: NDArray[np.floating], measured_rows: int, seed: int, threads: int
    ) -> None:
        self.vectors, self.threads = vectors, threads
        self.most, self.seed = measured_rows, seed
        self.rows = sample_rows(vectors.shape[0], measured_rows, seed)
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
    emb: Source, metric: Metric, threads: int, progress: Progress
) -> NDArray[np.floating]:
    """The embeddings as distances are measured on them; errors name the file."""
    with blame(embeddings=emb):
        return prepare(emb.matrix(), metric, threads=threads, progress=progress)
