"""The figures of a report. Each comes with its words and its numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from d2cli.evaluation.balance import BinCounts
from d2cli.page.svg import COLORS, figure, inline
from d2cli.page.view import Decimals, FigureView, Table, count, percent

#: Steps between ticks, but for powers of ten.
_NICE = [1, 2, 2.5, 5, 10]
#: Counts that differ by more than this are drawn on a logarithmic axis.
_LOG_FROM = 50
#: Picks are shown in this many steps at most.
_STEPS = 60
#: Cells of the map's table, in each direction.
_CELLS = 3


def coverage_curve(
    name: str,
    label: str,
    shares: NDArray[np.float64],
    kept: NDArray[np.float64],
    random: NDArray[np.float64],
) -> FigureView:
    """How many rows have a kept row within some distance; beside random selections.

    Args:
        name: of the figure, for ids.
        label: which selection, for the caption.
        shares: (q,) 0 … 1, at which the distances stand.
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
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=_NICE))
        axes.legend(loc="lower right")
        number = Decimals([*kept, *random])
        words = (
            f"Half of all rows have a kept row within {number(float(np.interp(0.5, shares, kept)))}"
            f" (random selections of the same size: "
            f"{number(float(np.interp(0.5, shares, random)))}), 95 % within "
            f"{number(float(np.interp(0.95, shares, kept)))} "
            f"({number(float(np.interp(0.95, shares, random)))})."
        )
        svg = inline(drawn, name, f"Distance to the nearest kept row, {label}", words)
    at = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0]
    rows = [
        [percent(q, 0), number(float(np.interp(q, shares, kept))),
         number(float(np.interp(q, shares, random)))]
        for q in at
    ]  # fmt: skip
    table = Table(
        f"Distance within which so many rows have a kept one, {label}",
        ["Rows", "This selection", "Random"],
        rows,
    )
    return FigureView(svg, words, table)


def score_histogram(name: str, label: str, edges: NDArray[np.float64], bins: BinCounts) -> FigureView:
    """Rows by score, of the full set and of what is kept."""
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
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        else:
            axes.set_ylim(0, float(bins.full.max()) * 1.08)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=_NICE))
        axes.set_xlabel("score")
        axes.set_ylabel("rows (log scale)" if logarithmic else "rows")
        axes.legend(loc="upper right")
        words = (
            f"Rows by score in {bins.full.size} bins of equal width: the full set, and what is "
            f"kept of it. {percent(bins.shift)} of the rows would have to change bins to turn one "
            "distribution into the other."
        )
        svg = inline(drawn, name, f"Score histogram, {label}", words)
    number = Decimals(edges.tolist())
    rows = [
        [f"{number(low)} to {number(high)}", count(int(f)), count(int(k)), percent(float(r))]
        for low, high, f, k, r in zip(
            edges[:-1], edges[1:], bins.full, bins.kept, bins.retention, strict=True
        )
    ]
    table = Table(f"Rows by score, {label}", ["Score", "Full set", "Kept", "Share kept"], rows)
    return FigureView(svg, words, table)


