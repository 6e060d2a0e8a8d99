"""Parquet, Arrow files and streams, Feather, CSV and text."""

import decimal
import gzip
import struct

import numpy as np
import pyarrow as pa

from tests.malformed import make as m
from tests.malformed.case import (
    BUILD,
    EMB,
    EXCLUDE,
    EXCLUDE_IDS,
    INCLUDE,
    JOINED,
    LABELS,
    SCORES,
    case,
    cut,
    good,
)  # fmt: skip

P, A, R, C = "bad.parquet", "bad.arrow", "bad.arrows", "bad.csv"
LISTS, N, IDS = m.LISTS, m.N, m.IDS
EMBS = {"emb": LISTS}
SCORED = {"score": m.SCORES}
NULLED = [*m.SCORES[:-1].tolist(), None]
#: A dictionary column: no null in the indices, one in the dictionary.
HIDDEN = pa.DictionaryArray.from_arrays(np.arange(N) % 2, ["a", None])
HIDDEN_SCORES = pa.DictionaryArray.from_arrays(np.arange(N) % 2, [1.5, None])
OUTSIDE = struct.pack("<i", 10**9)


def offsets_into_nowhere(content, width):
    """One of a column's offsets points far outside its values."""
    offsets = np.arange(0, (N + 1) * width, width, dtype=np.int32)
    wrong = m.put(offsets, 7, 10**9)
    return m.damaged(content, offsets.tobytes(), wrong.tobytes())


def claims_to_unpack(size):
    """A compressed buffer that claims to unpack to `size` bytes."""
    content = m.arrow({"emb": pa.array(LISTS, m.FIXED)}, compression="zstd")
    return m.damaged(content, struct.pack("<q", 640), struct.pack("<q", size))


def csv(*lines):
    return "".join(f"{line}\n" for line in lines).encode()


