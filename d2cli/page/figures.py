"""The figures of the pages. Each function returns the SVG, a caption and a table of the numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from matplotlib.axis import Axis
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from d2cli.evaluation.balance import BinCounts
from d2cli.page.page import FigureView, Table
from d2cli.page.svg import COLORS, figure, inline
from d2cli.page.text import Decimals, count, percent

#: Steps between ticks, up to a power of ten.
_TICK_STEPS = [1, 2, 2.5, 5, 10]
#: An axis is logarithmic if its values differ by more than this factor.
_LOG_FROM = 50
#: Maximum number of steps of a curve over the picks.
_STEPS = 60
#: Cells per axis in the table of the map.
_CELLS = 3
#: Pixels per bar of a bar chart.
_BAR = 24
#: Pixels above and below all bars together.
_MARGIN = 64


def coverage_curve(
    name: str,
    label: str,
    shares: NDArray[np.float64],
    kept: NDArray[np.float64],
    random: NDArray[np.float64],
) -> FigureView:
    """Draw the share of rows within each distance of a kept row, beside random selections.

    Args:
        name: prefix of the figure's ids.
        label: names the selection in the titles.
        shares: (q,) the levels 0 … 1 of the quantiles.
        kept, random: (q,) quantiles of the distance to the nearest kept row.
    """
    with figure() as drawn:
        axes = drawn.add_subplot()
        axes.plot(random, shares, color=COLORS["random"], lw=1.8, ls=(0, (4, 2)), label="random")
        axes.plot(kept, shares, color=COLORS["kept"], lw=2.2, label="this selection")
        axes.set_ylim(0, 1.02)
        axes.set_xlim(left=0)
        axes.set_xlabel("distance to the nearest kept row")
        axes.set_ylabel("rows within it")
        _format(axes.yaxis, "percent")
        _ticks(axes.xaxis)
        axes.legend(loc="lower right")
        number = Decimals([*kept, *random])

        def within(share: float, distances: NDArray[np.float64]) -> str:
            return number(float(np.interp(share, shares, distances)))

        words = (
            f"Half of all rows have a kept row within {within(0.5, kept)} (random selections of "
            f"the same size: {within(0.5, random)}), 95 % within {within(0.95, kept)} "
            f"({within(0.95, random)})."
        )
        svg = inline(drawn, name, f"Distance to the nearest kept row, {label}", words)
    at = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]
    rows = [[percent(q, 0), within(q, kept), within(q, random)] for q in at]
    table = Table(
        f"Quantiles of the distance to the nearest kept row, {label}",
        ["Rows", "This selection", "Random"],
        rows,
    )
    return FigureView(svg, words, table)


def score_histogram(
    name: str, label: str, edges: NDArray[np.float64], bins: BinCounts
) -> FigureView:
    """Draw histograms of the score: of the full set and of the selection.

    Args:
        name, label: as in :func:`coverage_curve`.
        edges: (C + 1,) edges of the bins.
        bins: counts per bin.
    """
    some = bins.full[bins.full > 0]
    logarithmic = bool(some.max() > _LOG_FROM * max(1, some.min()))
    with figure() as drawn:
        axes = drawn.add_subplot()
        axes.stairs(bins.full, edges, fill=True, color=COLORS["full"], alpha=0.45)
        axes.stairs(bins.full, edges, color=COLORS["full"], lw=1.4, label="full set")
        axes.stairs(bins.kept, edges, color=COLORS["kept"], lw=2.2, label="kept")
        axes.set_xlim(edges[0], edges[-1])
        if logarithmic:
            axes.set_yscale("log")
            axes.set_ylim(0.7, float(bins.full.max()) * 1.6)
            axes.minorticks_off()
        else:
            axes.set_ylim(0, float(bins.full.max()) * 1.08)
        _format(axes.yaxis, "count")
        _ticks(axes.xaxis)
        axes.set_xlabel("score")
        axes.set_ylabel("rows (log scale)" if logarithmic else "rows")
        axes.legend(loc="upper right")
        words = (
            f"Rows by score in {bins.full.size} bins of equal width, for the full set and for the "
            f"kept rows. Total variation distance of the two distributions: {percent(bins.shift)}."
        )
        svg = inline(drawn, name, f"Score histogram, {label}", words)
    number = Decimals(edges.tolist())
    names = [f"{number(low)} to {number(high)}" for low, high in pairwise(edges)]
    head = ["Score", "Full set", "Kept", "Share kept"]
    return FigureView(svg, words, _count_table(f"Rows by score, {label}", head, names, bins))


def kept_by_difficulty(
    name: str, label: str, groups: BinCounts, ends: tuple[str, str]
) -> FigureView:
    """Draw the share kept in groups of equal size, in the order of the scores.

    Args:
        name, label: as in :func:`coverage_curve`.
        groups: counts per group.
        ends: names of the first and of the last group, for example ``easiest`` and ``hardest``.
    """
    share = np.nan_to_num(groups.retention)
    overall = float(groups.kept.sum() / groups.full.sum())
    places = (np.arange(share.size) + 0.5) / share.size
    with figure() as drawn:
        axes = drawn.add_subplot()
        axes.bar(places, share, width=0.82 / share.size, color=COLORS["kept"], label="kept")
        axes.axhline(overall, color=COLORS["random"], lw=1.8, ls=(0, (4, 2)), label="all rows")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, max(float(share.max()), overall) * 1.22 or 1)
        for axis in (axes.xaxis, axes.yaxis):
            _ticks(axis)
            _format(axis, "percent")
        axes.grid(axis="x", visible=False)
        axes.set_xlabel(f"order of the scores: {ends[0]} → {ends[1]}")
        axes.set_ylabel("share kept")
        axes.legend(loc="upper left", ncols=2)
        low, high = int(np.argmin(share)), int(np.argmax(share))
        words = (
            f"Share kept of the {ends[0]} {percent(1 / share.size, 0)}: "
            f"{percent(float(share[0]))}; of the {ends[1]}: {percent(float(share[-1]))}. "
            f"Highest share: {percent(float(share[high]))}, at {percent(high / share.size, 0)} to "
            f"{percent((high + 1) / share.size, 0)} of the order. Lowest share: "
            f"{percent(float(share[low]))}, at {percent(low / share.size, 0)} to "
            f"{percent((low + 1) / share.size, 0)}."
        )
        svg = inline(drawn, name, f"Share kept by {ends[1]} score, {label}", words)
    names = [
        f"{percent(i / share.size, 0)} to {percent((i + 1) / share.size, 0)}"
        for i in range(share.size)
    ]
    title = f"Rows kept in the order of their scores, {ends[0]} first, {label}"
    head = ["Place in the order", "Rows", "Kept", "Share kept"]
    table = _count_table(title, head, names, groups)
    return FigureView(svg, words, table)


def pick_curve(
    name: str,
    label: str,
    values: NDArray[np.float64],
    ran_out_at: int | None,
    ends: tuple[str, str] | None,
) -> FigureView:
    """Draw the score of each pick when it was picked, or its rank by the scores as given.

    Args:
        name, label: as in :func:`coverage_curve`.
        values: (N,) scores at the pick or ranks 0 … 1, in the order of the picks.
        ran_out_at: the pick at which the messages ran out, or None.
        ends: names of the lowest and of the highest rank; None if `values` are scores.
    """
    n, gains = values.size, ends is None
    steps = min(n, _STEPS)
    stops = np.arange(1, steps + 1) * n // steps
    middle = np.array([np.median(part) for part in np.split(values, stops[:-1])])
    with figure() as drawn:
        axes = drawn.add_subplot()
        starts = np.concatenate([[0], stops])
        shown = np.where(middle > 0, middle, np.nan) if _is_wide(middle, gains) else middle
        axes.stairs(shown, starts, color=COLORS["kept"], lw=2.0, baseline=None)
        axes.set_xlim(0, n)
        if gains:
            _score_axis(axes, middle)
        else:
            axes.set_ylim(0, 1.05)
            _format(axes.yaxis, "percent")
        if ran_out_at is not None:
            axes.axvline(ran_out_at, color=COLORS["random"], lw=1.8, ls=(0, (4, 2)))
            left = ran_out_at > n / 2
            axes.annotate(
                "messages ran out", (ran_out_at, 1), xycoords=("data", "axes fraction"),
                xytext=(-5 if left else 5, -3), textcoords="offset points",
                ha="right" if left else "left", va="top",
            )  # fmt: skip
        _ticks(axes.xaxis, integer=True)
        _format(axes.xaxis, "count")
        axes.set_xlabel("pick, first to last")
        axes.set_ylabel("score at the pick" if ends is None else f"{ends[0]} → {ends[1]}")
        what = "Score at the pick" if gains else "Rank of the picks by score"
        number = _short if gains else percent
        words = (
            f"{what}, medians of up to {_STEPS} steps: {number(float(middle[0]))} in the first, "
            f"{number(float(middle[-1]))} in the last."
        )
        svg = inline(drawn, name, f"{what}, {label}", words)
    chosen = np.unique(np.linspace(0, steps - 1, 11).astype(int))
    rows = [
        [f"{count(int(starts[i]) + 1)} to {count(int(starts[i + 1]))}", number(float(middle[i]))]
        for i in chosen
    ]
    table = Table(f"{what}, {label}", ["Picks", "Median"], rows)
    return FigureView(svg, words, table)


def _is_wide(middle: NDArray[np.float64], gains: bool) -> bool:
    """Whether scores need a logarithmic axis."""
    above = middle[middle > 0]
    if not gains or not above.size or middle.min() < 0:
        return False
    return bool(above.max() > _LOG_FROM * above.min())


def _score_axis(axes: Any, middle: NDArray[np.float64]) -> None:
    if _is_wide(middle, True):
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: _short(v)))
        return
    low, high = min(0.0, float(middle.min())), max(0.0, float(middle.max()))
    axes.set_ylim(low, high + 0.12 * (high - low) or 1)


def _short(value: float) -> str:
    return f"{value:.3g}"


def embedding_map(
    name: str, label: str, places: NDArray[np.float64], kept: NDArray[np.bool_], how: str
) -> FigureView:
    """Draw rows on a map, kept rows in front.

    Args:
        name, label: as in :func:`coverage_curve`.
        places: (m, 2) within 0 … 1.
        kept: (m,) True for kept rows.
        how: the method of the map, for the caption.
    """
    with figure(340, 340, None) as drawn:
        axes = drawn.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        size = float(np.clip(110 / np.sqrt(max(kept.size, 1)), 2.0, 7.0))
        _dots(axes, places[~kept], COLORS["dropped"], size, 0.75)
        _dots(axes, places[kept], COLORS["kept"], size * 1.5, 0.85)
        share = float(kept.mean())
        words = (
            f"{how}: {count(int(kept.sum()))} kept rows (large, in colour) among "
            f"{count(int((~kept).sum()))} dropped rows (small, grey); {percent(share)} of the rows "
            "on the map are kept."
        )
        svg = inline(drawn, name, f"Map of the embeddings, {label}", words)
    return FigureView(svg, words, _cells(label, places, kept), wide=True)


def _dots(axes: Any, places: NDArray[np.float64], color: str, size: float, alpha: float) -> None:
    """Draw all dots as one path: lines of length 0 with round ends."""
    if not places.size:
        return
    vertices = np.repeat(places, 2, axis=0)
    codes = np.tile(np.array([Path.MOVETO, Path.LINETO], np.uint8), len(places))
    axes.add_patch(
        PathPatch(Path(vertices, codes), fc="none", ec=color, lw=size, capstyle="round",
                  alpha=alpha)
    )  # fmt: skip


def _cells(label: str, places: NDArray[np.float64], kept: NDArray[np.bool_]) -> Table:
    """Count rows by cell of the map, from the top left to the bottom right."""
    x, y = np.clip((places * _CELLS).astype(int), 0, _CELLS - 1).T
    cells = (_CELLS - 1 - y) * _CELLS + x
    full, chosen = (np.bincount(c, minlength=_CELLS * _CELLS) for c in (cells, cells[kept]))
    names = [f"{v} {h}" for v in ("top", "middle", "bottom") for h in ("left", "centre", "right")]
    head = ["Part of the map", "Rows", "Kept", "Share kept"]
    return _count_table(f"Rows by part of the map, {label}", head, names, BinCounts(full, chosen))


def _count_table(caption: str, head: list[str], names: list[str], counts: BinCounts) -> Table:
    numbers = zip(names, counts.full, counts.kept, counts.retention, strict=True)
    rows = [[name, count(int(f)), count(int(k)), percent(float(r))] for name, f, k, r in numbers]
    return Table(caption, head, rows)


def bar_chart(
    name: str,
    title: str,
    axis: str,
    values: Sequence[tuple[str, float]],
    write: Callable[[float], str],
    words: str,
) -> FigureView:
    """Draw a horizontal bar for each method, in the order given, with its number.

    Args:
        name: prefix of the figure's ids.
        title: title of the table and of the figure for screen readers.
        axis: label of the axis.
        values: pairs (method, number); ``d2`` and ``random`` have colours of their own.
        write: formats a number.
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
        _ticks(axes.xaxis)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
        svg = inline(drawn, name, title, words)
    table = Table(title, ["Method", axis], [[label, write(v)] for label, v in values])
    return FigureView(svg, words, table)


def _ticks(axis: Axis, *, integer: bool = False) -> None:
    """At most six round tick marks."""
    axis.set_major_locator(MaxNLocator(5, integer=integer, steps=_TICK_STEPS))


def _format(axis: Axis, form: Literal["percent", "count"]) -> None:
    """Label the ticks of an axis with shares in per cent, or with counts."""
    if form == "percent":
        axis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    else:
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
