"""Runs tasks on a Ray cluster (the extra ``ray``), see :mod:`d2cli.engine.tasks`.

A task that is lost with its process or node runs again elsewhere, up to RETRIES times. It may then
write a part a second time, with the same bytes. Only a few tasks for each core are handed to Ray at
a time, so that its queues stay short. Each task declares one core and the memory it may use; Ray
starts no more tasks on a node than fit.
"""

from __future__ import annotations

import os
import platform
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from d2cli.engine.tasks import Ended, Engine, Held, Item, LostError, unheard
from d2cli.engine.threads import thread_count
from d2cli.errors import D2Error, UsageError
from d2cli.runtime import stopping
from d2cli.runtime.ledger import BASE
from d2cli.runtime.products import one_thread_per_product
from d2cli.version import __version__

#: How often a task runs again that was lost with its process or node.
RETRIES = 8
#: How often lost objects are made anew before a run gives up.
RENEWALS = 8
#: Seconds to wait for the nodes of a cluster.
PATIENCE = 600.0
#: Tasks handed to Ray for each core.
_AHEAD = 2
#: Seconds after which a wait looks for a request to stop.
_WAIT = 0.2
#: Seconds within which a machine at an address must answer.
_REACHED = 10.0


class RayEngine(Engine):
    """Runs tasks with Ray: many at a time, each on one core.

    Attributes:
        memory: bytes that each task declares; 0: none. See :meth:`memory_of_task`.
        tasks: how many tasks have ended.
    """

    shared = False

    def __init__(self, address: str | None, threads: int | None, nodes: int = 1) -> None:
        """Connect to the cluster at `address`, or at ``RAY_ADDRESS``, or start one here.

        `threads` are the cores of a cluster that is started here. Waits until `nodes` are there.

        Raises:
            UsageError: if Ray is not installed, there is no cluster at the address, or it has
                fewer nodes after PATIENCE seconds.
        """
        self._ray = ray = _module()
        address = address or os.environ.get("RAY_ADDRESS")
        self._mine = _connect(ray, address, thread_count(threads))
        _wait_for_nodes(ray, nodes)
        self.memory = self.tasks = 0
        super().__init__(1, self.cores())
        self._call = ray.remote(_call)
        self._made = ray.remote(_Object)

    def each(
        self, work: Callable[[Item], object], items: Sequence[Item], ended: Ended[Item] = unheard
    ) -> None:
        """As :meth:`Engine.each`; `work` is copied to each node once."""
        if not items:
            return
        ray, shared = self._ray, self._ray.put(work)
        call = self._call.options(max_retries=RETRIES, **self._resources())
        waiting, running, origin = iter(items), dict[Any, Item](), _Origin.here()
        try:
            while True:
                for item in _some(waiting, _AHEAD * self.at_once - len(running)):
                    running[call.remote(origin, shared, item)] = item
                if not running:
                    return
                done, _ = ray.wait([*running], timeout=_WAIT)
                for one in done:
                    self._get(one)
                    self.tasks += 1
                    ended(running.pop(one))
                stopping.check()
        except Exception:
            # They are not cancelled: Ray 2.60 aborts this process if a task ends while it is
            # cancelled. After an interrupt, tasks end with this process.
            left = [*running]
            while left:
                _, left = ray.wait(left, num_returns=len(left), timeout=_WAIT)
                stopping.check()
            raise

    run = each

    def hold(self, make: Callable[[Item], Any], items: Sequence[Item]) -> Held:
        """As :meth:`Engine.hold`; the objects are Ray actors."""
        return _HeldThere(self, make, items)

    def memory_of_task(self, share: float, limit: int | None) -> int:
        """Bytes that one task may use besides program and libraries, if each core has a task.

        Each task declares them from here on. `share` of the memory that Ray lends on a node is
        used, or `limit` bytes on each node.
        """
        of_cores = []
        for has in self._working():
            of_node = int(share * has.get("memory", 0))
            of_cores.append(int((of_node if limit is None else min(limit, of_node)) / has["CPU"]))
        self.memory = min(of_cores, default=0)
        return max(0, self.memory - BASE)

    def end(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._mine:
            self._ray.shutdown()

    @property
    def nodes(self) -> int:
        """The nodes with cores, as the cluster is now; at least 1."""
        return max(1, len(self._working()))

    def cores(self) -> int:
        """The cores of the cluster as it is now, at least 1."""
        return max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def _working(self) -> list[dict[str, float]]:
        """What each node has that is there and has cores."""
        there = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        return [has for has in there if has.get("CPU", 0)]

    def _resources(self) -> dict[str, float]:
        return {"num_cpus": 1, **({"memory": self.memory} if self.memory else {})}

    def _get(self, reference: Any) -> Any:
        """A result; an error of ours is raised as it was there."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            ours = isinstance(cause, D2Error | OSError | LostError)
            raise cause if ours else error from None
        except self._ray.exceptions.RayActorError:
            raise
        except self._ray.exceptions.RayError as error:
            raise _given_up(error) from None


class _HeldThere(Held):
    """Objects in Ray actors."""

    def __init__(
        self, engine: RayEngine, make: Callable[[Item], Any], items: Sequence[Item]
    ) -> None:
        self._engine, self._items = engine, items
        self._make, self._renewals, self._actors = engine._ray.put(make), 0, list[Any]()
        self._renewing = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        # All must be there at the same time, so more objects than cores share them. There may be
        # fewer cores than before, if a node was lost.
        share = 1 / -(-len(self._items) // self._engine.cores())
        resources = {**self._engine._resources(), "num_cpus": share}
        options = self._engine._made.options(**resources)
        self._actors = [options.remote(_Origin.here(), self._make, item) for item in self._items]

    def __len__(self) -> int:
        return len(self._items)

    def call(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        ray, actors = self._engine._ray, self._actors
        asked = [
            actor.call.remote(method, *some) for actor, some in zip(actors, arguments, strict=True)
        ]
        try:
            left = asked
            while left:
                _, left = ray.wait(left, num_returns=len(left), timeout=_WAIT)
                stopping.check()
            return [self._engine._get(one) for one in asked]
        except ray.exceptions.RayActorError as error:
            with self._renewing:
                if self._actors is actors:  # else a call in another thread has made them anew
                    self._renewals += 1
                    self._kill()
                    if self._renewals > RENEWALS:
                        raise _given_up(error) from None
                    self._begin()
            raise LostError(str(error)) from None

    def end(self) -> None:
        self._kill()
        self._actors = []

    def _kill(self) -> None:
        for actor in self._actors:
            self._engine._ray.kill(actor)


class _Object:
    """An object of :class:`_HeldThere`, in the process of its actor.

    An error of `make` is raised by the first call: an actor that cannot be made counts as lost.
    """

    def __init__(self, origin: _Origin, make: Callable[[Any], Any], item: Any) -> None:
        self.error: Exception | None = None
        try:
            origin.settle()
            self.held = make(item)
        except Exception as error:
            self.error = error

    def call(self, method: str, *arguments: Any) -> Any:
        if self.error is not None:
            raise self.error
        return getattr(self.held, method)(*arguments)


class _Origin(NamedTuple):
    """What a process of the cluster has in common with the one that sent its work."""

    version: str
    folder: str  # paths may be relative to it

    @classmethod
    def here(cls) -> _Origin:
        """That of this process."""
        return cls(__version__, os.getcwd())

    def settle(self) -> None:
        """Check the version, and go to the folder."""
        if self.version != __version__:
            raise UsageError(
                f"a node of the cluster has d2prune {__version__}, and this machine {self.version}",
                "install the same version on all nodes",
            )
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise UsageError(
                f"{self.folder}: cannot be entered on {platform.node()} ({error.strerror})",
                "run in a folder that all nodes of the cluster see",
            ) from None


def _call(origin: _Origin, work: Callable[[Any], object], item: Any) -> None:
    """Run one task, in a process of the cluster."""
    origin.settle()
    with one_thread_per_product():  # it has one core
        work(item)


def _connect(ray: Any, address: str | None, threads: int) -> bool:
    """Connect to a cluster, or start one here with as many cores as `threads`.

    Returns whether this was done; a process that is connected already stays so.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with _own_signals():
            if address:
                _reach(address)
            if ray.is_initialized():
                return False
            if address:
                ray.init(address=address, **quiet)
            else:
                ray.init("local", num_cpus=threads, include_dashboard=False, **quiet)
            return True
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = f"at {address}" if address else "on this machine"
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UsageError(
            f"--engine ray: no Ray cluster {where}: {text}",
            "ray start --head starts one; without --ray-address and RAY_ADDRESS, one is started "
            "for the run",
        ) from None


def _wait_for_nodes(ray: Any, count: int) -> None:
    """Wait until a cluster has `count` nodes."""
    until = time.monotonic() + PATIENCE
    while (there := sum(node["Alive"] for node in ray.nodes())) < count:
        if time.monotonic() > until:
            raise UsageError(
                f"--ray-nodes {count}: after {PATIENCE:.0f} seconds the cluster has {there}",
                "ray status shows what is there",
            )
        stopping.check()
        time.sleep(_WAIT)


def _reach(address: str) -> None:
    """Fail at once where nothing listens: Ray would try again for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHED).close()


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep the handlers of signals, which Ray replaces."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


def _given_up(error: Exception) -> D2Error:
    """What is raised if work was lost too often."""
    text = next((line for line in str(error).splitlines() if line), type(error).__name__)
    return D2Error(
        f"the Ray cluster lost processes again and again: {text}",
        "ray status shows the nodes; a task that needs more memory than there is ends so: lower "
        "--max-memory",
    )


def _some(items: Iterator[Item], count: int) -> Iterator[Item]:
    """At most `count` of the next items."""
    for _ in range(count):
        try:
            yield next(items)
        except StopIteration:
            return


def _module() -> Any:
    try:
        import ray  # noqa: PLC0415, an extra
    except ModuleNotFoundError:
        raise UsageError(
            "--engine ray needs the package ray", "pip install 'd2prune[ray]'"
        ) from None
    return ray
