"""Write docs/cli.md from the program's own commands and options: ``python -m docs.build_cli``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from d2cli.cli.main import app

PAGE = Path(__file__).with_name("cli.md")

_INTRODUCTION = """\
# Commands and options

This page is generated from the code by `make docs`. Do not edit it.
`d2prune COMMAND --help` prints the same text.
"""
#: Heading of options without a group: of a command that has groups, and of one that has none.
_REST, _ALL = "Run", "Options"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The page as markdown."""
    root: Any = typer.main.get_command(app)
    context = root.context_class(root, info_name="d2prune", **root.context_settings)
    parts = [_INTRODUCTION, "| command | what it does |\n| --- | --- |"]
    commands = {name: root.get_command(context, name) for name in root.list_commands(context)}
    parts[-1] += "".join(
        f"\n| [`{name}`](#d2prune-{name}) | {_cell(command.get_short_help_str(200))} |"
        for name, command in commands.items()
    )
    parts.append(_section(root, context, "## d2prune"))
    for name, command in commands.items():
        inner = command.context_class(command, info_name=name, parent=context)
        parts.append(_section(command, inner, f"## d2prune {name}"))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def option_names(command: Any) -> set[str]:
    """Every option of one command, long and short."""
    return {name for parameter in command.params for name in parameter.opts} | {"--help", "-h"}


def _section(command: Any, context: Any, heading: str) -> str:
    """One command: what it does, its options by group, its examples."""
    parts = [heading, _paragraphs(command.help)]
    for group, records in _groups(command, context).items():
        rows = "".join(f"\n| `{_cell(names)}` | {_cell(text)} |" for names, text in records)
        parts += [f"**{group}**", f"| option | meaning |\n| --- | --- |{rows}"]
    if command.epilog:
        parts.append(_examples(command.epilog))
    return "\n\n".join(parts)


def _groups(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """(names, help) of the options, by the group in which ``--help`` shows them."""
    headings = {p: getattr(p, "rich_help_panel", None) for p in command.get_params(context)}
    rest = _REST if any(headings.values()) else _ALL
    groups: dict[str, list[tuple[str, str]]] = {}
    for parameter, heading in headings.items():
        record = parameter.get_help_record(context)
        if record is not None:
            groups.setdefault(heading or rest, []).append(record)
    return groups


def _paragraphs(text: str | None) -> str:
    """Help text, one line a paragraph."""
    blocks = (text or "").replace("\b\n", "").strip().split("\n\n")
    return "\n\n".join(" ".join(block.split()) for block in blocks)


def _examples(epilog: str) -> str:
    """The epilog of the help, unchanged, as preformatted text."""
    return f"```text\n{epilog.replace(chr(8), '').strip()}\n```"


def _cell(text: str) -> str:
    """Text of one line, with the bars that would end a table's cell escaped."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
