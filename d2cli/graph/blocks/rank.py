"""The nearest of the candidates of all rows, by true distance.

If vectors are not in memory, a range of rows is, and all vectors are read past it once, in order:
nothing is read at random places, and no second copy of the vectors is needed.
"""

from __future__ import annotations

import threading
from functools import partial

import numpy as np

from d2cli.engine.threads import Progress, each, for_blocks
from d2cli.graph.blocks.ranked import Held, Ranked, Stored
from d2cli.graph.blocks.search import BlockSearch
from d2cli.graph.blocks.sizes import PART_ROWS, PASSING_NUMBERS, range_bytes
from d2cli.graph.distances import AHEAD, distance, keep, rerank
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Float32, Floats, Int32, Int64
from d2cli.runtime.jit import kernel
from d2cli.runtime.memory import release_freed
from d2cli.runtime.prefetch import prefetch_row

#: Rows ranked in one piece of work.
_RANKED = 2048
#: The shares of the room that a range of rows, and the vectors that pass it, may take.
_RANGE_SHARE, _PASSING_SHARE = 0.75, 0.15
#: Pairs of a row and a candidate that are collected before their distances are computed.
_COLLECTED = 512


def ranked(search: BlockSearch, k: int, progress: Progress) -> Ranked:
    """The k nearest of the candidates of every row, by true distance."""
    search.forget_votes()
    search.store.forget("met")
    if search.store.room is None:
        search.store.forget("blocks")  # files stay: a run that is continued begins with them
        return _ranked_in_memory(search, k, progress)
    return _ranked_in_ranges(search, k, search.store.room)


def _ranked_in_memory(search: BlockSearch, k: int, progress: Progress) -> Held:
    group, n = search.group, len(search.group)
    neighbors, distances = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    done = 0
    for g in range(search.layout.groups):
        mine = search.layout.numbers_of(g)
        rows, candidates = group.rows_at(mine).astype(np.int64), search.candidates(g)
        candidates = group.listed(candidates)
        found = np.empty((len(mine), k), np.int32), np.empty((len(mine), k), np.float32)
        rank = partial(_rank, group, rows, candidates, *found)
        for_blocks(rank, len(mine), _RANKED, search.threads)
        neighbors[mine], distances[mine] = found
        done += len(mine)
        progress("rank", done, n)
        search.store.drop(search.lists, g)
    return Held(group.number(neighbors), distances)


def _rank(
    group: Group, rows: Int64, candidates: Int32, neighbors: Int32, distances: Float32, start: int,
    stop: int,
) -> None:  # fmt: skip
    some = slice(start, stop)
    rerank(group.vectors, rows[some], candidates[some], neighbors[some], distances[some])


