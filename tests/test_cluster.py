"""``--engine ray`` on clusters of several nodes, simulated on this machine, and what they lose."""

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests import object_store
from tests.engines import with_ray
from tests.faults import small_disk
from tests.gated import FULL
from tests.marks import compiled
from tests.pages import ROOT

pytestmark = [with_ray, compiled]

N = 24_000
NODE = {"num_cpus": 1, "memory": 2 * 2**30, "object_store_memory": 2**28}
#: Seconds within which everything here is done, on a slow and busy machine too.
PATIENCE = 400
#: A variable in the environment of a run, which its processes inherit.
MARK = "D2PRUNE_TEST_RUN"
RESUMED = "resumed from the checkpoint of an unfinished run"

CLASSES = ["--labels", "labels.npy", "--balance", "uniform"]
COMMANDS = {
    "graph": ["graph", "--emb", "emb.npy"],
    "propagate": ["propagate", "--graph", "one.arrow", "--scores", "scores.npy"],
    "plain": ["select", "--graph", "one.arrow", "--scores", "scores.npy", "--ratio", "0.2"],
    "from rows": ["select", "--emb", "emb.npy", "--scores", "scores.npy", "--ratio", "0.2"],
}
COMMANDS["classes"] = [*COMMANDS["plain"], *CLASSES]
#: What one machine has written for each command.
ONE = {"graph": "one.arrow", "propagate": "one.p.npy", "plain": "one.npy", "classes": "one.c.npy"}
ONE["from rows"] = ONE["plain"]


def python(*words):
    return [sys.executable, "-m", *map(str, words)]


