"""What ``report`` and ``compare`` share: the page, the extra that it needs, the measures."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from d2cli.errors import D2Error, UsageError

#: Packages of the extra `report` that a page needs: module, and name of the package.
COMPARE_NEEDS = {"matplotlib": "matplotlib", "jinja2": "Jinja2", "PIL": "pillow"}
REPORT_NEEDS = {**COMPARE_NEEDS, "sklearn": "scikit-learn"}


def check_page(command: str, out: str, needs: dict[str, str]) -> None:
    """Refuse an output that is no web page, and a run whose packages are not installed."""
    if not out.lower().endswith((".html", ".htm")):
        raise UsageError(f"{out}: d2prune {command} writes a web page", "end its name in .html")
    missing = [name for module, name in needs.items() if find_spec(module) is None]
    if missing:
        raise D2Error(
            f"d2prune {command} needs {', '.join(missing)}, not installed here",
            "pip install 'd2prune[report]'",
        )


def check_at_least(least: int, **values: int) -> None:
    """Refuse a number below `least`, by the name of its option."""
    for name, value in values.items():
        if value < least:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} must be at least {least}, not {value}")


def package_versions(needs: dict[str, str]) -> dict[str, str]:
    """The versions of the packages that made a page, for provenance."""
    return {name: version(name) for name in needs.values()}
