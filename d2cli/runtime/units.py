"""Sizes of memory, and numbers of threads, as text."""

import re

from d2cli.errors import UsageError

_POWERS = {
    **{unit: 1000**power for power, unit in enumerate(("b", "kb", "mb", "gb", "tb"))},
    **{unit: 1024**power for power, unit in enumerate(("kib", "mib", "gib", "tib"), start=1)},
}
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*", re.ASCII)


def parse_size(text: str, option: str) -> int:
    """Bytes from ``8GiB`` (units of 1024), ``8GB`` (units of 1000) or a plain number above 0.

    Raises:
        UsageError: for anything else.
    """
    match = _SIZE.fullmatch(text.lower())
    unit = _POWERS.get(match[2] or "b") if match else None
    size = round(float(match[1]) * unit) if match and unit else 0
    if not 0 < size < 1 << 62:
        form = "a size such as 8GiB, 8GB, 500MiB or a number of bytes"
        raise UsageError(f"--{option} must be {form}, not {text!r}")
    return size


def binary(size: float) -> str:
    """Bytes as text with about three digits: ``215 MiB``, ``1.23 GiB``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    power = 0
    while size >= 1000 and power < len(units) - 1:
        size /= 1024
        power += 1
    figures = f"{size:,.0f}" if power == 0 or size >= 100 else f"{size:.3g}"
    return f"{figures} {units[power]}"


def several(count: int, noun: str) -> str:
    """A count and its noun: ``2 nodes``."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
