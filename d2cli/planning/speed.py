"""How fast this machine is, from a glance: a small matrix product and a little scattered reading.

All costs refer to a reference machine: one core of an AMD EPYC (Zen 3 or so) under OpenBLAS.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

#: What :func:`measure` found there: flop/s of the product, numbers read a second.
REFERENCE_PRODUCTS, REFERENCE_READING = 75e9, 250e6
_ROWS, _COLUMNS, _INNER = 512, 2048, 128
_READ_FROM, _READ = 1 << 21, 1 << 20
#: Seconds that each of the two looks takes: long enough to see how busy the machine is.
_LOOK = 0.3


@dataclass(frozen=True)
class Speed:
    """What one thread does in a second of a core, and how much of a core it gets.

    Attributes:
        products: flop/s of float32 matrix products.
        steps: everything else, as a multiple of the reference machine's speed.
        alone: the share of a core, 0 … 1, that one thread gets.
        shared: the share that each of all threads gets while all of them work.
    """

    products: float = REFERENCE_PRODUCTS
    steps: float = 1.0
    alone: float = 1.0
    shared: float = 1.0

    def core_seconds(self, flops: float, steps: float) -> float:
        """Seconds that one core, if it did nothing else, would take for that much work."""
        return flops / self.products + steps / self.steps

    def seconds(self, flops: float, steps: float, threads: int) -> float:
        """Seconds that go by while so many threads share that much work."""
        share = self.alone if threads == 1 else threads * self.shared
        return self.core_seconds(flops, steps) / share


def measure(threads: int) -> Speed:
    """Look at the machine for about half a second; what else it does just now counts."""
    with threadpool_limits(1):
        product, reading, alone = _look()
        shared = alone
        if threads > 1:
            with ThreadPoolExecutor(threads) as pool:
                looks = list(pool.map(lambda _: _look(), range(threads)))
            product, reading, shared = (float(np.mean(each)) for each in zip(*looks, strict=True))
    products = 2.0 * _ROWS * _COLUMNS * _INNER / product
    return Speed(
        products,
        # What is neither lies between the two.
        math.sqrt(_READ / reading / REFERENCE_READING * products / REFERENCE_PRODUCTS),
        alone,
        shared,
    )


def _look() -> tuple[float, float, float]:
    """Core seconds of one product and of one round of reading, and the share of a core."""
    left = np.full((_ROWS, _INNER), 0.5, np.float32)
    right = np.full((_COLUMNS, _INNER), 0.5, np.float32)
    out = np.empty((_ROWS, _COLUMNS), np.float32)
    numbers = np.zeros(_READ_FROM, np.float32)
    # An odd multiplier leads all over the array.
    places = (np.arange(_READ, dtype=np.int64) * 1_299_709) % _READ_FROM
    taken = np.empty(_READ, np.float32)
    rounds: list[tuple[float, float]] = []
    began, began_core = time.perf_counter(), time.thread_time()
    while time.perf_counter() - began < _LOOK:
        rounds.append(_round(left, right, out, numbers, places, taken))
    busy = (time.thread_time() - began_core) / (time.perf_counter() - began)
    product, reading = (float(np.median(times)) for times in zip(*rounds, strict=True))
    return product, reading, min(busy, 1.0)


def _round(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    out: NDArray[np.float32],
    numbers: NDArray[np.float32],
    places: NDArray[np.int64],
    taken: NDArray[np.float32],
) -> tuple[float, float]:
    start = time.thread_time()
    np.matmul(left, right.T, out=out)
    middle = time.thread_time()
    np.take(numbers, places, out=taken, mode="clip")
    return middle - start, time.thread_time() - middle
