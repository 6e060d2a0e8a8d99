"""Pictures and captions: open icon sets, rendered once and kept in a folder.

The npm package is fetched by ``npm pack`` with a fixed version and checksum. No picture is shipped.
Sets whose licence is not in LICENCES are left out: non-commercial, GPL, or unknown.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from methods import save

PACKAGE, VERSION = "@iconify/json", "2.2.535"
#: The sha512 of the packed package, as npm writes it.
INTEGRITY = (
    "sha512-nAV60ACUSHwnsb6fsp+letHlNkrwO4vzBtcC6B4EDHErQQfezk7E3nJdnwJjve6O"
    "CfMNO0uVT5Vrgna9/NCmXw=="
)
#: SPDX identifiers of the licences of the sets that are used.
LICENCES = (
    *("MIT", "Apache-2.0", "ISC", "BSD-3-Clause", "MPL-2.0", "OFL-1.1", "Unlicense", "CC0-1.0"),
    *("CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0"),
)
#: Sets that are held out whole, and the endings of the names of their styles: an icon whose name is
#: that of another one with such an ending shows the same thing in another style.
HELD_OUT: dict[str, tuple[str, ...]] = {
    "openmoji": (),
    "ph": ("-thin", "-light", "-bold", "-fill", "-duotone"),
    "tabler": ("-filled",),
    "healthicons": ("-negative", "-24px", "-outline", "-outline-24px"),
    "fluent-emoji-flat": ("-light", "-medium-light", "-medium", "-medium-dark", "-dark"),
}
#: Sets of the same pictures as a held-out set, which are in no part.
SIBLINGS = ("fluent-emoji", "fluent-emoji-high-contrast", "fluent-mdl2")
SIDE = 32  #: pixels
_NAMESPACES = (
    'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'  # names only
)


@dataclass(frozen=True)
class Icons:
    """All n icons that are used, the held-out sets included.

    Attributes:
        pictures: (n, 32, 32, 3) uint8.
        sets: (n,) str, the set of each icon.
        names: (n,) str, unique within a set.
        captions: (n,) int64, the row in `texts` of each icon's caption.
        texts: (m, 384) float32, the embedding of each distinct caption.
        training: (t,) int64, the rows of :func:`training_rows`.
    """

    pictures: np.ndarray
    sets: np.ndarray
    names: np.ndarray
    captions: np.ndarray
    texts: np.ndarray
    training: np.ndarray


def training_rows(pictures: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Return the rows of the sets that are not held out, without pictures of the sets that are.

    Some sets contain icons of a held-out set, pixel for pixel.
    """
    held = np.isin(sets, [*HELD_OUT])
    taken = {_digest(pictures[row]) for row in np.flatnonzero(held)}
    return np.array([r for r in np.flatnonzero(~held) if _digest(pictures[r]) not in taken])


def caption_of(name: str) -> str:
    """The name with dashes as spaces."""
    return name.replace("-", " ")


def concept_of(name: str, styles: tuple[str, ...], names: set[str]) -> str:
    """The name of the icon of `names` that `name` is a style of, or `name` itself."""
    for ending in sorted(styles, key=len, reverse=True):
        stem = name.removesuffix(ending)
        if stem != name and stem in names:
            return stem
    return name


def load(folder: Path) -> Icons:
    """Return the icons; fetch, render and embed them if the folder does not have them."""
    listed = folder / "icons.json"
    files = pictures, texts, training = [
        folder / f"{name}.npy" for name in ("pictures", "texts", "training")
    ]
    if not listed.exists():
        _render(_fetched(folder), listed, pictures)
    table = json.loads(listed.read_text())
    names, sets = np.array(table["names"]), np.array(table["sets"])
    distinct, captions = np.unique([caption_of(n) for n in table["names"]], return_inverse=True)
    if not texts.exists():
        save(texts, _embed(distinct.tolist()))
    if not training.exists():
        save(training, training_rows(np.load(pictures, mmap_mode="r"), sets))
    loaded = [np.load(path, mmap_mode="r") for path in files]
    return Icons(loaded[0], sets, names, captions, loaded[1], np.asarray(loaded[2]))


