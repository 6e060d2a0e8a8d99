"""Block sizes and memory of the edges and of the forward pass. Imports no numba."""

from __future__ import annotations

from d2cli.defaults import EdgeRule
from d2cli.runtime.ledger import Ledger

#: Rows of one task of the forward pass.
BLOCK_ROWS = 65_536
#: Bytes of one number of `indptr`: int64.
_POINTER = 8
#: Bytes of one edge: neighbour int32, distance float32.
_INDEX, _DISTANCE = 4, 4
#: Bytes of one score: float64.
_SCORE = 8


def edges(ledger: Ledger, n: int, k: int, rule: EdgeRule) -> None:
    """Account for :func:`d2cli.api.prepare_edges`: the median distance, then the edges.

    Args:
        ledger: changed in place; holds ``edges`` afterwards.
        n: rows.
        k: listed neighbours per row.
        rule: the rule of edges. ``union`` makes room for both directions of every listed edge.
    """
    ledger.stage = "edges"
    ledger.touch("median", (_DISTANCE + 1) * n * k)  # a copy of the distances, and a mask
    room = n * k * (2 if rule == "union" else 1)
    ledger.hold("edges", _POINTER * n + (_INDEX + _DISTANCE) * room)
    kept = _INDEX * room if rule == "mutual" else 0
    ledger.touch("filling", _POINTER * n + kept)


def forward(ledger: Ledger, n: int, hops: int | None, own_scores: bool) -> None:
    """Account for the forward pass and for :func:`d2cli.messages.forward.own_scores`.

    Args:
        ledger: changed in place; holds ``propagated`` and ``difficulty`` afterwards.
        n: rows.
        hops: forward passes; None if scores are read as propagated.
        own_scores: whether the scores before the pass are estimated, for an automatic cutoff.
    """
    ledger.stage = "propagate"
    several = (hops or 1) > 1
    if hops is not None:
        ledger.hold("propagated", _SCORE * n)
        ledger.touch("hop", _SCORE * n * (2 if several else 1))
    if own_scores:
        ledger.hold("difficulty", _SCORE * n)
        ledger.touch("own scores", _SCORE * n * (4 if several else 3))
