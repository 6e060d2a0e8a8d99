"""Candidates of all rows of a group: each product of two blocks is used for the rows of both."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import Checkpoint, State
from d2cli.engine.threads import Progress, Workers
from d2cli.graph.distances import keep_nearest, keep_nearest_across
from d2cli.graph.exact.screen import Screen
from d2cli.graph.exact.sizes import PAIR_ROWS
from d2cli.runtime.products import product

#: Pairs of blocks between two checkpoints; all threads wait for each other there.
_TOGETHER = 512

Pair = tuple[int, int]


def tournament(blocks: int) -> Iterator[Pair]:
    """All pairs of blocks: first each block with itself, then rounds of a tournament.

    The circle method orders the rounds: the first block keeps its place and the others rotate. No
    two pairs of a round share a block, so threads seldom wait for the same lists.
    """
    yield from ((b, b) for b in range(blocks))
    ring = [*range(blocks + blocks % 2)]
    half = len(ring) // 2
    for _ in ring[1:]:
        for a, b in zip(ring[:half], reversed(ring[half:]), strict=True):
            if max(a, b) < blocks:
                yield min(a, b), max(a, b)
        ring = [ring[0], ring[-1], *ring[1:-1]]


def candidates_of_all(
    screen: Screen,
    width: int,
    threads: int,
    *,
    progress: Progress,
    stage: str,
    checkpoint: Checkpoint,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The `width` best candidates of each row by the scores of `screen`; the row itself is one.

    If several rows tie for the last place of a list, any of them may get it.

    Returns:
        numbers within the group (n, width) int32, and scores (n, width) float32, ascending.
    """
    n, blocks = screen.size, -(-screen.size // PAIR_ROWS)
    found = np.full((n, width), -1, np.int32)
    scores = np.full((n, width), np.inf, np.float32)
    met = 0
    if (kept := checkpoint.load("pairs")) is not None:
        found, scores, met = kept["found"], kept["scores"], int(kept["met"])
    writing = [Lock() for _ in range(blocks)]

    def state() -> State:
        return {"found": found, "scores": scores, "met": np.int64(met)}

    def meet(pair: Pair) -> None:
        a, b = (slice(block * PAIR_ROWS, min((block + 1) * PAIR_ROWS, n)) for block in pair)
        here = screen.block(a.start, a.stop)
        # NumPy recognises A @ A.T and computes only half of this symmetric product.
        there = here if a == b else screen.block(b.start, b.stop)
        products = product(here, there.T)
        with writing[pair[0]]:
            keep_nearest(products, screen.halves[b], b.start, scores[a], found[a])
        if a != b:
            with writing[pair[1]]:
                keep_nearest_across(products, screen.halves[a], a.start, scores[b], found[b])

    def ended(pair: Pair) -> None:
        nonlocal met
        met += 1
        progress(stage, n * met // (blocks * (blocks + 1) // 2), n)

    pairs = islice(tournament(blocks), met, None)
    with Workers(threads) as workers:
        while together := [*islice(pairs, _TOGETHER)]:
            workers.each(meet, together, ended)
            checkpoint.save("pairs", state)
    return found, scores
