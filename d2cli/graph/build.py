"""``build_graph``: which rows search among which, by which method, and how well it went."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from d2cli import defaults
from d2cli.defaults import EXACT_UP_TO, Method, Metric
from d2cli.engine.checkpoints import NONE, Checkpoint, as_bytes, from_bytes
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.errors import DataError
from d2cli.graph.duplicates import find_copies, spread
from d2cli.graph.exact.search import exact_neighbors
from d2cli.graph.hnsw import hnsw_neighbors
from d2cli.graph.ivf.search import ivf_neighbors
from d2cli.graph.knn_graph import BuildInfo, KnnGraph
from d2cli.graph.recall import Truth, sample_rows
from d2cli.graph.vectors import Group, prepare
from d2cli.limits import check_neighbors, check_search

#: Random rows to aim with, and others on which the recall is measured.
AIM_SAMPLE, RECALL_SAMPLE = 256, 256


def build_graph(
    embeddings: NDArray[np.floating],
    n_neighbors: int = defaults.N_NEIGHBORS,
    *,
    metric: Metric = defaults.METRIC,
    method: Method = defaults.METHOD,
    recall: float = defaults.RECALL,
    hnsw_m: int = defaults.HNSW_M,
    ef_construction: int = defaults.EF_CONSTRUCTION,
    ef: int | None = None,
    within: ArrayLike | None = None,
    exclude: NDArray[np.bool_] | None = None,
    threads: int | None = None,
    seed: int = defaults.SEED,
    progress: Progress = silent,
    checkpoint: Checkpoint = NONE,
) -> KnnGraph:
    """The k nearest neighbours of every embedding.

    Args:
        embeddings: (n, d) float16, float32 or float64, finite; may be memory-mapped; not changed.
        n_neighbors: k >= 1; where fewer rows can be listed, places stay empty.
        metric: ``euclidean``, or ``cosine``: Euclidean distance between unit vectors.
        method: ``exact``; ``ivf``: cells and links between neighbours, the quick one for many
            rows; ``hnsw``: one plain HNSW index; ``auto``: exact up to 20,000 rows, then ivf.
        recall: the recall@k to aim at with an approximate method, 0 < recall <= 1.
        hnsw_m, ef_construction: HNSW's M and ef_construction.
        ef: HNSW's search width; where None it is raised until a sample reaches `recall`.
        within: (n,) labels; neighbours are then looked for only inside the same label.
        exclude: (n,) bool; these rows list nobody and nobody lists them.
        threads: how many to use (default: every core); the result does not depend on it.
        seed: of the sample and of the index.
        progress: called with the stage, and how many rows are done of how many.
        checkpoint: keeps what is done, and has what was done before; the result is the same.

    Returns:
        The graph. ``info.recall`` is the recall@k measured on a random sample, which was not
        used for aiming; None if every search was exact.

    Raises:
        DataError: for embeddings that cannot be used, naming the row.
        UsageError: for an option out of range.
    """
    threads = thread_count(threads)
    check_search(n_neighbors, method, recall, hnsw_m, ef_construction, ef, seed)
    embeddings = np.asanyarray(embeddings)  # a memory map stays one
    exclude = None if exclude is None else np.asarray(exclude)
    vectors = prepare(embeddings, metric, threads=threads, progress=progress)
    n = vectors.shape[0]
    check_neighbors(n_neighbors, n)
    searcher = _Searcher(
        n_neighbors, method, recall, hnsw_m, ef_construction, ef, threads, seed, progress
    )
    parts = _parts(n, within, exclude)
    if parts is None:
        neighbors, distances = searcher(Group(vectors), checkpoint)
    else:
        neighbors = np.full((n, n_neighbors), -1, np.int32)
        distances = np.full((n, n_neighbors), np.inf, np.float32)
        begin = 0
        if (state := checkpoint.load("parts")) is not None:
            begin, neighbors, distances = int(state["done"]), state["neighbors"], state["distances"]
            searcher.remember(state["tallies"])
        for part, rows in enumerate(parts[begin:], begin):
            found = searcher(Group(vectors, rows), checkpoint.of_part(part))
            neighbors[rows], distances[rows] = found
            done = {"done": np.int64(part + 1), "tallies": searcher.tallies()}
            checkpoint.save("parts", partial(dict, done, neighbors=neighbors, distances=distances))
    excluded = None if exclude is None else exclude.copy()
    info = BuildInfo(
        metric=metric,
        method="+".join(sorted(searcher.methods)) or "exact",
        seed=seed,
        recall=searcher.recall_reached(),
        recall_target=recall if searcher.sampled else None,
        recall_sample=searcher.sampled,
        settings=searcher.settings,
    )
    return KnnGraph(neighbors, distances, excluded, info)


def _parts(
    n: int, within: ArrayLike | None, exclude: NDArray[np.bool_] | None
) -> list[NDArray[np.int64]] | None:
    """The groups of rows that search among themselves; None: all rows are one group."""
    if within is None and exclude is None:
        return None
    labels = np.zeros(n, np.int64) if within is None else np.asarray(within)
    if labels.shape != (n,):
        raise DataError(f"labels must be ({n},), not {labels.shape}", argument="within")
    _, group = np.unique(labels, return_inverse=True)
    if exclude is not None:
        if exclude.shape != (n,) or exclude.dtype != np.bool_:
            raise DataError(f"exclude must be ({n},) bool", argument="exclude")
        group = np.where(exclude, -1, group)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    return [rows for rows in np.split(order, starts)[1:] if rows.size]


@dataclass
class _Searcher:
    """Searches one group of rows after another, and adds up how well it went."""

    n_neighbors: int
    method: Method
    recall: float
    hnsw_m: int
    ef_construction: int
    ef: int | None
    threads: int
    seed: int
    progress: Progress
    methods: set[str] = field(default_factory=set)
    settings: dict[str, object] = field(default_factory=dict)
    sampled: int = 0
    _recalled: float = 0.0

    def __call__(
        self, group: Group, checkpoint: Checkpoint
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """The lists of one group, as rows."""
        copies = find_copies(group, self.threads)
        if copies is None:
            return self._distinct(group, checkpoint)
        distinct = group.part(copies.first)
        neighbors, distances = self._distinct(distinct, checkpoint)
        neighbors, distances = spread(copies, distinct.number(neighbors), distances)
        return group.listed(neighbors), distances

    def _distinct(
        self, group: Group, checkpoint: Checkpoint
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        n, k = len(group), self.n_neighbors
        method = self.method
        if method == "auto":
            method = "exact" if n <= EXACT_UP_TO else "ivf"
        if method == "exact" or n <= k + 1:
            self.methods.add("exact")
            return exact_neighbors(
                group, k, threads=self.threads, progress=self.progress, checkpoint=checkpoint
            )
        self.methods.add(method)
        aim, judge = sample_rows(n, AIM_SAMPLE, RECALL_SAMPLE, self.seed)
        rows = np.concatenate([aim, judge])
        truth = Truth.of(group, k, rows, self.threads, self.progress)
        search = partial(ivf_neighbors, group, k)
        if method == "hnsw":
            search = partial(
                hnsw_neighbors,
                group,
                k,
                m=self.hnsw_m,
                ef_construction=self.ef_construction,
                ef=self.ef,
            )
        neighbors, distances, settings = search(
            recall=self.recall,
            truth=truth.part(0, aim.size),
            seed=self.seed,
            threads=self.threads,
            progress=self.progress,
            checkpoint=checkpoint,
        )
        # Of several groups each has settings of its own; those of the last would mislead.
        self.settings = settings if not self.sampled else {}
        reached = truth.part(aim.size, rows.size).recall(distances[judge])
        self.sampled += judge.size
        self._recalled += reached * judge.size
        return neighbors, distances

    def tallies(self) -> NDArray[np.uint8]:
        """All that is added up, as bytes."""
        values = [sorted(self.methods), self.settings, self.sampled, self._recalled]
        return as_bytes(values)

    def remember(self, tallies: NDArray[np.uint8]) -> None:
        """Go on from what :meth:`tallies` said."""
        methods, self.settings, self.sampled, self._recalled = from_bytes(tallies)
        self.methods = set(methods)

    def recall_reached(self) -> float | None:
        """recall@k over all groups that were searched approximately."""
        return self._recalled / self.sampled if self.sampled else None
