"""Matrix products that warn of nothing and run on one thread each."""

from contextlib import AbstractContextManager
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

Number = TypeVar("Number", np.float32, np.float64)
_libraries = cache(ThreadpoolController)  # the look-up of the loaded libraries takes milliseconds


def product(
    left: NDArray[Number], right: NDArray[Number], out: NDArray[Number] | None = None
) -> NDArray[Number]:
    """``left @ right`` for finite numbers with finite products, without warnings.

    The library computes whole vectors; unused lanes may set the processor's flags (numpy issue
    24067, OpenMathLib/OpenBLAS issue 1924).
    """
    with np.errstate(all="ignore"):
        return np.matmul(left, right, out=out)


def one_thread_per_product() -> AbstractContextManager[object]:
    """A context in which the sums of a product do not depend on the number of threads."""
    return _libraries().limit(limits=1, user_api="blas")
