"""Rows that several test files of selection share."""

import numpy as np
import pytest

from d2cli import build_graph


@pytest.fixture(scope="module")
def problem():
    """(graph, scores, labels) of 3,000 rows in clusters."""
    rng = np.random.default_rng(1)
    centres = 5 * rng.normal(size=(30, 3))
    rows = centres[rng.integers(0, 30, 3000)] + rng.normal(size=(3000, 3))
    return build_graph(rows.astype("f4"), 8), rng.beta(0.5, 3, 3000), rng.integers(0, 4, 3000)
