"""The stages of the ``ivf`` search as plain loops in float64."""

from __future__ import annotations

import numpy as np


def by_label(labels, count):
    """The rows of each label, ascending."""
    return [[i for i, label in enumerate(labels) if label == c] for c in range(count)]


def halved(points, members, most):
    """Members in parts of at most `most`, split at the median of their widest coordinate."""
    if len(members) <= most:
        return [members]
    columns = list(zip(*(points[i] for i in members), strict=True))
    reach = [np.float32(max(c)) - np.float32(min(c)) for c in columns]
    widest = reach.index(max(reach))
    members = sorted(members, key=lambda i: points[i][widest])
    middle = len(members) // 2
    return halved(points, members[:middle], most) + halved(points, members[middle:], most)


def nearest_cells(row, centres):
    """The squared distance of a row to each centre."""
    return [sum((float(a) - float(b)) ** 2 for a, b in zip(row, c, strict=True)) for c in centres]


def squares_within_reach(points, cell_of, probes, i):
    """Squared distances from i to the rows of the cells that it probes, ascending."""
    found = []
    for j in range(len(points)):
        if j != i and cell_of[j] in probes[i]:
            gap = points[i].astype(np.float64) - points[j].astype(np.float64)
            found.append(float(gap @ gap))
    return sorted(found)


def followers(near, reach):
    """For each row, the first `reach` rows that list it, by (rank, row)."""
    found = [[] for _ in near]
    for rank in range(near.shape[1]):
        for i, row in enumerate(near):
            j = row[rank]
            if j >= 0 and len(found[j]) < reach:
                found[j].append(i)
    return found


def exchanged(distances, positions):
    """Squared distances of each list after every row was offered to the rows that it lists."""
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


def after_hop(points, distances, positions, known, paths):
    """Squared distances of each list after one pass along the links `known`.

    A path leads to the b-th link of the a-th link of a row; it is followed if a · b <= paths.
    """
    n, size = distances.shape
    found = []
    for i in range(n):
        met = {int(p) for p in positions[i] if p >= 0}
        for a, j in enumerate(known[i], 1):
            if j >= 0:
                met |= {int(c) for b, c in enumerate(known[j], 1) if c >= 0 and a * b <= paths}
        met.discard(i)
        squares = [float(((points[i].astype(np.float64) - points[c]) ** 2).sum()) for c in met]
        found.append(sorted(squares)[:size])
    return found
