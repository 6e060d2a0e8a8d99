"""Exactly equal rows: each distinct vector is searched for once; then its copies are listed too.

Many equal rows make an approximate search fail: they fill each other's lists, and the search graph
falls apart.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import for_blocks
from d2cli.graph.vectors import Group
from d2cli.runtime.arrays import Float32, Int32, Int64
from d2cli.runtime.jit import kernel


class Duplicates(NamedTuple):
    """Classes of equal rows. Rows are numbered within the group that was searched."""

    first: Int64  # (g,), the lowest row of each class, ascending
    label: Int32  # (n,), the class of each row
    indptr: Int64  # (g + 1,); the rows of class c are members[indptr[c]:indptr[c + 1]]
    members: Int32  # (n,), the rows of each class, ascending

    def spread(self, neighbors: Int32, distances: Float32) -> tuple[Int32, Float32]:
        """Expand the lists (g, k) of the g distinct rows, numbered 0 … g-1, to lists (n, k)."""
        shape = (self.label.size, neighbors.shape[1])
        out = np.full(shape, -1, np.int32), np.full(shape, np.inf, np.float32)
        _spread(self.label, self.indptr, self.members, neighbors, distances, *out)
        return out


def find_duplicates(group: Group, threads: int = 1) -> Duplicates | None:
    """The classes of exactly equal rows (-0.0 equals 0.0), or None if all rows are distinct."""
    n, vectors = len(group), group.vectors
    hashes = np.empty(n, np.uint64)
    # Keys have the width of the numbers: 32-bit products are vectorised better than 64-bit ones.
    number = np.uint32 if vectors.itemsize == 4 else np.uint64
    keys = _keys(vectors.shape[1], number)
    negative_zero = vectors.dtype.type(-0.0).view(number)

    def hash_block(start: int, stop: int) -> None:
        bits = group.block(start, stop).view(number)
        with np.errstate(over="ignore"):  # sums wrap around
            _hash_rows(bits, keys, negative_zero, hashes[start:stop])

    for_blocks(hash_block, n, 4096, threads)
    by_hash = np.argsort(hashes, kind="stable")
    label = np.empty(n, np.int32)
    count = _label(vectors, group.all_rows(), hashes, by_hash, label)
    if count == n:
        return None
    members = np.argsort(label, kind="stable").astype(np.int32)
    indptr = np.append(0, np.bincount(label).cumsum())
    return Duplicates(members[indptr[:-1]].astype(np.int64), label, indptr, members)


@cache
def _keys(count: int, number: type[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Odd multipliers of the hash, cached because making a generator takes longer than hashing."""
    keys = np.random.default_rng(0).integers(0, np.iinfo(number).max, count, number) | number(1)
    keys.flags.writeable = False
    return keys


@kernel
def _hash_rows(bits, keys, negative_zero, hashes):
    """hashes[r] <- Σ_c bits[r, c] · keys[c] modulo 2^64, with the bits of 0.0 for -0.0."""
    for r in range(bits.shape[0]):
        row, total = bits[r], np.uint64(0)
        for c in range(row.shape[0]):
            number = row[c] if row[c] != negative_zero else keys.dtype.type(0)
            total += np.uint64(number) * np.uint64(keys[c])
        hashes[r] = total


@kernel
def _label(vectors, rows, hashes, by_hash, label):
    """Number the classes of equal rows by their lowest row, write label (n,), return their count.

    Rows ascend within a run of equal hashes. A run has several classes only if hashes collide.
    """
    n = hashes.shape[0]
    first = np.empty(n, np.int32)
    start = count = 0
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
    for i in range(n):
        if first[i] == i:
            label[i] = count
            count += 1
        else:
            label[i] = label[first[i]]
    return count


@kernel
def _equal(a, b):
    for c in range(a.shape[0]):  # noqa: SIM110, numba compiles no generator
        if a[c] != b[c]:
            return False
    return True


@kernel
def _spread(label, indptr, members, neighbors, distances, out_neighbors, out_distances):
    """List the copies of row i (distance 0), then those of each neighbour; ties by row number."""
    n, k = out_neighbors.shape
    for i in range(n):
        listed, lengths = out_neighbors[i], out_distances[i]
        g, filled = label[i], 0
        for p in range(-1, neighbors.shape[1]):
            other = g if p < 0 else neighbors[g, p]
            d = np.float32(0.0) if p < 0 else distances[g, p]
            if other < 0 or (filled == k and d > lengths[k - 1]):
                break
            for at in range(indptr[other], indptr[other + 1]):
                j = members[at]
                if j == i:
                    continue
                if filled == k and (d > lengths[k - 1] or j > listed[k - 1]):
                    break  # members ascend, so the rest of this class sorts after the list's end
                hole = min(filled, k - 1)
                while hole > 0 and lengths[hole - 1] == d and listed[hole - 1] > j:
                    listed[hole], lengths[hole] = listed[hole - 1], lengths[hole - 1]
                    hole -= 1
                listed[hole], lengths[hole] = j, d
                filled = min(filled + 1, k)
