"""The results: one JSON line per training, found by its key. A run only appends lines.

The key contains no version. After a change of the rule behind a default, delete its lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Inputs:
    """The inputs of selections: one data set, its labels, and the scores of one seed.

    Attributes:
        dataset: ``fashion_mnist``, ``wordnet``, ``kernel_docs`` or ``icons``.
        noise: the share of training labels, or of captions, that were replaced.
        scores: ``el2n``, or a score without labels: ``prototypicality``, ``knn-distance``; or
            ``cosine`` of images and captions.
        split: ``test``: select from all training rows, measure on the test rows. ``validation``,
            for tuning: measure on a tenth of the training rows, select from the others. The sets
            of ``icons`` for tuning are no training rows: its split is always ``test``.
        seed: of the noise, of the model that gives the scores, of selection and of training.
    """

    dataset: str
    noise: float
    scores: str
    split: str
    seed: int

    @property
    def name(self) -> str:
        """A name for files and messages."""
        return f"{self.dataset}-{self.noise:g}-{self.scores}-{self.split}-{self.seed}"


@dataclass(frozen=True)
class Training:
    """One training: a method, its settings, and the share of the rows that it keeps."""

    inputs: Inputs
    method: str
    rate: float
    settings: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        """The key of this training's result."""
        fields = {**asdict(self.inputs), "method": self.method, "rate": self.rate}
        return key_of({**fields, "settings": self.settings})


#: The inputs that decide a training, except its rows.
_MODEL = ("dataset", "noise", "split", "seed")
_KEYS = ("dataset", "noise", "scores", "split", "seed", "method", "rate", "settings")


def key_of(line: dict[str, Any]) -> str:
    """Return the key of a line."""
    return json.dumps([line[k] for k in _KEYS], sort_keys=True)


def digest_of(rows: np.ndarray) -> str:
    """Return a digest of the rows in their order, which decides the batches."""
    return hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest()[:16]


class Store:
    """All results in a folder."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self.folder = folder
        self.lines: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_text().splitlines():
                result = json.loads(line)
                self.lines[key_of(result)] = result

    def missing(self, trainings: Iterable[Training]) -> list[Training]:
        """Return the trainings without a result, each once."""
        return [t for key, t in {t.key: t for t in trainings}.items() if key not in self.lines]

    def add(self, training: Training, outcome: dict[str, Any]) -> None:
        """Append one result as a whole line, so that a run can be stopped at any time."""
        line = {**asdict(training.inputs), "method": training.method, "rate": training.rate}
        line |= {"settings": training.settings, **outcome}
        self.lines[training.key] = line
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{training.inputs.dataset}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def twins(self, inputs: Inputs) -> dict[str, dict[str, Any]]:
        """Return the results with the same model and labels, by the digest of their rows.

        Selections often agree: methods that use no scores select the same rows for all scores, and
        a cutoff of 0 cuts nothing. Equal rows are trained on once.
        """
        return {
            line["rows"]: line
            for line in self.lines.values()
            if "rows" in line and all(line[k] == getattr(inputs, k) for k in _MODEL)
        }

    def accuracy(self, training: Training) -> float | None:
        """Return the accuracy of a training, or None without a result."""
        line = self.lines.get(training.key)
        return None if line is None else float(line["accuracy"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.lines.values())
