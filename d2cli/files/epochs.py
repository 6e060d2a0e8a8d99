"""A model's outputs by epoch: one array of all epochs, or one file per epoch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from d2cli.errors import DataError, UsageError
from d2cli.files.epoch_rows import open_epoch_rows, read_epoch_rows, refuse_companions
from d2cli.files.formats.choice import NO_IDS
from d2cli.files.formats.fields import Field
from d2cli.files.frame import Frame
from d2cli.files.keys import Key
from d2cli.files.sources import Layout, Source, open_source


class Epochs:
    """Outputs of `n` rows and `classes` classes, for `count` epochs in order.

    Each part of `source` is a file of one epoch, (n, classes), or of several, (epochs, n, classes).
    `counts` are their numbers of epochs; `paths` and `name` are those of `source`. `row_numbers`
    are files that give the row of each output, or None.
    """

    def __init__(
        self, source: Source, n: int, classes: int, row_numbers: Source | None = None
    ) -> None:
        self.source, self.n, self.classes, self.row_numbers = source, n, classes, row_numbers
        self.paths, self.name = source.paths, source.name
        self.counts = [1 if len(p.shape) == 2 else p.shape[0] for p in source.parts]
        self.count = sum(self.counts)

    def layout(self) -> Layout:
        """What the headers say; rows and width are those of one epoch."""
        return self.source.layout(self.n, self.classes)

    def frame(self, id_column: str | None = None) -> Frame:
        """A frame of the rows, in the order of the first file, or of the row numbers."""
        if self.row_numbers is not None:
            return Frame(self.n, self.name, id_column=id_column)
        return Frame.of(self._part(0), id_column)

    def blocks(
        self, frame: Frame, wanted: range
    ) -> Iterator[tuple[int, int, NDArray[Any], NDArray[np.int64] | None, Field]]:
        """(epoch, first row in its file, outputs, their rows in the frame, field), in order.

        The rows are None if file and frame have the same order; -1 stands for a row that is not in
        the frame. A file with ids is joined by id. `wanted` are consecutive epochs, counted from 0
        over all files.
        """
        before = 0
        for at, (part, count) in enumerate(zip(self.source.parts, self.counts, strict=True)):
            own = range(max(wanted.start - before, 0), min(wanted.stop - before, count))
            places, known = None, -1
            for layer, start, block in part.layers(own) if own else ():
                if known < 0 or (self._has_own_rows(at) and layer != known):
                    places, known = self._places(frame, at, layer), layer
                rows = None if places is None else places[start : start + block.shape[0]]
                yield before + layer, start, block, rows, part
            before += count

    def check(self, frame: Frame) -> None:
        """Check the number of rows, and the ids of the first file, against the frame.

        Raises:
            DataError: if they differ; with a hint if the axes seem to be exchanged.
        """
        part = self.source.parts[0]
        if self.row_numbers is not None and self.n == frame.n:
            for at in range(len(self.source.parts)):
                self._places(frame, at)
            frame.note(self.source, f"by the row numbers of {self.row_numbers.name}")
            return
        if self.source.keys or self.n == frame.n:
            self._places(frame, 0)
            return
        if len(part.shape) == 3 and part.shape[0] == frame.n:
            raise DataError(
                f"{part.where}: has the shape {part.shape}, and {frame.name} has {frame.n:,} rows: "
                "the shape must be (epochs, n, classes), not (n, epochs, classes)",
                f"in Python: z = numpy.load({str(part.path)!r}); "
                "numpy.save('outputs.npy', z.transpose(1, 0, 2))",
            )
        hint = "the shape must be (epochs, n, classes), or (n, classes) of one epoch"
        if len(self.source.parts) > 1:
            hint = "each of several files is one epoch; put the rows of an epoch into one file"
        if len(part.shape) == 2 and part.shape[1] == frame.n:
            hint += (
                "; of (epochs, n) probabilities p of the labels alone, make "
                "numpy.stack([p, 1 - p], axis=2), and give 0 as every label"
            )
        says = f"has the shape {part.shape}, so {self.n:,} rows an epoch, and {frame.name} has"
        raise DataError(f"{part.where}: {says} {frame.n:,}", hint)

    def check_labels(self, frame: Frame, labels: Source) -> None:
        """Refuse labels without ids if the epochs are in different orders (DataError).

        Only the second and the last file are compared with the first: a loader shuffles each epoch.
        """
        join = frame.joins.get(labels.option)
        if join is None or join.by is not None or self.row_numbers is not None:
            return
        if set(labels.keys) & set(self.source.keys) or labels.paths[0] in self.source.paths:
            return
        for at in {1, len(self.source.parts) - 1} - {0, len(self.source.parts)}:
            if self.source.keys and frame.rows_of(self._part(at), keep=False) is not None:
                join = frame.joins[self.source.option]
                raise DataError(
                    f"{self.source.parts[at].where}: its rows are in another order than those of "
                    f"{self.source.parts[0].where} (joined by {join.by}), and {labels.name} has no "
                    "such column",
                    f"give labels with the column {join.by}",
                )

    def check_labels_agree(self, frame: Frame, name: str) -> None:
        """Refuse epochs whose column `name`, the labels, differs from that of the first epoch."""
        if name not in self.source.keys:
            return

        def labels_of(part: Source, first: bool) -> pa.Array:
            rows, values = frame.rows_of(part, keep=first), part.keys[name].values()
            return values if rows is None else values.take(pa.array(rows))

        first, *others = (self._part(at) for at in range(len(self.source.parts)))
        ours = labels_of(first, True)
        for part in others:
            if not ours.equals(labels_of(part, False)):
                where = f"{part.paths[0]}: {name}"
                says = f"differs from that of {first.paths[0]}"
                raise DataError(f"{where} {says}", "give the labels of each row with --labels")

    @property
    def shown(self) -> str:
        """The files, the column and the size, for people."""
        names = list(dict.fromkeys(part.name for part in self.source.parts if part.name))
        more = f" … ({len(self.paths)} files)" if len(self.paths) > 1 else ""
        column = f": {names[0]}{' …' if len(names) > 1 else ''}" if names else ""
        size = f"{self.count} epochs × {self.n:,} rows × {self.classes:,} classes"
        return f"{self.paths[0]}{more}{column}, {size}"

    def _part(self, at: int) -> Source:
        """One file as a source of n rows, with its ids."""
        source, part = self.source, slice(at, at + 1)
        keys = {name: Key(name, key.parts[part]) for name, key in source.keys.items()}
        return Source(
            source.role, source.option, source.parts[part], source.id_parts[part], keys, self.n
        )

    def _has_own_rows(self, at: int) -> bool:
        """Whether each epoch of a file of several has row numbers of its own."""
        return self.row_numbers is not None and len(self.row_numbers.parts[at].shape) == 2

    def _places(self, frame: Frame, at: int, layer: int = 0) -> NDArray[np.int64] | None:
        """(n,) int64, the row in the frame of each row of a file, -1 for none; None if equal."""
        if self.row_numbers is not None:
            return read_epoch_rows(self.row_numbers, at, layer, frame.n, frame.name)
        rows = frame.rows_of(self._part(at), keep=at == 0)
        if rows is None:
            return None
        places = np.full(self.n, -1, np.int64)
        places[rows] = np.arange(frame.n)
        return places


def open_epochs(
    arguments: list[str],
    option: str,
    key: str | None,
    id_column: str | None,
    *,
    epoch_rows: list[str] | None = None,
    skim: bool = False,
) -> Epochs:
    """Open the files of ``--logits`` or ``--probs``; arguments as of :func:`open_source`.

    `epoch_rows` are the files of ``--epoch-rows``. Without them, files of row numbers beside the
    outputs are refused.

    Raises:
        DataError: if a file cannot be used, or files differ in rows or classes.
    """
    source = open_source(arguments, "outputs", option, key, id_column, skim=skim)
    shapes = []
    for part in source.parts:
        if not part.n:
            raise DataError(f"{part.where}: there are no rows")
        classes = part.shape[2] if len(part.shape) == 3 else part.header_width()
        shapes.append({"rows": part.shape[-2], "classes": classes})
    first = shapes[0]
    for what in first:
        for part, shape in zip(source.parts, shapes, strict=True):
            if shape[what] != first[what]:
                says = f"has {shape[what]:,} {what}, {source.parts[0].where} has {first[what]:,}"
                hint = "each of several files is one epoch, in natural order"
                raise DataError(f"{part.where}: {says}", hint)
    row_numbers = None
    if epoch_rows is not None:
        row_numbers = open_epoch_rows(epoch_rows, source)
    elif id_column != NO_IDS:
        refuse_companions(source, option)
    return Epochs(source, first["rows"], first["classes"], row_numbers)


def epoch_range(text: str | None, count: int) -> range:
    """The epochs of ``A:B``, counted from 0. A and B count from 1, and both are included.

    Raises:
        UsageError: if the text has another form, or names epochs that do not exist.
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
            "epochs count from 1, both ends included: 1:10 is the first ten, 5: all from the fifth",
        ) from None
    if not 1 <= start <= stop <= count:
        hint = "epochs count from 1, both ends included"
        raise UsageError(f"--epochs {text}: there are epochs 1 to {count}", hint)
    return range(start - 1, stop)
