"""A model's outputs on disk, epoch by epoch: one array of them all, or a file for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError, UsageError
from d2cli.files.formats.fields import Field
from d2cli.files.frame import Frame
from d2cli.files.sources import Source, open_source


@dataclass(frozen=True)
class Epochs:
    """Outputs of n rows and C classes, of several epochs in order.

    Attributes:
        source: its parts are files, each of one epoch, (n, C), or of several, (epochs, n, C).
        n: rows of each epoch.
        classes: C.
    """

    source: Source
    n: int
    classes: int

    @property
    def counts(self) -> list[int]:
        """How many epochs each file has."""
        return [1 if len(part.shape) == 2 else part.shape[0] for part in self.source.parts]

    @property
    def count(self) -> int:
        """How many epochs there are."""
        return sum(self.counts)

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return self.source.paths

    @property
    def name(self) -> str:
        """What to call the input in a message."""
        return self.source.name

    def frame(self) -> Frame:
        """The rows, in the order of the first file."""
        first = self._rows_of_part(0)
        ids = None if first is None else first.ids()
        return Frame(self.n, self.source.parts[0].where, ids, self.source.has_columns)

    def blocks(
        self, frame: Frame, wanted: range
    ) -> Iterator[tuple[int, int, NDArray[Any], NDArray[np.int64] | None, Field]]:
        """(epoch, first row in its file, outputs, their rows in the frame, field), in order.

        Epochs count from 0 over all files; consecutive ones are wanted. Where a file carries ids
        its rows are found by them: None stands for the same order, -1 for no row of the frame.
        """
        ends = list(accumulate(self.counts))
        for at, part in enumerate(self.source.parts):
            before = ends[at] - self.counts[at]
            own = range(max(wanted.start - before, 0), min(wanted.stop - before, self.counts[at]))
            if not own:
                continue
            places = self._places(frame, at)
            for layer, start, block in part.layers(own):
                rows = None if places is None else places[start : start + block.shape[0]]
                yield before + layer, start, block, rows, part

    def check(self, frame: Frame) -> None:
        """Refuse outputs that are not of the frame's rows, as far as the first file says.

        Raises:
            DataError: with a hint where the axes seem to be exchanged.
        """
        part = self.source.parts[0]
        if self.source.id_parts:
            self._places(frame, 0)
            return
        if self.n == frame.n:
            return
        if len(part.shape) == 3 and part.shape[0] == frame.n:
            raise DataError(
                f"{part.where}: has the shape {part.shape}, and {frame.name} has {frame.n:,} rows: "
                "that is (n, epochs, classes), and (epochs, n, classes) is wanted",
                f"in Python: z = numpy.load({str(part.path)!r}); "
                "numpy.save('outputs.npy', z.transpose(1, 0, 2))",
            )
        raise DataError(
            f"{part.where}: has the shape {part.shape}, so {self.n:,} rows an epoch, and "
            f"{frame.name} has {frame.n:,}",
            "several files are taken for one epoch each; the rows of one epoch belong in one file"
            if len(self.source.parts) > 1
            else "(epochs, n, classes) is wanted, or (n, classes) of one epoch",
        )

    def _rows_of_part(self, at: int) -> Source | None:
        """One file as an input of n rows with ids, if it has any."""
        if not self.source.id_parts:
            return None
        source = self.source
        return Source(source.role, source.option, [source.parts[at]], [source.id_parts[at]])

    def _places(self, frame: Frame, at: int) -> NDArray[np.int64] | None:
        """For each row of a file its row in the frame, -1 where it has none."""
        source = self._rows_of_part(at)
        rows = None if source is None else frame.rows_of(source)
        if rows is None:
            return None
        places = np.full(self.n, -1, np.int64)
        places[rows] = np.arange(frame.n)
        return places


def open_epochs(
    arguments: list[str], option: str, key: str | None, id_column: str | None
) -> Epochs:
    """Open the files behind ``--logits`` or ``--probs``; reads headers only.

    Raises:
        DataError: where a file cannot be used, or the files are not of one shape.
    """
    source = open_source(arguments, "outputs", option, key, id_column)
    rows, classes = {}, {}
    for part in source.parts:
        if not part.n:
            raise DataError(f"{part.where}: holds nothing")
        classes[part.where] = part.shape[2] if len(part.shape) == 3 else part.width()
        rows[part.where] = part.shape[-2]
    for what, numbers in (("rows", rows), ("classes", classes)):
        first = next(iter(numbers))
        for where, number in numbers.items():
            if number != numbers[first]:
                raise DataError(
                    f"{where}: has {number:,} {what}, {first} has {numbers[first]:,}",
                    "several files are taken for one epoch each, in natural order",
                )
    first = source.parts[0].where
    return Epochs(source, rows[first], classes[first])


def epoch_range(text: str | None, count: int) -> range:
    """The epochs that ``A:B`` means, counted from 0; A and B count from 1 and are both used.

    Raises:
        UsageError: for what is no such text, and for epochs that are not there.
    """
    if text is None:
        return range(count)
    first, colon, last = text.strip().partition(":")
    try:
        start = int(first) if first else 1
        stop = int(last) if last else (count if colon else start)
        if not text.strip():
            raise ValueError
    except ValueError:
        raise UsageError(
            f"--epochs must be A:B, not {text!r}",
            "epochs count from 1 and both ends are used: 1:10 is the first ten, 5: from the fifth",
        ) from None
    if not 1 <= start <= stop <= count:
        raise UsageError(
            f"--epochs {text}: there are epochs 1 to {count}",
            "epochs count from 1, and both ends are used",
        )
    return range(start - 1, stop)
