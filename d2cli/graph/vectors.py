"""Embeddings as the searches want them: finite, of a size that float32 distances can hold, and of
unit length where the metric is cosine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import Metric, choices
from d2cli.engine.threads import Progress, for_blocks, silent, thread_count
from d2cli.errors import DataError, UsageError
from d2cli.graph.knn_graph import check_rows

#: About this many numbers are looked at in one go.
_BLOCK_NUMBERS = 1 << 21
#: A longer vector's distances may not fit float32; and where all vectors are shorter than its
#: smallest normal number, it cannot tell them apart.
_LARGEST_NORM, _SMALLEST_NORM = 1e38, float(np.finfo(np.float32).tiny)
#: Under ``cosine`` rows longer or shorter than these are brought near 1 first.
_LARGE, _SMALL = 1e30, 1e-30
#: Values of up to 2 to this power, and of as little, are squared and added in float32 without harm.
_HARMLESS_EXPONENT = 24


def block_rows(d: int) -> int:
    """How many rows of d numbers make one block."""
    return max(1, _BLOCK_NUMBERS // max(d, 1))


@dataclass(frozen=True)
class Group:
    """Rows that search among themselves, without a copy of them. Numbers count within the group.

    Attributes:
        vectors: (rows, d) as :func:`prepare` returns them.
        rows: (n,) int64, ascending, which of them; None: all.
    """

    vectors: NDArray[np.floating]
    rows: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.vectors) if self.rows is None else len(self.rows)

    def block(self, start: int, stop: int) -> NDArray[np.floating]:
        """The vectors numbered start … stop; a view where the group is all rows."""
        if self.rows is None:
            return self.vectors[start:stop]
        return self.vectors[self.rows[start:stop]]

    def take(self, numbers: NDArray[np.integer]) -> NDArray[np.floating]:
        """The vectors with these numbers."""
        return self.vectors[self.rows_at(numbers)]

    def rows_at(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """The rows with these numbers."""
        return numbers if self.rows is None else self.rows[numbers]

    def all_rows(self) -> NDArray[np.int64]:
        """The rows of the group, in the order of their numbers."""
        return np.arange(len(self.vectors)) if self.rows is None else self.rows

    def listed(self, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        """The rows with these numbers; of an empty place in a list (-1), -1."""
        if self.rows is None:
            return numbers
        return np.where(numbers < 0, -1, self.rows[numbers]).astype(np.int32)

    def part(self, numbers: NDArray[np.int64]) -> Group:
        """The group of the rows with these numbers, ascending."""
        return Group(self.vectors, self.rows_at(numbers))

    def number(self, rows: NDArray[np.int32]) -> NDArray[np.int32]:
        """The numbers of these rows of the group; of what is no row (-1), -1."""
        if self.rows is None:
            return rows
        numbers = np.full(len(self.vectors), -1, np.int32)
        numbers[self.rows] = np.arange(len(self.rows))
        return np.where(rows < 0, np.int32(-1), numbers[rows])


def prepare(
    embeddings: NDArray[np.floating],
    metric: Metric,
    *,
    threads: int | None = None,
    progress: Progress = silent,
) -> NDArray[np.floating]:
    """Check embeddings and bring them into the form that the searches take.

    Args:
        embeddings: (n, d) float16, float32 or float64, n >= 1, d >= 1; may be memory-mapped and is
            read in blocks; not changed.
        metric: ``euclidean`` or ``cosine``.

    Returns:
        (n, d) C-contiguous. For ``euclidean`` the embeddings themselves where they are float32 or
        float64 already; otherwise one float32 copy. For ``cosine`` a float32 copy (float64 for
        float64) scaled to unit length.

    Raises:
        DataError: for another shape or type, an empty set, a value that is not finite; under
            ``euclidean`` for a vector longer than 1e38, and where all are shorter than 1.2e-38 and
            not 0; under ``cosine`` for a vector of zeros.
    """
    if metric not in choices(Metric):
        raise UsageError(f"metric must be one of {', '.join(choices(Metric))}, not {metric!r}")
    if embeddings.ndim != 2:
        raise DataError(
            f"embeddings must be two-dimensional, (n, d), not {embeddings.shape}",
            argument="embeddings",
        )
    dtype = embeddings.dtype.newbyteorder("=")
    if dtype not in (np.float16, np.float32, np.float64):
        raise DataError(
            f"embeddings must be float16, float32 or float64, not {embeddings.dtype}",
            "convert them: array.astype('float32')",
            argument="embeddings",
        )
    n, d = embeddings.shape
    check_rows(n)
    if d == 0:
        raise DataError("embeddings have no columns", argument="embeddings")
    as_is = (
        metric == "euclidean"
        and embeddings.dtype != np.float16
        and embeddings.flags.c_contiguous
        and embeddings.dtype.isnative
    )
    wide = np.float64 if dtype == np.float64 else np.float32
    vectors = embeddings if as_is else np.empty((n, d), wide)

    step = block_rows(d)
    longest = np.zeros(-(-n // step))

    def check(start: int, stop: int) -> None:
        block = embeddings[start:stop]
        norms = _norms(block)
        if metric == "cosine" and not ((norms > _SMALL) & (norms < _LARGE)).all():
            block = _near_one(block)
            norms = _norms(block)
        _check_finite(block, norms, start)
        longest[start // step] = norms.max() or np.abs(block).max()
        if metric == "cosine":
            if not norms.all():
                raise DataError(
                    "is a zero vector, which has no direction under cosine",
                    "drop it, or use --metric euclidean",
                    argument="embeddings",
                    row=start + int(np.argmin(norms)),
                )
            vectors[start:stop] = block / norms[:, None]
        elif not as_is:
            vectors[start:stop] = block

    for_blocks(check, n, step, thread_count(threads), progress, "read")
    if metric == "euclidean" and dtype != np.float16 and 0 < longest.max() < _SMALLEST_NORM:
        raise DataError(
            f"no vector is longer than {longest.max():.3g}: float32 cannot hold the distances",
            "scale the embeddings up",
            argument="embeddings",
        )
    return vectors


def _near_one(block: NDArray[np.floating]) -> NDArray[np.floating]:
    """Each row divided by a power of two, which rounds nothing and leaves its direction."""
    largest = np.abs(block).max(axis=1)
    largest[~np.isfinite(largest)] = 1.0
    return np.ldexp(block.astype(np.float64), -np.frexp(largest)[1][:, None])


def _norms(block: NDArray[np.floating]) -> NDArray[np.float64]:
    """Lengths of the rows in float64."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))


