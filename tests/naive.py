"""Plain-loop twins of the kernels: slow and obvious; no kernels are imported."""

import math

import numpy as np


def knn(embeddings, k, metric="euclidean", within=None, exclude=None):
    """Neighbours and distances by comparing all pairs; ties by row number."""
    vectors = np.asarray(embeddings).astype(np.float64)
    n = len(vectors)
    if metric == "cosine":
        # The searches scale to unit length once, in the precision of the stored rows.
        width = np.float64 if np.asarray(embeddings).dtype == np.float64 else np.float32
        norms = np.sqrt((vectors**2).sum(axis=1))
        vectors = (np.asarray(embeddings) / norms[:, None]).astype(width).astype(np.float64)
    neighbors = np.full((n, k), -1, np.int32)
    distances = np.full((n, k), np.inf, np.float32)
    for i in range(n):
        found = []
        for j in range(n):
            if i == j or (exclude is not None and (exclude[i] or exclude[j])):
                continue
            if within is not None and within[i] != within[j]:
                continue
            found.append((np.float32(math.sqrt(((vectors[i] - vectors[j]) ** 2).sum())), j))
        for p, (distance, j) in enumerate(sorted(found)[:k]):
            neighbors[i, p], distances[i, p] = j, distance
    return neighbors, distances


def cover(vectors, needed, radii, most):
    """The centres of at most `most` balls, and the ball that serves each row, or -1."""
    centres, ball = [], [-1] * len(vectors)
    for p, centre in enumerate(vectors):
        if ball[p] >= 0 or len(centres) == most:
            continue
        for q, vector in enumerate(vectors):
            if ball[q] < 0 and (p == q or math.dist(centre, vector) + needed[q] <= radii[p]):
                ball[q] = len(centres)
        centres.append(p)
    return centres, ball


def edges(neighbors, distances, rule, left_out=None):
    """{i: {j: distance}} under one rule; the smaller distance if the two lists differ."""
    n = len(neighbors)
    lists = {i: {} for i in range(n)}
    for i in range(n):
        for j, distance in zip(neighbors[i], distances[i], strict=True):
            if j >= 0 and (left_out is None or not (left_out[i] or left_out[j])):
                lists[i][int(j)] = float(distance)
    found = {i: {} for i in range(n)}
    for i in range(n):
        for j in range(n):
            there, back = lists[i].get(j), lists[j].get(i)
            either = [d for d in (there, back) if d is not None]
            if rule == "union" and either:
                found[i][j] = min(either)
            elif rule == "directed" and there is not None:
                found[i][j] = there
            elif rule == "mutual" and len(either) == 2:
                found[i][j] = min(either)
    return found


def weight(distance, gamma, sigma, kernel):
    if gamma == 0:
        return 1.0
    x = distance / sigma
    return math.exp(-gamma * (x * x if kernel == "gaussian" else x))


def bandwidth(distances):
    listed = [float(d) for d in distances.ravel() if d < np.inf]
    if not listed:
        return 1.0
    middle = float(np.median(listed))
    if middle == 0:
        above = [d for d in listed if d > 0]
        return float(np.median(above)) if above else 1.0
    return middle


def forward(graph, scores, kernel, sigma, gamma, hops=1, floor=None):
    u = [float(s) for s in scores]
    for _ in range(hops):
        after = []
        for i in range(len(u)):
            total = u[i]
            for j in sorted(graph[i]):
                sent = u[j] if floor is None else max(u[j], floor)
                total += weight(graph[i][j], gamma, sigma, kernel) * sent
            after.append(total)
        u = after
    return np.array(u)


def own_scores(graph, u, kernel, sigma, gamma, hops=1, floor=None):
    """u without the messages of neighbours, if each neighbour's score were its mean u / c."""
    if hops == 0:
        return np.array([x + 0.0 for x in u])
    means = u / forward(graph, np.ones(len(u)), kernel, sigma, gamma, hops, floor)
    own = u - (forward(graph, means, kernel, sigma, gamma, hops, floor) - means)
    grid = math.frexp(max(abs(u)))[1] - 32
    return np.array([math.ldexp(round(math.ldexp(x, -grid)), grid) for x in own])


def greedy(
    graph,
    u,
    size,
    kernel,
    sigma,
    gamma,
    clamped,
    include=None,
    left_out=None,
    classes=None,
    quotas=None,
):
    """(order, gains) by the definition, one pick at a time."""
    u = [float(x) + 0.0 for x in u]
    n = len(u)
    included = set() if include is None else {i for i in range(n) if include[i]}
    without = set() if left_out is None else {i for i in range(n) if left_out[i]}
    left = None if quotas is None else list(quotas)
    picked, order, gains = set(), [], []
    while len(order) < size:
        waiting = included - picked
        best = None
        for i in range(n):
            if i in picked or i in without or (waiting and i not in waiting):
                continue
            if left is not None and left[classes[i]] == 0:
                continue
            if best is None or u[i] > u[best]:
                best = i
        picked.add(best)
        order.append(best)
        gains.append(u[best])
        if left is not None:
            left[classes[best]] -= 1
        message = u[best] if u[best] > 0 or not clamped else 0.0
        for j in graph[best]:
            if j not in picked:
                u[j] -= weight(graph[best][j], gamma, sigma, kernel) * message
    return np.array(order), np.array(gains)


def quotas_with(included, share, available, budget):
    """Quotas of a budget where each class keeps its included rows, even beyond its share.

    Such classes are fixed at their included rows, and the others share the rest.
    """
    fixed = {}
    while True:
        free = [c for c in range(len(available)) if c not in fixed]
        shares = share([available[c] for c in free], budget - sum(fixed.values()))
        beyond = [c for c, q in zip(free, shares, strict=True) if q < included[c]]
        if not beyond:
            quotas = dict(zip(free, shares, strict=True)) | fixed
            return [quotas[c] for c in range(len(available))]
        fixed |= {c: included[c] for c in beyond}


def uniform_quotas(available, budget):
    """One unit at a time, to the class with the lowest quota that has room; ties: lowest class."""
    quotas = [0] * len(available)
    for _ in range(budget):
        room = [c for c in range(len(available)) if quotas[c] < available[c]]
        quotas[min(room, key=lambda c: (quotas[c], c))] += 1
    return quotas


def proportional_quotas(available, budget):
    """Largest remainder, ties to the lowest class."""
    total = sum(available) or 1
    quotas = [a * budget // total for a in available]
    by_remainder = sorted(
        range(len(available)), key=lambda c: (-(available[c] * budget % total), c)
    )
    for c in by_remainder[: budget - sum(quotas)]:
        quotas[c] += 1
    return quotas


def recall(neighbors, distances, true_distances):
    """Share of listed neighbours that are not farther than the true k-th neighbour."""
    hits = possible = 0
    for row, truth in zip(distances, true_distances, strict=True):
        real = [d for d in truth if d < np.inf]
        possible += len(real)
        hits += sum(1 for d in row if d < np.inf and d <= max(real, default=-1))
    return hits / possible if possible else 1.0
