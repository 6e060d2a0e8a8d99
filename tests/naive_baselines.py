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


def nearest_before(neighbors, distances, rank):
    """(n,) the distance of each row to its nearest neighbour of a lower rank, or inf."""
    nearest = [math.inf] * len(neighbors)
    for i in range(len(neighbors)):
        for j, d in zip(neighbors[i], distances[i], strict=True):
            if j >= 0:
                later = i if rank[i] > rank[j] else j
                nearest[later] = min(nearest[later], float(d))
    return nearest


def near_duplicates(neighbors, distances, size, rank):
    """Drop the row nearest to an earlier neighbour until `size` rows remain."""
    nearest = nearest_before(neighbors, distances, rank)
    left = list(range(len(neighbors)))
    while len(left) > size:
        left.remove(min(left, key=lambda i: (nearest[i], -rank[i])))
    return sorted(left)


def scaled(scores):
    """Scores between 0 and 1; 1 if all are equal."""
    low, high = min(scores), max(scores)
    if low == high:
        return [1.0] * len(scores)
    return [(s / 2 - low / 2) / (high / 2 - low / 2) for s in scores]


def graph_cut(graph, scores, size, alpha, weigh):
    """`graph` is {i: {j: distance}}; `weigh` turns a distance into a similarity."""
    gains, order = scaled(scores), []
    while len(order) < size:
        left = [i for i in range(len(gains)) if i not in order]
        order.append(max(left, key=lambda i: (gains[i], -i)))
        for j in graph[order[-1]]:
            gains[j] -= 2 * alpha * weigh(graph[order[-1]][j])
    return order


def infomax_logits(graph, scores, size, alpha, iterations, weigh):
    """(n,) I - 2 α K X of the last iteration."""
    n, information = len(graph), scaled(scores)
    x = [0.0] * n
    for _ in range(iterations):
        logits = []
        for i in range(n):
            similar = sum(weigh(graph[i][j]) * x[j] for j in sorted(graph[i]))
            logits.append(information[i] - 2 * alpha * similar)
        shares = [math.exp(v - max(logits)) for v in logits]
        x = [size * share / sum(shares) for share in shares]
    return np.array(logits)


def lift(scores, rows):
    """(mean of the rows - mean of all) / (mean of as many highest - mean of all); else 1."""
    whole = sum(scores) / len(scores)
    best = sum(sorted(scores)[-len(rows) :]) / len(rows) - whole
    gained = sum(scores[i] for i in rows) / len(rows) - whole
    return gained / best if best > 1e-12 else 1.0


def semdedup_then_score(neighbors, distances, scores, size, wanted):
    """Drop row by row, nearest to a higher score first; the last selection with the lift."""
    n = len(scores)
    by_score = sorted(range(n), key=lambda i: (-scores[i], i))
    rank = {i: place for place, i in enumerate(by_score)}
    nearest = nearest_before(neighbors, distances, rank)
    left, found = list(by_score), None
    while len(left) >= size:
        if lift(scores, left[:size]) >= wanted - 1e-12:
            found = left[:size]
        left.remove(min(left, key=lambda i: (nearest[i], -rank[i])))
    return found


def beta_chances(scores, means, size, shape):
    """(n,) the chances of DUAL's Beta sampling, up to one factor; 0 < means < 1."""
    n = len(scores)
    anchors = sorted(range(n), key=lambda i: (-scores[i], i))[:10]
    centre = sum(means[i] for i in anchors) / len(anchors)
    b = 15 * (1 - centre) * (1 - ((n - size) / n) ** shape)
    a = 16 - b
    return [s * m ** (a - 1) * (1 - m) ** (b - 1) for s, m in zip(scores, means, strict=True)]


def zcore_scores(embeddings, start, planes, chances, neighbors):
    """`planes` are pairs of dimensions, `chances` pairs of numbers between 0 and 1, one a draw."""
    n = len(embeddings)
    scores = [float(s) for s in start]

    def distances(plane, point):
        return [
            sum(np.abs(row[c] - np.float32(p)) for c, p in zip(plane, point, strict=True))
            for row in embeddings
        ]

    for plane, pair in zip(planes, chances, strict=True):
        point = []
        for c, chance in zip(plane, pair, strict=True):
            column = [float(row[c]) for row in embeddings]
            low, mode, high = min(column), float(np.median(column)), max(column)
            if chance * (high - low) < mode - low:
                point.append(low + math.sqrt(chance * (high - low) * (mode - low)))
            else:
                point.append(high - math.sqrt((1 - chance) * (high - low) * (high - mode)))
        if plane[0] == plane[1]:
            point[1] = point[0]
        near = distances(plane, point)
        covered = min(range(n), key=lambda i: (near[i], i))
        scores[covered] += 1
        around = distances(plane, [embeddings[covered][c] for c in plane])
        others = sorted((i for i in range(n) if i != covered), key=lambda i: (around[i], i))
        if others and around[others[0]] == 0:
            scores[others[0]] -= 1
        elif others:
            weights = {i: 1 / float(around[i]) ** 4 for i in others[:neighbors]}
            for i, weight in weights.items():
                scores[i] -= weight / sum(weights.values())
    return np.array(scores)
