"""The methods that ``compare`` runs, by their names on the command line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.api import own_scores, prepare_edges, propagate, select
from d2cli.baselines.by_score import coverage_centric, highest, highest_after_cutoff
from d2cli.baselines.on_embeddings import k_center, moderate
from d2cli.baselines.on_graph import facility_location, near_duplicates
from d2cli.commands.compare.inputs import CompareData, CompareJob
from d2cli.defaults import CompareMethod
from d2cli.engine.threads import Progress
from d2cli.evaluation.selections import random_rows
from d2cli.graph.knn_graph import KnnGraph
from d2cli.selection.greedy import Selection

Rows = NDArray[np.int64]


class Chooser:
    """Selects by every method; graph, messages and nested selections are computed once.

    Attributes:
        d2_runs: the selections of D2, by size.
    """

    def __init__(
        self,
        job: CompareJob, data: CompareData, vectors: NDArray[np.floating], graph: KnnGraph,
        progress: Progress,
    ) -> None:  # fmt: skip
        """`vectors` (n, d) are prepared, as in :class:`~d2cli.commands.measure.Ruler`."""
        self.options, self.seed, self.threads = job.options, job.graph.seed, job.threads
        self.scores, self.codes = data.scores.utility, data.codes
        self.vectors, self.graph, self.progress = vectors, graph, progress
        self.d2_runs: dict[int, Selection] = {}
        self._nested: dict[str, Rows] = {}
        self.edges, self.sigma = prepare_edges(graph)
        hops = job.messages.hops
        self.propagated = propagate(
            self.edges, self.scores, bandwidth=self.sigma, hops=hops, threads=job.threads,
            progress=progress,
        )  # fmt: skip
        self.own = self.difficulty = None
        if job.needs_own_scores:
            self.own = own_scores(
                self.edges, self.propagated, bandwidth=self.sigma, hops=hops, threads=job.threads
            )
        if job.cuts:
            self.difficulty = self.own

    def select(self, method: CompareMethod, size: int, most: int) -> Rows:
        """Select (size,) rows; `most` is the largest budget."""
        if method == "d2":
            self.d2_runs[size] = select(
                self.edges, self.propagated, size,
                bandwidth=self.sigma, gamma_reverse=self.options.gamma_reverse,
                keep_lift=self.options.keep_lift, scores=self.own,
                difficulty=self.difficulty, progress=self.progress,
            )  # fmt: skip
            return self.d2_runs[size].order
        if method == "ccs":
            return coverage_centric(
                self.scores, size, self.options.cutoff, strata=self.options.strata, seed=self.seed
            )
        # The selection of another method for a small budget is a prefix of that for a large one.
        if method not in self._nested:
            self._nested[method] = self._nested_rows(method, most)
        return self._nested[method][:size]

    def _nested_rows(self, method: CompareMethod, size: int) -> Rows:
        match method:
            case "random":
                return random_rows(self.scores.size, size, seed=self.seed)
            case "highest":
                return highest(self.scores, size)
            case "cutoff":
                return highest_after_cutoff(self.scores, size, self.options.cutoff)
            case "moderate":
                return moderate(self.vectors, size, self.codes)
            case "k-center":
                return k_center(self.vectors, size, threads=self.threads, progress=self.progress)
            case "facility-location":
                return facility_location(self.graph, size)
            case "near-duplicates":
                return near_duplicates(self.graph, size, seed=self.seed)
        raise AssertionError(method)
