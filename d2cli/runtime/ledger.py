"""An account of memory: what a run holds and frees, and the most that it holds at one time."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

MIB = 1 << 20
#: Memory of the interpreter, NumPy, pyarrow, numba with LLVM and all compiled kernels, measured on
#: Linux x86-64. Two thirds of it are pages of shared libraries.
BASE = 213 * MIB
#: What Ray adds to it in the process that is started, measured there.
RAY = 80 * MIB


@dataclass(frozen=True)
class Estimate:
    """The memory that a run is predicted to need, in bytes."""

    peak: int  # the most resident memory, pages of memory-mapped inputs included
    stage: str  # the stage in which the peak is reached
    parts: dict[str, int]  # by name at the peak, the largest first; they sum to `peak`
    mapped: int  # the part of `peak` that is pages of mapped files; the system can reclaim them
    temporary: int = 0  # temporary files on disk, those of the outputs not counted


@dataclass
class Ledger:
    """Follows a run from one allocation to the next.

    >>> ledger = Ledger()
    >>> ledger.hold("embeddings", 4 * n * d)
    >>> with ledger.passing("copies", 20 * n): ...      # held only inside the block
    >>> ledger.free("embeddings")
    """

    stage: str = "start"
    held: dict[str, int] = field(default_factory=lambda: {"program": BASE})
    mapped: set[str] = field(default_factory=set)
    temporary: int = 0
    _peak: tuple[int, str, dict[str, int]] = (0, "", {})

    def hold(self, name: str, size: float, *, mapped: bool = False) -> None:
        """Hold `size` more bytes under `name` from here on."""
        self.held[name] = self.held.get(name, 0) + round(size)
        if mapped:
            self.mapped.add(name)
        total = sum(self.held.values())
        if total > self._peak[0]:
            self._peak = (total, self.stage, dict(self.held))

    def free(self, *names: str) -> None:
        """Free all that is held under these names."""
        for name in names:
            self.held.pop(name, None)

    @contextmanager
    def passing(self, name: str, size: float) -> Iterator[None]:
        """Hold `size` bytes inside the block."""
        self.hold(name, size)
        yield
        self.held[name] -= round(size)
        if not self.held[name]:
            del self.held[name]

    def touch(self, name: str, size: float) -> None:
        """Hold `size` bytes for a moment."""
        with self.passing(name, size):
            pass

    def keep(self, size: float) -> None:
        """A checkpoint of `size` bytes is written; the old one is removed after that."""
        self.temporary = max(self.temporary, 2 * round(size))

    def estimate(self) -> Estimate:
        """The peak and what is held then."""
        peak, stage, parts = self._peak
        ordered = dict(sorted(parts.items(), key=lambda part: -part[1]))
        mapped = sum(size for name, size in parts.items() if name in self.mapped)
        return Estimate(peak, stage, ordered, mapped, self.temporary)
