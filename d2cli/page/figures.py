"""The figures of the pages. Each function returns the SVG, a caption and a table of the numbers.

`name` is the prefix of a figure's ids, and `label` names the selection in its titles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from d2cli.evaluation.balance import BinCounts
from d2cli.page.page import FigureView, Table
from d2cli.page.svg import COLORS, figure, inline
from d2cli.page.text import Decimals, count, percent

Floats = NDArray[np.float64]

#: An axis is logarithmic if its values differ by more than this factor.
_LOG_FROM = 50
#: Maximum number of steps of a curve over the picks.
_STEPS = 60
#: Cells per axis in the table of the map.
_CELLS = 3
#: Line of random selections and of other values to compare with.
_DASHED: dict[str, Any] = {"color": COLORS["random"], "lw": 1.8, "ls": (0, (4, 2))}


def coverage_curve(
    name: str, label: str, shares: Floats, kept: Floats, random: Floats
) -> FigureView:
    """Draw the share of rows within each distance of a kept row, beside random selections.

    `kept` and `random` (q,) are quantiles of the distance at the levels `shares` (q,), 0 … 1.
    """
    number = Decimals([*kept, *random])

    def within(share: float, distances: Floats) -> str:
        return number(float(np.interp(share, shares, distances)))

    words = (
        f"Half of all rows have a kept row within {within(0.5, kept)} (random selections of "
        f"the same size: {within(0.5, random)}), 95 % within {within(0.95, kept)} "
        f"({within(0.95, random)})."
    )
    with figure() as drawn:
        axes = drawn.add_subplot()
        axes.plot(random, shares, label="random", **_DASHED)
        axes.plot(kept, shares, color=COLORS["kept"], lw=2.2, label="this selection")
        axes.set(ylim=(0, 1.02), xlabel="distance to the nearest kept row", ylabel="rows within it")
        axes.set_xlim(left=0)
        axes.yaxis.set_major_formatter(_whole_percent)
        _ticks(axes.xaxis)
        axes.legend(loc="lower right")
        svg = inline(drawn, name, f"Distance to the nearest kept row, {label}", words)
    at = (0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
    rows = [[percent(q, 0), within(q, kept), within(q, random)] for q in at]
    title = f"Quantiles of the distance to the nearest kept row, {label}"
    return FigureView(svg, words, Table(title, ["Rows", "This selection", "Random"], rows))


def score_histogram(name: str, label: str, edges: Floats, bins: BinCounts) -> FigureView:
    """Draw histograms of the score, of the full set and of the selection; `edges` (C + 1,)."""
    some, most = bins.full[bins.full > 0], float(bins.full.max())
    logarithmic = bool(most > _LOG_FROM * max(1, some.min()))
    words = (
        f"Rows by score in {bins.full.size} bins of equal width, for the full set and for the "
        f"kept rows. Total variation distance of the two distributions: {percent(bins.shift)}."
    )
    with figure() as drawn:
        axes = drawn.add_subplot()
        axes.stairs(bins.full, edges, fill=True, color=COLORS["full"], alpha=0.45)
        axes.stairs(bins.full, edges, color=COLORS["full"], lw=1.4, label="full set")
        axes.stairs(bins.kept, edges, color=COLORS["kept"], lw=2.2, label="kept")
        axes.set(xlim=(edges[0], edges[-1]), xlabel="score")
        if logarithmic:
            axes.set(yscale="log", ylim=(0.7, most * 1.6), ylabel="rows (log scale)")
            axes.minorticks_off()
        else:
            axes.set(ylim=(0, most * 1.08), ylabel="rows")
        axes.yaxis.set_major_formatter("{x:,.0f}")
        _ticks(axes.xaxis)
        axes.legend(loc="upper right")
        svg = inline(drawn, name, f"Score histogram, {label}", words)
    number = Decimals(edges.tolist())
    names = [f"{number(low)} to {number(high)}" for low, high in pairwise(edges)]
    table = _count_table(f"Rows by score, {label}", ["Score", "Full set"], names, bins)
    return FigureView(svg, words, table)


def kept_by_difficulty(
    name: str, label: str, groups: BinCounts, ends: tuple[str, str]
) -> FigureView:
    """Draw the share kept in groups of equal size, in the order of the scores.

    `ends` names the first and the last group, for example ``easiest`` and ``hardest``.
    """
    share = np.nan_to_num(groups.retention)
    overall = float(groups.kept.sum() / groups.full.sum())
    size, low, high = share.size, int(np.argmin(share)), int(np.argmax(share))
    names = [f"{percent(i / size, 0)} to {percent((i + 1) / size, 0)}" for i in range(size)]
    first, last, least, most = (percent(float(share[i])) for i in (0, -1, low, high))
    words = (
        f"Share kept of the {ends[0]} {percent(1 / size, 0)}: {first}; of the {ends[1]}: {last}. "
        f"Highest share: {most}, at {names[high]} of the order. "
        f"Lowest share: {least}, at {names[low]}."
    )
    with figure() as drawn:
        axes = drawn.add_subplot()
        places = (np.arange(size) + 0.5) / size
        axes.bar(places, share, width=0.82 / size, color=COLORS["kept"], label="kept")
        axes.axhline(overall, label="all rows", **_DASHED)
        axes.set(xlim=(0, 1), ylim=(0, max(float(share.max()), overall) * 1.22 or 1))
        for axis in (axes.xaxis, axes.yaxis):
            _ticks(axis)
            axis.set_major_formatter(_whole_percent)
        axes.grid(axis="x", visible=False)
        axes.set(xlabel=f"order of the scores: {ends[0]} → {ends[1]}", ylabel="share kept")
        axes.legend(loc="upper left", ncols=2)
        svg = inline(drawn, name, f"Share kept by {ends[1]} score, {label}", words)
    title = f"Rows kept in the order of their scores, {ends[0]} first, {label}"
    table = _count_table(title, ["Place in the order", "Rows"], names, groups)
    return FigureView(svg, words, table)


def pick_curve(
    name: str, label: str, values: Floats, ran_out_at: int | None, ends: tuple[str, str] | None
) -> FigureView:
    """Draw `values` (N,) in the order of the picks: each score at the pick, or each rank 0 … 1.

    `ran_out_at` is the pick at which the messages ran out, or None. `ends` names the lowest and the
    highest rank; None if `values` are scores.
    """
    n, steps = values.size, min(values.size, _STEPS)
    starts = np.arange(steps + 1) * n // steps
    middle = np.array([np.median(part) for part in np.split(values, starts[1:-1])])
    above, low, high = middle[middle > 0], float(middle.min()), float(middle.max())
    wide = ends is None and low >= 0 and above.size and high > _LOG_FROM * above.min()
    what = "Score at the pick" if ends is None else "Rank of the picks by score"
    number = "{:.3g}".format if ends is None else percent
    words = (
        f"{what}, medians of up to {_STEPS} steps: {number(float(middle[0]))} in the first, "
        f"{number(float(middle[-1]))} in the last."
    )
    with figure() as drawn:
        axes = drawn.add_subplot()
        shown = np.where(middle > 0, middle, np.nan) if wide else middle
        axes.stairs(shown, starts, color=COLORS["kept"], lw=2.0, baseline=None)
        axes.set_xlim(0, n)
        if ends is not None:
            axes.set(ylim=(0, 1.05), ylabel=f"{ends[0]} → {ends[1]}")
            axes.yaxis.set_major_formatter(_whole_percent)
        elif wide:
            axes.set(yscale="log", ylabel="score at the pick")
            axes.minorticks_off()
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
        else:
            low, high = min(0.0, low), max(0.0, high)
            axes.set(ylim=(low, high + 0.12 * (high - low) or 1), ylabel="score at the pick")
        if ran_out_at is not None:
            axes.axvline(ran_out_at, **_DASHED)
            offset, side = (-5, "right") if ran_out_at > n / 2 else (5, "left")
            axes.annotate(
                "messages ran out", (ran_out_at, 1), xycoords=("data", "axes fraction"),
                xytext=(offset, -3), textcoords="offset points", ha=side, va="top",
            )  # fmt: skip
        _ticks(axes.xaxis, integer=True)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.set_xlabel("pick, first to last")
        svg = inline(drawn, name, f"{what}, {label}", words)
    chosen = np.unique(np.linspace(0, steps - 1, 11).astype(int))
    spans = [f"{count(int(starts[i]) + 1)} to {count(int(starts[i + 1]))}" for i in chosen]
    rows = [[span, number(float(middle[i]))] for span, i in zip(spans, chosen, strict=True)]
    return FigureView(svg, words, Table(f"{what}, {label}", ["Picks", "Median"], rows))


def embedding_map(
    name: str, label: str, places: Floats, kept: NDArray[np.bool_], how: str
) -> FigureView:
    """Draw rows at their `places` (m, 2) within 0 … 1, those of the mask `kept` (m,) in front.

    `how` names the method of the map in the caption.
    """
    counts = _cells(places, kept)
    words = (
        f"{how}: {count(int(kept.sum()))} kept rows (large, in colour) among "
        f"{count(int((~kept).sum()))} dropped rows (small, grey); {percent(float(kept.mean()))} of "
        "the rows on the map are kept."
    )
    with figure(340, 340, None) as drawn:
        axes = drawn.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set(aspect="equal", xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
        size = float(np.clip(110 / np.sqrt(max(kept.size, 1)), 2.0, 7.0))
        _dots(axes, places[~kept], COLORS["dropped"], size, 0.75)
        _dots(axes, places[kept], COLORS["kept"], size * 1.5, 0.85)
        svg = inline(drawn, name, f"Map of the embeddings, {label}", words)
    parts = [f"{v} {h}" for v in ("top", "middle", "bottom") for h in ("left", "centre", "right")]
    title, head = f"Rows by part of the map, {label}", ["Part of the map", "Rows"]
    return FigureView(svg, words, _count_table(title, head, parts, counts), wide=True)


def _dots(axes: Any, places: Floats, color: str, size: float, alpha: float) -> None:
    """Draw all dots as one path: lines of length 0 with round ends."""
    if places.size:
        codes = np.tile(np.array([Path.MOVETO, Path.LINETO], np.uint8), len(places))
        path = Path(np.repeat(places, 2, axis=0), codes)
        style = {"ec": color, "lw": size, "alpha": alpha}
        axes.add_patch(PathPatch(path, fc="none", capstyle="round", **style))


def _cells(places: Floats, kept: NDArray[np.bool_]) -> BinCounts:
    """Count rows by cell of the map, from the top left to the bottom right."""
    x, y = np.clip((places * _CELLS).astype(int), 0, _CELLS - 1).T
    cells = (_CELLS - 1 - y) * _CELLS + x
    full, chosen = (np.bincount(c, minlength=_CELLS * _CELLS) for c in (cells, cells[kept]))
    return BinCounts(full, chosen)


def bar_chart(
    name: str, title: str, axis: str, values: Sequence[tuple[str, float]],
    write: Callable[[float], str], words: str,
) -> FigureView:  # fmt: skip
    """Draw a horizontal bar for each pair (method, number), in the order given.

    ``d2`` and ``random`` have colours of their own. `axis` is the label of the axis, `write`
    formats a number, and `words` is the caption.
    """
    labels, numbers = zip(*values, strict=True)
    roles = {"d2": "kept", "random": "random"}
    colors = [COLORS[roles.get(label, "full")] for label in labels]
    places = range(len(values))
    with figure(height=64 + 24 * len(values)) as drawn:
        axes = drawn.add_subplot()
        axes.barh(places, numbers, height=0.66, color=colors)
        for point in zip(numbers, places, strict=True):
            axes.annotate(write(point[0]), point, (4, 0), textcoords="offset points", va="center",
                          fontsize=9.5)  # fmt: skip
        axes.set_yticks(places, labels)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set(xlim=(0, max(*numbers, 1e-12) * 1.24), xlabel=axis)
        _ticks(axes.xaxis)
        axes.xaxis.set_major_formatter(lambda value, _: write(value))
        svg = inline(drawn, name, title, words)
    table = Table(title, ["Method", axis], [[label, write(v)] for label, v in values])
    return FigureView(svg, words, table)


def _count_table(caption: str, head: list[str], names: list[str], counts: BinCounts) -> Table:
    numbers = zip(names, counts.full, counts.kept, counts.retention, strict=True)
    rows = [[name, count(int(f)), count(int(k)), percent(float(r))] for name, f, k, r in numbers]
    return Table(caption, [*head, "Kept", "Share kept"], rows)


def _ticks(axis: Axis, *, integer: bool = False) -> None:
    """At most six round tick marks; the steps are those between powers of ten."""
    axis.set_major_locator(MaxNLocator(5, integer=integer, steps=[1, 2, 2.5, 5, 10]))


def _whole_percent(value: float, _: object) -> str:
    return f"{100 * value:.0f} %"
