"""``.npy`` and ``.npz``."""

import base64
import pickle
import zipfile
from pathlib import Path

import numpy as np

from tests.malformed import make as m
from tests.malformed.case import (
    BUILD,
    COSINE,
    CUTOFF,
    EMB,
    EXCLUDE,
    INCLUDE,
    LABELS,
    PROPAGATE,
    PROPAGATED,
    SCORES,
    WITHIN,
    case,
    cut,
    good,
)  # fmt: skip

F, Z = "bad.npy", "bad.npz"
PB = 2**50
DEFLATED, LZMA = zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA
WHOLE = m.npy(m.EMB)


class Touch:
    """An object that creates a file when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("was_run"),)


def pickled():
    objects = np.empty(m.N, object)
    objects[:] = [Touch() for _ in range(m.N)]
    return m.npy(objects)


def bomb(size=1 << 24):
    """An archive of a few KiB whose member is an array with `size` zeros behind it."""
    return m.npz(DEFLATED, emb=WHOLE + bytes(size))


def long_header():
    """An archive whose header claims, and has, 16 MiB."""
    return m.npz(DEFLATED, emb=m.header(b" " * (1 << 24), version=(2, 0)))


ARRAYS = [
    *cut("npy", EMB, F, WHOLE, [1, 5, 6, 7, 8, 9, 10, 11, 64, 127, 128, 129, 300, -1]),
    *cut("scores npy", SCORES, F, m.npy(m.SCORES), [8, 100, 128, 200, -1]),
    *cut("npy version 2", BUILD, F, m.npy(m.EMB, (2, 0)), [8, 10, 12, 100, -1]),
    case("npy version 3", EMB, F, m.header("{}", version=(3, 0)), "version (3, 0) is not supported"),
    case("npy version 9", EMB, F, m.header("{}", version=(9, 9)), "version (9, 9) is not supported"),
    case("header of 4 GB", EMB, F, b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "header of 4,294,967,295"),
    case("header of 60 kB", EMB, F, m.header(" " * 60000), "header of 60,000 bytes"),
    case("header is code", EMB, F, m.header("__import__('os').system('touch was_run')"), "header"),
    case("header nests deeply", EMB, F, m.header("[" * 5000 + "]" * 5000), "header"),
    case("header of a long number", EMB, F, m.claims("<f4", "x").replace(b"'x'", b"9" * 5000)),
    case("shape of a petabyte", EMB, F, m.claims("<f4", (PB // 16, 4)), "claims 1,125,899,906,842"),
    case("scores of a petabyte", SCORES, F, m.claims("<f8", (PB // 8,)), "claims 1,125,899,906,842"),
    case("shape beyond 64 bits", EMB, F, m.claims("<f4", (2**70, 4)), "claims the shape"),
    case("shape whose size overflows", EMB, F, m.claims("<f4", (2**62, 2**62)), "cut off"),
    case("shape that overflows to its size", EMB, F, m.claims("<f4", (2**61 + 40, 8)), "cut off"),
    case("negative rows", EMB, F, m.claims("<f4", (-40, 4)), "claims the shape (-40, 4)"),
    case("negative columns", EMB, F, m.claims("<f4", (40, -4)), "claims the shape"),
    case("shape of booleans", BUILD, F, m.claims("<f4", (True, 4), data=bytes(16)), "claims the shape"),
    case("shape of floats", EMB, F, m.claims("<f4", (40.0, 4)), "header cannot be read"),
    case("shape is text", EMB, F, m.claims("<f4", "(40, 4)"), "header cannot be read"),
    case("no shape", EMB, F, m.header("{'descr': '<f4', 'fortran_order': False}"), "header"),
    case("rows of nothing", BUILD, F, m.claims("<f4", (10**18, 0), data=b""), "no columns"),
    case("a row of nothing", BUILD, F, m.claims("<f4", (1, 0), data=b""), "no columns"),
    case("columns of no rows", BUILD, F, m.claims("<f4", (0, 10**18), data=b""), "there are no rows"),
    case("text of no size", EXCLUDE, F, m.claims("|S0", (10**15,), data=b""), "its values have 0 bytes each"),
    case("void of no size", LABELS, F, m.claims("|V0", (10**15,), data=b""), "its values have 0 bytes each"),
    case("65 dimensions", EMB, F, m.claims("<f4", (1,) * 65, data=bytes(4)), F),
    case("a number", EMB, F, m.npy(np.float32(1)), "two-dimensional, (n, d), not ()"),
    case("a number as scores", SCORES, F, m.npy(1.5), "one-dimensional, (n,), not ()"),
    case("float128", EMB, F, m.npy(m.EMB.astype("g")), "float16, float32 or float64, not float128"),
    case("complex", EMB, F, m.npy(m.EMB + 1j), "must be numbers, not complex64"),
    case("complex scores", SCORES, F, m.npy(m.SCORES + 1j), "must be numbers, not complex128"),
    case("dates as scores", SCORES, F, m.npy(m.LABELS.astype("M8[s]")), "not datetime64[s]"),
    case("spans as labels", LABELS, F, m.npy(m.LABELS.astype("m8[s]")), "not timedelta64[s]"),
    case("records", SCORES, F, m.npy(np.zeros(m.N, "f4,f4")), "must be numbers, not"),
    case("arrays in records", SCORES, F, m.claims(("<f4", (4,)), (40,)), "must be numbers, not"),
    case("unknown type", EMB, F, m.claims("<q9", (40, 4)), "header cannot be read"),
    case("type is code", EMB, F, m.claims([("x", "|O", (2,) * 9)], (40,)), F),
    case("text as scores", SCORES, F, m.npy(np.array(m.IDS)), "must be numbers, not text"),
    case("floats as labels", LABELS, F, m.npy(m.SCORES), "row 0 is 3.625"),
    case("floats as rows", EXCLUDE, F, m.npy(m.SCORES), "must be integers or text, not float64"),
    case("text that is no Unicode", LABELS, F, m.claims("<U4", (40,), data=b"\xff" * 640), "read"),
    case("bytes that are no UTF-8", LABELS, F, m.npy(np.array([b"\xff"] * 40)), "cannot be read"),
    case("pickled objects", EMB, F, pickled, "pickled Python objects"),
    case("pickled scores", SCORES, F, pickled, "pickled Python objects"),
    case("pickled labels", LABELS, F, pickled, "pickled Python objects"),
    case("pickled rows", INCLUDE, F, pickled, "pickled Python objects"),
    case("pickles of a petabyte", EMB, F, m.claims("|O", (PB, 4)), "pickled Python objects"),
    *(
        case(f"a pickle, protocol {p}", SCORES, "bad.pkl", pickle.dumps(Touch(), p), "pickle")
        for p in (2, 3, 4, 5)
    ),
    case("a text pickle", EXCLUDE, "bad.pkl", pickle.dumps(Touch(), 0)),
    case("NaN", EMB, F, m.npy(m.put(m.EMB, (3, 1), m.NAN)), "row 3: column 1 is nan"),
    case("inf in Fortran order", EMB, F, m.npy(np.asfortranarray(m.put(m.EMB, (39, 3), -m.INF))),
         "row 39: column 3 is -inf"),
    case("NaN in big-endian", EMB, F, m.npy(m.put(m.EMB, (3, 1), m.NAN).astype(">f8")), "row 3"),
    case("NaN scores", SCORES, F, m.npy(m.put(m.SCORES, 9, m.NAN)), "row 9: score is nan"),
    case("inf scores", PROPAGATE, F, m.npy(m.put(m.SCORES, 9, m.INF)), "row 9: score is inf"),
    case("float128 beyond float64", SCORES, F,
         m.npy(m.put(m.SCORES.astype("g"), 9, np.longdouble("1e4000"))), "row 9: score is inf"),
    case("negative scores", SCORES, F, m.npy(-m.SCORES), "row 0: score is negative", hint="--higher"),
    case("NaN in the cutoff", CUTOFF, F, m.npy(m.put(m.SCORES, 9, m.NAN)), "row 9: score is nan"),
    case("a longer vector", EMB, F, m.npy(m.put(m.EMB.astype("f8"), 3, 1e200)), "row 3: is longer"),
    case("a zero vector", COSINE, F, m.npy(m.put(m.EMB, 3, 0)), "row 3: is a zero vector"),
    case("fewer rows", SCORES, F, m.npy(m.SCORES[1:]), "has 39 rows, emb.npy has 40"),
    case("more rows", WITHIN, F, m.npy(np.arange(41)), "has 41 rows, emb.npy has 40"),
    case("row numbers beyond", EXCLUDE, F, m.npy([0, 40]), "row 1: 40 is no row"),
    case("row numbers below", EXCLUDE, F, m.npy([0, -1]), "row 1: -1 is no row"),
    case("row numbers that wrap", EXCLUDE, F, m.npy(np.array([2**64 - 1], "u8")), "row 0: 184467"),
    case("a mask too short", INCLUDE, F, m.npy(np.ones(39, bool)), "mask has 39 values"),
    case("text where no ids are", EXCLUDE, F, m.npy(np.array(["a"])), "no input has ids"),
    case("NaN propagated", PROPAGATED, F, m.npy(m.put(m.SCORES, 4, m.NAN)), "row 4: propagated"),
    case("2-D propagated", PROPAGATED, F, WHOLE, "must be one-dimensional"),
    *cut("propagated npy", PROPAGATED, F, m.npy(m.SCORES), [20, -8]),
]  # fmt: skip

ARCHIVES = [
    *cut("npz", EMB, Z, m.npz(emb=m.EMB), [4, 5, 30, 100, 500, -60, -22, -1]),
    *cut("compressed npz", EMB, Z, m.npz(DEFLATED, emb=m.EMB), [60, 200, -30]),
    case("no directory", EMB, Z, b"PK\x03\x04" + bytes(500), "not a readable .npz"),
    case("empty archive", EMB, Z, m.npz(), "holds no arrays"),
    case("nothing but text", EMB, Z, m.npz(emb=b"").replace(b".npy", b".txt"), "holds no arrays"),
    case("a member of no bytes", EMB, Z, m.npz(emb=b""), "emb: the .npy header cannot be read"),
    case("a member that is no array", EMB, Z, m.npz(emb=b"hello, world"), "header cannot be read"),
    case("an archive in an archive", EMB, Z, m.npz(emb=m.npz(emb=m.EMB)), "header cannot be read"),
    case("a name twice", EMB, Z, m.npz(aa=m.EMB, ab=m.EMB).replace(b"ab.npy", b"aa.npy"),
         "contains aa.npy more than once"),
    case("a name that is no UTF-8", EMB, Z, m.npz(émb=m.EMB).replace("é".encode(), b"\xff\xff"),
         "not a readable .npz"),
    case("check sum", EMB, Z, m.damaged(m.npz(emb=m.EMB), m.EMB[7].tobytes(), bytes(16)), "CRC"),
    case("encrypted", EMB, Z, m.npz(emb=m.EMB).replace(b"PK\x01\x02\x14\x03\x14\x00\x00",
                                                     b"PK\x01\x02\x14\x03\x14\x00\x01"), "encrypted"),
    case("unknown compression", EMB, Z, m.npz(emb=m.EMB).replace(
        b"\x14\x00\x00\x00\x00\x00", b"\x14\x00\x00\x00\x63\x00"), "not a readable .npz"),
    case("damaged lzma", EMB, Z, m.damaged(m.npz(LZMA, emb=m.EMB), b"\x5d\x00\x00\x80\x00",
                                        b"\xff\xff\xff\xff\xff"), "emb"),
    case("lzma with a window of 4 GB", EMB, Z, m.damaged(
        m.npz(LZMA, emb=m.EMB), b"\x5d\x00\x00\x80\x00", b"\x5d\xff\xff\xff\xff")),
    case("bomb behind the array", EMB, Z, bomb, "holds 16,777,856 bytes, more than"),
    case("bomb in the header", EMB, Z, long_header, "header of 16,777,216 bytes"),
    case("stored, said to unpack", EMB, Z, m.npz_lying(m.claims("<f4", (2**26, 4)), 2**30 + 128),
         "which is impossible"),
    case("a petabyte, stored", EMB, Z, m.npz_lying(m.claims("<f4", (PB // 16, 4)), PB), "which is impossible"),
    case("a petabyte, deflated", EMB, Z,
         m.npz_lying(m.claims("<f4", (PB // 16, 4)), PB, DEFLATED), "which is impossible"),
    case("a petabyte by lzma", EMB, Z, m.npz_lying(m.claims("<f4", (PB // 16, 4), data=b""),
         PB + 128 - 64, LZMA)),
    case("a petabyte by lzma, Fortran", EMB, Z, m.npz_lying(
        m.claims("<f4", (4, PB // 16), True, data=b""), PB, LZMA)),
    case("header of a petabyte in an archive", EMB, Z, m.npz(emb=m.claims("<f4", (PB, 4))), "emb",
         "cut off"),
    case("rows of nothing in an archive", BUILD, Z, m.npz(emb=m.claims("<f4", (10**18, 0), data=b"")),
         "emb: embeddings have no columns"),
    case("a tail in an archive", EMB, Z, m.npz(emb=WHOLE + b"x"), "emb", "holds 641 bytes, more than"),
    case("a shape that shrank", EMB, Z, m.npz(DEFLATED, emb=m.claims("<f4", (39, 4))), "holds 640 bytes, more than"),
    case("pickles in an archive", EMB, Z, m.npz(emb=pickled()), "emb"),
    case("PyTorch file", SCORES, "bad.pt", m.npz(**{"a/data": b""}).replace(b".npy", b".pkl"),
         "PyTorch file"),
    case("choice of two", EMB, Z, m.npz(a=m.EMB, b=m.EMB), "a, b could all be", hint="--emb-key"),
    case("no key", EMB + " --emb-key c", Z, m.npz(a=m.EMB), "no column or member 'c'", hint="has: a"),
    case("a key for a plain array", EMB + " --emb-key c", F, WHOLE, "is a plain array"),
    case("NaN in an archive", EMB, Z, m.npz(emb=m.put(m.EMB, (3, 1), m.NAN)), "emb: row 3"),
    case("1-D embeddings", EMB + " --emb-key a", Z, m.npz(a=m.SCORES), "a: embeddings must be two"),
]  # fmt: skip

GOOD = [
    good("big-endian", EMB, F, m.npy(m.EMB.astype(">f4"))),
    good("big-endian half", EMB, F, m.npy(m.EMB.astype(">f2"))),
    good("npy with a tail", EMB, F, WHOLE + b"x"),
    good("float64", EMB, F, m.npy(m.EMB.astype("f8"))),
    good("big-endian Fortran", EMB, F, m.npy(np.asfortranarray(m.EMB.astype(">f8")))),
    good("whole floats as labels", LABELS, F, m.npy(m.LABELS.astype("f4"))),
    good("Fortran order", EMB, F, m.npy(np.asfortranarray(m.EMB))),
    good("Fortran order in an archive", EMB, Z, m.npz(LZMA, emb=np.asfortranarray(m.EMB))),
    good("header version 2", EMB, F, m.npy(m.EMB, (2, 0))),
    good("header as Python 2 wrote it", EMB, F, m.claims("<f4", (40, 4)).replace(b"(40, 4)", b"(40L,4)")),
    good("archive by bzip2", EMB, Z, m.npz(zipfile.ZIP_BZIP2, emb=m.EMB)),
    good("archive with a comment before it", EMB, Z, m.npz(x=np.array(["note"]), emb=m.EMB)),
    good("pickles beside what is meant", EMB + " --emb-key emb", Z, m.npz(emb=m.EMB, o=pickled())),
    good("float128 scores", SCORES, F, m.npy(m.SCORES.astype("g"))),
    good("big-endian scores", SCORES, F, m.npy(m.SCORES.astype(">f4"))),
    good("half scores", SCORES, F, m.npy(m.SCORES.astype("f2"))),
    good("npy by another name", EMB, "bad.parquet", WHOLE),
]  # fmt: skip
#: Files that fuzzing found.
FOUND = [
    case("found: a directory whose names are no UTF-8", EMB, Z, base64.b64decode(
        "UEsDBBQAAABiLm5weZNOVU1QWQEAdgB7J2Rlc2NyJzoAAAAAAAAAAP7///8AAAAAEQACAAAAAABQSwECFAMUAAAAAACgjnZdp9ZexMgAAADIAAAABwAAAAAAAAAAAAAAgAEAAAAAZW1iLm5weVBLAQIUAxQAAMgAAAAHAAAAAAAAAAAAAACAAQAACABlbWIubnB5UEsBAhQDFAAAAAAAoI52XeaBLJGwAAEAUP////X/AAAAAAAAFACwAAAAsAAAAAoAAAAAAAAAAAAAAIABxQEAAGxhYmVscy5ucHlQSwUGAAAAAAMAAwClAAAAnQIAAAAA"
    ), "is not a readable .npz file"),
]  # fmt: skip
CASES = [*ARRAYS, *ARCHIVES, *FOUND, *GOOD]
