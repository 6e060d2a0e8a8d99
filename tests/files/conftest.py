"""Fixtures that compare a selection with that of plain ``.npy`` files."""

from pathlib import Path

import pytest

from d2cli.files.output import folder_swap
from tests.faults import can_exchange


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


@pytest.fixture(params=["exchanged", "renamed"])
def exchanges(request, monkeypatch):
    """Both ways to replace a folder in the current one; true: names are exchanged in one step."""
    if request.param == "renamed":
        monkeypatch.setattr(folder_swap, "_exchange", lambda *_: False)
    elif not can_exchange():
        pytest.skip("needs renameat2, and a file system that exchanges names")
    return request.param == "exchanged"
