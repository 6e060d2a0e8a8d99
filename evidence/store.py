"""The results: one JSON line a training, to which a run only adds, and found by its key.

The key knows no version: when the rule behind a default changes, the lines that it made have to go.
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
    """What selections are made from: one data set, its labels, and the scores of one seed.

    Attributes:
        dataset: ``fashion_mnist`` or ``wordnet``.
        noise: the share of training labels that were replaced.
        scores: ``el2n``, or a score that needs no label: ``prototypicality``, ``knn-distance``.
        split: ``test``: select from all training rows, measure on the test rows; ``validation``:
            measure on a tenth of the training rows, select from the others. Settings are tuned so.
        seed: of the noise, of the model that gives the scores, of selection and of training.
    """

    dataset: str
    noise: float
    scores: str
    split: str
    seed: int

    @property
    def name(self) -> str:
        """A file name."""
        return f"{self.dataset}-{self.noise:g}-{self.scores}-{self.split}-{self.seed}"


@dataclass(frozen=True)
class Training:
    """One model to be trained: on what is selected how."""

    inputs: Inputs
    method: str
    rate: float
    settings: dict[str, Any] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        """What tells this training from all others."""
        said = {**asdict(self.inputs), "method": self.method, "rate": self.rate}
        return key_of({**said, "settings": self.settings})


#: What decides a training, but for the rows that it sees.
_MODEL = ("dataset", "noise", "split", "seed")
_KEYS = ("dataset", "noise", "scores", "split", "seed", "method", "rate", "settings")


def key_of(line: dict[str, Any]) -> str:
    """The key of a result."""
    return json.dumps([line[k] for k in _KEYS], sort_keys=True)


def digest_of(rows: np.ndarray) -> str:
    """A name for these rows in this order, which is that of the batches."""
    return hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest()[:16]


class Store:
    """All results so far."""

    def __init__(self, folder: Path = RESULTS) -> None:
        self.folder = folder
        self.lines: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_text().splitlines():
                result = json.loads(line)
                self.lines[key_of(result)] = result

    def missing(self, trainings: Iterable[Training]) -> list[Training]:
        """Those that have no result yet, each once."""
        return [t for key, t in {t.key: t for t in trainings}.items() if key not in self.lines]

    def add(self, training: Training, outcome: dict[str, Any]) -> None:
        """Append one result; a line is written whole, so that a run can be stopped anywhere."""
        line = {**asdict(training.inputs), "method": training.method, "rate": training.rate}
        line |= {"settings": training.settings, **outcome}
        self.lines[training.key] = line
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{training.inputs.dataset}.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def twins(self, inputs: Inputs) -> dict[str, dict[str, Any]]:
        """Results of the same model on the same labels, by what they were trained on.

        Selections often agree: those that look at no score do whatever the scores are, and a cutoff
        of 0 is none. Trained once is enough.
        """
        return {
            line["rows"]: line
            for line in self.lines.values()
            if "rows" in line and all(line[k] == getattr(inputs, k) for k in _MODEL)
        }

    def accuracy(self, training: Training) -> float | None:
        """The accuracy of a training, where it has a result."""
        line = self.lines.get(training.key)
        return None if line is None else float(line["accuracy"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.lines.values())
