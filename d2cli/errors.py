"""Errors that a user can cause: a message of one line, and an optional hint on what to do.

The command line turns each class into an exit code.
"""

from __future__ import annotations


class D2Error(Exception):
    """Base class: an error that is not a defect of the program."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class UsageError(D2Error):
    """The request is invalid: an option out of range, or options that exclude each other."""


class DataError(D2Error):
    """The data cannot be used.

    Numerical code knows no files. It names the `argument` and, if known, the `row`; the pipeline
    adds the file that the argument came from (:func:`d2cli.files.sources.blame`).
    """

    def __init__(
        self, message: str, hint: str | None = None, *,
        argument: str | None = None, row: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message, hint)
        self.argument, self.row = argument, row


class LimitError(D2Error):
    """The run would need more memory than allowed."""


class OutputError(D2Error):
    """An output cannot be written."""
