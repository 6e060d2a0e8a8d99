"""Memory of a page: libraries, map and examples."""

from __future__ import annotations

from d2cli.defaults import MapMethod
from d2cli.runtime.ledger import MIB, Ledger

#: matplotlib, Jinja2 and Pillow, once loaded and in use.
_DRAWING = 45 * MIB
#: scikit-learn and SciPy, once loaded.
_LEARNING = 75 * MIB


def comparison(ledger: Ledger) -> None:
    """A page with figures only."""
    ledger.stage = "page"
    ledger.hold("libraries", _DRAWING)


def report(ledger: Ledger, rows: int, d: int, map_method: MapMethod, block: int) -> None:
    """A page with figures, a map and examples.

    Args:
        ledger: the vectors are held.
        rows, d: rows on the map, and the width of a vector.
        map_method: how rows are projected.
        block: bytes of the examples' files that are read at a time.
    """
    ledger.stage = "page"
    ledger.hold("libraries", _DRAWING + _LEARNING)
    ledger.stage = "map"
    if map_method != "none":
        ledger.touch("map", 8.0 * rows * (4 * d + 200))
    ledger.stage = "page"
    ledger.touch("examples", block)
