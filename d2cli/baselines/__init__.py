"""Published selection methods on arrays, to compare with D2 pruning at an equal budget.

Each function returns `size` row numbers and follows its paper. Where the paper leaves a choice
open, or differs from its code, the docstring states what is done here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

#: Methods and their modules. They load on first use: a plan imports only the sizes.
_HOMES = {
    "coverage_centric": "d2cli.baselines.by_score",
    "facility_location": "d2cli.baselines.on_graph",
    "highest": "d2cli.baselines.by_score",
    "highest_after_cutoff": "d2cli.baselines.by_score",
    "k_center": "d2cli.baselines.farthest_first",
    "moderate": "d2cli.baselines.class_centres",
    "near_duplicates": "d2cli.baselines.on_graph",
    "random_rows": "d2cli.evaluation.selections",
}

__all__ = [*_HOMES]

if TYPE_CHECKING:
    from d2cli.baselines.by_score import coverage_centric, highest, highest_after_cutoff
    from d2cli.baselines.class_centres import moderate
    from d2cli.baselines.farthest_first import k_center
    from d2cli.baselines.on_graph import facility_location, near_duplicates
    from d2cli.evaluation.selections import random_rows


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
