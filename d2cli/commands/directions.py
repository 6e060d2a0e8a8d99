"""What the scores mean: as the user says, else as the step that made them recorded it."""

from __future__ import annotations

from dataclasses import replace

from d2cli.commands.requests import ScoreOptions
from d2cli.files.score_file import recorded_direction
from d2cli.files.sources import Source


def settle_direction(
    source: Source, options: ScoreOptions, option: str = "higher-is"
) -> tuple[ScoreOptions, list[str]]:
    """Options with every value settled, and what the user should notice.

    A direction that was recorded counts where none is given. One that is given counts even against
    the record, since whoever wants the easy examples has no other way to say so; but a notice names
    both. Where recorded scores are turned round they would nearly all be negative: they are
    shifted then, unless a transform is given.

    Args:
        source: the scores.
        options: what was given; None where nobody said.
        option: the option that gives the direction, for the notice.
    """
    recorded = recorded_direction(source)
    if recorded is None:
        return options.resolved(), []
    kind, was = recorded
    higher_is = options.higher_is or was
    transform = options.score_transform
    if transform is None and _turned(higher_is):
        transform = "shift"
    settled = replace(options, higher_is=higher_is, score_transform=transform).resolved()
    if _turned(higher_is) != _turned(was):
        return settled, [
            f"{source.name}: --{option} {higher_is} is used, as given, though of {kind} a high "
            f"score is recorded as {was}"
        ]
    if options.higher_is is None and _turned(was):
        return settled, [
            f"{source.name}: of {kind} a high score is recorded as {was}: read as --{option} "
            f"{was}, transform {settled.score_transform}"
        ]
    return settled, []


def _turned(higher_is: str) -> bool:
    """Whether a direction turns the order round: harder and better read alike."""
    return higher_is == "easier"
