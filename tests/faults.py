"""Trials: a run is stopped, then the files that it left are checked.

Each trial is a fork of a process that has loaded the program, so that it takes no longer than the
command. The child is stopped after a given time, or at a given line of the code that writes
outputs.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from d2cli.cli.main import run
from d2cli.files.output import atomic, checkpoint, temporary, work_folder
from d2cli.files.output import folder_swap as folders
from d2cli.files.parts.part_folders import files_of
from d2cli.files.provenance.fingerprint import fingerprint
from d2cli.files.provenance.sidecar import read_sidecar, sidecar_path

#: Files in which a run is killed at every line.
DELICATE = {m.__file__ for m in (atomic, checkpoint, folders, temporary, work_folder)}
HIDDEN, RESUMABLE = ".d2prune-", ".checkpoint"


@contextlib.contextmanager
def small_disk(place, size):
    """A disk of `size` bytes in a new folder; what is yielded gives it another size."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, check=False, capture_output=True)
    except OSError as error:
        pytest.skip(str(error))
    if done.returncode:
        pytest.skip("mounting is not allowed here")

    def resize(size):
        subprocess.run(["mount", "-o", f"remount,size={size}", str(place)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", str(place)], check=True)


def quiet(command):
    """Run a command line in this process; its output is kept in ``said``."""
    with open("said", "w", encoding="utf-8") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        sys.stdout = sys.stderr = said
        code = run(command)
        said.flush()
    return code


def start(folder, command, line=None, limit=None):
    """Run a command in a child process, which kills itself at the line of that number.

    With ``line=0`` it ends normally, and the file ``lines`` has the number of lines.
    """
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.chdir(folder)
        if limit:
            limit()
        if line is not None:
            sys.settrace(counting(line))
        code = quiet(command)
    finally:
        sys.settrace(None)
        os._exit(code)


def counting(line):
    """A trace function that kills the process at one line and records the number of lines."""
    seen = 0

    def inside(frame, event, _):
        nonlocal seen
        if event == "line":
            seen += 1
            if seen == line:
                os.kill(os.getpid(), signal.SIGKILL)
            if line == 0:
                Path("lines").write_text(str(seen))
        return inside

    def outside(frame: types.FrameType, event, _):
        return inside if frame.f_code.co_filename in DELICATE else None

    return outside


def ended(child):
    """The exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def can_exchange():
    """Whether the file system of the current folder can exchange the names of two folders."""
    for name in ("one", "other"):
        os.mkdir(name)
    found = folders._exchange(Path("one"), Path("other"))
    for name in ("one", "other"):
        os.rmdir(name)
    return found


def killed_at(number, exchanges, command):
    """Run a command in a child that kills itself before the `number`-th rename."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    calls = []

    def counted(real):
        def call(*args):
            calls.append(args)
            if len(calls) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args)

        return call

    os.replace, os.rename = counted(os.replace), counted(os.rename)
    if exchanges:
        folders._exchange = counted(folders._exchange)
    command()
    os._exit(0)


@dataclass
class Scene:
    """A command, its outputs before it, and its outputs after it.

    Attributes:
        command: the command line.
        outputs: the names of its outputs.
        before: a command line that makes other outputs of the same names; None: nothing is there.
        exchanges: whether the system can exchange the names of folders. If not, a kill can leave an
            old folder away from its name, until the next run puts it back.
        tries: trials so far, by what was found: old, new, mixed.
    """

    home: Path
    name: str
    command: list[str]
    outputs: list[str]
    before: list[str] | None
    exchanges: bool = True
    tally: dict[str, int] = field(default_factory=dict)

    def prepare(self):
        """Make both states; measure the seconds and the number of lines."""
        self.folder = self.home / self.name
        self.states = {}
        for state, command in (("old", self.before), ("new", self.command)):
            self._empty()
            if command:
                assert ended(start(self.folder, command)) == 0, self.said()
            self.states[state] = self._read()
            if state == "old":
                shutil.rmtree(self.home / f"{self.name}-before", ignore_errors=True)
                shutil.copytree(self.folder, self.home / f"{self.name}-before")
        began = time.monotonic()
        self._begin()
        assert ended(self._start()) == 0
        self.seconds = time.monotonic() - began
        self._begin()
        assert ended(self._start(line=0)) == 0
        self.lines = int((self.folder / "lines").read_text())

    def _start(self, line=None, limit=None):
        real = folders._exchange
        if not self.exchanges:
            folders._exchange = lambda *_: False
        try:
            return start(self.folder, self.command, line, limit)
        finally:
            folders._exchange = real

    def said(self):
        return (self.folder / "said").read_text()

    def _empty(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()

    def _begin(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.home / f"{self.name}-before", self.folder)

    def _read(self):
        paths = {name: self.folder / name for name in self.outputs}
        return {
            name: {file.name: file.read_bytes() for file in path.iterdir()}
            if path.is_dir()
            else path.read_bytes()
            for name, path in paths.items()
            if path.exists()
        }

    def trial(self, number, *, line=None, after=None, by=signal.SIGKILL, limit=None):
        """Stop a run and check its files; run again and check them."""
        self._begin()
        child = self._start(line, limit)
        if after is not None:
            time.sleep(after)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, by)
        code = ended(child)
        killed = {-signal.SIGKILL} if by == signal.SIGKILL else {128 + by, -by}
        fine = code in killed | {0} if limit is None else code == 1
        assert fine, (self.name, by, line, after, code, self.said())
        self._count("stopped" if code else "too late")
        if code not in (0, -signal.SIGKILL, -by):
            left = {n for n in self._strangers() if not n.endswith(RESUMABLE)}
            assert not left, left  # a run that ends removes its files
            said = [t for t in self.said().splitlines() if not t.startswith("notice: resumed")]
            assert said[-1].startswith("error: "), self.said()
            # Only a run that has renamed its output may have reported it.
            assert len(said) == 1 or said[-1].endswith("the output was complete"), self.said()
        self._count(self._state())
        self._count("left behind", len(self._strangers()))
        self._again(number)

    def _state(self):
        """Whether the outputs are old, new, or some old and some new; other bytes fail."""
        found = self._read()
        if not self.exchanges and self.before and not found:
            return "away"
        states = set()
        for name in self.outputs:
            is_in = {s for s, files in self.states.items() if found.get(name) == files.get(name)}
            assert is_in, f"{name} is neither old nor new"
            states |= is_in if len(is_in) == 1 else set()
            if name in found:  # its sidecar describes it
                entry = read_sidecar(self.folder / name)
                assert entry is not None
                assert entry["output"]["fingerprint"] == fingerprint(files_of(self.folder / name))
        return states.pop() if len(states) == 1 else "mixed" if states else "same"

    def _strangers(self):
        """The files that are neither outputs nor sidecars."""
        known = {"said", "lines", *self.outputs, *(sidecar_path(n).name for n in self.outputs)}
        alone = {
            sidecar_path(n).name for n in self.outputs if not (self.folder / n).exists()
        }  # sidecars without an output
        there = set(os.listdir(self.folder))
        return (there - known) | (there & alone)

    def _again(self, number):
        """The next run, of any command, removes the files that were left."""
        if number % 2:
            atomic.check_target(self.folder / "another.npy", [])
            left = {n for n in self._strangers() if n.startswith(HIDDEN)}
            assert not {n for n in left if not n.endswith(RESUMABLE)}, left
            assert not {n for n in self._strangers() if n.endswith(".json")}
            assert self._state() != "away"
        assert ended(self._start()) == 0, self.said()
        if "resumed" in self.said():
            self._count("resumed")
        assert self._state() in ("new", "same")
        assert not self._strangers(), self._strangers()
        for name in self.outputs:
            entry = json.loads(sidecar_path(self.folder / name).read_text(encoding="utf-8"))
            assert "previous" not in entry

    def _count(self, what, times=1):
        self.tally[what] = self.tally.get(what, 0) + times
