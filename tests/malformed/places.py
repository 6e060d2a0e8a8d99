"""Paths that are not regular files: pipes, sockets, devices, links, folders; odd names."""

import os
import socket
from pathlib import Path

from tests.malformed import make as m
from tests.malformed.case import (
    CUTOFF,
    EMB,
    EXCLUDE,
    GRAPH,
    INCLUDE,
    LABELS,
    PICK,
    PROPAGATED,
    SCORES,
    WITHIN,
    case,
    good,
)  # fmt: skip


def pipe():
    os.mkfifo("bad")


def listening():
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("bad")


def link(target, name="bad"):
    return lambda: os.symlink(target, name)


def loop():
    os.symlink("bad", "other")
    os.symlink("other", "bad")


def folder(**files):
    """A folder `bad` with these files in it."""

    def make():
        Path("bad").mkdir()
        for name, content in files.items():
            Path("bad", name.replace("__", ".")).write_bytes(content)

    return make


def pipe_beside():
    """Propagated scores with a pipe in place of the sidecar."""
    Path("bad.npy").write_bytes(m.npy(m.SCORES))
    os.mkfifo("bad.npy.json")


def beside(kind):
    """A sidecar of something that is not a file of propagated scores."""

    def make():
        from d2cli.cli.main import run

        run(
            ["propagate", "--graph", "graph.arrow", "--scores", "scores.npy", "--out", "bad", "-q"][
                :5
            ]
        )
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
        Path("bad.npy").unlink()
        if kind == "pipe":
            os.mkfifo("bad.npy")
        elif kind == "folder":
            Path("bad.npy").mkdir()

    return make


def circles():
    """A folder with links to itself, which a naive walk follows 2^40 times."""
    Path("bad/deep").mkdir(parents=True)
    Path("bad/deep/emb.npy").write_bytes(m.npy(m.EMB))
    for name in ("a", "b", "deep/c", "deep/d"):
        os.symlink(Path("bad").resolve(), f"bad/{name}")


