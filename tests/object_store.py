"""An object store for tests, as a file system of fsspec: ``objects://BUCKET/KEY``.

It can what S3 and similar stores can: write objects whole, read ranges, list by prefix, remove. It
has no folders, no rename and no append, and it remembers what it has listed, as s3fs does. An
object is a file below the folder that the variable ``D2_OBJECTS`` names, which several processes
see. A bucket is there if its folder is; ``closed`` may not be used.

Processes that run tasks find it by an entry point, which :func:`install` makes.
"""

import os
import secrets
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, unquote

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

from tests.pages import ROOT

SCHEME, FOLDER = "objects", "D2_OBJECTS"


class ObjectStore(AbstractFileSystem):
    """See above."""

    protocol = SCHEME
    cachable = True

    def _bucket(self, path):
        bucket, _, key = self._strip_protocol(path).partition("/")
        if bucket == "closed":
            raise PermissionError("Access Denied")
        folder = Path(os.environ[FOLDER], bucket)
        if not bucket or not folder.is_dir():
            raise FileNotFoundError("The specified bucket does not exist")
        return folder, key

    def _file(self, path):
        folder, key = self._bucket(path)
        assert key
        return folder / quote(key, safe="")

    def pipe_file(self, path, value, mode="overwrite", **kwargs):
        assert mode == "overwrite"
        file = self._file(path)
        half = file.with_name(f"{secrets.token_hex(8)}~")
        half.write_bytes(value)
        os.replace(half, file)
        self.invalidate_cache()

    def cat_file(self, path, version_id=None, start=None, end=None, **kwargs):  # as s3fs has it
        try:
            content = self._file(path).read_bytes()
        except FileNotFoundError:
            raise FileNotFoundError(path) from None
        if start is not None and start >= len(content):
            raise OSError("The requested range is not satisfiable")
        return content[start:end]

    def _keys(self, path):
        """(key, bytes) of all objects whose keys begin with this one, and a slash."""
        folder, key = self._bucket(path)
        for file in folder.iterdir():
            name = unquote(file.name)
            if not name.endswith("~") and name.startswith(f"{key}/" if key else ""):
                with suppress(FileNotFoundError):
                    yield name, file.stat().st_size

    def ls(self, path, detail=True, **kwargs):
        path = self._strip_protocol(path)
        if path not in self.dircache:
            key = path.partition("/")[2]
            found = {}
            for name, size in self._keys(path):
                rest = name[len(key) + 1 if key else 0 :]
                first, slash, _ = rest.partition("/")
                found[first] = (0, "directory") if slash else (size, "file")
            self.dircache[path] = [
                {"name": f"{path}/{name}", "size": size, "type": kind}
                for name, (size, kind) in sorted(found.items())
            ]
        listed = self.dircache[path]
        if not listed:
            info = self.info(path)
            listed = [info] if info["type"] == "file" else []
        return listed if detail else [one["name"] for one in listed]

    def info(self, path, **kwargs):
        path = self._strip_protocol(path)
        _, key = self._bucket(path)
        if key:
            with suppress(FileNotFoundError):
                return {"name": path, "size": self._file(path).stat().st_size, "type": "file"}
        if not key or any(True for _ in self._keys(path)):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def invalidate_cache(self, path=None):
        self.dircache.clear()

    def rm_file(self, path):
        self._file(path).unlink()
        self.invalidate_cache()

    def _rm(self, path):
        with suppress(FileNotFoundError):
            self.rm_file(path)

    def rm(self, path, recursive=False, maxdepth=None):
        for one in [path] if isinstance(path, str) else path:
            if recursive:
                bucket = self._strip_protocol(one).partition("/")[0]
                for key, _ in [*self._keys(one)]:
                    self._rm(f"{bucket}/{key}")
            self._rm(one)

    def _open(self, path, mode="rb", block_size=None, **kwargs):
        if mode == "rb":
            return BytesIO(self.cat_file(path))
        assert mode == "wb", mode
        return _Upload(self, path, mode, block_size=block_size)

    def makedirs(self, path, exist_ok=False):
        raise AssertionError("a bucket would be made")

    mkdir = makedirs

    def mv(self, *args, **kwargs):
        raise NotImplementedError


class _Upload(AbstractBufferedFile):
    """Several requests; the object is there once it is closed."""

    def _initiate_upload(self):
        self.sent = []

    def _upload_chunk(self, final=False):
        self.sent.append(self.buffer.getvalue())
        if final:
            self.fs.pipe_file(self.path, b"".join(self.sent))
        return True

    def discard(self):
        self.sent = None


def register():
    """Make the store known to this process."""
    fsspec.register_implementation(SCHEME, ObjectStore, clobber=True)


def install(site):
    """Make the store known to processes with this folder on their path; returns the variables."""
    about = Path(site, "d2prune_test-1.dist-info")
    about.mkdir(parents=True)
    (about / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: d2prune-test-objects\nVersion: 1\n"
    )
    (about / "entry_points.txt").write_text(
        f"[fsspec.specs]\n{SCHEME} = tests.object_store:ObjectStore\n"
    )
    paths = [str(site), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths)), FOLDER: os.environ[FOLDER]}
