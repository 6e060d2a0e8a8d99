"""The small CNN of sample_data/make_sample.py with half the channels, three times as fast.

It is written for one core and has the same layers. Half the channels need a quarter of the
multiplications. One kernel convolves and pools the first block without storing the channels of
every pixel. Dropout draws random bytes.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from make_sample import CLASS_NAMES, EMBEDDING_SIZE  # cnn.py adds its folder to sys.path
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["HalfCnn"]

CHANNELS = 16, 32


@numba.njit(fastmath=True)
def _forward(padded, weight, bias, out, where):
    """Write the maximum of the four values of each window, and its position."""
    n, height, width, channels = out.shape
    four = np.empty((4, channels), np.float32)
    for i in range(n):
        for y in range(height):
            for x in range(width):
                for a in range(4):
                    r, q = 2 * y + (a >> 1), 2 * x + (a & 1)
                    p0, p1, p2 = padded[i, r, q], padded[i, r, q + 1], padded[i, r, q + 2]
                    r += 1
                    p3, p4, p5 = padded[i, r, q], padded[i, r, q + 1], padded[i, r, q + 2]
                    r += 1
                    p6, p7, p8 = padded[i, r, q], padded[i, r, q + 1], padded[i, r, q + 2]
                    for c in range(channels):
                        four[a, c] = (
                            bias[c]
                            + p0 * weight[0, c] + p1 * weight[1, c] + p2 * weight[2, c]
                            + p3 * weight[3, c] + p4 * weight[4, c] + p5 * weight[5, c]
                            + p6 * weight[6, c] + p7 * weight[7, c] + p8 * weight[8, c]
                        )  # fmt: skip
                for c in range(channels):
                    best, at = four[0, c], np.uint8(0)
                    if four[1, c] > best:
                        best, at = four[1, c], np.uint8(1)
                    if four[2, c] > best:
                        best, at = four[2, c], np.uint8(2)
                    if four[3, c] > best:
                        best, at = four[3, c], np.uint8(3)
                    out[i, y, x, c] = best
                    where[i, y, x, c] = at


@numba.njit(fastmath=True)
def _backward(padded, gradient, where, weight_gradient, bias_gradient):
    """Add the gradients; each window passes its gradient to its maximum."""
    n, height, width, channels = gradient.shape
    sent = np.empty(channels, np.float32)
    for i in range(n):
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    bias_gradient[c] += gradient[i, y, x, c]
                for a in range(4):
                    for c in range(channels):
                        taken = where[i, y, x, c] == a
                        sent[c] = gradient[i, y, x, c] if taken else np.float32(0)
                    for k in range(9):
                        pixel = padded[i, 2 * y + (a >> 1) + k // 3, 2 * x + (a & 1) + k % 3]
                        for c in range(channels):
                            weight_gradient[k, c] += pixel * sent[c]


class _ConvolveAndPool(torch.autograd.Function):
    """3 × 3 convolution of one channel, then 2 × 2 max pooling; channels last."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        n, _, height, width = images.shape
        channels = len(weight)
        padded = np.zeros((n, height + 2, width + 2), np.float32)
        padded[:, 1:-1, 1:-1] = images[:, 0].numpy()
        out = np.empty((n, height // 2, width // 2, channels), np.float32)
        where = np.empty(out.shape, np.uint8)
        by_place = np.ascontiguousarray(weight.detach().reshape(channels, 9).T.numpy())
        _forward(padded, by_place, bias.detach().numpy(), out, where)
        ctx.seen = padded, where
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        padded, where = ctx.seen
        gradient = gradients[0].permute(0, 2, 3, 1).contiguous().numpy()
        channels = gradient.shape[3]
        of_weight, of_bias = np.zeros((9, channels), np.float32), np.zeros(channels, np.float32)
        _backward(padded, gradient, where, of_weight, of_bias)
        back = torch.from_numpy(np.ascontiguousarray(of_weight.T)).reshape(channels, 1, 3, 3)
        return None, back, torch.from_numpy(of_bias)


class HalfCnn(nn.Module):
    """Two convolution blocks and a hidden layer, the embedding. `seed` is the seed of dropout."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        first, second = CHANNELS
        self.first = nn.Conv2d(1, first, 3, padding=1)
        self.first_norm = nn.BatchNorm2d(first)
        self.second = nn.Conv2d(first, second, 3, padding=1)
        self.second_norm = nn.BatchNorm2d(second)
        self.hidden = nn.Linear(second * 7 * 7, EMBEDDING_SIZE)
        self.head = nn.Linear(EMBEDDING_SIZE, len(CLASS_NAMES))
        self.to(memory_format=torch.channels_last)  # the fast layout on a CPU
        self.dropped = np.random.default_rng((seed, 3))

    def _drop(self, values: Tensor) -> Tensor:
        """Dropout with probability 1/4: bytes below 64 of 256."""
        if not self.training:
            return values
        kept = np.frombuffer(self.dropped.bytes(values.numel()), np.uint8) >= 64
        scale = torch.from_numpy(kept.astype(np.float32)).reshape(values.shape)
        return values * scale.mul_(4 / 3)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (embeddings, logits)."""
        found = _ConvolveAndPool.apply(images, self.first.weight, self.first.bias)
        found = self.second(self.first_norm(found).relu())
        found = self.second_norm(functional.max_pool2d(found, 2)).relu()
        embeddings = self.hidden(self._drop(found.flatten(1))).relu()
        return embeddings, self.head(self._drop(embeddings))
