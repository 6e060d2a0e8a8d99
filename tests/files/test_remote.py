"""Remote inputs: copied whole, named by their address, removed at the end."""

import functools
import http.server
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from d2cli.files.locate import remote
from d2cli.files.locate.copies import CopyPath, is_address
from d2cli.files.locate.paths import locate

fsspec = pytest.importorskip("fsspec")
SCORES = ("--scores", "scores.npy", "--ratio", "0.4")


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files, which must be empty at the end."""
    folder = tmp_path.parent / f"{tmp_path.name}-temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.fixture
def store(data, temporary):
    """``store(local, remote)`` copies a file into memory://; the store is empty at first."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]

    def put(local, name):
        memory.pipe(f"/{name}", Path(local).read_bytes())
        return f"memory://{name}"

    yield put
    memory.store.clear()


@pytest.fixture
def web(data, temporary, tmp_path):
    """The address of a server of the folder ``web``."""
    root = tmp_path / "web"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            if "forbidden" in self.path:
                self.send_error(403)
            elif "cut" in self.path:
                self.send_response(200)
                self.send_header("Content-Length", "5000")
                self.end_headers()
                self.wfile.write(b"\x93NUMPY half")
            else:
                super().do_GET()

        do_HEAD = do_GET  # noqa: N815

    handler = functools.partial(Handler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def shards(data, put, folder="b/shards"):
    for at, rows in enumerate(np.split(np.arange(data.n), [7, 30])):
        np.save("shard.npy", data.emb[rows])
        put("shard.npy", f"{folder}/emb_{at + 8}.npy")  # 8, 9, 10
    Path("shard.npy").unlink()


def test_addresses():
    for text in ("s3://b/e.npy", "gs://b", "hf://datasets/a/b", "https://h/x", "memory://x",
                 "simplecache::s3://b/e.npy"):  # fmt: skip
        assert is_address(text)
    for text in ("s3:/b/e.npy", "C:\\x", "C://x", "c:/x", "emb.npy", "a://", "://x", "", None,
                 Path("s3://b/e.npy")):  # fmt: skip
        assert not is_address(text)


@pytest.mark.parametrize("given", ["memory://b/emb.npy", "memory://b/shards",
                                   "memory://b/shards/", "memory://b/shards/emb_*.npy",
                                   "memory://b/**/emb_*.npy"])  # fmt: skip
def test_remote_files_give_the_same_selection(same, store, data, given):
    if given.endswith("b/emb.npy"):
        store("emb.npy", "b/emb.npy")
    else:
        shards(data, store)
    same(emb=given)


def test_messages_summary_and_provenance_name_the_address(store, select, data):
    address = store("emb.npy", "b/emb.npy")
    code, _, err = select("--emb", address, *SCORES)
    assert code == 0
    assert f"{address}, 40 × 4 float32" in err
    described = json.loads(Path("selected.npy.json").read_text())["inputs"]["emb"]
    assert described["path"] == address
    assert select("--emb", "emb.npy", *SCORES, "--out", "other.npy")[0] == 0
    local = json.loads(Path("other.npy.json").read_text())["inputs"]["emb"]
    for name in ("size", "fingerprint", "rows"):
        assert described[name] == local[name]
    bad = data.emb.copy()
    bad[5, 1] = np.nan
    np.save("bad.npy", bad)
    code, _, err = select("--emb", store("bad.npy", "b/bad.npy"), *SCORES)
    assert code == 1
    assert err.startswith("error: memory://b/bad.npy: row 5")
    code, out, _ = select("--emb", address, *SCORES, "--plan", "--json")
    assert json.loads(out)["reads"][0]["paths"] == [address]


def test_one_address_in_two_options_is_downloaded_once(store, select, data, monkeypatch):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(data.emb.ravel()), 4)
    pq.write_table(pa.table({"emb": lists, "score": data.scores}), "all.parquet")
    address = store("all.parquet", "b/all.parquet")
    copied = []
    copy = remote.RemoteTree._copy

    def counting(self, copies, hook):
        copied.extend(copies)
        copy(self, copies, hook)

    monkeypatch.setattr(remote.RemoteTree, "_copy", counting)
    assert select("--emb", address, "--scores", address, "--ratio", "0.4")[0] == 0
    assert copied == [address]


def test_recorded_direction_of_remote_scores_is_used(run_cli, store, select, data):
    logits = np.random.default_rng(1).normal(size=(2, data.n, 3)).astype(np.float32)
    np.save("logits.npy", logits)
    assert run_cli("score", "--kind", "aum", "--logits", "logits.npy", "--labels", "labels.npy",
                   "--out", "aum.npy")[0] == 0  # fmt: skip
    store("aum.npy.json", "b/aum.npy.json")
    address = store("aum.npy", "b/aum.npy")
    for scores, out in (("aum.npy", "a.npy"), (address, "b.npy")):
        args = ("--emb", "emb.npy", "--scores", scores, "--ratio", "0.4", "--out", out)
        assert select(*args)[0] == 0
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))
    assert json.loads(Path("b.npy.json").read_text())["parameters"]["higher_is"] == "easier"


