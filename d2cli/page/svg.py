"""Matplotlib figures as inline SVG: colours by CSS variable, the same bytes in every run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any, Literal
from xml.etree import ElementTree

import matplotlib
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "{http://www.w3.org/1999/xlink}href"
#: The colour that Matplotlib draws for each role. :func:`inline` replaces it by a CSS variable.
COLORS = {
    "ink": "#010203", "muted": "#010204", "grid": "#010205", "kept": "#010206",
    "dropped": "#010207", "random": "#010208", "full": "#010209",
}  # fmt: skip
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "d2prune",
    **dict.fromkeys(("font.size", "axes.labelsize"), 12),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize", "legend.fontsize"), 11),
    **dict.fromkeys(("text.color", "axes.labelcolor"), COLORS["ink"]),
    **dict.fromkeys(("xtick.labelcolor", "ytick.labelcolor"), COLORS["ink"]),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), COLORS["muted"]),
    "grid.color": COLORS["grid"],
    **dict.fromkeys(("grid.linewidth", "axes.linewidth"), 0.8),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "savefig.facecolor"), "none"),
    **dict.fromkeys(("axes.grid", "axes.axisbelow", "axes.unicode_minus"), True),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    **dict.fromkeys(("text.parse_math", "axes.formatter.use_mathtext", "path.simplify"), False),
}


@contextmanager
def figure(
    width: float = 340, height: float = 240, layout: Literal["constrained"] | None = "constrained"
) -> Iterator[Figure]:
    """A Matplotlib figure of a size in CSS pixels, in the page's style; ignores user settings."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield Figure(figsize=(width / 72, height / 72), layout=layout)


def inline(drawn: Figure, name: str, title: str, description: str) -> Markup:
    """Convert a figure to an ``<svg>`` element, inside the block of :func:`figure`.

    `name` is the prefix of all ids, which makes them unique in the page; `title` and `description`
    are for screen readers.
    """
    buffer, nothing = StringIO(), dict.fromkeys(("Creator", "Date", "Format", "Type"))
    FigureCanvasSVG(drawn).print_svg(buffer, metadata=nothing)
    root = ElementTree.fromstring(buffer.getvalue())  # trusted: Matplotlib wrote it
    _tidy(root, name)
    ElementTree.register_namespace("", _SVG)
    body = "".join(ElementTree.tostring(child, encoding="unicode") for child in root)
    body = body.replace(f' xmlns="{_SVG}"', "")
    for role, stand_in in COLORS.items():
        body = body.replace(stand_in, f"var(--{role})")
    return Markup(
        f'<svg viewBox="{root.get("viewBox")}" role="img" aria-labelledby="{name}-t {name}-d">'
        f'<title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{body}</svg>'
    )


def _tidy(root: ElementTree.Element, name: str) -> None:
    """Remove metadata, styles and unused ids; prefix the ids that are used; round coordinates."""
    text = ElementTree.tostring(root, encoding="unicode")
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', text))
    for element in root.iter():
        for child in list(element):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                element.remove(child)
        element.tail = None
        if element.tag != f"{{{_SVG}}}text":
            element.text = None
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", f"{name}-{own}")
        if (link := element.attrib.pop(_XLINK, None)) is not None:
            element.set("href", f"#{name}-{link[1:]}")
        for key, value in element.attrib.items():
            element.set(key, _tidied(value.replace("url(#", f"url(#{name}-")))


def _tidied(value: str) -> str:
    value = re.sub(r"font-family: [^;]*", "font-family: var(--font)", value)
    value = re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value)
    value = re.sub(r"\s+", " ", value).strip()
    return re.sub(r"M (\S+ \S+) L \1(?= |$)", r"M\1h0", value)  # a dot: a line of length 0
