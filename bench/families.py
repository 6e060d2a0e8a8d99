"""Build the data sets on which kNN graphs are compared, and their true neighbours.

    python bench/families.py [NAME ...] --out DIR [--seed N]

NAME is a data set or a family; without a name, every set is built. Each set is DIR/NAME.npy, and
DIR/NAME_truth.npz holds the distances of the true neighbours of a random sample of its rows:

    rows       int64 (500,), ascending
    distances  float64 (500, 30), ascending, Euclidean; to other rows, equal rows included

Existing files are not changed. The sets of Gaussian and uniform draws depend on --seed, so that
settings tuned on one seed can be measured on another.

| family    | sets | rows |
| --------- | ---- | ---- |
| text      | wordnet_117k × 384, text_svd × 200 | sentence embeddings; TF-IDF and SVD |
| images    | fm_60k × 784, high_40k × 4096 | Fashion-MNIST pixels; random ReLU features of them |
| clustered | clustered_125k … clustered_4m × 128 | tight clusters of about 200 rows |
| gmm       | gmm_125k … gmm_4m × 128 | 1,000 overlapping clusters (bench/inputs.py) |
| powerlaw  | powerlaw_250k × 64 | cluster sizes by Zipf's law, scales 1 to 1,000 |
| dups      | dups_200k × 96 | rows with thousands of equal and of nearly equal copies |
| iid       | iid_200k × 16, iid_100k × 32 | standard normal |
"""

from __future__ import annotations

import argparse
import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from inputs import (
    FASHION_MNIST,
    LINUX_DOC,
    REPOSITORY,
    SYNTHETIC_BLOCK,
    SYNTHETIC_DIMENSIONS,
    WORDNET,
    Mixture,
    complete,
    need_debian,
    read_wordnet,
    tfidf_svd,
    wordnet,
)

DATA = REPOSITORY / "build" / "bench-knn"
TRUTH_ROWS, TRUTH_K = 500, 30
#: Candidates of a row whose distances are computed anew from differences: products of large values
#: that almost cancel are exact to about 1e-16 of the squared norms only.
TRUTH_CANDIDATES = 64
TRUTH_SEED = 1
BLOCK = 100_000
DICTIONARY_FOLDER, DICTIONARIES = Path("/usr/share/dictd"), ("gcide", "foldoc", "jargon")
SIZES = {
    "125k": 125_000,
    "250k": 250_000,
    "500k": 500_000,
    "1m": 1_000_000,
    "2m": 2_000_000,
    "4m": 4_000_000,
}


# -- synthetic ------------------------------------------------------------------------------------
def clustered(path: Path, n: int, seed: int) -> None:
    """Write float16 (n, 128): n / 200 clusters of about 200 rows.

    The centres are standard normal. Each cluster has one of 64 random 24-dimensional spreads and
    noise in all dimensions.
    """
    d, spreads_in_all, intrinsic = 128, 64, 24
    rng = np.random.default_rng(seed)
    clusters = n // 200
    centres = rng.standard_normal((clusters, d), dtype=np.float32)
    spreads = rng.standard_normal((spreads_in_all, intrinsic, d), dtype=np.float32)
    spreads /= np.sqrt(intrinsic)
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, d))
    for start in range(0, n, BLOCK):
        stop = min(n, start + BLOCK)
        cluster = rng.integers(0, clusters, stop - start)
        factors = rng.standard_normal((stop - start, intrinsic), dtype=np.float32)
        block = centres[cluster]
        for spread in range(spreads_in_all):
            members = np.flatnonzero(cluster % spreads_in_all == spread)
            block[members] += 0.9 * (factors[members] @ spreads[spread])
        block += 0.05 * rng.standard_normal(block.shape, dtype=np.float32)
        rows[start:stop] = block
    rows.flush()


