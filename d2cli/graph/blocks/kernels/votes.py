"""Votes: the neighbours of a row's neighbours say which blocks the row should meet.

A *path* leads from a row to one of its first `VOTERS` neighbours and on to one of that row's. Each
path votes for the block of its end (a form of NN-descent, Dong, Moses, Li 2011).
"""

import numpy as np

from d2cli.graph.blocks.sizes import VOTERS
from d2cli.runtime.jit import borrowing_kernel, kernel

#: A block needs as many votes; votes above the most count alike.
_FEWEST, _MOST = 1, 64


@kernel
def follow(places, first, hoods, paths):
    """Write the ends of the paths that lead through one group.

    `places` (n, K) are the lists of the rows; `hoods` (m, VOTERS) the blocks of the neighbours of
    the rows at the places first, first + 1, …; `paths` (n, VOTERS, VOTERS) is filled where a
    neighbour is one of these.
    """
    for i in range(places.shape[0]):
        for a in range(min(VOTERS, places.shape[1])):
            through = places[i, a] - first
            if 0 <= through < hoods.shape[0]:
                for b in range(VOTERS):
                    paths[i, a, b] = hoods[through, b]


@kernel
def elect(paths, own_block, met, blocks, chosen):
    """Chosen (n, p) <- the blocks with the most votes of each row, or -1, in no order.

    Blocks that a row has met, its own and those in `met` (n, any), are left out; -1 is no block.
    `blocks` is the number of all blocks. Of blocks with as many votes, the first to be voted for
    are taken.
    """
    votes, voted = np.zeros(blocks, np.int32), np.empty(VOTERS * VOTERS, np.int32)
    tally = np.empty(_MOST + 1, np.int64)
    for i in range(paths.shape[0]):
        _elect(paths, own_block, met, votes, voted, tally, i, chosen)


@borrowing_kernel
def _elect(paths, own_block, met, votes, voted, tally, i, chosen):
    count = 0
    for a in range(VOTERS):
        for b in range(VOTERS):
            block = paths[i, a, b]
            if block >= 0:
                if votes[block] == 0:
                    voted[count] = block
                    count += 1
                votes[block] += 1
    votes[own_block[i]] = 0
    for p in range(met.shape[1]):
        if met[i, p] >= 0:
            votes[met[i, p]] = 0
    for v in range(_MOST + 1):
        tally[v] = 0
    for c in range(count):
        tally[min(votes[voted[c]], _MOST)] += 1
    room, least = chosen.shape[1], _MOST
    while least > _FEWEST and tally[least] <= room:
        room -= tally[least]
        least -= 1
    # All blocks with more than `least` votes have room, and the first `room` with exactly `least`.
    filled = 0
    for c in range(count):
        got = min(votes[voted[c]], _MOST)
        if got > least or (got == least and room > 0):
            room -= got == least
            chosen[i, filled] = voted[c]
            filled += 1
        votes[voted[c]] = 0
    for p in range(filled, chosen.shape[1]):
        chosen[i, p] = -1
