"""The inputs of a run: each opened once, described once, and watched until the run ends."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.commands.requests import EmbeddingOptions, Input
from d2cli.commands.settle import names_a_score
from d2cli.errors import DataError, UsageError
from d2cli.files.formats.choice import Role
from d2cli.files.formats.converted import Reading
from d2cli.files.frame import Frame
from d2cli.files.graph_file import GraphFile, open_graph
from d2cli.files.provenance.fingerprint import (
    changes,
    describe,
    describe_files,
    fingerprint,
    fingerprint_of,
    refuse_stale,
    whereabouts,
)
from d2cli.files.score_file import add_recorded_names
from d2cli.files.sources import Layout, Source, open_source
from d2cli.graph.lists import NeighborLists

#: What a plan reads of an input.
Header = Layout | GraphFile


@dataclass(frozen=True)
class _Opened:
    """One input, by the name that provenance gives it."""

    name: str
    paths: list[Path]
    layout: Callable[[], Header] | None
    describe: Callable[[], dict[str, Any]] | None
    repeats: bool
    stamp: tuple[Any, ...]
    shown: str

    @property
    def label(self) -> str:
        """The name of its option, for people."""
        return self.name.replace("_", "-")


class Inputs:
    """Opens the inputs of one run and remembers them in the order of opening.

    Opening reads headers only. :meth:`describe`, before any data is read, says what the outputs are
    made from, and :meth:`changed` compares the files with that at the end.

    Attributes:
        id_column: as the user gave it.
        skim: whether only a plan follows: then a CSV is read at its beginning only.
        notices: what the user should know about the choice of columns.
    """

    def __init__(self, id_column: str | None = None, skim: bool = False) -> None:
        self.id_column, self.skim = id_column, skim
        self.notices: list[str] = []
        self._opened: list[_Opened] = []
        self._facts: dict[str, dict[str, Any]] = {}
        self._means: dict[str, str] = {}
        self._described: tuple[dict[str, Any], dict[str, Any]] | None = None

    def source(
        self,
        given: Input | None,
        role: Role,
        option: str,
        *,
        key_option: str | None = "",
        described: bool = True,
        read_as: EmbeddingOptions | None = None,
    ) -> Source | None:
        """Open the files of an option, or return None if it was not given.

        Raises:
            UsageError: if it was not given, but `read_as` says how it is to be read.
        """
        read_as = read_as or EmbeddingOptions()
        if given is None:
            if read_as.recorded:
                says = "--emb-bits and --emb-scale say how --emb is read; it is not given"
                raise UsageError(says)
            return None
        reading = Reading(read_as.emb_bits, read_as.emb_scale)
        found = open_source(
            given.paths, role, option, given.keys, self.id_column,
            key_option=key_option, skim=self.skim, reading=reading,
        )  # fmt: skip
        self.notices.extend(found.notices)
        numbers = role in ("scores", "costs")
        if found.has_columns or numbers:
            add_recorded_names(found, self.id_column)
        ours = bool(found.recorded_fingerprints)
        telling = role == "scores" and (ours or names_a_score(found.column_name))
        if numbers and found.chosen == "only" and not telling:
            flag = f"; --{option}-key names another" if key_option == "" else ""
            self.notices.append(
                f"{found.parts[0].path}: {found.column_name}, the only column of numbers, is used "
                f"as {option}{flag}"
            )
        if reading.scale_file is not None:
            scale = [reading.scale_file]
            self.add("emb-scale", scale, None, partial(describe_files, scale, len(reading.factors)))
        if described:
            self.remember(option, found)
        else:
            self.add(option, found.paths, found.layout, None, shown=_shown(found))
        return found

    def rows(self, arguments: tuple[str, ...], option: str) -> list[Source]:
        """Open the files that name rows, one source each."""
        found = []
        for argument in arguments:
            one = open_source(
                [argument], "rows", option, None, self.id_column, key_option=None, skim=self.skim
            )
            add_recorded_names(one, self.id_column)
            about = partial(describe_files, one.paths, one.n)
            self.add(option, one.paths, one.layout, about, repeats=True, shown=_shown(one))
            self.notices += one.notices
            found.append(one)
        return found

    def graph(self, places: tuple[str, ...]) -> GraphFile | None:
        """Open a graph (:func:`~d2cli.files.graph_file.open_graph`); None if none was given."""
        if not places:
            return None
        graph = open_graph(*places)
        self.notices += graph.notices
        about = partial(describe_files, graph.paths, graph.n)
        parts = f", {len(graph.paths):,} parts" if len(graph.paths) > 1 else ""
        shown = f"{graph.name}: {graph.n:,} rows, k = {graph.n_neighbors}{parts}"
        self.add("graph", graph.paths, lambda: graph, about, shown=shown)
        return graph

    def remember(self, option: str, source: Source) -> None:
        """Remember a source that was opened elsewhere."""
        about = partial(describe, source)
        self.add(option, source.paths, source.layout, about, shown=_shown(source))

    def add(
        self,
        option: str,
        paths: list[Path],
        layout: Callable[[], Header] | None,
        describe: Callable[[], dict[str, Any]] | None,
        repeats: bool = False,
        shown: str = "",
    ) -> None:
        """Remember an input of any kind: what a plan and what provenance say of it, or None.

        `shown` is what its line in the summary begins with; empty: it has no line.
        """
        name = _name(option)
        self._opened.append(_Opened(name, paths, layout, describe, repeats, _stamp(paths), shown))

    # -- what was understood of each input ---------------------------------------------------------
    def note(self, option: str, text: str, **facts: Any) -> None:
        """Remember what an input means: `text` for its line, `facts` for its provenance."""
        self._means[option] = text
        self._facts.setdefault(_name(option), {}).update(facts)

    def note_rows(self, frame: Frame, bad: dict[str, NDArray[np.int64]]) -> None:
        """Remember how each input was joined, and its `bad` rows, which were dropped."""
        for option, join in frame.joins.items():
            facts = {"joined": join.text, "rows_used": frame.n}
            self._facts.setdefault(_name(option), {}).update(facts)
        for option, rows in bad.items():
            self._facts.setdefault(_name(option), {})["rows_dropped"] = int(rows.size)

    def lines(self) -> list[tuple[str, str]]:
        """(label, text) of each input, for people: file, column, meaning, join, rows."""
        found = []
        for one in self._opened:
            facts = {} if one.repeats else self._facts.get(one.name, {})
            said = [one.shown, self._means.get(one.label), facts.get("joined")]
            if one.describe is not None and not one.repeats and "rows_used" in facts:
                given, used = self.described[one.name]["rows"], facts["rows_used"]
                if given != used:
                    said.append(f"{used:,} of {given:,} rows used, {given - used:,} ignored")
            if dropped := facts.get("rows_dropped"):
                said.append(f"{dropped:,} bad rows dropped")
            if one.shown:
                found.append((one.label, "; ".join(text for text in said if text)))
        return found

    def forget(self, option: str) -> None:
        """Forget an input that the run does not use."""
        name = _name(option)
        self._opened = [one for one in self._opened if one.name != name]

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [path for one in self._opened for path in one.paths]

    @property
    def layouts(self) -> list[Header]:
        """What a plan says of each input, without reading data."""
        return [one.layout() for one in self._opened if one.layout is not None]

    @property
    def described(self) -> dict[str, Any]:
        """What provenance records of each input: path, size, rows, fingerprint, and its notes."""
        return {
            name: {**one, **self._facts.get(name, {})} if isinstance(one, dict) else one
            for name, one in self.describe()[0].items()
        }

    @property
    def whereabouts(self) -> dict[str, Any]:
        """Where the inputs lie and when each was last changed, as of :meth:`describe`."""
        return self.describe()[1]

    def describe(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take :attr:`described` and :attr:`whereabouts` together, once, as the run begins.

        Raises:
            DataError: if a file has changed since it was opened, when its provenance was read.
        """
        if self._described is None:
            described = dict(self._descriptions())
            for one in self._opened:
                if _stamp(one.paths) != one.stamp:
                    raise DataError(f"{one.paths[0]}: was changed while it was opened", "run again")
            self._described = described, whereabouts(described)
        return self._described

    def _descriptions(self) -> Iterator[tuple[str, Any]]:
        several: dict[str, list[Any]] = {}
        for one in self._opened:
            if one.describe is not None and one.repeats:
                first = one.name not in several
                several.setdefault(one.name, []).append(one.describe())
                if first:
                    yield one.name, several[one.name]
            elif one.describe is not None:
                yield one.name, one.describe()

    def changed(self) -> list[str]:
        """Notices of inputs that are no longer what they were when the run began."""
        return [
            f"{change.path}: was changed while it was used; make the output again"
            for change in changes({"inputs": self.described, "run": self.whereabouts})
        ]


