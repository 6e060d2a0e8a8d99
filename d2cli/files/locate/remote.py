"""Remote files, through fsspec: found by the rules of local ones, and copied to this machine.

A copy lives as long as the run, in a temporary folder (``TMPDIR``). Its size is compared with what
the store says. Here, nothing is read from a store piece by piece; tasks on other machines do that
(:mod:`d2cli.files.output.remote_folder`).
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from d2cli.errors import D2Error, DataError
from d2cli.files.locate.copies import INSTALL, CopyPath, not_installed
from d2cli.files.locate.tree import Entry, Tree, natural_key
from d2cli.runtime import stopping

#: The number of files that are asked for together.
_TOGETHER = 64
#: Called with the stage, and how much is done of how much.
Report = Callable[[str, int, int], None]


class Downloads:
    """A folder of copies; removed by :meth:`end`, or when no path of a copy is left.

    Attributes:
        report: called with the progress; None: progress is not shown.
        copies: the copies of a run by address.
    """

    def __init__(self, report: Report | None = None) -> None:
        self.report = report
        self.copies: dict[str, CopyPath] = {}
        self._folder: Path | None = None

    def new_path(self, name: str) -> Path:
        """A path with this file name in a new folder."""
        if self._folder is None:
            with stopping.shield():  # an interrupt must not leave a folder without a finalizer
                self._folder = Path(tempfile.mkdtemp(prefix="d2prune-remote-"))
                self._end = weakref.finalize(self, _remove, self._folder)
        place = Path(tempfile.mkdtemp(dir=self._folder))
        return place / name

    def end(self) -> None:
        """Remove the copies."""
        if self._folder is not None:
            self._end()


def _remove(folder: Path) -> None:
    with stopping.shield():
        shutil.rmtree(folder, ignore_errors=True)


_CURRENT: ContextVar[Downloads | None] = ContextVar("downloads", default=None)


@contextmanager
def downloads() -> Iterator[Downloads]:
    """Keep the copies of remote files until the end of the block; each is downloaded once."""
    found = Downloads()
    token = _CURRENT.set(found)
    try:
        yield found
    finally:
        _CURRENT.reset(token)
        found.end()


class RemoteTree(Tree):
    """The store of one address. Paths are addresses."""

    def __init__(self, address: str) -> None:
        """Connect; DataError if a package is missing or the store is unknown."""
        self.scheme, _, rest = address.partition("://")
        self._web = self.scheme.rpartition("::")[2] in ("http", "https")
        self._sizes: dict[str, int | None] = {}  # of listed files
        self._folders: set[str] = set()  # listed
        self._chain = rest[rest.find("::") :] if "::" in rest else ""
        with store_errors(address):
            from fsspec.core import url_to_fs  # noqa: PLC0415, an extra

            options = _web_options() if self._web else {}
            self._store, _ = url_to_fs(address, **options)
            self._store.invalidate_cache()

    # -- addresses ---------------------------------------------------------------------------------
    def _path(self, address: str) -> str:
        """The store's own name of an address."""
        if self._web:
            return address
        path = address.partition("://")[2]
        path = path[: len(path) - len(self._chain)] if self._chain else path
        return str(self._store._strip_protocol(f"{self.scheme.rpartition('::')[2]}://{path}"))

    def _address(self, path: str) -> str:
        """The address of what the store calls `path`."""
        if "://" in path:
            return path
        return f"{self.scheme}://{path.lstrip('/')}{self._chain}"

    # -- listing -----------------------------------------------------------------------------------
    def is_folder(self, path: str) -> bool:
        if self._web:  # a server says nothing of folders
            return path.endswith("/")
        with store_errors(path):
            return bool(self._store.isdir(self._path(path)))

    def is_pattern(self, argument: str) -> bool:
        """Whether an argument is a glob. Addresses of the web have ``?`` and ``[`` of their own."""
        if not re.search(r"\*" if self._web else r"[*?\[]", argument):
            return False
        with store_errors(argument):
            return self._web or not self._store.exists(self._path(argument))

    def entries(self, folder: str) -> list[Entry]:
        with store_errors(folder):
            end = "/" if self._web else ""  # a server answers for a folder only
            listed = self._store.ls(self._path(folder) + end, detail=True)
        found = [self._entry(one) for one in listed]
        above = self._address(self._path(folder)).rstrip("/")
        inside = {one.path: one for one in found if one.path.rpartition("/")[0] == above}
        self._folders.add(above)
        return sorted(inside.values(), key=lambda entry: natural_key(entry.path))

    def matches(self, pattern: str) -> list[Entry]:
        with store_errors(pattern):
            found = self._store.glob(self._path(pattern), detail=True)
        entries = [self._entry(one) for one in found.values()]
        return sorted(entries, key=lambda entry: natural_key(entry.path))

    def _entry(self, about: Mapping[str, Any]) -> Entry:
        path = str(about["name"])
        folder = about.get("type") == "directory" or path.endswith("/")
        address = self._address(path.rstrip("/"))
        self._sizes[address] = about.get("size")
        return Entry(file_name(address), address, folder)

    def text(self, path: str, most: int) -> str | None:
        with suppress(Exception):  # any error of any store: there is no such file to be read
            if (self._store.size(self._path(path)) or 0) <= most:
                return bytes(self._store.cat_file(self._path(path))).decode()
        return None

    # -- copying -----------------------------------------------------------------------------------
    def paths(self, names: list[str]) -> list[Path]:
        run = _CURRENT.get()
        kept = run or Downloads()
        found = {} if run is None else run.copies  # a reference from `kept` would keep them
        missing = [name for name in dict.fromkeys(names) if name not in found]
        sizes = {name: self._size(name) for name in missing}
        total = sum(size or 0 for size in sizes.values())
        done = 0
        for start in range(0, len(missing), _TOGETHER):
            several = missing[start : start + _TOGETHER]
            copies = {name: kept.new_path(file_name(name)) for name in several}
            self._copy(copies, _progress(kept.report, done, total) if len(several) == 1 else None)
            for name, copy in copies.items():
                _check_size(name, copy, sizes[name])
                found[name] = CopyPath.of(copy, name, kept)
                self._copy_sidecar(found[name])
                done += copy.stat().st_size
            if kept.report is not None:
                kept.report("download, MiB", done >> 20, max(total, done) >> 20)
            stopping.check()
        return [found[name] for name in names]

    def _size(self, name: str) -> int | None:
        """The size that the store says, or None; refuses what is missing."""
        size = self._sizes.get(name)
        if size is None:
            with store_errors(name):
                size = self._store.info(self._path(name)).get("size")
        return int(size) if size is not None else None

    def _copy(self, copies: dict[str, Path], progress: Callable[..., None] | None) -> None:
        """Copy files; several at a time if the store can."""
        names = list(copies)
        with store_errors(names[0]), _stopped_if_interrupted(getattr(self._store, "loop", None)):
            from fsspec.callbacks import Callback  # noqa: PLC0415, an extra

            hooks = {} if progress is None else {"report": progress}
            callback = Callback(hooks=hooks)
            if len(names) == 1:
                target = os.fspath(copies[names[0]])
                self._store.get_file(self._path(names[0]), target, callback=callback)
            else:
                paths = [self._path(name) for name in names]
                self._store.get(paths, [os.fspath(copy) for copy in copies.values()])

    def _copy_sidecar(self, copy: CopyPath) -> None:
        """Copy the sidecar of an output of d2prune, which says what its values mean."""
        sidecar_address = f"{copy}.json"
        listed = str(copy).rpartition("/")[0] in self._folders
        if urlsplit(str(copy)).query or (listed and sidecar_address not in self._sizes):
            return
        sidecar = self.text(sidecar_address, 1 << 28)
        if sidecar is not None:
            Path(copy.beside(".json")).write_text(sidecar, encoding="utf-8")


