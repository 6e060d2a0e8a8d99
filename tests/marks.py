"""Marks that several files of tests use."""

import os

import pytest

#: Searches of many rows: minutes without the compiler, and nothing new for coverage.
compiled = pytest.mark.skipif(
    os.environ.get("NUMBA_DISABLE_JIT", "0") != "0", reason="takes minutes without the compiler"
)
