"""What the page is made of: tables and figures, ready to be laid out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True)
class Bar:
    """A cell that shows a share 0 … 1 as a bar too."""

    text: str
    share: float

    @property
    def width(self) -> str:
        """For the style sheet."""
        return f"{100 * self.share:.1f}%"


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is its heading, the others are numbers or `words`."""

    caption: str
    head: list[str]
    rows: Sequence[Sequence[str | Bar]]
    words: bool = False


@dataclass(frozen=True)
class FigureView:
    """A figure with what it shows in words, and its numbers as a table."""

    svg: Markup
    caption: str
    table: Table
    wide: bool = False


def percent(share: float, decimals: int = 1) -> str:
    """A share as per cent."""
    return "–" if not math.isfinite(share) else f"{100 * share:.{decimals}f}\N{NO-BREAK SPACE}%"


def count(number: int) -> str:
    """A whole number with its thousands set apart."""
    return f"{number:,}"


class Decimals:
    """Numbers of one kind, all with the decimals that the largest needs for four figures."""

    def __init__(self, values: Sequence[float]) -> None:
        sizes = [abs(v) for v in values if math.isfinite(v)]
        largest = max(sizes, default=0.0)
        exponent = math.floor(math.log10(largest)) if largest > 0 else 0
        self.scientific = not -4 <= exponent <= 6
        self.decimals = min(max(3 - exponent, 0), 6)

    def __call__(self, value: float) -> str:
        if not math.isfinite(value):
            return "–"
        return f"{value:.3e}" if self.scientific else f"{value:,.{self.decimals}f}"


def list_words(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
