"""Whether the run was asked to stop, checked at points where stopping is safe.

A signal handler raises ``KeyboardInterrupt`` at any place in the main thread. Some places swallow
it: callbacks from C code (llvmlite, when numba loads a kernel from its cache), finalizers, imports.
So the request is stored, and :func:`check` raises again at the next safe point. Other places must
not be interrupted: the renames that put outputs into place. They run inside :func:`shield`, which
delays the request.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

#: The state of this process. Only the main thread handles signals.
_REQUEST = SimpleNamespace(signal=None, shields=0, written=False)


def request(signal: int) -> None:
    """Ask the run to stop, as signal handlers do, and :func:`check`. The first signal is stored."""
    if _REQUEST.signal is None:
        _REQUEST.signal = signal
    check()


def check() -> None:
    """Raise KeyboardInterrupt if a request is stored, unless inside :func:`shield`."""
    if _REQUEST.signal is not None and not _REQUEST.shields:
        raise KeyboardInterrupt


@contextmanager
def shield() -> Iterator[None]:
    """Delay a request to stop until the end of the block."""
    _REQUEST.shields += 1
    try:
        yield
    finally:
        _REQUEST.shields -= 1
    check()


def heard() -> None:
    """Say that the run is stopping, so that :func:`check` no longer raises."""
    _REQUEST.shields += 1


def asked() -> int | None:
    """The signal that asked the run to stop, or None."""
    return _REQUEST.signal


def mark_written() -> None:
    """Say that an output is in place, so that stopping no longer leaves everything unchanged."""
    _REQUEST.written = True


def written() -> bool:
    """Whether an output of this run is in place."""
    return _REQUEST.written


def reset() -> None:
    """Start a new run without a request."""
    _REQUEST.signal, _REQUEST.shields, _REQUEST.written = None, 0, False
