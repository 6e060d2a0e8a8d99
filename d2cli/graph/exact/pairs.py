"""Candidates of all rows of a group at once: each product of two blocks serves both."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.checkpoints import Checkpoint, State
from d2cli.engine.threads import Progress, Workers
from d2cli.graph.exact.screen import Screen
from d2cli.graph.lists import keep_nearest, keep_nearest_across
from d2cli.runtime.products import product

#: Rows of a block: the product of two, 1 MB, stays in a core's own cache.
_ROWS = 512
#: Pairs after which all threads wait for each other, so that what is done can be kept.
_TOGETHER = 512

Pair = tuple[int, int]


def tournament(blocks: int) -> Iterator[Pair]:
    """All pairs of blocks, each block with itself first; then as few as can be share a block with
    those shortly before.

    In rounds, by the circle method: the first block stays where it is, the others go around it.
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
    """The `width` nearest of each row, itself among them, as `screen` sees them.

    Of rows that tie for a list's last place, any may have it.

    Returns:
        numbers (n, width) int32 within the group, and scores (n, width) float32, ascending.
    """
    n, blocks = screen.size, -(-screen.size // _ROWS)
    found = np.full((n, width), -1, np.int32)
    scores = np.full((n, width), np.inf, np.float32)
    met = 0
    if (kept := checkpoint.load("pairs")) is not None:
        found, scores, met = kept["found"], kept["scores"], int(kept["met"])
    writing = [Lock() for _ in range(blocks)]

    def state() -> State:
        return {"found": found, "scores": scores, "met": np.int64(met)}

    def meet(pair: Pair) -> None:
        a, b = (slice(block * _ROWS, min((block + 1) * _ROWS, n)) for block in pair)
        here = screen.block(a.start, a.stop)
        # A block by itself transposed is symmetric, which NumPy sees and multiplies only half of.
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
