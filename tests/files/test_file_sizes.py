"""Predicted sizes of outputs, against the files that are written; memory of reading and writing."""

import numpy as np
import pyarrow as pa
import pytest

from d2cli.files import sizes
from d2cli.files.graph_file import write_graph
from d2cli.files.provenance.sidecar import new_provenance
from d2cli.files.score_file import store_scores
from d2cli.files.selection_file import Kept, store_selection
from d2cli.graph.knn_graph import KnnGraph
from d2cli.runtime.ledger import BASE, Ledger

N, SIZE = 20_000, 6_000
IDS = pa.array([f"image-{i:012}" for i in range(N)], pa.large_string())
ID_SIZES = sizes.Ids(N, 18.0, True)
PROVENANCE = new_provenance("select", {})


def check(predicted, path, ending, ids):
    """Within 35 %; parquet compresses these ids, so that the prediction may be twice the size."""
    size = path.stat().st_size
    assert 0.65 * size < predicted < (2.0 if ids and ending == ".parquet" else 1.35) * size


#: (ending, content, whether the rows have ids)
FORMS = [
    *((ending, "index", ids) for ending in (".csv", ".parquet", ".arrow") for ids in (False, True)),
    *((ending, form, ids) for ending in (".npy", ".txt") for form in ("index", "mask")
      for ids in (False, True)),
    (".npy", "id", True),
    (".txt", "id", True),
]  # fmt: skip


@pytest.mark.parametrize("complement", [False, True])
@pytest.mark.parametrize(("ending", "written_as", "with_ids"), FORMS)
def test_selection_bytes(ending, written_as, with_ids, complement, tmp_path):
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(N)[: N - SIZE if complement else SIZE])
    names = ["score", "propagated"] if complement else ["rank", "score", "propagated", "gain"]
    columns = {name: pa.array(rng.random(rows.size)) for name in names}
    if not complement:
        columns["rank"] = pa.array(rng.permutation(rows.size))
    kept = Kept(rows, N, IDS if with_ids else None, columns)
    path = tmp_path / "selection"
    store_selection(path, ending, kept, written_as, PROVENANCE)
    ids = ID_SIZES if with_ids else None
    found = sizes.selection_bytes(ending, written_as, complement, SIZE, N, ids)
    check(found, path, ending, ids)


@pytest.mark.parametrize("ending", [".npy", ".csv", ".parquet", ".arrow"])
def test_score_bytes(ending, tmp_path):
    scores = {"el2n": np.random.default_rng(0).random(N)}
    if ending != ".npy":
        scores["aum"] = scores["el2n"][::-1].copy()
    ids = None if ending == ".npy" else IDS
    store_scores(tmp_path / "scores", ending, scores, ids, PROVENANCE)
    found = sizes.score_bytes(ending, N, len(scores), None if ids is None else ID_SIZES)
    check(found, tmp_path / "scores", ending, ids)


def test_graph_bytes(tmp_path):
    neighbors = (np.arange(N, dtype=np.int32)[:, None] + np.arange(1, 6, dtype=np.int32)) % N
    neighbors.sort(axis=1)
    graph = KnnGraph(neighbors, np.ones((N, 5), np.float32))
    write_graph(tmp_path / "g.arrow", graph, IDS)
    found = sizes.graph_bytes(N, 5, ID_SIZES)
    assert found == pytest.approx((tmp_path / "g.arrow").stat().st_size, rel=0.01)


def test_memory_of_reading_and_writing():
    ledger = Ledger()
    sizes.read_ids(ledger, ID_SIZES)
    assert ledger.held["ids"] == N * 26
    sizes.read_ids(ledger, ID_SIZES, kept=False)
    assert "other ids" not in ledger.held
    sizes.read_vectors(ledger, N, 2)
    sizes.read_graph(ledger, N, 5)
    assert (ledger.held["scores"], ledger.held["graph"]) == (16 * N, 40 * N)
    held = sum(ledger.held.values())
    sizes.write(ledger, ".csv", N, 50, ID_SIZES)
    found = ledger.estimate()
    assert found.stage == "write"
    assert found.peak == held + N * (400 + 26)
    assert found.peak > BASE
    assert found.mapped == 40 * N
