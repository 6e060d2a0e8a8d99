"""Zero-shot tasks on the held-out sets: retrieval and classification. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from multimodal.icons import HELD_OUT, Icons, concept_of

RETRIEVED = 1500  #: pictures of a set among which one is searched for, or all if it has fewer
NEAREST = 5  #: a search succeeds if the right one is among this many
CONCEPTS = 400  #: names among which a picture is classified
#: Settings are chosen on these sets; the others are reported.
VALIDATION = ("openmoji", "ph")
TEST = tuple(name for name in HELD_OUT if name not in VALIDATION)
SEED = 20_231_011


@dataclass(frozen=True)
class Task:
    """The tasks of one held-out set; rows are those of the icons.

    Attributes:
        retrieval: (r,) rows of distinct concepts, for retrieval both ways.
        concepts: (c,) rows whose captions are the classes.
        pictures: (p,) rows to classify, in all styles of the concepts.
        classes: (p,) the place in `concepts` of each picture's class.
    """

    retrieval: np.ndarray
    concepts: np.ndarray
    pictures: np.ndarray
    classes: np.ndarray


def tasks_of(icons: Icons) -> dict[str, Task]:
    """Return the tasks of each held-out set; they are the same for every seed."""
    return {
        name: task_of(np.flatnonzero(icons.sets == name), icons.names, styles)
        for name, styles in HELD_OUT.items()
    }


def task_of(
    rows: np.ndarray, names: np.ndarray, styles: tuple[str, ...], *,
    retrieved: int = RETRIEVED, concepts: int = CONCEPTS,
) -> Task:  # fmt: skip
    """Draw the tasks of the set with these rows of `names`; variants of skin tone are left out."""
    rng = np.random.default_rng(SEED)
    here = {str(names[row]): int(row) for row in rows if "skin-tone" not in str(names[row])}
    of_concept: dict[str, list[int]] = {}
    for name, row in here.items():
        of_concept.setdefault(concept_of(name, styles, {*here}), []).append(row)
    order = [str(name) for name in rng.permutation(sorted(of_concept))]
    first = order[:concepts]
    pictures = [row for name in first for row in of_concept[name]]
    classes = [place for place, name in enumerate(first) for _ in of_concept[name]]
    return Task(
        np.array([here[name] for name in order[:retrieved]]),
        np.array([here[name] for name in first]),
        np.array(pictures),
        np.array(classes),
    )


def recall(images: np.ndarray, texts: np.ndarray, nearest: int = NEAREST) -> tuple[float, float]:
    """Return the share of rows found among the nearest, from image to text and from text to image.

    `images` and `texts` are (n, d) unit vectors; row i of both belong together. Equal cosines count
    against the right one.
    """
    cosines = images @ texts.T
    right = np.diag(cosines)
    to_text = (cosines >= right[:, None]).sum(axis=1) <= nearest
    to_image = (cosines >= right[None, :]).sum(axis=0) <= nearest
    return float(to_text.mean()), float(to_image.mean())


def accuracy(images: np.ndarray, concepts: np.ndarray, classes: np.ndarray) -> float:
    """Return the mean over the classes of the share of pictures whose nearest text is its class."""
    right = (images @ concepts.T).argmax(axis=1) == classes
    return float(np.mean(np.bincount(classes, right) / np.bincount(classes)))


def auc(right: np.ndarray, wrong: np.ndarray) -> float:
    """Return the probability that a score of `right` is above one of `wrong`; ties count half."""
    ordered = np.sort(wrong)
    below = np.searchsorted(ordered, right, "left") + np.searchsorted(ordered, right, "right")
    return float(below.mean() / (2 * len(wrong)))
