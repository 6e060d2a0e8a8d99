"""Sizes of a greedy run: its picks, the arrays of its queue, its memory. Imports no numba."""

from __future__ import annotations

import numpy as np

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

# -- memory ----------------------------------------------------------------------------------------
_CUTOFF = 72  #: bytes per row of a cutoff: sorted scores and sums of Otsu's method
_RANKING = 40  #: bytes per row of an order of scores: scores, negated, rows, and two orders
_RUN = 8 + 3  #: bytes per row of a greedy run: a float64 score, and three bool masks of rows
_EDGE = 8  #: bytes of an edge: int32 neighbour, float32 distance
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


def greedy(
    ledger: Ledger, n: int, sizes: tuple[int, ...], *, auto: bool, thins: bool, cutoff: bool,
    each: bool, band: int | None = None,
) -> None:  # fmt: skip
    """Account for :func:`d2cli.api.select` with clamped messages: n rows, budgets of `sizes` rows.

    `ledger` is changed in place and holds ``picks`` afterwards. `auto` and `cutoff` tell whether
    γ_r and the cutoff are automatic, `thins` whether the lift that γ_r keeps is too, and `each`
    whether every budget has a run of its own. `band` is the bytes of a band if the edges are on
    disk.
    """
    ledger.stage = "select"
    for size in sizes if each else (max(sizes),):
        if cutoff or thins:  # both look for two groups
            ledger.touch("cutoff", _CUTOFF * n)
        runs = AT_ONCE if auto and n > FEW and band is None else 1
        best = 2 * _PICK * size if auto else 0
        edges = 0 if band is None else _BAND * n + band
        with ledger.passing("best picks", best), ledger.passing("band of edges", edges):
            per_row = _RUN + (_RANKING if auto else 0)
            ledger.touch("picking", runs * (per_row * n + workspace_bytes(n) + _PICK * size))
            if thins:  # the selection that is thinned has all rows at most
                ledger.touch("thinning", (per_row + _PICK) * n + runs * workspace_bytes(n))
        ledger.hold("picks", _PICK * size)
