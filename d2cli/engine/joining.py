"""Connects to a Ray cluster, or starts one on this machine."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from d2cli.errors import UsageError
from d2cli.runtime import stopping

#: Seconds after which a wait looks for a request to stop.
PAUSE = 0.2
#: Seconds within which a machine at an address must answer.
_REACHED = 10.0


def ray_module() -> Any:
    """The package ray.

    Raises:
        UsageError: if it is not installed.
    """
    try:
        import ray  # noqa: PLC0415, an extra
    except ModuleNotFoundError:
        raise UsageError(
            "--engine ray needs the package ray", "pip install 'd2prune[ray]'"
        ) from None
    return ray


def connect(ray: Any, address: str | None, threads: int) -> bool:
    """Connect to a cluster, or start one here with as many cores as `threads`.

    Returns whether this was done; a process that is connected already stays so.

    Raises:
        UsageError: if there is no cluster at the address, or none can be started.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with _own_signals():
            if address:
                _reach(address)
            if ray.is_initialized():
                return False
            # Ray would print what happens to its nodes to standard output, where data may go.
            ray._private.worker._worker_logs_enabled = False
            # An error ends a run with one line; errors of other tasks at that time are not shown.
            os.environ["RAY_IGNORE_UNHANDLED_ERRORS"] = "1"
            if address:
                ray.init(address=address, **quiet)
            else:
                with _undisturbed():
                    ray.init("local", num_cpus=threads, include_dashboard=False, **quiet)
            return True
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        stopping.check()  # a signal may be why
        where = f"at {address}" if address else "on this machine"
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"--engine ray: no Ray cluster {where}: {text}",
            "ray start --head starts one; without --ray-address and RAY_ADDRESS, one is started "
            "for the run",
        ) from None


def wait_for_nodes(working: Callable[[], int], count: int, patience: float) -> None:
    """Wait until ``working()``, the number of nodes with cores, is `count`; at most `patience` s.

    Raises:
        UsageError: if it has fewer then.
    """
    until = time.monotonic() + patience
    while (there := working()) < count:
        if time.monotonic() > until:
            raise UsageError(
                f"--ray-nodes {count}: after {patience:.0f} seconds the cluster has {there}",
                "ray status shows what is there",
            )
        stopping.check()
        time.sleep(PAUSE)


def _reach(address: str) -> None:
    """Fail at once where nothing listens: Ray would try again for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHED).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of signals. Those of Ray end the process, and do not say why."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    real = signal.signal
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def kept(number: int, handler: Any) -> Any:
        return handlers[signal.SIGTERM] if number == signal.SIGTERM else real(number, handler)

    signal.signal = kept  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = real
        for number, handler in handlers.items():
            real(number, handler)  # the C++ part of Ray sets its own without Python


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Delay signals until the end of the block, in which Ray starts its processes.

    If they are half started, Ray does not know what it has to end. Control-C is for all processes
    of a terminal, so they begin with it blocked.
    """
    with stopping.shield():
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            yield
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
