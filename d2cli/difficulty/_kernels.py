"""Kernels of :mod:`d2cli.difficulty.dynamics`: measures of each row's outputs in one epoch.

They write the columns of :mod:`d2cli.difficulty.sizes`. For the label -1 (no label) only ENTROPY
and LIKE_PROBS are written.
"""

from __future__ import annotations

import math

import numpy as np

from d2cli.difficulty.sizes import AUM, CONFIDENCE, CORRECT, EL2N, ENTROPY, LIKE_PROBS, LOSS, MARGIN
from d2cli.runtime.jit import kernel

#: Largest difference from 1 of a sum of probabilities. bfloat16 rounds each by up to 2**-9 of it.
SUM_TOLERANCE = 1e-2
#: Probability of the label below which LOSS does not grow: a float16 probability may be exactly 0.
LEAST_PROBABILITY = 1e-12

#: Faults of a row.
FINE, NOT_FINITE, NOT_A_PROBABILITY, SUM_NOT_ONE = range(4)


@kernel
def measure_logits(values, labels, out):
    """Write the measures of logits (m, C) float64 to `out` (m, COLUMNS) float64.

    LIKE_PROBS is 1 for a row that could be probabilities: every value >= 0, and a sum within
    SUM_TOLERANCE of 1. 1 - p_y is computed as the sum over the other classes, because the
    subtraction loses all digits if p_y is close to 1. For the same reason LOSS is log1p of that sum
    if y has the highest logit.

    Returns (row, class, fault) of the first fault; (-1, 0, FINE) if there is none.
    """
    rows, classes = values.shape
    for r in range(rows):
        y = labels[r]
        top, plain, positive = 0, 0.0, True
        for c in range(classes):
            value = values[r, c]
            if not math.isfinite(value):
                return r, c, NOT_FINITE
            if value > values[r, top]:
                top = c
            plain += value
            positive = positive and value >= 0.0
        highest = values[r, top]
        total = weighted = rest = squares = own = 0.0
        second = -np.inf
        for c in range(classes):
            gap = values[r, c] - highest
            e = math.exp(gap)
            total += e
            if e > 0.0:  # gap may be -inf
                weighted += e * gap
            if c == y:
                own = e
            else:
                rest += e
                squares += e * e
                second = max(second, values[r, c])
        out[r, ENTROPY] = math.log(total) - weighted / total
        out[r, LIKE_PROBS] = 1.0 if positive and abs(plain - 1.0) <= SUM_TOLERANCE else 0.0
        if y >= 0:
            out[r, EL2N] = math.sqrt(rest * rest + squares) / total
            out[r, MARGIN] = (own - math.exp(second - highest)) / total
            out[r, AUM] = values[r, y] - second
            out[r, CONFIDENCE] = own / total
            out[r, CORRECT] = 1.0 if top == y else 0.0
            gap = values[r, y] - highest
            out[r, LOSS] = math.log1p(rest) if gap == 0.0 else math.log(total) - gap
    return -1, 0, FINE


@kernel
def measure_probs(values, labels, out):
    """As :func:`measure_logits`, for probabilities: AUM is not written, and LIKE_PROBS is 0.

    LOSS is -ln p_y with p_y raised to LEAST_PROBABILITY and lowered to 1.
    """
    rows, classes = values.shape
    for r in range(rows):
        y = labels[r]
        top, total, entropy, squares = 0, 0.0, 0.0, 0.0
        second = -np.inf
        for c in range(classes):
            p = values[r, c]
            if not math.isfinite(p):
                return r, c, NOT_FINITE
            if p < 0.0 or p > 1.0 + SUM_TOLERANCE:
                return r, c, NOT_A_PROBABILITY
            if p > values[r, top]:
                top = c
            total += p
            if p > 0.0:
                entropy -= p * math.log(p)
            if c != y:
                squares += p * p
                second = max(second, p)
        if abs(total - 1.0) > SUM_TOLERANCE:
            return r, 0, SUM_NOT_ONE
        out[r, ENTROPY] = max(entropy, 0.0)  # negative if a p is 1.0000001
        out[r, LIKE_PROBS] = 0.0
        if y >= 0:
            own = values[r, y]
            out[r, EL2N] = math.sqrt((1.0 - own) ** 2 + squares)
            out[r, MARGIN] = own - second
            out[r, CONFIDENCE] = own
            out[r, LOSS] = -math.log(min(max(own, LEAST_PROBABILITY), 1.0))
            out[r, CORRECT] = 1.0 if top == y else 0.0
    return -1, 0, FINE
