"""Memory fetched before it is needed: what lies anywhere is waited for together, not one by one."""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from d2cli.runtime.jit import borrowing_kernel

#: What memory is fetched in, in bytes.
_CACHE_LINE = 64


def _asking(locality):
    """Code that asks for the memory at an address; nothing waits for it, and nothing else happens.

    `locality` is LLVM's: 3 to keep what is fetched, 0 to use it once, so that it displaces little.
    """

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag])
        # Without a suffix for the pointer's type: LLVM adds what its version calls it.
        ask = builder.module.declare_intrinsic("llvm.prefetch", (), kind)
        for_reading, data = flag(0), flag(1)
        builder.call(ask, [pointer, for_reading, flag(locality), data])
        return context.get_dummy_value()

    return numba.types.void(numba.types.intp), generate


@intrinsic
def _prefetch_at(typing, address):
    return _asking(3)


@intrinsic
def _prefetch_once_at(typing, address):
    return _asking(0)


def _prefetch(array, i):
    """Have the memory from ``array[i]`` on, one line of it, fetched while something else is done.

    `i` need not be within the array: what is not there is not fetched.
    """
    _prefetch_at(np.intp(array.ctypes.data) + i * array.strides[0])  # type: ignore[call-arg]


def _prefetch_once(array, i):
    """The same for memory that is used once."""
    _prefetch_once_at(np.intp(array.ctypes.data) + i * array.strides[0])  # type: ignore[call-arg]


def _prefetch_row(array, i):
    """Likewise ``array[i]``, a row of a C-contiguous array; where it begins within a line of memory
    its end is not fetched.
    """
    first = np.intp(array.ctypes.data) + i * array.strides[0]
    for offset in range(0, array.shape[1] * array.itemsize, _CACHE_LINE):
        _prefetch_at(first + offset)  # type: ignore[call-arg]


def _fetch_nothing(array, i):
    """What stands for them where nothing is compiled."""


if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
    prefetch = prefetch_once = prefetch_row = _fetch_nothing
else:
    prefetch, prefetch_once = borrowing_kernel(_prefetch), borrowing_kernel(_prefetch_once)
    prefetch_row = borrowing_kernel(_prefetch_row)
