"""Numbers at the limits of floats, through the command line (documented as "Numerical edges")."""

import resource
import warnings
from pathlib import Path

import numba
import numpy as np
import pyarrow as pa
import pytest

from d2cli import build_graph, propagate, select
from d2cli.files.graph_file import read_graph
from d2cli.messages.forward import vanished_share
from tests import naive

METHODS = ["exact", "blocks", "hnsw"]
RNG = np.random.default_rng(11)
N, D = 40, 4
PLAIN = RNG.integers(-512, 512, (N, D)) / 64.0
WHOLE = RNG.integers(0, 50, (N, D)).astype(float)
SIGNS = np.where(RNG.random((N, D)) < 0.5, 1.0, -1.0)


@pytest.fixture(autouse=True)
def kernels_as_compiled():
    """Without the JIT, NumPy would warn of overflows that compiled kernels ignore."""
    with np.errstate(over="ignore" if numba.config.DISABLE_JIT else "warn"):
        yield


#: Embeddings that must work, and the factor that they are scaled by.
FINE = {
    "float16 at its largest": ((65504 * SIGNS).astype("f2"), 65504),
    "float16 denormal": ((WHOLE * 2.0**-24).astype("f2"), 2.0**-24),
    "norms of 1e30": ((PLAIN * 2.0**100).astype("f4"), 2.0**100),
    "norms of 1e37": ((PLAIN * 2.0**118).astype("f4"), 2.0**118),
    "float64 norms of 1e37": (PLAIN * 2.0**118, 2.0**118),
    "tiny": ((PLAIN * 2.0**-100).astype("f4"), 2.0**-100),
    "-0.0": (np.where(RNG.random((N, D)) < 0.5, 0.0, -0.0) + (WHOLE > 25), 1),
    "identical": (np.ones((N, D), "f4"), 1),
    "all zero": (np.zeros((N, D)), 1),
    "one row": (PLAIN[:1].astype("f4"), 1),
    "two rows": (PLAIN[:2].astype("f4"), 1),
    "d = 1": (PLAIN[:, :1].astype("f4"), 1),
    "k >= n": (PLAIN[:5].astype("f4"), 1),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", FINE)
def test_extreme_embeddings_work(run_cli, name, method):
    values, scale = FINE[name]
    np.save("e.npy", values)
    np.save("s.npy", 1.0 + np.arange(len(values)))
    args = ["graph", "--emb", "e.npy", "--out", "g.arrow", "-k", 6, "--method", method]
    code, _, err = run_cli(*args, "--recall", 1)
    assert code == 0, err
    graph = read_graph("g.arrow")
    _, expected = naive.knn(values.astype("f8") / scale, 6)[:2]
    np.testing.assert_allclose(graph.distances / np.float32(scale), expected, rtol=1e-6)
    code, _, err = run_cli("select", "--graph", "g.arrow", "--scores", "s.npy", "--size", 1)
    assert code == 0, err


@pytest.mark.parametrize("exponent", [-1060, -500, -140, 0, 140, 500, 1018])
def test_cosine_does_not_depend_on_scale(run_cli, exponent):
    np.save("plain.npy", PLAIN)
    np.save("e.npy", np.ldexp(PLAIN, exponent))
    for name in ("plain", "e"):
        args = ["--emb", f"{name}.npy", "--out", f"{name}.arrow", "-k", 3]
        assert run_cli("graph", *args, "--metric", "cosine")[0] == 0
    assert read_graph("e.arrow").neighbors.tolist() == read_graph("plain.arrow").neighbors.tolist()
    if exponent > -1000:  # denormals have fewer digits
        np.testing.assert_array_equal(
            read_graph("e.arrow").distances, read_graph("plain.arrow").distances
        )


def test_cosine_of_the_largest_float32(run_cli):
    np.save("e.npy", (np.finfo("f4").max * SIGNS).astype("f4"))
    assert run_cli("graph", "--emb", "e.npy", "--out", "g.arrow", "--metric", "cosine")[0] == 0
    assert read_graph("g.arrow").distances.max() <= 2


#: Embeddings that are refused, the metric, and a part of the message.
REFUSED = {
    "too long": (PLAIN * 1e60, "euclidean", "row 0: is longer than 1e+38"),
    "float32 too long": ((PLAIN * 1e37).astype("f4"), "euclidean", "is longer than 1e+38"),
    "too short": (PLAIN * 1e-60, "euclidean", "no vector is longer than"),
    "all squares vanish": (PLAIN * 1e-300, "euclidean", "no vector is longer than"),
    "float32 denormal": ((WHOLE * 1e-45).astype("f4"), "euclidean", "no vector is longer than"),
    "float64 denormal": (WHOLE * 5e-324, "euclidean", "no vector is longer than"),
    "float16 overflow": (PLAIN.astype("f2") * np.float16(np.inf), "euclidean", "column 0 is"),
    "NaN": (np.where(WHOLE.max() == WHOLE, np.nan, PLAIN), "cosine", "is nan"),
    "inf": (np.where(WHOLE.max() == WHOLE, np.inf, PLAIN), "cosine", "is inf"),
    "-inf": (np.where(WHOLE.max() == WHOLE, -np.inf, PLAIN), "euclidean", "is -inf"),
    "zero vector": (PLAIN * (np.arange(N) != 7)[:, None], "cosine", "row 7: is a zero vector"),
    "-0.0 vector": (PLAIN * np.where(np.arange(N) == 7, -0.0, 1)[:, None], "cosine", "row 7: is a"),
    "d = 0": (PLAIN[:, :0], "euclidean", "embeddings have no columns"),
    "n = 0": (PLAIN[:0], "euclidean", "there are no rows"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", REFUSED)
def test_bad_embeddings_are_refused(run_cli, name, method):
    values, metric, message = REFUSED[name]
    with np.errstate(invalid="ignore"):
        np.save("e.npy", values)
    args = ["graph", "--emb", "e.npy", "--out", "g.arrow", "--metric", metric, "--method", method]
    code, _, err = run_cli(*args)
    assert code == 1
    assert err.startswith("error: e.npy: ")
    assert message in err
    assert not Path("g.arrow").exists()


#: Scores, the transforms under which they work, and a part of the message under the others.
SCORES = {
    "all equal": (np.full(N, 3.0), "none center shift minmax rank", ""),
    "all zero": (np.zeros(N), "none center shift minmax rank", ""),
    "-0.0": (np.full(N, -0.0), "none center shift minmax rank", ""),
    "denormal": (np.where(np.arange(N) % 2, 5e-324, 1e-310), "none center shift minmax rank", ""),
    "1e308": (np.full(N, 1e308), "center shift minmax rank", "propagated score is beyond float64"),
    "both ends": (np.where(np.arange(N) % 2, 1.7e308, -1.7e308), "minmax rank", "row"),
    "600 octaves": (10.0 ** np.linspace(-300, 300, N), "none center shift minmax rank", ""),
    "uint64": (np.full(N, 2**64 - 1, "u8"), "none center shift minmax rank", ""),
    "NaN": (np.where(np.arange(N) == 3, np.nan, 1.0), "", "row 3: score is nan"),
    "-inf": (np.where(np.arange(N) == 3, -np.inf, 1.0), "", "row 3: score is -inf"),
    "float16 inf": (np.full(N, np.inf, "f2"), "", "row 0: score is inf"),
}


TRANSFORMS = ("none", "center", "shift", "minmax", "rank")
WITH_TRANSFORM = [(name, t) for name in SCORES for t in TRANSFORMS]
WORKING_SCORES = [(name, t) for name, t in WITH_TRANSFORM if t in SCORES[name][1].split()]
REFUSED_SCORES = [one for one in WITH_TRANSFORM if one not in WORKING_SCORES]


def select_by(run_cli, name, transform):
    """A selection of 20 rows by these scores."""
    np.save("e.npy", PLAIN)
    np.save("s.npy", SCORES[name][0])
    args = ["--emb", "e.npy", "--scores", "s.npy", "--score-transform", transform, "-k", 5]
    return run_cli("select", *args, "--size", 20)


@pytest.mark.parametrize(("name", "transform"), REFUSED_SCORES)
def test_extreme_scores_are_refused(run_cli, name, transform):
    code, _, err = select_by(run_cli, name, transform)
    assert code == 1
    assert err.startswith("error: s.npy: ")
    assert SCORES[name][2] in err


@pytest.mark.parametrize(("name", "transform"), WORKING_SCORES)
def test_extreme_scores_work(run_cli, name, transform):
    code, _, err = select_by(run_cli, name, transform)
    assert code == 0, err
    kept = np.load("selected.npy").tolist()
    assert len(set(kept)) == 20
    alike = len(set(SCORES[name][0].tolist())) == 1
    zero = transform in ("center", "shift") or (transform == "none" and not SCORES[name][0].any())
    assert ("every score is 0" in err) == (alike and zero)
    assert kept == list(range(20)) or not (alike and zero)


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
@pytest.mark.parametrize("sigma", [5e-324, 1e-300, 1e-30, 1e30, 1e300, 1.7e308])
@pytest.mark.parametrize("gamma", [0.0, 5e-324, 1.0, 1.7e308])
def test_extreme_weights_give_finite_results_without_warnings(kernel, sigma, gamma):
    """No bandwidth and no γ gives a NaN or a warning."""
    graph = build_graph(PLAIN, 3)
    scores = 1.0 + np.arange(N)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        u = propagate(graph, scores, kernel=kernel, bandwidth=sigma, gamma_forward=gamma)
        kept = select(graph, u, 20, kernel=kernel, bandwidth=sigma, gamma_reverse=gamma)
    assert np.isfinite(u).all()
    assert np.isfinite(kept.gains).all()
    if gamma == 0:
        plain_sum = propagate(graph, scores, gamma_forward=0.0)
        np.testing.assert_array_equal(u, plain_sum)


def test_vanished_messages_print_a_notice(run_cli):
    np.save("e.npy", PLAIN)
    np.save("s.npy", np.arange(N, dtype=float))
    args = ["--emb", "e.npy", "--scores", "s.npy", "--size", 20, "-k", 5, "--gamma-reverse", 1]
    for sigma in ("5e-324", "1e-3"):
        code, _, err = run_cli("select", *args, "--bandwidth", sigma)
        assert code == 0
        assert "100% of the edge weights are below 2^-53" in err
        assert np.load("selected.npy").tolist() == list(range(20, 40))  # the highest scores
    code, _, err = run_cli("select", *args, "--bandwidth", "1e300")
    assert code == 0
    assert "Warning" not in err


def test_vanished_share_of_extreme_bandwidths():
    from d2cli.messages.edges import edges_of

    csr = edges_of(build_graph(PLAIN, 3))
    assert vanished_share(csr, "gaussian", 1.0, 1e300) == 0.0
    assert vanished_share(csr, "gaussian", 5e-324, 1.0) == 0.0
    assert vanished_share(csr, "exponential", 1.0, 5e-324) == 1.0


@pytest.mark.parametrize("k", [2**31, 10**20])
def test_k_beyond_int32_is_refused(run_cli, k):
    np.save("e.npy", PLAIN)
    code, _, err = run_cli("graph", "--emb", "e.npy", "--out", "g.arrow", "-k", k)
    assert code == 2
    assert "n_neighbors must be at most 2,147,483,647" in err


@pytest.mark.parametrize("distinct", [1, 10])
@pytest.mark.parametrize("method", METHODS)
def test_many_identical_rows(run_cli, method, distinct):
    """The neighbours of a row are its copies, the lowest rows first."""
    n = 3_000
    rows = RNG.normal(size=(distinct, 8)).astype("f4")[np.arange(n) % distinct]
    np.save("e.npy", rows)
    np.save("s.npy", RNG.random(n))
    args = ["graph", "--emb", "e.npy", "--out", "g.arrow", "-k", 5, "--method", method]
    assert run_cli(*args)[0] == 0
    graph = read_graph("g.arrow")
    assert not graph.distances.any()
    last = [i for i in range(n - distinct) if i % distinct == (n - 1) % distinct][:5]
    assert graph.neighbors[-1].tolist() == last
    code, _, err = run_cli(
        *("select", "--graph", "g.arrow", "--scores", "s.npy", "--ratio", 0.3, "--gamma-reverse", 1)
    )
    assert code == 0
    assert f"messages ran out after {distinct} of 900" in err


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="a million rows need compiled kernels")
@pytest.mark.parametrize("distinct", [1, 10])
def test_a_million_identical_rows_take_little_memory(run_cli, distinct):
    n = 1_000_000
    np.save("e.npy", np.repeat(PLAIN[:distinct, :2].astype("f4"), n // distinct, axis=0))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    args = ["graph", "--emb", "e.npy", "--out", "g.arrow", "-k", 3, "--method", "blocks"]
    assert run_cli(*args)[0] == 0
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 400 << 10, "KiB; the lists alone are 24 MB"
    graph = read_graph("g.arrow")
    assert not graph.distances.any()
    assert graph.neighbors[-1].tolist() == [n - n // distinct + i for i in range(3)]


def test_graph_of_one_row_is_empty(run_cli):
    np.save("e.npy", PLAIN[:1])
    assert run_cli("graph", "--emb", "e.npy", "--out", "g.arrow", "-k", 2)[0] == 0
    table = pa.ipc.open_file(pa.memory_map("g.arrow")).read_all()
    assert table["neighbors"].to_pylist() == [[-1, -1]]
    assert table["distances"].to_pylist() == [[np.inf, np.inf]]
