"""Choosing the field of a file: the one that the user named, or the only possible one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from d2cli.errors import DataError
from d2cli.files.formats.converted import (
    AS_STORED,
    BFLOAT16,
    BFloat16,
    Reading,
    WholeNumbers,
    read_as,
    uint16_hint,
)
from d2cli.files.formats.fields import Field
from d2cli.files.formats.foreign import pickled_array

Role = Literal[
    "embeddings", "scores", "costs", "labels", "rows", "outputs", "texts", "images", "epoch rows"
]  # fmt: skip

#: The names that pandas gives to row numbers when it writes them.
PANDAS_NAMES = ("__index_level_0__", "level_0", "Unnamed: 0", "")
#: Names of row numbers. Such a column tells nothing if it counts 0, 1, 2, … in both inputs.
ROW_NAMES = ("index", "idx", "row", "row_id", "row_idx", *PANDAS_NAMES)
#: Names that usually hold one value per example, besides :data:`ID_NAMES`.
KEY_NAMES = (
    "_id", "key", "guid", "uuid", "image_id", "sample_id", "doc_id", "document_id", "example_id",
    "item_id", "record_id", "data_id", "hash", "sha256", "md5", "filename", "filenames",
    "file_name", "file", "image_path", "img_path", "file_path", "filepath", "path", "url", "name",
)  # fmt: skip
LABEL_NAMES = ("label", "labels", "target", "targets", "class", "gold")
ID_NAMES = ("id", "uid", "_curator_dedup_id")
#: Field names by role that are used if the user names none; the first that exists is used.
_USUAL: dict[Role, tuple[str, ...]] = {
    "embeddings": ("embedding", "embeddings", "emb", "vector"),
    "scores": ("score", "scores"),
    "costs": ("cost", "costs", "n_tokens", "num_tokens", "token_count", "tokens"),
    "labels": LABEL_NAMES,
    "rows": ("index", *ID_NAMES),
    "epoch rows": ("index", "idx", "indices"),
    "outputs": ("logits", "probs", "probabilities", "outputs"),
    "texts": ("text", "texts", "caption", "sentence", "content"),
    "images": ("image", "images", "x"),
}
#: The number of axes by role, and the shape in words. A role without an entry has one axis.
_FORMS = {
    "embeddings": ((2,), "two-dimensional, (n, d)"),
    "outputs": ((2, 3), "(epochs, n, classes), or (n, classes) of one epoch"),
    "epoch rows": ((1, 2), "(n,), or (epochs, n)"),
    "images": ((3, 4), "(n, height, width) or (n, height, width, 3)"),
}
#: Names of outputs as allenai/cartography writes them: ``logits_epoch_3``.
_EPOCH = re.compile(r"logits_epoch_[0-9]+")
#: NumPy's type kinds by role. A role without an entry takes integers or text.
_KINDS = {
    "embeddings": "fiub", "scores": "fiub", "costs": "fiub", "images": "fiub", "outputs": "f",
    "texts": "US", "labels": "iubUSf", "epoch rows": "iu",
}  # fmt: skip
#: The value of --id-column that turns off the search for an id column.
NO_IDS = "none"


@dataclass(frozen=True)
class Wanted:
    """What to open in each file of an input, and how.

    Attributes:
        role: what the rows are.
        key_option: the option that takes the key, for messages; None if there is no such option.
        key: the name of the column or npz member; needed only if several are possible.
        id_column: the name of the id column. None uses the first of :data:`ID_NAMES` that exists;
            ``none`` uses no ids.
        skim: read only the beginning of formats without a header (CSV, plain text), and estimate
            their rows. Enough for a plan.
        reading: how embeddings are read.
    """

    role: Role
    key_option: str | None
    key: str | None = None
    id_column: str | None = None
    skim: bool = False
    reading: Reading = AS_STORED


def choose(fields: list[Field], wanted: Wanted) -> Field:
    """The field of one file that fits the request.

    Raises:
        DataError: if no field fits, or several do.
    """
    path, role, key = fields[0].path, wanted.role, wanted.key
    if len(fields) == 1 and not fields[0].name:
        if key is None or fields[0].refusal is not None:
            return _fit(fields[0], wanted)
        hint = f"leave --{wanted.key_option} out"
        raise DataError(f"{path}: is a plain array and has no {key!r}", hint)
    listing = f"it has: {_listing(fields)}"
    if key is not None:
        for f in fields:
            if f.name == key or (len(f.shape) == 2 and f.name.rstrip("_.") == key):
                return _fit(f, wanted)
        raise DataError(f"{path}: has no column or member {key!r}", listing)
    taken = {wanted.id_column, *ID_NAMES} if role != "rows" else set()
    if role in ("scores", "costs"):  # whole numbers of such a name count or name the rows
        keys = {name.lower() for name in (*KEY_NAMES, *ROW_NAMES)}
        taken |= {f.name for f in fields if f.dtype.kind in "iu" and f.name.lower() in keys}
    candidates = [
        f
        for f in fields
        if f.name not in taken
        and _suits(f, wanted)
        # a matrix of numbered columns may have an empty name too
        and not (len(f.shape) == 1 and f.name in PANDAS_NAMES)
    ]
    if len(candidates) == 1:
        return _fit(candidates[0], wanted)
    if role == "outputs" and len(named := [f for f in candidates if _EPOCH.fullmatch(f.name)]) == 1:
        return _fit(named[0], wanted)
    for usual in (wanted.id_column if role == "rows" else None, *_USUAL[role]):
        for f in candidates:
            if f.name.rstrip("_.") == usual:
                return _fit(f, wanted)
    if not candidates:
        if not fields[0].n:  # a CSV without rows has no types
            raise DataError(f"{path}: there are no rows")
        raise DataError(f"{path}: has no column or member that could be {role}", listing)
    hint = f"name one with --{wanted.key_option}"
    if wanted.key_option is None:
        hint = "give a file that has only this field"
    if role == "rows":
        hint = "name the right column 'index' or 'id'"
    raise DataError(f"{path}: {_names(candidates)} could all be {role}", hint)


def why_chosen(f: Field, wanted: Wanted) -> Literal["key", "usual", "only"]:
    """Why :func:`choose` took this field: by the key, by its usual name, or as the only one."""
    if wanted.key is not None:
        return "key"
    usual = not f.name or f.name.rstrip("_.") in _USUAL[wanted.role]
    return "usual" if usual else "only"


def _short(name: str) -> str:
    return name if len(name) <= 40 else f"{name[:40]}…"


def _names(fields: list[Field]) -> str:
    """The names to choose from, for messages: at most 20 names of at most 40 characters."""
    return _first_20([_short(f.name) for f in fields], ", ")


def _listing(fields: list[Field]) -> str:
    """The fields of a file with their types, for messages."""
    return _first_20([f"{_short(f.name)}: {f.type_name}{_unread(f)}" for f in fields], "; ")


def _first_20(words: list[str], between: str) -> str:
    return between.join(words if len(words) <= 20 else [*words[:20], f"… ({len(words)})"])


def _unread(f: Field) -> str:
    read = f.dtype.kind in "fiubUS" or f.dtype == BFLOAT16
    return "" if f.refusal is None and read else ", not read"


def _suits(f: Field, wanted: Wanted) -> bool:
    """Whether a field is possible for this role if the user gives no key.

    Integers are embeddings, and floats are labels, only under a usual name: columns of token
    numbers and of scores are more frequent.
    """
    role, kind = wanted.role, _kind(f, wanted.role)
    usual = f.name.rstrip("_.") in _USUAL[role] or bool(_EPOCH.fullmatch(f.name))
    if role in _FORMS:
        usual = usual or wanted.reading != AS_STORED  # then integers are meant
        kinds = "fiub" if role == "images" or (role == "embeddings" and usual) else "f"
        fits = kind in kinds and (usual or not f.integers)
        return len(f.shape) in _FORMS[role][0] and fits
    if len(f.shape) != 1:
        return False
    if role in ("scores", "costs"):
        return kind in "fiub" and f.name.rstrip("_.") not in _USUAL["labels"]
    if role == "labels" and usual and f.dtype.kind == "f":
        return True
    return f.is_text if role == "texts" else f.dtype.kind in "iubUS"


def _fit(f: Field, wanted: Wanted) -> Field:
    """The field as the role reads it, refused if its shape or type does not fit."""
    role = wanted.role
    if f.refusal is not None:
        if f.dtype.hasobject and not f.from_table and not f.name:
            raise DataError(f.refusal.message, pickled_array(f.path, f.shape, wanted))
        raise f.refusal
    dimensions, form = _FORMS.get(role, ((1,), "one-dimensional, (n,)"))
    if len(f.shape) not in dimensions:
        column = len(f.shape) == 2 and f.shape[1] == 1
        hint = "save the one column: array[:, 0]" if column else None
        raise DataError(f"{f.where}: {role} must be {form}, not {f.shape}", hint)
    if role == "embeddings" and f.n and not f.shape[1] and not f.width_shows_late:
        raise DataError(f"{f.where}: embeddings have no columns")
    good = _KINDS.get(role, "iubUS")
    if _kind(f, role) not in good:
        asked = {"f": "floats", "fiub": "numbers", "US": "text", "iu": "integers"}.get(
            good, "integers or text"
        )
        hint = uint16_hint(role) if role == "outputs" and f.stored_dtype == np.uint16 else None
        raise DataError(f"{f.where}: {role} must be {asked}, not {_word(f)}", hint)
    if role == "outputs" and f.axes_of_row > 1:
        says = f"each row is {f.type_name}: a row of {role} must be one list, one number per class"
        raise DataError(f"{f.where}: {says}")
    if f.dtype == BFLOAT16:
        f = BFloat16(f)
    if role == "embeddings":
        return read_as(f, wanted.reading)
    return WholeNumbers(f) if role == "labels" and f.dtype.kind == "f" else f


def _kind(f: Field, role: Role) -> str:
    """NumPy's kind of the values; two bytes without a type are a float where floats are wanted."""
    floats = role in ("embeddings", "outputs", "scores", "costs")
    return "f" if floats and f.dtype == BFLOAT16 else f.dtype.kind


def _word(f: Field) -> str:
    """The type of the values of a field, for messages."""
    return f.type_name if f.dtype.kind == "O" else "text" if f.is_text else str(f.dtype)


def find_ids(fields: list[Field], id_column: str | None) -> list[Field]:
    """The id field of one file, as a list of length 0 or 1."""
    if id_column == NO_IDS:
        return []
    for name in ID_NAMES if id_column is None else (id_column,):
        for f in fields:
            flat = len(f.shape) == 1
            if f.name == name and (flat or id_column is not None):
                if flat and f.dtype.kind in "iuUS":
                    return [f]
                raise DataError(
                    f"{f.where}: ids must be integers or text, not {f.dtype if flat else 'lists'}",
                    f"--id-column {NO_IDS} joins by row",
                )
    return []
