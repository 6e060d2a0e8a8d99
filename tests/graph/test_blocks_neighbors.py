"""The ``blocks`` search as a whole: recall, and the same bytes however it runs."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from d2cli.engine.checkpoints import NONE, Checkpoint
from d2cli.engine.threads import silent
from d2cli.files.output.part_files import PartFiles
from d2cli.files.output.work_folder import LocalFolder
from d2cli.graph import vectors
from d2cli.graph.blocks import meeting, neighbors, plan, rank, ranked, sizes, tight
from d2cli.graph.recall import Truth, sample_rows
from d2cli.graph.settings import SearchSettings
from d2cli.graph.vectors import Group, ReadVectors
from tests.marks import compiled


def clustered(rng, n, d=32):
    middles = rng.normal(size=(n // 30, d))
    return middles[rng.integers(0, len(middles), n)] + 0.2 * rng.normal(size=(n, d))


def iid(rng, n, d=12):
    return rng.normal(size=(n, d))


def power_law(rng, n, d=24):
    """Densities that differ by orders of magnitude."""
    middles = rng.normal(size=(n // 40, d))
    spread = rng.pareto(1.5, len(middles)) + 0.01
    which = np.minimum(rng.zipf(1.4, n) - 1, len(middles) - 1)
    return middles[which] + 0.1 * spread[which, None] * rng.normal(size=(n, d))


def near_duplicates(rng, n, d=20):
    """Tight groups of 25 rows that share most codes."""
    middles = rng.normal(size=(-(-n // 25), d))
    return np.repeat(middles, 25, axis=0)[:n] + 1e-4 * rng.normal(size=(n, d))


def few_dimensions(rng, n, d=2):
    return rng.random((n, d))


def one_far_row(rng, n, d=8):
    rows = rng.normal(size=(n, d))
    rows[n // 2] = 1e5
    return rows


KINDS = [clustered, iid, power_law, near_duplicates, few_dimensions, one_far_row]


def made(kind, n, seed=0):
    return kind(np.random.default_rng(seed), n).astype(np.float32)


class Reader:
    """Rows that are read, and counts how often."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.reads = 0

    def read(self, start, stop, out=None):
        self.reads += 1
        out = np.empty_like(self.values[start:stop]) if out is None else out
        out[:] = self.values[start:stop]
        return out

    def take(self, rows):
        self.reads += 1
        return self.values[rows]


class Kept(Checkpoint):
    """Parts in files of a folder; `room` bytes of them may be in memory."""

    def __init__(self, folder, room):
        self.parts = PartFiles(LocalFolder(folder), room)

    def store(self):
        return self.parts


def search(values, k=10, recall=0.95, threads=1, rows=None, seed=0, checkpoint=NONE):
    """Neighbours and distances with cells, groups and boxes that are small."""
    bounded = checkpoint is not NONE
    vectors = ReadVectors(Reader(values), "euclidean") if bounded else values
    if bounded:
        vectors.largest = float(np.abs(values).max())
    group = Group(vectors, rows)
    n = len(group)
    aim, _ = sample_rows(n, 256, 0, seed)
    size = min(n - 1, max(4 * k, k + 32))
    truth = Truth.of(group, size, aim, threads, silent)
    settings = SearchSettings(n_neighbors=k, recall=recall, threads=threads, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "CELL_ROWS", min(plan.CELL_ROWS, 128))
        patch.setattr(meeting, "BOX_OFFERS", 1)
        found, decisions = neighbors.block_neighbors(group, settings, truth, silent, checkpoint)
    near, distances = found.rows(0, n)
    for some in (np.arange(0, n, 7), np.array([n - 1])):
        for taken, whole in zip(found.take(some), (near, distances), strict=True):
            np.testing.assert_array_equal(taken, whole[some])
    return group.listed(near), distances, decisions


