"""Standard streams: closed, full, or of an encoding that cannot show every character.

Text for people is shown as well as the encoding allows: × becomes x, … becomes ..., and characters
without a plain form become escapes. Data is never altered: it is written as UTF-8 in any case.
"""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import IO, Any

from d2cli.errors import OutputError

#: Characters of messages, pages and help, in ASCII.
_PLAIN = {
    "…": "...", "×": "x", "·": "*", "−": "-", "–": "-", "→": "->", "←": "<-", "≤": "<=", "≥": ">=",
    "≠": "!=", "≈": "~", "±": "+-", "∈": "in", "√": "sqrt ", "∞": "inf", "⌊": "floor(", "⌋": ")",
    "⌈": "ceil(", "⌉": ")", "α": "alpha", "β": "beta", "γ": "gamma", "σ": "sigma", "Σ": "sum",
    "π": "pi", "µ": "u", "“": '"', "”": '"', "‘": "'", "’": "'",
}  # fmt: skip
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻"
_PLAIN |= {high: f"^{low}" for high, low in zip(_RAISED, "0123456789-", strict=True)}
_PLAIN |= {deep: f"_{low}" for deep, low in zip("₀₁₂₃₄₅₆₇₈₉", "0123456789", strict=True)}
#: Name of the error handler of encoders that uses this table.
_HANDLER = "d2prune.plain"


def _plain(error: UnicodeError) -> tuple[str | bytes, int]:
    """An error handler: the characters that cannot be encoded, in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text, before = "", ""
    for char in error.object[error.start : error.end]:
        plain = _PLAIN.get(char) or char.encode("ascii", "backslashreplace").decode("ascii")
        # 10⁻⁹ is 10^-9: the second of two raised characters needs no mark.
        text += plain[1:] if char in _RAISED and before and before in _RAISED else plain
        before = char
    return text, error.end


codecs.register_error(_HANDLER, _plain)


def shown(text: str, stream: IO[str] | None) -> str:
    """`text` with the characters that `stream` cannot show in ASCII."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, _HANDLER).decode(encoding)


@contextmanager
def forgiving() -> Iterator[None]:
    """Let what is printed inside the block never fail for its characters."""
    changed: list[tuple[Any, str]] = []
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and stream.errors != _HANDLER:
            changed.append((stream, str(stream.errors)))
            stream.reconfigure(errors=_HANDLER)
    try:
        yield
    finally:
        for stream, errors in changed:
            if not stream.closed:
                stream.reconfigure(errors=errors)


@contextmanager
def written(stream: IO[str] | None, *, data: bool = False) -> Iterator[IO[str]]:
    r"""Write all that the block prints to standard output, `stream`; None: the shell closed it.

    With `data`, as UTF-8 with ``\n`` between lines, whatever the encoding of the stream.

    Raises:
        OutputError: if it is closed or cannot be written.
        BrokenPipeError: if its reader has gone, which is no error.
    """
    if stream is None:  # >&-
        raise OutputError("standard output is closed")
    try:
        with _as_utf8(stream) if data else nullcontext():
            yield stream
            stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: cannot be written ({error.strerror})") from None


@contextmanager
def _as_utf8(stream: Any) -> Iterator[None]:
    """Encode what the block writes to `stream` as UTF-8, and nothing else by it."""
    if not hasattr(stream, "reconfigure"):  # a stream in memory
        yield
        return
    before = stream.encoding, stream.errors
    stream.reconfigure(encoding="utf-8", errors="strict", newline="\n")
    try:
        yield
    finally:
        stream.reconfigure(encoding=before[0], errors=before[1])
