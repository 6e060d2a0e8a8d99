"""What is data among the files of folders: neither our own outputs nor caches."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from d2cli.files.locate.hugging_face import is_cache
from d2cli.files.locate.own_outputs import is_foreign, is_sidecar, reads_parts
from d2cli.files.locate.splits import listed
from d2cli.files.locate.tree import Entry, Tree
from d2cli.files.parts.part_kinds import names_folder


class Survey:
    """Looks through folders for an option, and remembers what it leaves out.

    Attributes:
        tree, option: where the folders are, and the option's name without dashes.
        outputs, caches: paths of outputs of d2prune and of caches that were left out.
    """

    def __init__(self, tree: Tree, option: str) -> None:
        self.tree, self.option = tree, option
        self.outputs: list[str] = []
        self.caches: list[str] = []

    def data(self, entries: list[Entry]) -> list[Entry]:
        """The data files among all the `entries` of one folder, and the parts of outputs in it."""
        names = {entry.name for entry in entries}
        return self._files(
            entry
            for entry in entries
            if (entry.is_data or _is_parted(entry)) and self._is_kept(entry.path, names)
        )

    def kept(self, matches: list[Entry]) -> list[str]:
        """The data files among the matches of a glob, and the parts of outputs among them."""
        places = {os.path.dirname(one.path) for one in matches}
        names = {
            one: {entry.name for entry in self.tree.entries(one or os.curdir)} for one in places
        }
        found = self._files(
            one
            for one in matches
            if (not one.is_folder or _is_parted(one))
            and self._is_kept(one.path, names[os.path.dirname(one.path)])
        )
        return [file.path for file in found]

    def _files(self, entries: Iterable[Entry]) -> list[Entry]:
        """The files themselves, and those of folders of parts if the option consumes parts."""
        found: list[Entry] = []
        for entry in entries:
            if not entry.is_folder:
                found.append(entry)
            elif reads_parts(self.option):
                found += self.data(self.tree.entries(entry.path))
        return found

    def _is_kept(self, path: str, names: set[str]) -> bool:
        """Whether a file, or a folder of parts, is data; `names` are those of its folder."""
        name = os.path.basename(path)
        output, ending = os.path.splitext(name)
        if ending == ".json" and output in names and is_sidecar(path, self.tree):
            return False
        if is_cache(name):
            self.caches.append(path)
            return False
        if f"{name}.json" in names and is_foreign(path, self.tree, self.option):
            self.outputs.append(path)
            return False
        return True

    def notices(self, place: str) -> list[str]:
        """What was left out."""
        found = []
        if self.outputs:
            found.append(outputs_notice(place, self.outputs))
        if self.caches:
            files = listed(_names(self.caches), most=4)
            found.append(
                f"{place}: caches of Hugging Face datasets are not read: {files}; a shuffled or "
                "filtered data set is read after dataset.flatten_indices().save_to_disk(…)"
            )
        return found

    @property
    def left_out(self) -> str:
        """What was left out, for an error that nothing else is there; empty: nothing."""
        what = []
        if self.outputs:
            what.append(f"outputs of d2prune ({listed(_names(self.outputs), most=4)})")
        if self.caches:
            what.append(f"caches of datasets ({listed(_names(self.caches), most=4)})")
        return f", only {listed(what)}" if what else ""


def _is_parted(entry: Entry) -> bool:
    """Whether the name of a folder is that of an output in parts."""
    return entry.is_walked and names_folder(entry.name)


def outputs_notice(place: str, outputs: list[str]) -> str:
    """The notice that outputs of d2prune are left out."""
    names = listed(_names(outputs), most=4)
    return f"{place}: outputs of d2prune are not read as data: {names}"


def _names(paths: list[str]) -> list[str]:
    return [Path(path).name for path in paths]
