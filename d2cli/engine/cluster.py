"""Runs tasks on a Ray cluster (the extra ``ray``), see :mod:`d2cli.engine.tasks`.

A task that is lost with its process or node runs again elsewhere, up to RETRIES times. It may then
write a part a second time, with the same bytes. Only a few tasks for each core are handed to Ray at
a time, so that its queues stay short. Each task declares one core and the memory it may use; Ray
starts no more tasks on a node than fit. Objects that stay declare memory of their own, and each is
given a node that has room for it.
"""

from __future__ import annotations

import math
import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from numpy.typing import NDArray

from d2cli.engine.joining import PAUSE, connect, ray_module, wait_for_nodes
from d2cli.engine.tasks import Ended, Engine, Held, Item, LostError, unheard
from d2cli.engine.threads import thread_count
from d2cli.errors import D2Error, LimitError, UsageError
from d2cli.runtime import stopping
from d2cli.runtime.floats.products import one_thread_per_product
from d2cli.runtime.ledger import BASE
from d2cli.runtime.memory import return_freed_arrays
from d2cli.runtime.units import binary, several
from d2cli.version import __version__

#: How often a task runs again that was lost with its process or node.
RETRIES = 8
#: How often lost objects are made anew before a run gives up.
RENEWALS = 8
#: Seconds to wait for the nodes of a cluster, also for one that can run tasks after all were lost.
PATIENCE = 600.0
#: Tasks handed to Ray for each core.
_AHEAD = 2
#: Bytes from which on Ray puts an argument into its object store, instead of sending it along.
_SMALL = 100 * 1024
#: Ray counts shares of a core in parts of this number.
_PARTS_OF_CORE = 10_000


class _Node(NamedTuple):
    """A node of the cluster, with the cores and the bytes of memory that a run may use there."""

    id: str
    cores: int
    memory: int
    store: int  # bytes of its object store


