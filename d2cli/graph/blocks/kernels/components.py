"""Connected components: each element leads to a lower one, the lowest of a component to itself."""

from collections.abc import Iterator

import numpy as np

from d2cli.runtime.arrays import Int64
from d2cli.runtime.jit import borrowing_kernel


@borrowing_kernel
def unite(labels, one, other):
    """Join the components of two elements; `labels` (n,) is changed."""
    while labels[one] != one:
        one = labels[one]
    while labels[other] != other:
        other = labels[other]
    labels[max(one, other)] = min(one, other)


@borrowing_kernel
def flatten(labels):
    """Let each element lead to the lowest of its component."""
    for a in range(labels.shape[0]):  # lower elements have been led to the lowest already
        labels[a] = labels[labels[a]]


def runs(labels: Int64) -> Iterator[Int64]:
    """The places of each label, ascending; labels ascend."""
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order])) + 1
    yield from (part for part in np.split(order, starts) if part.size)
