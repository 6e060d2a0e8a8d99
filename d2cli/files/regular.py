"""Files of the system: what may be opened, and its errors in one line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from d2cli.errors import DataError


@contextmanager
def system_errors(place: object) -> Iterator[None]:
    """Turn an OSError (no permission, a name too long) into a DataError that names the place."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{place}: {error.strerror}") from None


def check_regular(path: Path) -> None:
    """Refuse a missing file, and folders, pipes, sockets and devices."""
    with system_errors(path):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            link = f", where the link leads ({os.readlink(path)})" if path.is_symlink() else ""
            raise DataError(f"{path}: no such file or folder{link}") from None
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: is not a regular file")


def reason_of(error: BaseException, most: int = 200) -> str:
    """The first line of an error of a package, for messages: at most `most` characters."""
    return (str(error).splitlines() or [type(error).__name__])[0][:most]
