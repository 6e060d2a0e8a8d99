"""What the arithmetic starts from: the sizes of inputs and the options that shape a run."""

from __future__ import annotations

from dataclasses import dataclass

from d2cli import defaults
from d2cli.defaults import EdgeRule, Method, Metric


@dataclass(frozen=True)
class Matrix:
    """Embeddings as they lie on disk.

    Attributes:
        rows, width, itemsize: n, d and bytes of one number.
        mapped: whether they are memory-mapped as they are, rather than read into one copy.
        largest_file: bytes of the largest file, mapped in turn while the copy is made; 0 where
            files are read without a map.
        reading: bytes of the buffers that hold what is being read.
        plain: whether the kernels can use them as they are: C order, native byte order.
    """

    rows: int
    width: int
    itemsize: int
    mapped: bool
    largest_file: int = 0
    reading: int = 0
    plain: bool = True

    @property
    def size(self) -> int:
        """Bytes of all numbers as they lie on disk."""
        return self.rows * self.width * self.itemsize

    @property
    def wide(self) -> int:
        """Bytes of one number where it is computed with: float16 is not."""
        return max(4, self.itemsize)


@dataclass(frozen=True)
class Ids:
    """Ids of rows: how many, and the mean bytes of one; whole numbers have 8."""

    rows: int
    length: float
    text: bool


@dataclass(frozen=True)
class Search:
    """How neighbours are looked for.

    Attributes:
        grouped: whether rows are searched in groups (labels, exclusions), which are copied.
        taking_part: the share of rows that are searched at all.
        checkpoint: seconds between checkpoints; None where none are kept.
    """

    n_neighbors: int = defaults.N_NEIGHBORS
    metric: Metric = defaults.METRIC
    method: Method = defaults.METHOD
    recall: float = defaults.RECALL
    hnsw_m: int = defaults.HNSW_M
    ef_construction: int = defaults.EF_CONSTRUCTION
    ef: int | None = None
    threads: int = 1
    grouped: bool = False
    taking_part: float = 1.0
    checkpoint: float | None = None

    def method_for(self, n: int) -> Method:
        """What is done with n rows: see :func:`d2cli.graph.build.build_graph`."""
        if n <= self.n_neighbors + 1:
            return "exact"
        if self.method != "auto":
            return self.method
        return "exact" if n <= defaults.EXACT_UP_TO else "ivf"


@dataclass(frozen=True)
class Picks:
    """How rows are picked.

    Attributes:
        sizes: the budgets, in rows.
        edges: the rule of edges.
        searches: how many greedy runs look for γ_r before each real one; 0 where it is given.
        hops: forward passes; None where scores come propagated.
        each: whether every budget has a run of its own.
        cutoff: whether the cutoff sets itself, which takes a forward pass of its own.
    """

    sizes: tuple[int, ...]
    edges: EdgeRule = "union"
    searches: int = 0
    hops: int | None = 1
    each: bool = True
    cutoff: bool = False
    threads: int = 1
