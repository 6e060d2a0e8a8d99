"""``--engine ray`` on clusters of several nodes, simulated on this machine."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests import object_store
from tests.engines import with_ray
from tests.marks import compiled
from tests.pages import ROOT

pytestmark = [with_ray, compiled]

N = 24_000
NODE = {"num_cpus": 1, "memory": 2 * 2**30, "object_store_memory": 2**28}
#: Seconds within which everything here is done, on a slow and busy machine too.
PATIENCE = 400


def d2prune(*words):
    return [sys.executable, "-m", "d2cli", *map(str, words)]


def run(*words, **options):
    done = subprocess.run(
        d2prune(*words), check=False, capture_output=True, text=True, timeout=PATIENCE, **options
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Embeddings, scores, and the outputs of one machine: ``one.arrow``, ``one.npy``."""
    folder = tmp_path_factory.mktemp("cluster")
    rng = np.random.default_rng(3)
    centres = 3 * rng.normal(size=(120, 12))
    rows = centres[rng.integers(0, 120, N)] + rng.normal(size=(N, 12))
    np.save(folder / "emb.npy", rows.astype("f4"))
    np.save(folder / "scores.npy", rng.beta(0.5, 3, N))
    np.save(folder / "labels.npy", rng.integers(0, 4, N))
    run("graph", "--emb", "emb.npy", "--out", "one.arrow", "-q", cwd=folder)
    for options in PICKS.values():
        run(*picks("one.arrow", "one", options), cwd=folder)
    return folder


PICKS = {"plain": [], "classes": ["--labels", "labels.npy", "--balance", "uniform"]}


def picks(graph, name, options):
    inputs = ("--graph", graph, "--scores", "scores.npy", "--ratio", "0.2", *options)
    return ("select", *inputs, "--out", f"{name}{len(options)}.npy", "-q")


def content(path):
    """The data of a graph file, without what tells of the run."""
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
    return [table.column(name).to_pylist() for name in ("neighbors", "distances")]


@pytest.fixture
def cluster():
    """A cluster of two nodes, with one core each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.second = made.add_node(**NODE)
    yield made
    made.shutdown()


def test_two_nodes_give_the_bytes_of_one_machine_though_one_is_lost(folder, cluster):
    where = ("--engine", "ray", "--ray-address", cluster.address)
    out = folder / "two.arrow"
    process = subprocess.Popen(
        d2prune("graph", "--emb", "emb.npy", "--out", out, "-q", *where, "--ray-nodes", 2),
        cwd=folder, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until = time.monotonic() + PATIENCE
    while process.poll() is None and not [*folder.glob(".d2prune-*.checkpoint/all.parts/lists*")]:
        assert time.monotonic() < until
        time.sleep(0.05)
    cluster.remove_node(cluster.second, allow_graceful=False)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    assert content(out) == content(folder / "one.arrow")
    assert not [*folder.glob(".d2prune-*.checkpoint")]
    cluster.add_node(**NODE)
    for options in PICKS.values():
        run(*picks("two.arrow", "two", options), *where, cwd=folder)
        name = f"{len(options)}.npy"
        assert (folder / f"two{name}").read_bytes() == (folder / f"one{name}").read_bytes()
        told = json.loads((folder / f"two{name}.json").read_text())["run"]["cluster"]
        assert told["tasks"] > 0
        assert min(told["nodes"], told["cores"]) >= 2  # a lost node counts until Ray misses it


def test_an_address_of_a_store_gives_the_bytes_of_one_machine(folder, objects, tmp_path):
    """Each process connects to the store by itself, and nothing is left there."""
    environment = {**os.environ, **object_store.install(tmp_path / "site")}
    where = ("--engine", "ray", "--threads", 2, "--work-dir", "objects://bucket/work")
    line = ("graph", "--emb", "emb.npy", "--out", "far.arrow", *where)
    done = run(*line, cwd=folder, env=environment)
    assert " in objects://bucket/work" in done.stderr
    assert content(folder / "far.arrow") == content(folder / "one.arrow")
    for options in PICKS.values():
        run(*picks("far.arrow", "far", options), *where, cwd=folder, env=environment)
        name = f"{len(options)}.npy"
        assert (folder / f"far{name}").read_bytes() == (folder / f"one{name}").read_bytes()
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
        picks(f"{at}one.arrow", "there", []),
    ):
        done = subprocess.run(
            [sys.executable, "-c", program, *line, *where], cwd=folder, check=False,
            capture_output=True, text=True, timeout=PATIENCE, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert content(folder / "there.arrow") == content(folder / "one.arrow")
    assert (folder / "there0.npy").read_bytes() == (folder / "one0.npy").read_bytes()


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
         "d2prune", *picks("one.arrow", "slurm", [])],
        cwd=folder, check=False, capture_output=True, text=True, timeout=PATIENCE,
        env={**os.environ, **slurm, "PATH": programs, "RAY_PORT": "26379"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / "slurm0.npy").read_bytes() == (folder / "one0.npy").read_bytes()


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