def gmm(path: Path, n: int, seed: int) -> None:
    """Write float32 (n, 128): the Gaussian mixture of bench/inputs.py; a prefix of larger sets."""
    mixture = Mixture(seed)
    rows = np.lib.format.open_memmap(path, "w+", np.float32, (n, SYNTHETIC_DIMENSIONS))
    for number, start in enumerate(range(0, n, SYNTHETIC_BLOCK)):
        rows[start : start + SYNTHETIC_BLOCK] = mixture.block(number)
    rows.flush()


def powerlaw(path: Path, n: int, seed: int) -> None:
    """Write float32 (n, 64): densities over many orders of magnitude, in groups far apart.

    - 40 groups of 50 clusters; the size of a cluster is 1 / rank (Zipf's law), ranks in random
      order.
    - A group has a scale between 1 and 1,000, equally likely in the logarithm, and its clusters
      scales of 1/3 to 3 times that; centres of clusters lie 3 scales of the group apart.
    - Each cluster has a 10-dimensional spread and a twentieth of it as noise in all dimensions.
    - Groups lie about 22,000 apart.
    """
    d, groups, clusters_per_group, intrinsic = 64, 40, 50, 10
    rng = np.random.default_rng(seed)
    clusters = groups * clusters_per_group
    weights = 1.0 / rng.permutation(np.arange(1, clusters + 1))
    group = np.repeat(np.arange(groups), clusters_per_group)
    group_scale = 10.0 ** rng.uniform(0, 3, groups)
    scale = group_scale[group] * 3.0 ** rng.uniform(-1, 1, clusters)
    # The distance of two normal centres is about sqrt(2 d) times their standard deviation.
    centres = 2000.0 * rng.standard_normal((groups, d))[group]
    offsets = rng.standard_normal((clusters, d)) * group_scale[group][:, None]
    centres += 3.0 * offsets / np.sqrt(2 * d)
    spreads = rng.standard_normal((clusters, intrinsic, d)) / np.sqrt(d)
    cluster = rng.choice(clusters, n, p=weights / weights.sum())
    factors = rng.standard_normal((n, intrinsic))
    rows = rng.standard_normal((n, d)) * 0.05 / np.sqrt(d)
    for number in range(clusters):
        members = np.flatnonzero(cluster == number)
        rows[members] += factors[members] @ spreads[number]
        rows[members] *= scale[number]
        rows[members] += centres[number]
    np.save(path, rows.astype(np.float32))


def dups(path: Path, n: int, seed: int) -> None:
    """Write float32 (n, 96): clusters, with copies in random places.

    Of the rows, 16 % are equal copies of 8 rows, 12 % nearly equal copies of 6 rows (noise of 1e-3
    of the spread), 12 % copies of rows that have 2 to 10 of them.
    """
    d, intrinsic, clusters = 96, 16, 2000
    rng = np.random.default_rng(seed)
    equal, near, few = (int(share * n) for share in (0.16, 0.12, 0.12))
    base = n - equal - near - few
    rows = np.empty((n, d), np.float32)
    centres = rng.standard_normal((clusters, d), dtype=np.float32)
    spreads = rng.standard_normal((64, intrinsic, d), dtype=np.float32) / np.sqrt(intrinsic)
    cluster = rng.integers(0, clusters, base)
    factors = rng.standard_normal((base, intrinsic), dtype=np.float32)
    for spread in range(64):
        members = np.flatnonzero(cluster % 64 == spread)
        rows[members] = factors[members] @ spreads[spread]
    rows[:base] += centres[cluster]
    rows[:base] += 0.05 * rng.standard_normal((base, d), dtype=np.float32)
    copied = rng.permutation(base)
    heavy, blurred, light = copied[:8], copied[8:14], copied[14:]
    rows[base : base + equal] = rows[np.resize(heavy, equal)]
    stop = base + equal + near
    rows[base + equal : stop] = rows[np.resize(blurred, near)]
    rows[base + equal : stop] += 1e-3 * rng.standard_normal((near, d), dtype=np.float32)
    counts = rng.integers(2, 11, few)  # more than are used
    rows[stop:] = rows[np.repeat(light[: few // 2], counts[: few // 2])[:few]]
    np.save(path, rows[rng.permutation(n)])


def iid(path: Path, n: int, d: int, seed: int) -> None:
    """Write float32 (n, d), standard normal."""
    np.save(path, np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32))


# -- real -----------------------------------------------------------------------------------------
def pixels() -> np.ndarray:
    """Return the pixels of the training images, float32 (60000, 784), 0 to 255."""
    images = FASHION_MNIST / "train-images-idx3-ubyte.gz"
    need_debian("dataset-fashion-mnist", images)
    with gzip.open(images) as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 784).astype(np.float32)


def fashion_pixels(path: Path) -> None:
    """Write the pixels of Fashion-MNIST."""
    np.save(path, pixels())


def random_features(path: Path, n: int, d: int, seed: int) -> None:
    """Write float16 (n, d): max(0, x W + b) of the pixels x in units of 255, W and b normal."""
    images = pixels()[:n] / 255
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((images.shape[1], d), dtype=np.float32) / 28
    shift = 0.1 * rng.standard_normal(d, dtype=np.float32)
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, d))
    for start in range(0, n, 10_000):
        block = images[start : start + 10_000] @ weights
        rows[start : start + 10_000] = np.maximum(block + shift, 0)
    rows.flush()


