"""Prefetching: memory at scattered places is requested before it is used."""

import numba
import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from d2cli.runtime.jit import borrowing_kernel


def _instruction(locality):
    """Signature and code generator of ``llvm.prefetch`` at an address.

    `locality` is LLVM's: 3 keeps the line in the cache, 0 is for memory used once.
    """

    def generate(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        flag = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag])
        # No type suffix: LLVM adds the one of its version.
        fetch = builder.module.declare_intrinsic("llvm.prefetch", (), kind)
        builder.call(fetch, [pointer, flag(0), flag(locality), flag(1)])  # to read; data
        return context.get_dummy_value()

    return numba.types.void(numba.types.intp), generate


@intrinsic
def _prefetch_at(typing, address):
    return _instruction(3)


@intrinsic
def _prefetch_once_at(typing, address):
    return _instruction(0)


def _kernel(function):
    """Compile a function, or replace it by one that does nothing if the JIT is disabled."""
    off = numba.config.DISABLE_JIT  # type: ignore[attr-defined]
    return (lambda array, i: None) if off else borrowing_kernel(function)


@_kernel
def prefetch(array, i):
    """Prefetch the cache line of ``array[i]``. An `i` out of range is harmless."""
    _prefetch_at(np.intp(array.ctypes.data) + i * array.strides[0])  # type: ignore[call-arg]


@_kernel
def prefetch_once(array, i):
    """The same for memory that is used only once."""
    _prefetch_once_at(np.intp(array.ctypes.data) + i * array.strides[0])  # type: ignore[call-arg]


@_kernel
def prefetch_row(array, i):
    """Prefetch ``array[i]`` of a C-contiguous array, perhaps without its last cache line."""
    first = np.intp(array.ctypes.data) + i * array.strides[0]
    for offset in range(0, array.strides[0], 64):  # a cache line
        _prefetch_at(first + offset)  # type: ignore[call-arg]
