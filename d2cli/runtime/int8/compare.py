"""Rows of int8 codes compared with a block of points: exact scores, and bit masks of those to keep.

A *block* holds up to `LANES` points, four dimensions of each side by side. A *row* is stored by
itself, as code + `BIAS`. The score of a row and a point is their inner product, the same integer
with every instruction set.

`compare`, `products` and `trailing_zeros` are called by compiled kernels. Arrays are passed whole,
with the number of the block and the numbers of the rows, because views cost reference counts.
"""

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable

from d2cli.runtime.int8.emit import ADDRESS, I64, compare_function, moved, products_function
from d2cli.runtime.int8.machines import instructions
from d2cli.runtime.int8.sizes import BIAS, GROUP, LANES, NEVER, QUERIES
from d2cli.runtime.jit import kernel

_HOST = "host"  # the set that numba compiles for


@register_jitable
def plain_products(blocks, offsets, b, rows, chosen, scores):
    """The plain loop behind `products`; see there. `offsets` are not needed."""
    for q in range(QUERIES):
        for lane in range(LANES):
            scores[q, lane] = 0
        for t in range(blocks.shape[1]):
            for d in range(GROUP):
                code = np.int32(rows[chosen[q], GROUP * t + d]) - np.int32(BIAS)
                for lane in range(LANES):
                    scores[q, lane] += code * np.int32(blocks[b, t, lane, d])


def plain_compare(
    blocks, offsets, halves, bounds, b, rows, chosen, row_halves, row_bounds, scores, near, far
):
    """The plain loop behind `compare`; see there."""
    plain_products(blocks, offsets, b, rows, chosen, scores)
    found = 0
    for q in range(QUERIES):
        near[q] = far[q] = 0
        for lane in range(LANES):
            score = np.int64(scores[q, lane])
            near[q] |= np.int64(score - halves[b, lane] > row_bounds[q]) << lane
            far[q] |= np.int64(score - row_halves[q] > bounds[b, lane]) << lane
        found |= near[q] | far[q]
    return np.int64(found != 0)


def _chosen_set(context, wanted):
    return instructions(*context.codegen().magic_tuple()) if wanted is _HOST else wanted


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


def make_products(wanted=_HOST):
    """`products` with one instruction set: `wanted`, None for the plain loop, or numba's."""

    @intrinsic
    def products(typing, blocks, offsets, b, rows, chosen, scores):
        arrays = (blocks, offsets, rows, chosen, scores)
        if not _are(arrays, _BLOCKS, _TABLE, _ROWS, _NUMBERS, _TABLE):
            return None
        signature = types.void(blocks, offsets, types.intp, rows, chosen, scores)

        def generate(context, builder, signature, values):
            kind = _chosen_set(context, wanted)
            if kind is None:
                return context.compile_internal(builder, plain_products, signature, values)
            b = values[2]
            arrays = _addresses(
                context, builder, [*signature.args[:2], *signature.args[3:]],
                [*values[:2], *values[3:]],
            )  # fmt: skip
            blocks, offsets, rows, chosen, scores = arrays
            steps = _extent(builder, blocks[1], 1)
            points = _block(builder, blocks, b, builder.mul(steps, I64(LANES * GROUP)))
            function = products_function(builder.module, kind)
            builder.call(function, [
                points, _block(builder, offsets, b, I64(4 * LANES)), rows[0],
                _extent(builder, rows[1], 1), chosen[0], steps, scores[0],
            ])  # fmt: skip
            return context.get_dummy_value()

        return signature, generate

    return products


def make_compare(wanted=_HOST):
    """`compare` with one instruction set: `wanted`, None for the plain loop, or numba's."""

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
            kind = _chosen_set(context, wanted)
            if kind is None:
                return context.compile_internal(builder, plain_compare, signature, values)
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


# Without the JIT, vectors of numpy do what the instructions do.


def numpy_products(blocks, offsets, b, rows, chosen, scores):
    """The same as `products`, by numpy."""
    codes = rows[chosen].astype(np.int32) - BIAS
    points = blocks[b].astype(np.int32).transpose(1, 0, 2).reshape(LANES, -1)
    scores[:] = codes @ points.T


def numpy_compare(
    blocks, offsets, halves, bounds, b, rows, chosen, row_halves, row_bounds, scores, near, far
):
    """The same as `compare`, by numpy."""
    numpy_products(blocks, offsets, b, rows, chosen, scores)
    places = np.int64(1) << np.arange(LANES, dtype=np.int64)
    near[:] = (scores - halves[b] > row_bounds[:, None]) @ places
    far[:] = (scores - row_halves[:, None] > bounds[b]) @ places
    return int(near.any() or far.any())


def _python_trailing_zeros(mask):
    return int(mask & -mask).bit_length() - 1


compare: Any
products: Any
trailing_zeros: Any
if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    compare, products, trailing_zeros = numpy_compare, numpy_products, _python_trailing_zeros
else:
    compare, products, trailing_zeros = make_compare(), make_products(), _trailing_zeros


@kernel
def pack(codes, halves, starts, blocks, block_halves, offsets):
    """Pack rows into blocks; block b holds the rows ``starts[b]`` to ``starts[b + 1]``.

    Written are `blocks` (B, r / 4, 32, 4) int8, `block_halves` (B, 32) int32 from `halves` (n,),
    and `offsets` (B, 32) int32, which `compare` needs. Places without a row hold zero codes and
    `NEVER`.
    """
    for b in range(blocks.shape[0]):
        first, size = starts[b], starts[b + 1] - starts[b]
        for lane in range(LANES):
            total = np.int32(0)
            for t in range(blocks.shape[1]):
                for d in range(GROUP):
                    code = np.int32(0)
                    if lane < size:
                        code = np.int32(codes[first + lane, GROUP * t + d]) - np.int32(BIAS)
                    blocks[b, t, lane, d] = code
                    total += code
            offsets[b, lane] = -BIAS * total
            block_halves[b, lane] = halves[first + lane] if lane < size else NEVER
