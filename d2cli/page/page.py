"""The page: one HTML file that loads nothing and runs nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import jinja2

from d2cli.page.thumbnails import Thumbnail
from d2cli.page.view import FigureView, Table


@dataclass(frozen=True)
class Tile:
    """A number to be seen first, and what to hold it against."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Shown:
    """A row as its picture or its text."""

    image: Thumbnail | None
    text: str | None
    words: str


@dataclass(frozen=True)
class Card:
    """An example: a row, what is said of it, and beside it the kept row that it is near to."""

    shown: Shown
    lines: list[str]
    twin: Shown | None = None


@dataclass(frozen=True)
class Gallery:
    """Examples of one kind."""

    title: str
    note: str
    cards: list[Card]


@dataclass(frozen=True)
class Part:
    """What a section says of one selection, or of all."""

    title: str | None = None
    tiles: list[Tile] = field(default_factory=list)
    figures: list[FigureView] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    folded: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    name: str
    title: str
    paragraphs: list[str]
    tables: list[Table] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """Everything that the template shows; all text is escaped there."""

    title: str
    lede: list[str]
    notices: list[str]
    sections: list[Section]
    program: str


def render(page: Page) -> str:
    """The whole page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("d2cli.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(page=page)
