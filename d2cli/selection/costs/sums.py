"""Sums of costs, and costs as text. Imports no numba."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def total_cost(costs: NDArray[np.float64], rows: NDArray[np.int64]) -> float:
    """The sum of the costs of `rows`, added in their order."""
    return float(np.cumsum(costs[rows])[-1]) if rows.size else 0.0


def as_text(cost: float) -> str:
    """A cost for people: 1,250,000 or 0.25."""
    return f"{cost:,.15g}"
