"""Published selection methods on arrays, to compare with D2 pruning at an equal budget.

Each function follows its paper and returns `size` row numbers, (size,) int64, 1 <= size <= n. Where
the paper leaves a choice open, or differs from its code, the docstring states what is done here.
Inputs are not changed:

- `embeddings`: (n, d) floats, may be memory-mapped; `labels`: (n,) the class of each row, or None
  for one class; `metric`: ``cosine`` is Euclidean distance between unit vectors;
- `scores`: (n,) finite, higher = harder; `graph`: a :class:`~d2cli.KnnGraph` of n rows;
- `cutoff`: β, 0 <= β < 1; `seed`: of the random draws; `threads`: as in :func:`d2cli.build_graph`.

They raise a UsageError for an option out of range, and a DataError for data that cannot be used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

#: Methods and their modules. They load on first use: a plan imports only the sizes.
_HOMES = {
    **dict.fromkeys(("coverage_centric", "highest", "highest_after_cutoff"), "baselines.by_score"),
    **dict.fromkeys(("facility_location", "near_duplicates"), "baselines.on_graph"),
    **dict.fromkeys(("k_center", "moderate"), "baselines.on_embeddings"),
    "random_rows": "evaluation.selections",
}

__all__ = [*_HOMES]

if TYPE_CHECKING:
    from d2cli.baselines.by_score import coverage_centric, highest, highest_after_cutoff
    from d2cli.baselines.on_embeddings import k_center, moderate
    from d2cli.baselines.on_graph import facility_location, near_duplicates
    from d2cli.evaluation.selections import random_rows


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"d2cli.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
