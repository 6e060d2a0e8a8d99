"""Rows of int8 codes compared with a block of points: exact scores, and bit masks of those to keep.

A *block* holds up to `LANES` points, four dimensions of each side by side; `pack` makes blocks. A
*row* is stored by itself, as code + `BIAS`. The score of a row and a point is their inner product,
the same integer with every instruction set. Kernels call:

``differences(blocks, offsets, halves, b, rows, chosen, targets, found)``
    Write the scores of `QUERIES` rows and the points of block b, less the halves of the points:
    those of row q to ``found[targets[q]]``.
``compare(blocks, offsets, halves, bounds, b, rows, chosen, row_halves, row_bounds, scores, near,
far)``
    The same, if for any row q and point l, ``scores[q, l] - halves[b, l] > row_bounds[q]`` (bit l
    of ``near[q]``) or ``scores[q, l] - row_halves[q] > bounds[b, l]`` (bit l of ``far[q]``).
    Returns whether there is any, 1 or 0; if 0, `scores`, `near` and `far` are left as they were.
``trailing_zeros(mask)``
    The lowest bit that is set in a mask, which must not be 0.
``above(table, i, begin, bound)``
    Which of the 64 numbers ``table[i, begin : begin + 64]``, int32, are above `bound`, as a mask.
``ones(mask)``
    How many bits of a mask are set.

Arguments, all C-contiguous: `blocks` (B, r / 4, 32, 4) int8; `offsets`, `halves` and `bounds`
(B, 32) int32; the number b of a block; `rows` (n, ≥ r) uint8; `chosen` (4,) int64, numbers of rows;
`row_halves` and `row_bounds` (4,) int32; `scores` (4, 32) and `found` (any, 32) int32; `targets`
(4,) int64; `near` and `far` (4,) int64.
Halves are half square norms. Bounds are from `ALWAYS` to `NEVER`, r is at most `MOST_DIMENSIONS`,
and codes are from -127 to 127. Nothing is checked. Arrays are passed whole, with the number of the
block and the numbers of the rows, because views cost reference counts.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from d2cli.runtime.int8.emit import (
    ADDRESS,
    I64,
    compare_function,
    differences_function,
    load,
    moved,
    splat,
    vector,
)
from d2cli.runtime.int8.machines import usable
from d2cli.runtime.int8.sizes import BIAS, GROUP, LANES, MASKED


def _instructions(context, wanted):
    """`wanted`, or the fastest that numba compiles for: its cache on disk has the same key."""
    return usable(*context.codegen().magic_tuple())[0] if wanted is None else wanted


def _addresses(context, builder, kinds, values):
    """For each array: the address of its first byte and its struct."""
    found = []
    for kind, value in zip(kinds, values, strict=True):
        array = context.make_array(kind)(context, builder, value)
        found.append((builder.bitcast(array.data, ADDRESS), array))
    return found


def _extent(builder, array, axis):
    return builder.extract_value(array.shape, axis)


def _block(builder, array, b, size):
    """The address of the part of `b`, if every part has `size` bytes."""
    return moved(builder, array[0], builder.mul(b, size))


def _are(arguments, *wanted):
    """Whether types are C-contiguous arrays of some (dtype, number of axes)."""
    return all(
        isinstance(kind, types.Array) and (kind.dtype, kind.ndim, kind.layout) == (*one, "C")
        for kind, one in zip(arguments, wanted, strict=True)
    )


_BLOCKS, _TABLE, _ROWS = (types.int8, 4), (types.int32, 2), (types.uint8, 2)
_NUMBERS, _INTS = (types.int64, 1), (types.int32, 1)


def make_differences(wanted=None):
    """`differences` with the instructions `wanted`, or the fastest that numba compiles for."""

    @intrinsic
    def differences(typing, blocks, offsets, halves, b, rows, chosen, targets, found):
        arrays = (blocks, offsets, halves, rows, chosen, targets, found)
        if not _are(arrays, _BLOCKS, _TABLE, _TABLE, _ROWS, _NUMBERS, _NUMBERS, _TABLE):
            return None
        signature = types.void(
            blocks, offsets, halves, types.intp, rows, chosen, targets, found
        )  # fmt: skip

        def generate(context, builder, signature, values):
            kind = _instructions(context, wanted)
            b = values[3]
            arrays = _addresses(
                context, builder, [*signature.args[:3], *signature.args[4:]],
                [*values[:3], *values[4:]],
            )  # fmt: skip
            blocks, offsets, halves, rows, chosen, targets, found = arrays
            steps = _extent(builder, blocks[1], 1)
            points = _block(builder, blocks, b, builder.mul(steps, I64(LANES * GROUP)))
            function = differences_function(builder.module, kind)
            builder.call(function, [
                points, *[_block(builder, one, b, I64(4 * LANES)) for one in (offsets, halves)],
                rows[0], _extent(builder, rows[1], 1), chosen[0], steps, targets[0], found[0],
            ])  # fmt: skip
            return context.get_dummy_value()

        return signature, generate

    return differences


def make_compare(wanted=None):
    """`compare` with the instructions `wanted`, or the fastest that numba compiles for."""

    @intrinsic
    def compare(
        typing, blocks, offsets, halves, bounds, b, rows, chosen, row_halves, row_bounds, scores,
        near, far,
    ):  # fmt: skip
        arrays = (blocks, offsets, halves, bounds, rows, chosen, row_halves, row_bounds, scores)
        kinds = (_BLOCKS, _TABLE, _TABLE, _TABLE, _ROWS, _NUMBERS, _INTS, _INTS, _TABLE)
        if not _are((*arrays, near, far), *kinds, _NUMBERS, _NUMBERS):
            return None
        signature = types.int64(
            blocks, offsets, halves, bounds, types.intp, rows, chosen, row_halves, row_bounds,
            scores, near, far,
        )  # fmt: skip

        def generate(context, builder, signature, values):
            kind = _instructions(context, wanted)
            b = values[4]
            arrays = _addresses(
                context, builder, [*signature.args[:4], *signature.args[5:]],
                [*values[:4], *values[5:]],
            )  # fmt: skip
            blocks, rows = arrays[0], arrays[4]
            steps = _extent(builder, blocks[1], 1)
            points = _block(builder, blocks, b, builder.mul(steps, I64(LANES * GROUP)))
            function = compare_function(builder.module, kind)
            return builder.call(function, [
                points, *[_block(builder, one, b, I64(4 * LANES)) for one in arrays[1:4]],
                rows[0], _extent(builder, rows[1], 1), *[one[0] for one in arrays[5:8]], steps,
                *[one[0] for one in arrays[8:]],
            ])  # fmt: skip

        return signature, generate

    return compare


@intrinsic
def _trailing_zeros(typing, mask):
    def generate(context, builder, signature, values):
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


@intrinsic
def _ones(typing, mask):
    def generate(context, builder, signature, values):
        return builder.ctpop(values[0])

    return types.int64(types.int64), generate


@intrinsic
def _above(typing, table, i, begin, bound):
    if not _are((table,), _TABLE):
        return None
    signature = types.int64(table, types.intp, types.intp, types.int32)

    def generate(context, builder, signature, values):
        _, i, begin, bound = values
        array = _addresses(context, builder, signature.args[:1], values[:1])[0]
        place = builder.add(builder.mul(i, _extent(builder, array[1], 1)), begin)
        address = moved(builder, array[0], builder.mul(place, I64(4)))
        numbers = load(builder, address, vector(MASKED))
        over = builder.icmp_signed(">", numbers, splat(builder, bound, MASKED))
        return builder.bitcast(over, I64)

    return signature, generate


# Without the JIT, vectors of numpy do what the instructions do.


def _numpy_scores(blocks, b, rows, chosen):
    codes = rows[chosen].astype(np.int32) - BIAS
    points = blocks[b].astype(np.int32).transpose(1, 0, 2).reshape(LANES, -1)
    return codes[:, : points.shape[1]] @ points.T


def numpy_differences(blocks, offsets, halves, b, rows, chosen, targets, found):
    """The same as `differences`, by numpy."""
    found[targets] = _numpy_scores(blocks, b, rows, chosen) - halves[b]


def numpy_compare(
    blocks, offsets, halves, bounds, b, rows, chosen, row_halves, row_bounds, scores, near, far
):
    """The same as `compare`, by numpy."""
    found = _numpy_scores(blocks, b, rows, chosen)
    is_near = found - halves[b] > row_bounds[:, None]
    is_far = found - row_halves[:, None] > bounds[b]
    if not (is_near.any() or is_far.any()):
        return 0
    places = np.int64(1) << np.arange(LANES, dtype=np.int64)
    scores[:], near[:], far[:] = found, is_near @ places, is_far @ places
    return 1


def _python_trailing_zeros(mask):
    return int(mask & -mask).bit_length() - 1


def _python_ones(mask):
    return (int(mask) & (2**MASKED - 1)).bit_count()


def _numpy_above(table, i, begin, bound):
    over = np.packbits(table[i, begin : begin + MASKED] > bound, bitorder="little")
    return int(over.view(np.uint64)[0])  # without a sign, so that no sum overflows


above: Any
compare: Any
differences: Any
ones: Any
trailing_zeros: Any
if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    compare, differences = numpy_compare, numpy_differences
    above, ones, trailing_zeros = _numpy_above, _python_ones, _python_trailing_zeros
else:
    compare, differences = make_compare(), make_differences()
    above, ones, trailing_zeros = _above, _ones, _trailing_zeros
