"""Malformed input: every case of the table under ``tests/malformed``, and checks for all cases.

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

#: Additional address space of a case in bytes, processor seconds, and seconds until it hangs.
ROOM, SECONDS, HANGS = 1 << 30, 2.0, 60
NOBODY = 65534


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """The good files. Making them compiles all kernels."""
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
    """Limit memory and processor time, and end a wait for a pipe."""

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
    """Every path, and the content of each file."""
    return {
        path: path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in sorted(folder.rglob("*"), key=str)
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_malformed_input_is_refused(case, folder, run_cli):
    args = case.prepare()
    before = snapshot(folder)
    with bounded():
        code, out, err = run_cli(*args)
    check(case, code, out, err)
    assert snapshot(folder) == before


@contextmanager
def as_nobody(folder):
    """Run as another user than root, who can read everything."""
    folder.chmod(0o777)
    mine = os.geteuid()
    if not mine:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.mark.parametrize("case", UNREADABLE, ids=lambda case: case.name)
def test_unreadable_input_is_refused(case, folder, run_cli):
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
    """Check the exit code, the one error line that names the file, and the hint."""
    lines = err.splitlines()
    while lines[0].startswith(("notice: this run needs", "notice: kept in files")):
        del lines[0]  # a forecast from the header
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
def test_odd_input_equals_the_plain_one(case, folder, run_cli):
    assert run_cli(*plain_form(case))[0] == 0
    outputs = [name for name in ("selected.npy", "out.npy", "out.arrow") if Path(name).exists()]
    expected = {name: Path(name).read_bytes() for name in outputs}
    for name in outputs:
        Path(name).unlink()
    args = case.prepare()
    run_cli(*args)  # compiles kernels for its types, which takes seconds once
    for name in outputs:
        Path(name).unlink(missing_ok=True)
    with bounded():
        code, out, err = run_cli(*args)
    assert (code, out) == (0, ""), err
    assert {name: Path(name).read_bytes() for name in outputs} == expected


def test_table_has_at_least_150_cases():
    names = [case.name for case in (*CASES, *GOOD, *UNREADABLE)]
    assert len(CASES) >= 150
    assert len(set(names)) == len(names)
