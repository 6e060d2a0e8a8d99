"""Numbers as options give them, and what a number that cannot be read may have meant."""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from d2cli.errors import UsageError

_THOUSANDS = re.compile(r"-?\d{1,3}([,' ]\d{3})+")
_DECIMAL_COMMA = re.compile(r"-?\d*,\d+")
_UNITS = {"k": 10**3, "m": 10**6}
#: A larger number is no number of rows, and no share of them.
_LARGEST = 10**15


def whole_number(text: str, flag: str) -> int:
    """A whole number; a UsageError with a hint for anything else."""
    try:
        return int(text)
    except ValueError:
        raise not_a_number(text, flag, "a whole number") from None


def decimal_number(text: str, flag: str) -> float:
    """A number; a UsageError with a hint for anything else."""
    try:
        return float(text)
    except ValueError:
        raise not_a_number(text, flag, "a number") from None


def not_a_number(text: str, flag: str, wanted: str) -> UsageError:
    """The error for `text` in place of `wanted`, with the number that was probably meant."""
    hint = _whole_hint(text, flag) if wanted == "a whole number" else None
    if hint is None and (meant := _meant(text)) is not None:
        hint = f"write {flag} {meant}"
    return UsageError(f"{flag} must be {wanted}, not {text!r}", hint)


def _meant(text: str) -> str | None:
    """The decimal number that a percentage, a fraction or a decimal comma stands for."""
    plain = text.strip()
    if _DECIMAL_COMMA.fullmatch(plain.rstrip("% ")):
        plain = plain.replace(",", ".")
    over = Decimal(1)
    if plain.endswith("%"):
        plain, over = plain[:-1], Decimal(100)
    elif plain.count("/") == 1:
        plain, below = plain.split("/")
        over = _decimal(below) or Decimal("nan")
    value = _decimal(plain)
    if value is None or not (found := value / over).is_finite() or abs(found) >= _LARGEST:
        return None
    return f"{round(found, 6).normalize():f}"


def _whole_hint(text: str, flag: str) -> str | None:
    """A hint for numbers of rows and the like: thousands, units, exponents, shares."""
    plain = text.strip().lower()
    if _THOUSANDS.fullmatch(plain):
        return f"write {flag} {re.sub('[^-0-9]', '', plain)}"
    value = _decimal(plain.rstrip("km")) if plain[-1:] in _UNITS else _decimal(plain)
    if value is not None and value.is_finite() and abs(value) < _LARGEST:
        count = value * _UNITS.get(plain[-1:], 1)
        if count == int(count):
            return f"write {flag} {int(count)}"
    meant = _meant(text)
    if flag == "--size" and meant is not None and 0 < float(meant) <= 1:
        return f"--size is a number of rows; as a share of all rows: --ratio {meant}"
    return None if meant is None else f"{flag} is a number of whole units"


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        return None
