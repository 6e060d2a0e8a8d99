"""Thinning: a small budget keeps evenly spaced picks of a larger selection.

The reverse messages of a pick reach its k neighbours. With far fewer picks than one per k rows,
most regions of the graph receive no message, and the picks are simply the hardest rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.graph.knn_graph import Edges
from d2cli.messages.parts import EdgeParts, marked_neighbours
from d2cli.runtime.decisions import Decision
from d2cli.selection.budgets import hardest
from d2cli.selection.greedy import Rules, Selection
from d2cli.selection.sizes import SPREAD, SPREAD_CLUSTERED

#: The hardest 10 % are clustered if more than this share of their neighbours is in the 10 % too.
CLUSTERED = Fraction(3, 8)

_RULE = (
    f"select ⌈p·m⌉ rows and keep N of them evenly, if N < ⌈p·m⌉; p = {SPREAD_CLUSTERED} if more "
    f"than {CLUSTERED} of the neighbours of the hardest {SPREAD} of the rows are among these, "
    f"else {SPREAD}"
)


def widened(
    size: int, rules: Rules, edges: Edges | EdgeParts, propagated: NDArray[np.float64]
) -> tuple[int, Rules, Decision]:
    """Raise a small budget to ``⌈p·m⌉`` picks; m is the number of eligible rows.

    p = 1/5 if the hardest ⌈m/10⌉ rows by `propagated` are clustered, else 1/10. *Clustered*: more
    than 3/8 of their eligible neighbours are among them.

    `size` includes the included rows; `rules` hold the quotas for `size`. Both are returned
    unchanged if at least ⌈p·m⌉ rows, or none, are to be chosen.

    Returns:
        The number of picks, included rows counted in; the rules for it, where class quotas grow in
        proportion, up to the size of the class, and limits of cost with them; and the decision,
        whose value is the number, or None without thinning.
    """
    eligible = rules.eligible
    rows, included = int(eligible.sum()), rules.included
    asked, before = size - included, rules.asked(size)
    numbers: dict[str, Any] = {"rows": rows, "size": int(asked)}
    wide = min(rows, math.ceil(SPREAD_CLUSTERED * rows))
    if 1 <= asked < wide:
        top = hardest(propagated, math.ceil(SPREAD * rows), eligible)
        share = share_within(edges, top, eligible)
        numbers |= {"share_of_neighbours": float(share), "clustered_above": float(CLUSTERED)}
        if share <= CLUSTERED:
            wide = math.ceil(SPREAD * rows)
    numbers["least_picks"] = wide
    total = size
    if 1 <= asked < wide:
        total = included + wide
        if rules.quotas is not None:
            more = np.array([-(-int(picks) * wide // asked) for picks in before])
            most = rules.count_by_class(eligible)
            quotas = rules.count_by_class(rules.include) + np.minimum(more, most)
            total, rules = int(quotas.sum()), replace(rules, quotas=quotas)
        if rules.cost_limits is not None:
            raised = rules.cost_limits.raised(before, rules.asked(total))
            rules = replace(rules, cost_limits=raised)
    return total, rules, Decision("thinning", total if total > size else None, _RULE, numbers)


def share_within(
    edges: Edges | EdgeParts, rows: NDArray[np.bool_], among: NDArray[np.bool_]
) -> Fraction:
    """The share of `rows` among those neighbours of `rows` that are in `among`; 0 without any.

    `rows` and `among` are (n,) bool, and `rows` are part of `among`.
    """
    inside, total = (
        int(marked_neighbours(edges, marked, np.flatnonzero(rows)).sum())
        for marked in (rows, among)
    )
    return Fraction(inside, total) if total else Fraction(0)


def thinned(selection: Selection, size: int, rules: Rules) -> Selection:
    """Keep the included rows and, of each class, evenly spaced picks in their order.

    Of W picks of a class, N are kept: those at the places ``⌊i·W/N⌋``, i = 0 … N − 1. `rules` hold
    the quotas for `size`; `selection` has at least `size` rows.
    """
    if selection.order.size == size:
        return selection
    asked = rules.asked(size)
    return kept_of_classes(selection, rules, lambda c, places: evenly(places, int(asked[c])))


def kept_of_classes(
    selection: Selection, rules: Rules,
    choose: Callable[[int, NDArray[np.int64]], NDArray[np.int64]],
) -> Selection:  # fmt: skip
    """Keep the included rows and, of each class, some of its picks.

    ``choose(c, places)`` returns those of the places (W,) of the picks of class c, ascending places
    in the order of `selection`, that are kept.
    """
    first = selection.included
    picks = selection.order[first:]
    classes = np.zeros(picks.size, int) if rules.classes is None else rules.classes[picks]
    count = 1 if rules.quotas is None else rules.quotas.size
    ends = np.cumsum(np.bincount(classes, minlength=count))
    of_classes = np.split(first + np.argsort(classes, kind="stable"), ends[:-1])
    kept = [choose(c, places) for c, places in enumerate(of_classes)]
    at = np.sort(np.concatenate([np.arange(first), *kept]))
    order, gains = selection.order[at], selection.gains[at]
    return replace(selection, order=order, gains=gains, thinned_from=selection.order.size)


def evenly(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """`count` of W `places`: those at ``⌊i·W/count⌋``, i = 0 … count − 1."""
    return places[np.arange(count) * places.size // max(1, count)]
