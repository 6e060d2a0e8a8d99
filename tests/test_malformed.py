"""Bad input cannot hurt: every line of the table under ``tests/malformed``, and what holds for all.

One error line that names the file, the right exit code, no traceback, no output, nothing left
behind, nothing unpickled, little memory, and no wait. ``python -m tests.malformed DIR`` writes the
files, each beside its command line.
"""

import os
import resource
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.malformed import CASES, GOOD, UNREADABLE, good_files, plain_form

#: Address space that a case may take beyond what the process has; processor time; and hanging.
ROOM, SECONDS, HANGS = 1 << 30, 2.0, 60
NOBODY = 65534


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The good files; what has to be compiled is compiled by making them."""
    folder = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        good_files()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path, monkeypatch, files):
    monkeypatch.chdir(tmp_path)
    for name, content in files.items():
        Path(name).write_bytes(content)
    return tmp_path


@contextmanager
def bounded():
    """Little memory, and an end to waiting for a pipe."""

    def give_up(*_):
        pytest.fail(f"hangs: {HANGS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, give_up)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, hard))
    signal.alarm(HANGS)
    started = time.process_time()
    try:
        yield
        assert time.process_time() - started < SECONDS
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def snapshot(folder):
    """Every name, and the content of what is a file."""
    return {
        path: path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(folder.rglob("*"), key=str)
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_refused(case, folder, run_cli):
    args = case.prepare()
    before = snapshot(folder)
    with bounded():
        code, out, err = run_cli(*args)
    check(case, code, out, err)
    assert snapshot(folder) == before


@contextmanager
def as_nobody(folder):
    """For root, to whom nothing is unreadable, somebody else."""
    folder.chmod(0o777)
    mine = os.geteuid()
    if not mine:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.mark.parametrize("case", UNREADABLE, ids=lambda case: case.name)
def test_without_permission(case, folder, run_cli):
    args = case.prepare()
    before = sorted(os.listdir())
    try:
        with as_nobody(folder), bounded():
            code, out, err = run_cli(*args)
    finally:
        Path("bad").chmod(0o700)
    check(case, code, out, err)
    assert sorted(os.listdir()) == before


def check(case, code, out, err):
    """The exit code; one line that names the file and says what is wrong; a hint or none."""
    lines = err.splitlines()
    if lines[0].startswith("notice: this run needs"):  # by what the header claims
        del lines[0]
    assert (code, out) == (case.code, ""), err
    assert lines[0].startswith(f"error: {case.shown or case.file}"), err
    assert all(line.startswith("hint: ") for line in lines[1:]), err
    assert len(lines) <= 2, err
    assert "defect" not in err
    assert "Traceback" not in err
    assert len(err) < 1000
    for words in case.says:
        assert words in lines[0]
    assert case.hint in lines[-1]


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.name)
def test_works_as_the_plain_form(case, folder, run_cli):
    assert run_cli(*plain_form(case))[0] == 0
    outputs = [name for name in ("selected.npy", "out.npy", "out.arrow") if Path(name).exists()]
    expected = {name: Path(name).read_bytes() for name in outputs}
    for name in outputs:
        Path(name).unlink()
    args = case.prepare()
    with bounded():
        code, out, err = run_cli(*args)
    assert (code, out) == (0, ""), err
    assert {name: Path(name).read_bytes() for name in outputs} == expected


def test_the_table_is_long_enough():
    names = [case.name for case in (*CASES, *GOOD, *UNREADABLE)]
    assert len(CASES) >= 150
    assert len(set(names)) == len(names)
