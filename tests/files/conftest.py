"""Fixtures that compare a selection with that of plain ``.npy`` files."""

from pathlib import Path

import pytest


@pytest.fixture
def expected(data, select):
    """The selection from plain ``.npy`` files."""
    assert select("--emb", "emb.npy", "--scores", "scores.npy", "--ratio", "0.4")[0] == 0
    return Path("selected.npy").read_bytes()


@pytest.fixture
def same(expected, select):
    """Run a selection that must equal the plain one and print nothing."""

    def call(*args, emb="emb.npy", scores="scores.npy"):
        code, out, err = select(
            "-q", "--emb", emb, "--scores", scores, "--ratio", "0.4", *args, "--out", "same.npy"
        )
        assert (code, out, err) == (0, "", "")
        assert Path("same.npy").read_bytes() == expected

    return call
