"""The two engines: tasks, objects that stay, errors, and lost processes."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from d2cli.engine import cluster
from d2cli.engine.tasks import LostError
from d2cli.errors import D2Error, DataError, LimitError, UsageError
from tests.engines import both_engines, engine_of, ray_engine, with_ray


def write(folder, item):
    (Path(folder) / str(item)).write_text(str(item * item))


def write_or_die(folder, item):
    """The first try of an odd item ends its process."""
    tried = Path(folder) / f"tried-{item}"
    if item % 2 and not tried.exists():
        tried.touch()
        os._exit(1)
    write(folder, item)


def refuse(item):
    if item == 3:
        raise DataError("is bad", "mend it", argument="embeddings", row=3)


class Counter:
    def __init__(self, start):
        self.count = start

    def add(self, more):
        self.count += more
        return self.count

    def wait(self, seconds):
        time.sleep(seconds)

    def die(self, whether):
        if whether:
            os._exit(1)


@both_engines
def test_tasks_run_once_each(kind, tmp_path):
    ended, engine = [], engine_of(kind).enter_result
    for run in (engine.each, engine.run):
        ended.clear()
        run(partial(write, str(tmp_path)), range(7), ended.append)
        assert sorted(ended) == [*range(7)]
        assert (tmp_path / "6").read_text() == "36"
        (tmp_path / "6").unlink()
    engine.each(refuse, [])


@both_engines
def test_an_error_of_a_task_is_raised_as_it_is(kind):
    with pytest.raises(DataError, match="is bad") as caught:
        engine_of(kind).enter_result.each(refuse, range(6))
    error = caught.value
    assert (error.hint, error.argument, error.row) == ("mend it", "embeddings", 3)


@both_engines
def test_objects_keep_their_state(kind):
    held = engine_of(kind).enter_result.hold(Counter, [0, 10, 20])
    assert len(held) == 3
    assert held.call("add", [(1,), (2,), (3,)]) == [1, 12, 23]
    assert held.call("add", [(1,)] * 3) == [2, 13, 24]
    held.end()


@both_engines
def test_an_error_of_an_object_is_raised_as_it_is(kind):
    engine, held = engine_of(kind).enter_result, None
    with pytest.raises(DataError, match="is bad"):
        held = engine.hold(refuse, [3, 3])
        held.call("add", [(1,), (1,)])
    if held is not None:
        held.end()


@with_ray
def test_lost_processes(tmp_path):
    engine = ray_engine()
    engine.each(partial(write_or_die, str(tmp_path)), range(4))
    assert sorted(p.name for p in tmp_path.glob("?")) == list("0123")
    held = engine.hold(Counter, [0, 10])
    with pytest.raises(LostError):
        held.call("die", [(False,), (True,)])
    assert held.call("add", [(1,), (1,)]) == [1, 11], "all were made anew"
    held.end()


@with_ray
def test_calls_of_two_threads_may_lose_the_same_objects():
    held = ray_engine().hold(Counter, [0, 10])
    assert held.call("add", [(1,), (1,)]) == [1, 11]
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(held.call, "die", [(False,), (True,)]) for _ in range(2)]
        assert [type(call.exception()) for call in calls] == [LostError] * 2
    assert held.call("add", [(1,), (1,)]) == [1, 11], "all were made anew"
    held.end()


@with_ray
def test_objects_that_no_node_can_hold_are_refused():
    engine = ray_engine()
    assert engine.nodes == 1
    assert engine.can_hold(2, 1 << 20)
    assert not engine.can_hold(2, 1 << 50)
    with pytest.raises(
        LimitError, match=r"must hold 2 objects of 1,024 TiB, and lends .* on 1 node"
    ):
        engine.hold(Counter, [0, 10], memory=1 << 50)


@with_ray
def test_lost_objects_wait_for_a_node_that_has_room(monkeypatch):
    engine, asked = ray_engine(), []
    held = engine.hold(Counter, [0], memory=1 << 20)
    places = engine._places

    def later(*wanted):
        asked.append(wanted)
        return places(*wanted) if len(asked) > 2 else None

    monkeypatch.setattr(engine, "_places", later)
    with pytest.raises(LostError):
        held.call("die", [(True,)])
    assert len(asked) == 3
    assert held.call("add", [(1,)]) == [1]


@with_ray
def test_more_objects_than_cores_share_them():
    """As after a node was lost: all must fit on what is left."""
    held = ray_engine().hold(Counter, [0, 10, 20, 30, 40, 50], memory=1 << 20)
    assert held.call("add", [(1,)] * 6) == [1, 11, 21, 31, 41, 51]
    held.end()


@with_ray
def test_objects_are_made_anew_if_their_node_is_gone(monkeypatch):
    """As if Ray still counted a lost node when they were made."""
    engine = ray_engine()
    there = engine._nodes()
    gone = there[0]._replace(id="e" * len(there[0].id))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "_nodes", lambda: [*there, gone])
        held = engine.hold(Counter, [0, 10])
        patch.setattr(engine, "_nodes", lambda: there)
        with pytest.raises(LostError, match="is gone"):
            held.call("wait", [(5.0,)] * 2)
    assert held.call("add", [(1,)] * 2) == [1, 11]
    held.end()


@with_ray
def test_without_a_node_for_tasks_the_run_ends(monkeypatch):
    engine = ray_engine()
    monkeypatch.setattr(cluster, "PATIENCE", 0.5)
    monkeypatch.setattr(engine, "memory", 1 << 48)
    with pytest.raises(D2Error, match="no node that can run a task"):
        engine.each(refuse, [1])
    monkeypatch.setattr(engine, "memory", 0)
    engine.each(refuse, [1])


FULL = """
import numpy as np, ray
ray.init("local", num_cpus=1, object_store_memory=80 << 20, logging_level="ERROR",
         include_dashboard=False, log_to_driver=False)
