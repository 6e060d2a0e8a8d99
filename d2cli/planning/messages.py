"""Edges, the forward pass and greedy picks: :mod:`d2cli.messages.edges`, ``messages`` and ``sampling``."""

from __future__ import annotations

import math

from d2cli.planning.ledger import MIB, Ledger
from d2cli.planning.sizes import Ids, Picks

#: Greedy runs that an automatic γ_r takes besides the last (:func:`d2cli.selection.greedy.greedy`).
GAMMA_SEARCHES = 11

#: The least share of the rows that it picks, where it picks most
#: (:data:`d2cli.selection.thinning.SPREAD_CLUMPED`).
SPREAD = 0.2

#: How far such a run gets on average before it is known that messages run out.
_SEARCHED_SHARE = 0.7

# -- seconds of one core of the reference machine, each for one of what is named -------------------
_EDGE_MADE = 65e-9  # listed neighbour brought into its rows
_RETURN = 100e-9  # edge whose return is looked for
_EDGE_FORWARD = 35e-9  # edge in the forward pass
_EDGE_REVERSE = 50e-9  # edge that a pick's message takes: somewhere else in memory each time
_SORTED = 200e-9  # row whose difficulty is sorted, and groups made
_PICK = 300e-9  # row picked, and the rows before it that had to wait
_NUMBER_WRITTEN = 20e-9

#: Bytes that Arrow's parquet writer takes: for a row and at most for all, as it looks whether
#: values repeat, and for each further column.
_ENCODED, _ENCODING, _ENCODED_COLUMN = 170, 44 * MIB, 3 * MIB


def read_ids(ledger: Ledger, ids: Ids | None, kept: bool = True) -> None:
    """The rows' ids, checked to be unique (:meth:`Source.ids`); `kept` for the whole run."""
    if ids is None:
        return
    ledger.stage = "read"
    ledger.hold("ids" if kept else "other ids", ids.rows * (8 + ids.length if ids.text else 8))
    table = ids.rows * ((2 * ids.length + 24 if ids.text else 16) + 4)
    ledger.touch("unique ids", table + 40 * ids.rows)
    ledger.spend(steps=ids.rows * (400e-9 if ids.text else 250e-9))
    if not kept:
        ledger.free("other ids")


def read_vectors(ledger: Ledger, n: int, count: int) -> None:
    """Scores and what else is one number a row, float64."""
    ledger.stage = "read"
    ledger.hold("scores", 8 * n * count)
    ledger.spend(steps=n * count * 15e-9)


def read_graph(ledger: Ledger, n: int, k: int) -> None:
    """A graph file, memory-mapped and held against its contract."""
    ledger.stage = "read"
    ledger.hold("graph", n * k * 8, mapped=True)
    ledger.touch("check", 4 * n)
    ledger.spend(steps=n * k * 6e-9)


def edges(ledger: Ledger, n: int, k: int, picks: Picks) -> None:
    """σ, and the edges in compressed rows (:func:`prepare_edges`)."""
    ledger.stage = "edges"
    ledger.touch("median", 5 * n * k)
    room = n * k * (2 if picks.edges == "union" else 1)
    ledger.hold("edges", 8 * n + 8 * room)
    ledger.touch("filling", 8 * n + (4 * room if picks.edges == "mutual" else 0))
    ledger.spend(steps=room * (_EDGE_MADE + (_RETURN if picks.edges == "mutual" else 0)))


def forward(ledger: Ledger, n: int, k: int, picks: Picks) -> None:
    """Forward messages; and, for a cutoff that sets itself, two passes more (own_scores)."""
    ledger.stage = "propagate"
    hops = picks.hops or 1
    passed = _sent(n, k, picks) * hops * _EDGE_FORWARD
    if picks.hops is not None:
        ledger.hold("propagated", 8 * n)
        ledger.touch("hop", 8 * n * (2 if hops > 1 else 1))
        ledger.spend(steps=passed, threads=picks.threads)
    if picks.cutoff:
        ledger.hold("difficulty", 8 * n)
        ledger.touch("own scores", 8 * n * (4 if hops > 1 else 3))
        ledger.spend(steps=2 * passed, threads=picks.threads)


def greedy(ledger: Ledger, n: int, k: int, picks: Picks) -> None:
    """Picks with reverse messages, for every budget."""
    ledger.stage = "select"
    sizes = picks.sizes if picks.each else (max(picks.sizes),)
    for kept in sizes:
        # An automatic γ_r picks enough for messages to spread, of which some are kept.
        size = max(kept, math.ceil(SPREAD * n)) if picks.searches else kept
        longer = outlasting(size, n) if picks.searches else size
        if picks.cutoff:
            ledger.touch("cutoff", 72 * n)
            ledger.spend(steps=n * _SORTED)
        if size > kept:
            ledger.touch("thinning", 35 * n)
            ledger.spend(steps=n * _SORTED)
        # Who may be picked; scores and queue of one run, of which 20 bytes a row are for one shelf
        # of it: all of them where all scores are alike; and the result.
        with ledger.passing("picking", n * (3 + 13 + 20) + 16 * longer):
            searched = _SEARCHED_SHARE * picks.searches
            ledger.spend(steps=_picked(n, k, picks, size) + searched * _picked(n, k, picks, longer))
        ledger.hold("picks", 16 * size)


def write(ledger: Ledger, ending: str, rows: int, columns: int, an_id: float) -> None:
    """An output in the form that `ending` says: so many numbers a row, ids of so many bytes."""
    ledger.stage = "write"
    size = rows * (8 * columns + an_id)
    if ending == ".parquet":
        size += min(_ENCODED * rows, _ENCODING) + _ENCODED_COLUMN * (columns - 1)
    ledger.touch("columns", size)
    ledger.spend(steps=rows * columns * _NUMBER_WRITTEN)


def _picked(n: int, k: int, picks: Picks, size: int) -> float:
    """Seconds of one run."""
    return _sent(n, k, picks) * size / n * _EDGE_REVERSE + size * _PICK + n * 30e-9


def outlasting(size: int, n: int) -> int:
    """How far a search for γ_r picks (:mod:`d2cli.selection.greedy`, which loads the compiler)."""
    return n - (n - size) ** 3 // n**2


def _sent(n: int, k: int, picks: Picks) -> float:
    """Edges, both ways counted; of listed pairs about half list each other."""
    return float(n) * k * {"union": 1.4, "directed": 1.0, "mutual": 0.6}[picks.edges]
