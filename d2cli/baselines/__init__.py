"""Published selection methods on arrays, to compare with D2 pruning at an equal budget.

Each function follows its paper and returns `size` row numbers, (size,) int64, 1 <= size <= n. Where
the paper leaves a choice open, or differs from its code, the docstring states what is done here.
Inputs are not changed:

- `embeddings`: (n, d) floats, may be memory-mapped; `labels`: (n,) the class of each row, or None
  for one class; `metric`: ``cosine`` is Euclidean distance between unit vectors;
- `scores`: (n,) finite, higher = harder; `graph`: a :class:`~d2cli.KnnGraph` of n rows, or where
  its type says so :class:`~d2cli.graph.knn_graph.Edges`, and then `edges` is ignored and
  `bandwidth` must be a number;
- `cutoff`: β, 0 <= β < 1; `seed`: of the random draws; `threads`: as in :func:`d2cli.build_graph`;
- `progress`: called with (stage, steps done, steps).

They raise a UsageError for an option out of range, and a DataError for data that cannot be used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

#: Methods and their modules. They load on first use: a plan imports only the sizes.
_HOMES = {
    **dict.fromkeys(
        ("coverage_centric", "dual_sampling", "highest", "highest_after_cutoff"),
        "baselines.by_score",
    ),
    **dict.fromkeys(
        ("d2_paper", "facility_location", "near_duplicates", "semdedup_then_score"),
        "baselines.on_graph",
    ),
    **dict.fromkeys(("k_center", "moderate"), "baselines.on_embeddings"),
    **dict.fromkeys(("graph_cut", "infomax"), "baselines.pairwise"),
    "random_rows": "evaluation.selections",
    "zcore": "baselines.in_planes",
}

__all__ = [*_HOMES]

if TYPE_CHECKING:
    from d2cli.baselines.by_score import (
        coverage_centric,
        dual_sampling,
        highest,
        highest_after_cutoff,
    )
    from d2cli.baselines.in_planes import zcore
    from d2cli.baselines.on_embeddings import k_center, moderate
    from d2cli.baselines.on_graph import (
        d2_paper,
        facility_location,
        near_duplicates,
        semdedup_then_score,
    )
    from d2cli.baselines.pairwise import graph_cut, infomax
    from d2cli.evaluation.selections import random_rows


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"d2cli.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
