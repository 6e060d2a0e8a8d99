"""Rows that cannot be used: counted and refused, or left out of everything and recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2cli.defaults import BadRowsPolicy, Metric
from d2cli.errors import DataError
from d2cli.files.frame import Frame
from d2cli.files.sources import Reordered, Source
from d2cli.graph.vectors import fault_of, unusable_rows
from d2cli.runtime.memory import allocate

#: The number of rows that a refusal names.
_NAMED = 3
#: The number of rows of one input that provenance lists; more are only counted.
_LISTED = 100_000


@dataclass
class BadRows:
    """The rows of a run that cannot be used, whatever the reason.

    Attributes:
        policy: ``refuse`` raises an error at the first input with such rows; ``drop`` leaves them
            out.
        ignored: (n,) bool, rows that are excluded anyway: they are never looked at.
        dropped: (n,) bool, the rows that are left out.
        found: by input, the numbers of its bad rows in the frame.
        can_exclude: whether the command has ``--exclude``.
    """

    policy: BadRowsPolicy
    ignored: NDArray[np.bool_]
    dropped: NDArray[np.bool_]
    can_exclude: bool = True
    found: dict[str, NDArray[np.int64]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, policy: BadRowsPolicy, frame: Frame, *ignored: NDArray[np.bool_] | None,
        can_exclude: bool = True,
    ) -> BadRows:  # fmt: skip
        """No bad rows yet, of a frame; those of the masks `ignored` are not looked at."""
        mask, dropped = allocate((2, frame.n), np.dtype(np.bool_), frame.name)
        mask[:] = dropped[:] = False
        for one in ignored:
            if one is not None:
                mask |= one
        return cls(policy, mask, dropped, can_exclude)

    @property
    def used(self) -> NDArray[np.bool_]:
        """(n,) bool, the rows that are neither ignored nor dropped."""
        return ~(self.ignored | self.dropped)

    @property
    def rows(self) -> NDArray[np.int64] | None:
        """The rows that are used, ascending; None: all."""
        return np.flatnonzero(self.used) if self.any_left_out else None

    @property
    def left_out(self) -> NDArray[np.bool_] | None:
        """(n,) bool, the rows that are not used; None: all are."""
        return ~self.used if self.any_left_out else None

    @property
    def any_left_out(self) -> bool:
        """Whether some row is ignored or dropped."""
        return bool(self.ignored.any() or self.dropped.any())

    def settle(
        self,
        bad: NDArray[np.bool_],
        option: str,
        origin: Source | Reordered,
        reason: Callable[[int], str],
        hint: str | None = None,
    ) -> None:
        """Refuse the `bad` rows (n,) of an input, or drop them.

        Args:
            bad: rows of the frame; ignored ones do not count.
            option: the input's option, for provenance.
            origin: what names the file and row of a row of the frame.
            reason: what is wrong with a row.
            hint: another way out, for a refusal.

        Raises:
            DataError: if the policy is ``refuse``: how many there are, the first few, and what to
                do; if ``drop`` would leave no row.
        """
        rows = np.flatnonzero(bad & ~self.ignored)
        if not rows.size:
            return
        if self.policy == "refuse":
            first = int(rows[0])
            raise self.refusal(f"{origin.place(first)}: {reason(first)}", rows, hint)
        self.found[option] = np.union1d(self.found.get(option, rows), rows)
        self.dropped[rows] = True
        if not self.used.any():
            raise DataError(f"{origin.place(None)}: no row can be used: {reason(int(rows[0]))}")

    def drop(self, bad: NDArray[np.bool_], option: str) -> None:
        """Leave out rows that an earlier step has dropped, whatever the policy."""
        rows = np.flatnonzero(bad & ~self.ignored)
        if rows.size:
            self.found[option] = rows
            self.dropped[rows] = True
            self.ignored |= bad

    def refusal(self, says: str, rows: NDArray[np.int64], hint: str | None = None) -> DataError:
        """The error that `says` what is wrong with the first of some `rows`, and counts them."""
        if rows.size > 1:
            says += f"; {rows.size:,} of {self.ignored.size:,} rows cannot be used: {_some(rows)}"
        ways = [hint] if hint else []
        if rows.size < np.count_nonzero(~self.ignored):
            ways.append(f"--bad-rows drop leaves {'them' if rows.size > 1 else 'it'} out")
        if self.can_exclude:
            ways.append("--exclude FILE leaves out the rows that a file lists")
        return DataError(says, "; ".join(ways) or None)

    def settle_numbers(
        self, values: NDArray[np.float64], option: str, origin: Source | Reordered, what: str,
        hint: str | None = None,
    ) -> None:  # fmt: skip
        """:meth:`settle` for numbers (n,), which must be finite; `what` they are."""

        def reason(row: int) -> str:
            missing = " (or null)" if np.isnan(values[row]) and origin.has_columns else ""
            return f"{what} is {values[row]}{missing}"

        self.settle(~np.isfinite(values), option, origin, reason, hint)

    def settle_labels(
        self, missing: NDArray[np.bool_], option: str, origin: Source | Reordered
    ) -> None:
        """:meth:`settle` for rows whose label is `missing`, (n,) bool."""
        self.settle(missing, option, origin, lambda row: "label is null")

    def settle_embeddings(self, emb: Source, metric: Metric) -> None:
        """:meth:`settle` for embeddings, which are read once in blocks."""
        bad = np.zeros(self.ignored.size, np.bool_)
        reasons: dict[int, str] = {}
        start = 0
        for part in emb.parts:
            for block in part.blocks():
                rows = np.flatnonzero(unusable_rows(block, metric)) + start
                bad[rows] = True
                for row in rows[~self.ignored[rows]][: _NAMED - len(reasons)].tolist():
                    reasons[row] = fault_of(block[row - start], metric)
                    if emb.has_columns and reasons[row].endswith("nan"):
                        reasons[row] += " (or null)"
                start += len(block)
        other = "use --metric euclidean" if metric == "cosine" else None
        zero = any("zero vector" in reason for reason in reasons.values())
        self.settle(bad, "emb", emb, lambda row: reasons[row], other if zero else None)

    @contextmanager
    def counting(self, emb: Source, metric: Metric) -> Iterator[None]:
        """Let an error about one row of embeddings count all such rows."""
        try:
            yield
        except DataError as error:
            cause = error.__cause__
            at_fault = isinstance(cause, DataError) and cause.argument == "embeddings"
            if at_fault and getattr(cause, "row", None) is not None:
                self.settle_embeddings(emb, metric)
            raise

    # -- what is recorded and said -----------------------------------------------------------------
    @property
    def section(self) -> dict[str, Any]:
        """The section ``bad_rows`` of provenance: how many, and which, by input."""
        return {
            "dropped": int(self.dropped.sum()),
            "inputs": {
                option: {"count": int(rows.size), "rows": rows[:_LISTED].tolist()}
                for option, rows in self.found.items()
            },
        }

    @property
    def lines(self) -> list[tuple[str, str]]:
        """(label, text) for people; empty if all rows are used."""
        found = []
        if excluded := int((self.ignored & ~self.dropped).sum()):
            found = [("excluded", f"{excluded:,} of {self.ignored.size:,} rows")]
        dropped = np.flatnonzero(self.dropped)
        if not dropped.size:
            return found
        by = ", ".join(f"{rows.size:,} of {option}" for option, rows in self.found.items())
        says = f"{dropped.size:,} of {self.ignored.size:,} dropped ({by}): {_some(dropped)}"
        return [*found, ("bad rows", says)]


def read_labels(source: Source, frame: Frame, bad: BadRows) -> NDArray[np.int64]:
    """(n,) int64 class numbers in the order of the frame; adds rows without a label to `bad`."""
    codes, origin = frame.labels(source)
    bad.settle_labels(codes < 0, source.option, origin)
    return codes


def _some(rows: NDArray[np.int64]) -> str:
    """The first few of some rows."""
    named = ", ".join(str(row) for row in rows[:_NAMED].tolist())
    return f"{named}, …" if rows.size > _NAMED else named
