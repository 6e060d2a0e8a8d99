"""Matrix products that warn of nothing and run on one thread each."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Number = TypeVar("Number", np.float32, np.float64)


def product(
    left: NDArray[Number], right: NDArray[Number], out: NDArray[Number] | None = None
) -> NDArray[Number]:
    """``left @ right`` for finite numbers with finite products.

    Floating-point warnings are off: the library computes whole vectors and drops the lanes beyond
    the end, which may still set the processor's flags (OpenMathLib/OpenBLAS issue 1924, numpy issue
    24067).
    """
    with np.errstate(all="ignore"):
        return np.matmul(left, right, out=out)


def one_thread_per_product() -> AbstractContextManager[object]:
    """Within this context, each matrix product runs on one thread.

    The sums of a product then do not depend on the number of threads.
    """
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    """The loaded libraries, cached because the look-up takes milliseconds."""
    return ThreadpoolController()
