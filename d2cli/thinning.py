"""Small budgets: the selection for a larger one, thinned evenly.

A pick's messages reach the k neighbours that it has in the graph. Where far fewer than one row in k
is kept they cannot spread the picks any more: after the last one, whole regions still wait with the
scores that they began with, and what was kept is the hardest alone. So the messages are given a
budget that they can spread, and of its picks, in their order, every so many-th is kept.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from d2cli.sampling import Rules, Selection

#: The least share of the rows that the messages are given to spread: two for every ten neighbours
#: of the default graph. See evidence/README.md.
SPREAD = Fraction(1, 5)


def widened(size: int, rules: Rules, rows: int) -> tuple[int, Rules]:
    """The budget and the rules for a selection that is to be thinned to `size`.

    Args:
        size: how many are to be kept, included rows counted in.
        rules: who may be picked, for `size`.
        rows: n.

    Returns:
        The size, and the rules for it: each class's quota grows alike, as far as the class goes.
        Both as they are, where `size` is no less than what the messages can spread.
    """
    out = np.zeros(rows, np.bool_)
    if rules.drop is not None:
        out |= rules.drop
    included = 0
    if rules.include is not None:
        out |= rules.include
        included = int(rules.include.sum())
    left, asked = rows - int(out.sum()), size - included
    wide = min(left, math.ceil(SPREAD * left))
    if asked >= wide or asked < 1:
        return size, rules
    if rules.classes is None or rules.quotas is None:
        return included + wide, rules
    count = rules.quotas.size
    there = np.bincount(rules.classes[~out], minlength=count)
    chosen = np.zeros(count, np.int64)
    if rules.include is not None:
        chosen = np.bincount(rules.classes[rules.include], minlength=count)
    more = [-(-int(q) * wide // asked) for q in rules.quotas - chosen]
    quotas = chosen + np.minimum(np.array(more, np.int64), there)
    return int(quotas.sum()), replace(rules, quotas=quotas)


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
