"""Block sizes of the graph room, and the memory that building a graph needs."""

from dataclasses import replace

from d2cli.defaults import Metric
from d2cli.graph.blocks.sizes import (
    MOST_DIMENSIONS,
    Files,
    known_bytes,
    search_blocks,
    search_in_files,
)
from d2cli.graph.exact.sizes import SPARE, among_themselves, compare
from d2cli.graph.settings import Matrix, SearchSettings
from d2cli.runtime.ledger import Ledger

#: Numbers in one block of rows that is checked or converted.
BLOCK_NUMBERS = 1 << 21
#: Numbers of rows that are read which are scaled to unit length at a time.
SCALED_NUMBERS = 1 << 17
#: Neighbours of lists that are read at one time.
RANGE_NUMBERS = 1 << 19
#: Random rows on which approximate searches tune themselves, and other rows on which the recall is
#: measured.
AIM_SAMPLE, RECALL_SAMPLE = 256, 256
#: Bytes of the number of a row, int64.
_ROW = 8
#: Bytes of the room that each number of a span may take that is compared with a sample.
SPAN_BYTES = 32
#: Rows added to an HNSW index, or queried, in one call.
INDEX_BLOCK = 8192


def read_embeddings(ledger: Ledger, matrix: Matrix) -> None:
    """Memory of embeddings mapped, or read as a whole."""
    ledger.stage = "read"
    if matrix.mapped:
        ledger.hold("embeddings", matrix.size, mapped=True)
    else:
        ledger.hold("embeddings", matrix.rows * matrix.width * matrix.wide)
        if matrix.largest_file:
            ledger.hold("file being read", matrix.largest_file, mapped=True)
            ledger.free("file being read")
        ledger.hold("reading", matrix.reading)  # Arrow keeps its buffers for later files


def read_vectors(ledger: Ledger, matrix: Matrix, metric: Metric, threads: int) -> None:
    """Memory of embeddings read and prepared (:func:`d2cli.graph.vectors.prepare`)."""
    read_embeddings(ledger, matrix)
    numbers, wide = matrix.rows * matrix.width, matrix.wide
    if metric != "euclidean" or not matrix.plain or matrix.itemsize < 4:
        ledger.hold("vectors", numbers * wide)
    ledger.touch("checking", wide * min(BLOCK_NUMBERS * threads, numbers))


def build(ledger: Ledger, matrix: Matrix, settings: SearchSettings) -> None:
    """Memory of :func:`d2cli.graph.build.build_graph`; leaves only the graph.

    `matrix` describes all rows. The sizes of groups are in no header: one group of
    ``settings.taking_part`` of the rows is assumed.
    """
    n, k = matrix.rows, settings.n_neighbors
    read_vectors(ledger, matrix, settings.metric, settings.threads)
    if settings.grouped:
        ledger.hold("graph", n * k * 8)
        n = max(1, round(n * settings.taking_part))
        matrix = replace(matrix, rows=n)
        ledger.hold("group", n * 16)
    ledger.stage = "neighbors"
    ledger.touch("duplicates", 24 * n)  # hashes, their order, groups of equal rows
    method, group = settings.method_for(n), n if settings.grouped else None
    if method == "exact":
        ledger.hold("lists", n * k * 8)
        among_themselves(ledger, matrix, k, settings.threads, group)
        if settings.checkpoint is not None:
            ledger.keep(n * ((min(k + 1 + SPARE, n) + k) * 8 + 1))
    else:
        ledger.stage = "sample"
        rows = min(AIM_SAMPLE + RECALL_SAMPLE, n)
        compare(ledger, matrix, k, settings.threads, rows, group)
        if method == "blocks":
            search_blocks(ledger, matrix, settings, min(AIM_SAMPLE, n))
        else:
            _search_index(ledger, matrix, settings)
    ledger.free("embeddings", "vectors", "group")
    if settings.grouped:
        ledger.free("lists")
    else:
        ledger.held["graph"] = ledger.held.pop("lists")


def build_in_files(
    ledger: Ledger, tasks: Ledger, matrix: Matrix, settings: SearchSettings, room: int,
    at_once: int,
) -> Files:  # fmt: skip
    """Memory of :func:`d2cli.graph.build.build_lists`; leaves the lists if there are groups.

    `tasks` is the ledger of one task; `at_once` tasks run at a time. It is `ledger` if they run in
    the same process. `room` is that of the store.
    """
    n, k, threads = matrix.rows, settings.n_neighbors, settings.threads
    ledger.stage = tasks.stage = "read"
    tasks.touch("checking", threads * BLOCK_NUMBERS * (matrix.itemsize + 2 * matrix.wide + 8))
    if settings.grouped:
        ledger.hold("graph", n * k * 8)
        ledger.hold("group", n * 16)
    ledger.stage = "neighbors"
    ledger.touch("duplicates", 28 * n)
    ledger.hold("copies", 24 * n)  # classes of equal rows
    tasks.stage = "sample"
    tasks.touch("span", SPAN_BYTES * threads * min(BLOCK_NUMBERS, n * matrix.width))
    if tasks is not ledger:
        ledger.hold("object store", sent_bytes(matrix))
    files = search_in_files(ledger, tasks, matrix, settings, room, at_once)
    ledger.free("copies", "group", "object store")
    return files


def sent_bytes(matrix: Matrix) -> int:
    """Bytes that all tasks of a search in files are given: what they know, and their rows."""
    known = known_bytes(matrix.rows, min(matrix.width, MOST_DIMENSIONS))
    return round(known + _ROW * matrix.rows)


def _search_index(ledger: Ledger, matrix: Matrix, settings: SearchSettings) -> None:
    """Memory of :func:`~d2cli.graph.hnsw.hnsw_neighbors`."""
    n, d, k, m = matrix.rows, matrix.width, settings.n_neighbors, settings.hnsw_m
    ledger.stage = "index"
    # Bytes per row: the vector; 2m links and their count; label; lock; the links of upper levels
    # and the pointer to them; the table of labels.
    links = 4 * d + 8 * m + 4 + 8 + 40 + 8 + 4 + 56 + (4 * m + 4) / m
    ledger.hold("index", n * (links + 2 * (1 + settings.threads)))  # and marks of visited rows
    block = 4 * min(n, INDEX_BLOCK) * d
    ledger.touch("block", block)
    if settings.checkpoint is not None:
        ledger.keep(n * (links + 8 * k))
        ledger.touch("index to keep", n * links)
    ledger.stage = "neighbors"
    ledger.hold("lists", n * k * 8)
    ledger.touch("block", 2 * block)
    ledger.free("index")
