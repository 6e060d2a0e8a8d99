"""The fixture of the field cases."""

import pytest

from tests.field.make import Field


@pytest.fixture
def field(run_cli, tmp_path):
    """Runs commands in an empty folder and checks what they select."""
    return Field(run_cli, tmp_path)
