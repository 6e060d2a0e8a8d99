"""Graph files, and the sidecars of propagated scores."""

import json
from pathlib import Path

import pyarrow as pa

from tests.malformed import make as m
from tests.malformed.case import BUILT_FROM, GRAPH, PICK, PROPAGATED, case, cut, good

G, NAN, INF = "bad.arrow", m.NAN, m.INF


def cell(name, column, row, place, value, *says):
    """A graph with one value replaced."""
    content = m.arrow(m.graph(cells={(column, row, place): value}))
    return case(f"graph: {name}", GRAPH, G, content, f"row {row}", *says)


def meta(name, raw, *says):
    """A graph with these bytes as metadata."""
    return case(f"metadata: {name}", GRAPH, G, m.arrow(m.graph(raw=raw)), *says)


def beside(name, change, *says):
    """Propagated scores with a changed sidecar."""

    def make():
        from d2cli.cli.main import run
        from d2cli.files.provenance.fingerprint import fingerprint

        run(
            [
                "propagate",
                "--graph",
                "graph.arrow",
                "--scores",
                "scores.npy",
                "--out",
                "bad.npy",
                "-q",
            ]
        )
        with open("bad.npy.json", encoding="utf-8") as file:
            entry = json.load(file)
        assert entry["output"]["fingerprint"] == fingerprint([Path("bad.npy")])
        change(entry)
        with open("bad.npy.json", "w", encoding="utf-8") as file:
            json.dump(entry, file)

    return case(f"provenance: {name}", PROPAGATED, "bad.npy", make, *says)


def parts(*numbers, cut=None, other=None, whole=False):
    """A folder ``bad.d2`` of a graph's parts with these numbers, in this order of names.

    The part `cut` is cut off, the part `other` is of another graph, and a `whole` graph lies there.
    """

    def make():
        folder, graph = Path("bad.d2"), m.graph()
        folder.mkdir()
        for place, number in enumerate(numbers):
            digest = "b" if number == other else "a"
            entry = {"part": number, "parts": 3, "first_row": 16 * number, "rows": m.N}
            meta = {"d2prune.part": json.dumps(entry | {"graph": digest}), **graph.schema.metadata}
            part = graph.slice(16 * number, 16).replace_schema_metadata(meta)
            content = m.arrow(part.combine_chunks())
            path = folder / f"part-{place:05}.arrow"
            path.write_bytes(content[: 900 if number == cut else None])
        if whole:
            (folder / "part-00003.arrow").write_bytes(m.arrow(graph))

    return make


def recorded(name, value):
    """A parameter that no option would take."""
    return beside(
        f"{name} is {value!r}",
        lambda entry: entry["parameters"].update({name: value}),
        f"records {name} as {str(value)!r}",
    )


