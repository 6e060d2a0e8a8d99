"""The table of malformed inputs by format, and of odd inputs that must work."""

from __future__ import annotations

import re
from pathlib import Path

from tests.malformed import containers, graphs, numpy_files, places, tables
from tests.malformed import make as m
from tests.malformed.case import Case

_ALL: list[Case] = [
    *numpy_files.CASES,
    *tables.CASES,
    *containers.CASES,
    *graphs.CASES,
    *places.CASES,
]
CASES = [case for case in _ALL if case.code]
UNREADABLE = places.UNREADABLE
GOOD = [case for case in _ALL if not case.code]


def good_files() -> None:
    """Write the good files that every case may use to the current folder."""
    from d2cli.cli.main import run

    for name, values in (("emb", m.EMB), ("scores", m.SCORES), ("labels", m.LABELS)):
        Path(f"{name}.npy").write_bytes(m.npy(values))
    Path("ids.parquet").write_bytes(m.parquet({"id": m.IDS, "emb": m.LISTS}))
    Path("rows.npy").write_bytes(m.npy([3, 17, 5]))
    Path("propagated.npy").write_bytes(m.npy(m.SCORES))
    Path("graph.arrow").write_bytes(m.arrow(m.graph()))
    # Run each command once, so that all kernels are compiled.
    assert run(["graph", "--emb", "emb.npy", "--out", "out.arrow", "-k", "3", "-q"]) == 0
    assert (
        run(
            [
                "propagate",
                "--graph",
                "out.arrow",
                "--scores",
                "scores.npy",
                "--out",
                "out.npy",
                "-q",
            ]
        )
        == 0
    )
    assert (
        run(["select", "--graph", "out.arrow", "--propagated", "out.npy", "--ratio", "0.5", "-q"])
        == 0
    )
    assert (
        run(
            [
                "select",
                "--emb",
                "emb.npy",
                "--scores",
                "scores.npy",
                "--size",
                "9",
                "--metric",
                "cosine",
                "-q",
            ]
        )
        == 0
    )
    for made in ("out.arrow", "out.npy", "selected.npy"):
        Path(made).unlink()
        Path(f"{made}.json").unlink()


#: The plain file that an odd file replaces, by option.
_PLAIN = {
    "--emb": "emb.npy",
    "--scores": "scores.npy",
    "--labels": "labels.npy",
    "--exclude": "rows.npy",
    "--graph": "graph.arrow",
    "--propagated": "propagated.npy",
}


def plain_form(case: Case) -> list[str]:
    """The same command line on the plain file."""
    option = re.search(r"(--[a-z]+) BAD", case.command)[1]
    return re.sub(r" --[a-z]+-key \w+", "", case.command).replace("BAD", _PLAIN[option]).split()
