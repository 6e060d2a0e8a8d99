"""``build_graph``: choose the groups and the method, search, measure the recall.

The only module of this room that others import to build a graph.
"""

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from d2cli import defaults
from d2cli.defaults import Method, Metric
from d2cli.engine.checkpoints import NONE, Checkpoint, as_bytes, from_bytes
from d2cli.engine.rows import RowReader
from d2cli.engine.store import PartStore
from d2cli.engine.tasks import Engine
from d2cli.engine.threads import Progress, silent, thread_count
from d2cli.errors import DataError
from d2cli.graph.blocks.neighbors import block_neighbors
from d2cli.graph.blocks.ranked import Held, Ranked
from d2cli.graph.blocks.sizes import truth_size
from d2cli.graph.duplicates import Spread, find_duplicates
from d2cli.graph.exact.search import exact_neighbors
from d2cli.graph.hnsw import hnsw_neighbors
from d2cli.graph.knn_graph import BuildInfo, KnnGraph
from d2cli.graph.lists import NeighborLists, RangedLists
from d2cli.graph.recall import Truth, sample_rows
from d2cli.graph.settings import SearchSettings
from d2cli.graph.sizes import AIM_SAMPLE, RECALL_SAMPLE
from d2cli.graph.vectors import Group, Vectors, prepare, prepare_read
from d2cli.limits import check_neighbors, check_search
from d2cli.runtime.arrays import Bools, Float32, Floats, Int32, Int64
from d2cli.runtime.decisions import Decision

#: Rows of a group whose lists are copied to those of all rows at a time.
_COPIED = 1 << 17


def build_graph(
    embeddings: Floats,
    n_neighbors: int = defaults.N_NEIGHBORS,
    *,
    metric: Metric = defaults.METRIC,
    method: Method = defaults.METHOD,
    recall: float = defaults.RECALL,
    hnsw_m: int = defaults.HNSW_M,
    ef_construction: int = defaults.EF_CONSTRUCTION,
    ef: int | None = None,
    within: ArrayLike | None = None,
    exclude: Bools | None = None,
    threads: int | None = None,
    seed: int = defaults.SEED,
    progress: Progress = silent,
    checkpoint: Checkpoint = NONE,
) -> KnnGraph:
    """The k nearest neighbours of every embedding.

    Args:
        embeddings: (n, d) float16, float32 or float64, finite; may be memory-mapped; not changed.
        n_neighbors: k >= 1. A row with fewer possible neighbours keeps empty places.
        metric: ``euclidean``, or ``cosine``: Euclidean distance between unit vectors.
        method: ``exact``; ``blocks``: int8 codes in small blocks, fast for many rows;
            ``hnsw``: one HNSW index; ``auto``: exact up to 20,000 rows, then blocks.
        recall: the recall@k that an approximate method aims at, 0 < recall <= 1.
        hnsw_m, ef_construction: M and ef_construction of HNSW.
        ef: width of the search list of HNSW; None: it is doubled until a sample reaches `recall`.
        within: (n,) labels; neighbours are searched only within the same label.
        exclude: (n,) bool; excluded rows have no neighbours and are not listed.
        threads: number of threads (default: every core). The result does not depend on it.
        seed: seed of the samples and of the index.
        progress: called as ``progress(stage, rows done, rows in all)``.
        checkpoint: stores finished work and returns that of an earlier run of the same build.

    Returns:
        The graph. ``info.recall`` is the recall@k on a random sample that was not used for tuning;
        None if every search was exact. ``info.decisions`` lists the automatic choices.

    Raises:
        DataError: for embeddings that cannot be used, naming the row.
        UsageError: for an option out of range.
    """
    threads = thread_count(threads)
    check_search(n_neighbors, method, recall, hnsw_m, ef_construction, ef, seed)
    settings = SearchSettings(
        n_neighbors, metric, method, recall, hnsw_m, ef_construction, ef, threads, seed=seed
    )
    embeddings = np.asanyarray(embeddings)  # a memory map stays one
    exclude = None if exclude is None else np.array(exclude)
    skip = _skipped(embeddings.shape, exclude)
    vectors = prepare(embeddings, metric, skip=skip, threads=threads, progress=progress)
    search = _GroupSearch(settings, Engine(threads), progress)
    neighbors, distances = _search_all(search, vectors, within, exclude, checkpoint)
    return KnnGraph(neighbors, distances, exclude, search.tally.info(settings))


