"""Who is told when kernels are compiled. Loads no compiler, so that the command line can ask."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace

#: Told at the first compilation: whether no kernel was kept before, and whether it will be kept.
Listener = Callable[[bool, bool], None]
_STATE = SimpleNamespace(listener=None)
_LOCK = threading.Lock()


def tell(listener: Listener | None) -> None:
    """Call ``listener(cold, kept)`` once, when the first kernel is compiled from now on.

    `cold`: no version of this kernel is in the cache; otherwise it is one for other types. `kept`:
    the next run will find it. The listener may be called from any thread.
    """
    _STATE.listener = listener


def begun(cold: bool, kept: bool) -> None:
    """Say that a kernel is being compiled."""
    with _LOCK:
        listener, _STATE.listener = _STATE.listener, None
    if listener is not None:
        listener(cold, kept)
