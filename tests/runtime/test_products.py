"""Matrix products."""

import numpy as np

from d2cli.runtime.floats.products import one_thread_per_product, product


def test_product_warns_of_nothing():
    """Unused lanes of the library may set the same flags as an overflow."""
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(5, 3)).astype("f4"), rng.normal(size=(3, 2)).astype("f4")
    plain = [[sum(float(x) * float(y) for x, y in zip(r, c, strict=True)) for c in right.T]
             for r in left]  # fmt: skip
    out = np.empty((5, 2), np.float32)
    with one_thread_per_product():
        assert product(left, right, out=out) is out
    np.testing.assert_allclose(out, plain, rtol=1e-5)
    large = np.full((2, 2), 1e38, np.float32)
    assert np.isinf(product(large, large)).all()  # a warning would be an error
