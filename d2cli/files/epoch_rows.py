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
from d2cli.files.sources import Source, open_source

OPTION = "epoch-rows"
#: The last word in the names of files that hold row numbers.
_INDEX_WORDS = ("index", "indices", "indexes", "idx", "idxs", "rows")
#: The last word of a file name, with the separator before it.
_LAST_WORD = re.compile(r"^(?P<before>.*?)(?P<last>[-_. ]?[A-Za-z]+)?$", re.DOTALL)


def open_epoch_rows(arguments: list[str], outputs: Source) -> Source:
    """The row numbers of each file of `outputs`: integers, one file for each file of outputs.

    Raises:
        DataError: if a file cannot be used, or there are more or fewer than files of outputs.
    """
    source = open_source(arguments, "rows", OPTION, None, NO_IDS, key_option=None)
    if len(source.parts) != len(outputs.parts):
        says = f"{len(source.parts):,} files of row numbers for {len(outputs.parts):,} of outputs"
        hint = f"--{OPTION} takes one file for each file of outputs, both in natural order"
        raise DataError(f"{source.name}: {says}", hint)
    for part, of in zip(source.parts, outputs.parts, strict=True):
        if part.dtype.kind not in "iu":
            raise DataError(f"{part.where}: row numbers must be integers, not {part.dtype}")
        if part.n != of.shape[-2]:
            says = f"has {part.n:,} row numbers, and {of.where} has {of.shape[-2]:,} rows"
            raise DataError(f"{part.where}: {says}")
    return source


def read_epoch_rows(source: Source, at: int, n: int, name: str) -> NDArray[np.int64] | None:
    """(m,) int64, the row of the run of each row of one file of outputs; None if they are equal.

    Args:
        source, at: the files of row numbers, and which of them.
        n, name: the number of rows of the run, each of which the file must list once.
    """
    part = source.parts[at]
    values = part.column()
    rows = values.to_numpy(zero_copy_only=False).astype(np.int64)
    wrong = (rows < 0) | (rows >= n)
    if wrong.any():
        place = int(np.argmax(wrong))
        says = f"{values[place].as_py()} is no row of {name} (0 … {n - 1:,})"
        raise DataError(f"{part.where}: row {place}: {says}")
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

    A companion of ``0_Output.npy`` is ``0_Index.npy`` or ``0_idx.npy``.

    Raises:
        DataError: naming both files and the option for row numbers.
    """
    folders: dict[Path, list[Path]] = {}
    for part in outputs.parts:
        folder = part.path.parent
        if folder not in folders:
            folders[folder] = sorted(p for p in folder.glob("*.np[yz]") if _says_index(p))
        for path in folders[folder]:
            if _belongs(path, part.path) and _reorders(path, part.shape):
                last = path.stem.removeprefix(_base(part.path))
                raise DataError(
                    f"{part.where}: {path.name} beside it numbers its rows in another order",
                    f"add --{OPTION} '{folder / ('*' + last + path.suffix)}' to --{option}; if the "
                    "file belongs to something else, move it away",
                )


def _last_word(path: Path) -> str:
    found = _LAST_WORD.match(path.stem)
    return (found["last"] or "") if found else ""


def _base(path: Path) -> str:
    """The name without its ending and its last word."""
    return path.stem.removesuffix(_last_word(path))


def _belongs(companion: Path, outputs: Path) -> bool:
    """Whether a file of row numbers has the name of a file of outputs but for the last words."""
    base = _base(outputs)
    if _base(companion) in (base, outputs.stem):
        return True
    return bool(base) and companion.stem.startswith((f"{base}_", f"{base}-", f"{base}."))


def _says_index(path: Path) -> bool:
    return _last_word(path).lstrip("-_. ").lower() in _INDEX_WORDS


def _reorders(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a file holds one number for each row, no ascending run of 0, 1, 2, …."""
    try:
        fields = file_fields(path, sniff(path))
    except DataError:
        return False
    for one in fields:
        if one.dtype.kind in "iu" and one.shape == shape[-2:-1]:
            numbers = one.column().to_numpy(zero_copy_only=False).astype(np.int64)
            if np.unique(numbers).size == numbers.size and (np.diff(numbers) < 0).any():
                return True
    return False
