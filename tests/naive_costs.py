"""Plain-loop twins of budgets in cost: slow and obvious; no kernels are imported."""

from fractions import Fraction

import numpy as np

from tests.naive import weight


def shares(available, budget, balance, included):
    """What each class may cost; classes whose included rows cost more than that keep them."""
    available, included = [list(map(Fraction, costs)) for costs in (available, included)]
    budget, count = Fraction(budget), len(available)
    if budget >= sum(available):
        return available
    kept = {}
    while True:
        free = [c for c in range(count) if c not in kept]
        left = budget - sum(kept.values())
        if balance == "uniform":
            found = _level({c: available[c] for c in free}, left)
        else:
            total = sum(available[c] for c in free)
            found = {c: left * available[c] / total if total else Fraction(0) for c in free}
        beyond = [c for c in free if found[c] < included[c]]
        if not beyond:
            return [{**found, **kept}[c] for c in range(count)]
        kept |= {c: included[c] for c in beyond}


def _level(available, budget):
    """Equal shares; as long as a class cannot spend its own, it gets what it can spend."""
    done, rest = {}, dict(available)
    while rest:
        level = (budget - sum(done.values())) / len(rest)
        low = [c for c in rest if rest[c] < level]
        if not low:
            return done | dict.fromkeys(rest, level)
        done |= {c: rest.pop(c) for c in low}
    return done


def greedy(
    graph, u, kernel, sigma, gamma, clamped, costs, limits, include=None, left_out=None,
    classes=None,
):  # fmt: skip
    """(order, gains): one pick at a time, until each class has met a row beyond its limit."""
    u = [float(x) + 0.0 for x in u]
    n = len(u)
    classes = [0] * n if classes is None else classes
    included = {i for i in range(n) if include is not None and include[i]}
    without = {i for i in range(n) if left_out is not None and left_out[i]}
    spent, closed = [0.0] * len(limits), set()
    order, gains = [], []
    while True:
        waiting = included - set(order)
        rows = waiting or {
            i for i in range(n)
            if i not in order and i not in without and classes[i] not in closed
        }  # fmt: skip
        if not rows:
            return np.array(order, int), np.array(gains)
        best = min(rows, key=lambda i: (-u[i], i))
        if best not in included:
            own = classes[best]
            if spent[own] + costs[best] > limits[own]:
                closed.add(own)
                continue
            spent[own] += costs[best]
        order.append(best)
        gains.append(u[best])
        message = u[best] if u[best] > 0 or not clamped else 0.0
        for j in graph[best]:
            if j not in order:
                u[j] -= weight(graph[best][j], gamma, sigma, kernel) * message


def evenly(costs, limit):
    """Places of evenly spaced picks, as many as bisection finds to fit."""
    fits, beyond = 0, len(costs) + 1
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        total = 0.0
        for i in range(middle):
            total += costs[i * len(costs) // middle]
        fits, beyond = (middle, beyond) if total <= limit else (fits, middle)
    return [i * len(costs) // fits for i in range(fits)]
