"""Small budgets: the selection for a larger one, thinned evenly.

A pick's messages reach the k neighbours that it has in the graph. Where far fewer than one row in k
is kept they cannot spread the picks any more: after the last one, whole regions still wait with the
scores that they began with, and what was kept is the hardest alone. So the messages are given a
budget that they can spread, and of its picks, in their order, every so many-th is kept.

How large that budget is goes by where the hardest rows lie. Scattered among the others they are
spread before any message; clumped together they need more.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from d2cli.graph.knn_graph import Edges
from d2cli.runtime.jit import kernel
from d2cli.selection.budgets import cutoff_rows
from d2cli.selection.greedy import Rules, Selection

#: The least share of the rows that the messages are given to spread, and the same where the hardest
#: rows are clumped: one and two for every ten neighbours of the default graph. See
#: evidence/README.md.
SPREAD, SPREAD_CLUMPED = Fraction(1, 10), Fraction(1, 5)
#: The hardest tenth is clumped where more of its neighbours than that, of those that may be picked,
#: are of it themselves.
CLUMPED = Fraction(3, 8)


def widened(
    size: int, rules: Rules, edges: Edges, propagated: NDArray[np.float64]
) -> tuple[int, Rules]:
    """The budget and the rules for a selection that is to be thinned to `size`.

    Args:
        size: how many are to be kept, included rows counted in.
        rules: who may be picked, for `size`.
        edges: the graph of n rows.
        propagated: (n,) scores after the forward pass.

    Returns:
        The size, and the rules for it: each class's quota grows alike, as far as the class goes.
        Both as they are, where `size` is no less than what the messages can spread.
    """
    out = np.zeros(propagated.size, np.bool_)
    if rules.drop is not None:
        out |= rules.drop
    included = 0
    if rules.include is not None:
        out |= rules.include
        included = int(rules.include.sum())
    left, asked = propagated.size - int(out.sum()), size - included
    wide = min(left, math.ceil(SPREAD_CLUMPED * left))
    if asked >= wide or asked < 1:
        return size, rules
    hardest = cutoff_rows(propagated, 0.0, out, count=math.ceil(SPREAD * left))
    if share_within(edges, hardest, ~out) <= CLUMPED:
        wide = math.ceil(SPREAD * left)
        if asked >= wide:
            return size, rules
    if rules.classes is None or rules.quotas is None:
        return included + wide, rules
    there = rules.of_each_class(~out)
    chosen = np.zeros_like(there)
    if rules.include is not None:
        chosen = rules.of_each_class(rules.include)
    more = [-(-int(q) * wide // asked) for q in rules.quotas - chosen]
    quotas = chosen + np.minimum(np.array(more, np.int64), there)
    return int(quotas.sum()), replace(rules, quotas=quotas)


def share_within(edges: Edges, rows: NDArray[np.bool_], among: NDArray[np.bool_]) -> Fraction:
    """Of the neighbours that these rows have among others, the share that is of these rows.

    Args:
        edges: the graph of n rows.
        rows: (n,) bool.
        among: (n,) bool, the rows that count as neighbours, `rows` included.

    Returns:
        0 where they have none.
    """
    inside, all_told = _ends(edges.indptr, edges.indices, rows, among)
    return Fraction(int(inside), int(all_told)) if all_told else Fraction(0)


@kernel
def _ends(indptr, indices, rows, among):
    """How many edges of `rows` end among them, and how many in `among`."""
    inside = 0
    all_told = 0
    for i in range(rows.shape[0]):
        if rows[i]:
            for e in range(indptr[i], indptr[i + 1]):
                inside += rows[indices[e]]
                all_told += among[indices[e]]
    return inside, all_told


def thinned(selection: Selection, size: int, rules: Rules) -> Selection:
    """Of each class, its picks 0, s, 2s, … rounded down, in their order; included rows stay.

    Args:
        selection: for a larger budget.
        size: how many to keep.
        rules: who may be picked, for `size`.
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
    """`size` of 0 … count - 1, evenly spread from the first."""
    return np.arange(size, dtype=np.int64) * count // size
