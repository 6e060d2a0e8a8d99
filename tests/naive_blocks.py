"""The stages of the ``blocks`` search as plain loops over Python integers; no kernels are imported.

Codes are rows of integers -127 … 127 here; :func:`plain` makes them of stored ones.
"""

from __future__ import annotations

import math
from itertools import pairwise

BLOCK, EMPTY, ROUTED, VOTERS = 32, -(10**9), 128, 10


def plain(codes):
    """Codes without the bias, as lists."""
    return [[int(code) - 128 for code in row] for row in codes]


def half(row):
    """Half the square norm, floored."""
    return sum(code * code for code in row) // 2


def score(row, point):
    """A higher score is a smaller distance of the point."""
    return sum(a * b for a, b in zip(row, point, strict=True)) - half(point)


def mean(rows):
    """The rounded mean of rows, halves up."""
    n = len(rows)
    return [(2 * sum(column) + n) // (2 * n) for column in zip(*rows, strict=True)]


# -- codes and cells -----------------------------------------------------------------------------
def encoded(rows, scale, centre, axes):
    """Codes of rows: projected on the columns of `axes`, rounded halves up, and clipped."""
    found = []
    for row in rows:
        gaps = [float(x) * scale - float(m) for x, m in zip(row, centre, strict=True)]
        along = [
            sum(gap * float(axis[t]) for gap, axis in zip(gaps, axes, strict=True))
            for t in range(len(axes[0]))
        ]
        found.append([max(-127, min(127, math.floor(value + 0.5))) for value in along])
    return found


def nearest(row, centres, size):
    """The numbers of the nearest centres, ties by number."""
    by_score = sorted(range(len(centres)), key=lambda c: (-score(row, centres[c]), c))
    return by_score[:size]


def fitted_cells(sample, first, passes):
    """Centres by k-means that begins with the rows `first` of a sample, near ones side by side."""
    centres = [list(sample[i]) for i in first]
    for _ in range(passes):
        members = [[] for _ in centres]
        for i, row in enumerate(sample):
            members[nearest(row, centres, 1)[0]].append(i)
        largest = sorted(range(len(centres)), key=lambda c: (-len(members[c]), c))
        largest = [c for c in largest if members[c]]
        free = [c for c in range(len(centres)) if not members[c]]
        for c, mine in enumerate(members):
            if mine:
                centres[c] = mean([sample[i] for i in mine])
        for c, large in zip(free, largest, strict=False):
            centres[c] = list(sample[members[large][-1]])
    return [centres[c] for c in halved(centres, list(range(len(centres))))]


def halved(points, members):
    """Members halved at the median of their widest coordinate, again and again."""
    if len(members) <= 1:
        return members
    columns = list(zip(*(points[i] for i in members), strict=True))
    reach = [max(column) - min(column) for column in columns]
    widest = reach.index(max(reach))
    members = sorted(members, key=lambda i: points[i][widest])
    middle = len(members) // 2
    return halved(points, members[:middle]) + halved(points, members[middle:])


# -- carving -------------------------------------------------------------------------------------
def carved(codes, segments, few=192, part_rows=96, most_parts=64, fit_rows=24, passes=3):
    """The blocks of each segment (first, last): lists of rows."""
    blocks = []

    def carve(members):
        rows = len(members)
        if rows <= BLOCK:
            blocks.extend([members] if members else [])
            return
        if rows <= few:
            members, cut = _halves(codes, members, passes)
            carve(members[:cut])
            carve(members[cut:])
            return
        parts = min(most_parts, max(2, (rows + part_rows // 2) // part_rows))
        labels = _parts(codes, members, parts, fit_rows, passes)
        if len(set(labels)) == 1:
            carved_in_order = range(0, rows, BLOCK)
            blocks.extend(members[start : start + BLOCK] for start in carved_in_order)
            return
        for part in range(parts):
            carve([i for i, label in zip(members, labels, strict=True) if label == part])

    for first, last in segments:
        carve(list(range(first, last)))
    return blocks


def _moved(codes, members, centres, passes):
    """Centres after some passes of k-means, and how many members each had in the last one."""
    for _ in range(passes):
        labels = [nearest(codes[i], centres, 1)[0] for i in members]
        for part in range(len(centres)):
            mine = [codes[i] for i, label in zip(members, labels, strict=True) if label == part]
            centres[part] = mean(mine) if mine else centres[part]
    return centres, [labels.count(part) for part in range(len(centres))]


def _parts(codes, members, parts, fit_rows, passes):
    fitted = min(len(members), fit_rows * parts)
    some = [members[place * len(members) // fitted] for place in range(fitted)]
    centres = [codes[some[part * fitted // parts]] for part in range(parts)]
    centres, _ = _moved(codes, some, centres, passes)
    return [nearest(codes[i], centres, 1)[0] for i in members]


def _halves(codes, members, passes):
    """Members ordered along the line between two means, and where to cut."""
    first = codes[members[0]]
    away = [sum((a - b) ** 2 for a, b in zip(codes[i], first, strict=True)) for i in members]
    farthest = members[away.index(max(away))]
    (one, other), sizes = _moved(codes, members, [first, codes[farthest]], passes)
    members = sorted(members, key=lambda i: score(codes[i], other) - score(codes[i], one))
    blocks = -(-len(members) // BLOCK)
    cuts = [block * len(members) // blocks for block in range(1, blocks)]
    return members, min(cuts, key=lambda cut: (abs(cut - sizes[0]), cut))


def merged(counts, cells):
    """Runs of blocks of one cell that fit into one block together, as (cell, rows); none empty."""
    runs = []
    for count, cell in zip(counts, cells, strict=True):
        if runs and runs[-1][0] == cell and runs[-1][1] + count <= BLOCK:
            runs[-1][1] += count
        elif count:
            runs.append([cell, count])
    return [tuple(run) for run in runs]


def groups_of(counts, wanted):
    """The group of each cell: that of its last row, if rows are cut into equal groups."""
    total, before, groups = sum(counts), 0, []
    for count in counts:
        before += count
        groups.append(max(before - 1, 0) * wanted // max(total, 1))
    return groups


def by_block(chosen):
    """For each block that is chosen, ascending, the rows that have chosen it."""
    blocks = sorted({block for row in chosen for block in row if block >= 0})
    return [(block, [i for i, row in enumerate(chosen) if block in row]) for block in blocks]


# -- routing -------------------------------------------------------------------------------------
def seen(cells, blocks_of):
    """The blocks that each row sees, in that order: cells as the rows of its batch name them."""
    found = []
    for start in range(0, len(cells), ROUTED):
        batch = cells[start : start + ROUTED]
        order = list(dict.fromkeys(cell for row in batch for cell in row if cell >= 0))
        for row in batch:
            found.append([b for cell in order if cell in row for b in blocks_of[cell]])
    return found


def chosen_blocks(row, centres, looked_at, probes):
    """The nearest of some blocks; of equally near ones, the first."""
    by_score = sorted(looked_at, key=lambda b: -score(row, centres[b]))  # stable
    return by_score[:probes]


def rank(row, centres, looked_at, wanted):
    """How many of some blocks are nearer than the one that is wanted."""
    own = score(row, centres[wanted])
    return sum(score(row, centres[b]) > own for b in looked_at)


# -- lists and votes -----------------------------------------------------------------------------
def best(offers, size):
    """The `size` best of offers (score, place), by descending score, then place."""
    return sorted(set(offers), key=lambda offer: (-offer[0], offer[1]))[:size]


def lists(codes, pairs, size):
    """The list of each row after all pairs (i, j) of rows met: both sides are offered."""
    offers = [[] for _ in codes]
    for i, j in pairs:
        offers[i].append((score(codes[i], codes[j]), j))
        offers[j].append((score(codes[j], codes[i]), i))
    return [best(mine, size) for mine in offers]


def block_of(starts):
    """The block of each row."""
    return [b for b, (first, last) in enumerate(pairwise(starts)) for _ in range(first, last)]


def elected(paths, own, met, probes):
    """The blocks with the most votes that a row has not met; ties to the first voted for."""
    votes = {}
    for path in paths:
        for block in path:
            if block >= 0:
                votes[block] = votes.get(block, 0) + 1
    free = [block for block in votes if block != own and block not in met]
    return sorted(free, key=lambda block: -min(votes[block], 64))[:probes]


def followed(places, hoods):
    """The blocks of the neighbours of each row's first neighbours, -1 for none."""
    none = [-1] * VOTERS
    return [
        [hoods[place] if place >= 0 else none for place in (list(row) + [-1] * VOTERS)[:VOTERS]]
        for row in places
    ]