@contextmanager
def _stopped_if_interrupted(loop: asyncio.AbstractEventLoop | None) -> Iterator[None]:
    """End what the block began in the event loop of fsspec's thread if it is interrupted."""
    before = set() if loop is None else asyncio.all_tasks(loop)
    try:
        yield
    except KeyboardInterrupt:
        if loop is not None and (tasks := asyncio.all_tasks(loop) - before):
            for task in tasks:
                loop.call_soon_threadsafe(task.cancel)
            ended = asyncio.run_coroutine_threadsafe(asyncio.wait(tasks, timeout=1), loop)
            with suppress(TimeoutError):
                ended.result(timeout=2)
        raise


def file_name(address: str) -> str:
    """The file name in an address, without a query."""
    path = address.partition("://")[2].partition("::")[0]
    web = address.startswith(("http://", "https://"))
    return unquote(urlsplit(address).path).rpartition("/")[2] if web else path.rpartition("/")[2]


def _web_options() -> dict[str, Any]:
    """Limits for the web: 60 s without an answer, any time for a file; proxies as elsewhere."""
    from aiohttp import ClientTimeout  # noqa: PLC0415, an extra

    timeout = ClientTimeout(total=None, sock_connect=30, sock_read=60)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}


def _progress(report: Report | None, done: int, total: int) -> Callable[..., None] | None:
    """A hook of fsspec that reports bytes as MiB."""
    if report is None:
        return None

    def hook(size: int | None, value: int, **_: Any) -> None:
        report("download, MiB", (done + value) >> 20, max(total, done + value) >> 20)

    return hook


def _check_size(name: str, copy: Path, size: int | None) -> None:
    found = copy.stat().st_size
    if size is not None and found != size:
        says = f"{found:,} bytes arrived, and the store says {size:,}"
        raise DataError(f"{name}: the download is not complete: {says}", "run again")


@contextmanager
def store_errors(address: str) -> Iterator[None]:
    """Turn any error of fsspec and its stores into a DataError of one line."""
    try:
        yield
    except D2Error:
        raise
    except ImportError as error:
        raise DataError(not_installed(address, "reads", error), INSTALL) from None
    except Exception as error:  # each store raises its own kinds
        raise DataError(f"{address}: {_reason(error)}", _hint(error)) from None


def _reason(error: BaseException) -> str:
    """What a store's error says, in one line."""
    while isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # fsspec calls any failure of the web "not found"
    if isinstance(error, FileNotFoundError) or getattr(error, "status", 0) == 404:
        return "no such file or folder"
    if isinstance(error, PermissionError) or getattr(error, "status", 0) in (401, 403):
        return "no permission to read it"
    says = " ".join(str(error).split())[:200] or type(error).__name__
    return f"cannot be downloaded ({says})"


def _hint(error: BaseException) -> str | None:
    """A way out of a store's error, or None."""
    if type(error).__name__ == "NoCredentialsError":
        return "FSSPEC_S3_ANON=true reads a public bucket without credentials"
    return None
