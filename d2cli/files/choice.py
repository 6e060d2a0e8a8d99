"""Which field of a file is meant: the one that is named, or the only one that could be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from d2cli.errors import DataError
from d2cli.files.formats.fields import Field

Role = Literal["embeddings", "scores", "labels", "rows", "outputs", "texts", "images"]

ID_NAMES = ("id", "uid", "_curator_dedup_id")
#: Names that are taken without being asked for, the first that is there.
_USUAL = {
    "embeddings": ("embedding", "embeddings", "emb", "vector"),
    "scores": ("score", "scores"),
    "labels": ("label", "labels", "target", "targets", "class"),
    "rows": ("index", *ID_NAMES),
    "outputs": ("logits", "probs", "probabilities", "outputs"),
    "texts": ("text", "texts", "caption", "sentence", "content"),
    "images": ("image", "images", "x"),
}
#: What shape the rows of each role have; one dimension where nothing is said.
_FORMS = {
    "embeddings": ((2,), "two-dimensional, (n, d)"),
    "outputs": ((2, 3), "(epochs, n, classes), or (n, classes) of one epoch"),
    "images": ((3, 4), "(n, height, width) or (n, height, width, 3)"),
}
#: What kinds of number or text each role takes; integers or text where nothing is said.
_KINDS = {
    "embeddings": "fiub",
    "scores": "fiub",
    "images": "fiub",
    "outputs": "f",
    "texts": "US",
}
#: What pandas calls the row numbers that it adds; never meant.
_PANDAS_INDEX = ("", "__index_level_0__")
#: Turns the search for a usual id column off.
NO_IDS = "none"
#: Of names to choose from so many are shown, and so much of each.
_MOST_NAMES, _LONG_NAME = 20, 40


@dataclass(frozen=True)
class Wanted:
    """What is looked for in each file.

    Attributes:
        role: what the rows are.
        key_option: the option that takes the key, for messages; None where there is none.
        key: the name of the column or npz member; needed only where there is a choice.
        id_column: the name of the ids. None looks for a usual name, ``none`` for nothing.
    """

    role: Role
    key_option: str | None
    key: str | None = None
    id_column: str | None = None


def choose(fields: list[Field], wanted: Wanted) -> Field:
    """The field of one file that is meant.

    Raises:
        DataError: where none is, or several might be.
    """
    path, role, key = fields[0].path, wanted.role, wanted.key
    if len(fields) == 1 and not fields[0].name:
        if key is not None:
            raise DataError(
                f"{path}: is a plain array and has no {key!r}", f"leave --{wanted.key_option} out"
            )
        return _fit(fields[0], role)
    listing = f"it has: {_names(fields)}"
    if key is not None:
        for f in fields:
            if f.name == key or (len(f.shape) == 2 and f.name.rstrip("_.") == key):
                return _fit(f, role)
        raise DataError(f"{path}: has no column or member {key!r}", listing)
    taken = {wanted.id_column, *ID_NAMES} if role != "rows" else set()
    candidates = [
        f
        for f in fields
        if f.name not in taken
        and _suits(f, role)
        # not by `in`: a matrix of numbered columns may have no name either
        and not (len(f.shape) == 1 and f.name in _PANDAS_INDEX)
    ]
    if len(candidates) == 1:
        return _fit(candidates[0], role)
    usual_names = _USUAL[role]
    if role == "rows" and wanted.id_column is not None:
        usual_names = (wanted.id_column, *usual_names)
    for usual in usual_names:
        for f in candidates:
            if f.name.rstrip("_.") == usual:
                return _fit(f, role)
    if not candidates:
        if not fields[0].n:  # then a CSV says no types
            raise DataError(f"{path}: there are no rows")
        raise DataError(f"{path}: has no column or member that could be {role}", listing)
    raise DataError(
        f"{path}: {_names(candidates)} could all be {role}",
        _hint(wanted),
    )


def _hint(wanted: Wanted) -> str:
    if wanted.role == "rows":
        return "call the right one 'index' or 'id'"
    if wanted.key_option is None:
        return "give a file that holds nothing else"
    return f"name one with --{wanted.key_option}"


def _names(fields: list[Field]) -> str:
    """What to choose from, for messages; not every one of 768 numbered columns."""
    names = [f.name if len(f.name) <= _LONG_NAME else f"{f.name[:_LONG_NAME]}…" for f in fields]
    shown = names if len(names) <= _MOST_NAMES else [*names[:_MOST_NAMES], f"… ({len(names)})"]
    return ", ".join(shown)


def _suits(f: Field, role: Role) -> bool:
    """Whether a field could be meant when nobody says which."""
    if role == "images":
        return len(f.shape) in _FORMS[role][0] and f.is_number
    if role in _FORMS:
        return len(f.shape) in _FORMS[role][0] and f.dtype.kind == "f"
    if len(f.shape) != 1:
        return False
    if role == "texts":
        return f.is_text
    if role in ("labels", "rows"):
        return f.dtype.kind in "iubUS"
    return f.is_number and f.name.rstrip("_.") not in _USUAL["labels"]


def _fit(f: Field, role: Role) -> Field:
    """Refuse a field whose shape or type cannot serve."""
    if f.refusal is not None:
        raise f.refusal
    dimensions, form = _FORMS.get(role, ((1,), "one-dimensional, (n,)"))
    if len(f.shape) not in dimensions:
        hint = None
        if len(f.shape) == 2 and f.shape[1] == 1:
            hint = "one column of a table: save array[:, 0]"
        raise DataError(f"{f.where}: {role} must be {form}, not {f.shape}", hint)
    if role == "embeddings" and f.n and not f.shape[1] and not f.width_shows_late:
        raise DataError(f"{f.where}: embeddings have no columns")
    good = _KINDS.get(role, "iubUS")
    if f.dtype.kind not in good:
        kind = {"O": "of a type that is not read", "U": "text", "S": "text"}.get(
            f.dtype.kind, str(f.dtype)
        )
        asked = {"f": "floats", "fiub": "numbers", "US": "text"}.get(good, "integers or text")
        raise DataError(f"{f.where}: {role} must be {asked}, not {kind}")
    return f


def find_ids(fields: list[Field], id_column: str | None) -> list[Field]:
    """The ids of one file, as a list of one or none."""
    if id_column == NO_IDS:
        return []
    for name in ID_NAMES if id_column is None else (id_column,):
        for f in fields:
            if f.name == name and (len(f.shape) == 1 or id_column is not None):
                if f.dtype.kind in "iuUS" and len(f.shape) == 1:
                    return [f]
                raise DataError(
                    f"{f.where}: ids must be integers or text, not "
                    f"{f.dtype if len(f.shape) == 1 else 'lists'}",
                    f"--id-column {NO_IDS} joins by row",
                )
    return []
