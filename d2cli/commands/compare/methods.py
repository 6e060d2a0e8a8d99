"""The methods that ``compare`` runs, by their names on the command line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli.api import own_scores, prepare_edges, propagate, select
from d2cli.baselines.by_score import coverage_centric, dual_sampling, highest, highest_after_cutoff
from d2cli.baselines.in_planes import zcore
from d2cli.baselines.on_embeddings import k_center, moderate
from d2cli.baselines.on_graph import (
    d2_paper,
    facility_location,
    near_duplicates,
    semdedup_then_score,
)
from d2cli.baselines.pairwise import graph_cut, infomax
from d2cli.baselines.sizes import NOT_NESTED
from d2cli.commands.compare.inputs import CompareData, CompareJob
from d2cli.commands.propagate.run import VANISHED_NOTICE
from d2cli.commands.settle import scores_for_rule
from d2cli.defaults import MODES, CompareMethod
from d2cli.engine.threads import Progress
from d2cli.evaluation.selections import random_rows
from d2cli.graph.knn_graph import Edges, KnnGraph
from d2cli.messages.forward import resolve_bandwidth, vanished_share
from d2cli.selection.greedy import Selection

Rows = NDArray[np.int64]


class Chooser:
    """Selects by every method; graph, messages and nested selections are computed once.

    Attributes:
        d2_runs: the selections of D2, by size.
        notices: what the user should know about the methods.
    """

    def __init__(
        self,
        job: CompareJob, data: CompareData, vectors: NDArray[np.floating], graph: KnnGraph,
        progress: Progress,
    ) -> None:  # fmt: skip
        """`vectors` (n, d) are prepared, as in :class:`~d2cli.commands.measure.Ruler`."""
        self.options, self.seed, self.threads = job.options, job.graph.seed, job.threads
        self.scores, self.codes = data.scores.utility, data.codes
        self.confidence = data.confidence
        self.vectors, self.graph, self.progress = vectors, graph, progress
        self.d2_runs: dict[int, Selection] = {}
        self.notices: list[str] = []
        self._nested: dict[str, Rows] = {}
        edges, self.sigma = prepare_edges(graph)
        assert isinstance(edges, Edges)  # they are in memory without a limit
        self.edges = edges
        hops = job.messages.hops
        self.propagated = propagate(
            self.edges, self.scores, bandwidth=self.sigma, hops=hops, threads=job.threads,
            progress=progress,
        )  # fmt: skip
        self.cutoff = job.cutoff
        self.own = self.difficulty = None
        if job.needs_own_scores:
            self.difficulty = own_scores(
                self.edges, self.propagated, bandwidth=self.sigma, hops=hops, threads=job.threads
            )
            self.own = scores_for_rule(self.difficulty, self.options.keep_lift, job.messages)

    def select(self, method: CompareMethod, size: int, most: int) -> Rows:
        """Select (size,) rows; `most` is the largest budget."""
        if method == "d2":
            self.d2_runs[size] = select(
                self.edges, self.propagated, size,
                bandwidth=self.sigma, gamma_reverse=self.options.gamma_reverse,
                keep_lift=self.options.keep_lift, scores=self.own,
                difficulty=self.difficulty, cutoff=self.cutoff,
                progress=self.progress,
            )  # fmt: skip
            return self.d2_runs[size].order
        if method in NOT_NESTED:
            return self._rows(method, size)
        # The selection for a small budget is a prefix of that for a large one.
        if method not in self._nested:
            self._nested[method] = self._rows(method, most)
        return self._nested[method][:size]

    def _rows(self, method: CompareMethod, size: int) -> Rows:
        options = self.options
        match method:
            case "d2-paper":
                return self._d2_paper(size)
            case "random":
                return random_rows(self.scores.size, size, seed=self.seed)
            case "highest":
                return highest(self.scores, size)
            case "cutoff":
                return highest_after_cutoff(self.scores, size, options.cutoff)
            case "ccs":
                return coverage_centric(
                    self.scores, size, options.cutoff, strata=options.strata, seed=self.seed
                )
            case "dual-sampling":
                assert self.confidence is not None
                return dual_sampling(self.scores, self.confidence, size, seed=self.seed)
            case "moderate":
                return moderate(self.vectors, size, self.codes)
            case "k-center":
                return k_center(self.vectors, size, threads=self.threads, progress=self.progress)
            case "facility-location":
                return facility_location(self.edges, size, bandwidth=self.sigma)
            case "graph-cut":
                return graph_cut(
                    self.edges, self.scores, size, alpha=options.alpha, bandwidth=self.sigma
                )
            case "infomax":
                return infomax(
                    self.edges, self.scores, size, alpha=options.alpha, bandwidth=self.sigma,
                    threads=self.threads, progress=self.progress,
                )  # fmt: skip
            case "near-duplicates":
                return near_duplicates(self.graph, size, seed=self.seed)
            case "semdedup-then-score":
                return semdedup_then_score(self.graph, self.scores, size, lift=options.dedup_lift)
            case "zcore":
                return zcore(
                    self.vectors, size, seed=self.seed, threads=self.threads,
                    progress=self.progress,
                )  # fmt: skip
        raise AssertionError(method)

    def _d2_paper(self, size: int) -> Rows:
        paper = MODES["paper"]
        sigma = resolve_bandwidth(self.edges, paper.bandwidth)
        vanished = vanished_share(self.edges, paper.kernel, paper.gamma_forward, sigma)
        if vanished > VANISHED_NOTICE:
            self.notices.append(
                f"d2-paper: {vanished:.0%} of the edge weights are below 2^-53 at γ_f = 1 with raw "
                "distances: their messages vanish"
            )
        return d2_paper(
            self.edges, self.scores, size, gamma_reverse=self.options.paper_gamma_reverse,
            threads=self.threads, progress=self.progress,
        )  # fmt: skip
