"""Signals that ask a run to stop: Control-C, ``kill``, a terminal that is closed."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from d2cli.runtime import stopping

#: What each of them is called in the message; the exit code is 128 + its number.
NAMES = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
if hasattr(signal, "SIGHUP"):
    NAMES[signal.SIGHUP] = "hung up"


@contextmanager
def heard() -> Iterator[None]:
    """Turn the signals into wishes to stop while the block runs, then put back what was there.

    A signal that is ignored stays so: that is how ``nohup`` and shells keep it from a program.
    """
    stopping.reset()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}
    hook = sys.unraisablehook
    try:
        sys.unraisablehook = _quiet_about_wishes
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


def _quiet_about_wishes(unraisable: sys.UnraisableHookArgs) -> None:
    """A wish that was swallowed will be heard at the next safe point: no need for a traceback."""
    if not (issubclass(unraisable.exc_type, KeyboardInterrupt) and stopping.asked()):
        sys.__unraisablehook__(unraisable)
