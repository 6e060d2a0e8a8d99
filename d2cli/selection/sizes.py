"""Sizes of a greedy run: its picks, the arrays of its queue, its memory. Imports no numba."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from d2cli.engine.tasks import Engine
from d2cli.messages.sizes import PART_EDGES
from d2cli.runtime.ledger import Ledger

# -- the lazy bucket queue (:mod:`d2cli.selection.queue`) ------------------------------------------
OCTAVES = 20  #: below the largest score with buckets of their own; lower scores share the last one
FINEST = 16  #: log2 of the most buckets per octave
SHELF = 7  #: log2 of the buckets per shelf
BUCKETS = 1 << SHELF  #: buckets per shelf
CHUNK = 16  #: int32 numbers per chunk, the previous chunk and then rows: 64 bytes, one cache line

# -- the search for γ_r (:mod:`d2cli.selection.gamma.search`) --------------------------------------
FEW = 1 << 16  #: up to this many eligible rows, γ_r is searched by bisection
AT_ONCE = 2  #: with more rows, this many values of γ_r are tried at once

# -- rounds of local maxima (:mod:`d2cli.selection.sweeps`) ----------------------------------------
#: From this many threads on, rounds are faster than the queue: measured, a round costs 4 to 6 times
#: as much, and the search for γ_r runs two queues at once.
ROUNDS_THREADS = 16
RANGE = 1 << 15  #: rows that one thread goes through at a time
SLACK = 2  #: rows are admitted for this many times the budget

# -- edges on disk (:mod:`d2cli.selection.bands`) --------------------------------------------------
BAND_EDGES = 1 << 21  #: the least room for edges and rows of a band

# -- edges on several machines (:mod:`d2cli.selection.shards`) -------------------------------------
#: Bytes per local row of a shard: the place of its edges, int64.
_PLACE = 8
#: Bytes per local row in each run: its state, float64; and its class, int32.
_STATE, _CLASS = 8, 4
#: Bytes per own row in each run: score float64, blocker int32, active row int32.
_OWN = 16
#: Bytes per own row while rows are gone through: the rows that are watched, int32, their states
#: before and after, float64, whether these differ, and the rows and states that are told.
_WATCHED = 4 + 8 + 8 + 1 + 4 + 8

# -- memory ----------------------------------------------------------------------------------------
_CUTOFF = 72  #: bytes per row of a cutoff: sorted scores and sums of Otsu's method
_RANKING = 40  #: bytes per row of an order of scores: scores, negated, rows, and two orders
_RUN = 8 + 3  #: bytes per row of a greedy run: a float64 score, and three bool masks of rows
_EDGE = 8  #: bytes of an edge: int32 neighbour, float32 distance
#: Bytes per row of a run in rounds: its states, their absolute values, and these partitioned.
_ROUNDS = 8 + 8 + 8
#: Bytes per admitted row of it: changed rows and their states; finished rows, their scores, these
#: negated, their order, and the sorting.
_ADMITTED = 4 + 8 + 4.5 * 8
_BAND = 4 + 1 + 8  #: bytes per row of a band: int32 degree, bool mask, int64 place of its edges
_PICK = 16  #: bytes per pick: row int64, gain float64


def fineness(n):
    """log2 of the buckets per octave, for about one bucket per row. Plain Python, also compiled."""
    fine = 0
    while fine < FINEST and n >> (fine + 5):
        fine += 1
    return fine


def workspace_arrays(n: int) -> dict[str, tuple[int, str]]:
    """(length, dtype) of each array of a :class:`d2cli.selection.queue.Workspace` for n rows."""
    shelves = ((OCTAVES << fineness(n)) - 1 >> SHELF) + 1
    return {
        "ends": (shelves, "int64"),
        "chunks": ((n // (CHUNK - 1) + shelves) * CHUNK, "int32"),
        "spare": (2, "int64"),
        "firsts": (BUCKETS + 2, "int32"),
        "heads": (BUCKETS + 1, "int32"),
        "rows": (n, "int32"),
        "links": (n, "int32"),
        "values": (n, "float64"),
        "heap": (n, "int32"),
    }


def workspace_bytes(n: int) -> int:
    """Bytes of a workspace: about 24 n. The last four arrays hold one shelf, at most n rows."""
    arrays = workspace_arrays(n).values()
    return sum(length * np.dtype(dtype).itemsize for length, dtype in arrays)


def band_bytes(spare: int, edges: int) -> int:
    """Bytes of a band of edges that are on disk, `spare` beyond the least; `edges`: of all."""
    return min(_EDGE * BAND_EDGES + spare, edges)


@dataclass(frozen=True)
class ShardSizes:
    """How many shards hold the edges, and the bytes of the largest at most."""

    count: int
    size: int


def shard_bytes(n: int, own: int, edges: int, classes: bool) -> int:
    """Bytes of a shard that holds the `edges` of `own` of n rows, with AT_ONCE runs under way.

    `classes` says whether the runs have class quotas. The number of ghosts is that of neighbours
    that are anywhere: row numbers tell nothing about who is near. The rows of a part are few.
    """
    ghosts = (n - own) * (1 - (1 - own / n) ** (edges / own))
    local = own + ghosts
    held = _EDGE * edges + n / 4 + _PLACE * local  # n / 4: two numbers of 32 bits for 32 rows
    loading = _PLACE * own + _EDGE * min(PART_EDGES, edges)  # degrees, and a part
    run = (_STATE + (_CLASS if classes else 0)) * local + _OWN * own
    working = max(_STATE * local, _WATCHED * own)
    return round(held + max(loading, AT_ONCE * run + working))


def shards_for(engine: Engine, n: int, edges: int, parts: int, classes: bool) -> ShardSizes:
    """The shards of n rows, whose `edges` lie in `parts`: as many as run at once and fit.

    With fewer shards, all of them together take less memory, because they have fewer ghosts. If the
    machines do not hold one shard each, that is what is returned.
    """
    most = max(1, min(engine.at_once, parts))
    for count in range(most, 0, -1):
        own, of_own = (min(all_, all_ // count + all_ // parts + 1) for all_ in (n, edges))
        size = shard_bytes(n, own, of_own, classes)
        if count <= engine.nodes or engine.can_hold(count, size):
            return ShardSizes(count, size)
    raise AssertionError("one shard is no more than the nodes")


def sent_bytes(n: int, size: int, *, auto: bool, classes: bool) -> int:
    """Bytes that pass between the process and its shards at one time, for `size` picks of n rows.

    A run begins with scores, states and classes of all rows. Then rows that have changed, with
    their states, are answers of the shards and news for them at the same time.
    """
    begun = (8 + _STATE + (_CLASS if classes else 0)) * n
    return (AT_ONCE if auto else 1) * (begun + 2 * (4 + _STATE) * min(n, SLACK * size))


def greedy(
    ledger: Ledger, n: int, sizes: tuple[int, ...], *, auto: bool, thins: bool, cutoff: bool,
    each: bool, band: int | None = None, shards: bool = False,
) -> None:  # fmt: skip
    """Account for :func:`d2cli.api.select` with clamped messages: n rows, budgets of `sizes` rows.

    `ledger` is changed in place and holds ``picks`` afterwards. `auto` and `cutoff` tell whether
    γ_r and the cutoff are automatic, `thins` whether the lift that γ_r keeps is too, and `each`
    whether every budget has a run of its own. `band` is the bytes of a band if the edges are on
    disk, and `shards` says that they are in shards, whose memory is not counted here.
    """
    ledger.stage = "select"
    per_row = _RUN + (_RANKING if auto else 0)

    def picking(size: int) -> float:
        if shards:
            admitted = min(n, SLACK * size)
            return _RUN * n + max(_RANKING * n, _ROUNDS * n + _ADMITTED * admitted)
        return per_row * n + workspace_bytes(n)

    for size in sizes if each else (max(sizes),):
        if cutoff or thins:  # both look for two groups
            ledger.touch("cutoff", _CUTOFF * n)
        runs = AT_ONCE if auto and n > FEW and (band is None or shards) else 1
        best = 2 * _PICK * size if auto else 0
        edges = 0 if band is None else _BAND * n + band
        with ledger.passing("best picks", best), ledger.passing("band of edges", edges):
            ledger.touch("picking", runs * (picking(size) + _PICK * size))
            if thins:  # the selection that is thinned has all rows at most
                kept = 0 if shards else (runs - 1) * workspace_bytes(n)
                ledger.touch("thinning", picking(n) + _PICK * n + kept)
        ledger.hold("picks", _PICK * size)