class RayEngine(Engine):
    """Runs tasks with Ray: many at a time, each on one core.

    Attributes:
        memory: bytes that each task declares; 0: none. See :meth:`memory_of_task`.
        tasks: how many tasks have ended.
        nodes: those with a core when the engine was made.
    """

    shared = False

    def __init__(self, address: str | None, threads: int | None, nodes: int = 1) -> None:
        """Connect to the cluster at `address`, or at ``RAY_ADDRESS``, or start one here.

        `threads` are the cores of a cluster that is started here. Waits until `nodes` are there.

        Raises:
            UsageError: if Ray is not installed, there is no cluster at the address, or it has
                fewer nodes after PATIENCE seconds.
        """
        self._ray = ray = ray_module()
        address = address or os.environ.get("RAY_ADDRESS")
        self._mine = connect(ray, address, thread_count(threads))
        self.memory = self.tasks = self._granted = 0
        self._share, self._no_node_since = 1.0, math.inf
        self._limit: int | None = None
        wait_for_nodes(lambda: len(self._nodes()), nodes, PATIENCE)
        self.nodes = max(1, len(self._nodes()))
        super().__init__(1, max(1, sum(node.cores for node in self._nodes())))
        self._call = ray.remote(_call)
        self._made = ray.remote(_Object)

    def each(
        self, work: Callable[[Item], object], items: Sequence[Item], ended: Ended[Item] = unheard
    ) -> None:
        """As :meth:`Engine.each`; `work` is copied to each node once."""
        if not items:
            return
        memory = {"memory": self.memory} if self.memory else {}
        shared = self.put(work)
        call = self._call.options(max_retries=RETRIES, num_cpus=1, **memory)
        waiting, running = iter(items), dict[Any, Item]()
        origin = _Origin.here(self._granted)
        try:
            while True:
                for item in _some(waiting, _AHEAD * self.at_once - len(running)):
                    running[call.remote(origin, shared, item)] = item
                if not running:
                    return
                done, _ = self.wait([*running], 1)
                for one in done:
                    with self.explained():
                        self.get(one)
                    self.tasks += 1
                    ended(running.pop(one))
        except _NoNodeError:
            raise
        except Exception:
            # They are not cancelled: Ray 2.60 aborts this process if a task ends while it is
            # cancelled. After an interrupt, tasks end with this process.
            left = [*running]
            while left:
                _, left = self.wait(left, len(left))
            raise

    run = each

    def hold(
        self, make: Callable[[Item], Any], items: Sequence[Item], memory: int = 0,
        what: str = "object",
    ) -> Held:  # fmt: skip
        """As :meth:`Engine.hold`; the objects are Ray actors."""
        return _HeldThere(self, make, items, memory, what)

    def can_hold(self, count: int, memory: int) -> bool:
        """As :meth:`Engine.can_hold`, on the nodes as they are now."""
        return self._places(count, memory) is not None

    def check_room(self, what: str, count: int, memory: int) -> None:
        """As :meth:`Engine.check_room`, on the nodes as they are now."""
        if not self.can_hold(count, memory):
            lent = [node.memory for node in self._nodes()]
            more = "nodes with more memory" if self._limit is None else "a larger --max-memory"
            raise LimitError(
                f"the memory of the cluster must hold {several(count, what)} of "
                f"{binary(BASE + memory)}, and lends {binary(sum(lent))} on "
                f"{several(len(lent), 'node')}: add nodes, or use {more}"
            )

    def memory_of_task(self, share: float, limit: int | None) -> int:
        """Bytes that one task may use besides program and libraries, if each core has a task.

        Each task declares them from here on. `share` of the memory that Ray lends on a node is
        used, or `limit` bytes on each node.
        """
        self._share, self._limit = share, limit
        self.memory = min((node.memory // node.cores for node in self._nodes()), default=0)
        return max(0, self.memory - BASE)

    def grant(self, memory: int) -> None:
        """As :meth:`Engine.grant`; this process has no files' content in memory."""
        self._granted = memory
        return_freed_arrays(0)

    @property
    def store(self) -> int:
        """Bytes of the smallest object store of a node."""
        return min((node.store for node in self._nodes()), default=0)

    def end(self) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._mine:
            self._ray.shutdown()

    def _nodes(self) -> list[_Node]:
        """The nodes with a core that are there now."""
        found = []
        for node in self._ray.nodes():
            cores = int(node["Resources"].get("CPU", 0))
            if node["Alive"] and cores:
                memory = int(self._share * node["Resources"].get("memory", 0))
                if self._limit is not None:
                    memory = min(self._limit, memory)
                store = int(node["Resources"].get("object_store_memory", 0))
                found.append(_Node(node["NodeID"], cores, memory, store))
        return found

    def _places(self, count: int, memory: int) -> list[tuple[_Node, float]] | None:
        """For each of `count` objects its node, and the share of a core that it gets there.

        Nodes have about as many objects for each core as their memory allows. None: the objects do
        not fit.
        """
        nodes = self._nodes()
        room = [node.memory // (BASE + memory) if memory else count for node in nodes]
        turns = sorted(
            ((at + 1) / node.cores, number)
            for number, (node, most) in enumerate(zip(nodes, room, strict=True))
            for at in range(min(count, most))
        )[:count]
        if len(turns) < count:
            return None
        held = Counter(number for _, number in turns)
        sharing = [-(-held[at] // node.cores) or 1 for at, node in enumerate(nodes)]
        shares = [_PARTS_OF_CORE // count / _PARTS_OF_CORE for count in sharing]
        return [(nodes[number], shares[number]) for _, number in turns]

    def _on(self, node: _Node) -> Any:
        """Where Ray puts an object: on a node, or anywhere if the node is gone meanwhile."""
        strategies = self._ray.util.scheduling_strategies
        return strategies.NodeAffinitySchedulingStrategy(node.id, soft=True)

    def put(self, value: object) -> Any:
        """`value` in the store of Ray, for tasks to read."""
        with self.explained():
            return self._ray.put(value)

    def wait(self, references: list[Any], count: int) -> tuple[list[Any], list[Any]]:
        """Those of the results that are there, and the others; waits a short time for `count`."""
        done, left = self._ray.wait(references, num_returns=count, timeout=PAUSE)
        stopping.check()
        if len(done) < count:
            self._check_nodes()
        return done, left

    def get(self, reference: Any) -> Any:
        """A result; an error of ours is raised as it was there."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = error.cause
            ours = D2Error | OSError | LostError | self._ray.exceptions.RayError
            raise cause if isinstance(cause, ours) else error from None

    @contextmanager
    def explained(self, *passed: type[Exception]) -> Iterator[None]:
        """Turn errors of the cluster itself into a D2Error, but those of the types `passed`."""
        errors = self._ray.exceptions
        try:
            yield
        except (errors.RayTaskError, *passed):
            raise
        except (errors.OutOfDiskError, errors.ObjectStoreFullError):
            raise D2Error(
                "the Ray cluster has no room left for objects: the disk of its temporary folder "
                "is full (/tmp/ray, on one of its nodes)",
                "free some of it, or start Ray with --temp-dir on a larger disk",
            ) from None
        except errors.RayError as error:
            raise _given_up(str(error)) from None

    def _check_nodes(self) -> None:
        """Give up if for a long time no node has been there that can run a task."""
        if any(node.memory >= self.memory for node in self._nodes()):
            self._no_node_since = math.inf
            return
        self._no_node_since = min(self._no_node_since, time.monotonic())
        if time.monotonic() - self._no_node_since > PATIENCE:
            raise _NoNodeError(
                f"for {PATIENCE:.0f} seconds the Ray cluster has had no node that can run a task",
                "ray status shows what is there",
            )


class _NoNodeError(D2Error):
    """No node is there that can run tasks."""


class _NodeGoneError(Exception):
    """Objects that were made while Ray still counted a lost node may never start."""


class _HeldThere(Held):
    """Objects in Ray actors."""

    def __init__(
        self, engine: RayEngine, make: Callable[[Item], Any], items: Sequence[Item], memory: int,
        what: str,
    ) -> None:  # fmt: skip
        self._engine, self._items, self._memory, self._what = engine, items, memory, what
        self._error: D2Error | None = None  # why they could not be made anew
        self._make, self._renewals, self._actors = engine.put(make), 0, list[Any]()
        self._renewing = threading.Lock()
        self._begin(patience=0.0)

    def _begin(self, patience: float) -> None:
        # All must be there at the same time. Another node may come in place of one that was lost.
        until = time.monotonic() + patience
        while (places := self._engine._places(len(self._items), self._memory)) is None:
            if time.monotonic() >= until:
                self._engine.check_room(self._what, len(self._items), self._memory)
            stopping.check()
            time.sleep(PAUSE)
        self._nodes = {node.id for node, _ in places}
        memory = {"memory": BASE + self._memory} if self._memory else {}
        self._actors = [
            self._engine._made.options(
                num_cpus=share, scheduling_strategy=self._engine._on(node), **memory
            ).remote(_Origin.here(0), self._make, item)
            for item, (node, share) in zip(self._items, places, strict=True)
        ]

    def share(self, array: NDArray[Any]) -> Any:
        return array if array.nbytes < _SMALL else self._engine.put(array)

    def __len__(self) -> int:
        return len(self._items)

    def call(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        engine, actors = self._engine, self._actors
        errors = engine._ray.exceptions
        lost = errors.RayActorError, errors.ObjectLostError, _NodeGoneError
        try:
            with engine.explained(*lost):
                asked = [
                    actor.call.remote(method, *some)
                    for actor, some in zip(actors, arguments, strict=True)
                ]
                left = asked
                while left:
                    _, left = engine.wait(left, len(left))
                    if left and not self._nodes <= {node.id for node in engine._nodes()}:
                        raise _NodeGoneError("a node of the cluster is gone")
                return [engine.get(one) for one in asked]
        except lost as error:
            with self._renewing:
                if self._error is not None:
                    raise self._error from None
                if self._actors is actors:  # else a call in another thread has made them anew
                    self._renewals += 1
                    self._kill()
                    if self._renewals > RENEWALS:
                        raise _given_up(str(error)) from None
                    try:
                        self._begin(PATIENCE)
                    except D2Error as refused:
                        self._error = refused
                        raise
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
    """What a process of the cluster is told by the one that sends its work."""

    version: str
    folder: str  # paths may be relative to it
    memory: int  # bytes as of Engine.grant

    @classmethod
    def here(cls, memory: int) -> _Origin:
        """From this process to one with so much memory."""
        return cls(__version__, os.getcwd(), memory)

    def settle(self) -> None:
        """Check the version, go to the folder, and keep to the memory."""
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
        return_freed_arrays(self.memory)


def _call(origin: _Origin, work: Callable[[Any], object], item: Any) -> None:
    """Run one task, in a process of the cluster."""
    origin.settle()
    with one_thread_per_product():  # it has one core
        work(item)


def _given_up(text: str) -> D2Error:
    """What is raised if work was lost too often; `text` is what Ray says."""
    first = next((line for line in text.splitlines() if line), "it does not say why")
    return D2Error(
        f"the Ray cluster lost processes again and again: {first}",
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
