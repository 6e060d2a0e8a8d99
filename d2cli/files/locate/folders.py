"""The data files of a folder."""

from __future__ import annotations

import glob
import os
import shlex

from d2cli.errors import DataError
from d2cli.files.formats.recognise import ENDINGS
from d2cli.files.locate.hives import hive_files, is_hive
from d2cli.files.locate.hugging_face import saved_files, splits_of
from d2cli.files.locate.splits import listed, split_word, splits_error
from d2cli.files.locate.survey import Survey
from d2cli.files.locate.tree import Entry, Tree
from d2cli.files.parts.part_kinds import names_folder

#: Folders that are searched for data, to say in an error what to give.
_SEARCHED = 200


def folder_files(survey: Survey, folder: str) -> list[Entry]:
    """The data files of a folder, in order.

    They are the files that ``state.json`` lists, if `datasets` saved the folder; else the files
    directly in it; else those below its hive folders. A folder that has only folders is refused,
    unless one of them can be meant: the one split, or ``data`` as in a repository of a data set.

    Raises:
        DataError: if there are none, or several splits.
    """
    tree, option = survey.tree, survey.option
    entries = tree.entries(folder)
    _refuse_lakes(folder, entries)
    saved = saved_files(tree, folder, entries)
    if saved is not None:
        survey.data(entries)  # for notices of caches
        return saved
    splits = splits_of(tree, folder, entries)
    if splits is not None:
        return _only_split(survey, folder, splits)
    if any(is_hive(entry) for entry in entries):
        return hive_files(survey, folder)
    files = survey.data(entries)
    if files:
        return files
    folders = [entry for entry in entries if entry.is_walked]
    holding = {one.name: one for one in folders if _first_data(tree, one)}
    # Outputs in parts lie beside the data.
    holding = {name: holding[name] for name in holding if not names_folder(name)} or holding
    if list(holding) == ["data"]:
        return folder_files(survey, holding["data"].path)
    if holding and all(split_word(name) for name in holding):
        return _only_split(survey, folder, list(holding.values()))
    says = f"{folder}: the folder holds no data files for --{option}{survey.left_out}"
    if survey.left_out:
        raise DataError(says, "a file that is given by name is read")
    if not folders:
        raise DataError(says, f"data files end in {', '.join(sorted(ENDINGS))}")
    says += f", only folders: {listed([one.name for one in folders])}"
    raise DataError(says, _way_down(tree, folder, list(holding.values()), option))


def _refuse_lakes(folder: str, entries: list[Entry]) -> None:
    """Refuse a table of a format that keeps files which no longer belong to it (DataError)."""
    names = {entry.name for entry in entries if entry.is_folder}
    out = repr("table.parquet")
    write = f"import pyarrow.parquet; pyarrow.parquet.write_table(t, {out})"
    if "_delta_log" in names:
        line = f"from deltalake import DeltaTable; t = DeltaTable({folder!r}).to_pyarrow_table()"
        raise DataError(f"{folder}: is a Delta table; its log is not read", f"{line}; {write}")
    if {"_versions", "data"} <= names:
        line = f"import lance; t = lance.dataset({folder!r}).to_table()"
        raise DataError(f"{folder}: is a Lance data set", f"{line}; {write}")
    if ".hoodie" in names:
        says = f"{folder}: is a Hudi table; its log is not read"
        raise DataError(says, "write it as parquet with Spark: df.write.parquet(path)")


def _only_split(survey: Survey, folder: str, splits: list[Entry]) -> list[Entry]:
    """The files of the only split; several are refused."""
    if len(splits) > 1:
        ways = [shlex.quote(one.path) for one in splits]
        raise splits_error([one.name for one in splits], ways, folder, survey.option)
    return folder_files(survey, splits[0].path)


def _first_data(tree: Tree, folder: Entry) -> str | None:
    """The path of some data file at or below a folder, or None."""
    waiting = [folder.path]
    for _ in range(_SEARCHED):
        if not waiting:
            break
        entries = tree.entries(waiting.pop(0))
        for entry in entries:
            if entry.is_data:
                return entry.path
        waiting += [entry.path for entry in entries if entry.is_walked]
    return None


def _way_down(tree: Tree, folder: str, holding: list[Entry], option: str) -> str:
    """What to give instead of a folder that has only folders: one of them, or a glob of all."""
    if not holding:
        return f"data files end in {', '.join(sorted(ENDINGS))}"
    first = _first_data(tree, holding[0]) or holding[0].path
    inside = os.path.relpath(first, folder).split(os.sep)[1:-1]
    pattern = "/".join([glob.escape(folder), "*", *("*" for _ in inside)])
    pattern += f"/*{os.path.splitext(first)[1]}"
    one = shlex.quote("/".join([holding[0].path, *inside]))
    return f"give one of them: --{option} {one}; or all: --{option} {shlex.quote(pattern)}"
