"""Write docs/picture.svg from the sample data: ``python -m docs.build_picture``.

Three maps of the same 5,000 images: all rows, the rows with the highest scores, and the rows that
d2prune keeps. Colour is the EL2N score. The places are a t-SNE map of the embeddings.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from d2cli import build_graph, propagate, select

PICTURE = Path(__file__).with_name("picture.svg")
DATA = Path(__file__).parent.parent / "sample_data"

RATIO = 0.1
#: Panel width and height, and the gap between panels, in SVG units.
SIDE, GAP, TOP, BOTTOM = 300, 18, 46, 40
#: Upper ends of the score classes, and their colours from easy to hard.
LEVELS = (0.05, 0.2, 0.5, 0.9, np.inf)
COLOURS = ("#9ecae1", "#4292c6", "#807dba", "#e6550d", "#a50f15")
NAMES = ("below 0.05", "0.05 to 0.2", "0.2 to 0.5", "0.5 to 0.9", "above 0.9")


def main() -> None:
    """Write the picture."""
    embeddings, scores = np.load(DATA / "emb.npy"), np.load(DATA / "scores.npy")
    n = scores.size
    size = round(RATIO * n)
    graph = build_graph(embeddings)
    kept = select(graph, propagate(graph, scores), size, difficulty=scores).order
    highest = np.argsort(-scores, kind="stable")[:size]
    panels = [
        (f"all {n:,} rows", np.arange(n)),
        (f"the {size} highest scores", highest),
        (f"the {size} rows that d2prune keeps", kept),
    ]
    PICTURE.write_text(_drawing(_places(embeddings), embeddings, scores, panels), encoding="utf-8")


def _places(embeddings: NDArray[np.float32]) -> NDArray[np.int64]:
    """(n, 2) whole SVG units: a t-SNE map that starts from the two first principal axes."""
    with threadpool_limits(1):
        axes = PCA(50, svd_solver="full").fit_transform(embeddings.astype(np.float64))
        start = (axes[:, :2] / axes[:, 0].std() * 1e-4).astype(np.float32)
        map_ = TSNE(init=start, random_state=0).fit_transform(axes.astype(np.float32))
    low, high = map_.min(axis=0), map_.max(axis=0)
    inner = SIDE - 16
    return np.rint(8 + (map_ - low) / (high - low) * inner).astype(np.int64)


def _drawing(
    places: NDArray[np.int64],
    embeddings: NDArray[np.float32],
    scores: NDArray[np.float32],
    panels: list[tuple[str, NDArray[np.int64]]],
) -> str:
    """The whole picture as SVG."""
    width, height = 3 * SIDE + 2 * GAP, TOP + SIDE + BOTTOM
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-1 0 {width + 2} {height}" '
        'font-family="Helvetica, Arial, sans-serif" fill="#222222">',
        "<title>What is kept of the sample data, by score alone and by d2prune</title>",
        f'<rect x="-1" width="{width + 2}" height="{height}" fill="#ffffff"/>',
        f'<defs><path id="all" d="{_dots(places)}" fill="none" stroke="#e2e2e2" '
        'stroke-width="2.4" stroke-linecap="round"/></defs>',
    ]
    for number, (title, rows) in enumerate(panels):
        everything = rows.size == scores.size
        parts.append(f'<g transform="translate({number * (SIDE + GAP)} 0)">')
        parts.append(f'<text x="{SIDE / 2}" y="18" font-size="15" text-anchor="middle">')
        parts.append(f"{title}</text>")
        reach = _mean_distance(embeddings, rows)
        if not everything:
            parts.append(
                f'<text x="{SIDE / 2}" y="36" font-size="12" fill="#666666" text-anchor="middle">'
                f"mean distance of a row to the nearest kept row: {reach:.2f}</text>"
            )
        parts.append(f'<g transform="translate(0 {TOP})">')
        parts.append(f'<rect width="{SIDE}" height="{SIDE}" fill="#fafafa" stroke="#d0d0d0"/>')
        if not everything:
            parts.append('<use href="#all"/>')
        level = np.searchsorted(LEVELS, scores[rows])
        for number_of_level, colour in enumerate(COLOURS):
            dots = _dots(places[rows[level == number_of_level]])
            if dots:
                parts.append(
                    f'<path d="{dots}" fill="none" stroke="{colour}" '
                    f'stroke-width="{3 if everything else 5}" stroke-linecap="round"/>'
                )
        parts.append("</g></g>")
    parts.append(f'<g font-size="13" transform="translate(170 {TOP + SIDE + 26})">')
    parts.append('<text x="-16" text-anchor="end">EL2N score</text>')
    for number, (name, colour) in enumerate(zip(NAMES, COLOURS, strict=True)):
        at = number * 132
        parts.append(f'<circle cx="{at}" cy="-4" r="5" fill="{colour}"/>')
        parts.append(f'<text x="{at + 11}">{name}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def _dots(places: NDArray[np.int64]) -> str:
    """A path of one point per row: drawn as dots where line ends are round."""
    at, text = (0, 0), []
    for x, y in sorted(map(tuple, places.tolist())):
        text.append(f"m{x - at[0]} {y - at[1]}h0")
        at = (x, y)
    return "".join(text).replace(" -", "-")


def _mean_distance(embeddings: NDArray[np.float32], kept: NDArray[np.int64]) -> float:
    """Mean Euclidean distance from each row to the nearest kept row."""
    rows, chosen = embeddings.astype(np.float64), embeddings[kept].astype(np.float64)
    squares = (rows**2).sum(axis=1)[:, None] - 2 * rows @ chosen.T + (chosen**2).sum(axis=1)
    return float(np.sqrt(np.maximum(squares.min(axis=1), 0)).mean())


if __name__ == "__main__":
    main()