def paragraphs() -> list[str]:
    """Return the different paragraphs of at least six words of dictionaries and documentation."""
    texts = []
    for name in DICTIONARIES:
        path = DICTIONARY_FOLDER / f"{name}.dict.dz"
        need_debian(f"dict-{name}", path)
        texts.append(gzip.decompress(path.read_bytes()))
    need_debian(LINUX_DOC.name, LINUX_DOC)
    for path in sorted((LINUX_DOC / "Documentation").rglob("*.gz")):
        texts.append(gzip.decompress(path.read_bytes()))
    need_debian("wordnet-base", WORDNET / "data.noun")
    found = dict.fromkeys(read_wordnet()[1])
    for text in texts:
        for paragraph in re.split(r"\n[ \t]*\n|\[1913 Webster\]", text.decode("utf-8", "replace")):
            words = paragraph.split()
            if len(words) >= 6:
                found[" ".join(words)] = None
    return list(found)


def text_svd(path: Path, seed: int) -> None:
    """Write float32 (rows, 200), unit length: TF-IDF of the paragraphs and truncated SVD."""
    np.save(path, tfidf_svd(paragraphs(), seed)[0])


def sentences(path: Path) -> None:
    """Write the sentence embeddings of WordNet's glosses (bench/inputs.py)."""
    folder = path.parent.parent  # `path` is in a temporary folder of the output folder
    wordnet(folder)
    np.save(path, np.load(folder / "wordnet.npy"))


@dataclass(frozen=True)
class DataSet:
    """A set of rows: its family and the function that writes it to a path, given a seed."""

    family: str
    write: Callable[[Path, int], None]
    rows: int
    grows: bool = False  # one of the sizes of a family whose growth is compared


def _sized(draw: Callable[[Path, int, int], None], n: int, path: Path, seed: int) -> None:
    draw(path, n, seed)


def _sets() -> dict[str, DataSet]:
    sets = {
        "wordnet_117k": DataSet("text", lambda path, _: sentences(path), 117_659),
        "text_svd": DataSet("text", text_svd, 500_000),
        "fm_60k": DataSet("images", lambda path, _: fashion_pixels(path), 60_000),
        "high_40k": DataSet("images", lambda p, s: random_features(p, 40_000, 4096, s), 40_000),
        "powerlaw_250k": DataSet("powerlaw", lambda p, s: powerlaw(p, 250_000, s), 250_000),
        "dups_200k": DataSet("dups", lambda p, s: dups(p, 200_000, s), 200_000),
        "iid_200k": DataSet("iid", lambda p, s: iid(p, 200_000, 16, s), 200_000),
        "iid_100k": DataSet("iid", lambda p, s: iid(p, 100_000, 32, s), 100_000),
    }
    for name, n in SIZES.items():
        for family, draw in (("clustered", clustered), ("gmm", gmm)):
            write = partial(_sized, draw, n)
            sets[f"{family}_{name}"] = DataSet(family, write, n, grows=True)
    return sets


