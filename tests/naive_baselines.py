"""Plain-loop twins of the baselines: slow, simple, importing none of them."""

import math

import numpy as np


def cut(scores, beta):
    """The rows without the ⌊β·n⌋ highest scores; of equal scores the lowest row is cut first."""
    n = len(scores)
    by_score = sorted(range(n), key=lambda i: (-scores[i], i))
    return sorted(by_score[math.floor(round(beta * n, 9)) :])


def highest(scores, size, beta=0.0):
    return sorted(cut(scores, beta), key=lambda i: (-scores[i], i))[:size]


def strata_shares(scores, size, beta, strata):
    """([rows of each stratum, smallest stratum first], [rows drawn from each])."""
    kept = cut(scores, beta)
    low, high = min(scores[i] for i in kept), max(scores[i] for i in kept)
    found = {s: [] for s in range(strata)}
    for i in kept:
        place = (scores[i] - low) / (high - low) if high > low else 0.0
        found[min(int(place * strata), strata - 1)].append(i)
    waiting = [found[s] for s in range(strata) if found[s]]
    rows, shares, left = [], [], size
    while waiting:
        smallest = min(waiting, key=len)
        waiting.remove(smallest)
        shares.append(min(len(smallest), left // (len(waiting) + 1)))
        left -= shares[-1]
        rows.append(smallest)
    return rows, shares


def length(a, b):
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


def unit(embeddings):
    wide = np.asarray(embeddings, np.float64)
    return (embeddings / np.sqrt((wide**2).sum(axis=1))[:, None]).astype(np.float32)


def mean(rows):
    return [sum(float(row[c]) for row in rows) / len(rows) for c in range(len(rows[0]))]


def moderate_offsets(embeddings, labels=None):
    """(n,) |distance to the class centre - median of these distances|."""
    n = len(embeddings)
    labels = [0] * n if labels is None else list(labels)
    centres = {
        name: mean([embeddings[i] for i in range(n) if labels[i] == name]) for name in set(labels)
    }
    distances = [length(embeddings[i], centres[labels[i]]) for i in range(n)]
    middle = float(np.median(distances))
    return np.array([abs(d - middle) for d in distances])


def k_center(embeddings, size):
    """Distances are compared as float32, as in the package."""
    n = len(embeddings)
    centre = mean(embeddings)
    order = [min(range(n), key=lambda i: (np.float32(length(embeddings[i], centre)), i))]
    while len(order) < size:
        best, farthest = None, -1.0
        for i in range(n):
            if i not in order:
                near = min(np.float32(length(embeddings[i], embeddings[p])) for p in order)
                if near > farthest:
                    best, farthest = i, near
        order.append(best)
    return order


def facility_location(graph, size, weigh):
    """`graph` is {i: {j: distance}}; `weigh` turns a distance into a similarity."""
    n = len(graph)
    served = [0.0] * n
    order = []
    while len(order) < size:
        best, most = None, -1.0
        for j in range(n):
            if j in order:
                continue
            gain = 1.0 - served[j]
            for i in sorted(graph[j]):
                gain += max(weigh(graph[j][i]) - served[i], 0.0)
            if gain > most:
                best, most = j, gain
        order.append(best)
        served[best] = 1.0
        for i in graph[best]:
            served[i] = max(served[i], weigh(graph[best][i]))
    return order


def near_duplicates(neighbors, distances, size, rank):
    """Drop the row nearest to an earlier neighbour until `size` rows remain."""
    n = len(neighbors)
    nearest = [math.inf] * n
    for i in range(n):
        for j, d in zip(neighbors[i], distances[i], strict=True):
            if j >= 0:
                later = i if rank[i] > rank[j] else j
                nearest[later] = min(nearest[later], float(d))
    left = list(range(n))
    while len(left) > size:
        left.remove(min(left, key=lambda i: (nearest[i], -rank[i])))
    return sorted(left)
