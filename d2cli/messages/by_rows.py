"""Numbers of rows that are made from their edges: in threads, or by the tasks of an engine."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from d2cli.engine.threads import for_blocks
from d2cli.graph.knn_graph import Edges
from d2cli.messages.parts import EdgeParts, Span
from d2cli.messages.sizes import BLOCK_ROWS

#: ``rows(part, first, out, start, stop)`` writes the rows ``start … stop`` of a part, which begins
#: at row `first`; `out` holds the rows of the part.
Rows = Callable[[Edges, int, NDArray[np.float64], int, int], object]


def write_rows(
    parts: EdgeParts, rows: Rows, out: NDArray[np.float64], threads: int,
    told: Callable[[int], object],
) -> None:  # fmt: skip
    """Write all rows into `out` (n,); ``told(done)`` is called with the number of rows so far.

    If the parts have an engine, its tasks are given `rows`, which must be possible to pickle.
    """
    if parts.engine is None:
        for first, part in parts.loaded():

            def ended(_: str, done: int, __: int, first: int = first) -> None:
                told(first + done)

            size = part.indptr.size - 1
            work = partial(rows, part, first, out[first : first + size])
            for_blocks(work, size, BLOCK_ROWS, threads, ended)
        return
    so_far = 0

    def ended_task(count: int) -> None:
        nonlocal so_far
        so_far += count
        told(so_far)

    np.concatenate(parts.by_tasks(partial(_span, rows), ended_task), out=out)


def _span(rows: Rows, parts: EdgeParts, span: Span) -> NDArray[np.float64]:
    """The numbers of the rows of a span of parts."""
    start, stop = parts.starts[span[0]], parts.starts[span[1]]
    out = np.empty(stop - start)
    for first, part in parts.loaded(span):
        size = part.indptr.size - 1
        rows(part, first, out[first - start : first - start + size], 0, size)
    return out
