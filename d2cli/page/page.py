"""A page and its parts, rendered as one HTML file without scripts or external resources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import jinja2
from markupsafe import Markup

from d2cli.page.thumbnails import Thumbnail


@dataclass(frozen=True)
class Bar:
    """A table cell with a text and a share 0 … 1 that is drawn as a bar."""

    text: str
    share: float

    @property
    def width(self) -> str:
        """Width of the bar in CSS."""
        return f"{100 * self.share:.1f}%"


@dataclass(frozen=True)
class Table:
    """A table whose first cell per row is the heading; `words`: the other cells are text."""

    caption: str
    head: list[str]
    rows: Sequence[Sequence[str | Bar]]
    words: bool = False


@dataclass(frozen=True)
class FigureView:
    """A figure with its caption, and with its numbers as a table."""

    svg: Markup
    caption: str
    table: Table
    wide: bool = False


@dataclass(frozen=True)
class Tile:
    """A headline number, with a value to compare it with."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Shown:
    """A row of the data as a picture or as text; `words` describe the picture."""

    image: Thumbnail | None
    text: str | None
    words: str


@dataclass(frozen=True)
class Card:
    """An example: a row, lines about it, and its nearest kept row (`twin`)."""

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
    """The content of a section about one selection, or about all of them."""

    title: str | None = None
    tiles: list[Tile] = field(default_factory=list)
    figures: list[FigureView] = field(default_factory=list)
    galleries: list[Gallery] = field(default_factory=list)
    folded: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A section with its heading."""

    name: str
    title: str
    paragraphs: list[str]
    tables: list[Table] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True)
class Page:
    """The input of the template, which escapes all text."""

    title: str
    lede: list[str]
    notices: list[str]
    sections: list[Section]
    program: str


def render(page: Page) -> str:
    """Render the page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("d2cli.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("page.html").render(page=page)
