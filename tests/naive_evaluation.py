"""Plain-loop twins of the measures: slow, simple, importing none of them."""

import math

import numpy as np


def distance(vectors, i, j):
    gaps = [float(a) - float(b) for a, b in zip(vectors[i], vectors[j], strict=True)]
    return np.float32(math.sqrt(sum(gap * gap for gap in gaps)))


def nearest_selected(vectors, selected):
    """(distances, rows): a selected row is its own nearest; ties go to the lowest row."""
    distances, which = [], []
    for i in range(len(vectors)):
        if i in selected:
            best = (np.float32(0), i)
        else:
            best = min((distance(vectors, i, j), j) for j in selected)
        distances.append(best[0])
        which.append(best[1])
    return np.array(distances), np.array(which)


def nearest_other(vectors, selected):
    found = []
    for i in selected:
        lengths = [distance(vectors, i, j) for j in selected if j != i]
        found.append(min(lengths, default=np.float32(np.inf)))
    return np.array(found)


def percentile(values, q):
    """The q-quantile, linear between the two nearest ranks."""
    ordered = sorted(float(v) for v in values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def counts(codes, selected, classes):
    full, kept = [0] * classes, [0] * classes
    for row, code in enumerate(codes):
        full[code] += 1
        if row in selected:
            kept[code] += 1
    return full, kept


def divergence(kept, full):
    total = 0.0
    for k, f in zip(kept, full, strict=True):
        p, q = k / sum(kept), f / sum(full)
        if p:
            total += p * math.log(p / q)
    return total


def jaccard(one, other):
    return len(set(one) & set(other)) / len(set(one) | set(other))
