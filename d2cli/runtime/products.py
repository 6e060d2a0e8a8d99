"""Matrix products as we need them: of finite numbers, on one thread each."""

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
    """``left @ right`` of numbers that are finite and whose products are.

    The library multiplies in whole vectors and drops what lies beyond the end; whatever is there
    may set the processor's flags (OpenMathLib/OpenBLAS issue 1924, numpy issue 24067), and NumPy
    would warn of results that nobody sees.
    """
    with np.errstate(all="ignore"):
        return np.matmul(left, right, out=out)


def one_thread_per_product() -> AbstractContextManager[object]:
    """Within it each matrix product runs on one thread: the threads are ours.

    So a product's sums do not depend on how many threads there are.
    """
    return _libraries().limit(limits=1, user_api="blas")


@cache
def _libraries() -> ThreadpoolController:
    """What is loaded; looking takes milliseconds, and NumPy's library is there from the start."""
    return ThreadpoolController()