def check_integrity(content: bytes, integrity: str = INTEGRITY) -> None:
    """Exit with one line unless `content` has the sha512 of `integrity`, in npm's form."""
    found = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if found != integrity:
        raise SystemExit(f"icons.py: {PACKAGE}@{VERSION} has another checksum: {found}")


def _fetched(folder: Path) -> Path:
    """Return the packed npm package with the right checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"iconify-json-{VERSION}.tgz"
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as partial:
            command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", partial]
            if subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode:
                raise SystemExit(f"icons.py: {' '.join(command[:3])} failed; is npm installed?")
            (packed,) = Path(partial).glob("*.tgz")
            packed.replace(path)
    check_integrity(path.read_bytes())
    return path


def read_sets(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the contents of the file of each set in the package, by name."""
    with tarfile.open(path) as package:
        for member in sorted(package, key=lambda m: m.name):
            if member.name.startswith("package/json/") and member.name.endswith(".json"):
                file = package.extractfile(member)
                assert file is not None
                yield json.load(file)


def is_used(one: dict[str, Any]) -> bool:
    """Whether a set has a licence of LICENCES and is no sibling of a held-out set."""
    licence = (one.get("info") or {}).get("license") or {}
    return licence.get("spdx") in LICENCES and one["prefix"] not in SIBLINGS


def drawings(one: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, SVG) of each icon of a set that is not hidden; no aliases."""
    for name, icon in one["icons"].items():
        if icon.get("hidden"):
            continue
        left, top, width, height = (
            icon.get(key, one.get(key, default))
            for key, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
        )
        view = f'width="{SIDE}" height="{SIDE}" viewBox="{left} {top} {width} {height}"'
        yield name, f"<svg {_NAMESPACES} {view}>{icon['body']}</svg>"


def _render(package: Path, listed: Path, pictures: Path) -> None:
    """Write the table of the icons and their pictures; blank pictures are left out."""
    import resvg_py
    from PIL import Image

    sets, names, rendered = [], [], []
    for one in read_sets(package):
        if not is_used(one):
            continue
        for name, svg in drawings(one):
            try:
                png = resvg_py.svg_to_bytes(
                    svg_string=svg, background="white", skip_system_fonts=True
                )
            except ValueError:  # a few icons are no valid SVG
                continue
            picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
            if (picture == picture[0, 0]).all():
                continue
            sets.append(one["prefix"])
            names.append(name)
            rendered.append(picture)
        print(f"rendered {one['prefix']}: {len(names):,} icons so far", flush=True)
    save(pictures, np.stack(rendered))
    partial = listed.with_suffix(".partial")
    partial.write_text(json.dumps({"sets": sets, "names": names}))
    partial.replace(listed)


def _embed(captions: list[str]) -> np.ndarray:
    """Return the MiniLM embeddings (m, 384) float32 of captions."""
    sys.path.append(str(Path(__file__).resolve().parents[2] / "bench"))
    from inputs import embed_texts

    return embed_texts(captions)


def _digest(picture: np.ndarray) -> bytes:
    return hashlib.md5(picture.tobytes()).digest()


def licences(path: Path) -> dict[str, list[str]]:
    """Return the names of the used sets by licence."""
    found: dict[str, list[str]] = {}
    for one in read_sets(path):
        if is_used(one) and any(True for _ in drawings(one)):
            found.setdefault(one["info"]["license"]["spdx"], []).append(one["prefix"])
    return found


def main() -> None:
    """Print the used sets by licence, as a table for the README."""
    build = Path(__file__).resolve().parents[2] / "build"
    for licence, prefixes in sorted(licences(_fetched(build / "multimodal")).items()):
        print(f"| {licence} | {len(prefixes)} | {', '.join(prefixes)} |")


if __name__ == "__main__":
    main()
