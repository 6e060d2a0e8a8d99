"""Copies of remote files: how their paths look, and what an address is."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

#: The hint where a package for remote files is missing.
INSTALL = "pip install 'd2prune[remote]'"
#: scheme://…, also chained as fsspec does: simplecache::s3://… Windows paths have one letter.
_ADDRESS = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+://.+", re.DOTALL)


def is_address(text: object) -> bool:
    """Whether a text is the address of a remote file or folder."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


def without_scheme(argument: str) -> str:
    """A path for the address of a local file, ``file:///home/me/emb.npy``."""
    found = re.fullmatch(r"(?:file|local):/{2}(?:localhost)?(/.*)", argument, re.DOTALL)
    return found[1] if found else argument


class CopyPath(type(Path())):  # type: ignore[misc]  # PosixPath or WindowsPath
    """The path of a copy on this machine. It opens the copy, and is shown as the address.

    Attributes:
        address: of the remote file; None for paths made from this one.
        owner: what removes the copy when it is no longer used.
    """

    address: str | None = None
    owner: Any = None

    @classmethod
    def of(cls, copy: Path, address: str, owner: object) -> CopyPath:
        """The path of a `copy` of the file at `address`, which `owner` removes."""
        path = cls(copy)
        path.address, path.owner = address, owner
        return path

    def __str__(self) -> str:
        return self.address or super().__str__()

    def __fspath__(self) -> str:
        return super().__str__()

    def beside(self, ending: str) -> CopyPath:
        """The path of the copy of the file whose address has this ending more."""
        beside = Path(os.fspath(self) + ending)
        return type(self).of(beside, f"{self}{ending}", self.owner)


def not_installed(place: str, does: str, error: ImportError) -> str:
    """What is said if a package is missing that `does` something with remote files: ``reads``."""
    package = f" ({error.name})" if error.name else ""
    return f"{place}: a package that {does} remote files is not installed{package}"
