"""What a graph is built from and how. The plan uses this module, so it imports no kernel."""

from dataclasses import dataclass

from d2cli import defaults
from d2cli.defaults import EXACT_UP_TO, Method, Metric


@dataclass(frozen=True)
class Matrix:
    """Embeddings as they are stored on disk."""

    rows: int  # n
    width: int  # d
    itemsize: int  # bytes of one number
    mapped: bool  # whether the file is memory-mapped, rather than read into one copy
    largest_file: int = 0  # bytes of the largest file mapped while the copy is made; 0: no map
    reading: int = 0  # bytes of the buffers of the file reader
    plain: bool = True  # whether kernels can use the array as it is: C order, native byte order
    copied: bool = False  # whether rows are copied to a file before they can be read in ranges

    @property
    def size(self) -> int:
        """Bytes of all numbers on disk."""
        return self.rows * self.width * self.itemsize

    @property
    def wide(self) -> int:
        """Bytes of one number in memory; float16 becomes float32."""
        return max(4, self.itemsize)


@dataclass(frozen=True)
class SearchSettings:
    """Options of :func:`d2cli.graph.build.build_graph`, and four that only the plan reads."""

    n_neighbors: int = defaults.N_NEIGHBORS
    metric: Metric = defaults.METRIC
    method: Method = defaults.METHOD
    recall: float = defaults.RECALL
    hnsw_m: int = defaults.HNSW_M
    ef_construction: int = defaults.EF_CONSTRUCTION
    ef: int | None = None
    threads: int = 1
    grouped: bool = False  # plan: whether rows are searched in groups (labels, exclusions)
    taking_part: float = 1.0  # plan: the share of rows that are searched
    most: bool = False  # plan: the most that data may need, not what learnt embeddings need
    checkpoint: float | None = None  # plan: seconds between checkpoints; None for no checkpoints
    seed: int = defaults.SEED

    def method_for(self, n: int) -> Method:
        """The method that searches a group of n distinct rows; see :attr:`method_rule`."""
        if n <= self.n_neighbors + 1:
            return "exact"
        if self.method != "auto":
            return self.method
        return "exact" if n <= EXACT_UP_TO else "blocks"

    @property
    def method_rule(self) -> str:
        """The rule of :meth:`method_for`. Rows of a group of k + 1 all list each other."""
        if self.method == "auto":
            return f"exact for groups of up to {EXACT_UP_TO:,} distinct rows, otherwise blocks"
        return f"exact for groups of up to k + 1 distinct rows, otherwise {self.method}"
