"""Pages of the documentation, and the blocks of code in them."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
#: Pages whose commands run on the sample data, and recipes, which run on data of their own.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
RECIPES = sorted((ROOT / "docs" / "recipes").glob("*.md"))

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def all_blocks(path):
    """(language, content) of the fenced blocks, in order."""
    return _FENCE.findall(path.read_text(encoding="utf-8"))


def blocks(path, language):
    """Contents of the fenced blocks in one language."""
    return [text for name, text in all_blocks(path) if name == language]


def lines_of(text):
    """Commands of an ``sh`` block, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip()]


def shell_lines(path):
    """Commands of all ``sh`` blocks."""
    return lines_of("\n".join(blocks(path, "sh")))
