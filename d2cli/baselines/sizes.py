"""Block sizes and memory of the baselines."""

from __future__ import annotations

from d2cli.defaults import CompareMethod
from d2cli.runtime.ledger import Ledger

#: Picks of k-center that rows are compared with in one matrix product.
PICKS = 512
#: Rows of that product.
ROWS = 1024
#: Dimensions whose coordinates zcore copies together.
COLUMNS = 32
#: Draws of zcore that are made together.
DRAWS = 65_536


def select(
    ledger: Ledger, n: int, d: int, k: int, sizes: tuple[int, ...], method: CompareMethod
) -> None:
    """Selections of these sizes by one baseline; vectors and graph are held, the picks stay held.

    `k` is the number of neighbours per row of the graph.
    """
    ledger.stage = method
    working = {
        "moderate": ("distances", 40 * n),
        "k-center": ("picking", 50 * n + 4 * PICKS * d),
        "facility-location": ("similarity", 8.0 * 2 * n * k + 24 * n),
        "near-duplicates": ("pairs", 53.0 * n * k + 30 * n),
    }
    ledger.touch(*working.get(method, ("order", 40 * n)))
    # The orders of all other methods nest: one order serves every size.
    ledger.hold("picks", 8 * (sum(sizes) if method == "ccs" else max(sizes)))
