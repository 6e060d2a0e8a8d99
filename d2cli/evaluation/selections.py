"""Selections as row numbers: checked, drawn at random, and compared with each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError, UsageError

Rows = NDArray[np.int64]

#: Random selections that each measure is compared with: seeds 0 … 4.
RANDOM_SEEDS = 5


def check_selection(selected: NDArray[np.integer], n: int, argument: str = "selected") -> Rows:
    """Return (N,) row numbers as int64; a DataError unless N >= 1, in 0 … n - 1, none twice."""
    rows = np.asarray(selected)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        found = f"{rows.shape} {rows.dtype}"
        message = f"{argument} must be one-dimensional row numbers, not {found}"
        raise DataError(message, argument=argument)
    if not rows.size:
        raise DataError(f"{argument} holds no rows", argument=argument)
    if rows.min() < 0 or rows.max() >= n:
        at = int(np.argmax((rows < 0) | (rows >= n)))
        raise DataError(f"{rows[at]} is none of {n:,} rows", argument=argument, row=at)
    rows = rows.astype(np.int64)
    if np.bincount(rows).max() > 1:
        first = np.unique(rows, return_index=True)[1]
        again = int(np.setdiff1d(np.arange(rows.size), first)[0])
        raise DataError(f"row {rows[again]} is selected twice", argument=argument, row=again)
    return rows


def random_rows(n: int, size: int, *, seed: int = 0) -> Rows:
    """Draw `size` of n rows without replacement, each equally likely.

    ``compare`` and ``report`` both call this function, so that their random selections of one seed
    are the same rows. Returns (size,) int64 in random order; every prefix is the selection of that
    smaller size. Raises a UsageError unless 1 <= size <= n.
    """
    if not 1 <= size <= n:
        raise UsageError(f"a budget must be between 1 and the number of rows, {n:,}, not {size:,}")
    return np.random.default_rng(seed).permutation(n)[:size].copy()


def sample_rows(n: int, most: int, seed: int) -> Rows:
    """Draw at most `most` of n rows, ascending; all rows if n <= most.

    For one seed, the rows are independent of those of :func:`random_rows`: otherwise a random
    selection would be measured on its own rows.
    """
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng((seed, 1)).choice(n, most, replace=False))


def top_places(rows: Rows, values: NDArray[np.floating], most: int) -> Rows:
    """Return the positions of the `most` highest of `values` (m,), ties to the lowest of `rows`."""
    return np.lexsort((rows, -values))[:most]


def shared_rows(selections: Sequence[NDArray[np.integer]], n: int) -> NDArray[np.int64]:
    """Count the rows that each two of s selections of n rows share: (s, s), sizes on the diagonal.

    Each selection is an array (N_i,) of row numbers, each at most once.
    """
    shared = np.zeros((len(selections), len(selections)), np.int64)
    checked = [check_selection(rows, n) for rows in selections]
    for i, one in enumerate(checked):
        mask = np.zeros(n, np.bool_)
        mask[one] = True
        shared[i] = [np.count_nonzero(mask[other]) for other in checked]
    return shared


def jaccard(shared: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shared rows divided by rows in either selection, (s, s), from :func:`shared_rows`."""
    sizes = np.diag(shared)
    return shared / (sizes[:, None] + sizes[None, :] - shared)


def expected_shared(sizes: NDArray[np.integer], n: int) -> NDArray[np.float64]:
    """Expected number of rows shared by random selections of these (s,) sizes, (s, s)."""
    wide = sizes.astype(np.float64)
    expected: NDArray[np.float64] = np.outer(wide, wide) / n
    np.fill_diagonal(expected, wide)
    return expected
