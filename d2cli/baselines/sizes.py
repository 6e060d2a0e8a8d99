"""Block sizes and memory of the baselines."""

from __future__ import annotations

from d2cli.defaults import ZCORE_DRAWS, CompareMethod
from d2cli.runtime.ledger import Ledger

#: Picks of k-center that rows are compared with in one matrix product.
PICKS = 512
#: Rows of that product.
ROWS = 1024
#: Dimensions whose coordinates zcore copies together.
COLUMNS = 32
#: Draws of zcore that are made together.
DRAWS = 65_536

#: Methods whose selections of several sizes do not nest: each budget has a run of its own.
NOT_NESTED = ("ccs", "dual-sampling", "infomax", "semdedup-then-score")
#: Bytes of a draw of zcore: dimensions, random numbers, blocks, order; and while it is made.
_DRAW, _MADE = 48, 140


def select(
    ledger: Ledger, n: int, d: int, k: int, sizes: tuple[int, ...], method: CompareMethod,
    threads: int,
) -> None:  # fmt: skip
    """Selections of these sizes by one baseline; vectors and graph are held, the picks stay held.

    `k` is the number of neighbours per row of the graph.
    """
    ledger.stage = method
    draws = min(ZCORE_DRAWS, 10 * n)
    working = {
        "moderate": ("distances", 40 * n),
        "k-center": ("picking", 50 * n + 4 * PICKS * d),
        "facility-location": ("similarity", 8.0 * 2 * n * k + 24 * n),
        "near-duplicates": ("pairs", 53.0 * n * k + 30 * n),
        "semdedup-then-score": ("pairs", 53.0 * n * k + 38 * n),
        "infomax": ("relaxed selection", 62 * n),
        "dual-sampling": ("chances", 62 * n),
        "zcore": (
            "planes",
            n * (36 + 12 * threads + 2 * 4 * min(d, COLUMNS))
            + _DRAW * draws + _MADE * min(draws, DRAWS),
        ),
    }  # fmt: skip
    ledger.touch(*working.get(method, ("order", 40 * n)))
    # The orders of all other methods nest: one order serves every size.
    ledger.hold("picks", 8 * (sum(sizes) if method in NOT_NESTED else max(sizes)))
