"""Block sizes of the exact search, and the memory it needs."""

import math

from d2cli.graph.settings import Matrix
from d2cli.runtime.ledger import Ledger

#: Shape of one matrix product when some rows are compared with all: query rows, base rows. The
#: float32 product takes 1 MB and stays in the cache of a core.
QUERIES, BASE_ROWS = 256, 1024
#: Rows of a block when all rows are compared with each other. The product of two blocks takes 1 MB.
PAIR_ROWS = 512
#: Up to this many numbers (32 MB), the scaled and centred rows are kept.
KEPT_NUMBERS = 1 << 23
#: Rows whose mean is the centre.
CENTRE_ROWS = 256
#: Candidates beyond k that the screen keeps.
SPARE = 4
#: Balls whose members are found by one product: one bit each of an int64.
BALLS = 64
#: Unproven rows that share these balls.
SERVED_TOGETHER = 1024
#: A ball's squared radius is that of the k-th nearest row plus this many times the squared blur.
BLUR = 16.0
#: Balls with at most this many pairs of a served row and a member are searched by one thread each.
LIGHT_PAIRS = 1 << 22
#: Balls with fewer members, or serving fewer rows, are searched by brute force.
FEW_MEMBERS, FEW_SERVED = 512, 4
#: Rows that are gathered at once to be compared by brute force.
COMPARED = 1024
#: Balls within balls, at most.
DEPTH = 4
#: Up to this many rows, each row is screened on its own: there are too few blocks to share.
FEW_ROWS = 1024


def among_themselves(
    ledger: Ledger, matrix: Matrix, k: int, threads: int, group: int | None = None
) -> None:
    """Memory of :func:`~d2cli.graph.exact.search.exact_neighbors`.

    `group` is the number of rows of the group; None if all rows are one group.
    """
    n = matrix.rows if group is None else group
    if n <= FEW_ROWS:
        compare(ledger, matrix, k, threads, n, group)
        return
    kept, remade = _kept(matrix, group)
    # The second block of a pair is copied, scaled and centred.
    copies = PAIR_ROWS * matrix.width * (4 + 4 + matrix.wide) if remade else 0
    lists = 4 * n + 8 * n * min(k + 1 + SPARE, n)
    pairs = (4 * PAIR_ROWS * PAIR_ROWS + copies) * threads
    _screen(ledger, matrix, n, n, lists + kept, pairs, threads)


def compare(
    ledger: Ledger, matrix: Matrix, k: int, threads: int, rows: int, among: int | None = None
) -> None:
    """Memory of :func:`~d2cli.graph.exact.search.exact_neighbors_of`.

    `rows` are searched for in `among` rows; None for all.
    """
    d, n = matrix.width, matrix.rows if among is None else among
    kept, remade = _kept(matrix, among)
    base = min(BASE_ROWS, n)
    query = QUERIES * (d * (matrix.wide + 4) + 8 * (k + 1 + SPARE))
    tile = 4 * QUERIES * base + (4 * d * base if remade else 0)
    _screen(ledger, matrix, n, rows, 8 * rows + 4 * n + kept, (tile + query) * threads, threads)


def _kept(matrix: Matrix, among: int | None) -> tuple[float, bool]:
    """Bytes of scaled and centred rows that are kept, and whether they are made for each block."""
    if among is None and matrix.wide == 4:
        return 0.0, False  # a view of the vectors
    numbers = matrix.width * (matrix.rows if among is None else among)
    if numbers <= KEPT_NUMBERS:
        return numbers * (4.0 if among is None else 4 + 2 * matrix.wide), False  # taken and centred
    return 0.0, True


def _screen(
    ledger: Ledger, matrix: Matrix, n: int, rows: int, kept: float, passing: float, threads: int
) -> None:
    """Screening of `rows` rows in n: `passing` bytes at first; then balls, if some are unproven."""
    sample = math.ceil(n / math.ceil(n / CENTRE_ROWS))
    vector = matrix.width * matrix.wide
    # Marks of members; rows that share balls; in each thread, members compared by brute force.
    balls = 8 * n + vector * (min(rows, SERVED_TOGETHER) + min(n, COMPARED) * threads)
    with ledger.passing("screening", kept + rows):
        # The sample as is and squared in float64.
        ledger.touch("centre", sample * matrix.width * (matrix.wide + 16))
        ledger.touch("products", passing)
        ledger.touch("balls", balls)
