"""After any fault the outputs are the old ones or the new ones, and no other file is left."""

import contextlib
import ctypes
import errno
import gc
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from d2cli.cli import signals
from d2cli.cli.main import run
from d2cli.commands.propagate import run as step
from d2cli.files.output import atomic, temporary
from d2cli.files.output.atomic import Outputs
from d2cli.files.provenance.sidecar import read_sidecar, sidecar_path
from d2cli.runtime import stopping
from tests import faults

ARGS = ["--emb", "emb.npy", "--scores", "scores.npy", "--size", 9]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def old(data, select):
    """Outputs that a run might replace."""
    assert select(*ARGS[:-1], 4, "--size", 5, "--out", "k_{size}.csv")[0] == 0
    assert select(*ARGS[:-1], 4)[0] == 0


def contents(folder="."):
    return {p: (Path(folder) / p).read_bytes() for p in sorted(os.listdir(folder))}


def stopped(select, *args, code=1, says=""):
    """A run that fails and changes nothing."""
    before = contents()
    result = select(*ARGS, *args)
    assert result[0] == code, result
    assert says in result[2]
    assert result[2].startswith("error: ")
    assert contents() == before


# -- killed ---------------------------------------------------------------------------------------
def test_runs_killed_at_random_moments_leave_old_or_new_outputs():
    command = [sys.executable, "-m", "tests.soak", "--kills", "12", "--races", "3", "--rows", "80"]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "12 kills" in done.stdout


@pytest.mark.parametrize("moves", [1, 2])
def test_output_of_a_run_killed_between_renames_is_usable(data, run_cli, monkeypatch, moves):
    """The sidecar describes the output that exists, and the next step accepts it."""
    assert run_cli("graph", "--emb", "emb.npy", "-k", 4, "--out", "g.arrow")[0] == 0
    pass_on = ["propagate", "--graph", "g.arrow", "--scores", "scores.npy", "--out", "p.npy"]
    assert run_cli(*pass_on, "--edges", "mutual")[0] == 0
    real, made = os.replace, []

    class Killed(BaseException):
        pass

    def replace(*names):
        if len(made) == moves:
            raise Killed
        made.append(names)
        real(*names)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", replace)
        patch.setattr(atomic._Undo, "__exit__", lambda *_: None)
        with pytest.raises(Killed):
            run_cli(*pass_on, "--edges", "directed")
    assert '"previous"' in Path("p.npy.json").read_text()
    edges = ["mutual", "directed"][moves - 1]
    assert read_sidecar(Path("p.npy"))["parameters"]["edges"] == edges
    code, *_ = run_cli("select", "--graph", "g.arrow", "--propagated", "p.npy", "--size", 3)
    assert code == 0
    assert read_sidecar(Path("selected.npy"))["parameters"]["edges"] == edges


# -- signals --------------------------------------------------------------------------------------
@pytest.fixture(autouse=True)
def listening():
    """Shells start background processes with Control-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(
    ("number", "code", "says"),
    [
        (signal.SIGINT, 130, "interrupted; no output was changed"),
        (signal.SIGTERM, 143, "terminated; no output was changed"),
        (signal.SIGHUP, 129, "hung up; no output was changed"),
    ],
)
@pytest.mark.parametrize("swallowed", [False, True])
def test_signals_end_a_run_with_their_exit_code(
    old, select, monkeypatch, number, code, says, swallowed
):
    """Also if the exception is lost in a C callback, as in llvmlite's object cache."""
    real = step.prepare_edges

    def interrupted(*args, **options):
        ask = lambda: os.kill(os.getpid(), number)  # noqa: E731
        ctypes.CFUNCTYPE(None)(ask)() if swallowed else ask()
        return real(*args, **options)

    monkeypatch.setattr(step, "prepare_edges", interrupted)
    before = signal.getsignal(number)
    stopped(select, code=code, says=f"error: {says}\n")
    assert signal.getsignal(number) == before


