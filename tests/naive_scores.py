"""Plain-loop twins of the difficulty scores, from their definitions; no kernels are imported."""

import itertools
import math
import statistics


def softmax(z):
    highest = max(z)
    powers = [math.exp(v - highest) for v in z]
    total = math.fsum(powers)
    return [p / total for p in powers]


def _prediction(values):
    return list(values).index(max(values))


def _others(values, y):
    return [v for c, v in enumerate(values) if c != y]


def dynamics(kind, outputs, labels, logits):
    """The score of each row from outputs[epoch][row][class], as lists of floats."""
    n = len(outputs[0])
    scores = []
    for i in range(n):
        y = None if labels is None else int(labels[i])
        raw = [[float(v) for v in epoch[i]] for epoch in outputs]
        probs = [softmax(row) for row in raw] if logits else raw
        scores.append(_of_row(kind, raw, probs, y, logits))
    return scores


def log_probability(row, y, logits):
    """ln p_y; of probabilities, p_y counts as at least 1e-12 and at most 1."""
    if not logits:
        return math.log(min(max(row[y], 1e-12), 1.0))
    return -math.log(math.fsum(math.exp(v - row[y]) for v in row))


def _of_row(kind, raw, probs, y, logits):
    if kind == "el2n":
        lengths = [
            math.sqrt(math.fsum((p - (c == y)) ** 2 for c, p in enumerate(row))) for row in probs
        ]
        return statistics.fmean(lengths)
    if kind == "aum":
        return statistics.fmean(row[y] - max(_others(row, y)) for row in raw)
    if kind == "margin":
        return statistics.fmean(row[y] - max(_others(row, y)) for row in probs)
    if kind == "entropy":
        return statistics.fmean(-math.fsum(p * math.log(p) for p in row if p > 0) for row in probs)
    if kind in ("loss", "perplexity"):
        mean = statistics.fmean(-log_probability(row, y, logits) for row in raw)
        return mean if kind == "loss" else math.exp(mean)
    own = [row[y] for row in probs]
    if kind == "confidence":
        return statistics.fmean(own)
    if kind == "variability":
        return statistics.pstdev(own)
    right = [_prediction(row) == y for row in raw]
    if kind == "correctness":
        return sum(right) / len(right)
    assert kind == "forgetting"
    if not any(right):
        return len(right)
    return sum(1 for now, then in itertools.pairwise(right) if now and not then)


def nearest_centre(vectors, centres):
    """The distance of each row to its nearest centre."""
    return [min(math.dist(row, centre) for centre in centres) for row in vectors]


def kth_distance(distances):
    """The largest listed distance of each row; 0 without neighbours."""
    return [max((float(d) for d in row if d < math.inf), default=0.0) for row in distances]


def disagreement(neighbors, labels):
    """The share of each row's neighbours with another label; 0 without neighbours."""
    shares = []
    for i, row in enumerate(neighbors):
        listed = [int(j) for j in row if j >= 0]
        others = [j for j in listed if labels[j] != labels[i]]
        shares.append(len(others) / len(listed) if listed else 0.0)
    return shares
