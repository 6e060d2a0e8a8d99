"""Plain-loop twins of lift and of the rule that keeps it; no kernels are imported."""

import math
from fractions import Fraction
from itertools import pairwise

from tests import naive


def scale(scores, rows, asked, classes):
    """The expected sum of random picks among `rows`, and the highest; exact."""
    alone, best = Fraction(0), Fraction(0)
    for c, count in enumerate(asked):
        mine = [Fraction(scores[i]) for i in rows if classes[i] == c]
        if count:
            alone += count * sum(mine) / len(mine)
            best += sum(sorted(mine)[len(mine) - count :])
    return alone, best


def lift(scores, picks, rows, asked, classes):
    """The lift of `picks` among `rows`, in exact arithmetic; `asked` of each class are picked."""
    alone, best = scale(scores, rows, asked, classes)
    total = sum(Fraction(scores[i]) for i in picks)
    return Fraction(1) if best == alone else (total - alone) / (best - alone)


def by_score(scores, include, rows, asked, classes):
    """Included rows, then the best that the classes have room for, each in the order of scores."""
    order = sorted((i for i, mine in enumerate(include) if mine), key=lambda i: (-scores[i], i))
    left = list(asked)
    for i in sorted(rows, key=lambda i: (-scores[i], i)):
        if left[classes[i]]:
            left[classes[i]] -= 1
            order.append(i)
    return order


def selected_neighbours(graph, order):
    """The mean number of selected neighbours of a selected row."""
    return sum(j in set(order) for i in order for j in graph[i]) / len(order)


def grid():
    """1,025 values of γ_r from 0.01 to 100: ten times, the logarithms of neighbours are halved."""
    values = [0.01, 100.0]
    for _ in range(10):
        between = [math.sqrt(a * b) for a, b in pairwise(values)]
        values = [v for pair in zip(values, [*between, None], strict=True) for v in pair][:-1]
    return values


def keep_lift(graph, u, scores, least, size, kernel, sigma, include, left_out, classes, quotas):
    """(order, gains, γ_r, bound) of the smallest γ_r whose lift is at least `least`.

    Bisection on the grid; 100 is tried last. If nothing is accepted and the order of `u` has a
    lower lift too: the gaps beside the highest lift are halved down to 16 places, until a value is
    accepted, which is followed down by bisection. Without any, γ_r is None and the order is that of
    the scores.
    """
    rows = [i for i in range(len(u)) if not (include[i] or left_out[i])]
    inside = [i for i in range(len(u)) if include[i]]
    asked = [q - sum(classes[i] == c for i in inside) for c, q in enumerate(quotas)]
    values, surplus = grid(), {}

    def more(order):
        return lift(scores, order[len(inside) :], rows, asked, classes) - Fraction(str(least))

    def select(place):
        return naive.greedy(
            graph, u, size, kernel, sigma, values[place], True, include, left_out, classes, quotas
        )

    def enough(place):
        surplus[place] = more(select(place)[0])
        return surplus[place] >= 0

    def halve(low, high):
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    if enough(0):
        return *select(0), values[0], "low"
    found = halve(0, 1024)
    if found < 1024 or enough(1024):
        return *select(found), values[found], None
    while more(by_score(u, include, rows, asked, classes)) < 0:
        top = max(surplus, key=lambda p: (float(surplus[p]), -p))
        below = max((p for p in surplus if p < top), default=-1)
        above = min((p for p in surplus if p > top), default=top)
        open_gaps = [(a, b) for a, b in ((below, top), (top, above)) if b - a > 16]
        accepted = [p for p in [(a + b) // 2 for a, b in open_gaps] if enough(p)]
        if accepted:
            found = halve(max(p for p in surplus if p < accepted[0]), accepted[0])
            return *select(found), values[found], None
        if not open_gaps:
            break
    order = by_score(scores, include, rows, asked, classes)
    return order, [scores[i] + 0.0 for i in order], None, "high"


def least_lift(picks, rows, two_groups):
    """L if none is given."""
    share = Fraction(int(picks), int(rows))
    return 1 - (1 - share) ** 2 / 2 if two_groups else share / 2


def automatic(
    graph, u, scores, two_groups, size, kernel, sigma, include, left_out, classes, quotas
):  # fmt: skip
    """(order, gains, γ_r, bound, W) of an automatic lift; W is None without thinning.

    If 0.01 keeps L, each class keeps evenly spaced picks of a selection with 0.01 and W besides the
    included rows, W = min(⌈1.01^j N⌉, m); j by bisection. All of it must be picked above 0.
    """
    rows = [i for i in range(len(u)) if not (include[i] or left_out[i])]
    first = sum(map(bool, include))
    held = [sum(bool(include[i]) and classes[i] == c for i in range(len(u)))
            for c in range(len(quotas))]  # fmt: skip
    asked = [q - h for q, h in zip(quotas, held, strict=True)]
    picks = sum(asked)
    least = least_lift(picks, max(1, len(rows)), two_groups)
    problem = (include, left_out, classes)
    found = keep_lift(graph, u, scores, least, size, kernel, sigma, *problem, quotas)
    alone, best = scale(scores, rows, asked, classes)
    if found[3] != "low" or alone == best:
        return *found, None
    wide, step, beyond = None, 0, 1
    while picks * Fraction(101, 100) ** (beyond - 1) < len(rows):
        beyond += 1
    while beyond - step > 1:
        middle = (step + beyond) // 2
        more = [
            h + min(math.ceil(Fraction(a * min(len(rows), widths(picks, middle)), picks)), m)
            for h, a, m in zip(held, asked, sizes(rows, classes, len(quotas)), strict=True)
        ]
        order, gains = naive.greedy(
            graph, u, sum(more), kernel, sigma, 0.01, True, *problem, more
        )  # fmt: skip
        kept = list(range(first))
        for c, count in enumerate(asked):
            mine = [p for p in range(first, len(order)) if classes[order[p]] == c]
            kept += [mine[i * len(mine) // count] for i in range(count)]
        kept.sort()
        some = [order[p] for p in kept]
        above = all(gain > 0 for gain in gains[first:])
        if above and lift(scores, some[first:], rows, asked, classes) >= least:
            wide, step = min(len(rows), widths(picks, middle)), middle
            found = some, [gains[p] for p in kept], 0.01, "low"
        else:
            beyond = middle
    return *found, wide


def widths(picks, step):
    """⌈1.01^step · picks⌉, exact."""
    return math.ceil(picks * Fraction(101, 100) ** step)


def sizes(rows, classes, count):
    """How many rows each class has."""
    return [sum(classes[i] == c for i in rows) for c in range(count)]
