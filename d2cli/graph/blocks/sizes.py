"""Sizes of the ``blocks`` search. No compiler is loaded."""

from typing import NamedTuple

from d2cli.graph.settings import Matrix, SearchSettings
from d2cli.runtime.int8.sizes import LANES
from d2cli.runtime.ledger import Ledger

#: Rows of a block, at most: what one call of the product kernel compares.
BLOCK_ROWS = LANES
#: Mean number of rows of a cell, and the most cells. Each row is compared with the centres of all
#: cells: without a limit, the time would grow with the square of the rows.
CELL_ROWS, MOST_CELLS = 2048, 32_768
#: Rows per cell that the centres are fitted to, and passes of k-means.
FIT_ROWS, FIT_PASSES = 48, 3
#: Mean number of rows of a group of cells, the unit of work. From fewer rows on, FEWEST_GROUPS.
GROUP_ROWS, FEWEST_GROUPS = 32_768, 8
#: Dimensions of codes, at most.
MOST_DIMENSIONS = 512
#: Rows of one matrix product of the reduction. Fixed, so that no result depends on the threads.
PROJECTED_ROWS = 1024
#: Tasks that encode rows, at most.
MOST_ENCODINGS = 1024
#: Rows that are read to be encoded, a multiple of PROJECTED_ROWS.
READ_ROWS = 4 * PROJECTED_ROWS
#: Principal axes are estimated from max(AXES_ROWS, AXES_ROWS_PER_DIMENSION · d) rows.
AXES_ROWS, AXES_ROWS_PER_DIMENSION = 8192, 2
#: With more dimensions than FEW_AXES, principal axes are found in a random subspace. It has
#: OVERSAMPLED more dimensions than axes are needed.
FEW_AXES, OVERSAMPLED = 1024, 32
#: Rows that are routed together.
ROUTED_ROWS = 128
#: Neighbours whose neighbours vote for blocks.
VOTERS = 10
#: Codes tell rows apart whose squared distance is this many times the number of dimensions.
#: Rounding alone adds a sixth.
TELLING = 2.0
#: A score that is below those of all points: an empty place of a list.
EMPTY = -(10**9)
#: Offers of one task to rows of one group that are collected at a time, at least.
BOX_OFFERS = 1 << 18
#: Offers to a row that are stored in boxes in a round, as a share of the size of its list: those of
#: independent coordinates, which need most.
BOXED = 1.5
#: Packs of blocks in which the nearest block of a row is looked for when rows are moved, at least.
REROUTED_PACKS = 8

#: Rows of a part of ranked lists, the fewest that are ranked at a time.
PART_ROWS = 1 << 15
#: Numbers of the vectors that pass the rows to be ranked, in each thread, at least.
PASSING_NUMBERS = 1 << 19
#: Bytes of a thread that reads and converts rows, besides the rows.
READING_BYTES = 1 << 22


def truth_size(k: int, n: int) -> int:
    """True neighbours of the sample that a search for k neighbours among n rows is tuned with."""
    return min(n - 1, max(5 * k, k + 40))


def known_bytes(n: int, width: int) -> float:
    """Bytes of what all tasks know: the place of each row, and the centres of all blocks."""
    return n * (8 + 0.08 * (width + 8))


def met_bytes(width: int, size: int, probes: int) -> float:
    """Bytes per row while rows meet their blocks: codes, lists, and the rows of each block."""
    return width + 14 + 8 * size + 4 * max(probes, 8) + 8


def far_bytes(width: int, size: int) -> float:
    """Bytes per row of blocks that rows of other groups meet; 0.42 of the places are empty."""
    return 1.42 * (width + 12) + 8 * size + 8


def voting_bytes() -> float:
    """Bytes per row while votes are counted."""
    return 4 * (VOTERS * VOTERS + 2 * VOTERS) + 16


def _assumed(matrix: Matrix, settings: SearchSettings) -> tuple[int, int, int, int, int]:
    """Dimensions, list size, cells, packs and probes: those of learnt embeddings, or the most."""
    d, spare = matrix.width, matrix.rows - 1
    if settings.most:
        return min(d, MOST_DIMENSIONS), min(settings.n_neighbors + 22, spare), 64, 128, 256
    return min(d, 192), min(settings.n_neighbors + 10, spare), 16, 16, 64


def range_bytes(d: int, wide: int, most: int, k: int) -> int:
    """Bytes per row that is ranked: its vector, `most` candidates, their distances, its lists."""
    return wide * d + 8 * most + 8 * k + 8


class Files(NamedTuple):
    """Bytes of what a search keeps in files, with a copy of the vectors if one is needed."""

    disk: int  # at one time
    left: int  # of these, after the search: the lists, and the copy
    written: int
    read: int  # with the vectors, each time that they are read


