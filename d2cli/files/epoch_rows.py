"""Row numbers of the outputs of each epoch, where a training loop wrote them in its own order."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError
from d2cli.files.formats.choice import NO_IDS
from d2cli.files.formats.opening import file_fields
from d2cli.files.formats.recognise import sniff
from d2cli.files.frame import row_numbers
from d2cli.files.sources import Source, open_source

OPTION = "epoch-rows"
#: Words in the names of files that hold row numbers.
_INDEX_WORDS = (
    "index", "indices", "indexes", "idx", "idxs", "ids", "rows", "order", "perm", "permutation",
)  # fmt: skip
_WORDS, _NUMBERS = re.compile("[a-z]+"), re.compile("[0-9]+")


def open_epoch_rows(arguments: list[str], outputs: Source) -> Source:
    """The row numbers of each file of `outputs`: integers, one file for each file of outputs.

    A file of several epochs has (n,) numbers for all of them, or (epochs, n).

    Raises:
        DataError: if a file cannot be used, or there are more or fewer than files of outputs.
    """
    source = open_source(arguments, "epoch rows", OPTION, None, NO_IDS, key_option=None)
    if len(source.parts) != len(outputs.parts):
        says = f"{len(source.parts):,} files of row numbers for {len(outputs.parts):,} of outputs"
        hint = f"--{OPTION} takes one file for each file of outputs, both in natural order"
        raise DataError(f"{source.name}: {says}", hint)
    for part, of in zip(source.parts, outputs.parts, strict=True):
        if part.shape not in (of.shape[-2:-1], of.shape[:2]):
            says = f"has the shape {part.shape}, and {of.where} has {of.shape[-2]:,} rows an epoch"
            raise DataError(f"{part.where}: {says}")
    return source


def read_epoch_rows(
    source: Source, at: int, layer: int, n: int, name: str
) -> NDArray[np.int64] | None:
    """(m,) int64, the row of the run of each row of one epoch; None if they are equal.

    Args:
        source, at, layer: the files of row numbers, which of them, and the epoch in it.
        n, name: the number of rows of the run, and what gives them. Each must be listed once.
    """
    part = source.parts[at]
    if len(part.shape) == 2:
        blocks = part.numbered_blocks()
        values = next(rows[layer - start] for start, rows in blocks if layer < start + len(rows))
    else:
        values = np.concatenate([np.asarray(block) for block in part.blocks()])
    rows = row_numbers(values, part.place, n, name)
    times = np.bincount(rows, minlength=n)
    if times.max() > 1:
        says = f"lists row {int(np.argmax(times > 1))} {int(times.max())} times"
        raise DataError(f"{part.where}: {says}", "give each row once an epoch")
    if not times.all():
        missing = np.flatnonzero(times == 0)
        says = f"does not list row {missing[0]} of {name}, one of {missing.size:,} missing rows"
        raise DataError(f"{part.where}: {says}", "each epoch must hold every row")
    return None if np.array_equal(rows, np.arange(n)) else rows


def refuse_companions(outputs: Source, option: str) -> None:
    """Refuse outputs that have row numbers beside them, in another order than ascending.

    A companion of ``0_Output.npy`` is ``0_Index.npy`` or ``index/0_Output.npy``: its name or that
    of its folder has a word for row numbers, and it has the same numbers.

    Raises:
        DataError: naming both files and the option for row numbers.
    """
    folders: dict[Path, list[Path]] = {}
    for part in outputs.parts:
        folder = part.path.parent
        if folder not in folders:
            folders[folder] = _companions(folder)
        for path in folders[folder]:
            if path != part.path and _pairs(path, part.path) and _reorders(path, part.shape):
                glob = path.parent / (_NUMBERS.sub("*", path.stem) + path.suffix)
                raise DataError(
                    f"{part.where}: {path} beside it numbers its rows in another order",
                    f"add --{OPTION} '{glob}' to --{option}; if the file belongs to something "
                    "else, move it away",
                )


def _companions(folder: Path) -> list[Path]:
    """Files of NumPy in a folder, or in folders beside it, whose names say row numbers."""
    found = [path for path in folder.glob("*.np[yz]") if _says_index(path.stem)]
    for beside in folder.absolute().parent.glob("*"):
        words = set(_WORDS.findall(beside.name.lower()))
        only_index = bool(words) and words <= set(_INDEX_WORDS)
        if only_index and beside.is_dir() and beside != folder.absolute():
            found += [folder / ".." / beside.name / path.name for path in beside.glob("*.np[yz]")]
    return sorted(found)


def _pairs(companion: Path, outputs: Path) -> bool:
    """Whether a file of row numbers has the name for a file of outputs: the same numbers.

    Without numbers, it has no other words than the outputs; in another folder, the same name.
    """
    numbers = _NUMBERS.findall(companion.stem)
    if numbers != _NUMBERS.findall(outputs.stem):
        return False
    if not numbers and companion.parent != outputs.parent:
        return companion.stem == outputs.stem
    words = set(_WORDS.findall(companion.stem.lower())) - set(_INDEX_WORDS)
    return bool(numbers) or words <= set(_WORDS.findall(outputs.stem.lower()))


def _says_index(name: str) -> bool:
    return any(word in _INDEX_WORDS for word in _WORDS.findall(name.lower()))


def _reorders(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a file holds one number for each row, no ascending run of 0, 1, 2, …."""
    try:
        fields = file_fields(path, sniff(path))
    except DataError:
        return False
    for one in fields:
        if one.dtype.kind in "iu" and one.shape in (shape[-2:-1], shape[:2]):
            for block in one.blocks():
                numbers = np.asarray(block).astype(np.int64)
                numbers = numbers[0] if numbers.ndim == 2 else numbers
                if np.unique(numbers).size == numbers.size and (np.diff(numbers) < 0).any():
                    return True
                break
    return False
