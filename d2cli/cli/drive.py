"""One run of any command: open, plan, and unless only the plan is wanted, work and show."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from d2cli.cli.console import (
    CONSOLE,
    progress_bar,
    show_labelled,
    show_notice,
    show_notices,
    show_summary,
)
from d2cli.errors import UsageError
from d2cli.runtime import compiling
from d2cli.runtime.streams import written

if TYPE_CHECKING:
    from d2cli.commands.budget import Room
    from d2cli.commands.finish import Summary, Terminal
    from d2cli.commands.plan import Plan
    from d2cli.commands.requests import RunOptions
    from d2cli.runtime.decisions import Decision

Request = TypeVar("Request")
#: Seconds that the kernels of a command take to compile: measured on two cores.
_COMPILE_SECONDS = {
    "ScoreRequest": 2,
    "PropagateRequest": 3,
    "GraphRequest": 6,
    "SelectRequest": 20,
    "ReportRequest": 6,
    "CompareRequest": 30,
}


class _HasRoom(Protocol):
    @property
    def room(self) -> Room:
        """The memory that the run keeps to."""


Job = TypeVar("Job", bound=_HasRoom)


def drive(
    request: Request,
    options: RunOptions,
    open_job: Callable[[Request, bool], Job],
    plan: Callable[[Job], Plan],
    work: Callable[[Job, Terminal], Summary],
) -> None:
    """Run one command.

    Args:
        request: what to do.
        options: how the run goes.
        open_job: opens and settles ``(request, skim)``; with `skim` a plan is all that follows.
        plan: views what was opened.
        work: does the work and writes the outputs.
    """
    from d2cli.commands.finish import Terminal
    from d2cli.commands.plan import before_work
    from d2cli.files.locate.remote import downloads

    if options.pilot and not options.plan:
        raise UsageError("--pilot forecasts the time of a plan: give --plan too")
    with downloads() as copies:
        with progress_bar() as progress:
            copies.report = progress
            job = open_job(request, options.plan and not options.pilot)
        copies.report = None
        if options.plan:
            found = plan(job)
            if options.pilot:
                from d2cli.commands.pilot import forecast

                time = forecast(request, job, open_job, work, found.threads)
                found = dataclasses.replace(found, time=time)
            _show_plan(found)
            return
        show_notices(before_work(lambda: plan(job), job.room))
        compiling.tell(_compiling_notice(_COMPILE_SECONDS[type(request).__name__]))
        with progress_bar() as progress:
            summary = work(job, Terminal(progress, show_notice, sys.stdout))
    show_summary(summary)
    if options.explain:
        _show_decisions(summary.decisions)


def _compiling_notice(seconds: int) -> compiling.Listener:
    """A listener that says that kernels are compiled, and for how long."""

    def say(cold: bool, kept: bool) -> None:
        if not kept:
            show_notice(
                f"compiling kernels: about {seconds} s in each run, because no folder can be "
                "written to keep them; NUMBA_CACHE_DIR names one"
            )
        else:
            duration = f"about {seconds} s" if cold else "some seconds"
            show_notice(f"compiling kernels, once: {duration}")

    return say


def _show_decisions(decisions: tuple[Decision, ...]) -> None:
    """Print each decision, its rule, and the numbers that the rule was applied to."""
    for decision in decisions:
        lines = [(decision.name, str(decision.value)), ("  rule", decision.rule)]
        for name, value in decision.numbers.items():
            several = value if isinstance(value, list) else [value]
            for one in ["{:g} … {:g}".format(*value)] if name == "bounds" else several:
                steps = one.items() if isinstance(one, dict) else ()
                lines.append((f"  {name}", ", ".join(f"{k} {v}" for k, v in steps) or str(one)))
        show_labelled(lines, sys.stderr)


def _show_plan(plan: Plan) -> None:
    """Print the plan, which is data: to standard output."""
    from d2cli.commands.plan import check_room

    with written(sys.stdout) as stdout:
        if CONSOLE.json:
            print(json.dumps(plan.as_json(), indent=2), file=stdout)
        else:
            show_labelled(plan.lines(), stdout)
    if not CONSOLE.json:
        show_notices(plan.notices())
    check_room(plan)
