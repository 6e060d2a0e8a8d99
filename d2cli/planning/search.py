"""Building a graph: :mod:`d2cli.neighbors`, stage by stage."""

from __future__ import annotations

import math
from dataclasses import replace

from d2cli.defaults import Metric
from d2cli.planning.ledger import Ledger
from d2cli.planning.sizes import Matrix, Search

# -- sizes that the kernels fix; a test holds them against the kernels' own ------------------------
QUERIES, BASE_ROWS, KEPT_NUMBERS, CENTRE_ROWS = 256, 1024, 1 << 23, 256  # screen
SPARE = 4  # exact
PAIR_ROWS, FEW_ROWS = 512, 1024  # pairs, exact
SAMPLE_ROWS = 256 + 256  # build
FIRST_WIDTH, AXES_ROWS, AXES_ROWS_PER_DIMENSION, AXES_BLOCK = 128, 8192, 8, 1024  # reduce
WIDTH_ROWS, WIDTH_STEP = 128, 32
CELLS_PER_ROOT, SMALLEST_MEAN, LARGEST_MEAN = 2.2, 32, 320  # routing
SAMPLE_PER_CELL, FITTING_ROUNDS, ROUTE_WIDTH, AROUND = 12, 3, 96, 256
FEW_CELLS, GROUP, FEW_GROUPS = 1024, 8, 1024
HNSW_M, INDEX_EFFORT, INDEX_WIDTH = 8, 40, 16
LARGEST, CELL_QUERIES = 4, 512  # cells, cell_search
STRICT, EFFORTS = 0.97, ((6, (12, 16)), (20, (18, 24)))  # ivf
INDEX_BLOCK = 8192  # hnsw
CHECKED = 1 << 21  # numbers looked at in one go

# -- what depends on the data, as it is with embeddings that were learnt ---------------------------
#: Of more dimensions than FIRST_WIDTH, the share that is held while the width is being chosen.
_HELD_SHARE = 0.7
#: Dimensions that are searched in the end: so many, and this share of all.
_SEARCHED, _SEARCHED_SHARE = 64, 0.25
#: Cells that a row looks into.
_PROBES = 6
#: Of the entries of all lists, the share that is offered to the row listed.
_OFFERED = 0.5
#: Passes along the links, the share of the paths that is followed, and the share of candidates that
#: is new and measured.
_PASSES, _FOLLOWED, _MEASURED = 1.0, 0.44, 0.35

# -- seconds of one core of the reference machine, each for one of what is named -------------------
_CHECK = 3e-9  # number looked at for the first time: it comes from the disk's cache
_HASH = 2e-9  # number hashed
_COPY = 1e-9  # number moved
_SCREEN = 0.3e-9  # score compared with a list's last
_SCALE = 1.5e-9  # number scaled and centred for a block
_EXACT_DISTANCE = 0.3e-9  # number of a final distance
_FETCH = 60e-9  # row brought from memory for a final distance
_INSERTED = 60e-9  # entry that a list takes in
_EIGEN = 0.45e-9  # d³ of the principal axes
_ARRANGED = 2e-6  # row brought to its cell
_ADMIT = 0.5e-9  # score of a cell's search
_LINK = 6e-9  # candidate looked up along links
_HOP = 0.35e-9  # number of a candidate's distance
_OFFER = 40e-9  # entry of a list offered back
_INDEXED = 0.55e-9  # number of a distance in an HNSW index
_VISITED = 5e-9  # node of an HNSW index


def read_matrix(ledger: Ledger, matrix: Matrix) -> None:
    """Embeddings as an array: memory-mapped, or one copy (:meth:`Source.matrix`)."""
    ledger.stage = "read"
    if matrix.mapped:
        ledger.hold("embeddings", matrix.size, mapped=True)
        return
    wide = matrix.wide
    ledger.hold("embeddings", matrix.rows * matrix.width * wide)
    if matrix.largest_file:
        ledger.hold("file being read", matrix.largest_file, mapped=True)
        ledger.free("file being read")
    ledger.hold("reading", matrix.reading)  # Arrow keeps its buffers for the next time
    ledger.spend(steps=matrix.rows * matrix.width * _COPY)


def read_vectors(ledger: Ledger, matrix: Matrix, metric: Metric, threads: int) -> None:
    """Embeddings as the searches take them (:func:`d2cli.graph.vectors.prepare`)."""
    read_matrix(ledger, matrix)
    numbers, wide = matrix.rows * matrix.width, matrix.wide
    as_is = metric == "euclidean" and matrix.plain and matrix.itemsize >= 4
    if not as_is:
        ledger.hold("vectors", numbers * wide)
    ledger.touch("checking", wide * min(CHECKED * threads, numbers))
    ledger.spend(steps=numbers * _CHECK * (1 if as_is else 2), threads=threads)


