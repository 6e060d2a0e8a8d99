"""Folders as :mod:`d2cli.files.locate` sees them, on this machine or in a store."""

from __future__ import annotations

import glob
import json
import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

from d2cli.files.formats.arrays.zarr_stores import is_store
from d2cli.files.formats.recognise import is_data_name
from d2cli.files.regular import check_regular, system_errors

#: JSON files that describe a folder are not read if they are larger.
_JSON_MOST = 1 << 24


class Entry(NamedTuple):
    """A file or folder in a folder: its name, its path, and which of both it is."""

    name: str
    path: str
    is_folder: bool

    @property
    def is_data(self) -> bool:
        """Whether it counts as data in a folder: hidden files and other endings do not."""
        return not self.is_folder and is_data_name(self.name)

    @property
    def is_walked(self) -> bool:
        """Whether it is a folder that may hold data."""
        return self.is_folder and not self.name.startswith((".", "_"))


class Tree(ABC):
    """Lists folders. Paths are strings, as messages show them."""

    @abstractmethod
    def is_folder(self, path: str) -> bool:
        """Whether the path is a folder."""

    @abstractmethod
    def is_pattern(self, argument: str) -> bool:
        """Whether an argument is a glob, and no name of a file."""

    @abstractmethod
    def paths(self, names: list[str]) -> list[Path]:
        """The paths of files on this machine; a missing file is refused (DataError)."""

    @abstractmethod
    def entries(self, folder: str) -> list[Entry]:
        """What is directly in a folder, in natural order."""

    @abstractmethod
    def matches(self, pattern: str) -> list[Entry]:
        """The files and folders that a glob matches, in natural order."""

    @abstractmethod
    def text(self, path: str, most: int) -> str | None:
        """The content of a small file, or None if it is missing or has more than `most` bytes."""

    def json(self, path: str) -> Any:
        """The content of a small JSON file, or None if it is missing or is no JSON."""
        try:
            return json.loads(self.text(path, _JSON_MOST) or "null")
        except (ValueError, RecursionError):
            return None


class LocalTree(Tree):
    """The folders of this machine."""

    def is_folder(self, path: str) -> bool:
        return _is_folder(Path(path))

    def is_pattern(self, argument: str) -> bool:
        return glob.has_magic(argument) and not Path(argument).exists()

    def paths(self, names: list[str]) -> list[Path]:
        found = [Path(name) for name in names]
        for path in found:
            if not is_store(path):
                check_regular(path)
        return found

    def entries(self, folder: str) -> list[Entry]:
        found = []
        with system_errors(folder), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file() or entry.is_dir():
                    path = str(Path(folder, entry.name))
                    found.append(Entry(entry.name, path, _is_folder(Path(path))))
        return sorted(found, key=lambda entry: natural_key(entry.path))

    def matches(self, pattern: str) -> list[Entry]:
        found = {Path(path) for path in _matches(pattern)}
        entries = [Entry(path.name, str(path), _is_folder(path)) for path in found]
        return sorted(entries, key=lambda entry: natural_key(entry.path))

    def text(self, path: str, most: int) -> str | None:
        try:
            if not os.path.isfile(path) or os.path.getsize(path) > most:
                return None
            return Path(path).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None


def _is_folder(path: Path) -> bool:
    """Whether it is a folder of files. A zarr store is one input, whatever it consists of."""
    return path.is_dir() and not is_store(path)


def _matches(pattern: str) -> set[str]:
    """The matches of a glob. ``**`` does not follow links to folders, which can form a cycle."""
    before, deep, after = pattern.partition("**")
    if not deep or (before and not before.endswith(os.sep)) or after[:1] not in ("", os.sep):
        return set(glob.glob(pattern))
    found: set[str] = set()
    for top in glob.glob(before) if before else [""]:
        for folder, _, _ in os.walk(top or os.curdir):
            inside = os.path.join(top, os.path.relpath(folder, top or os.curdir))
            inside = "" if inside == os.curdir else os.path.normpath(inside)
            rest = after.lstrip(os.sep) or "*"
            found |= _matches(os.path.join(glob.escape(inside), rest))
    return found


def natural_key(path: object) -> tuple[tuple[tuple[int, int | str], ...], str, str]:
    """A sort key that compares numbers in names by value; ties (1 and 01) by spelling.

    The ending counts last, so that ``emb.npy`` comes before ``emb2.npy``.
    """
    stem, ending = os.path.splitext(str(path))
    pieces = [piece for piece in re.split(r"(\d+)", stem) if piece]
    numbered = tuple((0, int(p)) if p.isdecimal() else (1, p) for p in pieces)
    return numbered, ending, str(path)
