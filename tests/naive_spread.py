"""The plain-loop twin of missing scores; no kernels are imported."""

import math


def spread(graph, scores, missing, kernel, sigma, gamma, least_rounds):
    """(values, rounds): means of the neighbours, round by round; None if a row is not reached."""
    values = [None if m else float(s) for s, m in zip(scores, missing, strict=True)]
    rounds = 0
    while None in values or (any(missing) and rounds < least_rounds):
        after = list(values)
        for i in range(len(values)):
            if missing[i] and (rounds < least_rounds or values[i] is None):
                after[i] = mean(graph[i], values, kernel, sigma, gamma, values[i])
        if None in values and after.count(None) == values.count(None):
            return None, rounds
        values, rounds = after, rounds + 1
    return values, rounds


def mean(neighbours, values, kernel, sigma, gamma, otherwise):
    """The weighted mean of the neighbours with a value; weights relative to the nearest one."""
    near = [(neighbours[j], values[j]) for j in sorted(neighbours) if values[j] is not None]
    if not near:
        return otherwise
    least = min(distance for distance, _ in near)
    total = sent = 0.0
    for distance, value in near:
        x, x0 = (d / sigma for d in (distance, least))
        if kernel == "gaussian":
            x, x0 = x * x, x0 * x0
        share = 1.0
        if gamma > 0 and distance > least:  # a ratio of weights that are both 0 counts as 0
            share = math.exp(gamma * (x0 - x)) if x < math.inf else 0.0
        total += share
        sent += share * value
    everything = [value for _, value in near]
    return min(max(sent / total, min(everything)), max(everything))
