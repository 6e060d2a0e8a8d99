"""Short names of array types, and sums without rounding errors."""

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Float32 = NDArray[np.float32]
Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt8 = NDArray[np.uint8]
Bools = NDArray[np.bool_]

_BLOCK = 1 << 16  #: numbers of one step of :func:`exact_sum`
_MANTISSA, _HALF = 53, 26  #: bits of a float64, and of the lower half of them
_LEAST = -1074  #: log2 of the smallest float64


def exact_sum(values: NDArray[np.float64]) -> Fraction:
    """The sum of (m,) finite numbers, without rounding: it does not depend on their order.

    Numbers are added up by exponent, as integers in two halves whose sums float64 holds exactly.
    """
    total = 0  # in units of 2 ** (_LEAST - _MANTISSA)
    for start in range(0, values.size, _BLOCK):
        mantissas, exponents = np.frexp(values[start : start + _BLOCK])
        whole = np.ldexp(mantissas, _MANTISSA).astype(np.int64)
        lowest = int(exponents.min())
        upper, lower = (
            np.bincount(exponents - lowest, half).astype(np.int64).tolist()
            for half in (whole >> _HALF, whole & ((1 << _HALF) - 1))
        )
        block = sum(
            ((high << _HALF) + low) << place
            for place, (high, low) in enumerate(zip(upper, lower, strict=True))
        )
        total += block << (lowest - _LEAST)
    return Fraction(total, 1 << (_MANTISSA - _LEAST))
