"""Rows that are exactly equal: found, searched for once, and listed again.

Many identical rows starve an approximate search: they fill one another's lists, and the search
graph falls into islands. So each distinct vector is searched for once, and its copies are put back
afterwards, at distance 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import for_blocks
from d2cli.graph.vectors import Group
from d2cli.runtime.jit import kernel

#: Rows hashed in one go.
_BLOCK = 4096


@dataclass(frozen=True)
class Copies:
    """Groups of equal rows, by the numbers that rows have among those looked at.

    Attributes:
        first: (g,) int64, the lowest row of each group, ascending.
        group: (n,) int32, each row's group.
        indptr: (g + 1,) int64 and members: (n,) int32, the rows of each group, ascending.
    """

    first: NDArray[np.int64]
    group: NDArray[np.int32]
    indptr: NDArray[np.int64]
    members: NDArray[np.int32]


def find_copies(among: Group, threads: int = 1) -> Copies | None:
    """The groups of exactly equal rows, or None if all are distinct.

    Rows are compared as numbers (-0.0 equals 0.0), after a hash has brought candidates together.
    """
    n, vectors = len(among), among.vectors
    hashes = np.empty(n, np.uint64)
    # Keys as wide as the numbers: of 32 bits a processor multiplies several at a time.
    number = np.uint32 if vectors.itemsize == 4 else np.uint64
    keys = _keys(vectors.shape[1], number)
    negative_zero = vectors.dtype.type(-0.0).view(number)

    def hash_block(start: int, stop: int) -> None:
        bits = among.block(start, stop).view(number)
        with np.errstate(over="ignore"):  # sums wrap around
            _hash_rows(bits, keys, negative_zero, hashes[start:stop])

    for_blocks(hash_block, n, _BLOCK, threads)
    by_hash = np.argsort(hashes, kind="stable")
    group = np.empty(n, np.int32)
    count = _group(vectors, among.all_rows(), hashes, by_hash, group)
    if count == n:
        return None
    members = np.argsort(group, kind="stable").astype(np.int32)
    indptr = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(group, minlength=count), out=indptr[1:])
    return Copies(members[indptr[:-1]].astype(np.int64), group, indptr, members)


@cache
def _keys(count: int, number: type[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Odd numbers to hash with. Kept: to make a generator takes longer than to hash some rows."""
    keys = np.random.default_rng(0).integers(0, np.iinfo(number).max, count, number) | number(1)
    keys.flags.writeable = False
    return keys


def spread(
    copies: Copies, neighbors: NDArray[np.int32], distances: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The lists of all n rows, from those of the g distinct ones (numbered 0 … g-1)."""
    n, k = copies.group.size, neighbors.shape[1]
    out_neighbors = np.full((n, k), -1, np.int32)
    out_distances = np.full((n, k), np.inf, np.float32)
    _spread(
        copies.group, copies.indptr, copies.members, neighbors, distances,
        out_neighbors, out_distances,
    )  # fmt: skip
    return out_neighbors, out_distances


@kernel
def _hash_rows(bits, keys, negative_zero, hashes):
    """hashes[r] <- the numbers' bits times the keys, summed modulo 2^64."""
    for r in range(bits.shape[0]):
        row, total = bits[r], np.uint64(0)
        for c in range(row.shape[0]):
            number = row[c] if row[c] != negative_zero else keys.dtype.type(0)
            total += np.uint64(number) * np.uint64(keys[c])
        hashes[r] = total


@kernel
def _group(vectors, rows, hashes, by_hash, group):
    """Number the groups of equal rows by their lowest; returns how many.

    Within a run of one hash the rows ascend; each is compared with the first rows of the groups
    that the run has so far, of which there is more than one only where hashes collide.
    """
    n = hashes.shape[0]
    first = np.empty(n, np.int32)
    start = 0
    while start < n:
        stop = start
        while stop < n and hashes[by_hash[stop]] == hashes[by_hash[start]]:
            i = by_hash[stop]
            first[i] = i
            for p in range(start, stop):
                j = by_hash[p]
                if first[j] == j and _equal(vectors[rows[i]], vectors[rows[j]]):
                    first[i] = j
                    break
            stop += 1
        start = stop
    count = 0
    for i in range(n):
        if first[i] == i:
            group[i] = count
            count += 1
        else:
            group[i] = group[first[i]]
    return count


@kernel
def _equal(a, b):
    for c in range(a.shape[0]):  # noqa: SIM110, numba compiles no generator
        if a[c] != b[c]:
            return False
    return True


@kernel
def _spread(group, indptr, members, neighbors, distances, out_neighbors, out_distances):
    """Own copies first (distance 0), then the copies of each neighbour; ties by row number."""
    n, k = out_neighbors.shape
    for i in range(n):
        g = group[i]
        filled = 0
        for p in range(-1, neighbors.shape[1]):
            other = g if p < 0 else neighbors[g, p]
            d = np.float32(0.0) if p < 0 else distances[g, p]
            if other < 0 or (filled == k and d > out_distances[i, k - 1]):
                break
            for at in range(indptr[other], indptr[other + 1]):
                j = members[at]
                if j == i:
                    continue
                if filled == k and (d > out_distances[i, k - 1] or j > out_neighbors[i, k - 1]):
                    break  # members ascend: the rest of this group comes later still
                hole = min(filled, k - 1)
                while (
                    hole > 0 and out_distances[i, hole - 1] == d and out_neighbors[i, hole - 1] > j
                ):
                    out_neighbors[i, hole] = out_neighbors[i, hole - 1]
                    out_distances[i, hole] = out_distances[i, hole - 1]
                    hole -= 1
                out_neighbors[i, hole] = j
                out_distances[i, hole] = d
                filled = min(filled + 1, k)
