"""Rows of one group while they meet blocks of all groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from d2cli.engine.store import Store
from d2cli.graph.blocks.arrange import unpack
from d2cli.graph.blocks.cells import Packed
from d2cli.graph.blocks.lists import accept
from d2cli.graph.blocks.sizes import BLOCK_ROWS, BOX_OFFERS
from d2cli.runtime.arrays import Int32, Int64

LISTS = ("scores", "places", "bounds")


def own_blocks(starts: Int64) -> Int32:
    """The block (n,) of each row of a group, from the starts of its blocks."""
    return np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))


class Meeting:
    """The rows of group g. Their lists are changed; what rows of other groups are offered is kept.

    Attributes:
        codes: (m, r) uint8, of the rows.
        boxes: (group, (offers, 3) int32), as :func:`~d2cli.graph.blocks.lists.meet` fills them.
    """

    def __init__(self, store: Store, first_places: Int64, g: int) -> None:
        self.store, self.first_places, self.g = store, first_places, g
        get = store.get
        starts = get("blocks", g, "starts")
        self.codes, halves = unpack(get("blocks", g, "points"), get("blocks", g, "halves"), starts)
        self._lists = [get("lists", g, key) for key in LISTS]
        self._own = (
            self.codes, halves, own_blocks(starts), starts, int(first_places[g]), *self._lists
        )  # fmt: skip
        self.boxes: list[tuple[int, Int32]] = []

    def run(
        self, kernel: Callable[..., tuple[int, int]], other: int, rows: int, begin: int, stop: int,
        before: tuple[Any, ...] = (), after: tuple[Any, ...] = (),
    ) -> None:  # fmt: skip
        """Call a kernel of :mod:`.lists` on blocks of a group until it has come to `stop`.

        `rows` is the most rows that meet one block; `before` and `after` are arguments of the
        kernel around the number it begins with.
        """
        get = self.store.get
        there = (
            *(get("blocks", other, key) for key in Packed._fields), get("blocks", other, "starts"),
            int(self.first_places[other]), get("lists", other, "bounds"),
        )  # fmt: skip
        box = np.empty((max(BOX_OFFERS, rows * BLOCK_ROWS), 3), np.int32)
        while begin < stop:
            begin, filled = kernel(
                *self._own, self.g == other, *there, *before, begin, *after, box, 0
            )  # fmt: skip
            if other == self.g:
                accept(box[:filled], self._own[2], self._own[3], *self._lists)
            elif filled:
                self.boxes.append((other, box[:filled].copy()))
