"""Where compiled kernels are kept without a home folder and in a package that is read-only."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import d2cli
from d2cli.runtime import compiling, scratch
from tests.marks import compiled

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder for temporary files: this one, of the user's own."""
    folder = tmp_path / "tmp"
    folder.mkdir(0o700)
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    monkeypatch.undo()


# -- the folder -----------------------------------------------------------------------------------
def test_the_folder_belongs_to_the_user_and_is_closed_to_others(temporary):
    found = scratch.own_folder()
    assert found == temporary / f"d2prune-{os.geteuid()}"
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    assert scratch.own_folder() == found
    assert list(found.iterdir()) == []


def test_a_sticky_folder_of_all_users_is_used(temporary):
    temporary.chmod(0o1777)
    assert scratch.own_folder() is not None


def unsafe(make):
    return pytest.param(make, id=make.__name__)


def a_folder_open_to_others(folder):
    folder.mkdir(mode=0o700)
    folder.chmod(0o770)


def a_link_to_a_folder(folder):
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def a_dangling_link(folder):
    folder.symlink_to("nowhere")


def a_file(folder):
    folder.write_text("")


def a_parent_that_others_may_change(folder):
    folder.parent.chmod(0o777)  # not sticky


@pytest.mark.parametrize(
    "make",
    [
        unsafe(a_folder_open_to_others), unsafe(a_link_to_a_folder), unsafe(a_dangling_link),
        unsafe(a_file), unsafe(a_parent_that_others_may_change),
    ],
)  # fmt: skip
def test_a_place_that_others_may_change_is_not_used(temporary, make):
    make(temporary / f"d2prune-{os.geteuid()}")
    before = sorted(temporary.rglob("*"))
    assert scratch.own_folder() is None
    assert sorted(temporary.rglob("*")) == before


@root_only
def test_a_folder_of_another_user_is_not_used(temporary):
    folder = temporary / f"d2prune-{os.geteuid()}"
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    assert scratch.own_folder() is None
    folder.rmdir()
    os.chown(temporary, 12345, 12345)
    assert scratch.own_folder() is None


def test_the_current_folder_is_not_used(temporary, monkeypatch):
    monkeypatch.chdir(temporary)
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(temporary))
    monkeypatch.delenv("TMPDIR")
    assert scratch.own_folder() is None


@pytest.mark.parametrize(
    ("home", "cache", "found"),
    [("/h", None, True), ("h", None, False), ("h", "/c", True), ("/h", "c", False)],
)
def test_a_home_folder_has_an_absolute_path(monkeypatch, home, cache, found):
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if cache:
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
    assert scratch.has_home() is found


def test_matplotlib_gets_a_folder_only_where_its_own_cannot_be_made(temporary, monkeypatch):
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("MPLCONFIGDIR", "")
    monkeypatch.setenv("HOME", str(temporary))
    scratch.spare_matplotlib()
    assert not os.environ["MPLCONFIGDIR"]
    monkeypatch.setenv("HOME", os.devnull)
    scratch.spare_matplotlib()
    assert os.environ["MPLCONFIGDIR"] == str(scratch.own_folder() / "matplotlib")


# -- who is told ----------------------------------------------------------------------------------
def test_the_listener_is_told_once():
    told = []
    compiling.tell(lambda *what: told.append(what))
    compiling.begun(True, False)
    compiling.begun(False, True)
    assert told == [(True, False)]
    compiling.tell(None)
    compiling.begun(True, True)


# -- the program ----------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def read_only(tmp_path_factory):
    """A copy of the package in which no ``__pycache__`` can be made, even by root."""
    folder = tmp_path_factory.mktemp("site")
    package = Path(d2cli.__file__).parent
    shutil.copytree(package, folder / "d2cli", ignore=shutil.ignore_patterns("__pycache__"))
    for inside in [p for p in (folder / "d2cli").rglob("*") if p.is_dir()] + [folder / "d2cli"]:
        (inside / "__pycache__").write_text("not a folder")
    return folder


@pytest.fixture
def program(read_only, temporary, tmp_path):
    """Runs a command of the copy with almost no environment, as ``env -i`` does."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "z.npy", rng.normal(size=(3, 50, 4)).astype(np.float32))
    np.save(tmp_path / "y.npy", rng.integers(0, 4, 50))

    def call(*more, **environment):
        line = ["score", "--kind", "el2n", "--logits", "z.npy", "--labels", "y.npy"]
        done = subprocess.run(
            [sys.executable, "-m", "d2cli", *line, "--out", "o.npy", *more],
            capture_output=True, text=True, check=False, cwd=tmp_path,
            env={"PYTHONPATH": str(read_only), "TMPDIR": str(temporary), **environment},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        notices = [line for line in done.stderr.splitlines() if line.startswith("notice: ")]
        return [line for line in notices if "compil" in line]

    return call


ONCE = ["notice: compiling kernels, once: about 2 s"]


@compiled
@pytest.mark.parametrize("home", [os.devnull, "relative", "/"], ids=["none", "relative", "root"])
def test_kernels_are_compiled_once_without_a_home_folder(program, temporary, tmp_path, home):
    if home == "/" and os.access("/", os.W_OK):
        pytest.skip("root may write anywhere")
    before = set(tmp_path.iterdir())
    assert program(HOME=home) == ONCE
    kept = {p for p in temporary.rglob("*") if p.suffix in (".nbi", ".nbc")}
    assert len(kept) >= 2
    assert program(HOME=home) == []
    assert {p for p in temporary.rglob("*") if p.suffix in (".nbi", ".nbc")} == kept
    made = {p.name for p in set(tmp_path.iterdir()) - before}
    assert made == {"o.npy", "o.npy.json"}  # no folder named ~ or relative


@compiled
def test_nothing_is_said_with_quiet(program):
    assert program("-q", HOME=os.devnull) == []


@compiled
def test_a_run_that_cannot_keep_kernels_says_so(program, temporary):
    temporary.chmod(0o777)
    for _ in range(2):
        (line,) = program(HOME=os.devnull)
        assert "about 2 s in each run" in line
        assert "NUMBA_CACHE_DIR" in line


@compiled
def test_a_home_folder_and_numba_cache_dir_come_first(program, temporary, tmp_path):
    for name, variable in (("home", "HOME"), ("named", "NUMBA_CACHE_DIR")):
        (tmp_path / name).mkdir()
        assert program(**{"HOME": os.devnull, variable: str(tmp_path / name)}) == ONCE
        assert list((tmp_path / name).rglob("*.nbi"))
    assert list(temporary.iterdir()) == []


@compiled
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("content", [b"", b"\x80damaged"])
def test_damaged_kernels_are_compiled_again(program, tmp_path, suffix, content):
    cache = tmp_path / "cache"
    assert program(NUMBA_CACHE_DIR=str(cache)) == ONCE
    for path in cache.rglob(f"*{suffix}"):
        path.write_bytes(content)
    assert len(program(NUMBA_CACHE_DIR=str(cache))) == 1
    assert program(NUMBA_CACHE_DIR=str(cache)) == []


@compiled
def test_a_cache_that_becomes_full_does_not_stop_a_run(tmp_path):
    code = """
import sys, os, errno
import numba.core.caching as caching
def full(self, name, data):
    raise OSError(errno.ENOSPC, "no space")
caching.IndexDataCacheFile._save_data = full
from d2cli.messages.forward import weight
print(weight(1.0, 1.0, 3.0, True) > 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False,
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
