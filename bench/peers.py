"""The tools that d2prune is measured against, each with the settings it is given.

A contestant is made once in a process of its own, warmed up, and then run again and again:
``make(vectors, k, threads)`` returns a function without arguments whose result is (n, k) row
numbers. Where a tool lists the row itself, its list is one longer and the row is dropped.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Build = Callable[[], np.ndarray]

#: Settings from quick to thorough; the first that reaches the recall is the one that competes.
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


def drop_self(labels: np.ndarray, k: int) -> np.ndarray:
    """Rows without themselves, k wide: by number, wherever in the list they stand."""
    own = labels == np.arange(len(labels))[:, None]
    own[~own.any(axis=1), -1] = True
    return labels[~own].reshape(len(labels), -1)[:, :k]


def d2prune(vectors: np.ndarray, k: int, threads: int, **options: object) -> Build:
    """Ours; `options` are build_graph's."""
    from d2cli import build_graph

    build_graph(vectors[:3000], k, threads=threads, **options)
    return lambda: build_graph(vectors, k, threads=threads, **options).neighbors


def hnswlib(
    vectors: np.ndarray, k: int, threads: int, M: int, ef_construction: int, ef: int
) -> Build:
    """The library alone, building and querying on every thread."""
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
    """faiss.IndexFlatL2 on the first rows only; the caller scales the time up."""
    import faiss

    faiss.omp_set_num_threads(threads)

    def build() -> np.ndarray:
        index = faiss.IndexFlatL2(vectors.shape[1])
        index.add(vectors)
        return drop_self(index.search(vectors[:queries], k + 1)[1], k)

    return build


def pynndescent(vectors: np.ndarray, k: int, threads: int, n_neighbors: int) -> Build:
    """NNDescent's own lists, of n_neighbors, cut to k."""
    from pynndescent import NNDescent

    def build(rows: np.ndarray = vectors) -> np.ndarray:
        index = NNDescent(rows, n_neighbors=n_neighbors, random_state=0, n_jobs=threads)
        return drop_self(index.neighbor_graph[0], k)

    build(vectors[:3000])
    build(vectors[:6000])  # its compiling is left out
    return build


MAKERS: dict[str, Callable[..., Build]] = {
    "d2prune": d2prune,
    "hnswlib": hnswlib,
    "faiss HNSW": faiss_hnsw,
    "faiss exact": faiss_exact,
    "pynndescent": pynndescent,
}
