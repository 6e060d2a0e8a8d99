"""A page: one HTML file without scripts or external resources, rendered from a template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import jinja2
from markupsafe import Markup

from d2cli.page.text import count, percent
from d2cli.version import __version__


@dataclass(frozen=True)
class Table:
    """A table whose first cell per row is the heading."""

    caption: str
    head: list[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class FigureView:
    """A figure with its caption, and with its numbers as a table."""

    svg: Markup
    caption: str
    table: Table
    wide: bool = False


def render(
    template: str, context: Mapping[str, object], formats: Mapping[str, Callable[..., str]]
) -> str:
    """Render a template as HTML; all text is escaped.

    Args:
        template: file name in ``templates``.
        context: the variables of the template.
        formats: filters for numbers, beside ``percent`` and ``count`` (thousands separators). Each
            writes None as –.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("d2cli.page"),
        extensions=["jinja2.ext.do"],
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Callable[..., str]] = {"percent": percent, "count": count, **formats}
    for name, write in filters.items():
        environment.filters[name] = _or_dash(write)
    program = f"d2prune {__version__}"
    page = environment.get_template(template).render(context, program=program)
    return page.encode(errors="replace").decode()  # paths need not be UTF-8


def _or_dash(write: Callable[..., str]) -> Callable[..., str]:
    return lambda value, *more: "–" if value is None else write(value, *more)
