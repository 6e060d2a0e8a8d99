"""Memory fetched before it is needed: what lies anywhere is waited for together, not one by one."""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from d2cli._jit import kernel

#: What memory is fetched in, in bytes.
_CACHE_LINE = 64


@intrinsic
def _prefetch_at(typing, address):
    """Ask for the memory at an address; nothing waits for it, and nothing else happens."""

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag])
        # Without a suffix for the pointer's type: LLVM adds what its version calls it.
        ask = builder.module.declare_intrinsic("llvm.prefetch", (), kind)
        for_reading, keep_near, data = flag(0), flag(3), flag(1)
        builder.call(ask, [pointer, for_reading, keep_near, data])
        return context.get_dummy_value()

    return numba.types.void(numba.types.intp), generate


def _prefetch(array, i):
    """Have the memory from ``array[i]`` on, one line of it, fetched while something else is done.

    `i` need not be within the array: what is not there is not fetched.
    """
    _prefetch_at(np.intp(array.ctypes.data) + i * array.strides[0])  # type: ignore[call-arg]


def _prefetch_row(array, i):
    """All of ``array[i]``, a row of a C-contiguous array, likewise."""
    first = np.intp(array.ctypes.data) + i * array.strides[0]
    for offset in range(0, array.shape[1] * array.itemsize, _CACHE_LINE):
        _prefetch_at(first + offset)  # type: ignore[call-arg]


def _fetch_nothing(array, i):
    """What stands for them where nothing is compiled."""


if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    prefetch = prefetch_row = _fetch_nothing
else:
    prefetch, prefetch_row = kernel(_prefetch), kernel(_prefetch_row)
