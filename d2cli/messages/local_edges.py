"""The edges of consecutive rows with row numbers of their own, so that arrays of rows are short.

*Local rows* are the own rows and the *ghosts*, which are the neighbours of own rows that are not
own. They are numbered in ascending order, so that ties go to the same row as with row numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.graph.knn_graph import Edges
from d2cli.messages.parts import EdgeParts, Span
from d2cli.runtime.jit import borrowing_kernel, kernel

_WORD = 32  #: rows of one word of bits
_PAIRS, _FOURS, _EIGHTS = 0x55555555, 0x33333333, 0x0F0F0F0F  # masks of :func:`_ones`


@dataclass(frozen=True)
class LocalEdges:
    """The edges of the rows ``first … stop``.

    Attributes:
        words: (⌈n / 32⌉,) uint32, a bit for each of n rows: whether it is a local row.
        ranks: the number of local rows before each word, int32.
        below: the local number of row `first`.
        size: the number of local rows.
        edges: in local numbers; ghosts have no edges.
    """

    first: int
    stop: int
    words: NDArray[np.uint32]
    ranks: NDArray[np.int32]
    below: int
    size: int
    edges: Edges

    @classmethod
    def of(cls, parts: EdgeParts, span: Span) -> LocalEdges:
        """Load a span of parts, one part after the other."""
        first, stop = parts.starts[span[0]], parts.starts[span[1]]
        count = sum(parts.sizes[span[0] : span[1]])
        indices, distances = np.empty(count, np.int32), np.empty(count, np.float32)
        words, degrees, at = (
            np.zeros(-(-parts.n // _WORD), np.uint32),
            np.empty(stop - first, np.int64),
            0,
        )
        for start, part in parts.loaded(span):
            end, rows = at + part.indices.size, part.indptr.size - 1
            indices[at:end], distances[at:end] = part.indices, part.distances
            degrees[start - first : start - first + rows] = np.diff(part.indptr)
            at = end
        _mark(words, indices, first, stop)
        ranks = np.empty(words.size, np.int32)
        size = int(_count(words, ranks))
        below = int(_rank(words, ranks, first))
        indptr = np.zeros(size + 1, np.int64)
        np.cumsum(degrees, out=indptr[below + 1 : below + 1 + degrees.size])
        indptr[below + 1 + degrees.size :] = count
        _renumber(words, ranks, indices)
        edges = Edges(indptr, indices, distances)
        return cls(first, stop, words, ranks, below, size, edges)

    @property
    def own(self) -> slice:
        """The local numbers of the own rows."""
        return slice(self.below, self.below + self.stop - self.first)

    def before(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """How many local rows are below each of some row numbers (0 … n), which need not be local.

        Of a local row, this is its local number.
        """
        numbers = rows.astype(np.int64)
        _renumber(self.words, self.ranks, numbers)
        return numbers

    def of_rows(self, array: NDArray[Any]) -> NDArray[Any]:
        """Of (n,) numbers, those of the local rows."""
        found = np.empty(self.size, array.dtype)
        _gather(self.words, array, found)
        return found

    def set_ghosts(
        self, rows: NDArray[np.int32], values: NDArray[np.float64], of_local: NDArray[np.float64]
    ) -> int:  # fmt: skip
        """Write the values of those of some rows that are ghosts; returns how many these are."""
        return int(
            _set_ghosts(self.words, self.ranks, self.first, self.stop, rows, values, of_local)
        )


@borrowing_kernel
def _bit(row):
    """The bit of a row in its word."""
    return np.uint32(np.int64(1) << np.int64(row % _WORD))


@borrowing_kernel
def _is_set(words, row):
    """Whether the bit of a row is set."""
    return (words[row // _WORD] & _bit(row)) != 0


@kernel
def _mark(words, rows, first, stop):
    """Set the bits of some rows, and of the rows ``first … stop``."""
    for at in range(rows.shape[0]):
        words[rows[at] // _WORD] |= _bit(rows[at])
    for row in range(first, stop):
        words[row // _WORD] |= _bit(row)


@borrowing_kernel
def _ones(bits):
    """The number of ones of 32 bits in an int64."""
    bits = bits - ((bits >> 1) & _PAIRS)
    bits = (bits & _FOURS) + ((bits >> 2) & _FOURS)
    bits = (bits + (bits >> 4)) & _EIGHTS
    bits = bits + (bits >> 8)
    return (bits + (bits >> 16)) & 63


@kernel
def _count(words, ranks):
    """Write the number of ones before each word; returns that of all."""
    count = 0
    for at in range(words.shape[0]):
        ranks[at] = count
        count += _ones(np.int64(words[at]))
    return count


@borrowing_kernel
def _rank(words, ranks, row):
    """The number of ones below a row, which may be the one after the last."""
    at = row // _WORD
    if at == words.shape[0]:
        return ranks[at - 1] + _ones(np.int64(words[at - 1]))
    return ranks[at] + _ones(np.int64(words[at]) & ((1 << (row % _WORD)) - 1))


@kernel
def _renumber(words, ranks, rows):
    """Replace each row by the number of ones below it, in place."""
    for at in range(rows.shape[0]):
        rows[at] = _rank(words, ranks, np.int64(rows[at]))


@kernel
def _gather(words, array, found):
    count = 0
    for at in range(words.shape[0]):
        if words[at] == 0:
            continue
        for row in range(at * _WORD, min(array.shape[0], (at + 1) * _WORD)):
            if _is_set(words, row):
                found[count] = array[row]
                count += 1


@kernel
def _set_ghosts(words, ranks, first, stop, rows, values, of_local):
    """Write the values of rows that are local and not of ``first … stop``; returns their number."""
    count = 0
    for at in range(rows.shape[0]):
        row = np.int64(rows[at])
        if not first <= row < stop and _is_set(words, row):
            of_local[_rank(words, ranks, row)] = values[at]
            count += 1
    return count
