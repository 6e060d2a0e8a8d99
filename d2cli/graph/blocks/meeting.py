"""Rows of one group while they meet blocks of all groups."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from d2cli.engine.store import PartStore
from d2cli.graph.blocks.kernels.arrange import unpack
from d2cli.graph.blocks.kernels.cells import Packed
from d2cli.graph.blocks.kernels.lists import accept, meet
from d2cli.graph.blocks.sizes import BLOCK_ROWS, BOX_OFFERS
from d2cli.runtime.arrays import Int32, Int64


class Pairs(NamedTuple):
    """Rows that meet blocks: block ``keys[z]`` meets ``rows[begins[z]:ends[z]]``."""

    keys: Int32
    begins: Int32
    ends: Int32
    rows: Int32


LISTS = ("scores", "places", "bounds")


def own_blocks(starts: Int64) -> Int32:
    """The block (n,) of each row of a group, from the starts of its blocks."""
    return np.repeat(np.arange(len(starts) - 1, dtype=np.int32), np.diff(starts))


class Meeting:
    """The rows of group g. Their lists are changed; what rows of other groups are offered is kept.

    Attributes:
        codes: (m, r) uint8, of the rows.
        boxes: (group, (offers, 3) int32), as the kernel fills them.
    """

    def __init__(self, store: PartStore, first_places: Int64, g: int) -> None:
        self.store, self.first_places, self.g = store, first_places, g
        get = store.get
        starts = get("blocks", g, "starts")
        self.codes, halves = unpack(get("blocks", g, "points"), get("blocks", g, "halves"), starts)
        self._lists = [get("lists", g, key) for key in LISTS]
        self._own = (
            self.codes, halves, own_blocks(starts), starts, int(first_places[g]), *self._lists
        )  # fmt: skip
        self.boxes: list[tuple[int, Int32]] = []

    def run(self, other: int, pairs: Pairs, at: int, shift: int) -> None:
        """The rows meet blocks of a group, ``keys[at:]`` less `shift`."""
        get, (keys, begins, ends, rows) = self.store.get, pairs
        there = (
            *(get("blocks", other, key) for key in Packed._fields), get("blocks", other, "starts"),
            int(self.first_places[other]), get("lists", other, "bounds"),
        )  # fmt: skip
        largest = int((ends[at : len(keys)] - begins[at : len(keys)]).max(initial=0))
        box = np.empty((max(BOX_OFFERS, largest * BLOCK_ROWS), 3), np.int32)
        while at < len(keys):
            at, filled = meet(
                *self._own, self.g == other, *there, keys, begins, ends, rows, at, shift, box, 0
            )
            if other == self.g:
                accept(box[:filled], self._own[2], self._own[3], *self._lists)
            elif filled:
                self.boxes.append((other, box[:filled].copy()))

    def run_all(self, other: int) -> None:
        """The rows meet all blocks of a group; of their own, those that follow each row's block."""
        blocks, rows = len(self.store.get("lists", other, "bounds")), len(self.codes)
        keys, begins = np.arange(blocks, dtype=np.int32), np.zeros(blocks, np.int32)
        ends = np.full(blocks, rows, np.int32)
        if other == self.g:
            ends = self._own[3][:-1].astype(np.int32)
        self.run(other, Pairs(keys, begins, ends, np.arange(rows, dtype=np.int32)), 0, 0)