def build(ledger: Ledger, matrix: Matrix, search: Search) -> None:
    """From embeddings to lists of neighbours; ends with only the graph held."""
    n, d, k = matrix.rows, matrix.width, search.n_neighbors
    read_vectors(ledger, matrix, search.metric, search.threads)
    if search.grouped:
        # Lists of all rows, and which are in the group; how large groups are no header says.
        ledger.hold("graph", n * k * 8)
        n = max(1, round(n * search.taking_part))
        matrix = replace(matrix, rows=n)
        ledger.hold("group", n * 16)
    ledger.stage = "neighbors"
    with ledger.passing("duplicates", 24 * n):  # hashes, their order, groups
        ledger.spend(steps=n * (d * _HASH + 150e-9), threads=1)
    {"exact": _exact, "ivf": _ivf, "hnsw": _hnsw}[search.method_for(n)](ledger, matrix, search)
    ledger.free("embeddings", "vectors", "group", "duplicates")
    if search.grouped:
        ledger.free("lists")
    else:
        ledger.held["graph"] = ledger.held.pop("lists")
    ledger.touch("check", 4 * n)


def _kept(matrix: Matrix, among: int | None) -> tuple[float, bool]:
    """Bytes of scaled and centred rows that a screen keeps, and whether it makes blocks of them
    again and again; `among` some of the rows, or all.
    """
    d, wide = matrix.width, matrix.wide
    n = matrix.rows if among is None else among
    if among is None and wide == 4:
        return 0.0, False  # a view
    if n * d <= KEPT_NUMBERS:
        return n * d * (4.0 if among is None else 4 + 2 * wide), False  # taken, centred
    return 0.0, True


def _screen(
    ledger: Ledger, matrix: Matrix, k: int, threads: int, rows: int, n: int, pairs: float
) -> None:
    """Work for `rows` lists out of n, with products of so many pairs."""
    d = matrix.width
    # So many rows as they are; centred and squared in float64.
    some = math.ceil(n / math.ceil(n / CENTRE_ROWS))
    ledger.touch("centre", some * d * (matrix.wide + 16))
    width = min(k + 1 + SPARE, n)
    # A list of w takes in about w·ln(n/w) of n scores that come in no order.
    taken = rows * width * math.log(max(2.0, n / width))
    steps = float(rows) * n * _SCREEN + 2 * n * d * _SCALE + taken * _INSERTED
    ledger.spend(2.0 * pairs * d, steps + rows * width * d * _EXACT_DISTANCE, threads)


def among_themselves(
    ledger: Ledger, matrix: Matrix, k: int, threads: int, group: int | None = None
) -> None:
    """All rows, or a group of so many, held against each other by :func:`exact_neighbors`."""
    n = matrix.rows if group is None else group
    if n <= FEW_ROWS:
        compare(ledger, matrix, k, threads, n, group)
        return
    block = min(n, PAIR_ROWS)
    kept, again = _kept(matrix, group)
    # Of the second block as many more as it is made from.
    tile = 4 * block * block + (block * matrix.width * (4 + 4 + matrix.wide) if again else 0)
    room = 4 * n + 8 * n * min(k + 1 + SPARE, n) + kept + tile * threads
    with ledger.passing("screening", room):
        # A block meets itself in a product of half the work.
        _screen(ledger, matrix, k, threads, n, n, n * n / 2)


def compare(
    ledger: Ledger, matrix: Matrix, k: int, threads: int, rows: int, among: int | None = None
) -> None:
    """`rows` held against all, or `among` some of them, by :func:`exact_neighbors_of`."""
    d, n, wide = matrix.width, matrix.rows if among is None else among, matrix.wide
    kept, again = _kept(matrix, among)
    base = min(BASE_ROWS, n)
    query = QUERIES * (d * (wide + 4) + 8 * (k + 1 + SPARE))
    room = 8 * rows + 4 * n + kept
    room += (4 * QUERIES * base + (4 * d * base if again else 0) + query) * threads
    with ledger.passing("screening", room):
        _screen(ledger, matrix, k, threads, rows, n, float(rows) * n)


def _exact(ledger: Ledger, matrix: Matrix, search: Search) -> None:
    n, k = matrix.rows, search.n_neighbors
    ledger.hold("lists", n * k * 8)
    among_themselves(ledger, matrix, k, search.threads, n if search.grouped else None)
    ledger.keep(n * (min(k + 1 + SPARE, n) + k) * 8, search.checkpoint)


def _sample(ledger: Ledger, matrix: Matrix, search: Search) -> None:
    """Exact neighbours of some rows, to aim and to judge with (:class:`Truth`)."""
    ledger.stage = "sample"
    rows, among = min(SAMPLE_ROWS, matrix.rows), matrix.rows if search.grouped else None
    compare(ledger, matrix, search.n_neighbors, search.threads, rows, among)


