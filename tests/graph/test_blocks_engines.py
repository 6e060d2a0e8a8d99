"""``build_lists`` on both engines: the same bytes as in memory, after lost tasks and stops too."""

import os
from pathlib import Path

import numpy as np
import pytest

from d2cli.files.output.part_files import PartFiles
from d2cli.files.output.work_folder import LocalFolder
from d2cli.graph.blocks import plan
from d2cli.graph.build import build_graph, build_lists
from d2cli.graph.settings import SearchSettings
from tests.engines import both_engines, engine_of, with_ray
from tests.graph.test_blocks_neighbors import (
    Kept,
    Reader,
    clustered,
    iid,
    made,
    near_duplicates,
    power_law,
)
from tests.marks import compiled


@pytest.fixture(scope="module")
def engines():
    """One engine of each kind, made when it is first asked for."""
    opened, made_ones = {}, []

    def get(kind):
        if kind not in opened:
            made_ones.append(engine_of(kind))
            opened[kind] = made_ones[-1].__enter__()
        return opened[kind]

    yield get
    for one in made_ones:
        one.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def small_cells(monkeypatch):
    """Eight groups of cells, in tests of few rows too."""
    monkeypatch.setattr(plan, "CELL_ROWS", 128)


def with_copies(rng, n):
    """A quarter of the rows equal others."""
    rows = iid(rng, n, 8)
    rows[rng.integers(0, n, n // 4)] = rows[rng.integers(0, n, n // 4)]
    return rows


def tight_and_loose(rng, n):
    """Half of the rows lie in one tight cluster that is too large for the search of small ones."""
    rows = iid(rng, n, 8)
    rows[: n // 2] = 1e-6 * rows[: n // 2] + rows[-1]
    return rows


def overlapping(rng, n, d=32):
    """Overlapping clusters, which votes are needed for, and a tight one."""
    middles = rng.normal(size=(n // 200, d))
    rows = middles[rng.integers(0, len(middles), n)] + 0.7 * rng.normal(size=(n, d))
    rows[: n // 20] = 1e-6 * rows[: n // 20] + rows[-1]
    return rows


SETTINGS = SearchSettings(n_neighbors=10, method="blocks", recall=0.97, threads=2)


def in_memory(values, settings=SETTINGS, **options):
    graph = build_graph(
        values, settings.n_neighbors, method="blocks", recall=settings.recall,
        metric=settings.metric, threads=2, **options,
    )  # fmt: skip
    return graph.rows(0, len(values)), graph.info


def in_parts(values, engine, checkpoint, settings=SETTINGS, **options):
    lists = build_lists(
        Reader(values), settings, checkpoint=checkpoint, engine=engine, **options
    )  # fmt: skip
    return lists.rows(0, len(values)), lists.info


def check_same(found, wanted):
    for one, other in zip(found[0], wanted[0], strict=True):
        assert one.tobytes() == other.tobytes()
    assert found[1] == wanted[1]


@both_engines
def test_few_rows(kind, engines, tmp_path, monkeypatch):
    """Several cells, groups and boxes even so."""
    monkeypatch.setattr(plan, "CELL_ROWS", 32)
    values = made(clustered, 200)
    engine = engines(kind)
    check_same(in_parts(values, engine, Kept(tmp_path, 1)), in_memory(values))


@compiled
@both_engines
@pytest.mark.parametrize(
    ("make", "n", "room"),
    [
        (clustered, 3000, 300_000), (iid, 3000, 1), (power_law, 3000, 300_000),
        (near_duplicates, 3000, 10**7), (with_copies, 3000, 1), (tight_and_loose, 10_000, 10**6),
        (overlapping, 40_000, 10**6),
    ],
)  # fmt: skip
def test_bytes_are_those_of_a_build_in_memory(kind, make, n, room, engines, tmp_path):
    values = made(make, n)
    found = in_parts(values, engines(kind), Kept(tmp_path, room))
    check_same(found, in_memory(values))


@compiled
@both_engines
def test_groups_cosine_and_excluded_rows(kind, engines, tmp_path):
    values = made(with_copies, 2000)
    options = {"within": np.arange(2000) % 2, "exclude": np.arange(2000) < 9}
    settings = SearchSettings(
        n_neighbors=7, metric="cosine", method="blocks", recall=0.97, threads=2
    )
    found = in_parts(values, engines(kind), Kept(tmp_path, 10**5), settings, **options)
    check_same(found, in_memory(values, settings, **options))


class Mortal(PartFiles):
    """Ends the process that puts a part of these names, unless it is the first; once a name."""

    NAMES = (
        "checked", "hashes", "nearest", "encoded", "carved map", "moved", "blocks", "lists 0",
        "tight places", "tight solved", "box 0", "own 0", "batch 0", "lists 1", "hoods 1",
        "voted 1", "ranked",
    )  # fmt: skip

    def __init__(self, folder, room, deaths):
        super().__init__(folder, room)
        self.driver, self.deaths = os.getpid(), deaths

    def put(self, name, part=0, /, **arrays):
        super().put(name, part, **arrays)
        if os.getpid() != self.driver and name in self.NAMES:
            try:
                (self.deaths / name).touch(exist_ok=False)
            except FileExistsError:
                return
            os._exit(1)

    def child(self, name):
        return Mortal(self.folder.child(f"{name}.parts"), self.room, self.deaths)


@compiled
@with_ray
def test_a_process_lost_in_each_stage_changes_nothing(engines, tmp_path):
    values, deaths = made(overlapping, 40_000), tmp_path / "deaths"
    deaths.mkdir()
    kept = Kept(tmp_path / "x", 10**6)
    kept.parts = Mortal(LocalFolder(tmp_path / "parts"), 10**6, deaths)
    found = in_parts(values, engines("ray"), kept)
    assert {path.name for path in deaths.iterdir()} == {*Mortal.NAMES}
    check_same(found, in_memory(values))


class Logged(PartFiles):
    """Notes what is put, by any process."""

    def put(self, name, part=0, /, **arrays):
        super().put(name, part, **arrays)
        with Path(f"{self.folder}.log").open("a") as log:
            log.write(f"{name}-{part}\n")

    def child(self, name):
        return Logged(self.folder.child(f"{name}.parts"), self.room)


class KilledError(Exception):
    """A run was stopped."""


@compiled
@both_engines
def test_a_stopped_run_keeps_what_its_tasks_have_finished(kind, engines, tmp_path):
    """Stopped in every stage, after its first task that is not its last."""
    values, engine, room = made(overlapping, 40_000), engines(kind), 10**6
    marks = {"encoded", "carved map", "moved", "lists 0", "batch 0", "lists 1", "voted 1", "ranked"}
    stages = ["encode", "arrange", "search", "votes", "rank"]
    wanted = in_memory(values)
    seen, log = set(), Path(f"{tmp_path / 'parts'}.log")

    def stops(stage, done, total):
        if stage in stages and done < total:
            stages.remove(stage)
            raise KilledError(stage)

    while stages:
        kept = Kept(tmp_path / "x", room)
        kept.parts = Logged(LocalFolder(tmp_path / "parts"), room)
        log.unlink(missing_ok=True)
        with pytest.raises(KilledError):
            in_parts(values, engine, kept, progress=stops)
        put = log.read_text().splitlines()
        again = seen & {*put}
        assert not {one for one in again if one.rpartition("-")[0] in marks}
        seen |= {*put}
    kept.parts = Logged(LocalFolder(tmp_path / "parts"), room)
    check_same(in_parts(values, engine, kept), wanted)
    assert len(kept.parts.names()) == 3
