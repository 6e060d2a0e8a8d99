"""Memory of the measures of selections."""

from __future__ import annotations

import math
from collections.abc import Iterable

from d2cli.graph.exact.sizes import among_themselves, compare
from d2cli.graph.settings import Matrix
from d2cli.runtime.ledger import Ledger


def measures(ledger: Ledger, matrix: Matrix, sizes: Iterable[int], most: int, threads: int) -> None:
    """Coverage and redundancy of selections of these sizes; the vectors are held.

    Random selections of the same sizes need the same memory. `most` is the number of rows on which
    distances are measured.
    """
    ledger.stage = "measure"
    n = matrix.rows
    _nearest_others(ledger, matrix, n, most, threads)
    for size in dict.fromkeys(sizes):
        with ledger.passing("marks", 34 * n):
            others = math.ceil(min(n, most) * (n - size) / n)
            compare(ledger, matrix, 1, threads, others, size)
            _nearest_others(ledger, matrix, size, most, threads)


def _nearest_others(ledger: Ledger, matrix: Matrix, size: int, most: int, threads: int) -> None:
    """Distances within `size` rows, measured on at most `most` of them."""
    among = size if size < matrix.rows else None
    if size <= most:
        among_themselves(ledger, matrix, 1, threads, among)
    else:
        compare(ledger, matrix, 1, threads, most, among)
