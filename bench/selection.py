"""Contestants in selection: d2prune, the same greedy with an indexed heap, and other methods.

Each function returns ``(run, judge)``: `run` selects once, `judge` turns its result into numbers.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from typing import Any

import numpy as np

from d2cli.graph.knn_graph import Edges
from d2cli.selection.greedy import greedy
from d2cli.selection.picks import NO_LIMITS, heap_picks

#: With these, scores stay positive, so that clamped and unclamped orders are equal.
SIGMA, GAMMA = 0.5, 10.0


def random_graph(n: int, degree: int) -> tuple[Edges, np.ndarray]:
    """Return random directed edges and scores: the worst case for caches."""
    rng = np.random.default_rng(0)
    indices = rng.integers(0, n, n * degree, dtype=np.int32)
    indices.reshape(n, degree).sort(axis=1)
    distances = rng.random(n * degree, dtype=np.float32)
    indptr = np.arange(0, n * degree + 1, degree, dtype=np.int64)
    return Edges(indptr, indices, distances), 1.0 + rng.random(n)


def digest(order: np.ndarray) -> dict[str, Any]:
    """Return a digest of the order; equal orders have equal digests."""
    return {"order": hashlib.sha256(np.asarray(order, np.int64).tobytes()).hexdigest()[:16]}


def ours(n: int, degree: int) -> tuple[Any, Any]:
    """The selection of d2prune on a random graph."""
    csr, u = random_graph(n, degree)
    options = {"kernel_name": "gaussian", "sigma": SIGMA, "gamma": GAMMA}
    small, few = random_graph(1000, 4)
    greedy(small, few, 500, **options)
    return lambda: greedy(csr, u, n // 2, **options).order, digest


def on_a_graph(n: int, input: str) -> tuple[Any, Any]:
    """The selection of d2prune on a kNN graph, in which near rows share neighbours."""
    from d2cli import build_graph, prepare_edges, propagate

    edges, sigma = prepare_edges(build_graph(np.load(input, mmap_mode="r")[:n]))
    u = propagate(edges, _scores(n), bandwidth=sigma)
    options = {"kernel_name": "gaussian", "sigma": sigma, "gamma": 3.0}
    greedy(edges, u, min(n // 2, 1000), **options)
    return lambda: greedy(edges, u, n // 2, **options).order, lambda _: {}


def indexed_heap(n: int, degree: int) -> tuple[Any, Any]:
    """The same order from a 4-ary heap with the position of each node."""
    csr, u = random_graph(n, degree)
    small, few = random_graph(1000, 4)

    def run(edges: Edges = csr, scores: np.ndarray = u) -> np.ndarray:
        m = scores.size
        order, gains = np.empty(m // 2, np.int64), np.empty(m // 2)
        heap_picks(
            edges, scores.copy(), GAMMA, SIGMA, True, np.ones(m, np.bool_), np.zeros(m, np.bool_),
            np.zeros(m, np.int32), np.array([m // 2]), order, gains, NO_LIMITS,
        )  # fmt: skip
        return order

    run(small, few)
    return run, digest


def argsort(n: int, degree: int) -> tuple[Any, Any]:
    """Sort the scores: selection without diversity, a lower bound of the time."""
    _, u = random_graph(n, 1)
    return lambda: np.argsort(-u, kind="stable")[: n // 2], lambda _: {}


def python_heapq(n: int, degree: int) -> tuple[Any, Any]:
    """Greedy selection in plain Python: heapq with stale entries, lists of neighbours."""
    csr, u = random_graph(n, degree)
    rows = np.split(csr.indices, csr.indptr[1:-1])
    neighbors = [row.tolist() for row in rows]
    lengths = [row.tolist() for row in np.split(csr.distances, csr.indptr[1:-1])]

    def run() -> np.ndarray:
        scores = u.tolist()
        heap = [(-s, i) for i, s in enumerate(scores)]
        heapq.heapify(heap)
        picked, order = [False] * n, []
        while len(order) < n // 2:
            negative, k = heapq.heappop(heap)
            if picked[k]:
                continue
            if -negative != scores[k]:
                heapq.heappush(heap, (-scores[k], k))
                continue
            picked[k] = True
            order.append(k)
            for j, d in zip(neighbors[k], lengths[k], strict=True):
                if not picked[j]:
                    x = d / SIGMA
                    scores[j] -= math.exp(-GAMMA * (x * x)) * scores[k]
        return np.array(order)

    return run, digest


def apricot(n: int, degree: int) -> tuple[Any, Any]:
    """Facility location of apricot (lazy greedy) on the same sparse graph."""
    from apricot import FacilityLocationSelection
    from scipy.sparse import csr_matrix

    csr, _ = random_graph(n, degree)
    weights = np.exp(-GAMMA * (csr.distances.astype(np.float64) / SIGMA) ** 2)
    similar = csr_matrix((weights, csr.indices, csr.indptr), shape=(n, n))
    similar.sum_duplicates()
    similar = similar.maximum(similar.T).tocsr()

    def run() -> np.ndarray:
        return (
            FacilityLocationSelection(n // 2, "precomputed", optimizer="lazy").fit(similar).ranking
        )

    return run, lambda _: {}


def dense(n: int, input: str) -> tuple[Any, Any]:
    """From embeddings to a selection with a dense n × n matrix, as the code of the paper does."""
    vectors, scores = np.load(input, mmap_mode="r")[:n].astype(np.float64), _scores(n)

    def run() -> np.ndarray:
        squares = (vectors**2).sum(axis=1)
        distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * vectors @ vectors.T, 0))
        np.fill_diagonal(distances, np.inf)
        nearest = np.argpartition(distances, 10, axis=1)[:, :10]
        linked = np.zeros((n, n), np.bool_)
        np.put_along_axis(linked, nearest, True, axis=1)
        linked |= linked.T
        sigma = np.median(np.take_along_axis(distances, nearest, 1))
        weights = np.where(linked, np.exp(-((distances / sigma) ** 2)), 0.0)
        u = scores + weights @ scores
        order = []
        for _ in range(n // 2):
            k = int(np.argmax(u))
            order.append(k)
            u -= weights[k] * max(u[k], 0.0)
            u[k] = -np.inf
        return np.array(order)

    return run, lambda _: {}


def end_to_end(n: int, input: str) -> tuple[Any, Any]:
    """From embeddings to a selection with d2prune, with an exact graph."""
    from d2cli import build_graph, propagate, select

    vectors, scores = np.ascontiguousarray(np.load(input, mmap_mode="r")[:n]), _scores(n)

    def run(rows: np.ndarray = vectors, s: np.ndarray = scores) -> np.ndarray:
        graph = build_graph(rows)
        return select(graph, propagate(graph, s), len(s) // 2, gamma_reverse=1.0).order

    run(vectors[:500], scores[:500])
    return run, lambda _: {}


def _scores(n: int) -> np.ndarray:
    return np.random.default_rng(0).exponential(size=n)


SELECTORS = {
    "d2prune": ours,
    "d2prune, on a graph": on_a_graph,
    "indexed heap": indexed_heap,
    "argsort": argsort,
    "heapq in Python": python_heapq,
    "apricot": apricot,
    "dense, n × n": dense,
    "d2prune, end to end": end_to_end,
}
