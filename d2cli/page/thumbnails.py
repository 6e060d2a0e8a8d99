"""Thumbnails as ``data:`` addresses."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Longest side in pixels; larger images are scaled down.
LONGEST = 96
#: Up to this longest side, an image is stored as PNG and its pixels are shown as squares.
_TINY = 48


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a ``data:`` address, and its size in pixels."""

    uri: str
    width: int
    height: int

    @property
    def tiny(self) -> bool:
        """Whether pixels are shown as squares."""
        return max(self.width, self.height) <= _TINY


def thumbnail(pixels: NDArray[np.uint8]) -> Thumbnail:
    """Encode (height, width) grey or (height, width, 3) colour pixels in a few kilobytes."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    buffer, kind = BytesIO(), "png" if max(image.size) <= _TINY else "jpeg"
    image.save(buffer, kind, quality=82, optimize=True)  # the quality is that of JPEG
    data = b64encode(buffer.getvalue()).decode("ascii")
    return Thumbnail(f"data:image/{kind};base64,{data}", *image.size)