PARQUET = [
    *cut("parquet", EMB, P, m.parquet(EMBS), [4, 8, 12, 100, 300, -300, -9, -8, -4, -1]),
    case("parquet of magic", EMB, P, b"PAR1" + bytes(8) + b"PAR1", "cannot be read"),
    case("footer of 2 GB", EMB, P, b"PAR1" + bytes(100) + b"\xff\xff\xff\x7fPAR1", "cannot be read"),
    case("footer that is noise", EMB, P, b"PAR1" + bytes(range(256)) * 4 + b"\x00\x04\0\0PAR1"),
    case("encrypted parquet", EMB, P, b"PARE" + m.parquet(EMBS)[4:-4] + b"PARE"),
    case("more rows than there are", BUILD, P, m.parquet_claiming(EMBS, 41)),
    case("parquet of a billion rows", BUILD, P, m.parquet_claiming(EMBS, 10**9)),
    case("parquet of 10^15 rows", BUILD, P, m.parquet_claiming(EMBS, 10**15), "000 rows are more"),
    case("scores of 10^9 rows", SCORES, P, m.parquet_claiming(SCORED, 10**9), "has 1,000,000,000"),
    case("parquet of -5 rows", EMB, P, m.parquet_claiming(EMBS, -5), "claims to have -5 rows"),
    case("ragged", EMB, P, m.parquet({"emb": m.row_put(5, [1.0])}), "row 5 has 1 values"),
    case("a null list", EMB, P, m.parquet({"emb": m.row_put(5, None)}), "emb: row 5: column 0 is nan"),
    case("a null in a list", EMB, P, m.parquet({"emb": m.row_put(5, [1, None, 2, 3])}),
         "emb: row 5: column 1 is nan"),
    case("all null", EMB, P, m.parquet({"emb": pa.array([None] * N, pa.list_(pa.float32()))}), "every row is null"),
    case("column of nulls", SCORES, P, m.parquet({"score": pa.nulls(N)}), "could be scores"),
    case("empty lists", EMB, P, m.parquet({"emb": pa.array([[]] * N, pa.list_(pa.float32()))}), "emb"),
    case("ragged lists of lists", EMB, P, m.parquet({"emb": [[row[:2], row[: 2 + (i == 9)]]
         for i, row in enumerate(LISTS)]}), "emb: row 9 has 3 values"),
    case("lists of lists as outputs", "score --kind entropy --logits BAD --labels labels.npy --out o.npy", P,
         m.parquet({"logits": [[row] for row in LISTS]}), "each row is list<list<double>>"),
    case("lists of text", EMB, P, m.parquet({"emb": [["a"]] * N}), "could be embeddings"),
    case("token numbers", EMB, P, m.parquet({"ids": [[1, 2]] * N}), "could be embeddings",
         hint="ids: list<int64>"),
    case("lists of records", EMB, P, m.parquet({"emb": [[{"x": 1.0}]] * N}), "could be embeddings"),
    case("a column of records", EMB, P, m.parquet({"emb": [{"x": 1.0}] * N}), "could be embeddings"),
    case("maps", SCORES, P, m.parquet({"s": pa.array([[("a", 1)]] * N, pa.map_("string", "int8"))}), P),
    case("negative decimals", SCORES, P, m.parquet({"score": [decimal.Decimal("-1.5")] * N}), "negative"),
    case("dates by name", SCORES + " --scores-key s", P,
         m.parquet({"s": m.LABELS.astype("M8[s]")}), "s: scores must be numbers, not timestamp["),
    case("dates", SCORES, P, m.parquet({"score": m.LABELS.astype("M8[s]")}), "could be scores"),
    case("floats as labels of parquet", LABELS, P, m.parquet({"label": m.SCORES}), "row 0 is 3.625"),
    case("null score", SCORES, P, m.parquet({"score": NULLED}), "score: row 39: score is nan"),
    case("null label", LABELS, P, m.parquet({"label": ["a", None] * 20}), "label: row 1: label is null"),
    case("null in a dictionary", LABELS, A, m.arrow({"label": HIDDEN}), "label: row 1: label is null"),
    case("null score in a dictionary", SCORES, A, m.arrow({"s": HIDDEN_SCORES}), "s: row 1: score is nan"),
    case("null in dictionaries of a row", EMB, A, m.arrow({"x_0": m.SCORES, "x_1": HIDDEN_SCORES}),
         "x: row 1: column 1 is nan"),
    case("null ids in a dictionary", JOINED, A, m.arrow({"id": HIDDEN, **SCORED}), "id: row 1 is null"),
    case("null id", JOINED, P, m.parquet({"id": [None, *IDS[1:]], **SCORED}), "id: row 0 is null"),
    case("an id twice", JOINED, P, m.parquet({"id": [IDS[1], *IDS[1:]], **SCORED}), "occurs 2 times",
         hint="unique"),
    case("an id missing", JOINED, P, m.parquet({"id": ["new", *IDS[1:]], **SCORED}), "has no id"),
    case("ids of another type", JOINED, P, m.parquet({"id": np.arange(N), **SCORED}), "ids are int64"),
    case("floats as ids", JOINED, P, m.parquet({"id": m.SCORES, "el2n": m.SCORES}), "not float64"),
    case("lists as ids", JOINED + " --id-column key", P, m.parquet({"key": [[1]] * N, **SCORED}),
         "key: ids must be integers or text, not lists"),
    case("ids that are no UTF-8", JOINED, A, m.arrow({"id": [b"\xff%d" % i for i in range(N)],
                                                      **SCORED}), "has no id 'id000'"),
    case("no rows", EMB, P, m.parquet({"emb": pa.array([], m.FIXED)}), "there are no rows"),
    case("no columns", EMB, P, m.parquet({}), "has no columns"),
    case("a name of digits", EMB, P, m.parquet({"1" * 5000: m.SCORES.astype("f4")}), "could be embed"),
    case("a name that ends in digits", EMB, P, m.parquet({"1" * 99999 + "x": m.SCORES}), "could be"),
    case("numbers with a gap", EMB, P, m.parquet({"x_0": m.SCORES, "x_2": m.SCORES}), "could be embed"),
    case("null in numbered columns", EMB, P, m.parquet({"x_0": m.SCORES, "x_1": NULLED}), "row 39"),
    case("900 candidates", EMB, P, m.parquet({f"a{i}b": pa.array([], m.FIXED) for i in range(900)}),
         "… (900) could all be embeddings"),
    case("unknown ids", EXCLUDE_IDS, P, m.parquet({"id": ["new"]}), "has no id 'new'"),
    case("null rows", INCLUDE, P, m.parquet({"index": [1, None]}), "index: row 1 is null"),
]  # fmt: skip
GRAPHLESS = {"emb": pa.array(LISTS, m.FIXED), "id": IDS}
ARROW = [
    *cut("arrow", EMB, A, m.arrow(EMBS), [6, 8, 16, 100, 300, 700, -200, -10, -6, -1]),
    *cut("stream", EMB, R, m.stream(EMBS), [4, 8, 20, 100, 200, 400, 700, -100]),
    *cut("feather", EMB, "bad.feather", m.arrow(EMBS, compression="lz4"), [8, 200, -100, -1]),
    case("arrow of magic", EMB, A, b"ARROW1\0\0", "cannot be read"),
    case("arrow of magics", EMB, A, b"ARROW1\0\0" + bytes(64) + b"ARROW1", "cannot be read"),
    case("feather 1", EMB, "bad.feather", b"FEA1" + bytes(80) + b"FEA1", "Feather version 1"),
    case("stream of 2 GB", EMB, R, b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(64), "cannot be read"),
    case("stream of nothing", EMB, R, b"\xff\xff\xff\xff\0\0\0\0", R),
    case("stream of -1 bytes", EMB, R, b"\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(64), R),
    case("footer of the stream's size", EMB, A, m.arrow(EMBS)[:-10] + b"\xff\xff\xff\x7fARROW1"),
    case("stream without rows", EMB, R, m.stream({"emb": pa.array([], m.FIXED)}), "there are no rows"),
    case("offsets into nowhere", EMB, A, offsets_into_nowhere(m.arrow(EMBS), 4), "ffset"),
    case("offsets of ids", JOINED, R, offsets_into_nowhere(m.stream({"id": IDS, **SCORED}), 5), "ffset"),
    case("unpacks to a petabyte", EMB, A, claims_to_unpack(2**50), "cannot be read"),
    case("unpacks to less", EMB, A, claims_to_unpack(16), "cannot be read"),
    case("unpacks to -2 bytes", EMB, A, claims_to_unpack(-2), "cannot be read"),
    case("codes without a meaning", LABELS, A, m.damaged(
        m.arrow({"label": pa.array(IDS).dictionary_encode()}),
        np.arange(N, dtype="i4").tobytes(), np.arange(9, N + 9, dtype="i4").tobytes()), A),
    case("a union", SCORES, A, m.arrow({"s": pa.UnionArray.from_sparse(
        pa.array([0] * N, "int8"), [pa.array(m.SCORES)])}), "could be scores"),
    case("runs", SCORES, A, m.arrow({"s": pa.RunEndEncodedArray.from_arrays([N], [1.5])}), "could be"),
    case("lists of width 0", EMB, A, m.arrow({"emb": pa.array([[]] * N, pa.list_(pa.float32(), 0))}), A),
    case("a null fixed list", EMB, A, m.arrow({"emb": pa.array(m.row_put(5, None), m.FIXED)}), "row 5"),
    case("a null in a fixed list", EMB, R,
         m.stream({"emb": pa.array(m.row_put(5, [1, 2, 3, None]), m.FIXED)}), "row 5: column 3 is nan"),
    case("a name twice in arrow", SCORES, A, m.arrow(pa.table([m.SCORES, m.SCORES], ["s", "s"])),
         "only columns of the same name"),
    case("NaN in arrow", EMB, A, m.arrow({"emb": pa.array(m.row_put(3, [0, m.NAN, 0, 0]), m.FIXED)}),
         "emb: row 3: column 1 is nan"),
    case("uint64 ids against text", JOINED, A, m.arrow({"id": np.arange(N).astype("u8"), **SCORED}), A),
    case("a mask of the wrong length", EXCLUDE, A, m.arrow({"index": [True]}), "mask has 1 values"),
    case("several columns of rows", EXCLUDE, A, m.arrow({"a": [1], "b": [2]}), "could all be rows"),
]  # fmt: skip
TEXT = [
    case("empty csv", EMB, C, b"", "the file is empty"),
    case("blank text", SCORES, "bad.txt", b"\n\n\n"),
    case("one space", SCORES, "bad.txt", b" "),
    case("header alone", EMB, C, csv("a_0,a_1"), "there are no rows"),
    case("a cell too many", SCORES, C, csv("s", *["1"] * 9, "1,2"), "cannot be read"),
    case("a cell too few", EMB, C, csv("a_0,a_1", "1,2", "3"), "cannot be read"),
    case("text among numbers", EMB, C, csv("a_0,a_1", *["1,2"] * 39, "1,x"), "a_1: holds string"),
    case("text among scores", SCORES + " --scores-key s", C, csv("s", *["1"] * 39, "x"), "must be num"),
    case("an empty cell", SCORES, C, csv("s,t", *["1,a"] * 39, ",a"), "s: row 39: score is nan"),
    case("nan in csv", SCORES, C, csv("s", *["1"] * 39, "nan"), "s: row 39"),
    case("inf in csv", SCORES, C, csv("s", *["1"] * 39, "1e999"), "s: row 39"),
    case("a quote that never ends", SCORES, C, csv('s,"t', *["1,2"] * 40), C),
    case("latin-1", SCORES, C, b"s,\xef\n" + b"1,2\n" * N, "cannot be read"),
    case("UTF-16 without its mark", SCORES, C, "s\n1\n".encode("utf-16-le"), "is not .npy"),
    case("UTF-16 of an odd length", SCORES, C, "s\n1\n".encode("utf-16") + b"1", "cannot be read"),
    *cut("gzip'd CSV", SCORES, "bad.csv.gz", gzip.compress(csv("s", *m.SCORES)), [10, 20, -9, -1]),
    case("gzip'd CSV with a wrong check sum", SCORES, "bad.csv.gz", gzip.compress(csv("s", *m.SCORES))[:-8]
         + bytes(8), "cannot be read as gzip"),
    case("a list that NumPy has shortened", EMB + " --emb-key e", C, csv("e", *["[1 ... 2]"] * N), "lost"),
    case("a cell that is no list", EMB + " --emb-key e", C, csv("e", *['"[1, 2]"'] * 39, "x"), "row 39 is no"),
    case("lists of two lengths in cells", EMB, C, csv("e", *['"[1, 2]"'] * 39, "[1]"), "row 39 has 1 values"),
    case("commas of thousands", SCORES, C, csv("i;s", *["a;1,000"] * N), "could be scores"),
    case("a word among columns of numbers", EMB, "bad.txt", b"1 2\n" * 39 + b"1 x\n", "cannot be read"),
    case("a short row among columns of numbers", EMB, "bad.txt", b"1 2\n" * 39 + b"1\n", "cannot be read"),
    case("NUL bytes", SCORES, C, b"s\n1\n\0\n", "is not .npy"),
    case("NUL bytes late", SCORES, C, b"s\n" + b"1\n" * 3000 + b"\0\n", C),
    case("steering characters", SCORES, C, b"s\n1\n\x1b[2J,\x07,\x0b\n", "cannot be read"),
    case("4,000 columns", SCORES, C, csv(",".join(f"c{i}x" for i in range(4000)),
                                        ",".join(["1"] * 4000)), "… (4000) could all be scores"),
    case("a line of 4 MB", SCORES, C, b"s\n" + b"1" * (4 << 20) + b"\n", C),
    case("a name of 500 kB", EMB, C, b"1" * 500_000 + b"x,y\n1,2\n", "could be embeddings"),
    case("a number of 9,999 digits", EXCLUDE, "bad.txt", b"9" * 9999, "bad.txt"),
    case("a name twice in csv", SCORES, C, csv("s,s", *["1,2"] * 40), "only columns of the same name"),
    case("numbers beyond 64 bits", EXCLUDE, "bad.txt", b"1\n99999999999999999999\n", "bad.txt"),
    case("rows beyond", EXCLUDE, "bad.txt", b"1\n40\n", "row 1: 40 is no row of emb.npy"),
    case("rows below", INCLUDE, "bad.txt", b"1\n-1\n", "row 1: -1 is no row of emb.npy"),
    case("rows as fractions", EXCLUDE, "bad.txt", b"1.5\n", "bad.txt"),
    case("ids where there are none", EXCLUDE, "bad.txt", b"id001\n", "no input has ids"),
    case("an unknown id", EXCLUDE_IDS, "bad.txt", b"id003\nnew\n", "row 1: ids.parquet: emb has no id"),
    case("json", SCORES, "bad.json", b'{"score": [1, 2]}', "bad.json"),
    case("json lines cut", SCORES, "bad.jsonl", b'{"score": 1}\n' * 39 + b'{"sco', "cannot be read"),
    case("json lines of two types", SCORES, "bad.jsonl", b'{"score": 1}\n' * 39 + b'{"score": "x"}\n',
         "cannot be read"),
    case("json lines without rows", SCORES, "bad.jsonl", b"{}\n" * N, "has no columns"),
    case("deep json", SCORES, "bad.jsonl", b'{"a":' * 100_000, "cannot be read"),
    case("ragged json", EMB, "bad.jsonl", b'{"emb": [1, 2]}\n' * 39 + b'{"emb": [1]}\n', "row 39 has 1"),
    case("html", EMB, C, b"<!DOCTYPE html><html><body>404</body></html>\n", C),
    case("a Git LFS pointer", EMB, "bad.npy", csv("version https://git-lfs.github.com/spec/v1",
                                                 "oid sha256:4d7a214614ab29", "size 12345"), "bad.npy"),
    *(
        case(f"{kind} file", EMB, "bad.npy", magic + bytes(range(256)), "bad.npy")
        for kind, magic in (("HDF5", b"\x89HDF\r\n\x1a\n"), ("gzip", b"\x1f\x8b\x08\0"),
                            ("zstd", b"\x28\xb5\x2f\xfd\0"), ("ELF", b"\x7fELF\0"), ("PNG", b"\x89PNG\0"))
    ),
]  # fmt: skip
FAMILY = {f"emb_{i}": m.EMB[:, i] for i in range(m.D)}
ORDER = np.argsort(IDS)
GOOD = [
    good("parquet", EMB, P, m.parquet(EMBS)),
    good("parquet in many groups", EMB, P, m.parquet(EMBS, row_group_size=7, compression="gzip")),
    good("stream by the ending of a file", EMB, A, m.stream(EMBS, rows=9)),
    good("feather by zstd", EMB, "bad.feather", m.arrow(EMBS, compression="zstd", rows=9)),
    good("json lines", EMB, "bad.jsonl", m.jsonl("emb", LISTS)),
    good("json lines, gzip'd", SCORES, "bad.jsonl.gz", gzip.compress(m.jsonl("s", m.SCORES.tolist()))),
    good("UTF-16", SCORES, C, "\r\n".join(["s", *map(str, m.SCORES)]).encode("utf-16")),
    good("lists in cells", EMB + " --emb-key e", C, csv("i,e", *(f'a,"{row}"' for row in LISTS))),
    good("columns of numbers", EMB, "bad.txt", csv("# two", "# lines", *(
        " ".join(map(str, row)) for row in LISTS))),
    good("decimal commas", SCORES, C, csv("i;s", *(f"a;{s}".replace(".", ",") for s in m.SCORES))),
    good("lists of lists", EMB, P, m.parquet({"emb": [[row] for row in LISTS]})),
    good("views of lists", EMB, A, m.arrow({"emb": pa.array(LISTS, pa.list_view(pa.float32()))})),
    good("decimals", SCORES, P, m.parquet({"s": [decimal.Decimal(str(s)) for s in m.SCORES]})),
    good("whole floats as labels of parquet", LABELS, P, m.parquet({"label": m.LABELS.astype("f8")})),
    good("lists of halves", EMB, A, m.arrow({"emb": pa.array(LISTS, pa.list_(pa.float16()))})),
    good("lists of dictionaries", EMB + " --emb-key emb", A, m.arrow({"emb": pa.ListArray.from_arrays(
        np.arange(0, 161, 4, dtype="i4"), pa.array(m.EMB.ravel()).dictionary_encode())})),
    good("dictionary of scores", SCORES, P, m.parquet({"s": pa.array(m.SCORES).dictionary_encode()})),
    good("dictionary of labels", LABELS, A, m.arrow({"label": pa.array(
        [f"class {v}" for v in m.LABELS]).dictionary_encode()})),
    good("numbered columns in any order", EMB, P, m.parquet(dict(reversed(FAMILY.items())))),
    good("csv with CRLF and a mark", EMB, C, b"\xef\xbb\xbf" + m.csv(FAMILY).replace(b"\n", b"\r\n")),
    good("tabs", EMB, "bad.tsv", m.csv(FAMILY).replace(b",", b"\t")),
    good("text without an end of line", SCORES, "bad.txt", "\n".join(map(str, m.SCORES)).encode()),
    good("scores by a name with a line break", SCORES, P, m.parquet({"a\nb": m.SCORES})),
    good("rows as uint8", EXCLUDE, "bad.npy", m.npy(np.array([3, 17, 5], "u1"))),
    good("rows as a mask", EXCLUDE, A, m.arrow({"gone": np.isin(np.arange(N), [3, 17, 5])})),
    good("rows in a csv", EXCLUDE, C, csv("index,why", "3,a", "17,b", "5,c")),
    good("rows twice", EXCLUDE, "bad.txt", b"3\n17\n5\n3\n"),
]  # fmt: skip
CASES = [*PARQUET, *ARROW, *TEXT, *GOOD]