EVERY = {
    "emb": EMB, "scores": SCORES, "labels": LABELS, "within": WITHIN, "cutoff-scores": CUTOFF,
    "include": INCLUDE, "exclude": EXCLUDE, "graph": GRAPH, "graph of select": PICK,
    "propagated": PROPAGATED,
}  # fmt: skip
WHOLE, HALF = m.npy(m.EMB), m.npy(m.EMB[:20])
BAD = [
    *(case(f"--{o}: a pipe", c, "bad", pipe, "is not a regular file") for o, c in EVERY.items()),
    *(
        case(f"--{option}: nothing there", command, "bad", lambda: None, "no such file or folder")
        for option, command in EVERY.items()
    ),
    case("a socket", EMB, "bad", listening, "is not a regular file"),
    case("a socket as graph", GRAPH, "bad", listening, "is not a regular file"),
    case("a device", EMB, "/dev/zero", lambda: None, "is not a regular file"),
    case("a device through a link", SCORES, "bad", link("/dev/zero"), "is not a regular file"),
    case("a pipe through a link", EXCLUDE, "bad", lambda: (os.mkfifo("p"), os.symlink("p", "bad"))[1],
         "is not a regular file"),
    case("a link to nothing", EMB, "bad", link("nothing"), "no such file", "link leads (nothing)"),
    case("a link to itself", EMB, "bad", link("bad"), "symbolic links"),
    case("links in a circle", GRAPH, "bad", loop, "symbolic links"),
    case("a folder as graph", GRAPH, "bad", folder(), "holds no data files for --graph"),
    case("a folder of other data as graph", GRAPH, "bad", folder(a__npy=WHOLE), "is not a graph",
         shown="bad/a.npy"),
    case("an empty folder", EMB, "bad", folder(), "holds no data files for --emb"),
    case("a folder of other things", EMB, "bad", folder(a__md=b"x", _b__npy=WHOLE), "no data files"),
    case("a folder of pipes", SCORES, "bad", lambda: (Path("bad").mkdir(), os.mkfifo("bad/a.npy"))[1],
         "holds no data files"),
    case("a folder with a bad file", EMB, "bad", folder(a__npy=HALF, b__npy=HALF[:-1]), "cut off",
         shown="bad/b.npy"),
    case("a folder with two widths", EMB, "bad", folder(a__npy=HALF, b__npy=m.npy(m.EMB[20:, :3])),
         "rows have 3 values", shown="bad/b.npy"),
    case("a folder with an empty file", EMB, "bad", folder(a__npy=WHOLE, b__npy=b""), "is empty",
         shown="bad/b.npy"),
    case("a folder of two kinds", SCORES, "bad", folder(a__npy=m.npy(m.EMB), b__csv=b"x,y\n1,2\n"),
         "could all be scores", shown="bad/b.csv"),
    case("ids in some files", EMB, "bad", folder(
        a__parquet=m.parquet({"id": m.IDS[:20], "emb": m.LISTS[:20]}),
        b__parquet=m.parquet({"emb": m.LISTS[20:]})), "only some files", shown="bad/a.parquet"),
    case("a pattern that matches nothing", EMB, "bad_*.npy", lambda: None, "no file matches"),
    case("a pattern that matches a pipe", EMB, "b?d", pipe, "is not a regular file", shown="bad"),
    case("a path through a file", EMB, "emb.npy/x", lambda: None, "Not a directory"),
    case("a name too long", EMB, "x" * 300, lambda: None, "File name too long"),
    case("a name too long as graph", GRAPH, "x" * 300, lambda: None, "File name too long"),
    case("a pattern too long", SCORES, "x" * 300 + "*", lambda: None, "File name too long"),
    case("a name with a line break", EMB, "bad\n.npy", b"\x93NUMPY", shown="bad\\n.npy"),
    case("a name that steers", EMB, "bad\x1b[2J\u2028.npy", b"\x93NUMPY", shown="bad\\x1b[2J\\u2028.n"),
    case("a path that is no UTF-8", EMB, "bad\udcff.npy", b"\x93NUMPY", shown="bad\\udcff.npy"),
    case("a bad graph that is no UTF-8", GRAPH, "bad\udcff", b"ARROW1", shown="bad\\udcff"),
    case("a name with a dash", EMB, "-bad.npy", b"\x93NUMPY", "header"),
    case("provenance without its file", PROPAGATED, "bad.npy", beside("nothing"), "no such file"),
    case("provenance beside a pipe", PROPAGATED, "bad.npy", beside("pipe"), "not a regular file"),
    case("provenance beside a folder", PROPAGATED, "bad.npy", beside("folder"), "holds no data files"),
]  # fmt: skip
GOOD = [
    good("a link", EMB, "bad", lambda: os.symlink("emb.npy", "bad")),
    good("a link to a link", SCORES, "bad", lambda: (
        os.symlink("scores.npy", "other"), os.symlink("other", "bad"))[1]),
    good("a link to a folder", EMB, "bad", lambda: (folder(a__npy=HALF, b__npy=m.npy(m.EMB[20:]))(),
                                                  os.rename("bad", "real"), os.symlink("real", "bad"))[2]),
    good("a name with spaces", EMB, "bad\u00a0name .npy", WHOLE),
    good("a name with line breaks", EMB, "bad\n\r.npy", WHOLE),
    good("a name with stars", EMB, "[bad]*?.npy", WHOLE),
    good("a name with a leading dash", SCORES, "--emb", m.npy(m.SCORES)),
    good("a graph by a leading dash", GRAPH, "-q", m.arrow(m.graph())),
    *(
        good(f"{kind} by a name that is no UTF-8", command, "bad\udcff", content)
        for kind, command, content in (
            ("npy", EMB, WHOLE), ("npz", EMB, m.npz(emb=m.EMB)), ("graph", GRAPH, m.arrow(m.graph())),
            ("parquet", EMB, m.parquet({"emb": m.LISTS})), ("stream", EMB, m.stream({"emb": m.LISTS})),
            ("text", SCORES, "\n".join(map(str, m.SCORES)).encode()),
        )
    ),
    good("a folder in which pipes are passed over", EMB, "bad", lambda: (
        folder(a__npy=WHOLE)(), os.mkfifo("bad/b.npy"))[0]),
    good("links in circles under **", EMB, "bad/**/*.npy", circles),
    good("** of all", EMB, "bad/**", circles),
    good("provenance that is a pipe", PROPAGATED, "bad.npy", pipe_beside),
    good("provenance that is endless", PROPAGATED, "bad.npy", lambda: (
        Path("bad.npy").write_bytes(m.npy(m.SCORES)), os.symlink("/dev/zero", "bad.npy.json"))[1]),
    good("provenance that is not ours", PROPAGATED, "bad.npy", lambda: (
        Path("bad.npy").write_bytes(m.npy(m.SCORES)), Path("bad.npy.json").write_text("[" * 9999))[1:0]),
]  # fmt: skip
#: Cases for users other than root.
UNREADABLE = [
    *(
        case(f"--{option}: no permission", command, "bad", lambda: (
            Path("bad").write_bytes(WHOLE), Path("bad").chmod(0))[1], "Permission denied")
        for option, command in EVERY.items()
    ),
    case("a folder without permission", EMB, "bad", lambda: Path("bad").mkdir(mode=0), "Permission"),
    case("a path through a folder without permission", EMB, "bad/emb.npy", lambda: (
        folder(emb__npy=WHOLE)(), Path("bad").chmod(0))[1], "Permission denied"),
    case("a graph in a folder without permission", GRAPH, "bad/g.arrow", lambda: (
        folder(g__arrow=m.arrow(m.graph()))(), Path("bad").chmod(0))[1], "Permission denied"),
    case("a folder that can be listed only", EMB, "bad", lambda: (
        folder(emb__npy=WHOLE)(), Path("bad").chmod(0o444))[1], "Permission denied"),
    case("a pattern into a folder without permission", EMB, "bad/*.npy", lambda: (
        folder(emb__npy=WHOLE)(), Path("bad").chmod(0))[1], "Permission denied"),
]  # fmt: skip
CASES = [*BAD, *GOOD]