def build_lists(
    reader: RowReader,
    settings: SearchSettings,
    *,
    within: ArrayLike | None = None,
    exclude: Bools | None = None,
    progress: Progress = silent,
    checkpoint: Checkpoint = NONE,
    engine: Engine | None = None,
) -> NeighborLists:
    """As :func:`build_graph`, of rows that are read when they are needed.

    The search keeps its parts in the store of `checkpoint`, and what is returned reads them there.
    The lists are in memory if rows are searched in groups, because of `within` or `exclude`. They
    are those of :func:`build_graph`.

    Tasks run on `engine`; None: one for ``settings.threads`` threads. The room of the store is that
    of one task: the memory of a machine, less what other processes need, divided by the tasks that
    run on it at a time. If tasks do not see the memory of this process, the store must keep parts
    where all see them, and reader and store are copied.
    """
    engine = Engine(settings.threads) if engine is None else engine
    exclude = None if exclude is None else np.array(exclude)
    skip = _skipped(reader.shape, exclude)
    told = _told_by_tasks(engine, checkpoint)
    vectors = prepare_read(reader, settings.metric, engine, told, skip=skip, progress=progress)
    search, (n, _) = _GroupSearch(settings, engine, progress), reader.shape
    if within is None and exclude is None:
        check_neighbors(settings.n_neighbors, n)
        found = search(Group(vectors), checkpoint)
        info = search.tally.info(settings)
        return RangedLists(n, settings.n_neighbors, None, found.rows, info)
    neighbors, distances = _search_all(search, vectors, within, exclude, checkpoint)
    return KnnGraph(neighbors, distances, exclude, search.tally.info(settings))


def _told_by_tasks(engine: Engine, checkpoint: Checkpoint) -> PartStore:
    """Where tasks before a search put the little that they find out."""
    return PartStore() if engine.shared else checkpoint.store().child("told")


def _skipped(shape: tuple[int, ...], exclude: Bools | None) -> Bools | None:
    """Rows that are not looked at; none if `exclude` is not (n,), which is refused later."""
    fits = exclude is not None and exclude.shape == shape[:1]
    return exclude if fits else None


def _search_all(
    search: "_GroupSearch", vectors: Vectors, within: ArrayLike | None, exclude: Bools | None,
    checkpoint: Checkpoint,
) -> tuple[Int32, Float32]:  # fmt: skip
    """Neighbours and distances (n, k) of all rows, group by group."""
    n, k = len(vectors), search.settings.n_neighbors
    check_neighbors(k, n)
    groups = _rows_of_groups(n, within, exclude)
    if groups is None:
        return search(Group(vectors), checkpoint).rows(0, n)
    neighbors, distances = np.full((n, k), -1, np.int32), np.full((n, k), np.inf, np.float32)
    begin = 0
    if (state := checkpoint.load("parts")) is not None:
        begin, neighbors, distances = int(state["done"]), state["neighbors"], state["distances"]
        search.tally = _Tally(**from_bytes(state["tally"]))
    for part, rows in enumerate(groups[begin:], begin):
        of_part, group = checkpoint.of_part(part), Group(vectors, rows)
        found = search(group, of_part)
        for start in range(0, len(rows), _COPIED):
            some = rows[start : start + _COPIED]
            near, distances[some] = found.rows(start, start + len(some))
            neighbors[some] = group.listed(near)
        done = {"done": np.int64(part + 1), "tally": as_bytes(asdict(search.tally))}
        # The store of a part stays: the lists may not be saved now.
        checkpoint.save("parts", partial(dict, done, neighbors=neighbors, distances=distances))
    return neighbors, distances


