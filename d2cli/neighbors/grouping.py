"""Rows put together: by label, and by halving."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from d2cli._jit import kernel


@kernel
def by_label(labels, count):
    """Rows in the order of their labels 0 … count - 1, and where each label's rows begin.

    Labels (n,) integers. Returns (n,) int32, of equal labels the lowest row first, and
    (count + 1,) int32.
    """
    # Kept one place late while they are counted, so that filling moves them to where they belong.
    starts = np.zeros(count + 2, np.int32)
    for i in range(labels.shape[0]):
        starts[labels[i] + 2] += 1
    for c in range(count):
        starts[c + 2] += starts[c + 1]
    order = np.empty(labels.shape[0], np.int32)
    for i in range(labels.shape[0]):
        order[starts[labels[i] + 1]] = i
        starts[labels[i] + 1] += 1
    return order, starts[: count + 1]


def halved(
    points: NDArray[np.float32], members: NDArray[np.integer], most: int
) -> list[NDArray[np.integer]]:
    """`members` cut at the median of their widest coordinate, again and again, to `most` a part."""
    if len(members) <= most:
        return [members]
    mine = points[members]
    along = mine[:, np.argmax(np.ptp(mine, axis=0))]
    members = members[np.argsort(along, kind="stable")]
    middle = len(members) // 2
    return halved(points, members[:middle], most) + halved(points, members[middle:], most)