def test_ignored_signals_stay_ignored(old, select, monkeypatch):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        real = step.prepare_edges
        monkeypatch.setattr(
            step,
            "prepare_edges",
            lambda *a, **o: signal.raise_signal(signal.SIGHUP) or real(*a, **o),
        )
        assert select(*ARGS)[0] == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_during_renames_wait(old, select, monkeypatch):
    real = os.replace

    def interrupted(*names):
        signal.raise_signal(signal.SIGTERM)
        real(*names)

    monkeypatch.setattr(os, "replace", interrupted)
    code, _, err = select(*ARGS)
    assert (code, err) == (143, "error: terminated; the output was complete\n")
    assert np.load("selected.npy").size == 9
    assert read_sidecar(Path("selected.npy"))["counts"]["kept"] == 9
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_signal_while_the_lock_is_created(old, select, monkeypatch):
    before, real = contents(), temporary.lock

    def interrupted(*args, **options):
        signal.raise_signal(signal.SIGTERM)
        return real(*args, **options)

    monkeypatch.setattr(temporary, "lock", interrupted)
    assert select(*ARGS)[0] == 143
    assert contents() == before


def test_signal_while_temporaries_are_removed(tmp_path, monkeypatch):
    """Here in a finalizer, where an exception would be lost."""
    real = Path.unlink

    def interrupted(*args, **options):
        signal.raise_signal(signal.SIGTERM)
        return real(*args, **options)

    lease = temporary.Lease(tmp_path)
    lease.temporary().touch()
    monkeypatch.setattr(Path, "unlink", interrupted)
    with signals.heard():
        del lease
        gc.collect()
        assert stopping.asked() == signal.SIGTERM
    stopping.reset()
    assert not os.listdir(tmp_path)


