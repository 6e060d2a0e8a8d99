"""Whether the run was asked to stop, heard at points where stopping is safe.

A signal raises ``KeyboardInterrupt`` wherever the main thread happens to be. Two things can go
wrong with that. Some places swallow it: a callback that C code called (llvmlite, when numba loads a
kernel from its cache), a finalizer, an import. So the wish is kept, and :func:`check` raises again
at the next safe point. Others must not be cut in half: the moves that bring outputs into place. So
inside :func:`shield` the wish waits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class _Wish:
    """The state of this process; signals are handled by the main thread alone."""

    signal: int | None = None
    shields = 0
    written = False


_WISH = _Wish()


def request(signal: int) -> None:
    """Ask the run to stop, as a signal handler does; the first signal is the one that counts.

    Raises:
        KeyboardInterrupt: at once, unless a shield is up.
    """
    if _WISH.signal is None:
        _WISH.signal = signal
    check()


def check() -> None:
    """Stop here if that was asked for. Called between blocks of work and between stages.

    Raises:
        KeyboardInterrupt: if so.
    """
    if _WISH.signal is not None and not _WISH.shields:
        raise KeyboardInterrupt


@contextmanager
def shield() -> Iterator[None]:
    """Let the block end before a wish is heard, which is then raised at the end of it."""
    _WISH.shields += 1
    try:
        yield
    finally:
        _WISH.shields -= 1
    check()


def heard() -> None:
    """Say that the run is stopping: from here nobody need be told again."""
    _WISH.shields += 1


def asked() -> int | None:
    """The signal by which the run was asked to stop, or None."""
    return _WISH.signal


def mark_written() -> None:
    """Say that an output is in place: stopping no longer leaves everything as it was."""
    _WISH.written = True


def written() -> bool:
    """Whether an output of this run is in place."""
    return _WISH.written


def reset() -> None:
    """Begin a run that nobody has asked to stop."""
    _WISH.signal, _WISH.shields, _WISH.written = None, 0, False
