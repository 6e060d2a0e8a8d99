"""Published selection methods on arrays, to compare with D2 pruning at an equal budget.

Each function returns `size` row numbers and follows its paper. Where the paper leaves a choice
open, or differs from its code, the docstring states what is done here.
"""

from d2cli.baselines.by_score import coverage_centric, highest, highest_after_cutoff
from d2cli.baselines.class_centres import moderate
from d2cli.baselines.farthest_first import k_center
from d2cli.baselines.on_graph import facility_location, near_duplicates
from d2cli.evaluation.selections import random_rows

__all__ = [
    "coverage_centric",
    "facility_location",
    "highest",
    "highest_after_cutoff",
    "k_center",
    "moderate",
    "near_duplicates",
    "random_rows",
]
