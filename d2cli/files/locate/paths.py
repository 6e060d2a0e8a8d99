"""The files that the arguments of an option name: paths, folders and globs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from d2cli.errors import DataError, UsageError
from d2cli.files.locate.copies import is_address, without_scheme
from d2cli.files.locate.folders import folder_files
from d2cli.files.locate.hives import hive_files, is_hive, partition_of
from d2cli.files.locate.hugging_face import check_mapping
from d2cli.files.locate.located import Found, Located
from d2cli.files.locate.remote import RemoteTree
from d2cli.files.locate.splits import check_splits, missing_shards
from d2cli.files.locate.survey import Survey
from d2cli.files.locate.tree import Entry, LocalTree, Tree
from d2cli.files.output.temporary import sweep
from d2cli.files.parts.part_kinds import names_folder
from d2cli.files.regular import system_errors


def locate(argument: str, option: str) -> Found:
    """The files that an argument of `option` names, in natural order.

    Natural order compares numbers by value: shard 2 comes before shard 10. An argument is a path, a
    folder (:func:`~d2cli.files.locate.folders.folder_files`) or a glob. In folders and globs,
    caches of `datasets` are left out, and outputs of d2prune that the option does not consume. A
    folder of parts that a killed run had moved away is put back first
    (:mod:`d2cli.files.output.folder_swap`).

    Raises:
        DataError: if an argument names no file, or a folder that is not one data set.
        UsageError: if an argument is empty.
    """
    if not argument:  # Path("") would be the current folder
        raise UsageError(f"--{option} is given an empty path")
    argument = without_scheme(argument)
    tree: Tree = RemoteTree(argument) if is_address(argument) else LocalTree()
    if names_folder(argument) and isinstance(tree, LocalTree) and not os.path.exists(argument):
        sweep(Path(os.path.realpath(argument)).parent)
    survey = Survey(tree, option)
    with system_errors(argument):
        if tree.is_folder(argument):
            return _in_folder(survey, argument)
        if tree.is_pattern(argument):
            return _in_glob(survey, argument)
    (path,) = tree.paths([argument])
    if isinstance(tree, LocalTree):
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
    folder = argument.rstrip("/") if is_address(argument) else str(Path(argument))
    names = [entry.path for entry in folder_files(survey, folder)]
    lacking = missing_shards(names)
    return _found(survey, names, [*survey.notices(argument), *([lacking] if lacking else [])])


def _in_glob(survey: Survey, argument: str) -> Found:
    matches = survey.tree.matches(argument)
    kept = survey.kept(matches)
    if not kept and all(match.is_folder for match in matches):
        kept = [file.path for match in matches for file in _in_match(survey, match)]
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
    return _found(survey, kept, survey.notices(argument))


def _in_match(survey: Survey, match: Entry) -> list[Entry]:
    """The data files of a folder that a glob of folders matches: of a hive, or of parts."""
    if names_folder(match.name):
        return survey.data(survey.tree.entries(match.path))
    return hive_files(survey, match.path) if is_hive(match) else []


def _check_mappings(tree: Tree, names: list[str]) -> None:
    """Refuse files of a saved ``Dataset`` whose rows an indices mapping reorders."""
    for name in {os.path.dirname(name): name for name in names}.values():
        check_mapping(tree, name)


def _found(survey: Survey, names: list[str], notices: list[str]) -> Found:
    if is_address(names[0]) and len({os.path.splitext(name)[1] for name in names}) == 1:
        check_splits(names, os.path.dirname(names[0]), survey.option)  # before they are downloaded
    paths = survey.tree.paths(names)
    located = zip(names, paths, strict=True)
    return Found([Located(path, partition=partition_of(name)) for name, path in located], notices)
