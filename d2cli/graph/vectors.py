"""Embeddings in the form that searches take: finite, with distances that fit float32, and scaled to
unit length under ``cosine``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import MAX_ROWS, Metric
from d2cli.engine.rows import RowReader
from d2cli.engine.store import PartStore
from d2cli.engine.tasks import Engine
from d2cli.engine.threads import Progress, for_blocks, silent, thread_count
from d2cli.errors import DataError
from d2cli.graph.sizes import BLOCK_NUMBERS, SCALED_NUMBERS
from d2cli.limits import check_choice
from d2cli.runtime.arrays import Bools, Floats, Int32, Int64

#: Distances between longer vectors may not fit float32.
_LARGEST_NORM = 1e38
#: If all vectors are shorter than this, float32 cannot hold their distances.
_SMALLEST_NORM = float(np.finfo(np.float32).tiny)
#: Tasks that read all rows once, at most.
_MOST_SPANS = 1024

_ZERO = "is a zero vector, which has no direction under cosine"
_LONG = f"is longer than {_LARGEST_NORM:g}: float32 cannot hold its distances"
_Unusable = partial(DataError, argument="embeddings")


def block_rows(d: int) -> int:
    """Number of rows with d columns in one block."""
    return max(1, BLOCK_NUMBERS // max(d, 1))


class ReadVectors:
    """Vectors that are read and scaled when they are asked for: ``vectors[rows]`` is an array.

    They have the values that :func:`prepare` would give them in memory. Rows are asked for by a
    slice without a step, or by an array of row numbers.

    Attributes:
        shape, dtype, itemsize: as of an array (n, d).
        largest: the largest absolute value of the rows that were not skipped.
    """

    def __init__(self, reader: RowReader, metric: Metric) -> None:
        self.reader, self.metric, self.shape = reader, metric, reader.shape
        self.dtype, self.largest = reader.dtype, 0.0
        self.itemsize = self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, at: slice | NDArray[Any]) -> Floats:
        if isinstance(at, slice):
            start, stop, _ = at.indices(self.shape[0])
            return self.read(start, max(start, stop))
        return self._scaled(self.reader.take(at.astype(np.int64, copy=False)))

    def read(self, start: int, stop: int, out: Floats | None = None) -> Floats:
        """The rows ``start … stop``: in `out`, (stop - start, d), or in a new array."""
        return self._scaled(self.reader.read(start, stop, out))

    def _scaled(self, block: Floats) -> Floats:
        """Rows as they are read -> vectors, in place."""
        if self.metric == "cosine":
            step = max(1, SCALED_NUMBERS // self.shape[1])  # few, which are copied as float64
            with np.errstate(divide="ignore", invalid="ignore"):  # rows that are skipped
                for start in range(0, len(block), step):
                    some = block[start : start + step]
                    some[:] = _unit(some, _norms(some))
        return block


#: Vectors as :func:`prepare` returns them.
Vectors = Floats | ReadVectors


@dataclass(frozen=True)
class Group:
    """Rows that are searched among themselves; a view, not a copy.

    *Rows* are rows of all vectors. *Numbers* count the rows of the group: 0 … n-1.

    Attributes:
        vectors: all vectors (rows, d), as :func:`prepare` returns them.
        rows: (n,) int64, the rows of the group, ascending; None if they are all rows.
    """

    vectors: Vectors
    rows: Int64 | None = None

    def __len__(self) -> int:
        return len(self.vectors) if self.rows is None else len(self.rows)

    def block(self, start: int, stop: int) -> Floats:
        """The vectors numbered start … stop; a view if they are a run of all vectors."""
        return self.vectors[self._run(start, stop)]

    def read(self, start: int, stop: int, out: Floats) -> None:
        """``out[:] = block(start, stop)``, without another array of this size."""
        rows = self._run(start, stop)
        if isinstance(self.vectors, ReadVectors) and isinstance(rows, slice):
            self.vectors.read(rows.start, rows.stop, out)
            return
        step = max(1, SCALED_NUMBERS // out.shape[1])
        for at in range(0, len(out), step):
            out[at : at + step] = self.block(start + at, min(start + at + step, stop))

    def _run(self, start: int, stop: int) -> slice | Int64:
        """The rows numbered start … stop; a slice if they are a run of all rows."""
        if self.rows is None:
            return slice(start, stop)
        rows = self.rows[start:stop]
        run = len(rows) and rows[-1] - rows[0] == len(rows) - 1  # rows ascend
        return slice(int(rows[0]), int(rows[-1]) + 1) if run else rows

    def vectors_at(self, numbers: NDArray[Any]) -> Floats:
        """The vectors (m, d) with these numbers, a copy."""
        return self.vectors[self.rows_at(numbers)]

    def rows_at(self, numbers: NDArray[Any]) -> NDArray[Any]:
        """The rows with these numbers."""
        return numbers if self.rows is None else self.rows[numbers]

    def all_rows(self) -> Int64:
        """The rows of the group, in the order of their numbers."""
        return np.arange(len(self.vectors)) if self.rows is None else self.rows

    def listed(self, numbers: Int32) -> Int32:
        """The rows with these numbers; -1 stays -1."""
        if self.rows is None:
            return numbers
        return np.where(numbers < 0, -1, self.rows[numbers]).astype(np.int32)

    def number(self, rows: Int32) -> Int32:
        """The numbers of these rows; -1 stays -1."""
        if self.rows is None:
            return rows
        if 8 * len(self.rows) < len(self.vectors):
            return np.where(rows < 0, -1, np.searchsorted(self.rows, rows)).astype(np.int32)
        numbers = np.full(len(self.vectors), -1, np.int32)
        numbers[self.rows] = np.arange(len(self.rows))
        return np.where(rows < 0, np.int32(-1), numbers[rows])


def prepare(
    embeddings: Floats, metric: Metric, *, skip: Bools | None = None,
    threads: int | None = None, progress: Progress = silent,
) -> Floats:  # fmt: skip
    """Check embeddings and convert them to the form that searches take.

    Args:
        embeddings: (n, d) float16, float32 or float64, n >= 1, d >= 1. May be memory-mapped; is
            read in blocks and not changed.
        metric: ``euclidean`` or ``cosine``.
        skip: (n,) bool, rows that are not looked at: what is returned for them is undefined.
        threads, progress: as for :func:`~d2cli.graph.build.build_graph`.

    Returns:
        (n, d), C-contiguous, native byte order. ``euclidean`` returns the embeddings themselves if
        they are in this form and not float16, otherwise one copy. ``cosine`` returns a copy scaled
        to unit length. Copies are float64 for float64, otherwise float32.

    Raises:
        UsageError: for another metric.
        DataError: for another shape or dtype, no rows, or a value that is not finite; under
            ``euclidean`` also for a vector longer than 1e38, and if all vectors are shorter than
            1.2e-38 but not all are 0; under ``cosine`` also for a zero vector.
    """
    check_form(embeddings, metric)
    dtype, flags = embeddings.dtype.newbyteorder("="), embeddings.flags
    plain = dtype != np.float16 and flags.c_contiguous and embeddings.dtype.isnative
    if plain and metric != "cosine":
        vectors, shape = embeddings, embeddings.shape

        def keep(rows: Int64, block: Floats) -> None:
            """The embeddings are the vectors."""
    else:
        shape, wide = embeddings.shape, np.float64 if dtype == np.float64 else np.float32
        vectors = np.empty(shape, wide) if skip is None else np.zeros(shape, wide)

        def keep(rows: Int64, block: Floats) -> None:
            last = int(rows[-1]) + 1
            vectors[slice(last - rows.size, last) if rows.size == last - rows[0] else rows] = block

    step = block_rows(shape[1])
    longest = np.zeros(-(-shape[0] // step))

    def check(start: int, stop: int) -> None:
        rows, block, longest[start // step] = _checked(embeddings[start:stop], start, metric, skip)
        if rows.size:
            keep(rows, block)

    for_blocks(check, shape[0], step, thread_count(threads), progress, "read")
    _check_longest(float(longest.max()), embeddings, metric)
    return vectors


def prepare_read(
    reader: RowReader, metric: Metric, engine: Engine, store: PartStore, *,
    skip: Bools | None = None, progress: Progress = silent,
) -> ReadVectors:  # fmt: skip
    """As :func:`prepare`, of rows that are read each time they are needed.

    Tasks of `engine` check spans of rows; parts ``checked`` of `store` are what they found.
    """
    check_form(reader, metric)
    vectors, (n, d) = ReadVectors(reader, metric), reader.shape
    spans = spans_of(n, d)
    work = partial(_check_span, reader, metric, skip, store)
    for_spans(engine, store, work, spans, "checked", progress, "read")
    found = [store.whole("checked", number) for number in range(len(spans))]
    _check_longest(max(float(one["longest"][0]) for one in found), reader, metric)
    vectors.largest = max(float(one["largest"][0]) for one in found)
    return vectors


class Span(NamedTuple):
    """The rows start … stop, for one task."""

    number: int
    start: int
    stop: int

    def blocks(self, d: int) -> Iterator[tuple[int, int]]:
        """Runs of its rows, of d columns, that are in memory at a time."""
        step = block_rows(d)
        for start in range(self.start, self.stop, step):
            yield start, min(start + step, self.stop)


def spans_of(n: int, d: int, blocks: int = 1) -> list[Span]:
    """Spans of n rows with d columns, each of `blocks` blocks; of more if n is very large."""
    step = blocks * block_rows(d)
    step *= -(-n // (step * _MOST_SPANS))
    starts = range(0, n, step)
    return [Span(at, start, min(start + step, n)) for at, start in enumerate(starts)]


def for_spans(
    engine: Engine, store: PartStore, work: Callable[[Span], object], spans: list[Span],
    makes: str, progress: Progress, stage: str,
) -> None:  # fmt: skip
    """Do a task for each span whose part `makes` is not there; progress counts rows."""
    still = [span for span in spans if not store.has(makes, span.number)]
    n = spans[-1].stop
    done = n - sum(span.stop - span.start for span in still)

    def ended(span: Span) -> None:
        nonlocal done
        done += span.stop - span.start
        progress(stage, done, n)

    engine.each(work, still, ended)


def _check_span(
    reader: RowReader, metric: Metric, skip: Bools | None, store: PartStore, span: Span
) -> None:  # fmt: skip
    """Store the largest length and the largest absolute value of the rows of a span."""
    longest = largest = 0.0
    for start, stop in span.blocks(reader.shape[1]):
        rows, block, length = _checked(reader.read(start, stop), start, metric, skip)
        longest = max(longest, length)
        if rows.size:
            largest = max(largest, float(max(block.max(), -block.min())))
    store.put("checked", span.number, longest=np.array([longest]), largest=np.array([largest]))


def _checked(
    block: Floats, start: int, metric: Metric, skip: Bools | None
) -> tuple[Int64, Floats, float]:  # fmt: skip
    """Check the rows of a block of embeddings; returns those looked at, as vectors, and a length.

    `start` is the first row. The length is that of the longest row.
    """
    if block.dtype.newbyteorder("=") == np.float16:
        from d2cli.runtime.floats.halves import widened  # noqa: PLC0415, loads the compiler

        block = widened(block)
    rows = np.arange(start, start + len(block))
    if skip is not None and skip[start : start + len(block)].any():
        looked = ~skip[start : start + len(block)]
        block, rows = block[looked], rows[looked]
        if not rows.size:
            return rows, block, 0.0
    norms = _norms(block)
    if metric == "cosine":
        block, norms = _near_one(block, norms)
    _check_finite(block, norms, rows)
    longest = float(norms.max() or np.abs(block).max())
    if metric == "cosine":
        if not norms.all():
            row = int(rows[np.argmin(norms)])
            raise _Unusable(_ZERO, "drop it, or use --metric euclidean", row=row)
        block = block / norms[:, None]
    return rows, block, longest


def _check_longest(longest: float, embeddings: Floats | RowReader, metric: Metric) -> None:
    """Refuse vectors if all are too short; `longest` is the largest length."""
    half = embeddings.dtype.newbyteorder("=") == np.float16
    if 0 < longest < _SMALLEST_NORM and metric != "cosine" and not half:
        wrong = f"no vector is longer than {longest:.3g}: float32 cannot hold the distances"
        raise _Unusable(wrong, "scale the embeddings up")


def check_form(embeddings: Floats | RowReader, metric: Metric) -> None:
    """Refuse another metric, and what is no matrix of floats with rows and columns."""
    check_choice("metric", metric, Metric)
    if len(embeddings.shape) != 2:
        raise _Unusable(f"embeddings must be two-dimensional, (n, d), not {embeddings.shape}")
    if embeddings.dtype.newbyteorder("=") not in (np.float16, np.float32, np.float64):
        wrong = f"embeddings must be float16, float32 or float64, not {embeddings.dtype}"
        raise _Unusable(wrong, _conversion(embeddings.dtype))
    n, d = embeddings.shape
    if n == 0:
        raise _Unusable("there are no rows")
    if n > MAX_ROWS:
        raise _Unusable(f"{n:,} rows are more than {MAX_ROWS:,}")
    if d == 0:
        raise _Unusable("embeddings have no columns")


def _conversion(dtype: np.dtype) -> str:
    """How to make floats of another type, without a guess at what its bits mean."""
    numbers = "array.astype('float32')"
    if dtype in (np.uint8, np.int8):
        return f"numbers: {numbers}; packed bits: numpy.unpackbits(array.view('uint8'), axis=1)"
    if dtype == np.uint16:
        return (
            f"numbers: {numbers}; bits of bfloat16: "
            "array.view(ml_dtypes.bfloat16).astype('float32')"
        )
    return f"convert them: {numbers}"


def _near_one(
    block: Floats, norms: NDArray[np.float64]
) -> tuple[Floats, NDArray[np.float64]]:  # fmt: skip
    """Rows, and their lengths, whose squares fit float64 well.

    If they do not, each row is divided by a power of two, which keeps its direction without
    rounding.
    """
    odd = ~((norms > 1e-30) & (norms < 1e30))
    if not odd.any():
        return block, norms
    block = block.astype(np.float64)
    largest = np.abs(block[odd]).max(axis=1)
    largest[~np.isfinite(largest)] = 1.0
    block[odd] = np.ldexp(block[odd], -np.frexp(largest)[1][:, None])
    return block, _norms(block)


def _unit(block: Floats, norms: NDArray[np.float64]) -> Floats:
    """Rows scaled to unit length."""
    block, norms = _near_one(block, norms)
    return block / norms[:, None]


def _norms(block: Floats) -> NDArray[np.float64]:
    """Lengths of the rows, float64. That of a row does not depend on the rows around it."""
    with np.errstate(over="ignore", invalid="ignore"):
        wide = block.astype(np.float64, order="C", copy=False)
        return np.sqrt(np.einsum("ij,ij->i", wide, wide))


def unusable_rows(block: NDArray[Any], metric: Metric) -> NDArray[np.bool_]:
    """(m,) bool, the rows of `block` (m, d) that :func:`prepare` refuses for themselves."""
    norms = _norms(block)
    bad = ~(norms <= _LARGEST_NORM)
    if metric == "cosine":
        bad = ~np.isfinite(block).all(axis=1) | ~block.any(axis=1)
    return bad


def fault_of(vector: NDArray[Any], metric: Metric) -> str:
    """What is wrong with one of :func:`unusable_rows`, (d,)."""
    finite = np.isfinite(vector)
    if not finite.all():
        column = int(np.argmin(finite))
        return f"column {column} is {vector[column]}"
    return _ZERO if metric == "cosine" else _LONG


def _check_finite(block: Floats, norms: NDArray[np.float64], rows: Int64) -> None:
    """Refuse a value that is not finite and a row that is too long; `rows` are their numbers."""
    if np.isfinite(norms).all() and norms.max() <= _LARGEST_NORM:
        return
    finite = np.isfinite(block)
    if not finite.all():
        row, column = divmod(int(np.argmin(finite)), finite.shape[1])
        raise _Unusable(f"column {column} is {block[row, column]}", row=int(rows[row]))
    row = int(rows[np.argmax(~(norms <= _LARGEST_NORM))])
    raise _Unusable(_LONG, "scale the embeddings down", row=row)


def power_of_two_scale(threads: int, *groups: Group) -> float:
    """A power of two that scales the largest value of the groups near 1; usually 1.

    Squares in float32 overflow for values of 1e20 and underflow for 1e-25, so searches screen
    scaled blocks. Scaling by a power of two rounds nothing. Final distances use unscaled vectors.
    """
    largest = max(_largest(group, threads) for group in groups)
    exponent = int(np.frexp(largest)[1])
    if largest == 0.0 or abs(exponent) <= 24:  # squares can be summed in float32
        return 1.0
    return float(2.0 ** -np.clip(exponent, -120, 120))  # fits float32; denormals stay small


def _largest(group: Group, threads: int) -> float:
    if isinstance(group.vectors, ReadVectors) and group.rows is None:
        return group.vectors.largest
    n, step = len(group), block_rows(group.vectors.shape[1])
    largest = np.zeros(-(-n // step))

    def look(start: int, stop: int) -> None:
        block = group.block(start, stop)
        largest[start // step] = max(block.max(), -block.min())

    for_blocks(look, n, step, threads)
    return float(largest.max())
