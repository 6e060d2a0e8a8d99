"""Standard output as a place that data is written to: it may be closed, or full."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from d2cli.errors import OutputError


@contextmanager
def written(stream: IO[str] | None) -> Iterator[IO[str]]:
    """Write all that the block prints to standard output, `stream`; None: the shell closed it.

    Raises:
        OutputError: if it is closed or cannot be written.
        BrokenPipeError: if its reader has gone, which is no error.
    """
    if stream is None:  # >&-
        raise OutputError("standard output is closed")
    try:
        yield stream
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"standard output: cannot be written ({error.strerror})") from None