def _ranked_in_ranges(search: BlockSearch, k: int, room: int) -> Stored:
    n, (_, d), wide = len(search.group), search.group.vectors.shape, search.group.vectors.itemsize
    most = search.plan.list_size + (k if search.tight_count() else 0)
    step = int(_RANGE_SHARE * room / range_bytes(d, wide, most, k)) // PART_ROWS
    fits = int(_PASSING_SHARE * room / search.threads / (wide * d))
    passing = max(1, PASSING_NUMBERS // d, fits)
    parts = [part for part in range(-(-n // PART_ROWS)) if not search.store.has("ranked", part)]
    step = max(1, min(step, -(-len(parts) // search.engine.at_once)))
    # Each task ranks a run: parts may have been stored in any order.
    cuts = np.flatnonzero(np.diff(parts) > 1) + 1
    runs = [run.tolist() for run in np.split(np.array(parts, np.int64), cuts)]
    ranges = [
        (run[at] * PART_ROWS, min(n, (run[at : at + step][-1] + 1) * PART_ROWS))
        for run in runs
        for at in range(0, len(run), step)
    ]
    done = n - sum(stop - start for start, stop in ranges)

    def ended(rows: tuple[int, int]) -> None:
        nonlocal done
        done += rows[1] - rows[0]
        search.progress("rank", done, n)

    search.engine.run(partial(_rank_range, search, most, k, passing), ranges, ended)
    return Stored(search.store, n, k)


def _rank_range(
    search: BlockSearch, most: int, k: int, passing: int, rows: tuple[int, int]
) -> None:  # fmt: skip
    """Store the lists of a range of rows, while all vectors pass it in runs of `passing` rows."""
    release_freed()
    group, store, n, (start, stop) = search.group, search.store, len(search.group), rows
    candidates = _candidates_of_range(search, start, stop, most)
    vectors = np.empty((stop - start, group.vectors.shape[1]), group.vectors.dtype)

    def read(a: int, b: int) -> None:
        group.read(start + a, start + b, vectors[a:b])

    for_blocks(read, stop - start, passing, search.threads)
    lengths = np.full(candidates.shape, np.inf, np.float32)
    held = threading.local()

    def meet(first: int) -> None:
        if not hasattr(held, "vectors"):  # memory that is new takes as long to fill as the reading
            held.vectors = np.empty((min(n, passing), vectors.shape[1]), vectors.dtype)
        there: Floats = held.vectors[: min(n - first, passing)]
        group.read(first, first + len(there), there)
        _measure(vectors, candidates, there, first, lengths)

    def told(first: int) -> None:
        search.progress("rank", start + (stop - start) * min(n, first + passing) // n, n)

    each(meet, range(0, n, passing), search.threads, told)
    for first in range(0, stop - start, PART_ROWS):
        some = slice(first, min(first + PART_ROWS, stop - start))
        size = some.stop - first, k
        found = np.empty(size, np.int32), np.empty(size, np.float32)
        _keep_shortest(candidates[some], lengths[some], start + first, *found)
        store.put("ranked", (start + first) // PART_ROWS, neighbors=found[0], distances=found[1])


def _candidates_of_range(search: BlockSearch, start: int, stop: int, most: int) -> Int32:
    """The candidates (stop - start, most) of the rows numbered start … stop, -1 for none."""
    candidates = np.full((stop - start, most), -1, np.int32)

    def gather(g: int) -> None:
        numbers = search.layout.numbers_of(g)
        mine = np.flatnonzero((numbers >= start) & (numbers < stop))
        if len(mine):
            listed = search.candidates(g, mine)
            candidates[numbers[mine] - start, : listed.shape[1]] = listed

    each(gather, range(search.layout.groups), search.threads, lambda _: None)
    return candidates


@kernel
def _measure(vectors, candidates, there, first, lengths):
    """Lengths (m, c) <- distances of `vectors` (m, d) to candidates whose rows are `there`.

    `there` are the vectors numbered first, first + 1, …; other places are left as they are.
    """
    count, width = there.shape[0], candidates.shape[1]
    room = max(_COLLECTED, 2 * width)
    row, place = np.empty(room, np.int64), np.empty(room, np.int64)
    filled = 0
    for i in range(candidates.shape[0]):
        for p in range(width):
            at = candidates[i, p] - first
            if 0 <= at < count:
                row[filled], place[filled] = i, p
                filled += 1
        if filled > room - width or i == candidates.shape[0] - 1:
            for z in range(filled):
                ahead = min(z + AHEAD, filled - 1)
                prefetch_row(there, candidates[row[ahead], place[ahead]] - first)
                prefetch_row(vectors, row[ahead])
                a, b = row[z], place[z]
                lengths[a, b] = distance(vectors[a], there[candidates[a, b] - first])
            filled = 0


@kernel
def _keep_shortest(candidates, lengths, first, neighbors, distances):
    """neighbors, distances (m, k) <- the nearest candidates (m, c) of the rows from `first` on."""
    for r in range(candidates.shape[0]):
        neighbors[r], distances[r] = -1, np.inf
        for p in range(candidates.shape[1]):
            if candidates[r, p] >= 0 and candidates[r, p] != first + r:
                keep(lengths[r, p], candidates[r, p], distances[r], neighbors[r])
