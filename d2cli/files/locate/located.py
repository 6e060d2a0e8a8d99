"""A file that an argument names, and what is known of it besides its path."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Located:
    """One file of an input.

    Attributes:
        path: the file.
        by_name: whether the argument is this file, and neither a folder nor a glob.
        partition: (name, value) of each folder ``name=value`` on the way to the file; the value is
            None for ``__HIVE_DEFAULT_PARTITION__``.
    """

    path: Path
    by_name: bool = False
    partition: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class Found:
    """The files that an argument names, in order, and notices about files that are left out."""

    files: list[Located]
    notices: list[str] = field(default_factory=list)
