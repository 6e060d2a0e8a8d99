"""Builders of kNN graphs that d2prune is compared with, and their settings.

``make(vectors, k, threads)`` warms a builder up and returns a function without arguments, which
returns (n, k) row numbers. A library that lists each row itself is asked for k + 1 neighbours, and
the row is removed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Build = Callable[[], np.ndarray]

#: Settings from fast to accurate. The first that reaches the recall is measured.
LADDERS: dict[str, list[dict[str, int]]] = {
    "hnswlib": [
        {"M": 8, "ef_construction": 40, "ef": 30},
        {"M": 12, "ef_construction": 60, "ef": 40},
        {"M": 12, "ef_construction": 60, "ef": 60},
        {"M": 16, "ef_construction": 100, "ef": 60},
        {"M": 16, "ef_construction": 100, "ef": 100},
        {"M": 20, "ef_construction": 150, "ef": 150},
        {"M": 24, "ef_construction": 200, "ef": 300},
    ],
    "faiss HNSW": [
        {"M": 12, "ef_construction": 60, "ef": 40},
        {"M": 16, "ef_construction": 80, "ef": 64},
        {"M": 20, "ef_construction": 120, "ef": 100},
        {"M": 24, "ef_construction": 200, "ef": 200},
    ],
    "pynndescent": [{"n_neighbors": n} for n in (15, 20, 25, 30, 40, 60)],
}


#: More rows than d2prune compares exactly, so that a warm-up loads the kernels of the other search.
WARM_ROWS, WARM_COLUMNS = 24_000, 512


def drop_self(labels: np.ndarray, k: int) -> np.ndarray:
    """Remove each row from its own list, by number; returns (n, k)."""
    own = labels == np.arange(len(labels))[:, None]
    own[~own.any(axis=1), -1] = True
    return labels[~own].reshape(len(labels), -1)[:, :k]


def d2prune(vectors: np.ndarray, k: int, threads: int, **options: object) -> Build:
    """:func:`d2cli.build_graph` with `options`."""
    from d2cli import build_graph

    few = np.ascontiguousarray(vectors[:WARM_ROWS, :WARM_COLUMNS])
    build_graph(few, k, threads=threads, **options)
    return lambda: build_graph(vectors, k, threads=threads, **options).neighbors


def hnswlib(
    vectors: np.ndarray, k: int, threads: int, M: int, ef_construction: int, ef: int
) -> Build:
    """hnswlib, building and querying on `threads` threads."""
    import hnswlib as library

    def build() -> np.ndarray:
        index = library.Index("l2", vectors.shape[1])
        index.init_index(len(vectors), M=M, ef_construction=ef_construction, random_seed=0)
        index.add_items(vectors, num_threads=threads)
        index.set_ef(max(ef, k + 1))
        return drop_self(index.knn_query(vectors, k + 1, num_threads=threads)[0].astype("i8"), k)

    return build


def faiss_hnsw(
    vectors: np.ndarray, k: int, threads: int, M: int, ef_construction: int, ef: int
) -> Build:
    """faiss.IndexHNSWFlat."""
    import faiss

    faiss.omp_set_num_threads(threads)

    def build() -> np.ndarray:
        index = faiss.IndexHNSWFlat(vectors.shape[1], M)
        index.hnsw.efConstruction, index.hnsw.efSearch = ef_construction, ef
        index.add(vectors)
        return drop_self(index.search(vectors, k + 1)[1], k)

    return build


def faiss_exact(vectors: np.ndarray, k: int, threads: int, queries: int) -> Build:
    """faiss.IndexFlatL2 for the first `queries` rows; the caller scales the time to all rows."""
    import faiss

    faiss.omp_set_num_threads(threads)

    def build() -> np.ndarray:
        index = faiss.IndexFlatL2(vectors.shape[1])
        index.add(vectors)
        return drop_self(index.search(vectors[:queries], k + 1)[1], k)

    return build


def pynndescent(vectors: np.ndarray, k: int, threads: int, n_neighbors: int) -> Build:
    """The lists of n_neighbors of NNDescent, cut to k."""
    from pynndescent import NNDescent

    vectors = np.ascontiguousarray(vectors, np.float32)  # not counted, as NNDescent converts too

    def build(rows: np.ndarray = vectors) -> np.ndarray:
        index = NNDescent(rows, n_neighbors=n_neighbors, random_state=0, n_jobs=threads)
        return drop_self(index.neighbor_graph[0], k)

    build(vectors[:3000])
    build(vectors[:6000])  # compiles before the measurement
    return build


MAKERS: dict[str, Callable[..., Build]] = {
    "d2prune": d2prune,
    "hnswlib": hnswlib,
    "faiss HNSW": faiss_hnsw,
    "faiss exact": faiss_exact,
    "pynndescent": pynndescent,
}