def true_distances(values, rows, k):
    """The k smallest distances (m, k) of some rows to the others."""
    wide = values.astype(np.float64)
    found = np.empty((len(rows), min(k, len(values) - 1)))
    for place, i in enumerate(rows):
        squares = np.square(wide - wide[i]).sum(axis=1)
        squares[i] = np.inf
        found[place] = np.sqrt(np.partition(squares, found.shape[1] - 1)[: found.shape[1]])
    return np.sort(found, axis=1)


def check_lists(values, found, distances, k):
    """Lists name other rows once each, ascending by their true distances."""
    n = len(values)
    assert found.shape == distances.shape == (n, k)
    assert (found != np.arange(n)[:, None]).all()
    ordered = np.sort(found, axis=1)
    assert (np.diff(ordered, axis=1)[ordered[:, 1:] >= 0] > 0).all()
    assert (np.diff(distances, axis=1)[np.isfinite(distances[:, 1:])] >= 0).all()
    listed = found >= 0
    assert (np.isfinite(distances) == listed).all()
    i, p = np.nonzero(listed)
    gaps = values[i].astype(np.float64) - values[found[i, p]]
    np.testing.assert_allclose(distances[i, p], np.sqrt(np.square(gaps).sum(axis=1)), rtol=1e-6)


def recall_of(values, distances, k, rows):
    true = true_distances(values, rows, k)
    return float((distances[rows] <= true[:, -1:] * (1 + 1e-6)).sum() / true.size)


@compiled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recall", [0.95, 0.99])
def test_recall_reaches_the_target(kind, recall):
    values = made(kind, 4000)
    found, distances, decisions = search(values, recall=recall, threads=2)
    check_lists(values, found, distances, 10)
    rows = np.random.default_rng(9).choice(len(values), 1500, replace=False)
    reached = recall_of(values, distances, 10, rows)
    assert reached >= recall - 0.003  # two standard errors, and ties that rounding breaks
    told = {name: one.numbers[name] for one in decisions for name in one.numbers}
    assert told["recall_target"] == recall
    assert told["recall"] == pytest.approx(reached, abs=0.012)  # of the sample it is tuned with


@compiled
def test_recall_with_as_many_cells_as_there_may_be(monkeypatch):
    """Then cells have more rows than usual, and some have more than a group."""
    monkeypatch.setattr(plan, "MOST_CELLS", 5)
    values = made(clustered, 4000)
    found, distances, decisions = search(values)
    check_lists(values, found, distances, 10)
    assert [one.numbers["cells"] for one in decisions if one.name == "near_cells"] == [5]
    assert recall_of(values, distances, 10, np.arange(0, 4000, 3)) >= 0.947


@pytest.mark.parametrize("n", [1, 5000, 1 << 20, 1 << 27, 1 << 30])
@pytest.mark.parametrize("d", [8, 768])
def test_rows_are_encoded_in_few_tasks(n, d):
    rows = sizes.encoded_rows(n, d)
    assert rows % sizes.PROJECTED_ROWS == 0
    assert -(-n // rows) <= 1024


@pytest.mark.parametrize(
    ("n", "k", "d"), [(3, 1, 1), (12, 10, 3), (40, 5, 2), (130, 7, 5), (200, 90, 3), (300, 10, 1)]
)
@pytest.mark.parametrize("kind", [iid, near_duplicates])
def test_few_rows(kind, n, k, d):
    values = kind(np.random.default_rng(n), n, d).astype(np.float32)
    before = values.copy()
    found, distances, _ = search(values, k, recall=0.99)
    np.testing.assert_array_equal(values, before)
    check_lists(values, found, distances, k)
    assert recall_of(values, distances, k, range(n)) >= 0.97


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-15, 1e12])
def test_group_of_some_rows(dtype, scale):
    """Rows of all vectors are listed, and none that is not of the group."""
    rng = np.random.default_rng(4)
    values = (clustered(rng, 700, 6) * scale).astype(dtype)
    rows = np.sort(rng.choice(700, 400, replace=False))
    found, distances, _ = search(values, 5, recall=0.95, rows=rows)
    assert found.shape == distances.shape == (400, 5)
    assert np.isin(found, rows).all()
    numbers = np.searchsorted(rows, found)
    assert (numbers != np.arange(400)[:, None]).all()
    assert recall_of(values[rows], distances, 5, range(400)) >= 0.94


