"""The program ``d2prune``: its commands, its errors and exit codes."""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any

import typer

from d2cli.cli import compare, graph, hints, propagate, report, score, select, signals
from d2cli.cli.console import CONSOLE, Exit, show_error
from d2cli.cli.options import GroupedCommand, ShownGroup, long_options, parser_of
from d2cli.errors import D2Error, UsageError
from d2cli.runtime import stopping, streams
from d2cli.version import __version__

_ABOUT = """\
Choose which part of a training set to keep: D2 pruning of embeddings and scores on disk.

d2prune builds a kNN graph over the embeddings, adds to each score what its neighbours send (forward
messages), and picks rows greedily; each pick lowers the scores of its neighbours (reverse
messages). Source: arXiv 2310.07931.
"""
_EXAMPLE = """\b
Example, in one step and in three:
  d2prune select --emb emb.npy --scores s.npy --ratio 0.5
  d2prune graph --emb emb.npy --out g.arrow
  d2prune propagate --graph g.arrow --scores s.npy --out p.npy
  d2prune select --graph g.arrow --propagated p.npy --ratio 0.5
\b
Exit codes: 0 the output is complete; 1 the data or the run failed; 2 wrong usage;
130 interrupted (143, 129: by SIGTERM, SIGHUP).
"""

app = typer.Typer(
    name="d2prune",
    cls=ShownGroup,
    help=_ABOUT,
    epilog=_EXAMPLE,
    rich_markup_mode=None,
    no_args_is_help=False,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


class _ReaderGoneError(Exception):
    """The reader of standard output has closed it."""


class _InterruptedError(Exception):
    """Control-C."""


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    """Hide two exceptions from the parser, which gives them exit codes of its own."""

    @functools.wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except BrokenPipeError:
            raise _ReaderGoneError from None
        except KeyboardInterrupt:
            raise _InterruptedError from None

    return guarded


#: Long options of each command.
_OPTIONS: dict[str, list[str]] = {}
for _module in (score, graph, propagate, select, report, compare):
    _name = _module.__name__.rpartition(".")[2]
    _OPTIONS[_name] = long_options(_module.REQUEST)
    app.command(_name, cls=GroupedCommand, help=_module.HELP, epilog=_module.EXAMPLE)(
        _guarded(parser_of(_module.REQUEST, _module.run))
    )


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"d2prune {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(Exit.USAGE)


_root.__doc__ = _ABOUT


def run(arguments: list[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    CONSOLE.remember()
    _allow_many_files()
    if sys.stderr is None:  # the shell closed it; None would send messages to standard output
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- until the end
    with signals.heard(), streams.forgiving():
        code = _outcome(arguments)
    return code


def _allow_many_files() -> None:
    """Raise the limit of open files to what the system allows: each open shard is one."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _outcome(arguments: list[str] | None) -> int:
    """Run the command line, and print what went wrong."""
    try:
        code = int(app(arguments, prog_name="d2prune", standalone_mode=False) or Exit.DONE)
        # The parser turns an interruption during parsing into an exit code.
        return _stopped() if stopping.asked() else code
    except D2Error as error:
        if CONSOLE.debug:
            raise
        show_error(error.message, error.hint)
        return Exit.USAGE if isinstance(error, UsageError) else Exit.FAILED
    except _ReaderGoneError:
        # Python must not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except (_InterruptedError, KeyboardInterrupt):
        return _stopped()
    except MemoryError as error:
        if CONSOLE.debug:
            raise
        show_error(f"out of memory {error}".strip())
        return Exit.FAILED
    except Exception as error:
        if stopping.asked():  # the interrupted code raised another error
            return _stopped()
        # Errors of the parser format their own message.
        if not hasattr(error, "format_message"):
            if CONSOLE.debug:
                raise
            show_error(
                f"unexpected {type(error).__name__}: {error}",
                "this is a defect of d2prune; --debug shows where",
            )
            return Exit.FAILED
        words = sys.argv[1:] if arguments is None else arguments
        if found := hints.explained(error, words, _OPTIONS):
            show_error(*found)
        return Exit.USAGE


def _stopped() -> int:
    """Print that the run was stopped, and whether the output is complete."""
    stopping.heard()
    number = stopping.asked() or signal.SIGINT
    became = "the output was complete" if stopping.written() else "no output was changed"
    show_error(f"{signals.NAMES[signal.Signals(number)]}; {became}")
    return Exit(128 + number)


def main() -> None:
    """The console script."""
    sys.exit(run())