def test_errors_caused_by_an_interruption_exit_with_130(old, select, monkeypatch):
    def fail(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise ImportError("numpy failed to import") from None

    monkeypatch.setattr(step, "prepare_edges", fail)
    stopped(select, code=130, says="interrupted")


def test_interruption_is_checked_between_blocks():
    from d2cli.engine.threads import for_blocks

    for threads in (1, 2):
        stopping.reset()
        done = []

        def work(start, stop, done=done):
            done.append(start)
            stopping._REQUEST.signal = signal.SIGINT

        with pytest.raises(KeyboardInterrupt):
            for_blocks(work, 100, 1, threads)
        assert len(done) < 100
    stopping.reset()


# -- the disk -------------------------------------------------------------------------------------
@pytest.mark.parametrize("out", ["selected.npy", "k_{size}.csv", "k.arrow", "k.parquet", "k.txt"])
@pytest.mark.parametrize("size", [0, 100, 600])
def test_file_size_limit_changes_nothing(old, select, out, size):
    sizes = ("--size", 5) if "{" in out else ()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = contents()
    said = io.StringIO()  # pytest captures output in a file, which is limited too
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        with contextlib.redirect_stderr(said):
            code = run([str(arg) for arg in ("select", *ARGS, *sizes, "--out", out)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (code, contents()) == (1, before)
    assert "cannot be written" in said.getvalue()
    assert len(said.getvalue().splitlines()) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB."""
    place = tmp_path / "disk"
    with faults.small_disk(place, 64 << 10):
        yield place


def test_full_disk_changes_nothing(old, select, small_disk):
    assert select(*ARGS, "--out", "disk/k.npy")[0] == 0
    before = contents("disk")
    with open("disk/filler", "wb", buffering=0) as filler, pytest.raises(OSError, match="space"):
        while True:
            filler.write(bytes(1024))
    before["filler"] = Path("disk/filler").read_bytes()
    for out in ("disk/k.npy", "disk/k.csv", "disk/k.parquet"):
        code, _, err = select(*ARGS[:-1], 20, "--out", out)
        assert (code, contents("disk")) == (1, before)
        assert "cannot be written" in err
    Path("disk/filler").unlink()
    assert select(*ARGS[:-1], 20, "--out", "disk/k.npy")[0] == 0
    assert sorted(contents("disk")) == ["k.npy", "k.npy.json"]


def test_read_only_disk_changes_nothing(old, select, small_disk, monkeypatch):
    assert select(*ARGS, "--out", "disk/k.npy")[0] == 0
    before, real = contents("disk"), step.prepare_edges
    mount = ["mount", "-o", "remount,ro", str(small_disk)]
    monkeypatch.setattr(
        step, "prepare_edges", lambda *a, **o: subprocess.run(mount, check=True) and real(*a, **o)
    )
    code, _, err = select(*ARGS[:-1], 20, "--out", "disk/k.npy")
    assert (code, contents("disk")) == (1, before)
    assert err.endswith("k.npy.json: cannot be written (Read-only file system)\n")
    assert select(*ARGS, "--out", "disk/k.npy")[0] == 1  # now refused before any work


def test_folder_removed_during_the_run_is_an_error(old, select, monkeypatch):
    os.mkdir("there")
    real = np.save

    def vanish(*args, **options):
        real(*args, **options)
        for name in os.listdir("there"):
            os.unlink(f"there/{name}")
        os.rmdir("there")

    monkeypatch.setattr(np, "save", vanish)
    code, _, err = select(*ARGS, "--out", "there/k.npy")
    assert code == 1
    assert err.endswith("cannot be written (No such file or directory)\n")
    os.mkdir("there")
    monkeypatch.setattr(np, "save", real)
    edges = step.prepare_edges
    monkeypatch.setattr(step, "prepare_edges", lambda *a, **o: os.rmdir("there") or edges(*a, **o))
    code, _, err = select(*ARGS, "--out", "there/k.npy")
    assert code == 1
    assert err.endswith("there/k.npy.json: cannot be written (No such file or directory)\n")


@pytest.fixture
def nobody():
    """Run as another user than root, in a folder of that user."""
    place = Path.cwd()
    root = os.geteuid() == 0
    with tempfile.TemporaryDirectory() as home:
        os.chdir(home)
        if root:
            os.chown(home, 65534, 65534)
            os.seteuid(65534)
        try:
            yield
        finally:
            if root:
                os.seteuid(0)
            os.chdir(place)


def test_folder_that_becomes_read_only_keeps_the_old_output(nobody):
    with Outputs() as outputs:
        outputs.place("k").write_text("old")
    with pytest.raises(atomic.OutputError, match=r"\(Permission denied\)"), Outputs() as outputs:
        outputs.place("k").write_text("new")
        os.chmod(".", 0o555)
    os.chmod(".", 0o777)
    assert Path("k").read_text() == "old"
    assert len(os.listdir()) == 3  # files that could not be removed …
    atomic.check_target("k", [])
    assert os.listdir() == ["k"]  # … are removed by the next run


def test_failed_renames_are_undone(old, select, monkeypatch):
    """As in a sticky folder in which one output belongs to another user."""
    real, made = os.replace, []

    def refused(source, final):
        made.append(final)
        if len(made) == 4:
            raise OSError(errno.EPERM, "Operation not permitted")
        real(source, final)

    monkeypatch.setattr(os, "replace", refused)
    before = contents()
    code, _, err = select(*ARGS[:-1], 4, "--size", 5, "--out", "k_{size}.csv", "--order", "rank")
    assert code == 1
    assert err.endswith("k_5.csv: cannot be written (Operation not permitted)\n")
    assert contents() == before


def test_failed_restores_are_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(1, "no links")))
    real = os.replace
    for name in "ab":
        (tmp_path / name).write_text("old")

    def refused(source, final):
        if final.name == "b":
            raise OSError(errno.EPERM, "Operation not permitted")
        real(source, final)

    monkeypatch.setattr(os, "replace", refused)
    with pytest.raises(atomic.OutputError) as caught, Outputs() as outputs:
        for name in "ab":
            outputs.place(tmp_path / name).write_text("new")
    assert "b: cannot be written" in caught.value.message
    assert caught.value.hint.endswith("/a")
    assert (tmp_path / "a").read_text() == "new"


# -- files of dead runs ---------------------------------------------------------------------------
def leave(folder, host=None, locked=True):
    """The files that a killed run leaves."""
    run = folder / f".d2prune-{host or temporary._host()}-0123456789ab"
    Path(f"{run}-0.tmp").write_text("half")
    if locked:
        Path(f"{run}.lock").touch()


@pytest.mark.parametrize("locked", [True, False])
def test_files_of_dead_runs_are_removed(tmp_path, locked):
    leave(tmp_path, locked=locked)
    temporary.sweep(tmp_path)
    assert os.listdir(tmp_path) == []


def test_files_of_live_runs_stay(tmp_path):
    with Outputs() as outputs:
        path = outputs.place(tmp_path / "k")
        path.write_text("whole")
        temporary.sweep(tmp_path)
        assert path.exists()
    assert os.listdir(tmp_path) == ["k"]


def test_without_locks_nothing_is_removed(tmp_path, monkeypatch):
    leave(tmp_path)
    monkeypatch.setattr(temporary, "fcntl", None)
    temporary.sweep(tmp_path)
    assert len(os.listdir(tmp_path)) == 2
    with Outputs() as outputs:  # writing still works
        outputs.place(tmp_path / "k").write_text("whole")
    assert (tmp_path / "k").read_text() == "whole"


def test_files_of_other_hosts_stay_for_a_day(tmp_path, monkeypatch):
    leave(tmp_path, host="00000000")
    temporary.sweep(tmp_path)
    assert len(os.listdir(tmp_path)) == 2
    later = time.time() + 25 * 3600
    monkeypatch.setattr(time, "time", lambda: later)
    temporary.sweep(tmp_path)
    assert os.listdir(tmp_path) == []


def test_other_files_are_not_removed(tmp_path):
    names = [".d2prune-note.tmp", "d2prune-00000000-0123456789ab-0.tmp", "k.json", "half.tmp"]
    for name in names:
        (tmp_path / name).write_text("mine")
    run = f".d2prune-{temporary._host()}-"
    (tmp_path / f"{run}0123456789ab-0.tmp").mkdir()
    os.mkfifo(tmp_path / f"{run}ba9876543210-0.tmp")
    (tmp_path / "kept").write_text("mine")
    (tmp_path / f"{run}aaaaaaaaaaaa.lock").symlink_to("kept")
    temporary.sweep(tmp_path)
    assert len(os.listdir(tmp_path)) == len(names) + 4


def test_sidecar_without_output_is_removed(data, select):
    """A first run was killed between its two renames."""
    assert select(*ARGS)[0] == 0
    os.rename("selected.npy", f".d2prune-{temporary._host()}-0123456789ab-1.tmp")
    Path("other.json").write_text("{}")
    assert select(*ARGS, "--out", "another.npy")[0] == 0
    assert not sidecar_path("selected.npy").exists()
    assert {"another.npy", "another.npy.json", "other.json"} <= set(os.listdir())
    assert not [name for name in os.listdir() if name.startswith(".")]


def test_lock_removed_by_another_run_is_created_again(tmp_path, monkeypatch):
    real, calls = temporary.lock, []

    def swept(handle, *, wait):
        calls.append(handle)
        if len(calls) == 1:
            temporary.sweep(tmp_path)
        return real(handle, wait=wait)

    monkeypatch.setattr(temporary, "lock", swept)
    with Outputs() as outputs:
        outputs.place(tmp_path / "k").write_text("whole")
    assert os.listdir(tmp_path) == ["k"]
    assert len(calls) > 2
