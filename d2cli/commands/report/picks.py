"""The order of the picks, and where in the order of the scores the messages ran out."""

from __future__ import annotations

from d2cli.commands.report.inputs import ReportData
from d2cli.commands.report.measures import SelectionMeasures
from d2cli.commands.report.numbers import messages_of
from d2cli.page import figures
from d2cli.page.page import FigureView, Part, Section
from d2cli.page.text import count, percent


def picks_section(
    data: ReportData,
    each: list[tuple[str, str, SelectionMeasures]],
    titles: list[str | None],
    ends: tuple[str, str],
) -> Section:
    """What is known of the order in which rows were picked.

    Args:
        data: what was read.
        each: (part of a figure's name, label, what was measured) of each selection.
        titles: headings, None where there is only one selection.
        ends: what the ends of the order of scores are called.
    """
    said, parts = [], []
    for (name, label, m), title in zip(each, titles, strict=True):
        words = _words(data, m, ends)
        said.append(words[0].upper() + words[1:] if title is None else f"{label}: {words}")
        views = _figures(data, name, label, m, ends)
        if views:
            parts.append(Part(title, figures=views))
    return Section("picks", "The order of picks", said, parts=parts)


def _words(data: ReportData, m: SelectionMeasures, ends: tuple[str, str]) -> str:
    found = messages_of(data, m.selection)
    if found is None:
        return "the selection does not say how it was made."
    at, guided, after = (
        found[k] for k in ("ran_out_at", "difficulty_guided", "difficulty_after")
    )  # fmt: skip
    text = "the messages lasted to the last pick"
    if at is not None:
        text = (
            f"the messages ran out after {count(at)} of {count(m.kept)} picks, and the others had "
            "no score left to be chosen by"
        )
    if guided is not None:
        text += (
            f". The median pick{' up to there' if after is not None else ''} stands at "
            f"{percent(guided, 0)} of the order from {ends[0]} to {ends[1]}"
        )
    if after is not None:
        text += f", that of the others at {percent(after, 0)}"
    if m.selection.order is None:
        text += (
            ". The file does not hold the order of the picks; a selection written as .parquet, "
            ".arrow or .csv does"
        )
    return text + "."


def _figures(
    data: ReportData, name: str, label: str, m: SelectionMeasures, ends: tuple[str, str]
) -> list[FigureView]:
    order, gains = m.selection.order, m.selection.gains
    if order is None:
        return []
    at = m.file.recorded("selection", "messages_ran_out_at")
    views = []
    if gains is not None:
        views.append(figures.pick_curve(f"gains-{name}", label, gains, at, None))
    views.append(figures.pick_curve(f"picks-{name}", label, data.difficulty[order], at, ends))
    return views
