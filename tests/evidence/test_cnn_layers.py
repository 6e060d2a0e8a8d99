"""The fast layers of the evidence's CNN equal torch's. Skipped without torch."""

import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
EVIDENCE = Path(__file__).parents[2] / "evidence"


@pytest.fixture(scope="module")
def layers():
    found = [str(EVIDENCE), str(EVIDENCE.parent / "sample_data")]
    sys.path[:0] = found
    try:
        import layers
    finally:
        del sys.path[: len(found)]
    return layers


def test_convolution_and_pooling_equal_torch(layers):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(5, 1, 12, 8, generator=generator)
    plain = torch.nn.Conv2d(1, 6, 3, padding=1)
    parameters = [plain.weight, plain.bias]
    expected = torch.nn.functional.max_pool2d(plain(images), 2)
    found = layers._ConvolveAndPool.apply(images, *parameters)
    assert torch.allclose(found, expected, atol=1e-6)
    back = torch.randn(expected.shape, generator=generator)
    for a, b in zip(
        torch.autograd.grad(found, parameters, back),
        torch.autograd.grad(expected, parameters, back),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-4)


def test_dropout_of_a_quarter(layers):
    model = layers.HalfCnn(3)
    ones = torch.ones(300, 300)
    assert model.eval()._drop(ones) is ones
    dropped = model.train()._drop(ones)
    assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)
