"""One case of the table of malformed inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

#: Command lines; `BAD` is replaced by the name of the bad file.
EMB = "select --emb BAD --scores scores.npy --ratio 0.5"
COSINE = "select --emb BAD --scores scores.npy --ratio 0.5 --metric cosine"
BUILD = "graph --emb BAD --out out.arrow -k 3"
SCORES = "select --emb emb.npy --scores BAD --ratio 0.5"
CUTOFF = "select --emb emb.npy --scores scores.npy --ratio 0.5 --cutoff 0.1 --cutoff-scores BAD"
LABELS = "select --emb emb.npy --scores scores.npy --ratio 0.5 --balance uniform --labels BAD"
WITHIN = "graph --emb emb.npy --out out.arrow -k 3 --within BAD"
EXCLUDE = "select --emb emb.npy --scores scores.npy --ratio 0.5 --exclude BAD"
INCLUDE = "select --emb emb.npy --scores scores.npy --ratio 0.5 --include BAD"
EXCLUDE_IDS = "select --emb ids.parquet --scores scores.npy --ratio 0.5 --exclude BAD"
JOINED = "select --emb ids.parquet --scores BAD --ratio 0.5"
GRAPH = "propagate --graph BAD --scores scores.npy --out out.npy"
PICK = "select --graph BAD --scores scores.npy --ratio 0.5"
BUILT_FROM = "select --graph BAD --emb emb.npy --scores scores.npy --ratio 0.5"
PROPAGATE = "propagate --graph graph.arrow --scores BAD --out out.npy"
PROPAGATED = "select --graph graph.arrow --propagated BAD --ratio 0.5"


@dataclass(frozen=True)
class Case:
    """One malformed input, or one odd input that must work.

    Attributes:
        name: what is wrong with the input.
        command: the command line, with `BAD` for the file.
        file: the file's name.
        make: the content, or a function that returns it or writes files to the current folder.
        says: words that the error line must contain besides the name of the file.
        code: the exit code; 0 if the run must work and give the bytes of the plain form.
        hint: words that the hint must contain; empty if no hint is required.
        shown: the name in the error line, if it is not `file`.
    """

    name: str
    command: str
    file: str
    make: bytes | Callable[[], object]
    says: tuple[str, ...] = ()
    code: int = 1
    hint: str = ""
    shown: str = ""

    def prepare(self) -> list[str]:
        """Make the file in the current folder; returns the command line."""
        content = self.make if isinstance(self.make, bytes) else self.make()
        if isinstance(content, bytes):
            Path(self.file).write_bytes(content)
        return [self.file if word == "BAD" else word for word in self.command.split()]


def case(name, command, file, make, *says, code=1, hint="", shown="") -> Case:
    return Case(name, command, file, make, says, code, hint, shown)


def good(name, command, file, make) -> Case:
    """An odd input that must work."""
    return Case(name, command, file, make, code=0)


def cut(name: str, command: str, file: str, content: bytes, lengths: list[int]) -> list[Case]:
    """Cases of the file truncated to each length; negative lengths count from the end."""
    whole = len(content)
    return [case(f"{name} cut at {at} of {whole}", command, file, content[:at]) for at in lengths]
