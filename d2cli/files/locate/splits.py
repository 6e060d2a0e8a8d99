"""Files and folders of several splits (train, test, …), which are not the rows of one data set.

The words and the forms of names are those of Hugging Face `datasets` (``data_files.py`` there).
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import shlex
from collections.abc import Iterable

from d2cli.errors import DataError

#: Words that name a split.
_WORDS = {
    "train", "training", "test", "testing", "eval", "evaluation", "validation", "valid", "val",
    "dev", "unsupervised",
}  # fmt: skip
_SEPARATOR = re.compile(r"[-._ 0-9]+")
#: Shards as `datasets` writes them: train-00000-of-00004.parquet, also with a hash at the end.
_SHARD = re.compile(r"(?P<split>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\b.*")


def split_word(name: str) -> str:
    """The split that is a word of a name; of several words, all of them; empty if there is none."""
    words = dict.fromkeys(word.lower() for word in _SEPARATOR.split(name))
    return " ".join(word for word in words if word in _WORDS)


def check_splits(paths: list[str], place: str, option: str) -> None:
    """Refuse files of several splits, with a glob for each.

    The split of a file is a word of its path below what all have in common, or what stands in its
    name before ``-00000-of-00004``. Files without a split beside files with one are refused too.

    Raises:
        DataError: if there are several splits.
    """
    found: dict[str, list[str]] = {}
    below = max(0, _common_start([f"{os.path.dirname(path)}/" for path in paths]).rfind("/"))
    for path in paths:
        found.setdefault(_split_of(path[below:]), []).append(path)
    if len(found) > 1:
        if "" in found:
            found[""] = found.pop("")  # last
        names = [name or f"others ({os.path.basename(found[''][0])})" for name in found]
        raise splits_error(names, [shown_glob(found[name], paths) for name in found], place, option)


def _split_of(path: str) -> str:
    """The split of a file; empty if its path tells none."""
    *folders, name = path.split("/")
    # A hive of splits: split=train.
    folders = [f.partition("=")[2] if f.startswith("split=") else f for f in folders]
    shard = _SHARD.fullmatch(name)
    words = split_word(" ".join([*folders, shard["split"] if shard else name.partition(".")[0]]))
    return words or (shard["split"] if shard else "")


def missing_shards(paths: Iterable[str]) -> str | None:
    """A notice of shards that are counted in names, ``-of-00004``, and are not there; or None."""
    there: dict[tuple[str, int], set[int]] = {}
    for path in paths:
        if shard := _SHARD.fullmatch(path):
            there.setdefault((shard["split"], int(shard["count"])), set()).add(int(shard["number"]))
    for (name, count), numbers in there.items():
        if len(numbers) < count:
            return f"{name}: {len(numbers)} of {count} shards are there; the others are not read"
    return None


def splits_error(names: list[str], ways: list[str], place: str, option: str) -> DataError:
    """The refusal of splits, with what to give for each."""
    return DataError(
        f"{place}: holds {len(names)} splits: {listed(names)}",
        f"give one: {listed([f'--{option} {way}' for way in ways], 'or')}; for several, repeat "
        f"--{option}",
    )


def listed(names: list[str], word: str = "and", most: int = 12) -> str:
    """Names in one phrase: a, b and c."""
    if len(names) > most:
        return f"{', '.join(names[:most])}, … ({len(names)})"
    return f" {word} ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def shown_glob(group: list[str], paths: list[str]) -> str:
    """A glob, quoted for a shell, that matches of `paths` exactly those of `group`; or a path."""
    if len(group) == 1:
        return shlex.quote(group[0])
    start = _common_start(group).rstrip("0123456789")
    end = _common_start([path[::-1] for path in group])[::-1]
    end = glob.escape(end[end.index(".") :] if "." in end else "")
    folder = glob.escape(start[: start.rfind("/") + 1])
    for before in (f"{glob.escape(start)}*", f"{glob.escape(start)}[0-9]*", f"{folder}*"):
        pattern = before + end
        found = {path for path in paths if fnmatch.fnmatchcase(path, pattern)}
        # In a glob, "*" does not match the separator of folders.
        if found == set(group) and {path.count("/") for path in found} == {pattern.count("/")}:
            return shlex.quote(pattern)
    return f"{shlex.quote(group[0])} …"


def _common_start(names: list[str]) -> str:
    """The longest text that all names begin with."""
    first, last = min(names), max(names)
    pairs = enumerate(zip(first, last, strict=False))
    return first[: next((at for at, (a, b) in pairs if a != b), min(len(first), len(last)))]
