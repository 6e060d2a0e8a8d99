"""Signals that stop a run: Control-C, ``kill``, a closed terminal."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from d2cli.runtime import stopping

#: The word for each signal in the message; the exit code is 128 + its number.
NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    NAMES[signal.SIGHUP] = "hung up"


@contextmanager
def heard() -> Iterator[None]:
    """Turn signals into requests to stop while the block runs, then restore the handlers.

    A signal that is ignored stays ignored, as ``nohup`` and shells need.
    """
    stopping.reset()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}
    hook = sys.unraisablehook
    try:
        sys.unraisablehook = _ignore_stop_requests
        for number in NAMES:
            handler = signal.getsignal(number)
            if handler not in (signal.SIG_IGN, None):
                before[number] = handler
                signal.signal(number, _handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook


def _handle(number: int, frame: FrameType | None) -> None:
    stopping.request(number)


def _ignore_stop_requests(unraisable: sys.UnraisableHookArgs) -> None:
    """Print no traceback for a swallowed request: the next safe point raises it again."""
    if not (issubclass(unraisable.exc_type, KeyboardInterrupt) and stopping.asked()):
        sys.__unraisablehook__(unraisable)
