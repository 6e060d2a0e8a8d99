"""Both engines, for tests that must give the same on each; the Ray one only if Ray is installed."""

from contextlib import contextmanager
from importlib.util import find_spec

import pytest

from d2cli.engine.cluster import RayEngine
from d2cli.engine.tasks import Engine

HAVE_RAY = find_spec("ray") is not None
with_ray = pytest.mark.skipif(not HAVE_RAY, reason="needs the extra ray")
both_engines = pytest.mark.parametrize("kind", ["local", pytest.param("ray", marks=with_ray)])


@contextmanager
def engine_of(kind, threads=2):
    """An engine of this kind for the block."""
    engine = Engine(threads) if kind == "local" else RayEngine(None, threads)
    try:
        yield engine
    finally:
        engine.end()
