"""float16 as float32. NumPy converts each number by itself, which takes five times as long."""

import numpy as np
from numpy.typing import NDArray

from d2cli.runtime.arrays import Float32
from d2cli.runtime.jit import kernel

#: What is added to the exponent of float16 to make that of float32, at its place there.
_BIAS = np.uint32((127 - 15) << 23)
#: Bits of float16: all but the sign, the exponent, the sign.
_MAGNITUDE, _EXPONENT, _SIGN = np.uint32(0x7FFF), np.uint32(0x7C00), np.uint32(0x8000)
#: The last place of the smallest float16.
_SMALLEST = np.float32(2.0**-24)


def widen(halves: NDArray[np.float16], out: Float32) -> None:
    """``out[:] = halves``; both in C order and of one shape, `halves` in native byte order."""
    bits = np.require(halves, requirements="W")  # a kernel is compiled anew for arrays read-only
    _widen(bits.reshape(-1).view(np.uint16), out.reshape(-1).view(np.uint32))


def widened(halves: NDArray[np.float16]) -> Float32:
    """A copy of `halves`, of any byte order and strides, as float32 in C order."""
    out = np.empty(halves.shape, np.float32)
    widen(np.ascontiguousarray(halves, np.float16), out)
    return out


@kernel
def _widen(halves: NDArray[np.uint16], wide: NDArray[np.uint32]) -> None:
    """Bits of float32 `wide` (m,) uint32 <- those of `halves` (m,) uint16."""
    for i in range(halves.size):
        half = np.uint32(halves[i])
        magnitude, exponent = half & _MAGNITUDE, half & _EXPONENT
        bits = (magnitude << np.uint32(13)) + _BIAS
        if exponent == _EXPONENT:  # infinite, or NaN
            bits += _BIAS
        if exponent == np.uint32(0):  # less than 2**-14: the places behind the point alone
            bits = np.float32(np.float32(np.int32(magnitude)) * _SMALLEST).view(np.uint32)
        wide[i] = bits | (half & _SIGN) << np.uint32(16)
