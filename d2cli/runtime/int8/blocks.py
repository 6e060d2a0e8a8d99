"""Rows of int8 codes packed into blocks, as `compare` reads them."""

import numpy as np

from d2cli.runtime.int8.sizes import BIAS, GROUP, LANES, NEVER
from d2cli.runtime.jit import kernel


@kernel
def pack(codes, halves, starts, blocks, block_halves, offsets):
    """Pack rows into blocks; block b holds the rows from ``starts[b]`` up to ``starts[b + 1]``.

    `codes` (n, r) uint8 hold code + `BIAS`, `halves` (n,) int32 half square norms. Written are
    `blocks` (B, r / 4, 32, 4) int8, `block_halves` (B, 32) int32, and `offsets` (B, 32) int32,
    which `compare` needs. Places without a row hold zero codes and `NEVER`.
    """
    for b in range(blocks.shape[0]):
        first, size = starts[b], starts[b + 1] - starts[b]
        for lane in range(LANES):
            total = np.int32(0)
            for t in range(blocks.shape[1]):
                for d in range(GROUP):
                    code = np.int32(0)
                    if lane < size:
                        code = np.int32(codes[first + lane, GROUP * t + d]) - np.int32(BIAS)
                    blocks[b, t, lane, d] = code
                    total += code
            offsets[b, lane] = -BIAS * total
            block_halves[b, lane] = halves[first + lane] if lane < size else NEVER