def _name(option: str) -> str:
    """The name of an option in provenance."""
    return option.replace("-", "_")


def _shown(source: Source) -> str:
    """An input's files, column and size."""
    part = source.parts[0]
    # Arrow calls the columns of a file without a header f0, f1, ….
    names = sorted({one.name for one in source.parts if not re.fullmatch("(f[0-9]+)?", one.name)})
    files = str(part.path)
    if len(source.paths) > 1:
        files += f" … ({len(source.paths)} files)"
    column = f": {', '.join(names)}" if names else ""
    if source.role == "embeddings":
        size = f"{source.n:,} × {part.width():,} {part.dtype}"
    else:
        size = f"{source.n:,} rows"
    return f"{files}{column}, {size}"


def _stamp(paths: list[Path]) -> tuple[Any, ...]:
    """What changes whenever a file is written or replaced."""
    found = [path.stat() if path.exists() else None for path in paths]
    return tuple(s and (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in found)


def read_graph(
    file: GraphFile, in_ranges: bool
) -> tuple[NeighborLists, pa.Array | None, list[str]]:
    """The graph of files, its (n,) ids, and notices; `in_ranges`: its lists stay in the files.

    Raises:
        DataError: if the file breaks the contract of a graph.
    """
    notices = []
    if in_ranges:
        lists = file.ranged()
        if lists is not None:
            return lists, file.ids(), []
        notices.append(
            f"{file.name}: is read as a whole, because it is compressed or has several batches"
        )
    return *file.load(), notices


def stale_graph(graph: GraphFile, allowed: bool) -> list[str]:
    """Refuse a graph whose inputs have changed since; a notice if that is `allowed`."""
    hint = f"build the graph again: d2prune graph --emb EMB --out {graph.name}"
    return refuse_stale(graph.name, graph.provenance_of_run(), "built from", hint, allowed)


def check_built_from(graph: GraphFile, emb: Source) -> None:
    """Refuse a graph that was built from other embeddings.

    Raises:
        DataError: also if the graph does not record what it was built from.
    """
    built_from = fingerprint_of(graph.provenance, "emb")
    if built_from != fingerprint(emb.paths):
        known = "was not built from" if built_from else "does not say whether it was built from"
        raise DataError(
            f"{graph.name}: {known} {emb.name}", "build the graph again, or leave --emb out"
        )
