"""The files that an argument names: a path, a folder or a glob."""

from __future__ import annotations

import glob
import os
import re
from pathlib import Path

from d2cli.errors import DataError, UsageError
from d2cli.files.formats.recognise import ENDINGS, is_data_name
from d2cli.files.regular import check_regular, system_errors


def expand(arguments: list[str], option: str) -> list[Path]:
    """The files that the `arguments` of `option` name, those of each argument in natural order.

    Natural order compares numbers by value: shard 2 comes before shard 10. An argument is a path, a
    glob, or a folder, which stands for the data files directly in it; hidden files, names that
    begin with ``_`` and other endings are skipped.

    Raises:
        DataError: if an argument names no file.
        UsageError: if an argument is empty.
    """
    found: list[Path] = []
    for argument in arguments:
        if not argument:  # Path("") would be the current folder
            raise UsageError(f"--{option} is given an empty path")
        path = Path(argument)
        with system_errors(argument):
            if path.is_dir():
                files = [p for p in path.iterdir() if _is_data(p)]
                if not files:
                    says = f"the folder holds no data files for --{option}"
                    hint = f"data files end in {', '.join(sorted(ENDINGS))}"
                    raise DataError(f"{argument}: {says}", hint)
            elif not glob.has_magic(argument) or path.exists():
                files = [path]
            else:
                files = [Path(p) for p in _matches(argument) if not Path(p).is_dir()]
                if not files:
                    raise DataError(f"{argument}: no file matches this pattern")
        found.extend(sorted(files, key=natural_key))
    for file in found:
        check_regular(file)
    return found


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


def natural_key(path: Path) -> tuple[tuple[tuple[int, int | str], ...], str]:
    """A sort key that compares numbers in names by value; ties (1 and 01) by spelling."""
    pieces = re.split(r"(\d+)", str(path))
    return tuple((0, int(p)) if p.isdecimal() else (1, p) for p in pieces if p), str(path)


def _is_data(path: Path) -> bool:
    return is_data_name(path.name) and path.is_file()
