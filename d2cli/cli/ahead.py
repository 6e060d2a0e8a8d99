"""A look ahead of a run: ``--plan`` and ``--max-memory``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from d2cli.cli.console import CONSOLE, show_labelled, show_notices
from d2cli.errors import D2Error
from d2cli.runtime.units import parse_size

if TYPE_CHECKING:
    from d2cli.commands.plan import Plan


def look_ahead(plan_of: Callable[[], Plan], only: bool, max_memory: str | None) -> bool:
    """Whether the run is to go on.

    Args:
        plan_of: makes the plan.
        only: ``--plan``: show it, and that is all.
        max_memory: ``--max-memory`` as it was written.

    Raises:
        LimitError: if the run is predicted to need more than `max_memory`.
        UsageError: if `max_memory` is no size.
    """
    from d2cli.commands.plan import check_limit, shortage

    limit = None if max_memory is None else parse_size(max_memory, "max-memory")
    try:
        plan = plan_of()
    except D2Error:
        if only or limit is not None:
            raise
        return True  # the run itself says what is wrong
    if only:
        _show(plan)
    if limit is not None:
        check_limit(plan, limit)
    elif not only:
        show_notices(shortage(plan))
    return not only


def _show(plan: Plan) -> None:
    """The plan is what was asked for: it goes to standard output."""
    from d2cli.commands.plan import Machine

    machine = Machine.now(plan.threads)
    if CONSOLE.json:
        print(json.dumps(plan.as_json(machine), indent=2))
        return
    show_labelled(plan.lines(machine))
    show_notices(plan.notices(machine))
