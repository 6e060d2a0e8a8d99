"""What one epoch's outputs say of each row: the kernels behind :mod:`d2cli.difficulty.dynamics`.

Both fill the columns named below. Where the label is -1 only the entropy means something.
"""

from __future__ import annotations

import math

import numpy as np

from d2cli.runtime.jit import kernel

#: Columns of what the kernels write.
EL2N, ENTROPY, MARGIN, AUM, CONFIDENCE, CORRECT, ODD = range(7)
COLUMNS = 7
#: How far from 1 a sum of probabilities may be: bfloat16 rounds each by up to 2**-9 of itself.
SUM_TOLERANCE = 1e-2

#: What is wrong with a row, and in which class.
FINE, NOT_FINITE, NOT_A_SHARE, NOT_ONE = range(4)


@kernel
def measure_logits(values, labels, out):
    """Of logits (m, C) float64 write `out` (m, COLUMNS); returns (row, class, fault) or (-1, 0, 0).

    The column ODD is 1 where a row of logits could just as well be probabilities. What is left
    of the label's probability is summed from the other classes, since 1 - p keeps no digits
    where p is nearly 1.
    """
    rows, classes = values.shape
    for r in range(rows):
        y = labels[r]
        top, plain, share = 0, 0.0, True
        for c in range(classes):
            value = values[r, c]
            if not math.isfinite(value):
                return r, c, NOT_FINITE
            if value > values[r, top]:
                top = c
            plain += value
            share = share and value >= 0.0
        highest = values[r, top]
        total = weighted = rest = squares = own = 0.0
        second = -np.inf
        for c in range(classes):
            gap = values[r, c] - highest
            e = math.exp(gap)
            total += e
            if e > 0.0:  # a gap may be -inf
                weighted += e * gap
            if c == y:
                own = e
            else:
                rest += e
                squares += e * e
                second = max(second, values[r, c])
        out[r, ENTROPY] = math.log(total) - weighted / total
        out[r, ODD] = 1.0 if share and abs(plain - 1.0) <= SUM_TOLERANCE else 0.0
        if y >= 0:
            out[r, EL2N] = math.sqrt(rest * rest + squares) / total
            out[r, MARGIN] = (own - math.exp(second - highest)) / total
            out[r, AUM] = values[r, y] - second
            out[r, CONFIDENCE] = own / total
            out[r, CORRECT] = 1.0 if top == y else 0.0
    return -1, 0, FINE


@kernel
def measure_probs(values, labels, out):
    """Of probabilities (m, C) float64 write `out`, as :func:`measure_logits` does, but no AUM.

    ODD is 0: there is nothing to mistake them for.
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
                return r, c, NOT_A_SHARE
            if p > values[r, top]:
                top = c
            total += p
            if p > 0.0:
                entropy -= p * math.log(p)
            if c != y:
                squares += p * p
                second = max(second, p)
        if abs(total - 1.0) > SUM_TOLERANCE:
            return r, 0, NOT_ONE
        out[r, ENTROPY] = max(entropy, 0.0)  # a p of 1.0000001 would bring it below
        out[r, ODD] = 0.0
        if y >= 0:
            own = values[r, y]
            out[r, EL2N] = math.sqrt((1.0 - own) ** 2 + squares)
            out[r, MARGIN] = own - second
            out[r, CONFIDENCE] = own
            out[r, CORRECT] = 1.0 if top == y else 0.0
    return -1, 0, FINE