def kept_by_difficulty(name: str, label: str, groups: BinCounts, ends: tuple[str, str]) -> FigureView:
    """The share kept in groups of equal size, in the order of the scores.

    Args:
        name, label: as in :func:`coverage_curve`.
        groups: counts by group.
        ends: what the first and the last group are called.
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
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_NICE))
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=_NICE))
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axes.grid(axis="x", visible=False)
        axes.set_xlabel(f"order of the scores: {ends[0]} → {ends[1]}")
        axes.set_ylabel("share kept")
        axes.legend(loc="upper left", ncols=2)
        low, high = int(np.argmin(share)), int(np.argmax(share))
        words = (
            f"Of the {ends[0]} twentieth {percent(float(share[0]))} are kept, of the {ends[1]} "
            f"{percent(float(share[-1]))}; most, {percent(float(share[high]))}, between "
            f"{percent(high / share.size, 0)} and {percent((high + 1) / share.size, 0)} of the "
            f"order, and least, {percent(float(share[low]))}, between "
            f"{percent(low / share.size, 0)} and {percent((low + 1) / share.size, 0)}."
        )
        svg = inline(drawn, name, f"Share kept by {ends[1]} score, {label}", words)
    rows = [
        [f"{percent(i / share.size, 0)} to {percent((i + 1) / share.size, 0)}", count(int(f)),
         count(int(k)), percent(float(r))]
        for i, (f, k, r) in enumerate(
            zip(groups.full, groups.kept, groups.retention, strict=True)
        )
    ]  # fmt: skip
    table = Table(
        f"Rows kept in the order of their scores, {ends[0]} first, {label}",
        ["Place in the order", "Rows", "Kept", "Share kept"],
        rows,
    )
    return FigureView(svg, words, table)


def picks(
    name: str,
    label: str,
    values: NDArray[np.float64],
    ran_out_at: int | None,
    ends: tuple[str, str] | None,
) -> FigureView:
    """What each pick had left as its score, or how hard the picks were, first to last.

    Args:
        name, label: as in :func:`coverage_curve`.
        values: (N,) gains or places 0 … 1 in the order of the scores, by pick.
        ran_out_at: the pick at which the messages ran out, or None.
        ends: what the ends of the order of scores are called; None where `values` are gains.
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
            axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        if ran_out_at is not None:
            axes.axvline(ran_out_at, color=COLORS["random"], lw=1.8, ls=(0, (4, 2)))
            left = ran_out_at > n / 2
            axes.annotate(
                "messages ran out", (ran_out_at, 1), xycoords=("data", "axes fraction"),
                xytext=(-5 if left else 5, -3), textcoords="offset points",
                ha="right" if left else "left", va="top",
            )  # fmt: skip
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=_NICE))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        axes.set_xlabel("pick, first to last")
        axes.set_ylabel("score left at the pick" if ends is None else f"{ends[0]} → {ends[1]}")
        what = "Score left at the pick" if gains else "Place of the picks in the order of scores"
        number = _short if gains else percent
        words = (
            f"{what}, in medians of up to {_STEPS} steps: {number(float(middle[0]))} at first, "
            f"{number(float(middle[-1]))} at last."
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
    """Whether scores that are left span so much that only a logarithm shows them."""
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
    """Rows on a map, kept ones in front.

    Args:
        name, label: as in :func:`coverage_curve`.
        places: (m, 2) within 0 … 1.
        kept: (m,) which of them are kept.
        how: what made the map.
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
            f"{count(int((~kept).sum()))} dropped ones (small, grey); {percent(share)} of those on "
            "the map are kept."
        )
        svg = inline(drawn, name, f"Map of the embeddings, {label}", words)
    return FigureView(svg, words, _cells(label, places, kept), wide=True)


def _dots(axes: Any, places: NDArray[np.float64], color: str, size: float, alpha: float) -> None:
    """Every dot in one path: a line of no length with a round end."""
    if not places.size:
        return
    vertices = np.repeat(places, 2, axis=0)
    codes = np.tile(np.array([Path.MOVETO, Path.LINETO], np.uint8), len(places))
    axes.add_patch(
        PathPatch(Path(vertices, codes), fc="none", ec=color, lw=size, capstyle="round",
                  alpha=alpha)
    )  # fmt: skip


def _cells(label: str, places: NDArray[np.float64], kept: NDArray[np.bool_]) -> Table:
    at = np.clip((places * _CELLS).astype(int), 0, _CELLS - 1)
    rows = []
    for y, vertical in reversed(list(enumerate(("bottom", "middle", "top")))):
        for x, horizontal in enumerate(("left", "centre", "right")):
            here = (at[:, 0] == x) & (at[:, 1] == y)
            share = float(kept[here].mean()) if here.any() else float("nan")
            rows.append(
                [f"{vertical} {horizontal}", count(int(here.sum())), count(int(kept[here].sum())),
                 percent(share)]
            )  # fmt: skip
    return Table(
        f"Rows by part of the map, {label}", ["Part of the map", "Rows", "Kept", "Share kept"], rows
    )