WHOLE = m.arrow(m.graph())
CONTENT = [
    *cut("graph", GRAPH, G, WHOLE, [6, 8, 100, 500, 900, -400, -20, -10, -1]),
    case("graph: npy", GRAPH, "bad.npy", m.npy(m.EMB), "is not a graph", hint="d2prune graph"),
    case("graph: parquet", PICK, "bad.parquet", m.parquet(m.graph()), "is not a graph"),
    case("graph: stream", GRAPH, G, m.stream(m.graph()), "is not a graph"),
    case("graph: another table", GRAPH, G, m.arrow({"emb": m.LISTS}), "is not a graph"),
    case("graph: empty file", GRAPH, G, b"", "the file is empty"),
    case("graph: no neighbours", GRAPH, G, m.arrow(m.graph(drop=("neighbors",))), "no column 'neigh"),
    case("graph: no distances", GRAPH, G, m.arrow(m.graph(drop=("distances",))), "no column 'dist"),
    case("graph: no rows", GRAPH, G, m.arrow(m.graph().slice(0, 0)), "there are no rows"),
    case("graph: k = 0", GRAPH, G, m.arrow(m.graph(
        neighbors=pa.array([[]] * m.N, pa.list_(pa.int32(), 0)),
        distances=pa.array([[]] * m.N, pa.list_(pa.float32(), 0)))), "must both be (n, k)"),
    case("graph: two widths", GRAPH, G, m.arrow(m.graph(
        distances=pa.array([[1.0]] * m.N, pa.list_(pa.float32(), 1)))), "must both be (n, k)"),
    case("graph: int16", GRAPH, G, m.arrow(m.graph(
        neighbors=pa.array([[1]] * m.N, pa.list_(pa.int16(), 1)))), "fixed_size_list<int32>"),
    case("graph: int64 beyond int32", GRAPH, G, m.arrow(m.graph(
        cells={("neighbors", 7, 1): 2**40}, kind=pa.int64())), "row 7 lists 1099511627776"),
    case("graph: parts, one missing", GRAPH, "bad.d2", parts(0, 2), "part-00001.arrow is missing"),
    case("graph: parts, one cut off", GRAPH, "bad.d2", parts(0, 1, 2, cut=1), "cannot be read",
         shown="bad.d2/part-00001.arrow"),
    case("graph: parts of two graphs", GRAPH, "bad.d2", parts(0, 1, 2, other=2), "another graph",
         shown="bad.d2/part-00002.arrow"),
    case("graph: parts, one twice", PICK, "bad.d2", parts(0, 1, 1), "is part 1, as ",
         shown="bad.d2/part-00002.arrow"),
    case("graph: parts and a whole graph", GRAPH, "bad.d2", parts(0, 1, 2, whole=True),
         "is no part of a graph", shown="bad.d2/part-00003.arrow"),
    case("graph: float64", PICK, G, m.arrow(m.graph(
        distances=pa.array([[1.0]] * m.N, pa.list_(pa.float64(), 1)))), "fixed_size_list<float>"),
    case("graph: lists", GRAPH, G, m.arrow(m.graph(
        neighbors=pa.array([[1]] * m.N, pa.list_(pa.int32())))), "fixed_size_list<int32>"),
    case("graph: a column twice", GRAPH, G, m.arrow(
        m.graph().append_column("neighbors", m.graph()["neighbors"])), "neighbors"),
    case("graph: a null row", GRAPH, G, m.arrow(m.graph(neighbors=pa.array(
        m.row_put(4, None, [[1, 2, 3]] * m.N), pa.list_(pa.int32(), 3)))), "neighbors: row 4 is null"),
    cell("a null", "neighbors", 4, 0, None, "null"),
    cell("a neighbour beyond", "neighbors", 4, 2, 40, "no row of the graph"),
    cell("a neighbour far beyond", "neighbors", 4, 2, 2**31 - 1, "no row of the graph"),
    cell("a neighbour below", "neighbors", 4, 0, -2, "no row of the graph"),
    cell("the least neighbour", "neighbors", 4, 0, -(2**31), "no row of the graph"),
    cell("a loop", "neighbors", 4, 1, 4, "lists itself"),
    cell("a neighbour twice", "neighbors", 4, 1, 5, "lists a neighbour twice"),
    cell("NaN distance", "distances", 39, 1, NAN, "negative, NaN or infinite"),
    cell("negative distance", "distances", 0, 0, -1.0, "negative, NaN or infinite"),
    cell("least negative distance", "distances", 0, 0, -1e-45, "negative, NaN or infinite"),
    cell("infinite distance", "distances", 4, 2, INF, "negative, NaN or infinite"),
    cell("unsorted distances", "distances", 4, 0, 9.0, "not sorted"),
    cell("half a missing place", "neighbors", 4, 2, -1, "missing place"),
    case("graph: a hole", GRAPH, G, m.arrow(m.graph(
        cells={("neighbors", 4, 1): -1, ("distances", 4, 1): INF})), "row 4", "missing place"),
    case("graph: a tie out of order", PICK, G, m.arrow(m.graph(
        cells={("neighbors", 4, 0): 39, ("distances", 4, 0): 1.0})), "row 4", "not sorted"),
    case("graph: excluded as text", GRAPH, G, m.arrow(m.graph(excluded=["no"] * m.N)), "must be bool"),
    case("graph: excluded rows listed", GRAPH, G, m.arrow(m.graph(
        excluded=[False] * 7 + [True] + [False] * 32)), "row 4", "lists an excluded row"),
    case("graph: excluded null", GRAPH, G, m.arrow(m.graph(excluded=[None] + [False] * 39)), "row 0"),
    case("graph: ids null", GRAPH, G, m.arrow(m.graph(id=[None, *m.IDS[1:]])), "id: row 0 is null"),
    case("graph: ids null in a dictionary", GRAPH, G, m.arrow(m.graph(
        id=pa.DictionaryArray.from_arrays(pa.array(range(m.N)), [None, *m.IDS[1:]]))), "row 0 is null"),
    case("graph: ids twice", GRAPH, G, m.arrow(m.graph(id=[m.IDS[1], *m.IDS[1:]])), "occurs 2 times"),
    case("graph: ids as lists", GRAPH, G, m.arrow(m.graph(id=[[1]] * m.N)), "ids must be"),
    case("graph: ids as floats", GRAPH, G, m.arrow(m.graph(id=m.SCORES)), "ids must be"),
    case("graph: fewer rows", GRAPH, G, m.arrow(m.graph(cells={
        ("neighbors", r, p): (r + p + 1) % 39 for r in range(39) for p in range(3)}).slice(0, 39)),
         "has 39", shown="scores.npy: has 40 rows, bad.arrow"),
]  # fmt: skip
METADATA = [
    meta("none", b"", "is not a graph: its metadata has no 'd2prune'"),
    meta("no JSON", b"{", "metadata cannot be read"),
    meta("no UTF-8", b"\xff\xfe{", "metadata cannot be read"),
    meta("a list", b"[1]", "metadata cannot be read"),
    meta("a number", b"1", "metadata cannot be read"),
    meta("deep", b"[" * 200_000, "metadata cannot be read"),
    meta("a long number", b'{"format_version": ' + b"1" * 5000 + b"}", "metadata cannot be read"),
    meta("no version", b"{}", "metadata cannot be read"),
    meta("the next version", b'{"format_version": 2}', "has format version 2", "reads 1"),
    meta("a far version", b'{"format_version": 1e999}', "has format version inf"),
    meta("version as text", b'{"format_version": "1"}', "has format version 1"),
    meta("version as truth", b'{"format_version": true}', "has format version True"),
    meta("graph is text", b'{"format_version": 1, "graph": "x"}', "metadata is damaged: 'graph'"),
    meta("inputs are a number", b'{"format_version": 1, "inputs": 3}', "metadata is damaged: 'inputs'"),
    *(
        case(f"metadata: {name} is {value!r}", PICK, G, m.arrow(m.graph_part(**{name: value})),
             f"says {name} is")
        for name, value in (("recall", "x"), ("recall", [1]), ("recall_target", {}), ("method", 7),
                            ("method", None), ("metric", [1]), ("seed", "x"), ("settings", 1),
                            ("recall_sample", None))
    ),
    *(
        case(f"metadata: emb is {value!r}", BUILT_FROM, G, m.arrow(m.built_from(emb=value)),
             "does not say whether it was built from emb.npy")
        for value in (7, "x", [1], None, {"fingerprint": 7})
    ),
    case("built from other data", BUILT_FROM, G, m.arrow(m.built_from(emb={"fingerprint": "0"})),
         "was not built from emb.npy", hint="build the graph again"),
]  # fmt: skip
PROVENANCE = [
    *(
        recorded(name, value)
        for name, value in (
            ("mode", "x"), ("mode", [1]), ("edges", 7), ("kernel", "x"), ("bandwidth", "x"),
            ("bandwidth", -1), ("bandwidth", NAN), ("bandwidth", True), ("gamma_forward", "x"),
            ("gamma_forward", -1), ("gamma_forward", INF), ("hops", "x"), ("hops", -1), ("hops", 0.5),
            ("higher_is", 7), ("score_transform", "x"),
        )
    ),
    *(
        beside(f"inputs.graph is {value!r}", lambda entry, value=value: entry["inputs"].update(
            graph=value), "was propagated on another graph than graph.arrow")
        for value in (7, "x", [1], None)
    ),
    beside("parameters are a list", lambda entry: entry.update(parameters=[1]), "is damaged"),
    beside("a future version", lambda entry: entry.update(format_version=2), "of another version"),
    beside("another output", lambda entry: entry["output"].update(fingerprint="0"), "has changed since"),
]  # fmt: skip
GOOD = [
    good("graph: in several batches", GRAPH, G, m.arrow(m.graph(), rows=7)),
    good("graph: compressed", GRAPH, G, m.arrow(m.graph(), compression="zstd")),
    good("graph: int64", GRAPH, G, m.arrow(m.graph(kind=pa.int64()))),
    good("graph: parts", PICK, "bad.d2", parts(0, 1, 2)),
    good("graph: bare metadata", GRAPH, G, m.arrow(m.graph(raw=b'{"format_version": 1}'))),
    good("propagated: big-endian", PROPAGATED, "bad.npy", m.npy(m.SCORES.astype(">f8"))),
    good("propagated: in an archive", PROPAGATED, "bad.npz", m.npz(p=m.SCORES)),
]  # fmt: skip
CASES = [*CONTENT, *METADATA, *PROVENANCE, *GOOD]
