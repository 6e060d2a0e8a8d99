"""A folder of the user's own for temporary files that later runs use too."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


def own_folder() -> Path | None:
    """``d2prune-UID`` in the folder for temporary files; None if there is no safe one.

    Files in the folder are loaded as code, so other users must not be able to write or replace
    them. The folder must be a real one that belongs to this user and is closed to others. Its
    parent must belong to this user or to root, and be sticky if others may write there.
    """
    parent = Path(tempfile.gettempdir())
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    if str(parent) not in {"/tmp", "/var/tmp", "/usr/tmp", *map(os.path.abspath, named)}:
        return None  # the current folder, which is Python's last resort
    user = os.geteuid() if hasattr(os, "geteuid") else None
    folder = parent / f"d2prune-{'own' if user is None else user}"
    try:
        if user is not None and not _is_safe(parent.stat(), user):
            return None
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            found = folder.lstat()
            if user is not None and (
                not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o077
            ):
                return None
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


def _is_safe(parent: os.stat_result, user: int) -> bool:
    """Whether only `user` and root can replace a folder of `user` in this one."""
    if parent.st_uid not in (user, 0):
        return False
    return not parent.st_mode & 0o022 or bool(parent.st_mode & stat.S_ISVTX)


def has_home() -> bool:
    """Whether the folder for caches has an absolute path.

    Without HOME, and for a user number that has no name, ``~`` stands for itself: a folder of this
    name would be made in the current folder.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~")
    return os.path.isabs(cache)


def spare_matplotlib() -> None:
    """Give matplotlib a folder for its caches if that in the home folder cannot be written.

    Otherwise it makes a folder for every run, says so, and lists all fonts again.
    """
    if os.environ.get("MPLCONFIGDIR"):
        return
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    usual = Path(base, "matplotlib")
    try:
        if usual.is_absolute():
            usual.mkdir(parents=True, exist_ok=True)
            if os.access(usual, os.W_OK):
                return
    except OSError:
        pass
    folder = own_folder()
    if folder is not None:
        os.environ["MPLCONFIGDIR"] = str(folder / "matplotlib")
