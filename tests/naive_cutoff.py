"""Plain-loop twins of the automatic cutoff and of evenly spaced picks; no kernels."""

import math
from fractions import Fraction


def hard(scores):
    """Scores above the threshold that maximises ω₀ ω₁ (μ₁ - μ₀)², the highest of equally good ones.

    In exact arithmetic. 0 if the maximum is below 7/10 of the variance.
    """
    ordered = sorted(scores)
    n = len(ordered)
    best, count = Fraction(-1), 0
    for at in range(1, n):
        if ordered[at] == ordered[at - 1]:
            continue
        low, high = ordered[:at], ordered[at:]
        gap = Fraction(sum(high), len(high)) - Fraction(sum(low), len(low))
        between = Fraction(len(low) * len(high), n * n) * gap**2
        if between >= best:
            best, count = between, len(high)
    mean = Fraction(sum(ordered), n) if n else 0
    whole = sum((x - mean) ** 2 for x in ordered) / Fraction(n) if n else 0
    return count if best >= Fraction(7, 10) * whole else 0


def cutoff(difficulty, size, eligible, neighbors):
    """The cut rows."""
    rows = [i for i in range(len(difficulty)) if eligible[i]]
    if not rows:
        return set()
    above = hard([difficulty[i] for i in rows])
    ranked = sorted(rows, key=lambda i: (-difficulty[i], i))
    count = math.floor(min(above, len(rows) // 2) - Fraction(size, 2))
    if above:
        count = max(
            count,
            scattered([d >= difficulty[ranked[above - 1]] for d in difficulty], rows, neighbors),
        )
    return set(ranked[: max(0, min(count, len(rows) // 2, len(rows) - size))])


def scattered(is_hard, rows, neighbors):
    """Estimated number of scattered hard rows; 0 if the conditions do not hold."""
    around = {i: [is_hard[j] for j in neighbors[i]] for i in rows if neighbors[i]}
    of = {kind: [b for i, a in around.items() if is_hard[i] == kind for b in a] for kind in (0, 1)}
    if of[0] and of[1]:
        shares = [Fraction(sum(of[kind]), len(of[kind])) for kind in (0, 1)]
        if shares[1] < 2 * shares[0]:
            return 0
    lonely = [i for i, a in around.items() if Fraction(sum(a), len(a)) <= Fraction(1, 4)]
    hard = sum(bool(is_hard[i]) for i in around)
    found = sum(bool(is_hard[i]) for i in lonely)
    if found < Fraction(hard, 5) or not found:
        return 0
    return min(hard, math.floor(found / Fraction(len(lonely), len(around))))


def evenly(items, size):
    """`size` evenly spaced items, from the first."""
    return [items[math.floor(Fraction(i * len(items), size))] for i in range(size)]


def give_back_for_quotas(cut, difficulty, excluded, classes, quotas):
    """The rows that stay cut: each class gets its easiest rows back until it fills its quota."""
    cut = set(cut)
    for name, quota in enumerate(quotas):
        mine = [i for i, at in enumerate(classes) if at == name and not excluded[i]]
        back = sorted(cut.intersection(mine), key=lambda i: (difficulty[i], -i))
        for i in back:
            if sum(j not in cut for j in mine) >= quota:
                break
            cut.remove(i)
    return sorted(cut)
