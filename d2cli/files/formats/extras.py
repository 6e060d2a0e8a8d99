"""Packages of optional extras, loaded when a file needs them."""

from __future__ import annotations

import importlib
from typing import Any

from d2cli.errors import DataError


def needed(module: str, extra: str, where: object) -> Any:
    """The `module` that the optional `extra` of d2prune installs.

    Raises:
        DataError: if it is not installed; `where` is the file that needs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise DataError(
            f"{where}: the package {package}, which reads it, is not installed",
            f"pip install 'd2prune[{extra}]'",
        ) from None
