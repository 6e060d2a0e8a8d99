"""Both engines, for tests that must give the same on each; the Ray one only if Ray is installed.

A process that runs tests has one cluster of two cores, which starts with the first test that needs
it and ends with the process.
"""

from contextlib import nullcontext
from functools import cache
from importlib.util import find_spec

import pytest

from d2cli.engine.cluster import RayEngine
from d2cli.engine.tasks import Engine

CORES = 2
HAVE_RAY = find_spec("ray") is not None
with_ray = pytest.mark.skipif(not HAVE_RAY, reason="needs the extra ray")
both_engines = pytest.mark.parametrize("kind", ["local", pytest.param("ray", marks=with_ray)])


def engine_of(kind, threads=CORES):
    """A context with an engine of this kind; `threads` of a local one."""
    return nullcontext(ray_engine() if kind == "ray" else Engine(threads))


@cache
def ray_engine():
    """The engine of the cluster of this process."""
    return RayEngine(None, CORES)
