"""The page of a comparison: its charts, and what its template reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from d2cli.commands.compare.inputs import CompareJob
from d2cli.page.figures import bar_chart
from d2cli.page.page import FigureView, render
from d2cli.page.text import Decimals, list_words, percent


def compare_page(
    job: CompareJob, n: int, threshold: float, provenance: dict[str, Any], notices: list[str]
) -> str:
    """Render the page of a comparison among `n` rows.

    A kept row is redundant up to the distance `threshold`; `provenance` holds the numbers.
    """
    comparison = provenance["comparison"]
    distance = Decimals([m["coverage"]["p95"] for budget in comparison for m in budget["methods"]])
    context = {
        "comparison": comparison,
        "charts": {budget["kept"]: _charts(budget, distance) for budget in comparison},
        "n": n,
        "threshold": threshold,
        "options": job.options,
        "emb": job.emb,
        "provenance": provenance,
        "notices": notices,
    }
    return render("compare.html", context, {"distance": distance})


def _charts(budget: dict[str, Any], distance: Decimals) -> list[FigureView]:
    """Bars of coverage, redundancy and difficulty at one budget; captions name the best method."""
    methods, views = budget["methods"], []
    names = [m["method"] for m in methods]

    def draw(
        name: str, title: str, axis: str, values: list[float], write: Callable[[float], str],
        what: str, best: float,
    ) -> None:  # fmt: skip
        bars = list(zip(names, values, strict=True))
        caption = f"{what}: {list_words([m for m, value in bars if value == best])}."
        views.append(bar_chart(f"kept-{budget['kept']}-{name}", title, axis, bars, write, caption))

    def whole(share: float) -> str:
        return percent(share, 0)

    far = [m["coverage"]["mean"] for m in methods]
    draw(
        "coverage", "Mean distance to the nearest kept row", "mean distance", far, distance,
        "Lowest mean distance", min(far),
    )  # fmt: skip
    twice = [m["redundancy"]["share"] for m in methods]
    draw(
        "redundancy", "Redundant among the kept rows", "redundant", twice, whole,
        "Lowest share of redundant rows", min(twice),
    )  # fmt: skip
    hard = [m["difficulty"] for m in methods]
    draw(
        "difficulty", "Mean difficulty of the kept rows", "difficulty", hard, whole,
        "Highest mean difficulty", max(hard),
    )  # fmt: skip
    return views
