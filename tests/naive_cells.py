"""The stages of the search by cells as plain loops, in float64."""

from __future__ import annotations

import numpy as np


def by_label(labels, count):
    """Rows of each label, in order."""
    return [[i for i, label in enumerate(labels) if label == c] for c in range(count)]


def nearest_cells(row, centres):
    """Squared distances to the centres, by cell."""
    return [sum((float(a) - float(b)) ** 2 for a, b in zip(row, c, strict=True)) for c in centres]


def squares_within_reach(points, cell_of, probes, i):
    """Squared distances from i to the rows of the cells that it looks into, ascending."""
    found = []
    for j in range(len(points)):
        if j != i and cell_of[j] in probes[i]:
            gap = points[i].astype(np.float64) - points[j].astype(np.float64)
            found.append(float(gap @ gap))
    return sorted(found)


def followers(near, reach):
    """For each row, the first `reach` rows that list it, those that rank it highest first."""
    found = [[] for _ in near]
    for rank in range(near.shape[1]):
        for i, row in enumerate(near):
            j = row[rank]
            if j >= 0 and len(found[j]) < reach:
                found[j].append(i)
    return found


def exchanged(distances, positions):
    """Squared distances of each list once every row was offered to the rows that it lists."""
    n, size = distances.shape
    lists = [
        {int(p): d for p, d in zip(positions[i], distances[i], strict=True) if p >= 0}
        for i in range(n)
    ]
    offered = [dict(own) for own in lists]
    for i in range(n):
        for j, d in lists[i].items():
            offered[j].setdefault(i, d)
    return [sorted(own.values())[:size] for own in offered]


def after_hop(points, distances, positions, known):
    """Squared distances of each list once it has met all rows known to the rows it knows."""
    n, size = distances.shape
    found = []
    for i in range(n):
        met = {int(p) for p in positions[i] if p >= 0}
        for j in known[i]:
            if j >= 0:
                met |= {int(c) for c in known[j] if c >= 0}
        met.discard(i)
        squares = [float(((points[i].astype(np.float64) - points[c]) ** 2).sum()) for c in met]
        found.append(sorted(squares)[:size])
    return found
