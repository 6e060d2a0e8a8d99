"""A recorder of a model's outputs in a training loop, by row number, for ``score --logits``."""

from __future__ import annotations

import errno
import operator
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from d2cli.errors import DataError, OutputError, UsageError
from d2cli.files.output.temporary import Lease, sweep
from d2cli.limits import check_choice

Mode = Literal["a", "w", "x"]
Stored = Literal["float16", "float32", "float64"]
#: Bytes that are written or checked at a time.
_BLOCK_BYTES = 1 << 23


class EpochLog:
    """Outputs of a model for every row of a training set, in every epoch: one ``.npy`` file.

    The file holds (epochs, n, classes) numbers and is memory-mapped. It is a complete ``.npy`` file
    from the start: rows that were not recorded are NaN, and a run that is killed loses nothing
    that it has recorded. Several processes of one machine may record different rows at the same
    time.

    >>> with EpochLog("logits.npy", epochs=10, n=len(dataset), classes=10) as log:
    ...     for epoch in range(log.epochs_done, 10):
    ...         for rows, images, labels in loader:   # rows: their numbers in the data set
    ...             log.record(epoch, rows, model(images))

    Args:
        path: the file.
        epochs, n, classes: its shape.
        dtype: ``float16`` (three digits, half the size), ``float32`` or ``float64``.
        mode: ``a`` creates the file, or continues it if it has this shape and dtype; ``w`` begins a
            new file in any case; ``x`` refuses a file that exists.

    Raises:
        UsageError: for sizes below 1, or an unknown `dtype` or `mode`.
        DataError: if the file that is there cannot be continued.
        OutputError: if the file cannot be written.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, epochs: int, n: int, classes: int,
        dtype: Stored = "float16", mode: Mode = "a",
    ) -> None:  # fmt: skip
        check_choice("mode", mode, Mode)
        check_choice("dtype", getattr(dtype, "__name__", str(dtype)), Stored)
        sizes = {"epochs": epochs, "n": n, "classes": classes}
        for name, size in sizes.items():
            if operator.index(size) < 1:
                raise UsageError(f"{name} must be at least 1, not {size}")
        self.path = Path(path)
        self.shape = (operator.index(epochs), operator.index(n), operator.index(classes))
        self.dtype = np.dtype(dtype)
        #: Values that were beyond the range of `dtype` and are recorded as its limits.
        self.clipped = 0
        new = mode == "w" or not self.path.exists()
        if new:
            self._create(replace=mode == "w")
        elif mode == "x":
            raise DataError(f"{self.path}: exists", "mode='w' replaces it, mode='a' continues it")
        self._values: NDArray[Any] | None = self._opened()
        #: Epochs that an earlier run has completed.
        self._closed = frozenset(
            epoch for epoch in range(0 if new else self.shape[0]) if self._is_complete(epoch)
        )
        self._done = 0

    # -- recording --------------------------------------------------------------------------------
    def record(self, epoch: int, rows: Any, outputs: Any) -> None:
        """Record the outputs of some rows in one epoch.

        Arrays may be tensors of any framework, on any device, with or without gradients. A row that
        is recorded twice in an epoch keeps the last values. Values beyond the range of `dtype`, and
        -inf (masked classes), are recorded as its limits, with a warning the first time.

        Args:
            epoch: counted from 0.
            rows: (m,) integers, the numbers of the rows in the training set, in any order; or one.
            outputs: (m, classes) numbers; or (classes,) of one row.

        Raises:
            UsageError: for an epoch or row that does not exist, another shape, or an epoch that an
                earlier run has completed.
            DataError: for NaN or +inf, with epoch, row and class.
        """
        values = self._open()
        epoch = self._checked(epoch)
        if epoch in self._closed:
            raise UsageError(
                f"{self.path}: epoch {epoch} was completed by an earlier run",
                f"go on at log.epochs_done; log.restart({epoch}) forgets this epoch and all later "
                "ones; mode='w' begins a new log",
            )
        places = np.atleast_1d(as_array(rows))
        if places.ndim != 1 or places.dtype.kind not in "iu":
            raise UsageError(
                f"rows must be (m,) integers, not {places.shape} {places.dtype}",
                "the numbers of the rows in the training set, as the loader gives them",
            )
        found = as_array(outputs)
        if found.ndim == 1 and places.size == 1:
            found = found[None]
        if found.shape != (places.size, self.shape[2]):
            wanted = f"({places.size}, {self.shape[2]}), one row for each of `rows`"
            raise UsageError(f"outputs must be {wanted}, not {found.shape}")
        outside = (places < 0) | (places >= self.shape[1])
        if outside.any():
            raise UsageError(
                f"row {places[outside][0]} is none of the rows 0 to {self.shape[1] - 1:,}"
            )
        values[epoch, places] = self._storable(found, epoch, places)

    def _storable(
        self, found: NDArray[Any], epoch: int, places: NDArray[np.integer]
    ) -> NDArray[Any]:
        """`found` within the range of the dtype; a DataError for NaN and +inf."""
        if found.dtype.kind not in "fiu":
            raise UsageError(f"outputs must be numbers, not {found.dtype}")
        bad = np.isnan(found) | (found == np.inf)
        if bad.any():
            at, column = np.argwhere(bad)[0]
            raise DataError(
                f"epoch {epoch}, row {places[at]}, class {column}: is {found[at, column]}",
                "the model has diverged, or its outputs overflow: record nothing, or train on",
                argument="outputs", row=int(places[at]),
            )  # fmt: skip
        limit = float(np.finfo(self.dtype).max)
        beyond = (found > limit) | (found < -limit)
        if beyond.any():
            if not self.clipped:
                at, column = np.argwhere(beyond)[0]
                warnings.warn(
                    f"{self.path}: epoch {epoch}, row {places[at]}, class {column}: "
                    f"{found[at, column]} is beyond {self.dtype} and is recorded as its limit, "
                    f"±{limit:g}; log.clipped counts such values",
                    RuntimeWarning, stacklevel=3,
                )  # fmt: skip
            self.clipped += int(np.count_nonzero(beyond))
            found = np.clip(found, -limit, limit)
        return found.astype(self.dtype)

    # -- what is recorded -------------------------------------------------------------------------
    @property
    def epochs_done(self) -> int:
        """Number of epochs from the first on in which every row is recorded: where to go on."""
        while self._done < self.shape[0] and self._is_complete(self._done):
            self._done += 1
        return self._done

    @property
    def values(self) -> NDArray[Any]:
        """(epochs, n, classes): what is recorded so far, read-only; NaN where nothing is."""
        view = self._open().view()
        view.flags.writeable = False
        return view

    def missing(self, epoch: int) -> NDArray[np.int64]:
        """The rows that are not recorded in an epoch, ascending int64."""
        epoch = self._checked(epoch)
        found = [first + self._gaps(epoch, first) for first in self._blocks()]
        return np.concatenate(found).astype(np.int64)

    def restart(self, epoch: int) -> None:
        """Forget `epoch` and all epochs after it, so that they can be recorded anew.

        For a training that resumes from a checkpoint which is older than the log. Of several
        processes one calls it, before any of them records.
        """
        epoch = self._checked(epoch)
        self._open()[epoch:] = np.nan
        self._closed = frozenset(closed for closed in self._closed if closed < epoch)
        self._done = min(self._done, epoch)

    def _is_complete(self, epoch: int) -> bool:
        return not any(self._gaps(epoch, first).size for first in self._blocks())

    def _blocks(self) -> range:
        """First rows of the blocks that are checked at a time."""
        rows = max(1, _BLOCK_BYTES // (self.dtype.itemsize * self.shape[2]))
        return range(0, self.shape[1], rows)

    def _gaps(self, epoch: int, first: int) -> NDArray[np.intp]:
        """Rows of one block that hold NaN, counted from the block's first."""
        block = self._open()[epoch, first : first + self._blocks().step]
        return np.flatnonzero(np.isnan(block).any(axis=1))

    # -- the file ---------------------------------------------------------------------------------
    def flush(self) -> None:
        """Write what is recorded to the disk. Only a failure of the machine makes it necessary."""
        values = self._open()
        assert isinstance(values, np.memmap)
        values.flush()

    def close(self) -> None:
        """Flush and close the file; a second call does nothing."""
        if self._values is not None:
            self.flush()
            self._values = None

    def __enter__(self) -> EpochLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"EpochLog({str(self.path)!r}, shape={self.shape}, dtype={self.dtype.name!r})"

    def _open(self) -> NDArray[Any]:
        if self._values is None:
            raise UsageError(f"{self.path}: the log is closed")
        return self._values

    def _checked(self, epoch: int) -> int:
        number = operator.index(epoch)
        if not 0 <= number < self.shape[0]:
            raise UsageError(
                f"epoch {number} is none of the epochs 0 to {self.shape[0] - 1}",
                "epochs are counted from 0 here",
            )
        return number

    def _create(self, replace: bool) -> None:
        """Make the file, full of NaN, under a temporary name, and give it its name at once."""
        folder = self.path.absolute().parent
        try:
            sweep(folder)
            lease = Lease(folder)
            try:
                temporary = lease.temporary()
                self._fill(temporary)
                _name(temporary, self.path, replace)
            finally:
                lease.end()
        except OSError as error:
            need = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
            full = f"; it needs {need:,} bytes" if error.errno == errno.ENOSPC else ""
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}){full}") from None

    def _fill(self, path: Path) -> None:
        """Write a file of NaN. The disk space is taken now, not in the middle of the training."""
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": self.shape,
        }
        left = int(np.prod(self.shape, dtype=object))
        block = np.full(min(left, _BLOCK_BYTES // self.dtype.itemsize), np.nan, self.dtype)
        with open(path, "xb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            while left:
                count = min(left, block.size)
                file.write(block[:count].data)
                left -= count
            file.flush()
            os.fsync(file.fileno())

    def _opened(self) -> NDArray[Any]:
        """The file, mapped for writing, once its header and size are known to be right."""
        hint = "mode='w' begins a new log in its place"
        try:
            # A file that is too short is refused when it is mapped for reading; mapped for writing,
            # it would be made longer, with zeros.
            there = np.load(self.path, mmap_mode="r")
        except (ValueError, EOFError, TypeError):
            raise DataError(f"{self.path}: is not a complete .npy file", hint) from None
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be opened ({error.strerror})") from None
        found = (getattr(there, "shape", None), getattr(there, "dtype", None))
        if found != (self.shape, self.dtype):
            says = f"holds {found[0]} {found[1]}, not {self.shape} {self.dtype}"
            raise DataError(f"{self.path}: {says}", hint)
        del there
        try:
            mapped: NDArray[Any] = np.load(self.path, mmap_mode="r+")
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from None
        return mapped


def _name(temporary: Path, path: Path, replace: bool) -> None:
    """Give a finished file its name; without `replace`, a file that is there by now stays."""
    if replace:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was faster, and its file is as good
    except (AttributeError, NotImplementedError, OSError):  # no hard links here
        if not path.exists():
            os.rename(temporary, path)


def as_array(values: Any) -> NDArray[Any]:
    """A NumPy array from an array or tensor of any framework, or from nested lists.

    Tensors of PyTorch are detached and copied from their device. bfloat16, which NumPy does not
    have, becomes float32.
    """
    if isinstance(values, np.ndarray):
        found = values
    elif hasattr(values, "detach"):  # PyTorch
        tensor = values.detach().cpu()
        try:
            found = np.asarray(tensor.numpy())
        except TypeError:  # bfloat16
            found = np.asarray(tensor.float().numpy())
    elif hasattr(values, "get") and hasattr(values, "__cuda_array_interface__"):  # CuPy
        found = np.asarray(values.get())
    elif hasattr(values, "__array__") or isinstance(values, Sequence | int | float):
        found = np.asarray(_listed(values))
    elif hasattr(values, "__dlpack__"):
        found = np.from_dlpack(values)
    else:
        found = np.asarray(values)
    return found.astype(np.float32) if found.dtype.name == "bfloat16" else found


def _listed(values: Any) -> Any:
    """A sequence with its tensors as arrays: a list of tensors, one a row."""
    if isinstance(values, list | tuple) and any(hasattr(value, "detach") for value in values):
        return [as_array(value) for value in values]
    return values