def test_recall_of_1_finds_nearly_everything():
    values = made(iid, 600)
    _, distances, _ = search(values, recall=1.0)
    assert recall_of(values, distances, 10, range(600)) >= 0.995


def test_seeds_draw_other_samples():
    values = made(iid, 500)
    same = [search(values, 3, seed=seed)[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(same[0], same[1])
    assert (same[0] == same[2]).mean() > 0.9


def digest(kind, n, threads=1, checkpoint=NONE):
    """Of the lists and of what was decided."""
    found, distances, decisions = search(made(kind, n), threads=threads, checkpoint=checkpoint)
    told = repr([(one.name, one.value, one.numbers) for one in decisions])
    return hashlib.sha256(found.tobytes() + distances.tobytes() + told.encode()).hexdigest()


def test_result_of_few_rows_does_not_depend_on_threads(monkeypatch):
    """Several cells and groups even so."""
    monkeypatch.setattr(plan, "CELL_ROWS", 32)
    assert len({digest(clustered, 400, threads) for threads in (1, 3)}) == 1


@compiled
@pytest.mark.parametrize("kind", KINDS)
def test_result_does_not_depend_on_threads(kind):
    assert len({digest(kind, 3000, threads) for threads in (1, 2, 4)}) == 1


ROOMS = [1, 300_000, 10**7]  # bytes: one group at a time, some, all


@compiled
@pytest.mark.parametrize("kind", KINDS)
def test_result_does_not_depend_on_memory(kind, tmp_path, monkeypatch):
    """Nor on how many rows are in memory when."""
    for module in (rank, ranked):
        monkeypatch.setattr(module, "PART_ROWS", 512)
    monkeypatch.setattr(rank, "PASSING_NUMBERS", 1)
    wanted = digest(kind, 3000)
    for room, threads in zip(ROOMS, (1, 2, 1), strict=True):
        kept = Kept(tmp_path / str(room), room)
        assert digest(kind, 3000, threads, kept) == wanted
        kept.parts.end()
        assert not (tmp_path / str(room)).exists()


def test_result_of_few_rows_does_not_depend_on_memory(tmp_path, monkeypatch):
    """Several cells, groups and parts even so; tight rows are stored after each cell."""
    monkeypatch.setattr(tight, "_TOGETHER", 10)
    monkeypatch.setattr(ranked, "_NEAR_ROWS", 3)
    monkeypatch.setattr(plan, "CELL_ROWS", 32)
    for module in (rank, ranked):
        monkeypatch.setattr(module, "PART_ROWS", 64)
    for kind in (clustered, near_duplicates):
        kept = Kept(tmp_path / kind.__name__, 1)
        assert digest(kind, 300, 1, kept) == digest(kind, 300)


@compiled
def test_vectors_pass_in_large_runs_however_small_the_memory(tmp_path, monkeypatch):
    calls, measure = [], rank._measure
    monkeypatch.setattr(rank, "_measure", lambda *a: calls.append(len(a[2])) or measure(*a))
    search(made(clustered, 1000), checkpoint=Kept(tmp_path, 1))
    assert calls == [1000]


class KilledError(Exception):
    """A run was stopped."""


class Failing(PartFiles):
    """Stops the run before its `left`-th write."""

    left = 0

    def put(self, name, part=0, /, **arrays):
        self.left -= 1
        if self.left < 0:
            raise KilledError
        super().put(name, part, **arrays)

    def child(self, name):
        return self


@compiled
@pytest.mark.parametrize("kind", [clustered, power_law, iid])
def test_a_killed_run_continues_from_its_parts(kind, tmp_path, monkeypatch):
    """Killed again and again, at writes that are drawn: no part is written much more than once."""
    for module in (rank, ranked):
        monkeypatch.setattr(module, "PART_ROWS", 512)
    monkeypatch.setattr(rank, "PASSING_NUMBERS", 1)
    n, rng, kept = 2000, np.random.default_rng(3), Kept(tmp_path, 200_000)
    wanted = digest(kind, n)
    for run in range(200):
        kept.parts = Failing(LocalFolder(tmp_path), 200_000)
        kept.parts.left = int(rng.integers(1, 40))
        try:
            found = digest(kind, n, 1, kept)
        except KilledError:
            continue
        assert found == wanted
        assert run > 3
        return
    raise AssertionError("the run never ends")


@compiled
@pytest.mark.parametrize("room", ROOMS)
def test_a_run_killed_before_any_write_continues(room, tmp_path, monkeypatch):
    """With one group of rows in memory, some or all; then with another memory."""
    for module in (rank, ranked):
        monkeypatch.setattr(module, "PART_ROWS", 512)
    kind, n, writes = power_law, 1000, 0
    wanted, real, left = digest(kind, n), PartFiles.put, 10**9

    def put(self, *arguments, **arrays):
        nonlocal left, writes
        left, writes = left - 1, writes + 1
        if left < 0:
            raise KilledError
        real(self, *arguments, **arrays)

    monkeypatch.setattr(PartFiles, "put", put)
    digest(kind, n, 1, Kept(tmp_path / "whole", room))
    for at in range(writes):
        folder, left = tmp_path / str(at), at
        with pytest.raises(KilledError):
            digest(kind, n, 1, Kept(folder, room))
        left = 10**9
        assert digest(kind, n, 1, Kept(folder, ROOMS[at % 3])) == wanted


@compiled
def test_missing_ranges_are_ranked_by_themselves(tmp_path, monkeypatch):
    """Parts of ranked rows may have been stored in any order."""
    for module in (rank, ranked):
        monkeypatch.setattr(module, "PART_ROWS", 128)
    monkeypatch.setattr(PartFiles, "keep_only", lambda self, *names: None)
    wanted = digest(clustered, 1000, 1, Kept(tmp_path, 10**7))
    for part in (2, 5, 6):
        (tmp_path / f"ranked-{part}").unlink()
    (tmp_path / "ended-0").unlink()
    put, real = [], PartFiles.put
    monkeypatch.setattr(
        PartFiles, "put", lambda self, *at, **arrays: put.append(at) or real(self, *at, **arrays)
    )
    assert digest(clustered, 1000, 1, Kept(tmp_path, 10**7)) == wanted
    assert [part for name, part in put[:-1]] == [2, 5, 6]


DIGESTS = """
from tests.graph import test_blocks_neighbors as tests
for kind in tests.KINDS:
    print(tests.digest(kind, 2500))
"""


@compiled
def test_result_does_not_depend_on_instructions():
    """The same bytes from code for any processor of this kind: without AVX, say."""
    plainest = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2], env={**os.environ, **plainest},
    )  # fmt: skip
    assert done.stdout.split() == [digest(kind, 2500) for kind in KINDS]


def test_rows_with_gaps_are_read_in_pieces(monkeypatch):
    """The array that is filled has no second one of its size beside it."""
    monkeypatch.setattr(vectors, "SCALED_NUMBERS", 40)
    values = made(iid, 100)
    read = vectors.ReadVectors(Reader(values), "euclidean")
    taken = []
    take = read.reader.take
    read.reader.take = lambda rows: taken.append(len(rows)) or take(rows)
    rows = np.flatnonzero(np.arange(100) % 3)
    out = np.empty((50, values.shape[1]), np.float32)
    Group(read, rows).read(5, 55, out)
    np.testing.assert_array_equal(out, values[rows[5:55]])
    assert sum(taken) == 50
    assert max(taken) <= max(1, 40 // values.shape[1])
