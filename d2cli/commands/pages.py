"""What ``report`` and ``compare`` share: checks of options, and the page as an output."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from d2cli.commands.finish import Output
from d2cli.errors import D2Error, UsageError
from d2cli.files.provenance.sidecar import new_provenance
from d2cli.runtime.scratch import spare_matplotlib

#: Packages of the extra `report` that a page needs: module, and name of the package.
COMPARE_NEEDS = {"matplotlib": "matplotlib", "jinja2": "Jinja2", "PIL": "pillow"}
REPORT_NEEDS = {**COMPARE_NEEDS, "sklearn": "scikit-learn"}


def check_page(command: str, out: str, needs: dict[str, str]) -> None:
    """Refuse an output that is not a web page, and a run whose packages are not installed."""
    if not out.lower().endswith((".html", ".htm")):
        raise UsageError(f"{out}: d2prune {command} writes a web page", "end its name in .html")
    missing = [name for module, name in needs.items() if find_spec(module) is None]
    if missing:
        raise D2Error(
            f"d2prune {command} needs {', '.join(missing)}, not installed here",
            "pip install 'd2prune[report]'",
        )
    spare_matplotlib()


def check_at_least(least: int, **values: int) -> None:
    """Refuse options with a value below `least`; the keywords are their names."""
    for name, value in values.items():
        if value < least:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} must be at least {least}, not {value}")


def page_provenance(
    command: str, parameters: dict[str, Any], needs: dict[str, str], **sections: Any
) -> dict[str, Any]:
    """The provenance of a page, with the versions of the packages that it needs."""
    provenance = new_provenance(command, parameters, **sections)
    provenance["versions"].update({name: version(name) for name in needs.values()})
    return provenance


def page_output(target: str, provenance: dict[str, Any], page: str) -> Output:
    """The page as an output of the run."""
    return Output(
        target, provenance, lambda path: path.write_text(page, encoding="utf-8", newline="\n")
    )
