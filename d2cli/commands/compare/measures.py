"""What is measured of each method at each budget."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import CompareMethod
from d2cli.evaluation.balance import BinCounts
from d2cli.evaluation.coverage import Coverage
from d2cli.evaluation.redundancy import Redundancy


@dataclass(frozen=True)
class MethodMeasures:
    """One method at one budget.

    Attributes:
        rows: (N,) the rows that it keeps.
        difficulty: the mean over the kept rows of the share of rows that are no harder, 0 … 1.
        classes: counts by class, or None if there are no labels.
    """

    method: CompareMethod
    rows: NDArray[np.int64]
    coverage: Coverage
    redundancy: Redundancy
    difficulty: float
    classes: BinCounts | None


@dataclass(frozen=True)
class Compared:
    """All methods at one budget; `shared` (m, m) counts the rows that each two have in common."""

    size: int
    methods: list[MethodMeasures]
    shared: NDArray[np.int64]
