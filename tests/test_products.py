"""Matrix products."""

import numpy as np

from d2cli.runtime.products import one_thread_per_product, product


def test_a_product_is_a_product_and_says_nothing():
    """What the library computes beyond the end sets the same flags as these overflows."""
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(5, 3)).astype("f4"), rng.normal(size=(3, 2)).astype("f4")
    plain = [[sum(float(x) * float(y) for x, y in zip(r, c, strict=True)) for c in right.T]
             for r in left]  # fmt: skip
    room = np.empty((5, 2), np.float32)
    with one_thread_per_product():
        assert product(left, right, out=room) is room
    np.testing.assert_allclose(room, plain, rtol=1e-5)
    large = np.full((2, 2), 1e38, np.float32)
    assert np.isinf(product(large, large)).all()  # a warning would be an error
