"""Folders that Hugging Face `datasets` writes: which files are the data, and in which order.

``Dataset.save_to_disk`` writes ``state.json`` with the list of data files. Later ``shuffle``,
``select``, ``sort``, ``map`` and ``filter`` write their results beside them, as
``cache-<fingerprint>.arrow``. Version 1 of `datasets` also saved an indices mapping: the rows of
the data set are then rows of the data files in another order. Current versions ignore the mapping.
"""

from __future__ import annotations

import os
import re
from typing import Any

from d2cli.errors import DataError
from d2cli.files.locate.splits import listed
from d2cli.files.locate.tree import Entry, Tree

#: The description of a saved ``Dataset``, and that of a saved ``DatasetDict``.
STATE, DICTIONARY = "state.json", "dataset_dict.json"
#: Caches of operations, indices mappings, and temporary files of both.
_CACHE = re.compile(r"(cache-.*|indices(-.*)?|tmp.*)\.arrow")


def is_cache(name: str) -> bool:
    """Whether `datasets` gives this name to a file that is no data."""
    return _CACHE.fullmatch(name) is not None


def saved_files(tree: Tree, folder: str, entries: list[Entry]) -> list[Entry] | None:
    """The data files of a saved ``Dataset``, in its order; None if the folder is none.

    Raises:
        DataError: if a file is missing, or an indices mapping reorders the rows.
    """
    by_name = {entry.name: entry for entry in entries}
    if STATE not in by_name:
        return None
    state = tree.json(by_name[STATE].path)
    if not isinstance(state, dict) or "_data_files" not in state:
        return None  # of another program
    names = _names(state["_data_files"])
    if not names:
        raise DataError(f"{by_name[STATE].path}: lists no data files")
    refuse_mapping(state, folder, names)
    missing = [name for name in names if name not in by_name]
    if missing:
        raise DataError(f"{folder}: {missing[0]} is missing, which {STATE} lists")
    return [by_name[name] for name in names]


def check_mapping(tree: Tree, path: str) -> None:
    """Refuse a file, given by name, of a saved ``Dataset`` with an indices mapping."""
    folder, name = os.path.split(path)
    state = tree.json(os.path.join(folder, STATE))
    if isinstance(state, dict) and name in (names := _names(state.get("_data_files"))):
        refuse_mapping(state, folder, names)


def refuse_mapping(state: dict[str, Any], folder: str, names: list[str]) -> None:
    """Refuse a saved ``Dataset`` whose rows are in the order of an indices mapping."""
    indices = _names(state.get("_indices_files")) or _names(state.get("_indices_data_files"))
    if not indices:
        return
    rows = f"{_opened(folder, names)}.select({_opened(folder, indices)}['indices'])"
    raise DataError(
        f"{folder}: an indices mapping ({indices[0]}) reorders its rows",
        f"in Python: import datasets; {rows}.flatten_indices().save_to_disk('flat')",
    )


def _opened(folder: str, names: list[str]) -> str:
    """Python that opens data files as they are: ``load_from_disk`` may ignore the mapping."""
    opened = [f"datasets.Dataset.from_file({os.path.join(folder, name)!r})" for name in names]
    return (
        opened[0] if len(opened) == 1 else f"datasets.concatenate_datasets([{', '.join(opened)}])"
    )


def _names(files: Any) -> list[str]:
    """The names in a list of files of ``state.json``."""
    if not isinstance(files, list):
        return []
    return [str(one["filename"]) for one in files if isinstance(one, dict) and "filename" in one]


def splits_of(tree: Tree, folder: str, entries: list[Entry]) -> list[Entry] | None:
    """The folders of the splits of a saved ``DatasetDict``; None if the folder is none.

    Raises:
        DataError: if a split is missing.
    """
    by_name = {entry.name: entry for entry in entries}
    if DICTIONARY not in by_name:
        return None
    content = tree.json(by_name[DICTIONARY].path)
    names = content.get("splits") if isinstance(content, dict) else None
    if not isinstance(names, list) or not names:
        return None
    missing = [str(name) for name in names if str(name) not in by_name]
    if missing:
        raise DataError(f"{folder}: the split {listed(missing)} is missing, see {DICTIONARY}")
    return [by_name[str(name)] for name in names]