def _check_finite(block: NDArray[np.floating], norms: NDArray[np.float64], first_row: int) -> None:
    """Refuse a value that is not finite, and a row that is too long."""
    if np.isfinite(norms).all() and norms.max() <= _LARGEST_NORM:
        return
    finite = np.isfinite(block)
    if not finite.all():
        row, column = np.unravel_index(int(np.argmin(finite)), finite.shape)
        raise DataError(
            f"column {column} is {block[row, column]}",
            argument="embeddings",
            row=first_row + int(row),
        )
    raise DataError(
        f"is longer than {_LARGEST_NORM:g}: float32 cannot hold its distances",
        "scale the embeddings down",
        argument="embeddings",
        row=first_row + int(np.argmax(~(norms <= _LARGEST_NORM))),
    )


def power_of_two_scale(threads: int, *groups: Group) -> float:
    """A factor that brings the groups' largest value near 1 without rounding anything; mostly 1.

    float32 arithmetic on squares overflows for values of 1e20 and vanishes for 1e-25; searches
    work on scaled blocks, and final distances come from the vectors as they are.
    """
    largest = max(_largest(group, threads) for group in groups)
    exponent = int(np.frexp(largest)[1])
    if largest == 0.0 or abs(exponent) <= _HARMLESS_EXPONENT:
        return 1.0
    # Kept within what float32 can hold: denormals stay small.
    return float(2.0 ** -np.clip(exponent, -120, 120))


def _largest(group: Group, threads: int) -> float:
    n, step = len(group), block_rows(group.vectors.shape[1])
    largest = np.zeros(-(-n // step))

    def look(start: int, stop: int) -> None:
        block = group.block(start, stop)
        largest[start // step] = max(block.max(), -block.min())

    for_blocks(look, n, step, threads)
    return float(largest.max())
