"""Kills at random moments: ``python -m tests.soak --kills 1000 --seed 0``.

Half of the runs are stopped after a random time, half at a random line of the code that writes
outputs. Then each output must be the old one or the new one, with its own sidecar. After the next
run there must be no other files.

With ``--losses 20``, worker processes of 20 runs on clusters of two cores are killed at random
moments. Each run must end with the bytes of one machine.
"""

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from d2cli.cli.main import run
from d2cli.files.parts import part_kinds
from d2cli.files.provenance.sidecar import read_sidecar
from tests.faults import Scene, ended, start

#: Rows of runs on a cluster: several shards of edges.
LOSING_ROWS = 200_000
STOPS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def write_inputs(home, rows):
    """Write embeddings, scores, labels, a graph and propagated scores; compile all kernels."""
    rng = np.random.default_rng(3)
    np.save(home / "emb.npy", rng.normal(size=(rows, 12)).astype(np.float32))
    np.save(home / "s.npy", rng.random(rows))
    np.save(home / "labels.npy", np.arange(rows) % 3)
    os.chdir(home)
    for command in (
        ["graph", "--emb", "emb.npy", "--out", "g.arrow", "-q"],
        ["propagate", "--graph", "g.arrow", "--scores", "s.npy", "--out", "p.npy", "-q"],
        ["graph", "--emb", "emb.npy", "--method", "blocks", "--out", "warm.arrow", "-q"],
        ["select", "--graph", "g.arrow", "--propagated", "p.npy", "--size", "9", "-q"],
    ):
        assert run(command) == 0


def scenes(home):
    """Scenes of each command: its outputs do not exist, or were written by other options."""
    emb, scores, graph, p = (f"../{n}" for n in ("emb.npy", "s.npy", "g.arrow", "p.npy"))
    build = ["graph", "--emb", emb, "--out", "out.arrow"]
    pass_on = ["propagate", "--graph", graph, "--scores", scores, "--out", "out.npy"]
    pick = ["select", "--graph", graph, "--propagated", p]
    folder, more = ["graph", "--emb", emb, "--out", "out.d2"], ["-k", "4"]
    part_kinds.PART_ROWS = 30
    several = [*("--ratio", "0.1", "--ratio", "0.2", "--ratio", "0.3"), "--out", "k_{ratio}.npy"]
    table = ["--size", "70", "--out", "k.parquet"]
    in_parts = [*pick, "--size", "70", "--out", "k.d2"]
    kept = [*("--checkpoint", "0", "--within", "../labels.npy"), "--threads", "2"]
    names = [f"k_{r}.npy" for r in ("0.1", "0.2", "0.3")]
    listed = [
        Scene(home, "graph", build, ["out.arrow"], [*build, "-k", "4"]),
        Scene(home, "resumed", [*build, *kept], ["out.arrow"], [*build, "-k", "4"]),
        Scene(home, "blocks", [*build, *kept, "--method", "blocks"], ["out.arrow"], None),
        Scene(home, "folder", folder, ["out.d2"], [*folder, *more]),
        Scene(home, "renamed", folder, ["out.d2"], [*folder, *more], exchanges=False),
        Scene(home, "new folder", [*folder, *kept], ["out.d2"], None),
        Scene(home, "propagate", pass_on, ["out.npy"], [*pass_on, "--gamma-forward", "2"]),
        Scene(home, "first", pass_on, ["out.npy"], None),
        Scene(home, "several", [*pick, *several], names, [*pick, *several, "--complement"]),
        Scene(home, "table", [*pick, *table], ["k.parquet"], [*pick, *table, "--complement"]),
        Scene(home, "parts", in_parts, ["k.d2"], [*in_parts, "--complement"]),
        Scene(home, "moved", in_parts, ["k.d2"], [*in_parts, "--complement"], exchanges=False),
    ]
    for scene in listed:
        scene.prepare()
    return listed


def kill(home, kills, seed):
    """Many trials; returns the outcomes by scene."""
    draw = random.Random(seed)
    listed = scenes(home)
    for number in range(kills):
        scene = listed[number % len(listed)]
        if draw.random() < 0.5:
            scene.trial(number, line=1 + draw.randrange(scene.lines))
        else:
            after = draw.random() * 1.05 * scene.seconds
            scene.trial(number, after=after, by=draw.choice(STOPS))
        if number % 100 == 99:
            print(f"{number + 1} of {kills} kills", file=sys.stderr)
    return {scene.name: dict(sorted(scene.tally.items())) for scene in listed}


