"""Plain-loop twins of the kernels for int8 rows; no kernels are imported."""

from itertools import pairwise

LANES, BIAS, NEVER = 32, 128, 2**30 - 1


def packed(codes, halves, starts):
    """For each block: its points as lists of codes, and their halves; nothing at other places."""
    width = len(codes[0])
    blocks = []
    for first, end in pairwise(starts):
        points = [[int(c) - BIAS for c in codes[i]] for i in range(first, end)]
        own = [int(halves[i]) for i in range(first, end)]
        free = LANES - len(points)
        blocks.append((points + [[0] * width] * free, own + [NEVER] * free))
    return blocks


def scores(points, row):
    """The inner product of a row, stored with the bias, and each point."""
    total = []
    for point in points:
        total.append(0)
        for d, code in enumerate(point):
            total[-1] += code * (int(row[d]) - BIAS)
    return total


def differences(points, halves, row):
    """The scores of a row, less the halves of the points."""
    return [score - half for score, half in zip(scores(points, row), halves, strict=True)]


def masks(row_scores, halves, bounds, row_half, row_bound):
    """Bit masks of the points that are near to a row, and of those that the row is near to."""
    near = far = 0
    for lane, score in enumerate(row_scores):
        if score - int(halves[lane]) > row_bound:
            near |= 1 << lane
        if score - row_half > int(bounds[lane]):
            far |= 1 << lane
    return near, far
