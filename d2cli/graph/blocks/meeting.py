"""Rows of groups while they meet blocks of other groups.

A meeting changes the lists of both sides, and several may run at a time: a list is changed by the
holder of its group's lock. The bounds of the other side are read without it: an old bound lets more
offers through, which the list then refuses.
"""

from __future__ import annotations

from threading import Lock
from typing import NamedTuple

import numpy as np

from d2cli.engine.store import PartStore
from d2cli.graph.blocks.kernels.arrange import by_block, unpack
from d2cli.graph.blocks.kernels.cells import Packed
from d2cli.graph.blocks.kernels.lists import accept, meet, taken
from d2cli.graph.blocks.sizes import BLOCK_ROWS, BOX_OFFERS
from d2cli.runtime.arrays import Int32, Int64

#: The arrays of lists.
_LISTS = ("scores", "places", "bounds")


class Pairs(NamedTuple):
    """Rows that meet blocks: block ``keys[z]`` meets ``rows[begins[z]:ends[z]]``."""

    keys: Int32
    begins: Int32
    ends: Int32
    rows: Int32

    @classmethod
    def of(cls, chosen: Int32, blocks: int) -> Pairs:
        """From the blocks (m, p) that rows chose, -1 for none; `blocks` is the number of all."""
        keys, ends, rows = by_block(chosen, blocks)
        return cls(keys, ends[:-1], ends[1:], rows)


def own_blocks(starts: Int64) -> Int32:
    """The block (n,) of each row of a group, from the starts of its blocks."""
    return np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))


class Side:
    """The lists of a group, in memory while its rows or its blocks meet others.

    Attributes:
        starts, own: where its blocks start, and the block of each row.
        scores, places, bounds: see :mod:`.kernels.lists`; changed in place under `lock`.
    """

    def __init__(self, store: PartStore, lists: str, g: int) -> None:
        """From the parts `lists`, which are changed in place if they are in memory."""
        self._store, self._lists, self.g, self.lock = store, lists, g, Lock()
        self.starts = store.get("blocks", g, "starts")
        self.own = own_blocks(self.starts)
        self.scores, self.places, self.bounds = (store.get(lists, g, key) for key in _LISTS)
        self._changed = False
        self._packed: tuple[np.ndarray, ...] | None = None

    @classmethod
    def copied(cls, store: PartStore, lists: str, g: int) -> Side:
        """One whose part stays as it is."""
        side = cls(store, lists, g)
        side.scores, side.places = side.scores.copy(), side.places.copy()
        side.bounds = side.bounds.copy()
        return side

    def packed(self) -> tuple[np.ndarray, ...]:
        """The blocks, as :class:`Packed`; loaded when they are first asked for."""
        if self._packed is None:
            self._packed = tuple(self._store.get("blocks", self.g, key) for key in Packed._fields)
        return self._packed

    def forget_blocks(self) -> None:
        """Let the blocks leave memory."""
        self._packed = None

    def take(self, box: Int32) -> None:
        """Offer what is in a box (m, 3) to the lists: its row, the place of a point, the score."""
        if len(box):
            with self.lock:
                accept(box, self.own, self.starts, self.scores, self.places, self.bounds)
                self._changed = True

    def taken(self) -> Int32:
        """A box with what the lists of a copy have taken."""
        if not self._changed:
            return np.empty((0, 3), np.int32)
        before: Int32 = self._store.get(self._lists, self.g, "places")
        box: Int32 = taken(self.scores, self.places, before)
        return box

    def put(self, name: str) -> None:
        """Store the lists under another name."""
        lists = {key: getattr(self, key) for key in _LISTS}
        self._store.put(name, self.g, **lists)


class Meeting:
    """The rows of one group, and the blocks that they meet.

    Attributes:
        side: the lists of the group.
        codes: (m, r) uint8, of the rows.
    """

    def __init__(self, store: PartStore, first_places: Int64, side: Side) -> None:
        self.side, self._first_places = side, first_places
        points, halves = (store.get("blocks", side.g, key) for key in ("points", "halves"))
        self.codes, self._halves = unpack(points, halves, side.starts)

    def run(self, there: Side, pairs: Pairs, at: int, shift: int) -> None:
        """The rows meet blocks of a group, ``keys[at:]`` less `shift`."""
        here, (keys, begins, ends, rows) = self.side, pairs
        largest = int((ends[at:] - begins[at:]).max(initial=0))
        box = np.empty((max(BOX_OFFERS, largest * BLOCK_ROWS), 3), np.int32)
        own, packed = here is there, there.packed()
        while at < len(keys):
            with here.lock:
                at, filled = meet(
                    self.codes, self._halves, here.own, here.starts,
                    int(self._first_places[here.g]), here.scores, here.places, here.bounds, own,
                    *packed, there.starts, int(self._first_places[there.g]), there.bounds,
                    keys, begins, ends, rows, at, shift, box, 0,
                )  # fmt: skip
            there.take(box[:filled])

    def run_all(self, there: Side) -> None:
        """The rows meet all blocks of a group; of their own, those that follow each row's block."""
        blocks, rows = len(there.bounds), len(self.codes)
        keys, begins = np.arange(blocks, dtype=np.int32), np.zeros(blocks, np.int32)
        ends = np.full(blocks, rows, np.int32)
        if there is self.side:
            ends = self.side.starts[:-1].astype(np.int32)
        self.run(there, Pairs(keys, begins, ends, np.arange(rows, dtype=np.int32)), 0, 0)
