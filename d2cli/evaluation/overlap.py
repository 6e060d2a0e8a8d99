"""How much several selections of one set have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from d2cli.evaluation.coverage import check_selection


def shared_rows(selections: Sequence[NDArray[np.integer]], n: int) -> NDArray[np.int64]:
    """How many rows each two selections share, (s, s); the diagonal holds their sizes.

    Args:
        selections: s of them, (N_i,) row numbers each, at least one, none twice.
        n: rows in the full set.
    """
    shared = np.zeros((len(selections), len(selections)), np.int64)
    checked = [check_selection(rows, n) for rows in selections]
    for i, one in enumerate(checked):
        mask = np.zeros(n, np.bool_)
        mask[one] = True
        for j in range(i, len(checked)):
            shared[i, j] = shared[j, i] = int(np.count_nonzero(mask[checked[j]]))
    return shared


def jaccard(shared: NDArray[np.int64]) -> NDArray[np.float64]:
    """Shared rows over rows in either, (s, s), 0 … 1, from :func:`shared_rows`."""
    sizes = np.diag(shared)
    return shared / (sizes[:, None] + sizes[None, :] - shared)


def expected_shared(sizes: NDArray[np.integer], n: int) -> NDArray[np.float64]:
    """How many rows random selections of these (s,) sizes would share on average, (s, s)."""
    wide = np.asarray(sizes, np.float64)
    expected: NDArray[np.float64] = wide[:, None] * wide[None, :] / n
    np.fill_diagonal(expected, wide)
    return expected
