"""What can go wrong, said once.

Every error that a user can cause is a :class:`D2Error`: one line that says what is wrong and
where, and, where it helps, a hint that says what to do. Exit codes are the command line's affair.
"""

from __future__ import annotations


class D2Error(Exception):
    """Anything that stops a run and is not a defect of the program."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(D2Error):
    """The request itself makes no sense: options that exclude each other, a ratio of 2."""


class DataError(D2Error):
    """The data cannot be used.

    Numerical code knows arrays and no files, so it says which *argument* is wrong and, where it
    can, at which *row*; the pipeline, which knows where each argument came from, puts the file's
    name in front (:func:`d2cli.files.sources.blame`).
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        argument: str | None = None,
        row: int | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.argument = argument
        self.row = row


class LimitError(D2Error):
    """The run would need more than it was allowed."""


class OutputError(D2Error):
    """An output cannot be written."""
