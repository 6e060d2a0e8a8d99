"""Sums without rounding errors."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from d2cli.runtime import arrays
from d2cli.runtime.arrays import exact_sum

FLOATS = st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20)


@given(FLOATS, st.integers(1, 9))
def test_exact_sum_equals_fractions(values, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "_BLOCK", block)
        assert exact_sum(np.array(values, np.float64)) == sum(map(Fraction, values))


def test_exact_sum_of_many_large_numbers():
    """Halves of mantissas add up to more than 32 bits."""
    values = np.full(70_000, -np.nextafter(1.0, 0.0))
    assert exact_sum(values) == 70_000 * Fraction(values[0])
