"""Heaps for kernels, the highest value on top, ties to the lowest row.

A *binary heap* is two arrays, values and rows. An *indexed heap* is an array of rows with ARITY
children per place, ordered by ``u[row]``, and an array `place` that says where each row stands, so
that a row can move when its score changes.
"""

from __future__ import annotations

from d2cli.runtime.jit import borrowing_kernel

ARITY = 4  #: children per place of an indexed heap


@borrowing_kernel
def before(value_a, row_a, value_b, row_b):
    """Whether row_a is above row_b in a heap: higher value, or equal value and lower row."""
    return value_a > value_b or (value_a == value_b and row_a < row_b)


@borrowing_kernel
def sink(values, rows, size, hole, value, row):
    """Put (value, row) into a binary heap at the free place `hole` or below it."""
    child = 2 * hole + 1
    while child < size:
        right = child + 1
        if right < size and before(values[right], rows[right], values[child], rows[child]):
            child = right
        if not before(values[child], rows[child], value, row):
            break
        values[hole], rows[hole] = values[child], rows[child]
        hole, child = child, 2 * child + 1
    values[hole], rows[hole] = value, row


@borrowing_kernel
def heapify(values, rows, size):
    """Turn the first `size` entries into a binary heap, in place."""
    for hole in range(size // 2 - 1, -1, -1):
        sink(values, rows, size, hole, values[hole], rows[hole])


@borrowing_kernel
def drop_top(values, rows, size):
    """Remove the top of a binary heap of `size` entries; returns the new size."""
    sink(values, rows, size - 1, 0, values[size - 1], rows[size - 1])
    return size - 1


@borrowing_kernel
def rise(heap, place, u, hole, k):
    """Put row k into an indexed heap at the free place `hole` or above it; returns its place."""
    while hole > 0:
        parent = (hole - 1) // ARITY
        p = heap[parent]
        if not before(u[k], k, u[p], p):
            break
        heap[hole], place[p] = p, hole
        hole = parent
    heap[hole], place[k] = k, hole
    return hole


@borrowing_kernel
def fall(heap, place, u, size, hole, k):
    """Put row k into an indexed heap of `size` rows at the free place `hole` or below it."""
    while True:
        first = ARITY * hole + 1
        if first >= size:
            break
        best = first
        for child in range(first + 1, min(first + ARITY, size)):
            if before(u[heap[child]], heap[child], u[heap[best]], heap[best]):
                best = child
        c = heap[best]
        if not before(u[c], c, u[k], k):
            break
        heap[hole], place[c] = c, hole
        hole = best
    heap[hole], place[k] = k, hole
