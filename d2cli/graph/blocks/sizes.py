"""Sizes of the ``blocks`` search. No compiler is loaded."""

from d2cli.runtime.int8.sizes import LANES

#: Rows of a block, at most: what one call of the product kernel compares.
BLOCK_ROWS = LANES
#: Mean number of rows of a cell.
CELL_ROWS = 2048
#: Rows per cell that the centres are fitted to, and passes of k-means.
FIT_ROWS, FIT_PASSES = 48, 3
#: Mean number of rows of a group of cells, the unit of work. From fewer rows on, FEWEST_GROUPS.
GROUP_ROWS, FEWEST_GROUPS = 32_768, 8
#: Dimensions of codes, at most.
MOST_DIMENSIONS = 512
#: Rows of one matrix product of the reduction. Fixed, so that no result depends on the threads.
PROJECTED_ROWS = 1024
#: Principal axes are estimated from max(AXES_ROWS, AXES_ROWS_PER_DIMENSION · d) rows.
AXES_ROWS, AXES_ROWS_PER_DIMENSION = 8192, 8
#: Rows that are routed together.
ROUTED_ROWS = 128
#: Neighbours whose neighbours vote for blocks.
VOTERS = 10
#: A score that is below those of all points: an empty place of a list.
EMPTY = -(10**9)
#: Offers of one task to rows of one group that are collected at a time, at least.
BOX_OFFERS = 1 << 18
#: Packs of blocks in which the nearest block of a row is looked for when rows are moved.
REROUTED_PACKS = 8


def encoded_rows(n: int, d: int) -> int:
    """Rows that one task encodes: a multiple of PROJECTED_ROWS."""
    most = max(1, min((1 << 24) // d, -(-n // FEWEST_GROUPS)))
    return -(-most // PROJECTED_ROWS) * PROJECTED_ROWS