def _ivf(ledger: Ledger, matrix: Matrix, search: Search) -> None:
    n, d, k, threads = matrix.rows, matrix.width, search.n_neighbors, search.threads
    _sample(ledger, matrix, search)
    strict = search.recall > STRICT
    margin, (reach, _) = EFFORTS[1 if strict else 0]
    size = min(k + margin, n - 1)

    ledger.stage = "reduce"
    rows = min(n, max(AXES_ROWS, AXES_ROWS_PER_DIMENSION * d))
    with ledger.passing("axes", 8 * rows * d + 4 * d * d * (rows / AXES_BLOCK + 8)):
        ledger.spend(2.0 * rows * d * d, _EIGEN * d**3)
    held = min(d, max(FIRST_WIDTH, round(_HELD_SHARE * d)))
    width = min(d, round(_SEARCHED + _SEARCHED_SHARE * d))
    ledger.hold("reduced", 4 * n * held)
    halvings = math.log2(max(2, held / WIDTH_STEP))
    ledger.spend(2.0 * n * d * held, n * d * _SCALE, threads)
    # Blocks of few queries and narrow rows: products run at half their speed.
    pairs = halvings * n * WIDTH_ROWS
    ledger.spend(2 * 2.0 * pairs * width, pairs * _SCREEN, threads)

    ledger.stage = "cells"
    cells = max(round(CELLS_PER_ROOT * math.sqrt(n)), n // LARGEST_MEAN)
    cells = max(1, min(cells, n // SMALLEST_MEAN))
    probes = min(_PROBES, cells)
    ledger.hold("cells", n * (4 + 4 * probes + 8) + cells * 4 * width)
    ledger.touch("arranging", n * (8 * probes + 24))
    sampled = min(n, SAMPLE_PER_CELL * cells) * (FITTING_ROUNDS + 1)
    led = min(ROUTE_WIDTH, width)
    looked, groups = cells, cells / GROUP
    if cells > FEW_CELLS:
        looked = AROUND
        if groups > FEW_GROUPS:
            indexed = groups * (FITTING_ROUNDS + 2) * INDEX_EFFORT * HNSW_M
            ledger.spend(steps=indexed * (INDEX_WIDTH * _INDEXED + _VISITED))
            led_by = 3 * HNSW_M * math.log(groups) * (INDEX_WIDTH * _INDEXED + _VISITED)
            ledger.spend(steps=(n + sampled) * led_by, threads=threads)
        else:
            looked += round(groups)
    pairs = float(n + sampled) * looked
    ledger.spend(2.0 * pairs * led, pairs * _SCREEN, threads)
    ledger.spend(steps=n * _ARRANGED)

    ledger.stage = "search"
    ledger.hold("candidates", n * size * 8)
    widest = LARGEST * max(n // cells, SMALLEST_MEAN)
    compared = float(n) * probes * n / cells
    with ledger.passing("search", threads * 4 * (CELL_QUERIES + widest) * (width + widest)):
        taken = n * size * math.log(max(2.0, compared / n / size))
        ledger.spend(2.0 * compared * width, compared * _ADMIT + taken * _INSERTED, threads)

    ledger.stage = "refine"
    hoods = n * 2 * reach * 5
    ledger.hold("links", hoods)
    # While links are made those of the pass before are there; then offers are.
    ledger.touch("links before", max(hoods, n * size * 8 * _OFFERED))
    met = n * (2.0 * reach) ** 2 * _FOLLOWED * _PASSES
    ledger.spend(steps=met * (_LINK + _MEASURED * width * _HOP), threads=threads)
    ledger.spend(steps=n * size * _OFFER * (1 + _PASSES))
    ledger.keep(n * (size * 8 + 8 * reach), search.checkpoint)
    ledger.free("links")

    ledger.stage = "rank"
    ledger.held["candidates"] = n * size * 4
    ledger.hold("lists", n * k * 8)
    ledger.spend(steps=n * size * (d * _EXACT_DISTANCE + _FETCH), threads=threads)
    ledger.free("candidates", "cells", "reduced")


def _hnsw(ledger: Ledger, matrix: Matrix, search: Search) -> None:
    n, d, k, threads = matrix.rows, matrix.width, search.n_neighbors, search.threads
    _sample(ledger, matrix, search)
    m, wide = search.hnsw_m, search.ef_construction
    ledger.stage = "index"
    # Of each row: its vector, 2m links and their count, label, lock, the links of upper levels and
    # the pointer to them, the table of labels; and what each search has visited.
    links = 4 * d + 8 * m + 4 + 8 + 40 + 8 + 4 + 56 + (4 * m + 4) / m
    ledger.hold("index", n * (links + 2 * (1 + threads)))
    blocks = 2 * 4 * min(n, INDEX_BLOCK) * d
    ledger.touch("block", blocks / 2)
    ledger.spend(steps=n * (wide + 2 * m) * _levels(n) * (d * _INDEXED + _VISITED))
    if ledger.keep(n * (links + 8 * k), search.checkpoint):
        ledger.touch("index to keep", n * links)
    ledger.stage = "neighbors"
    ledger.hold("lists", n * k * 8)
    ledger.touch("block", blocks)
    ef = search.ef or 2 * k
    visits = n * (ef + m) * _levels(n) * (d * _INDEXED + _VISITED)
    ledger.spend(steps=visits + n * k * d * _EXACT_DISTANCE, threads=threads)
    ledger.free("index")


def _levels(n: int) -> float:
    return math.log(max(2, n))
