"""Exactly equal rows: each distinct vector is searched for once; then its copies are listed too.

Many equal rows make an approximate search fail: they fill each other's lists, and the search graph
falls apart.
"""

from functools import cache, partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.store import PartStore
from d2cli.engine.tasks import Engine
from d2cli.engine.threads import silent
from d2cli.graph.blocks.ranked import Ranked
from d2cli.graph.vectors import Group, ReadVectors, Span, block_rows, for_spans, spans_of
from d2cli.runtime.arrays import Float32, Int32, Int64
from d2cli.runtime.jit import kernel

#: Rows whose lists are put together at a time.
_SPREAD = 1 << 16


class Duplicates(NamedTuple):
    """Classes of equal rows. Rows are numbered within the group that was searched."""

    first: Int64  # (g,), the lowest row of each class, ascending
    label: Int32  # (n,), the class of each row
    indptr: Int64  # (g + 1,); the rows of class c are members[indptr[c]:indptr[c + 1]]
    members: Int32  # (n,), the rows of each class, ascending

    def spread(self, found: Ranked, start: int, stop: int) -> tuple[Int32, Float32]:
        """The lists of the rows start … stop, from those `found` of the g distinct rows."""
        distinct, at = np.unique(self.label[start:stop], return_inverse=True)
        neighbors, distances = found.take(distinct.astype(np.int64))
        shape = (stop - start, neighbors.shape[1])
        out = np.full(shape, -1, np.int32), np.full(shape, np.inf, np.float32)
        _spread(start, distinct, at, self.indptr, self.members, neighbors, distances, *out)
        return out


class Spread:
    """The lists of all rows, from those of the distinct rows; see :class:`Ranked`."""

    def __init__(self, duplicates: Duplicates, found: Ranked) -> None:
        self._duplicates, self._found = duplicates, found

    def rows(self, start: int, stop: int) -> tuple[Int32, Float32]:
        spans = [(a, min(a + _SPREAD, stop)) for a in range(start, stop, _SPREAD)]
        lists = [self._duplicates.spread(self._found, *span) for span in spans]
        return np.concatenate([n for n, _ in lists]), np.concatenate([d for _, d in lists])

    def take(self, numbers: Int64) -> tuple[Int32, Float32]:
        lists = [self._duplicates.spread(self._found, i, i + 1) for i in numbers.tolist()]
        return np.concatenate([n for n, _ in lists]), np.concatenate([d for _, d in lists])


def find_duplicates(
    group: Group, engine: Engine | None = None, store: PartStore | None = None
) -> Duplicates | None:  # fmt: skip
    """The classes of exactly equal rows (-0.0 equals 0.0), or None if all rows are distinct.

    Tasks of `engine` (None: one thread) hash spans of rows; parts ``hashes`` of `store` are what
    they found.
    """
    n, vectors = len(group), group.vectors
    engine, store = engine or Engine(1), store or PartStore()
    spans = spans_of(n, vectors.shape[1])
    for_spans(engine, store, partial(_hash_span, group, store), spans, "hashes", silent, "")
    hashes = np.concatenate([store.get("hashes", span.number, "hashes") for span in spans])
    by_hash = np.argsort(hashes, kind="stable")
    if isinstance(vectors, ReadVectors):
        first = _first_equal(group, hashes, by_hash)
        if first is None:
            return None
        firsts = first == np.arange(n, dtype=np.int32)
        label = (np.cumsum(firsts, dtype=np.int32) - np.int32(1))[first]
    else:
        label = np.empty(n, np.int32)
        if _label(vectors, group.all_rows(), hashes, by_hash, label) == n:
            return None
    members = np.argsort(label, kind="stable").astype(np.int32)
    indptr = np.append(0, np.bincount(label).cumsum())
    return Duplicates(members[indptr[:-1]].astype(np.int64), label, indptr, members)


def _hash_span(group: Group, store: PartStore, span: Span) -> None:
    """Store the hashes (m,) uint64 of the rows of a span."""
    hashes = np.empty(span.stop - span.start, np.uint64)
    d = group.vectors.shape[1]
    # Keys have the width of the numbers: 32-bit products are vectorised better than 64-bit ones.
    number = np.uint32 if group.vectors.itemsize == 4 else np.uint64
    keys = _keys(d, number)
    negative_zero = np.array(-0.0, group.vectors.dtype).view(number)[()]
    for start, stop in span.blocks(d):
        bits = np.asarray(group.block(start, stop)).view(number)
        with np.errstate(over="ignore"):  # sums wrap around
            _hash_rows(bits, keys, negative_zero, hashes[start - span.start : stop - span.start])
    store.put("hashes", span.number, hashes=hashes)


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


def _first_equal(group: Group, hashes: NDArray[np.uint64], by_hash: Int64) -> Int32 | None:
    """The lowest row (n,) that equals each row, of vectors that are not in memory; None: itself.

    Only rows whose hashes are equal are read and compared; they are few.
    """
    ordered = hashes[by_hash]
    again = np.flatnonzero(ordered[1:] == ordered[:-1]) + 1  # places of rows that follow an equal
    del ordered
    if not again.size:
        return None
    begins = np.flatnonzero(np.diff(again, prepend=-1) > 1)
    lengths = np.diff(begins, append=again.size)
    first = np.arange(len(hashes), dtype=np.int32)
    first[by_hash[again]] = np.repeat(by_hash[again[begins] - 1], lengths)
    copies = np.sort(by_hash[again])
    collided: set[int] = set()  # the first rows of runs in which rows differ
    step = block_rows(group.vectors.shape[1])
    for start in range(0, len(copies), step):
        some = copies[start : start + step]
        sources, back = np.unique(first[some], return_inverse=True)
        differ = (group.vectors_at(some) != group.vectors_at(sources)[back]).any(axis=1)
        collided.update(first[some[differ]].tolist())
    for begin in collided:
        seen: dict[bytes, int] = {}
        for i in np.flatnonzero(first == begin).tolist():
            content = (group.vectors_at(np.array([i])) + 0.0).tobytes()  # 0.0 in place of -0.0
            first[i] = seen.setdefault(content, i)
    return first


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
def _spread(
    start, distinct, at, indptr, members, neighbors, distances, out_neighbors, out_distances
):  # fmt: skip
    """List the copies of each row (distance 0), then those of its neighbours; ties by row number.

    Rows start, start + 1, … are of the classes distinct[at[0]], distinct[at[1]], …; neighbors,
    distances are the lists of the `distinct` classes.
    """
    n, k = out_neighbors.shape
    for row in range(n):
        i = start + row
        listed, lengths = out_neighbors[row], out_distances[row]
        g, filled = at[row], 0
        for p in range(-1, neighbors.shape[1]):
            other = distinct[g] if p < 0 else neighbors[g, p]
            d = np.float32(0.0) if p < 0 else distances[g, p]
            if other < 0 or (filled == k and d > lengths[k - 1]):
                break
            for t in range(indptr[other], indptr[other + 1]):
                j = members[t]
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
