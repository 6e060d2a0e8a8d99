"""``python -m tests.gated FOLDER STAGE WORD…``: runs a command line that stops in a stage.

STAGE is the name of a function that is a task of a cluster, or of a method of the objects that are
held there. A process of the cluster that is about to call it writes a file into FOLDER, named after
its node, and waits until there is a file ``open``. On a node with FULL in its environment, files of
tasks of this stage cannot be written.
"""

import errno
import os
import sys
import time
from functools import partial
from pathlib import Path
from unittest import mock

from d2cli.cli.main import run
from d2cli.engine import cluster
from d2cli.messages import part_tasks

FULL = "D2PRUNE_TEST_FULL_DISK"
#: Seconds after which a wait ends that is never opened.
LONGEST = 300
#: Edges of a part, so that small data has several tasks and shards.
PART_EDGES = 60_000


class Gate:
    """Where processes of the cluster wait; copied to them."""

    def __init__(self, folder, stage):
        self.folder, self.stage = Path(folder), stage

    def wait(self, name):
        """Say that this process is here, and wait, if it is about to do what `name` says."""
        if name != self.stage:
            return
        import ray

        (self.folder / ray.get_runtime_context().get_node_id()).touch()
        until = time.monotonic() + LONGEST
        while not (self.folder / "open").exists() and time.monotonic() < until:
            time.sleep(0.05)

    def task(self, real, origin, work, item):
        """In place of :func:`d2cli.engine.cluster._call`."""
        name = name_of(work)
        self.wait(name)
        if name == self.stage and FULL in os.environ:
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with mock.patch("os.replace", side_effect=error):
                real(origin, work, item)
        else:
            real(origin, work, item)


def name_of(work):
    """The name of the function that a task calls, whatever it is wrapped in."""
    while isinstance(work, partial):
        work = work.args[-1] if work.func.__name__ == "_found" else work.func
    return getattr(work, "__name__", type(work).__name__)


def main():
    folder, stage, *words = sys.argv[1:]
    gate, held = Gate(folder, stage), cluster._Object

    class Gated(held):
        def call(self, method, *arguments):
            gate.wait(method)
            return held.call(self, method, *arguments)

    real = cluster._call
    cluster._call = lambda *arguments: gate.task(real, *arguments)
    cluster._Object = Gated
    part_tasks.PART_EDGES = PART_EDGES
    return run(words)


if __name__ == "__main__":
    sys.exit(main())