def test_staged_steps_on_remote_inputs(run_cli, store, select, data):
    emb, scores = store("emb.npy", "b/emb.npy"), store("scores.npy", "b/scores.npy")
    assert run_cli("graph", "--emb", emb, "-k", 4, "--out", "g.arrow")[0] == 0
    assert run_cli("propagate", "--graph", "g.arrow", "--scores", scores, "--out", "p.npy")[0] == 0
    store("g.arrow", "b/g.arrow")
    store("p.npy.json", "b/p.npy.json")
    store("p.npy", "b/p.npy")
    rest = ("--ratio", "0.4")
    assert select("--graph", "g.arrow", "--propagated", "p.npy", *rest, "--out", "a.npy")[0] == 0
    far = ("--graph", "memory://b/g.arrow", "--propagated", "memory://b/p.npy")
    code, _, err = select(*far, *rest, "--out", "b.npy")
    assert (code, "changed" in err) == (0, False)
    np.testing.assert_array_equal(np.load("a.npy"), np.load("b.npy"))
    assert select("--graph", "g.arrow", "--emb", emb, "--scores", scores, *rest)[0] == 0
    np.save("emb.npy", data.emb + 1)
    store("emb.npy", "b/emb.npy")
    code, _, err = select("--graph", "g.arrow", "--emb", emb, "--scores", scores, *rest)
    assert code == 1
    assert f"g.arrow: was not built from {emb}" in err


def test_report_of_remote_selections(run_cli, store, select, data):
    emb = store("emb.npy", "b/emb.npy")
    assert select("--emb", emb, *SCORES)[0] == 0
    store("selected.npy.json", "b/selected.npy.json")
    chosen = store("selected.npy", "b/selected.npy")
    code, _, err = run_cli("report", "--emb", emb, *SCORES[:2], "--selected", chosen,
                           "--out", "page.html")  # fmt: skip
    assert code == 0, err


def test_remote_folders_follow_the_rules_of_local_ones(store, select, data):
    for split in ("train", "test"):
        store("emb.npy", f"b/hub/data/{split}-00000-of-00001.npy")
    code, _, err = select("--emb", "memory://b/hub", *SCORES)
    assert code == 1
    assert "holds 2 splits: test and train" in err
    assert "--emb memory://b/hub/data/train-00000-of-00001.npy" in err
    for value in (1, 2):
        np.save("part.npy", data.emb[:20] if value == 1 else data.emb[20:])
        store("part.npy", f"b/hive/centroid={value}/part.npy")
    assert select("--emb", "memory://b/hive", *SCORES, "--labels", "memory://b/hive",
                  "--labels-key", "centroid", "--balance", "uniform")[0] == 0  # fmt: skip
    assert select("--emb", "emb.npy", *SCORES)[0] == 0
    store("selected.npy", "b/own/selected.npy")
    store("selected.npy.json", "b/own/selected.npy.json")
    store("emb.npy", "b/own/emb.npy")
    code, _, err = select("--emb", "memory://b/own", *SCORES)
    assert code == 0
    assert "outputs of d2prune are not read as data: selected.npy" in err


def test_saved_data_set_in_a_store(store, select, data):
    Path("state.json").write_text(json.dumps({"_data_files": [{"filename": "data.npy"}]}))
    store("state.json", "b/saved/state.json")
    store("emb.npy", "b/saved/data.npy")
    store("scores.npy", "b/saved/other.npy")
    assert select("--emb", "memory://b/saved", *SCORES)[0] == 0


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("memory://b/missing.npy", "memory://b/missing.npy: no such file or folder"),
        ("memory://b/no*.npy", "memory://b/no*.npy: no file matches this pattern"),
        ("abc://b/e.npy", "abc://b/e.npy: cannot be downloaded (Protocol not known"),
    ],
)
def test_failures_are_one_line(store, select, data, address, says):
    store("emb.npy", "b/emb.npy")
    code, out, err = select("--emb", address, *SCORES)
    assert (code, out) == (1, "")
    assert says in err.splitlines()[0]
    assert "defect" not in err


def test_short_download_is_refused(store, select, data, monkeypatch):
    address = store("emb.npy", "b/emb.npy")
    memory = type(fsspec.filesystem("memory"))
    info = memory.info
    monkeypatch.setattr(
        memory, "info", lambda self, path, **more: {**info(self, path, **more), "size": 9999}
    )
    code, _, err = select("--emb", address, *SCORES)
    assert code == 1
    assert "bytes arrived, and the store says 9,999" in err