def search_in_files(
    ledger: Ledger, tasks: Ledger, matrix: Matrix, settings: SearchSettings, room: int,
    at_once: int,
) -> Files:  # fmt: skip
    """Memory of :func:`~d2cli.graph.blocks.neighbors.block_neighbors` with parts in files.

    `tasks` is the ledger of one task; `at_once` tasks run at a time. It may be `ledger`.
    `room` is that of the store.
    """
    n, d, k, threads = matrix.rows, matrix.width, settings.n_neighbors, settings.threads
    width, size, cells, packs, probes = _assumed(matrix, settings)
    tasks.stage = "encode"
    passing = encoded_rows(n, d) * (2 * width + 12 * cells) + READ_ROWS * d * 16
    tasks.touch("encoding", threads * passing)
    ledger.stage = tasks.stage = "search"
    ledger.hold("rows and blocks", known_bytes(n, min(d, MOST_DIMENSIONS)))
    group = _group_rows(n)
    ranking = min(n, PART_ROWS) * range_bytes(d, matrix.wide, size, k)
    ranking += threads * (max(1, PASSING_NUMBERS // d) * matrix.wide * d + READING_BYTES)
    tasks.hold("tasks", max(threads * group * (4 * width + 16 * cells), ranking))
    own, far = met_bytes(width, size, probes), far_bytes(width, size)
    # More is never in memory: rows of a task with all blocks; rows that are ranked with all others.
    rows, ranked = max(n / at_once, group), range_bytes(d, matrix.wide, size, k)
    most = max(rows * own + n * far, rows * ranked + n * matrix.wide * d)
    tasks.hold("parts", min(room, most))
    tasks.free("tasks", "parts")
    ledger.free("rows and blocks")

    encoded, moved, near = width + 4 * cells + 4, width + 4 * packs + 8, 4 * packs
    blocks, lists, votes = 1.42 * (width + 8) + 4, 8 * size + 6, 4 * (2 * VOTERS + 8)
    carved = blocks + 4 * cells
    batches = max(1.0, n * own / max(0.7 * room, threads * group * own))
    ranges = max(1.0, n * range_bytes(d, matrix.wide, size, k) / max(0.75 * room, ranking))
    boxes = BOXED * size * 12 if batches > 1 else 0.0
    # Parts of all rounds stay until the last range is ranked. Lists of two rounds meet.
    met = max(near + 4 * probes, 4 * probes + max(votes, 4 * 8))
    settled = blocks + max(2 * lists + boxes + met, lists + 4 * probes + 8 * k)
    disk = max(encoded + carved, carved + moved, moved + blocks + near + lists, settled)
    copy = matrix.wide * d if matrix.copied else 0
    rounds = 2.0  # one of probes and one of votes
    written = encoded + carved + moved + blocks + near + 4 * probes + votes + 8 * k
    written += lists + rounds * (2 * lists + boxes if batches > 1 else lists)
    read = written + rounds * batches * far + ranges * 4 * size
    passes = 6 + ranges  # checked, hashed, compared with a sample, encoded; then ranked
    vectors = passes * (n * copy or matrix.size)
    return Files(
        round(n * (disk + copy)), round(n * (8 * k + copy)), round(n * (written + copy)),
        round(n * read + vectors),
    )  # fmt: skip


def encoded_rows(n: int, d: int) -> int:
    """Rows that one task encodes: a multiple of PROJECTED_ROWS.

    Every group reads from what each of these tasks stores, so there are at most MOST_ENCODINGS.
    """
    most = max(1, min((1 << 24) // d, -(-n // FEWEST_GROUPS)), -(-n // MOST_ENCODINGS))
    return -(-most // PROJECTED_ROWS) * PROJECTED_ROWS


def _group_rows(n: int) -> int:
    """Mean number of rows of a group, which has at least one cell."""
    return max(min(GROUP_ROWS, -(-n // FEWEST_GROUPS)), n // MOST_CELLS)


def search_blocks(ledger: Ledger, matrix: Matrix, settings: SearchSettings, sample: int) -> None:
    """Memory of :func:`~d2cli.graph.blocks.neighbors.block_neighbors`; leaves the lists.

    `sample` is the number of rows whose true neighbours are known.
    """
    n, d, k, threads = matrix.rows, matrix.width, settings.n_neighbors, settings.threads
    most = min(d, MOST_DIMENSIONS)
    width, size, cells, packs, probes = _assumed(matrix, settings)
    group = _group_rows(n)
    ledger.stage = "tune"
    rows = min(n, max(AXES_ROWS, AXES_ROWS_PER_DIMENSION * d))
    axes = d * d * (rows / PROJECTED_ROWS + 5)
    if d > FEW_AXES:
        axes = (rows + 3 * d) * (most + OVERSAMPLED)
    ledger.touch("axes", 4 * rows * d + 4 * max(rows * d, axes))
    # The neighbours of the sample, their codes, and differences of codes.
    ledger.touch("neighbours", sample * truth_size(k, n) * (matrix.wide * d + 13 * most))

    ledger.stage = "encode"
    ledger.hold("codes", n * (width + 4 * cells + 4))
    ledger.touch("encoding", threads * encoded_rows(n, d) * (4 * most + 2 * width))

    ledger.stage = "arrange"
    ledger.hold("blocks", n * (1.42 * (width + 8) + 4 * packs + 4 + 8 + 0.2 * width))
    ledger.hold("candidates", n * size * 8)
    ledger.touch("arranging", 4 * threads * group * width)
    ledger.free("codes")

    ledger.stage = "search"
    ledger.hold("met", n * 4 * probes + n * 4 * (2 * VOTERS + 8))
    ledger.touch("search", threads * group * (width + 16 * probes + 24 * size))
    if settings.checkpoint is not None:
        ledger.keep(n * (1.42 * (width + 8) + 4 * packs + 12 + 8 * size + 4 * probes))

    ledger.stage = "rank"
    ledger.free("blocks", "met")
    ledger.hold("lists", n * k * 8)
    ledger.free("candidates")
