"""A killed build continues from its checkpoint and ends with the same bytes."""

import os
from pathlib import Path

import numpy as np
import pytest

from d2cli.engine.checkpoints import NONE, as_bytes, from_bytes
from d2cli.files.output import checkpoint as module
from d2cli.files.output.checkpoint import FileCheckpoint, PartsFolder
from d2cli.files.output.work_folder import LocalFolder
from d2cli.graph import build
from d2cli.graph.blocks import neighbors as blocks
from d2cli.graph.blocks import plan
from d2cli.graph.build import build_graph
from d2cli.graph.exact import balls
from d2cli.graph.exact import search as exact

ROWS = 260
RESUMED = "notice: resumed from the checkpoint of an unfinished run"


class Killed(BaseException):
    """A BaseException, so that no handler for errors catches it."""


class Memory(type(NONE)):
    """Keeps every state in memory and kills the build at save number `last`."""

    def __init__(self, last=None):
        self.states, self.saves, self.last = {}, 0, last

    def load(self, stage, part=0):
        found, state = self.states.get(stage, (part, None))
        return state if found == part else None

    def save(self, stage, state, part=0):
        self.saves += 1
        self.states[stage] = part, {k: np.array(v) for k, v in state().items()}
        if self.saves == self.last:
            raise Killed


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(5)
    return rng.normal(size=(ROWS, 12)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Small blocks, and cells so small that a search has several groups."""
    monkeypatch.setattr(exact, "FEW_ROWS", 0)
    monkeypatch.setattr(exact, "PAIR_ROWS", 64)
    monkeypatch.setattr(exact, "_TOGETHER", 3)
    monkeypatch.setattr(plan, "CELL_ROWS", 32)


def same(a, b):
    assert (a.neighbors == b.neighbors).all()
    assert (a.distances == b.distances).all()
    assert a.info == b.info


CASES = {
    "exact": {"method": "exact"},
    "blocks": {"method": "blocks"},
    "hnsw": {"method": "hnsw"},
    "parts": {"method": "exact", "within": np.arange(ROWS) % 3},
    "approximate parts": {"method": "blocks", "within": np.arange(ROWS) % 2},
    "excluded": {"method": "exact", "exclude": np.arange(ROWS) % 9 == 0},
}


def check_every_save(points, **options):
    """Kill a build after each of its saves; returns the last states."""
    whole = build_graph(points, 5, threads=1, **options)
    counted = Memory()
    same(build_graph(points, 5, threads=1, checkpoint=counted, **options), whole)
    assert counted.saves >= 2
    for last in range(1, counted.saves + 1):
        memory = Memory(last)
        with pytest.raises(Killed):
            build_graph(points, 5, threads=1, checkpoint=memory, **options)
        memory.last = None
        same(build_graph(points, 5, threads=2, checkpoint=memory, **options), whole)
    return counted.states


def steps_of(states):
    """The steps of a blocks search, and the rows that it searched again, from its last state."""
    state = states["blocks"][1]
    again = sum(state[name].size for name in state if name.startswith("tight:") and ":at" in name)
    return [name for name, _ in from_bytes(state["steps:0:done"])], again


@pytest.mark.parametrize("case", CASES)
def test_resuming_from_any_checkpoint_gives_the_same_graph(points, case):
    check_every_save(points, **CASES[case])


def test_resuming_after_votes(points):
    steps, again = steps_of(check_every_save(points, method="blocks"))
    assert ("vote" in steps, again) == (True, 0)


def test_resuming_after_further_probes(points, monkeypatch):
    """As if comparing all pairs were slow."""
    monkeypatch.setattr(blocks, "cost_of_all", lambda blocks, width: 1e9)
    monkeypatch.setattr(blocks, "_LEFT_TO_VOTES", 80.0)
    monkeypatch.setattr(blocks, "_VOTED", 1)
    steps, _ = steps_of(check_every_save(points, method="blocks", recall=0.99))
    assert steps.count("probe") > 1


def test_resuming_after_all_pairs(points, monkeypatch):
    """As if few rows met before."""
    monkeypatch.setattr(blocks, "_BEFORE_ALL", blocks.Effort(2, 2))
    monkeypatch.setattr(blocks, "_VOTED", 1)
    steps, _ = steps_of(check_every_save(points, method="blocks", recall=0.99))
    assert "all" in steps


@pytest.mark.parametrize("within", [None, np.arange(ROWS) // 180])
def test_resuming_with_tight_rows(points, within):
    """More than half of the rows lie in groups that are far tighter than the others."""
    mixed = points.copy()
    mixed[100:] = np.repeat(points[:16], 10, axis=0) + 1e-4 * points[100:]
    states = check_every_save(mixed, method="blocks", recall=0.99, within=within)
    _, again = steps_of(states)
    assert again == (11 * 16 if within is None else 80)  # of the last label


def test_resuming_while_unproven_rows_are_searched_again(points, monkeypatch):
    monkeypatch.setattr(balls, "BALLS", 2)
    tight = np.repeat(points[:13], 20, axis=0) + 1e-6 * points
    progress, states = [], check_every_save(tight, method="exact")
    assert not states["proof"][1]["unproven"].any()
    build_graph(tight, 5, method="exact", progress=lambda *a: progress.append(a))
    proof = [done for stage, done, _ in progress if stage == "proof"]
    assert proof == sorted(proof)
    assert len({*proof}) == 1 + -(-13 // 2)


def test_first_run_with_parts_prints_no_resumed_notice(folder, run_cli):
    np.save("labels.npy", np.arange(ROWS) % 3)
    line = [*COMMANDS["graph"], "--checkpoint", 0, "--within", "labels.npy"]
    code, _, err = run_cli(*line)
    assert (code, RESUMED in err, folder()) == (0, False, [])


def test_finished_pairs_are_not_multiplied_again(points, monkeypatch):
    memory, products, real = Memory(4), [], exact.product
    monkeypatch.setattr(exact, "product", lambda *a: products.append(1) or real(*a))
    with pytest.raises(Killed):
        build_graph(points, 5, method="exact", threads=1, checkpoint=memory)
    before, memory.last = len(products), None
    build_graph(points, 5, method="exact", threads=1, checkpoint=memory)
    blocks = -(-ROWS // 64)
    assert 0 < before < len(products) == blocks * (blocks + 1) // 2


def test_proven_rows_are_not_proven_again(points, monkeypatch):
    monkeypatch.setattr(exact, "QUERIES", 64)
    memory, calls, real = Memory(5 + 3), [], exact.rank_rows
    progress = []
    with pytest.raises(Killed):
        build_graph(points, 5, method="exact", threads=1, checkpoint=memory,
                    progress=lambda *a: progress.append(a))  # fmt: skip
    assert ("proof", 3 * 64, ROWS) in progress
    monkeypatch.setattr(exact, "rank_rows", lambda v, q, *a: calls.append(q[0]) or real(v, q, *a))
    memory.last = None
    build_graph(points, 5, method="exact", threads=1, checkpoint=memory)
    assert min(calls) == 3 * 64


# -- files ----------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path, points, run_cli):
    np.save("emb.npy", points)
    np.save("scores.npy", np.arange(ROWS) / ROWS)
    return lambda: sorted(n for n in os.listdir(tmp_path) if n.startswith(".d2prune-"))


@pytest.fixture
def killed(monkeypatch):
    """Kills the next run after it has saved `times` states."""

    def at(times=1):
        real, kept = FileCheckpoint.save, []

        def save(self, stage, state, part=0):
            real(self, stage, state, part)
            kept.append(stage)
            if len(kept) == times:
                raise Killed

        monkeypatch.setattr(FileCheckpoint, "save", save)
        return lambda: monkeypatch.setattr(FileCheckpoint, "save", real)

    return at


COMMANDS = {
    "graph": ["graph", "--emb", "emb.npy", "--out", "g.arrow"],
    "select": [
        "select",
        "--emb",
        "emb.npy",
        "--scores",
        "scores.npy",
        "--size",
        9,
        "--out",
        "k.csv",
    ],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("method", ["exact", "blocks", "hnsw"])
def test_same_command_resumes(folder, run_cli, killed, command, method):
    line = [*COMMANDS[command], "--method", method, "--checkpoint", 0]
    assert run_cli(*line)[0] == 0
    out = Path(line[line.index("--out") + 1])
    whole = out.read_bytes()
    out.unlink()
    again = killed(2)
    with pytest.raises(Killed):
        run_cli(*line)
    again()
    assert len(folder()) == 1
    code, _, err = run_cli(*line, "--threads", 1)
    assert code == 0
    assert err.count(RESUMED) == 1
    assert out.read_bytes() == whole
    assert folder() == []
    assert RESUMED not in run_cli(*line)[2]


@pytest.mark.parametrize("change", ["data", "touch", "option", "version"])
def test_another_build_does_not_resume(folder, run_cli, killed, monkeypatch, points, change):
    line = [*COMMANDS["graph"], "--checkpoint", 0]
    again = killed()
    with pytest.raises(Killed):
        run_cli(*line)
    again()
    if change == "data":
        np.save("emb.npy", points + 1)
    if change == "touch":
        os.utime("emb.npy", ns=(1, 1))
    if change == "option":
        line += ["--seed", 1]
    if change == "version":
        monkeypatch.setattr("d2cli.files.provenance.sidecar.__version__", "9")
    code, _, err = run_cli(*line)
    assert code == 0
    assert RESUMED not in err
    assert folder() == []


def test_damaged_checkpoint_is_ignored_and_removed(folder, run_cli, killed):
    line = [*COMMANDS["graph"], "--checkpoint", 0]
    again = killed()
    with pytest.raises(Killed):
        run_cli(*line)
    again()
    path = Path(folder()[0], "pairs")
    whole = path.read_bytes()
    (place,) = folder()
    for damaged in (whole[:-1], whole[:50], b"", b"{}\n", b"\xff", whole[:-1] + b"?", whole + b"?"):
        Path(place).mkdir(exist_ok=True)
        path.write_bytes(damaged)
        code, _, err = run_cli(*line)
        assert (code, RESUMED in err, folder()) == (0, False, [])


def test_short_builds_write_no_checkpoint(folder, run_cli, monkeypatch):
    monkeypatch.setattr(module, "_pieces", None)
    for seconds in ((), ("--checkpoint", "off"), ("--checkpoint", 1000)):
        assert run_cli(*COMMANDS["graph"], *seconds)[0] == 0
    assert folder() == []


@pytest.mark.parametrize("value", ["-1", "nan", "inf", "often"])
def test_bad_checkpoint_option_is_refused(run_cli, folder, value):
    code, _, err = run_cli(*COMMANDS["graph"], f"--checkpoint={value}")
    assert code == 2
    assert "--checkpoint must be auto" in err


def test_unwritable_checkpoint_prints_a_notice(folder, run_cli, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_pieces", full)
    code, _, err = run_cli(*COMMANDS["graph"], "--checkpoint", 0)
    assert code == 0
    assert err.count("notice: no checkpoint can be written (No space left on device)") == 1
    assert folder() == []


def state():
    return {"a": np.arange(3)}


def unfinished(out, build):
    """The folder of the checkpoint that a killed run leaves."""
    with pytest.raises(Killed), FileCheckpoint(out, build, 0, print) as checkpoint:
        checkpoint.save("stage", state)
        raise Killed
    return checkpoint.folder.path


def test_checkpoint_of_another_build_stays_until_the_first_save(tmp_path):
    old = unfinished(tmp_path / "g.arrow", "long")
    with FileCheckpoint(tmp_path / "g.arrow", "mistyped", 1000, print) as new:
        assert old.is_dir()
        new.save("stage", state)  # too early: nothing is saved
        assert old.is_dir()
        new._next = 0.0
        new.save("stage", state)
        assert not old.exists()
        assert new.folder.path.is_dir()
    assert os.listdir(tmp_path) == []


def test_checkpoint_of_another_build_survives_a_failed_build(tmp_path):
    old = unfinished(tmp_path / "g.arrow", "long")
    other = unfinished(tmp_path / "h.arrow", "long")
    with pytest.raises(Killed), FileCheckpoint(tmp_path / "g.arrow", "mistyped", 1000, print):
        raise Killed
    assert FileCheckpoint(tmp_path / "g.arrow", "long", 0, print).load("stage")["a"].size == 3
    with FileCheckpoint(tmp_path / "g.arrow", "mistyped", 1000, print):
        pass
    assert not old.exists()
    assert other.is_dir()


def test_mistyped_option_keeps_the_checkpoint(folder, run_cli, killed):
    line = [*COMMANDS["graph"], "--method", "exact", "--checkpoint", 0]
    again = killed()
    with pytest.raises(Killed):
        run_cli(*line)
    again()
    kept = folder()
    for wrong in (["--seed", -1], ["--recall", 7], ["--within", "none.npy"]):
        assert run_cli(*line, *wrong)[0] != 0
        assert folder() == kept
    assert RESUMED in run_cli(*line)[2]


def test_checkpoint_of_a_running_build_is_left_alone(tmp_path):
    out = tmp_path / "g.arrow"
    with FileCheckpoint(out, "one", 0, print) as first:
        first.save("stage", state)
        with FileCheckpoint(out, "one", 0, print) as second:
            second.save("stage", lambda: {"a": np.arange(9)})
        with FileCheckpoint(out, "other", 0, print):
            pass
        with FileCheckpoint(out, "one", 0, print) as third:
            assert third.load("stage")["a"].size == 3
    assert os.listdir(tmp_path) == []


def in_files(out, folder, told=print, build="one"):
    """A checkpoint whose parts are in files of `folder`."""
    return FileCheckpoint(out, build, 0, told, PartsFolder(LocalFolder(folder), 1))


def test_a_second_run_with_parts_in_files_keeps_nothing_after_an_error(tmp_path):
    told = []
    with in_files(tmp_path / "g.arrow", tmp_path, told.append) as first:
        first.store().put("name", 0, a=np.zeros(1))
        with pytest.raises(Killed), in_files(tmp_path / "g.arrow", tmp_path, told.append) as second:
            second.store().put("name", 0, a=np.ones(1))
            raise Killed
        assert os.listdir(tmp_path) == [first.folder.path.name]
    assert told == []


def test_parts_of_another_output_of_the_same_name_stay(tmp_path):
    """Only a folder beside the output belongs to one output of a name."""
    for name in ("a", "b", "work"):
        (tmp_path / name).mkdir()
    with pytest.raises(Killed), in_files(tmp_path / "a/g.arrow", tmp_path / "work") as killed:
        killed.store().put("name", 0, a=np.zeros(1))
        raise Killed
    with in_files(tmp_path / "b/g.arrow", tmp_path / "work", build="other") as other:
        other.store().put("name", 0, a=np.ones(1))
    assert os.listdir(tmp_path / "work") == [killed.folder.path.name]
    with in_files(tmp_path / "a/g.arrow", tmp_path / "work", build="other") as other:
        other.store().put("name", 0, a=np.ones(1))
    assert os.listdir(tmp_path / "work") == []


def test_states_and_parts_are_kept_beside_each_other(tmp_path):
    for stage in ("parts", "blocks"):
        with pytest.raises(Killed), in_files(tmp_path / "g.arrow", tmp_path) as killed:
            killed.store().put("name", 0, a=np.zeros(1))
            killed.save(stage, state)
            raise Killed
        again = in_files(tmp_path / "g.arrow", tmp_path)
        assert again.store().has("name", 0)
        assert again.load(stage)["a"].tolist() == [0, 1, 2]
        again._claim.end()


def test_saves_are_at_least_the_interval_apart(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    kept = []
    with FileCheckpoint(tmp_path / "g", "build", 30, print) as checkpoint:
        for now[0] in range(200):
            checkpoint.save("stage", lambda: kept.append(now[0]) or {"a": np.zeros(1)})
    assert kept == [30, 60, 90, 120, 150, 180]


def test_states_are_restored_unchanged(tmp_path):
    state = {"a": np.arange(6).reshape(2, 3), "b": np.float32(2.5), "c": np.empty((0, 4), np.bool_)}
    with FileCheckpoint(tmp_path / "g", "build", 0, print) as checkpoint:
        checkpoint.of_part(3).save("stage", lambda: state)
        assert checkpoint.of_part(3).load("stage") is None  # saved by this run itself
        back = FileCheckpoint(tmp_path / "g", "build", 0, print).of_part(3).load("stage")
        for name, value in state.items():
            assert back[name].dtype == value.dtype
            assert back[name].shape == value.shape
            assert (back[name] == value).all()
        assert FileCheckpoint(tmp_path / "g", "build", 0, print).of_part(4).load("stage") is None
    assert from_bytes(as_bytes({"a": [1, 0.1, "é", None]})) == {"a": [1, 0.1, "é", None]}
    assert build.NONE.load("stage") is None
