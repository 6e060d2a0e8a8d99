"""Numbers and lists as the text of a page."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percent(share: float, decimals: int = 1) -> str:
    """Format a share 0 … 1 in per cent; – if it is not finite."""
    return "–" if not math.isfinite(share) else f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def count(number: int) -> str:
    """Format an integer with thousands separators."""
    return f"{number:,}"


class Decimals:
    """Formats numbers of one kind with the decimals that give the largest four digits."""

    def __init__(self, values: Sequence[float]) -> None:
        largest = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
        exponent = math.floor(math.log10(largest)) if largest > 0 else 0
        self.scientific = not -4 <= exponent <= 6
        self.decimals = min(max(3 - exponent, 0), 6)

    def __call__(self, value: float) -> str:
        if not math.isfinite(value):
            return "–"
        return f"{value:.3e}" if self.scientific else f"{value:,.{self.decimals}f}"


def list_words(words: Sequence[str]) -> str:
    """Join words: ``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
