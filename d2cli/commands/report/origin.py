"""Where everything in a report came from: its inputs, and how each selection was made."""

from __future__ import annotations

from typing import Any

from d2cli.commands.report.measures import Measures
from d2cli.page.page import Bar, Part, Section, Table

_Rows = list[list[str | Bar]]


def origin_section(described: dict[str, Any], measures: Measures, labels: list[str]) -> Section:
    """Parameters and provenance."""
    folded = [
        inputs_table("Inputs of this report", described),
        *(
            table
            for label, m in zip(labels, measures.selections, strict=True)
            for table in _selection_tables(label, m.file.provenance)
        ),
    ]
    return Section(
        "provenance",
        "Parameters and provenance",
        [
            "What was read, and how each selection was made. Beside this page, the file that ends "
            "in .html.json holds its numbers and parameters."
        ],
        parts=[Part(folded=folded)],
    )


def _selection_tables(label: str, provenance: dict[str, Any]) -> list[Table]:
    if not provenance:
        return [
            Table(f"{label}: how it was made", ["What", "Value"],
                  [["Provenance", "there is none beside the file or in it"]], True)
        ]  # fmt: skip
    rows: _Rows = []
    for section in ("parameters", "counts", "selection", "messages", "graph", "versions"):
        found = provenance.get(section)
        for name, value in found.items() if isinstance(found, dict) else ():
            rows.append([f"{section}: {name.replace('_', ' ')}", written(value)])
    return [
        Table(f"{label}: how it was made", ["What", "Value"], rows, True),
        inputs_table(f"{label}: what it was made from", provenance.get("inputs", {})),
    ]


def inputs_table(caption: str, described: dict[str, Any]) -> Table:
    """What provenance says of each input."""
    rows: _Rows = []
    for name, found in described.items():
        for entry in found if isinstance(found, list) else [found]:
            if not isinstance(entry, dict):
                continue
            path = entry.get("path")
            paths = path if isinstance(path, list) else [path]
            place = str(paths[0]) if len(paths) == 1 else f"{paths[0]} … ({len(paths)} files)"
            field = entry.get("field")
            rows.append(
                [
                    name.replace("_", " "),
                    place + (f": {field}" if isinstance(field, str) else ""),
                    written(entry.get("rows")),
                    written(entry.get("size")),
                    str(entry.get("fingerprint", "–")),
                ]
            )
    return Table(caption, ["Input", "Path", "Rows", "Bytes", "Fingerprint"], rows, True)


def written(value: Any) -> str:
    """A value of the provenance as text."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{k} {written(v)}" for k, v in value.items()) or "–"
    return str(value)