def run(*words, **options):
    done = subprocess.run(
        python("d2cli", *words, "-q"), check=False, capture_output=True, text=True,
        timeout=PATIENCE, **options,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Embeddings, scores, and the outputs of one machine."""
    folder = tmp_path_factory.mktemp("cluster")
    rng = np.random.default_rng(3)
    centres = 3 * rng.normal(size=(120, 12))
    rows = centres[rng.integers(0, 120, N)] + rng.normal(size=(N, 12))
    np.save(folder / "emb.npy", rows.astype("f4"))
    np.save(folder / "scores.npy", rng.beta(0.5, 3, N))
    np.save(folder / "labels.npy", rng.integers(0, 4, N))
    for name in ("graph", "propagate", "plain", "classes"):
        run(*COMMANDS[name], "--out", ONE[name], cwd=folder)
    return folder


@pytest.fixture
def folder(data, tmp_path):
    """A folder of this test with the files of `data`."""
    for path in data.iterdir():
        shutil.copy2(path, tmp_path)
    return tmp_path


def content(path):
    """The data of an output, without what tells of the run."""
    if path.suffix == ".npy":
        return path.read_bytes()
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    return [table.column(name).to_pylist() for name in ("neighbors", "distances")]


def out_of(name):
    return f"out{Path(ONE[name]).suffix}"


def is_that_of_one_machine(folder, name):
    return content(folder / out_of(name)) == content(folder / ONE[name])


def hidden(folder):
    return [path for path in folder.iterdir() if path.name.startswith(".d2prune-")]


class Run:
    """A command that is under way, and stops in a stage (:mod:`tests.gated`)."""

    def __init__(self, folder, name, stage, *words, is_open=False):
        self.gate = folder / "gate"
        shutil.rmtree(self.gate, ignore_errors=True)
        self.gate.mkdir()
        if is_open:
            self.open()
        command = [*COMMANDS[name], "--out", out_of(name), "--engine", "ray", *words]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), MARK: str(folder)}
        self.process = subprocess.Popen(
            python("tests.gated", self.gate, stage, *command), cwd=folder, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def open(self):
        (self.gate / "open").touch()

    def nodes(self):
        """The nodes that have begun with the stage."""
        return {path.name for path in self.gate.iterdir()} - {"open"}

    def wait(self, among=None):
        """Wait until a node has begun with the stage, one `among` these if they are given."""
        until = time.monotonic() + PATIENCE
        while not (here := self.nodes() & (among or self.nodes())):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < until
            time.sleep(0.05)
        return here.pop()

    def end(self):
        """The exit code, and the lines of standard error; nothing is on standard output."""
        out, errors = self.process.communicate(timeout=PATIENCE)
        assert out == ""
        return self.process.returncode, errors.splitlines()


@contextmanager
def simulated():
    from ray.cluster_utils import Cluster

    # Lost nodes are noticed sooner.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_period_ms", "500")
        head = {**NODE, "num_cpus": 0, "include_dashboard": False}
        made = Cluster(initialize_head=True, head_node_args=head)
        try:
            yield made
        finally:
            made.shutdown()


@pytest.fixture(scope="module")
def cluster():
    """A cluster whose head runs no tasks. Tests add nodes with one core each."""
    with simulated() as made:
        yield made


@pytest.fixture
def two(cluster):
    """The two nodes of the cluster, by name."""
    there = list(cluster.worker_nodes)
    nodes = there + [cluster.add_node(**NODE) for _ in range(2 - len(there))]
    return {node.node_id: node for node in nodes}


def at(cluster):
    return ("--ray-address", cluster.address, "--ray-nodes", 2)


@pytest.mark.parametrize(
    ("name", "stage"),
    [("graph", "_meet"), ("propagate", "_span"), ("plain", "put_together"), ("classes", "advance")],
)
def test_a_node_is_lost_in_the_middle(folder, cluster, two, name, stage):
    started = Run(folder, name, stage, *at(cluster), "-q")
    lost = started.wait()
    cluster.remove_node(two[lost], allow_graceful=False)
    started.open()
    assert started.end() == (0, [])
    assert is_that_of_one_machine(folder, name)
    assert not hidden(folder)


def test_the_disk_of_one_node_is_full(folder, cluster, two):
    """The old output stays. The same command continues without this node."""
    (folder / "out.arrow").write_bytes((folder / "one.arrow").read_bytes())
    full = cluster.add_node(**NODE, env_vars={FULL: "1"})
    try:
        started = Run(folder, "graph", "_meet", "--ray-address", cluster.address, "--ray-nodes", 3)
        started.wait({full.node_id})
        started.open()
        code, said = started.end()
    finally:
        cluster.remove_node(full, allow_graceful=False)
    errors = [line for line in said if not line.startswith(("notice: ", "hint: "))]
    (kept,) = hidden(folder)
    assert code == 1
    assert errors == [f"error: {kept.name}/all.parts: cannot be written (No space left on device)"]
    assert is_that_of_one_machine(folder, "graph")  # it was put there
    (folder / "out.arrow").unlink()
    again = Run(folder, "graph", "_carve_cells", *at(cluster), is_open=True)
    code, said = again.end()
    assert (code, *again.nodes()) == (0,)
    assert RESUMED in "".join(said)
    assert is_that_of_one_machine(folder, "graph")
    assert not hidden(folder)
    told = json.loads((folder / "out.arrow.json").read_text())["run"]["cluster"]
    assert told["tasks"] > 0
    assert min(told["nodes"], told["cores"]) >= 2  # a lost node counts until Ray misses it


# -- a cluster that was started for the run -------------------------------------------------------
def processes(folder):
    """The names of the processes that were started by runs in a folder."""
    mark, found = f"{MARK}={folder}\0".encode(), []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes():
                found.append((place / "cmdline").read_bytes())
        except OSError:  # ended meanwhile
            continue
    return found


def wait_for_the_end(folder):
    until = time.monotonic() + PATIENCE
    while there := processes(folder):
        assert time.monotonic() < until, there
        time.sleep(0.1)


here = ("--threads", 2)


@pytest.mark.parametrize("name", ["graph", "from rows"])
def test_the_driver_is_killed(folder, name):
    """The same command continues with what is finished."""
    started = Run(folder, name, "_meet", *here)
    started.wait()
    started.process.kill()
    started.end()
    assert not (folder / out_of(name)).exists()
    (kept,) = hidden(folder)
    assert [*kept.glob("all.parts/moving ended*")]
    again = Run(folder, name, "_carve_cells", *here, is_open=True)
    code, said = again.end()
    assert (code, *again.nodes()) == (0,)
    assert RESUMED in "".join(said)
    assert is_that_of_one_machine(folder, name)
    assert not hidden(folder)


@pytest.mark.parametrize(
    ("name", "stage", "number", "code", "said"),
    [
        ("classes", "put_together", signal.SIGTERM, 143, "terminated"),
        ("graph", "_meet", signal.SIGINT, 130, "interrupted"),
    ],
)
def test_a_run_is_stopped(folder, name, stage, number, code, said):
    """Its processes end. Only finished parts of a graph stay."""
    started = Run(folder, name, stage, *here, "-q")
    started.wait()
    # Control-C in a terminal is for all processes.
    (os.killpg if number == signal.SIGINT else os.kill)(started.process.pid, number)
    assert started.end() == (code, [f"error: {said}; no output was changed"])
    wait_for_the_end(folder)
    assert not [path for path in hidden(folder) if path.suffix != ".checkpoint"]


def test_files_of_a_run_that_was_killed_are_removed_by_the_next(folder):
    started = Run(folder, "propagate", "put_together", *here, "-q")
    started.wait()
    started.process.kill()
    started.end()
    assert [path for path in hidden(folder) if path.name.endswith(".tmp.d2")]
    run(*COMMANDS["propagate"], "--out", out_of("propagate"), cwd=folder)
    assert is_that_of_one_machine(folder, "propagate")
    assert not hidden(folder)


@pytest.mark.parametrize(
    ("name", "mebibytes", "place"),
    [("graph", 4, r"disk/\.d2prune-.*/all\.parts"), ("plain", 2, r".*/disk/\.d2prune-.*")],
)
def test_the_work_folder_is_full(folder, name, mebibytes, place):
    words = [*COMMANDS[name], "--out", out_of(name), "--engine", "ray", *here, "--work-dir", "disk"]
    with small_disk(folder / "disk", mebibytes << 20) as grow:
        done = subprocess.run(
            python("d2cli", *words, "-q"), check=False, capture_output=True, text=True,
            timeout=PATIENCE, cwd=folder,
        )  # fmt: skip
        said = [line for line in done.stderr.splitlines() if not line.startswith("notice: ")]
        assert (done.returncode, len(said)) == (1, 2), done.stderr
        full = r"cannot be written \(No space left on device\)"
        assert re.fullmatch(f"error: {place}: {full}", said[0])
        assert said[1].startswith("hint: --work-dir names another folder")
        assert not (folder / out_of(name)).exists()
        grow(64 << 20)
        again = Run(folder, name, "_encode", *here, "--work-dir", "disk", is_open=True)
        assert again.end()[0] == 0
        assert not again.nodes()
        assert is_that_of_one_machine(folder, name)
        assert not hidden(folder / "disk")


def test_an_address_of_a_store_gives_the_bytes_of_one_machine(folder, objects, tmp_path):
    """Each process connects to the store by itself, and nothing is left there."""
    environment = {**os.environ, **object_store.install(tmp_path / "site")}
    where = ("--engine", "ray", *here, "--work-dir", "objects://bucket/work")
    for name in ("graph", "plain", "classes"):
        run(*COMMANDS[name], "--out", out_of(name), *where, cwd=folder, env=environment)
        assert is_that_of_one_machine(folder, name)
    assert os.listdir(objects) == []


def test_tasks_on_other_machines_read_inputs_at_addresses(folder, objects, tmp_path):
    """As they would there, workers do not find the copies of the process that was started."""
    for name in ("emb.npy", "one.arrow"):
        (objects / name).write_bytes((folder / name).read_bytes())
    environment = {**os.environ, **object_store.install(tmp_path / "site")}
    program = (
        "import os, sys\n"
        "from d2cli.cli.main import run\n"
        "from d2cli.files.output.remote_folder import CopiedFile\n"
        "real = CopiedFile.__reduce__\n"
        "CopiedFile.__reduce__ = lambda self: (real(self)[0], ('/not/here', str(self)))\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    where = ("--engine", "ray", "--threads", "2", "--work-dir", "objects://bucket/work", "-q")
    at = "objects://bucket/"
    for line in (
        ("graph", "--emb", f"{at}emb.npy", "--out", "there.arrow"),
        ("select", "--graph", f"{at}one.arrow", *COMMANDS["plain"][3:], "--out", "there.npy"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *line, *where], cwd=folder, check=False,
            capture_output=True, text=True, timeout=PATIENCE, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert content(folder / "there.arrow") == content(folder / "one.arrow")
    assert content(folder / "there.npy") == content(folder / "one.npy")


def test_slurm_script(folder, tmp_path):
    """The script of docs/cluster.md, with stand-ins for the two commands of Slurm that it calls."""
    commands = {
        "scontrol": "echo 127.0.0.1; echo 127.0.0.1",
        "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
    }
    for name, body in commands.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "d2prune").symlink_to(Path(sys.executable).with_name("d2prune"))
    programs = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    slurm = {"SLURM_JOB_NODELIST": "two", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "1"}
    done = subprocess.run(
        ["bash", ROOT / "docs" / "cluster" / "slurm.sbatch",
         "d2prune", *COMMANDS["plain"], "--out", out_of("plain"), "-q"],
        cwd=folder, check=False, capture_output=True, text=True, timeout=PATIENCE,
        env={**os.environ, **slurm, "PATH": programs, "RAY_PORT": "26379"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert is_that_of_one_machine(folder, "plain")


def test_kubernetes_job_holds_a_command_that_the_program_knows():
    import yaml

    from d2cli.cli.main import app
    from docs import build_cli

    job = yaml.safe_load((ROOT / "docs" / "cluster" / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    program, command, *words = job["spec"]["entrypoint"].split()
    import typer

    known = typer.main.get_command(app)
    options = build_cli.option_names(known.get_command(None, command))
    assert program == "d2prune"
    assert {word for word in words if word.startswith("--")} <= options
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    nodes = 1 + sum(group["replicas"] for group in workers)
    assert words[words.index("--ray-nodes") + 1] == str(nodes)
