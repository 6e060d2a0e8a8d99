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


def dynamics(kind, outputs, labels, logits, window=10):
    """The score of each row from outputs[epoch][row][class], as lists of floats."""
    n = len(outputs[0])
    scores = []
    for i in range(n):
        y = None if labels is None else int(labels[i])
        raw = [[float(v) for v in epoch[i]] for epoch in outputs]
        probs = [softmax(row) for row in raw] if logits else raw
        if kind in ("dual", "dyn-unc", "tdds"):
            scores.append(_of_windows(kind, probs, y, window))
        else:
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
    if kind == "loss-drop":
        losses = [-log_probability(row, y, logits) for row in raw]
        ratio = best_ratio(losses)
        return best_factor(losses, ratio) * (1 - ratio ** len(losses))
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


def _of_windows(kind, probs, y, window):
    """A score from all windows of successive epochs; the windows are written out."""
    starts = range(len(probs) - window + 1)
    if kind == "tdds":
        total = 0.0
        for start in starts:
            inside = probs[start : start + window]
            steps = [_divergence(now, then) for now, then in itertools.pairwise(inside)]
            middle = statistics.fmean(steps)
            norm = math.sqrt(math.fsum((step - middle) ** 2 for step in steps))
            total += 0.9 * 0.1 ** (len(starts) - 1 - start) * norm
        return total
    values = []
    for start in starts:
        own = [min(row[y], 1.0) for row in probs[start : start + window]]
        doubt = 1.0 if kind == "dyn-unc" else 1.0 - statistics.fmean(own)
        values.append(statistics.stdev(own) * doubt)
    return statistics.fmean(values)


def _divergence(now, then):
    """Sum of the absolute terms of the Kullback-Leibler divergence of `then` from `now`."""
    return math.fsum(
        abs(q * (math.log(q + 1e-8) - math.log(p + 1e-8))) for p, q in zip(now, then, strict=True)
    )


def best_factor(losses, ratio):
    """The factor q for which q ratio^r is nearest to the losses, r = 0, 1, …."""
    above = math.fsum(loss * ratio**r for r, loss in enumerate(losses))
    return above / math.fsum(ratio ** (2 * r) for r in range(len(losses)))


def squared_error(losses, factor, ratio):
    """Σ_r (loss_r - factor ratio^r)²."""
    return math.fsum((loss - factor * ratio**r) ** 2 for r, loss in enumerate(losses))


def best_ratio(losses):
    """The ratio 0 … 1 of the best fit: of a fine grid, then of finer ones around its best point."""

    def error(ratio):
        return squared_error(losses, best_factor(losses, ratio), ratio)

    low, high = 0.0, 1.0
    if not any(losses):
        return 1.0
    for steps in (1000, 20, 20, 20, 20):
        grid = [low + (high - low) * i / steps for i in range(steps + 1)]
        at = min(range(steps + 1), key=lambda i: error(grid[i]))
        low, high = grid[max(at - 1, 0)], grid[min(at + 1, steps)]
    return grid[at]


def target_similarity(vectors, target, reduce):
    """The largest cosine to the rows of a target set, or the mean of the cosines."""

    def unit(row):
        largest = max(abs(float(v)) for v in row)
        scaled = [float(v) / largest for v in row]
        length = math.sqrt(math.fsum(v * v for v in scaled))
        return [v / length for v in scaled]

    goals = [unit(row) for row in target]
    scores = []
    for row in map(unit, vectors):
        cosines = [math.fsum(a * b for a, b in zip(row, goal, strict=True)) for goal in goals]
        scores.append(max(cosines) if reduce == "max" else statistics.fmean(cosines))
    return scores


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
