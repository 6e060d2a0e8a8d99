"""Standard error: notices, summaries, errors, progress. Standard output carries data only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import IO, TYPE_CHECKING, Any

from d2cli.runtime.streams import written

if TYPE_CHECKING:
    from d2cli.commands.finish import Summary


class Exit(IntEnum):
    """Exit codes."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class _Console:
    """What this command line asked for."""

    quiet = False
    json = False
    debug = False

    def remember(self, quiet: bool = False, json: bool = False, debug: bool = False) -> None:
        self.quiet, self.json, self.debug = quiet, json, debug


CONSOLE = _Console()

#: Longer lines are cut: a message may repeat what a file holds.
_LINE_MOST = 8_000
#: Work that is done sooner shows no bar.
_QUIET_SECONDS = 0.5


def show_error(message: str, hint: str | None = None) -> None:
    """Print an error on one line, and a hint on the next."""
    print(f"error: {_one_line(message)}", file=sys.stderr)
    if hint:
        print(f"hint: {_one_line(hint)}", file=sys.stderr)


def _one_line(text: str) -> str:
    """`text` without line breaks and control characters, which file names may hold."""
    shown = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return shown if len(shown) <= _LINE_MOST else f"{shown[:_LINE_MOST]} …"


def show_notice(text: str) -> None:
    """Print a notice on one line, unless --quiet is given."""
    if not CONSOLE.quiet:
        print(f"notice: {_one_line(text)}", file=sys.stderr)


def show_summary(summary: Summary) -> None:
    """Print notices and the summary, or one JSON object on standard output."""
    if CONSOLE.json:
        with written(sys.stdout) as stdout:
            print(json.dumps(summary.as_json(), indent=2), file=stdout)
    show_notices(summary.notices)
    if not (CONSOLE.quiet or CONSOLE.json):
        show_labelled(summary.lines, sys.stderr)


def show_notices(notices: list[str]) -> None:
    """Print notices, one line each."""
    for notice in notices:
        show_notice(notice)


def show_labelled(lines: list[tuple[str, str]], file: IO[str]) -> None:
    """Print lines with their labels in a column of their own."""
    width = max(len(label) for label, _ in lines)
    for label, text in lines:
        print(f"{label:<{width}}  {_one_line(text)}", file=file)


@contextmanager
def progress_bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress callback: bars where standard error is a terminal, nothing elsewhere."""
    if CONSOLE.quiet or not sys.stderr.isatty():
        yield lambda stage, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description:<14}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, Any] = {}
    started = time.monotonic()

    def report(stage: str, done: int, total: int) -> None:
        if not tasks and time.monotonic() - started < _QUIET_SECONDS:
            return
        if not tasks:
            bar.start()
        if stage not in tasks:
            tasks[stage] = bar.add_task(stage, total=total)
        bar.update(tasks[stage], completed=done, total=total)

    try:
        yield report
    finally:
        if tasks:
            bar.stop()