def race(home, races):
    """Two concurrent runs with one output: it is that of one run, with its sidecar."""
    folder = home / "race"
    folder.mkdir()
    pick = ["select", "--graph", "../g.arrow", "--propagated", "../p.npy", "--out", "k.npy"]
    won = {}
    for _ in range(races):
        children = [start(folder, [*pick, "--size", size]) for size in ("30", "40")]
        assert [ended(child) for child in children] == [0, 0]
        entry = read_sidecar(folder / "k.npy")
        size = np.load(folder / "k.npy").size
        assert entry["counts"]["kept"] == size
        assert sorted(os.listdir(folder)) == ["k.npy", "k.npy.json", "said"]
        won[f"by {size}"] = won.get(f"by {size}", 0) + 1
    return won


def losses(home, runs, seed):
    """Runs on a cluster that lose worker processes; returns how many were killed, by command."""
    draw, killed = random.Random(seed), {}
    rng = np.random.default_rng(seed)
    np.save(home / "rows.npy", rng.normal(size=(LOSING_ROWS, 12)).astype(np.float32))
    np.save(home / "costs.npy", rng.random(LOSING_ROWS))
    scores = ["--graph", "here.arrow", "--scores", "costs.npy"]
    commands = {
        "graph": (["graph", "--emb", "rows.npy", "--method", "blocks"], "here.arrow"),
        "propagate": (["propagate", *scores], "here.npy"),
        "select": (["select", *scores, "--ratio", "0.2"], "kept.npy"),
    }
    for command, out in commands.values():
        assert run([*command, "--out", out, "-q"]) == 0
    for number in range(runs):
        name = [*commands][number % len(commands)]
        command, out = commands[name]
        there = f"there{Path(out).suffix}"
        # Every task and object is lost less often than it is tried.
        killed[name] = killed.get(name, 0) + losing([*command, "--out", there], draw, most=6)
        assert _data(home / there) == _data(home / out), (name, number)
        hidden = [path.name for path in home.glob(".d2prune-*")]
        assert not hidden, hidden
        print(f"{number + 1} of {runs} runs that lose processes", file=sys.stderr)
    return killed


def losing(command, draw, most):
    """Run a command on a cluster, and kill up to `most` of its workers; returns how many."""
    mark = f"D2PRUNE_SOAK={os.getpid()}"
    process = subprocess.Popen(
        [sys.executable, "-m", "d2cli", *command, "-q", "--engine", "ray", "--threads", "2"],
        env={**os.environ, **dict([mark.split("=")])}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    killed = 0
    while process.poll() is None:
        time.sleep(1.5 * draw.random())
        workers = sorted(_workers(mark))
        if workers and killed < most:
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(workers), signal.SIGKILL)
                killed += 1
    out, errors = process.communicate()
    assert (process.returncode, out, errors) == (0, "", "")
    return killed


def _workers(mark):
    """The processes with `mark` in their environment that run a task, or hold an object."""
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            title = (place / "cmdline").read_bytes()
            if title.startswith((b"ray::_call", b"ray::_Object")) and (
                mark.encode() in (place / "environ").read_bytes().split(b"\0")
            ):
                yield int(place.name)


def _data(path):
    """The data of an output, without what tells of the run."""
    if path.suffix == ".npy":
        return path.read_bytes()
    import pyarrow as pa

    table = pa.ipc.open_file(path.read_bytes()).read_all()
    return [table.column(name).to_pylist() for name in ("neighbors", "distances")]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--races", type=int, default=100)
    parser.add_argument("--losses", type=int, default=0)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="soak") as home:
        write_inputs(Path(home), options.rows)
        found = kill(Path(home), options.kills, options.seed)
        found["races"] = race(Path(home), options.races)
        if options.losses:
            os.chdir(home)
            found["losses"] = losses(Path(home), options.losses, options.seed)
        os.chdir("/")
    for name, tally in found.items():
        print(f"{name:<12}", ", ".join(f"{count} {what}" for what, count in tally.items()))
    print(f"{options.kills} kills, seed {options.seed}, {time.monotonic() - began:.0f} s")
    print("every output old or new, each with its provenance, nothing left after the next run")


if __name__ == "__main__":
    sys.exit(main())
