"""Thinning: a small budget keeps evenly spaced picks of a larger selection.

The reverse messages of a pick reach its k neighbours. With far fewer picks than one per k rows,
most regions of the graph receive no message, and the picks are simply the hardest rows. So for a
small budget, d2prune selects 10 % of the rows (20 % if the hardest rows are clustered) and keeps
the picks 0, s, 2s, … of these, in their order.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.graph.knn_graph import Edges
from d2cli.runtime.decisions import Decision
from d2cli.runtime.jit import kernel
from d2cli.selection.budgets import cutoff_rows
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
    size: int, rules: Rules, edges: Edges, propagated: NDArray[np.float64]
) -> tuple[int, Rules, Decision]:
    """Raise a small budget to ``⌈p·m⌉`` picks; m is the number of eligible rows.

    p = 1/5 if the hardest ⌈m/10⌉ rows by `propagated` are clustered, else 1/10. *Clustered*: more
    than 3/8 of their eligible neighbours are among them.

    Args:
        size: rows to keep, included rows counted in.
        rules: the rules for `size`.
        edges: the graph of n rows.
        propagated: (n,) scores after the forward pass.

    Returns:
        The number of picks, included rows counted in; the rules for it, where class quotas grow in
        proportion, up to the size of the class; and the decision, whose value is the number, or
        None without thinning. `size` and `rules` are unchanged if at least ⌈p·m⌉ rows, or none, are
        to be chosen.
    """
    eligible = rules.eligible
    rows, included = int(eligible.sum()), rules.included
    asked = size - included
    numbers: dict[str, Any] = {"rows": rows, "size": int(asked)}
    wide = min(rows, math.ceil(SPREAD_CLUSTERED * rows))
    if 1 <= asked < wide:
        hardest = cutoff_rows(propagated, 0.0, ~eligible, count=math.ceil(SPREAD * rows))
        share = share_within(edges, hardest, eligible)
        numbers |= {"share_of_neighbours": float(share), "clustered_above": float(CLUSTERED)}
        if share <= CLUSTERED:
            wide = math.ceil(SPREAD * rows)
    numbers["least_picks"] = wide
    total = size
    if 1 <= asked < wide:
        total = included + wide
        if rules.classes is not None and rules.quotas is not None:
            chosen = rules.of_each_class(rules.include)
            more = [-(-int(q) * wide // asked) for q in rules.quotas - chosen]
            most = rules.of_each_class(eligible)
            quotas = chosen + np.minimum(np.array(more, np.int64), most)
            total, rules = int(quotas.sum()), replace(rules, quotas=quotas)
    return total, rules, Decision("thinning", total if total > size else None, _RULE, numbers)


def share_within(edges: Edges, rows: NDArray[np.bool_], among: NDArray[np.bool_]) -> Fraction:
    """The share of `rows` among those neighbours of `rows` that are in `among`.

    Args:
        edges: the graph of n rows.
        rows: (n,) bool, part of `among`.
        among: (n,) bool, the rows that count as neighbours.

    Returns:
        0 … 1; 0 if there are no such neighbours.
    """
    inside, total = _count_neighbours(edges.indptr, edges.indices, rows, among)
    return Fraction(int(inside), int(total)) if total else Fraction(0)


@kernel
def _count_neighbours(indptr, indices, rows, among):
    """The neighbours of `rows` that are in `rows`, and those that are in `among`."""
    inside = 0
    total = 0
    for i in range(rows.shape[0]):
        if rows[i]:
            for e in range(indptr[i], indptr[i + 1]):
                inside += rows[indices[e]]
                total += among[indices[e]]
    return inside, total


def thinned(selection: Selection, size: int, rules: Rules) -> Selection:
    """Keep the included rows and, of each class, evenly spaced picks in their order.

    Of c picks of a class, q are kept: those at the places ``⌊i·c/q⌋``, i = 0 … q − 1.

    Args:
        selection: of at least `size` rows; not changed.
        size: rows to keep.
        rules: the rules for `size`.
    """
    wide = selection.order.size
    if wide == size:
        return selection
    first = selection.included
    kept = [np.arange(first)]
    picks = selection.order[first:]
    if rules.classes is None or rules.quotas is None:
        kept.append(first + _evenly(picks.size, size - first))
    else:
        classes, quotas = rules.classes[picks], rules.quotas.copy()
        quotas -= np.bincount(rules.classes[selection.order[:first]], minlength=quotas.size)
        for name in np.flatnonzero(quotas):
            places = np.flatnonzero(classes == name)
            kept.append(first + places[_evenly(places.size, int(quotas[name]))])
    at = np.sort(np.concatenate(kept))
    ran_out = selection.ran_out_at
    if ran_out is not None:
        ran_out = int(np.searchsorted(at, ran_out))
    return replace(
        selection,
        order=selection.order[at],
        gains=selection.gains[at],
        ran_out_at=ran_out if ran_out is not None and ran_out < size else None,
        thinned_from=wide,
    )


def _evenly(count: int, size: int) -> NDArray[np.int64]:
    """`size` of the places 0 … count - 1, evenly spaced from the first."""
    return np.arange(size, dtype=np.int64) * count // size
