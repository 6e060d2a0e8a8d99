"""float16 as float32."""

import numpy as np
import pytest

from d2cli.runtime.floats.halves import widen, widened

EVERY = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


def test_every_number_is_what_numpy_makes_of_it():
    """Zeros, denormals and infinities among them; of NaN only that it is one."""
    out, wanted = np.empty(EVERY.size, np.float32), EVERY.astype(np.float32)
    widen(EVERY, out)
    some = ~np.isnan(wanted)
    np.testing.assert_array_equal(out[some].view(np.uint32), wanted[some].view(np.uint32))
    assert np.isnan(out[~some]).all()


@pytest.mark.parametrize("dtype", ["<f2", ">f2"])
def test_any_array_is_copied(dtype):
    """Not in C order, of another byte order, empty, read-only."""
    values = EVERY[: 6 * 8].reshape(6, 8).astype(dtype)
    values.flags.writeable = False
    for array in (values, values.T, values[::2, 1::3], values[:0]):
        found = widened(array)
        assert found.dtype == np.float32
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, array)
