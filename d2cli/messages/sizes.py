"""Block sizes and memory of the edges and of the forward pass. Imports no numba."""

from __future__ import annotations

from d2cli.defaults import EdgeRule
from d2cli.graph.sizes import RANGE_NUMBERS
from d2cli.runtime.ledger import Ledger

BLOCK_ROWS = 65_536  #: rows of one task of the forward pass
SPREAD_ROUNDS = 5  #: rounds that set every missing score: evidence/README.md
PART_EDGES = 1 << 20  #: room for edges of a part that is not kept in memory, listed both ways
PIECE_PARTS = 16  #: most parts, of PART_EDGES edges each, that one task puts together
TASKS = 4  #: tasks for each one that runs at a time, so that all end at about the same time
SENDERS = 64  #: most ranges of rows whose reverse edges are sent to their parts together
_POINTER = 8  #: bytes of one number of `indptr`: int64
_INDEX = 4  #: bytes of the neighbour of an edge: int32
_DISTANCE = 4  #: bytes of the distance of an edge: float32
_HEAD = 2048  #: bytes of a file beside its arrays
_SCORE = 8  #: bytes of one score: float64


_REVERSE = 12  #: bytes of a reverse edge on its way to its part: row, neighbour, distance
_PER_ROW = 72  #: bytes per row beside the edges: scores, masks and the queue of a greedy run


def edges_bytes(n: int, k: int, rule: EdgeRule) -> int:
    """Bytes of the edges in memory of n rows with k listed neighbours each."""
    return csr_bytes(n, most_edges(n, k, rule)[0])


def csr_bytes(n: int, count: int) -> int:
    """Bytes of `count` edges of n rows in memory."""
    return _POINTER * n + (_INDEX + _DISTANCE) * count


def most_edges(n: int, k: int, rule: EdgeRule) -> tuple[int, int]:
    """The most edges of n rows with k listed neighbours each, and their number of parts."""
    edges = n * k * (2 if rule == "union" else 1)
    return edges, -(-_room(n, k, rule) // PART_EDGES)


def room_for_edges(memory: int, n: int) -> int:
    """Bytes that are left for edges of `memory` bytes, beside n rows."""
    return max(0, memory - _PER_ROW * n)


def edges(ledger: Ledger, n: int, k: int, rule: EdgeRule) -> None:
    """Account for :func:`d2cli.api.prepare_edges` on n rows with k listed neighbours each.

    `ledger` is changed in place and holds ``edges`` afterwards.
    """
    ledger.stage = "edges"
    room, _ = most_edges(n, k, rule)
    ledger.hold("edges", edges_bytes(n, k, rule))
    ledger.touch("filling", _POINTER * n + (_INDEX * room if rule == "mutual" else 0))


def stored(ledger: Ledger, n: int, k: int, rule: EdgeRule) -> None:
    """Account for :func:`d2cli.messages.parts.stored_edges` on n rows with k listed neighbours.

    `ledger` is changed in place and holds ``parts of edges`` afterwards: of two parts in turn.
    """
    ledger.stage = "edges"
    room = min(PART_EDGES, _room(n, k, rule))
    part = _POINTER * min(n, room) + (_INDEX + _DISTANCE) * room
    numbers = min(sent_numbers(n, k), n * k)  # of two ranges in turn
    ledger.touch("ranges of lists", 2 * (_INDEX + _DISTANCE + _REVERSE) * numbers + 24 * n)
    ledger.touch("sorting", 6 * n + 2 * (part + (_REVERSE + _INDEX + _DISTANCE) * room))
    ledger.hold("parts of edges", 2 * part)


def rows_of_piece(n: int, k: int, rule: EdgeRule, at_once: int) -> int:
    """Rows whose edges one task puts together; `at_once` tasks run at a time."""
    edges = _room(n, k, rule)
    wanted = -(-edges // (TASKS * at_once))
    return max(1, min(max(wanted, PART_EDGES), PIECE_PARTS * PART_EDGES) * n // edges)


def by_tasks(
    process: Ledger, tasks: Ledger, n: int, k: int, rule: EdgeRule, at_once: int
) -> None:  # fmt: skip
    """Account for :func:`d2cli.messages.part_tasks.edges_by_tasks`, and for tasks on its parts.

    Both ledgers are changed in place. `process` then holds ``answers of tasks``. `tasks` is the
    ledger of one task; `at_once` tasks run at a time.
    """
    process.stage = tasks.stage = "edges"
    rows = min(n, rows_of_piece(n, k, rule, at_once))
    # Lists; reverse edges from all pieces, twice while they are joined, or joined beside the edges.
    listed = (_INDEX + _DISTANCE) * rows * k
    reverse = 0 if rule == "directed" else _REVERSE * rows * k
    edges = (_INDEX + _DISTANCE) * _room(rows, k, rule)
    tasks.touch("piece of edges", listed + reverse + max(reverse, edges) + 5 * _POINTER * rows)
    part = min(PART_EDGES, _room(n, k, rule))
    tasks.stage = "propagate"
    tasks.touch("parts of edges", 2 * (_POINTER * min(n, part) + (_INDEX + _DISTANCE) * part))
    process.hold("answers of tasks", _SCORE * n)


def sent_bytes(n: int) -> int:
    """Bytes that all tasks on edges are given: a score and a mask of n rows."""
    return (_SCORE + 1) * n


def sent_numbers(n: int, k: int) -> int:
    """The number of neighbours in a range of rows whose reverse edges are sent together.

    Each part reads what each range has sent, so the number of reads grows with that of ranges.
    """
    return max(RANGE_NUMBERS, -(-n // SENDERS) * k)


def spilled(n: int, k: int, rule: EdgeRule) -> tuple[int, int]:
    """Bytes of reverse edges, which are sent to their part, and of the edges; at most.

    Two parts in turn have room for more than PART_EDGES edges. Each part has one place more than
    rows, and a file of its own, with a head.
    """
    parts = 1 + 2 * _room(n, k, rule) // PART_EDGES
    edges = edges_bytes(n, k, rule) + (_POINTER + _HEAD) * parts
    senders = -(-n * k // sent_numbers(n, k)) + 1
    return (0 if rule == "directed" else _REVERSE * n * k + _HEAD * senders), edges


def _room(n: int, k: int, rule: EdgeRule) -> int:
    """The number of edges that are sorted to their row, before some of them are removed."""
    return n * k * (1 if rule == "directed" else 2)


def spread(ledger: Ledger, n: int) -> None:
    """Account for :func:`d2cli.messages.spread.spread` of n rows.

    `ledger` is changed in place and holds ``missing scores``, a mask and the filled scores,
    afterwards.
    """
    ledger.stage = "propagate"
    ledger.hold("missing scores", (1 + _SCORE) * n)
    ledger.touch("spreading", (1 + _SCORE) * n)  # the values of the round before, and where NaN is


def forward(ledger: Ledger, n: int, hops: int | None, own_scores: bool) -> None:
    """Account for :func:`d2cli.api.propagate`, and for :func:`d2cli.api.own_scores` if asked.

    `ledger` is changed in place and holds ``propagated`` and ``own scores`` afterwards. `hops` is
    None if scores are read as propagated.
    """
    ledger.stage = "propagate"
    several = (hops or 1) > 1
    if hops is not None:
        ledger.hold("propagated", _SCORE * n)
        ledger.touch("hop", _SCORE * n * (2 if several else 1))
    if own_scores:
        ledger.hold("own scores", _SCORE * n)
        if hops != 0:
            ledger.touch("estimate", _SCORE * n * (4 if several else 3))
