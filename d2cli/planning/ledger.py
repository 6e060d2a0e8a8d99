"""An account of memory and work: what is held, what is let go, and the most at any one time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from d2cli.planning.speed import Speed

MIB = 1 << 20
#: Interpreter, numpy, pyarrow, numba with LLVM, and our compiled kernels, once all are loaded:
#: as measured on Linux x86-64. Two thirds of it are pages of shared libraries. A kernel that maps
#: more of them at once than is touched makes it up to 170 MiB more, which is nobody's need.
BASE = 213 * MIB


@dataclass(frozen=True)
class Work:
    """What a stage computes.

    Attributes:
        flops: of float32 matrix products.
        steps: seconds of everything else on one core of the reference machine (see
            :mod:`d2cli.planning.speed`).
        threads: how many threads share it.
    """

    flops: float = 0.0
    steps: float = 0.0
    threads: int = 1


@dataclass(frozen=True)
class Estimate:
    """What a run is predicted to need.

    Attributes:
        peak: the most resident memory in bytes, pages of memory-mapped inputs included.
        stage: when that is.
        parts: what lives then, bytes by name, the largest first; they sum to `peak`.
        mapped: how much of `peak` are pages of mapped files, which the system can take back.
        work: by stage, in the order of the run.
        temporary: bytes on disk that are gone at the end, besides the outputs' own.
    """

    peak: int
    stage: str
    parts: dict[str, int]
    mapped: int
    work: dict[str, list[Work]]
    temporary: int = 0

    def seconds(self, speed: Speed) -> dict[str, float]:
        """Roughly how long each stage takes at this speed."""
        return {
            stage: sum(speed.seconds(w.flops, w.steps, w.threads) for w in works)
            for stage, works in self.work.items()
        }

    def core_seconds(self, speed: Speed) -> float:
        """What all stages would take one core, if it did nothing else."""
        return sum(speed.core_seconds(w.flops, w.steps) for ws in self.work.values() for w in ws)


@dataclass
class Ledger:
    """Follows a run from one allocation to the next.

    >>> ledger = Ledger()
    >>> ledger.hold("embeddings", 4 * n * d)
    >>> with ledger.passing("copies", 20 * n): ...      # lives only inside
    >>> ledger.free("embeddings")
    """

    stage: str = "start"
    held: dict[str, int] = field(default_factory=lambda: {"program": BASE})
    mapped: set[str] = field(default_factory=set)
    work: dict[str, list[Work]] = field(default_factory=dict)
    temporary: int = 0
    _peak: tuple[int, str, dict[str, int]] = (0, "", {})

    def hold(self, name: str, size: float, *, mapped: bool = False) -> None:
        """`size` more bytes live under `name` from here on."""
        self.held[name] = self.held.get(name, 0) + round(size)
        if mapped:
            self.mapped.add(name)
        total = sum(self.held.values())
        if total > self._peak[0]:
            self._peak = (total, self.stage, dict(self.held))

    def free(self, *names: str) -> None:
        """What lives under these names is let go."""
        for name in names:
            self.held.pop(name, None)

    @contextmanager
    def passing(self, name: str, size: float) -> Iterator[None]:
        """`size` bytes live inside the block."""
        self.hold(name, size)
        yield
        self.held[name] -= round(size)
        if not self.held[name]:
            del self.held[name]

    def touch(self, name: str, size: float) -> None:
        """`size` bytes live for a moment."""
        with self.passing(name, size):
            pass

    def spend(self, flops: float = 0.0, steps: float = 0.0, threads: int = 1) -> None:
        """Work of the present stage, see :class:`Work`."""
        self.work.setdefault(self.stage, []).append(Work(flops, steps, threads))

    def keep(self, size: float, after: float | None) -> bool:
        """A checkpoint of `size` bytes, if the run has by now lasted so many seconds; whether so.

        Seconds are those of the reference machine. The old one stays until the new one is whole.
        """
        lasted = after is not None and sum(self.estimate().seconds(Speed()).values()) >= after
        if lasted:
            self.temporary = max(self.temporary, 2 * round(size))
        return lasted

    def estimate(self) -> Estimate:
        """What it all came to."""
        peak, stage, parts = self._peak
        ordered = dict(sorted(parts.items(), key=lambda part: -part[1]))
        mapped = sum(size for name, size in parts.items() if name in self.mapped)
        return Estimate(peak, stage, ordered, mapped, self.work, self.temporary)
