"""The methods that ``compare`` runs, each by the name that the command line has."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from d2cli.api import own_scores, prepare_edges, propagate, select
from d2cli.baselines.by_score import coverage_centric, highest, highest_after_cutoff
from d2cli.baselines.class_centres import moderate
from d2cli.baselines.farthest_first import k_center
from d2cli.baselines.on_graph import facility_location, near_duplicates
from d2cli.commands.compare.inputs import CompareData, CompareJob
from d2cli.defaults import CompareMethod
from d2cli.engine.threads import Progress
from d2cli.evaluation.selections import random_rows
from d2cli.graph.knn_graph import KnnGraph
from d2cli.selection.greedy import Selection

Rows = NDArray[np.int64]


class Chooser:
    """Selections by every method; what serves several budgets is computed once.

    Attributes:
        d2_runs: the selections of D2, by size.
    """

    def __init__(
        self,
        job: CompareJob,
        data: CompareData,
        vectors: NDArray[np.floating],
        graph: KnnGraph,
        progress: Progress,
    ) -> None:
        """`vectors` (n, d) are prepared, so that distance is Euclidean whatever the metric."""
        self.options, self.seed, self.threads = job.options, job.graph.seed, job.threads
        self.scores, self.codes = data.scores.utility, data.codes
        self.vectors, self.graph, self.progress = vectors, graph, progress
        self.d2_runs: dict[int, Selection] = {}
        self._nested: dict[str, Rows] = {}
        self.edges, self.sigma = prepare_edges(graph)
        self.propagated = propagate(
            self.edges, self.scores, bandwidth=self.sigma, threads=job.threads, progress=progress
        )
        # A high score that means *good* is no reason to cut.
        self.difficulty = None
        if job.direction.higher_is != "better":
            self.difficulty = own_scores(
                self.edges, self.propagated, bandwidth=self.sigma, threads=job.threads
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
                difficulty=self.difficulty,
                progress=self.progress,
            )
            return self.d2_runs[size].order
        if method == "ccs":
            return coverage_centric(
                self.scores, size, self.options.cutoff, strata=self.options.strata, seed=self.seed
            )
        if method not in self._nested:
            self._nested[method] = self._orders[method](self, most)
        return self._nested[method][:size]

    def _random(self, size: int) -> Rows:
        return random_rows(self.scores.size, size, seed=self.seed)

    def _highest(self, size: int) -> Rows:
        return highest(self.scores, size)

    def _cutoff(self, size: int) -> Rows:
        return highest_after_cutoff(self.scores, size, self.options.cutoff)

    def _moderate(self, size: int) -> Rows:
        return moderate(self.vectors, size, self.codes)

    def _k_center(self, size: int) -> Rows:
        return k_center(self.vectors, size, threads=self.threads, progress=self.progress)

    def _facility_location(self, size: int) -> Rows:
        return facility_location(self.graph, size)

    def _near_duplicates(self, size: int) -> Rows:
        return near_duplicates(self.graph, size, seed=self.seed)

    #: The selection for a small budget is the beginning of that for a large one.
    _orders: ClassVar[dict[str, Callable[[Chooser, int], Rows]]] = {
        "random": _random,
        "highest": _highest,
        "cutoff": _cutoff,
        "moderate": _moderate,
        "k-center": _k_center,
        "facility-location": _facility_location,
        "near-duplicates": _near_duplicates,
    }
