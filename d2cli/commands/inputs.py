"""The inputs of a run: each opened once, described once, and watched until the run ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from d2cli.commands.requests import Input
from d2cli.errors import DataError
from d2cli.files.formats.choice import Role
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
from d2cli.files.sources import Layout, Source, open_source

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


class Inputs:
    """Opens the inputs of one run and remembers them in the order of opening.

    Opening reads headers only. :meth:`describe`, before any data is read, says what the outputs are
    made from, and :meth:`changed` compares the files with that at the end.

    Attributes:
        id_column: as the user gave it.
        skim: whether only a plan follows: then a CSV is read at its beginning only.
    """

    def __init__(self, id_column: str | None = None, skim: bool = False) -> None:
        self.id_column, self.skim = id_column, skim
        self._opened: list[_Opened] = []
        self._described: tuple[dict[str, Any], dict[str, Any]] | None = None

    def source(
        self,
        given: Input | None,
        role: Role,
        option: str,
        *,
        key_option: str | None = "",
        described: bool = True,
    ) -> Source | None:
        """Open the files of an option, or return None if it was not given."""
        if given is None:
            return None
        found = open_source(
            given.paths, role, option, given.key, self.id_column,
            key_option=key_option, skim=self.skim,
        )  # fmt: skip
        if described:
            self.remember(option, found)
        else:
            self.add(option, found.paths, found.layout, None)
        return found

    def rows(self, arguments: tuple[str, ...], option: str) -> list[Source]:
        """Open the files that name rows, one source each."""
        found = []
        for argument in arguments:
            one = open_source(
                [argument], "rows", option, None, self.id_column, key_option=None, skim=self.skim
            )
            self.add(option, one.paths, one.layout, partial(describe_files, one.paths, one.n), True)
            found.append(one)
        return found

    def graph(self, path: str | None) -> GraphFile | None:
        """Open a graph file, or return None if none was given."""
        if path is None:
            return None
        graph = open_graph(path)
        about = partial(describe_files, graph.paths, graph.n)
        self.add("graph", graph.paths, lambda: graph, about)
        return graph

    def remember(self, option: str, source: Source) -> None:
        """Remember a source that was opened elsewhere."""
        self.add(option, source.paths, source.layout, partial(describe, source))

    def add(
        self,
        option: str,
        paths: list[Path],
        layout: Callable[[], Header] | None,
        describe: Callable[[], dict[str, Any]] | None,
        repeats: bool = False,
    ) -> None:
        """Remember an input of any kind: what a plan and what provenance say of it, or None."""
        name = option.replace("-", "_")
        self._opened.append(_Opened(name, paths, layout, describe, repeats, _stamp(paths)))

    def forget(self, option: str) -> None:
        """Forget an input that the run does not use."""
        name = option.replace("-", "_")
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
        """What provenance records of each input: path, size, rows, fingerprint."""
        return self.describe()[0]

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


def _stamp(paths: list[Path]) -> tuple[Any, ...]:
    """What changes whenever a file is written or replaced."""
    found = [path.stat() if path.exists() else None for path in paths]
    return tuple(s and (s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in found)


def stale_graph(graph: GraphFile, allowed: bool) -> list[str]:
    """Refuse a graph whose inputs have changed since; a notice if that is `allowed`."""
    hint = f"build the graph again: d2prune graph --emb EMB --out {graph.path}"
    return refuse_stale(str(graph.path), graph.provenance_of_run(), "built from", hint, allowed)


def check_built_from(graph: GraphFile, emb: Source) -> None:
    """Refuse a graph that was built from other embeddings.

    Raises:
        DataError: also if the graph does not record what it was built from.
    """
    built_from = fingerprint_of(graph.provenance, "emb")
    if built_from != fingerprint(emb.paths):
        known = "was not built from" if built_from else "does not say whether it was built from"
        raise DataError(
            f"{graph.path}: {known} {emb.name}", "build the graph again, or leave --emb out"
        )