def _rows_of_groups(n: int, within: ArrayLike | None, exclude: Bools | None) -> list[Int64] | None:
    """The rows of each group, ascending; None if all rows are one group."""
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
class _Tally:
    """Totals over the groups searched so far."""

    methods: set[str] = field(default_factory=set)
    groups: int = 0
    rows: int = 0
    duplicates: int = 0  # rows that equal a lower row of their group
    largest_group: int = 0  # the most distinct rows in one group
    sampled: int = 0  # rows on which recall was measured
    recalled: float = 0.0  # the sum of recall · rows over these
    approximate: int = 0  # approximate searches
    decisions: tuple[dict[str, Any], ...] = ()  # of the last approximate search, as JSON

    def info(self, settings: SearchSettings) -> BuildInfo:
        """How the graph was built, once all groups are searched."""
        methods = "+".join(sorted(self.methods)) or "exact"
        one = self.approximate == 1  # the decisions of one group out of several would mislead
        decisions = tuple(Decision(**values) for values in self.decisions) if one else ()
        options = ("hnsw_m", "ef_construction", "ef") if one and "hnsw" in self.methods else ()
        used = {name: getattr(settings, name) for name in options}
        used |= {decision.name: decision.value for decision in decisions}
        if methods != settings.method:
            totals = ("rows", "groups", "duplicates", "largest_group")
            numbers = {name: getattr(self, name) for name in totals} | {"k": settings.n_neighbors}
            decisions = (Decision("method", methods, settings.method_rule, numbers), *decisions)
        reached = self.recalled / self.sampled if self.sampled else None
        target = settings.recall if self.sampled else None
        return BuildInfo(
            settings.metric, methods, settings.seed, reached, target, self.sampled, used, decisions
        )


class _GroupSearch:
    """Searches one group of rows after another and keeps totals."""

    def __init__(self, settings: SearchSettings, engine: Engine, progress: Progress) -> None:
        self.settings, self.engine, self.progress = settings, engine, progress
        self.tally = _Tally()

    def __call__(self, group: Group, checkpoint: Checkpoint) -> Ranked:
        """The lists of one group."""
        told = _told_by_tasks(self.engine, checkpoint)
        duplicates = find_duplicates(group, self.engine, told)
        self.tally.groups += 1
        self.tally.rows += len(group)
        if duplicates is None:
            return self._search_distinct(group, checkpoint)
        distinct = Group(group.vectors, group.rows_at(duplicates.first))
        self.tally.duplicates += len(group) - len(distinct)
        return Spread(duplicates, self._search_distinct(distinct, checkpoint))

    def _search_distinct(self, group: Group, checkpoint: Checkpoint) -> Ranked:
        n, tally, settings, progress = len(group), self.tally, self.settings, self.progress
        k, threads = settings.n_neighbors, settings.threads
        method = settings.method_for(n)
        tally.methods.add(method)
        tally.largest_group = max(tally.largest_group, n)
        if method != "blocks":
            group = _in_memory(group, checkpoint.store().room)
        if method == "exact":
            neighbors, distances = exact_neighbors(
                group, k, threads=threads, progress=progress, checkpoint=checkpoint
            )
            return Held(group.number(neighbors), distances)
        aim, judge = sample_rows(n, AIM_SAMPLE, RECALL_SAMPLE, settings.seed)
        found: Ranked
        if method == "blocks":
            # The search that tunes itself by more than the k nearest gets more of them.
            truth = self._truth(group, truth_size(k, n), np.concatenate([aim, judge]), checkpoint)
            found, decisions = block_neighbors(
                group, settings, truth.some(slice(aim.size)), progress, checkpoint, self.engine
            )
        else:
            truth = Truth.of(group, k, np.concatenate([aim, judge]), threads, progress)
            neighbors, distances, decisions = hnsw_neighbors(
                group, settings, truth.some(slice(aim.size)), progress, checkpoint
            )
            found = Held(group.number(neighbors), distances)
        tally.decisions = tuple(decision.as_json() for decision in decisions)
        judging = truth.first(k).some(slice(aim.size, None))
        reached = judging.recall(found.take(judge)[1])
        tally.approximate += 1
        tally.sampled += judge.size
        tally.recalled += reached * judge.size
        return found

    def _truth(self, group: Group, k: int, rows: Int64, checkpoint: Checkpoint) -> Truth:
        """The nearest neighbours of a sample, once for all runs of a build."""
        store = checkpoint.store()
        if store.has("truth"):
            return Truth(**store.whole("truth"))
        if store.room is None:
            truth = Truth.of(group, k, rows, self.settings.threads, self.progress)
        else:
            truth = Truth.in_spans(group, k, rows, self.engine, store, self.progress)
        store.put("truth", **truth._asdict())
        return truth


def _in_memory(group: Group, room: int | None) -> Group:
    """A group whose vectors are an array if that fits; otherwise they are read again and again."""
    if isinstance(group.vectors, np.ndarray) or room is None:
        return group
    size = len(group) * group.vectors.shape[1] * group.vectors.itemsize
    return Group(group.block(0, len(group))) if 3 * size <= room else group