def test_remote_outputs_are_refused(run_cli, select, data):
    for command in (
        ("select", "--emb", "emb.npy", *SCORES, "--out", "s3://b/o.npy"),
        ("graph", "--emb", "emb.npy", "--out", "memory://b/g.arrow"),
    ):
        code, _, err = run_cli(*command)
        assert code == 2
        assert "outputs are written to this machine only" in err
    assert not Path("s3:").exists()


def test_file_addresses_are_paths(same, data, tmp_path):
    same(emb=f"file://{tmp_path}/emb.npy")
    same(emb=f"file://{tmp_path}/em*.npy")


def test_local_folder_named_like_a_scheme(same, data):
    Path("s3:").mkdir()
    os.rename("emb.npy", "s3:/emb.npy")
    same(emb="s3:/emb.npy")


# -- the web --------------------------------------------------------------------------------------
def test_web_file_folder_and_query(same, web, data):
    os.rename("emb.npy", "web/emb.npy")
    same(emb=f"{web}/emb.npy")
    same(emb=f"{web}/emb.npy?download=1&x=[2]")
    same(emb=f"{web}/")
    same(emb=f"{web}/e*.npy")


def test_web_failures_are_one_line(web, select, data):
    for name, says in (("missing.npy", "no such file or folder"),
                       ("forbidden.npy", "no permission to read it"),
                       ("cut.npy", "cut.npy: ")):  # fmt: skip
        code, out, err = select("--emb", f"{web}/{name}", *SCORES)
        assert (code, out) == (1, "")
        assert f"{web}/{name}: " in err.splitlines()[0]
        assert says in err.splitlines()[0]
        assert len(err.splitlines()) <= 2
        assert "defect" not in err


def test_unreachable_server_is_one_line(select, data, temporary):
    code, _, err = select("--emb", "http://127.0.0.1:9/emb.npy", *SCORES)
    assert code == 1
    assert "http://127.0.0.1:9/emb.npy: cannot be downloaded (Cannot connect" in err.splitlines()[0]


# -- packages and the end -------------------------------------------------------------------------
def test_without_the_extra_a_line_says_what_to_install(run_cli, select, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    code, _, err = select("--emb", "s3://bucket/e.npy", *SCORES)
    assert code == 1
    assert err.splitlines()[0].startswith("error: s3://bucket/e.npy: a package that reads remote")
    assert err.splitlines()[1] == "hint: pip install 'd2prune[remote]'"


def test_local_runs_do_not_load_fsspec(data, tmp_path):
    code = (
        "import sys; from d2cli.cli.main import run;"
        "run(['select', '--emb', 'emb.npy', '--scores', 'scores.npy', '--ratio', '.4', '--plan']);"
        "print([m for m in ('fsspec', 'aiohttp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_copies_are_removed_when_a_run_is_interrupted(store, select, data, monkeypatch):
    address = store("emb.npy", "b/emb.npy")

    def interrupted(self, name):
        raise KeyboardInterrupt

    monkeypatch.setattr(remote.RemoteTree, "_copy_sidecar", interrupted)
    code, _, _ = select("--emb", address, *SCORES)
    assert code == 130  # and the fixture finds no temporary file


def test_copies_live_as_long_as_their_paths(store, data, temporary):
    path = locate(store("emb.npy", "b/emb.npy"), "emb").files[0].path
    assert (str(path), path.name) == ("memory://b/emb.npy", "emb.npy")
    assert path.stat().st_size == Path("emb.npy").stat().st_size
    assert np.load(path, mmap_mode="r").shape == (40, 4)
    assert os.path.samefile(path, path.resolve())
    del path


def test_copy_path_is_a_path(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"1")
    path = CopyPath.of(tmp_path / "x.npy", "s3://b/x.npy", None)
    assert f"{path}" == "s3://b/x.npy"
    assert path.read_bytes() == b"1"
    assert os.fsencode(path) == os.fsencode(tmp_path / "x.npy")
    assert str(path.beside(".json")) == "s3://b/x.npy.json"
    assert os.fspath(path.beside(".json")) == f"{tmp_path}/x.npy.json"
    assert path.suffix == ".npy"
    assert isinstance(path, Path)
    assert len({path, CopyPath.of(tmp_path / "x.npy", "s3://b/x.npy", None)}) == 1


def test_download_reports_its_progress(store, data, temporary):
    address = store("emb.npy", "b/emb.npy")
    told = []
    with remote.downloads() as copies:
        copies.report = lambda *said: told.append(said)
        locate(address, "emb")
    assert told[-1] == ("download, MiB", 0, 0)
