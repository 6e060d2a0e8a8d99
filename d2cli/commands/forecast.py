"""The time of a run as ``--pilot`` measured it on samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Above this ratio of all rows to sampled rows, a notice is printed.
FAR = 8


@dataclass(frozen=True)
class Forecast:
    """The time of a run, extrapolated from runs on samples.

    Attributes:
        seconds: by stage.
        rows: of the whole run.
        sampled: the two sample sizes, the second the larger.
        threads: of both.
    """

    seconds: dict[str, float]
    rows: int
    sampled: tuple[int, int]
    threads: int

    @property
    def total(self) -> float:
        """Seconds of all stages."""
        return sum(self.seconds.values())

    def as_json(self) -> dict[str, Any]:
        """For programs; seconds."""
        stages = {stage: round(value, 3) for stage, value in self.seconds.items()}
        return {
            "seconds": {**stages, "total": round(self.total, 3)},
            "rows": self.rows,
            "sampled_rows": list(self.sampled),
        }

    def line(self) -> tuple[str, str]:
        """(label, text) for people."""
        longest = sorted(self.seconds.items(), key=lambda stage: -stage[1])[:3]
        most = ", ".join(f"{stage} {_duration(value)}" for stage, value in longest)
        return (
            "time",
            f"about {_duration(self.total)} on {self.threads} thread"
            f"{'s' if self.threads > 1 else ''} ({most}), from runs on "
            f"{self.sampled[0]:,} and {self.sampled[1]:,} of {self.rows:,} rows",
        )

    def notices(self) -> list[str]:
        """A notice if the extrapolation reaches far."""
        factor = self.rows / self.sampled[1]
        if factor <= FAR:
            return []
        return [
            f"the time is extrapolated from 1/{factor:,.0f} of the rows: neighbours that are "
            "harder to find among all rows than in the sample take longer"
        ]


def _duration(seconds: float) -> str:
    """At most two figures, since no more is known."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"
