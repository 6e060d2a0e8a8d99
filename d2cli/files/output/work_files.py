"""Parts in temporary files of a work folder; a killed run's files are removed by a later run."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from d2cli.files.output.part_files import PartFiles
from d2cli.files.output.work_folder import Claim, WorkFolder


class WorkFiles(PartFiles):
    """Parts in files, removed by :meth:`end`, when the object is no longer used, or at exit.

    A pickled copy reads and writes the same files. It removes none of them at its end: the files
    last as long as the object that was copied.
    """

    def __init__(self, folder: WorkFolder) -> None:
        """Raises OSError if nothing can be written in the folder."""
        self._claim: Claim | None = folder.temporary()
        super().__init__(self._claim.folder, 0)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_claim": None}

    def end(self) -> None:
        """Remove all files."""
        if self._claim is not None:
            self._claim.end()

    def __enter__(self) -> WorkFiles:
        """The files are removed at the end of the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Remove all files."""
        self.end()