from d2cli.engine.cluster import RayEngine
from d2cli.errors import D2Error
class Large:
    def __init__(self, size):
        self.size = size
    def content(self):
        return np.ones(self.size, np.uint8)
    def __call__(self, item):
        pass
engine, large = RayEngine(None, 1), Large(200 << 20)
large.kept = large.content()
for work in (
    lambda: engine.each(large, [1]),
    lambda: engine.hold(Large, [200 << 20]).call("content", [()]),
):
    try:
        work()
    except D2Error as error:
        print(error)
"""


@with_ray
def test_a_full_disk_of_ray_ends_in_one_error():
    """A disk counts as full from a ten-thousandth on; objects are larger than their memory."""
    environment = {**os.environ, "RAY_local_fs_capacity_threshold": "0.0001"}
    done = subprocess.run(
        [sys.executable, "-c", FULL], check=False, capture_output=True, text=True, timeout=300,
        env=environment,
    )  # fmt: skip
    said = done.stdout.splitlines()
    assert len(said) == 2, (said, done.stderr)
    assert all("has no room left for objects" in line for line in said)


@with_ray
def test_another_version_there_is_refused(monkeypatch):
    engine = ray_engine()
    monkeypatch.setattr(cluster, "__version__", "0.0.1")
    with pytest.raises(UsageError, match=r"and this machine 0\.0\.1"):
        engine.each(refuse, [1])


@with_ray
def test_tasks_see_the_folder_of_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ray_engine().each(partial(write, "."), [3])
    assert (tmp_path / "3").read_text() == "9"


def crash(item):
    os._exit(item)


@with_ray
def test_work_that_is_lost_again_and_again_ends_in_an_error(monkeypatch):
    monkeypatch.setattr(cluster, "RETRIES", 1)
    with pytest.raises(D2Error, match="lost processes again and again"):
        ray_engine().each(crash, [1])


def test_a_folder_that_a_node_does_not_see_is_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be entered on"):
        cluster._Origin(cluster.__version__, str(tmp_path / "gone"), 0).settle()


@with_ray
def test_no_cluster_at_the_address():
    with pytest.raises(UsageError, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        cluster.RayEngine("127.0.0.1:1", None)


@with_ray
def test_too_few_nodes_are_refused(monkeypatch):
    monkeypatch.setattr(cluster, "PATIENCE", 0.3)
    ray_engine()
    with pytest.raises(UsageError, match="after 0 seconds the cluster has 1"):
        cluster.RayEngine(None, 1, nodes=2)


def test_without_ray_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UsageError) as caught:
        cluster.RayEngine(None, 1)
    assert caught.value.hint == "pip install 'd2prune[ray]'"
