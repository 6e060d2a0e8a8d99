"""Thinning: a small budget keeps evenly spaced picks of a larger selection.

The reverse messages of a pick reach its k neighbours. With far fewer picks than one per k rows,
most regions of the graph receive no message, and the picks are simply the highest scores.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from d2cli.selection.greedy import Rules, Selection


def widened(size: int, wide: int, rules: Rules) -> tuple[int, Rules]:
    """Raise a budget of `size` picks so that `wide` rows are picked besides the included ones.

    Args:
        size: number of picks, included rows counted in; there are more than these.
        wide: at least as many, at most the eligible rows.
        rules: with the quotas for `size`.

    Returns:
        The number of picks, included rows counted in, and the rules for it: class quotas grow in
        proportion, up to the size of the class, and limits of cost with them.
    """
    asked, before = size - rules.included, rules.asked(size)
    total = rules.included + wide
    if rules.quotas is not None:
        more = np.array([-(-int(picks) * wide // asked) for picks in before])
        most = rules.count_by_class(rules.eligible)
        quotas = rules.count_by_class(rules.include) + np.minimum(more, most)
        total, rules = int(quotas.sum()), replace(rules, quotas=quotas)
    if rules.cost_limits is not None:
        raised = rules.cost_limits.raised(before, rules.asked(total))
        rules = replace(rules, cost_limits=raised)
    return total, rules


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
