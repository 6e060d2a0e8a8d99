"""Memory of a page."""

from __future__ import annotations

from d2cli.defaults import MapMethod
from d2cli.difficulty.sizes import SCIKIT_LEARN
from d2cli.runtime.ledger import MIB, Ledger

#: matplotlib, Jinja2 and Pillow, once loaded and in use.
_DRAWING = 45 * MIB


def comparison(ledger: Ledger) -> None:
    """A page with figures only."""
    ledger.stage = "page"
    ledger.hold("libraries", _DRAWING)


def report(ledger: Ledger, rows: int, d: int, map_method: MapMethod, block: int) -> None:
    """A page with figures, a map of `rows` vectors (d,), and examples; the vectors are held.

    `block` is the number of bytes of the examples' files that are read at a time.
    """
    comparison(ledger)
    ledger.hold("libraries", SCIKIT_LEARN)
    ledger.stage = "map"
    if map_method != "none":
        ledger.touch("map", 8.0 * rows * (4 * d + 200))
    ledger.stage = "page"
    ledger.touch("examples", block)
