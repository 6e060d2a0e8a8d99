"""The fixture of the field cases, which run with the compiler only."""

from pathlib import Path

import pytest

from tests.field.make import Field
from tests.marks import compiled

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(compiled)


@pytest.fixture
def field(run_cli, tmp_path):
    """Runs commands in an empty folder and checks what they select."""
    return Field(run_cli, tmp_path)
