"""Files of two inputs that are paired by their place."""

import numpy as np
import pytest

from d2cli.errors import DataError
from d2cli.files.frame import Frame
from d2cli.files.sources import open_source


def joined(names, others, sizes=(3, 3), id_column=None):
    """Join scores, one file for each of `others`, to embeddings of files with these `names`."""
    for name in names:
        np.save(name, np.ones((3, 2)))
    for name, size in zip(others, sizes, strict=True):
        np.save(name, np.ones(size))
    emb = open_source(list(names), "embeddings", "emb")
    return Frame.of(emb, id_column).vector(open_source(list(others), "scores", "scores"))[0]


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("e", "s"):
        (tmp_path / folder).mkdir()


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (("e/a.npy", "e/b.npy"), ("s/a.npy", "s/b.npy")),
        (("e/a.npy", "e/b.npy"), ("s/one.npy", "s/two.npy")),
        (("e/img_0.npy", "e/img_1.npy"), ("s/score_0.npy", "s/score_1.npy")),
        (("e/img_0.npy", "e/img_1.npy"), ("s/score_1.npy", "s/score_2.npy")),
        (("e/img_00.npy", "e/img_10.npy"), ("s/first.npy", "s/score_1.npy")),
    ],
)
def test_files_that_may_belong_together_are_joined(names, others):
    assert joined(names, others).size == 6


@pytest.mark.parametrize(
    ("names", "others"),
    [
        (("e/a.npy", "e/b.npy"), ("s/b.npy", "s/a.npy")),
        (("e/a.npy", "e/c.npy"), ("s/a.npy", "s/b.npy")),
        (("e/img_0.npy", "e/img_1.npy"), ("s/score_1.npy", "s/score_0.npy")),
        (("e/img_0.npy", "e/img_2.npy"), ("s/score_0.npy", "s/score_1.npy")),
    ],
)
def test_files_of_other_names_are_refused(names, others):
    with pytest.raises(DataError, match="by its place, and not by its n"):
        joined(names, others)
    assert joined(names, others, id_column="none").size == 6


def test_files_of_other_sizes_are_refused():
    with pytest.raises(DataError, match=r"s/c.npy: has 4 rows, and e/a.npy, its partner, has 3"):
        joined(("e/a.npy", "e/b.npy"), ("s/c.npy", "s/d.npy"), (4, 2))
