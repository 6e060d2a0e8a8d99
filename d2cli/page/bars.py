"""One number of each of several methods, as bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.ticker import FuncFormatter, MaxNLocator

from d2cli.page.svg import COLORS, figure, inline
from d2cli.page.view import FigureView, Table

#: Pixels of one bar, and of what stands above and below all.
_BAR, _MARGIN = 24, 64


def bars(
    name: str,
    title: str,
    axis: str,
    values: Sequence[tuple[str, float]],
    write: Callable[[float], str],
    words: str,
) -> FigureView:
    """A bar for each method, in the order given, with its number beside it.

    Args:
        name: of the figure, for ids.
        title: what is shown, for the table and for who does not see the figure.
        axis: what the axis says.
        values: (method, number) each; ``d2`` and ``random`` stand out by colour.
        write: a number as text.
        words: the caption.
    """
    labels, numbers = zip(*values, strict=True)
    roles = {"d2": "kept", "random": "random"}
    with figure(height=_MARGIN + _BAR * len(values)) as drawn:
        axes = drawn.add_subplot()
        places = range(len(values))
        axes.barh(
            places, numbers, height=0.66,
            color=[COLORS[roles.get(label, "full")] for label in labels],
        )  # fmt: skip
        for place, number in zip(places, numbers, strict=True):
            axes.annotate(
                write(number), (number, place), (4, 0), textcoords="offset points",
                va="center", fontsize=9.5,
            )  # fmt: skip
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, max(*numbers, 1e-12) * 1.24)
        axes.set_xlabel(axis)
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
        svg = inline(drawn, name, title, words)
    table = Table(title, ["Method", axis], [[label, write(v)] for label, v in values])
    return FigureView(svg, words, table)
