"""Kernels of :mod:`d2cli.difficulty.running`: what changes from epoch to epoch."""

from __future__ import annotations

import math

import numpy as np

from d2cli.runtime.jit import kernel

#: Added to probabilities before their logarithm, as in the TDDS authors' code.
SMALL = 1e-8
#: Points of the grid that brackets the best ratio of :func:`fit_decays`: at least, and per epoch.
_LEAST_POINTS, _POINTS = 64, 4
#: Halvings of the bracket: its length becomes less than the spacing of floats near 1.
_HALVINGS = 53


@kernel
def divergences(now, before, logits, out):
    """Write Σ_c |p'_c ln((p'_c + SMALL) / (p_c + SMALL))| of each row to `out` (m,) float64.

    `now` and `before` (m, C) float64 are the outputs of an epoch and of the epoch before it: p' and
    p, or with `logits` their logits.
    """
    rows, classes = now.shape
    p, q = np.empty(classes), np.empty(classes)
    for r in range(rows):
        _probabilities(now[r], logits, p)
        _probabilities(before[r], logits, q)
        total = 0.0
        for c in range(classes):
            total += abs(p[c] * math.log((p[c] + SMALL) / (q[c] + SMALL)))
        out[r] = total


@kernel
def _probabilities(values, logits, out):
    """Write the probabilities of one row to `out`."""
    classes = values.shape[0]
    if not logits:
        out[:] = values
        return
    highest = values[0]
    for c in range(1, classes):
        highest = max(highest, values[c])
    total = 0.0
    for c in range(classes):
        out[c] = math.exp(values[c] - highest)
        total += out[c]
    for c in range(classes):
        out[c] /= total


@kernel
def fit_decays(losses, out):
    """Fit l_r ≈ q x^r, r = 0 … R - 1, to each row of `losses` (m, R) float64 >= 0, R >= 2.

    Least squares with 0 <= x <= 1. For a given x the best q is A / B with A = Σ l_r x^r and
    B = Σ x^(2r), and the squared error is smallest where f(x) = A² / B is largest. The highest
    point of a grid brackets x, and halving at the sign of f' finds it. Writes (q, x) to `out`
    (m, 2); (0, 1) for a row of zeros.
    """
    rows, epochs = losses.shape
    points = max(_LEAST_POINTS, _POINTS * epochs)
    powers, norms = np.ones((points + 1, epochs)), np.ones(points + 1)
    for g in range(points + 1):
        for r in range(1, epochs):
            powers[g, r] = powers[g, r - 1] * (g / points)
            norms[g] += powers[g, r] * powers[g, r]
    scaled = np.empty(epochs)
    for i in range(rows):
        largest = losses[i].max()
        if largest == 0.0:
            out[i, 0], out[i, 1] = 0.0, 1.0
            continue
        for r in range(epochs):
            scaled[r] = losses[i, r] / largest
        best, top = 0, -1.0
        for g in range(points + 1):
            a = 0.0
            for r in range(epochs):
                a += scaled[r] * powers[g, r]
            height = a * a / norms[g]
            if height > top:
                best, top = g, height
        x = best / points
        a, b, slope = _slope(scaled, x)
        low = high = x
        if slope > 0.0 and best < points:
            high = (best + 1) / points
        elif slope < 0.0 and best > 0:
            low = (best - 1) / points
        for _ in range(_HALVINGS):
            if low == high:
                break
            x = 0.5 * (low + high)
            a, b, slope = _slope(scaled, x)
            if slope > 0.0:
                low = x
            else:
                high = x
        out[i, 0], out[i, 1] = largest * (a / b), x


@kernel
def _slope(losses, x):
    """A, B, and a number with the sign of the derivative of A² / B, at x."""
    a = b = da = db = 0.0
    power, before = 1.0, 0.0  # x^r and x^(r - 1)
    for r in range(losses.shape[0]):
        a += losses[r] * power
        b += power * power
        da += r * losses[r] * before
        db += 2 * r * power * before
        before, power = power, power * x
    return a, b, 2.0 * da * b - a * db
