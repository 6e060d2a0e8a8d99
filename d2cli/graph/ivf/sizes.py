"""Block sizes of the ``ivf`` search, and the memory it needs."""

import math

from d2cli.graph.settings import Matrix, SearchSettings
from d2cli.runtime.ledger import Ledger

#: Principal axes are estimated from max(AXES_ROWS, AXES_ROWS_PER_DIMENSION · d) rows.
AXES_ROWS, AXES_ROWS_PER_DIMENSION = 8192, 8
#: Rows of one matrix product of the reduction. Fixed, so that no result depends on the threads.
AXES_BLOCK = 1024
#: Fewest dimensions kept while the final width is chosen.
FIRST_WIDTH = 128
#: Bounds of the mean number of rows per cell.
SMALLEST_MEAN, LARGEST_MEAN = 32, 320
#: A cell of more than LARGEST times the mean is cut. A mean below SMALLEST_MEAN counts as that.
LARGEST = 4
#: Rows that are multiplied with one cell at a time.
CELL_QUERIES = 512
#: Recalls above STRICT start with the second effort.
STRICT = 0.97
#: One effort after another until the target is reached: (margin, reaches). The margin is the number
#: of candidates carried beyond k. The reaches are the numbers of links followed per row in both
#: directions; the next one is taken when a pass gains too little.
EFFORTS = ((6, (12, 16)), (20, (18, 24)), (30, (36,)))


def cell_count(n: int) -> int:
    """Number of cells for n rows."""
    count = max(round(2.2 * math.sqrt(n)), n // LARGEST_MEAN)
    return max(1, min(count, n // SMALLEST_MEAN))


def search_cells(ledger: Ledger, matrix: Matrix, settings: SearchSettings) -> None:
    """Memory of :func:`~d2cli.graph.ivf.search.ivf_neighbors`; leaves the lists.

    The widths and the number of probes are those found on learnt embeddings.
    """
    n, d, k = matrix.rows, matrix.width, settings.n_neighbors
    margin, reaches = EFFORTS[1 if settings.recall > STRICT else 0]
    size = min(k + margin, n - 1)

    ledger.stage = "reduce"
    rows = min(n, max(AXES_ROWS, AXES_ROWS_PER_DIMENSION * d))
    ledger.touch("axes", 8 * rows * d + 4 * d * d * (rows / AXES_BLOCK + 8))
    ledger.hold("reduced", 4 * n * min(d, max(FIRST_WIDTH, round(0.7 * d))))
    width = min(d, round(64 + 0.25 * d))

    ledger.stage = "cells"
    cells = cell_count(n)
    probes = min(6, cells)
    ledger.hold("cells", n * (4 + 4 * probes + 8) + cells * 4 * width)
    ledger.touch("arranging", n * (8 * probes + 24))

    ledger.stage = "search"
    ledger.hold("candidates", n * size * 8)
    widest = LARGEST * max(n // cells, SMALLEST_MEAN)
    ledger.touch("search", settings.threads * 4 * (CELL_QUERIES + widest) * (width + widest))

    ledger.stage = "refine"
    links = n * 2 * reaches[0] * 5
    ledger.hold("links", links)
    # The links of the pass before are held while new ones are made. Later, half of all list entries
    # are offered to the rows they list.
    ledger.touch("links before", max(links, n * size * 4))
    if settings.checkpoint is not None:
        ledger.keep(n * (size * 8 + 8 * reaches[0]))
    ledger.free("links")

    ledger.stage = "rank"
    ledger.held["candidates"] = n * size * 4
    ledger.hold("lists", n * k * 8)
    ledger.free("candidates", "cells", "reduced")
