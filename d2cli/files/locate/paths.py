"""The files that the arguments of an option name: paths, folders and globs."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from d2cli.errors import DataError, UsageError
from d2cli.files.formats.arrays.zarr_stores import is_store
from d2cli.files.locate.folders import folder_files
from d2cli.files.locate.hives import hive_files, is_hive, partition_of
from d2cli.files.locate.hugging_face import check_mapping
from d2cli.files.locate.located import Found, Located
from d2cli.files.locate.splits import check_splits, missing_shards
from d2cli.files.locate.survey import Survey
from d2cli.files.locate.tree import LocalTree, Tree
from d2cli.files.regular import check_regular, system_errors


def locate(argument: str, option: str) -> Found:
    """The files that an argument of `option` names, in natural order.

    Natural order compares numbers by value: shard 2 comes before shard 10. An argument is a path, a
    folder (:func:`~d2cli.files.locate.folders.folder_files`) or a glob. In folders and globs,
    caches of `datasets` are left out, and outputs of d2prune that the option does not consume.

    Raises:
        DataError: if an argument names no file, or a folder that is not one data set.
        UsageError: if an argument is empty.
    """
    if not argument:  # Path("") would be the current folder
        raise UsageError(f"--{option} is given an empty path")
    tree, path = LocalTree(), Path(argument)
    with system_errors(argument):
        if path.is_dir() and not is_store(path):
            return _in_folder(Survey(tree, option), argument)
        if glob.has_magic(argument) and not path.exists():
            return _in_glob(Survey(tree, option), argument)
    _check_readable(path)
    check_mapping(tree, str(path))
    return Found([Located(path, by_name=True, partition=partition_of(argument))])


def expand(arguments: Iterable[str], option: str, *, one_set: bool = False) -> list[Path]:
    """The files that the arguments of `option` name, those of each argument in natural order.

    Files of several splits are refused (DataError) if an argument must be `one_set`.
    """
    found: list[Path] = []
    for argument in arguments:
        files = [file.path for file in locate(argument, option).files]
        if one_set:
            check_splits([str(file) for file in files], argument, option)
        found.extend(files)
    return found


def _in_folder(survey: Survey, argument: str) -> Found:
    names = [entry.path for entry in folder_files(survey, str(Path(argument)))]
    lacking = missing_shards(names)
    return _found(names, [*survey.notices(argument), *([lacking] if lacking else [])])


def _in_glob(survey: Survey, argument: str) -> Found:
    matches = survey.tree.matches(argument)
    kept = survey.kept([match.path for match in matches if not match.is_folder])
    if all(match.is_folder for match in matches):
        hives = [match for match in matches if is_hive(match)]
        kept = [file.path for hive in hives for file in hive_files(survey, hive.path)]
    if not kept and survey.left_out:
        says = f"{argument}: no data file matches this pattern{survey.left_out}"
        raise DataError(says, "a file that is given by name is read")
    if not kept and matches:
        says = f"{argument}: this pattern matches folders, not files"
        inside = shlex.quote(f"{argument.rstrip(os.sep)}/*")
        raise DataError(says, f"for the files in them: --{survey.option} {inside}")
    if not kept:
        raise DataError(f"{argument}: no file matches this pattern")
    _check_mappings(survey.tree, kept)
    return _found(kept, survey.notices(argument))


def _check_mappings(tree: Tree, names: list[str]) -> None:
    """Refuse files of a saved ``Dataset`` whose rows an indices mapping reorders."""
    for name in {os.path.dirname(name): name for name in names}.values():
        check_mapping(tree, name)


def _check_readable(path: Path) -> None:
    """Refuse what is neither a regular file nor a zarr store."""
    if not is_store(path):
        check_regular(path)


def _found(names: list[str], notices: list[str]) -> Found:
    files = [Located(Path(name), partition=partition_of(name)) for name in names]
    for file in files:
        _check_readable(file.path)
    return Found(files, notices)
