"""The pages: :mod:`d2cli.evaluation` and the methods that are compared, stage by stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

from d2cli.defaults import CompareMethod, MapMethod
from d2cli.planning import messages, search
from d2cli.planning.ledger import MIB, Ledger
from d2cli.planning.sizes import Matrix, Picks

# -- sizes that the code fixes; a test holds them against the code's own ---------------------------
RANDOM_SEEDS = 5  # evaluation
FEWEST_ON_MAP = 10  # projection
PICKS_AT_ONCE = 512  # k-center

#: matplotlib, Jinja2 and Pillow, once loaded and at work; scikit-learn and SciPy besides.
_DRAWING, _LEARNING = 45 * MIB, 75 * MIB

# -- seconds of one core of the reference machine, each for one of what is named -------------------
_LOAD = 1.5  # the libraries
_FIGURES = 0.5  # figures of a page, and of each selection or budget
_CHECKED_AGAIN = 1.5e-9  # number looked at before each measurement
_ROW = 60e-9  # row sorted, marked or counted in a measurement
_TSNE_ROW = 7e-3  # row that t-SNE places, in all its iterations
_EXAMPLE_READ = 1e-9  # byte of a file of examples that is read to find those shown
_CARD = 3e-3  # example shown
_CENTRE = 4e-9  # number added to a centre or measured from it
_FARTHEST = 2e-9  # pair of a row and a pick
_SERVED = 30e-9  # edge looked at for facility location
_DRAWN = 60e-9  # entry of all lists, for near-duplicates


@dataclass(frozen=True)
class Page:
    """What a report shows.

    Attributes:
        kept: the size of each selection.
        measured: rows on which distances are measured, at most.
        mapped: rows on the map, at most.
        shown: examples of each kind.
        examples: bytes of the files that examples are read from; `block` of them held at a time.
    """

    kept: tuple[int, ...]
    measured: int
    map: MapMethod
    mapped: int
    shown: int
    examples: int = 0
    block: int = 0


def libraries(ledger: Ledger, learning: bool) -> None:
    """Loads what draws the figures, and what places rows on a map."""
    ledger.stage = "page"
    ledger.hold("libraries", _DRAWING + (_LEARNING if learning else 0))
    ledger.spend(steps=_LOAD)


def _measured(ledger: Ledger, matrix: Matrix, kept: int, most: int, threads: int) -> None:
    """Rows held against `kept` of them (``nearest_selected``), and those against each other."""
    n, again = matrix.rows, matrix.rows * matrix.width * _CHECKED_AGAIN
    with ledger.passing("marks", 34 * n):
        ledger.spend(steps=2 * again, threads=threads)
        ledger.spend(steps=2 * n * _ROW)
        others = math.ceil(min(n, most) * (n - kept) / n)
        search.compare(ledger, matrix, 1, threads, others, kept)
        _each_other(ledger, matrix, kept, most, threads)


def _each_other(ledger: Ledger, matrix: Matrix, group: int, most: int, threads: int) -> None:
    """A group of rows, or as many of them as are measured, held against the group."""
    among = group if group < matrix.rows else None
    if group <= most:
        search.among_themselves(ledger, matrix, 1, threads, among)
    else:
        search.compare(ledger, matrix, 1, threads, most, among)


def _threshold(ledger: Ledger, matrix: Matrix, most: int, threads: int) -> None:
    """Rows held against all others, for the distance that counts as near."""
    ledger.spend(steps=matrix.rows * matrix.width * _CHECKED_AGAIN, threads=threads)
    _each_other(ledger, matrix, matrix.rows, most, threads)


def report(ledger: Ledger, matrix: Matrix, page: Page, threads: int) -> None:
    """From vectors to a page; the vectors are held."""
    ledger.stage = "measure"
    _threshold(ledger, matrix, page.measured, threads)
    for size in dict.fromkeys(page.kept):
        for _ in range(RANDOM_SEEDS):
            _measured(ledger, matrix, size, page.measured, threads)
    for size in page.kept:
        _measured(ledger, matrix, size, page.measured, threads)
    libraries(ledger, learning=True)
    ledger.stage = "map"
    m, d = min(matrix.rows, page.mapped), matrix.width
    if page.map != "none":
        ledger.touch("map", 8.0 * m * (4 * d + 200))
        ledger.spend(6.0 * m * d * min(m, d))  # singular values, in float64
        if page.map == "tsne" and m >= FEWEST_ON_MAP:
            ledger.spend(steps=m * _TSNE_ROW)
    ledger.stage = "page"
    cards = len(page.kept) * 4 * page.shown
    ledger.touch("examples", page.block)
    ledger.spend(steps=page.examples * _EXAMPLE_READ + cards * _CARD)
    ledger.spend(steps=_FIGURES * (1 + len(page.kept)))


def methods(
    ledger: Ledger,
    matrix: Matrix,
    k: int,
    picks: Picks,
    names: tuple[CompareMethod, ...],
) -> None:
    """Selections of every size by every method; vectors, edges and the graph are held."""
    n, d, most = matrix.rows, matrix.width, max(picks.sizes)
    for name in names:
        if name == "d2":
            messages.greedy(ledger, n, k, picks)
        ledger.stage = name
        if name in ("random", "highest", "cutoff", "ccs"):
            times = len(picks.sizes) if name == "ccs" else 1
            ledger.touch("order", 40 * n)
            ledger.spend(steps=times * n * 4 * _ROW)
        elif name == "moderate":
            ledger.touch("distances", 40 * n)
            ledger.spend(steps=n * d * (_CHECKED_AGAIN + 2 * _CENTRE) + n * 3 * _ROW)
        elif name == "k-center":
            ledger.touch("picking", 50 * n + 4 * PICKS_AT_ONCE * d)
            ledger.spend(steps=n * d * (_CHECKED_AGAIN + _CENTRE), threads=picks.threads)
            pairs = float(n) * most
            ledger.spend(2.0 * pairs * d, pairs * _FARTHEST, picks.threads)
        elif name == "facility-location":
            ledger.touch("similarity", 8.0 * 2 * n * k + 24 * n)
            ledger.spend(steps=n * k * 3 * _SERVED + n * 4 * _ROW)
        elif name == "near-duplicates":
            ledger.touch("pairs", 53.0 * n * k + 30 * n)
            ledger.spend(steps=n * k * _DRAWN + n * 4 * _ROW)
        if name != "d2":
            ledger.hold("picks", 8 * (sum(picks.sizes) if name == "ccs" else most))


def compared(
    ledger: Ledger, matrix: Matrix, sizes: tuple[int, ...], count: int, most: int, threads: int
) -> None:
    """Every selection measured, and the page."""
    ledger.stage = "measure"
    _threshold(ledger, matrix, most, threads)
    for size in sizes:
        for _ in range(count):
            _measured(ledger, matrix, size, most, threads)
    libraries(ledger, learning=False)
    ledger.spend(steps=_FIGURES * (1 + len(sizes)))