SETS = _sets()


# -- truth ----------------------------------------------------------------------------------------
def nearest(rows: np.ndarray, sample: np.ndarray, k: int) -> np.ndarray:
    """Return the ascending distances, float64 (len(sample), k), of the k nearest other rows."""
    queries = np.asarray(rows[sample], np.float64)
    # Distances do not change by a shift; products of rows near the origin cancel less.
    centre = queries.mean(axis=0)
    lengths = np.square(queries - centre).sum(axis=1)
    squares = np.full((len(sample), TRUTH_CANDIDATES), np.inf)
    found = np.zeros(squares.shape, np.int64)
    step = max(1024, 2**25 // rows.shape[1] // 8)
    for start in range(0, len(rows), step):
        block = np.asarray(rows[start : start + step], np.float64) - centre
        here = lengths[:, None] + np.square(block).sum(axis=1)
        here -= 2 * ((queries - centre) @ block.T)
        inside = (sample >= start) & (sample < start + len(block))
        here[inside, sample[inside] - start] = np.inf  # the row itself
        best = np.argpartition(here, min(TRUTH_CANDIDATES, here.shape[1]) - 1, axis=1)
        best = best[:, :TRUTH_CANDIDATES]
        squares = np.hstack([squares, np.take_along_axis(here, best, axis=1)])
        found = np.hstack([found, best + start])
        best = np.argpartition(squares, TRUTH_CANDIDATES - 1, axis=1)[:, :TRUTH_CANDIDATES]
        squares = np.take_along_axis(squares, best, axis=1)
        found = np.take_along_axis(found, best, axis=1)
    distances = np.empty((len(sample), TRUTH_CANDIDATES))
    for i, query in enumerate(queries):
        distances[i] = np.linalg.norm(np.asarray(rows[found[i]], np.float64) - query, axis=1)
    distances.sort(axis=1)
    return distances[:, :k]


def write_truth(path: Path, truth: Path) -> None:
    """Write the true distances of a sample of the rows of `path`."""
    rows = np.load(path, mmap_mode="r")
    sample = np.random.default_rng(TRUTH_SEED).choice(len(rows), TRUTH_ROWS, replace=False)
    sample.sort()
    with complete(truth) as temporary:
        np.savez(temporary, rows=sample, distances=nearest(rows, sample, TRUTH_K))


def build(name: str, out: Path, seed: int = 0) -> None:
    """Write the rows and the true distances of one set where they do not exist."""
    path, truth = out / f"{name}.npy", out / f"{name}_truth.npz"
    if not path.exists():
        with complete(path) as temporary:
            SETS[name].write(temporary, seed)
    if not truth.exists():
        write_truth(path, truth)


def chosen(names: list[str]) -> list[str]:
    """Return the sets that are named, themselves or by family; without names, all."""
    families = dict.fromkeys(data.family for data in SETS.values())
    found: dict[str, None] = {}
    for name in names or families:
        members = [name] if name in SETS else [s for s in SETS if SETS[s].family == name]
        if not members:
            raise SystemExit(f"unknown set {name!r}: choose from {', '.join([*families, *SETS])}")
        found.update(dict.fromkeys(members))
    return list(found)


def main() -> None:
    """Build the sets named on the command line."""
    parser = argparse.ArgumentParser(description="Build the data sets of the kNN benchmark.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="sets or families")
    parser.add_argument("--out", type=Path, default=DATA, metavar="DIR")
    parser.add_argument("--seed", type=int, default=0, help="of the synthetic sets")
    arguments = parser.parse_args()
    for name in chosen(arguments.names):
        build(name, arguments.out, arguments.seed)
        print(name, flush=True)


if __name__ == "__main__":
    main()
