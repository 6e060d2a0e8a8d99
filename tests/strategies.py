"""Small hard cases: ties, duplicates, negative scores, isolated rows, k >= n, n = 1."""

import numpy as np
from hypothesis import strategies as st

from d2cli.graph.knn_graph import Edges

#: A short list, so that ties and duplicates are common.
_COORDINATES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.25, 100.0])


@st.composite
def embeddings(draw, most=24, dtype=np.float32, zeros=True):
    """(n, d) embeddings: few distinct rows, or normally distributed ones."""
    n, d = draw(st.integers(1, most)), draw(st.integers(1, 5))
    if draw(st.booleans()):
        rows = draw(
            st.lists(st.lists(_COORDINATES, min_size=d, max_size=d), min_size=n, max_size=n)
        )
        values = np.array(rows, dtype).reshape(n, d)
    else:
        seed = draw(st.integers(0, 2**32 - 1))
        values = np.random.default_rng(seed).normal(size=(n, d)).astype(dtype)
    if not zeros:
        values[~values.any(axis=1)] = 1.0
    return values


@st.composite
def scores(draw, n, negative=False):
    """(n,) float64, often with ties; some are negative if `negative`."""
    low = -3 if negative else 0
    tied = st.integers(low, 3).map(float)
    free = st.floats(low, 10, allow_subnormal=False)
    one = draw(st.sampled_from([tied, free]))
    return np.array(draw(st.lists(one, min_size=n, max_size=n)), np.float64)


@st.composite
def knn_graphs(draw, most=24):
    """(neighbors, distances): exact neighbours; some rows may be isolated."""
    from tests import naive

    values = draw(embeddings(most))
    k = draw(st.integers(1, 6))
    n = len(values)
    within = None
    if draw(st.booleans()):
        within = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return naive.knn(values, k, within=within)


def masks(n):
    """(n,) bool masks."""
    return st.lists(st.booleans(), min_size=n, max_size=n).map(lambda m: np.array(m, np.bool_))


@st.composite
def links(draw, n):
    """The neighbours of each of n rows, ascending and one-directional, as lists and as edges."""
    pairs = draw(st.sets(st.tuples(*2 * [st.integers(0, n - 1)]), max_size=90))
    neighbors = [sorted({b for a, b in pairs if a == i != b}) for i in range(n)]
    return neighbors, edges_to(neighbors)


def edges_to(neighbors):
    """Edges of length 1 from lists of neighbours."""
    indptr = np.cumsum([0, *map(len, neighbors)], dtype=np.int64)
    flat = np.array([j for js in neighbors for j in js], np.int32)
    return Edges(indptr, flat, np.ones(flat.size, np.float32))
