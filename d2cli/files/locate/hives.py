"""Hive folders: ``centroid=3/`` holds the rows whose column `centroid` is 3."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath
from urllib.parse import unquote

from d2cli.errors import DataError
from d2cli.files.formats.composed import ConstantField
from d2cli.files.formats.fields import Field
from d2cli.files.locate.located import Located
from d2cli.files.locate.survey import Survey
from d2cli.files.locate.tree import Entry

#: The folder name of a null.
_NULL = "__HIVE_DEFAULT_PARTITION__"
#: An integer; 007 is a name.
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


def is_hive(folder: Entry) -> bool:
    """Whether a folder is named ``name=value``."""
    return folder.is_walked and folder.name.find("=") > 0


def hive_files(survey: Survey, folder: str) -> list[Entry]:
    """The data files below a folder that has hive folders, in natural order of the folders.

    Raises:
        DataError: if a folder has both data files and hive folders.
    """
    entries = survey.tree.entries(folder)
    files = survey.data(entries)
    hives = [entry for entry in entries if is_hive(entry)]
    if files and hives:
        raise DataError(
            f"{folder}: has data files ({files[0].name}) beside hive folders ({hives[0].name})",
            "give one of them, for example the hive folders alone: "
            f"'{folder}/{hives[0].name.partition('=')[0]}=*'",
        )
    return files + [file for hive in hives for file in hive_files(survey, hive.path)]


def partition_of(path: str) -> tuple[tuple[str, str | None], ...]:
    """(name, value) of each folder ``name=value`` of a path. Spark writes ``%`` codes in both."""
    found = []
    for part in PurePath(path).parts[:-1]:
        name, equals, value = part.partition("=")
        if name and equals:
            found.append((unquote(name), None if value == _NULL else unquote(value)))
    return tuple(found)


def integer_names(files: Iterable[Located]) -> set[str]:
    """The names of partitions whose values are integers in all files; nulls do not count."""
    text, found = set(), set()
    for file in files:
        for name, value in file.partition:
            found.add(name)
            if value is not None and not _INTEGER.fullmatch(value):
                text.add(name)
    return found - text


def partition_field(
    file: Located, name: str | None, fields: list[Field], integers: set[str]
) -> list[ConstantField]:
    """The partition `name` of a file with these `fields`, as a list of length 0 or 1.

    A column of the same name in the file takes precedence. `integers` are names whose values are
    integers; others are text.
    """
    if any(field.name == name for field in fields):
        return []
    value = dict(file.partition).get(name or "", ...)
    if value is ... or name is None:
        return []
    typed = int(value) if value is not None and name in integers else value
    return [ConstantField(file.path, name, fields[0].n, typed)]
