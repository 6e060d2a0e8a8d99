"""The methods that ``compare`` sets side by side, each by the name that the command line has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from d2cli import baselines
from d2cli.api import own_scores, prepare_edges, propagate, select
from d2cli.commands.requests import CompareOptions
from d2cli.defaults import CompareMethod
from d2cli.engine.threads import Progress
from d2cli.graph.knn_graph import KnnGraph
from d2cli.selection.greedy import Selection

Rows = NDArray[np.int64]


@dataclass
class Data:
    """What the methods look at.

    Attributes:
        vectors: (n, d) as :func:`~d2cli.graph.vectors.prepare` returns them, so that distance
            is Euclidean whatever the metric.
        scores: (n,) float64 at least 0, higher = more wanted.
        codes: (n,) class numbers, or None.
        graph: the kNN graph of all rows.
        better: whether a high score says that a row is good: then D2 has no cutoff.
    """

    vectors: NDArray[np.floating]
    scores: NDArray[np.float64]
    codes: NDArray[np.int64] | None
    graph: KnnGraph
    better: bool = False


class Chooser:
    """Selections by every method, what serves several budgets made once."""

    def __init__(
        self, data: Data, options: CompareOptions, seed: int, threads: int, progress: Progress
    ) -> None:
        self.data, self.options, self.seed = data, options, seed
        self.threads, self.progress = threads, progress
        #: What D2 did, by size.
        self.d2_runs: dict[int, Selection] = {}
        self._nested: dict[str, Rows] = {}
        self.edges, self.sigma = prepare_edges(data.graph)
        self.propagated = propagate(
            self.edges, data.scores, bandwidth=self.sigma, threads=threads, progress=progress
        )
        self.difficulty = own_scores(
            self.edges, self.propagated, bandwidth=self.sigma, threads=threads
        )

    def select(self, method: CompareMethod, size: int, most: int) -> Rows:
        """(size,) rows; `most` is the largest size that will be asked for."""
        if method == "d2":
            self.d2_runs[size] = select(
                self.edges,
                self.propagated,
                size,
                bandwidth=self.sigma,
                gamma_reverse=self.options.gamma_reverse,
                difficulty=None if self.data.better else self.difficulty,
                progress=self.progress,
            )
            return self.d2_runs[size].order
        if method == "ccs":
            options = self.options
            return baselines.coverage_centric(
                self.data.scores, size, options.cutoff, strata=options.strata, seed=self.seed
            )
        if method not in self._nested:
            self._nested[method] = self._orders[method](self, most)
        return self._nested[method][:size]

    def _random(self, size: int) -> Rows:
        return baselines.random_rows(self.data.scores.size, size, seed=self.seed)

    def _highest(self, size: int) -> Rows:
        return baselines.highest(self.data.scores, size)

    def _cutoff(self, size: int) -> Rows:
        return baselines.highest_after_cutoff(self.data.scores, size, self.options.cutoff)

    def _moderate(self, size: int) -> Rows:
        return baselines.moderate(self.data.vectors, size, self.data.codes)

    def _k_center(self, size: int) -> Rows:
        return baselines.k_center(
            self.data.vectors, size, threads=self.threads, progress=self.progress
        )

    def _facility_location(self, size: int) -> Rows:
        return baselines.facility_location(self.data.graph, size)

    def _near_duplicates(self, size: int) -> Rows:
        return baselines.near_duplicates(self.data.graph, size, seed=self.seed)

    #: Their selection for a small budget is the beginning of that for a large one.
    _orders: ClassVar[dict[str, Callable[[Chooser, int], Rows]]] = {
        "random": _random,
        "highest": _highest,
        "cutoff": _cutoff,
        "moderate": _moderate,
        "k-center": _k_center,
        "facility-location": _facility_location,
        "near-duplicates": _near_duplicates,
    }
