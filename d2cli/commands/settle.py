"""Defaults, recorded settings and what the user typed become one immutable object, once.

Run, plan, summary and provenance all read these. What depends on data, γ_r and the cutoff, may stay
``auto``: it is decided for each budget.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from d2cli import defaults
from d2cli.commands.requests import AUTO, Budget, GraphOptions, MessageOptions, ScoreOptions
from d2cli.defaults import (
    DIRECTIONS,
    MAX_HOPS,
    MODES,
    EdgeRule,
    HigherIs,
    Kernel,
    ModeName,
    Transform,
    choices,
)
from d2cli.errors import DataError, UsageError
from d2cli.files.score_file import recorded_direction
from d2cli.files.sources import Source
from d2cli.limits import check_hops, check_lift, check_search
from d2cli.messages.utility import usual_transform
from d2cli.runtime.decisions import Decision
from d2cli.selection.budgets import budget_of, check_size

Options = TypeVar("Options", ScoreOptions, MessageOptions)


# -- the graph -------------------------------------------------------------------------------------
def settle_graph(options: GraphOptions, *, exact: bool = False) -> GraphOptions:
    """The options of a search, in range; `exact` if the mode is defined on an exact graph."""
    check_search(
        options.n_neighbors, options.method, options.recall, options.hnsw_m,
        options.ef_construction, options.ef, options.seed,
    )  # fmt: skip
    return replace(options, method="exact") if exact else options


# -- messages --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Messages:
    """How messages pass, settled."""

    mode: ModeName
    edges: EdgeRule
    kernel: Kernel
    bandwidth: float | Literal["median"]
    gamma_forward: float
    hops: int
    floor: float | None
    clamped: bool
    exact: bool

    def check_method(self, method: str) -> None:
        """Refuse an approximate graph if the mode promises an exact one."""
        if self.exact and method != "exact":
            raise UsageError(
                f"--mode {self.mode} is defined on an exact graph, and this one is by {method}",
                "build it with --method exact",
            )

    @property
    def recorded(self) -> dict[str, Any]:
        """For provenance; the names are those of the options."""
        names = ("mode", "edges", "kernel", "bandwidth", "gamma_forward", "hops")
        return {name: getattr(self, name) for name in names}


def settle_messages(
    options: MessageOptions,
    higher_is: HigherIs,
    inherited: dict[str, Any] | None = None,
    path: str = "",
) -> Messages:
    """What is given by name, else what the propagated file `path` records, else the default.

    Defaults are those of the mode, and for hops that it leaves open, those of the direction.
    """
    given = _inherit(options, inherited or {}, path)
    name = given.mode or defaults.MODE
    mode = MODES[name]
    hops = given.hops
    if hops is None:
        hops = DIRECTIONS[higher_is].hops if mode.hops is None else mode.hops
    check_hops(hops)
    return Messages(
        mode=name,
        edges=given.edges or mode.edges,
        kernel=given.kernel or mode.kernel,
        bandwidth=mode.bandwidth if given.bandwidth is None else given.bandwidth,
        gamma_forward=mode.gamma_forward if given.gamma_forward is None else given.gamma_forward,
        hops=hops,
        floor=mode.floor,
        clamped=mode.clamped,
        exact=mode.exact,
    )


def scores_for_rule(
    own: NDArray[np.float64] | None, keep_lift: float | None, messages: Messages
) -> NDArray[np.float64] | None:
    """The scores before messages that the rule of γ_r may use, or None.

    A lift that is given is that of these scores. An automatic one leaves out forward messages if
    they are as by default; others are wanted.
    """
    usual = (defaults.HOPS, MODES[defaults.MODE].gamma_forward)
    wanted = (messages.hops, messages.gamma_forward) != usual
    return None if keep_lift is None and wanted else own


def settle_gamma_reverse(
    given: float | Literal["auto"] | None,
    keep_lift: float | None,
    messages: Messages,
    higher_is: HigherIs,
) -> tuple[float | Literal["auto"], float | None]:
    """γ_r as given, else the mode's; and the lift that an automatic one keeps.

    The lift is None if it depends on the budget, or γ_r is given.

    Raises:
        UsageError: if the mode has no automatic γ_r and none is given, or if a lift is to be kept
            and γ_r cannot be chosen.
    """
    gamma = MODES[messages.mode].gamma_reverse if given is None else given
    if keep_lift is not None:
        check_lift("keep_lift", keep_lift)
        if given not in (None, AUTO):
            raise UsageError(
                f"--keep-lift chooses gamma_reverse, and --gamma-reverse {given:g} gives it",
                "leave out one of the two",
            )
        if not messages.clamped:
            raise UsageError(
                f"--mode {messages.mode} has no automatic gamma_reverse, which --keep-lift needs",
                "use --mode default, or leave out --keep-lift and give --gamma-reverse a number",
            )
        return AUTO, keep_lift
    if gamma is None or (gamma == AUTO and not messages.clamped):
        raise UsageError(
            f"--mode {messages.mode} has no automatic gamma_reverse",
            "give it a number, for example --gamma-reverse 1.0",
        )
    return gamma, DIRECTIONS[higher_is].keep_lift if gamma == AUTO else None


def usual_cutoff(
    gamma: float | Literal["auto"], higher_is: HigherIs
) -> float | Literal["auto"]:  # fmt: skip
    """The cutoff if none is given, for scores of this direction."""
    return DIRECTIONS[higher_is].cutoff if gamma == AUTO else 0.0


# -- scores ----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Direction:
    """What the scores mean, settled.

    Attributes:
        higher_is: what a high score says.
        score_transform: what is applied to scores before messages; None: it depends on the scores.
        origin: where `higher_is` comes from: ``option``, ``recorded`` or ``default``.
        notices: what the user should know about it.
        lowest: the lowest score, if it decided the transform.
    """

    higher_is: HigherIs
    score_transform: Transform | None
    origin: str = "default"
    notices: tuple[str, ...] = ()
    lowest: float | None = None

    def of(self, scores: NDArray[np.float64]) -> Direction:
        """The same with the transform of these (n,) scores, n >= 1, of the rows that take part."""
        if self.score_transform is not None:
            return self
        transform = usual_transform(scores, self.higher_is)
        lowest = None if transform == defaults.TRANSFORM else float(scores.min())
        return replace(self, score_transform=transform, lowest=lowest)

    @property
    def recorded(self) -> dict[str, Any]:
        """For provenance; the names are those of the options."""
        transform = self.score_transform or defaults.TRANSFORM
        return {"higher_is": self.higher_is, "score_transform": transform}

    @property
    def text(self) -> str:
        """The meaning and why, for people."""
        why = {"option": "as given", "recorded": "as recorded", "default": "the default"}
        meaning = f"higher = {self.higher_is} ({why[self.origin]})"
        if self.lowest is not None:
            meaning += f", --score-transform {self.score_transform} because some are negative"
        return meaning

    @property
    def facts(self) -> dict[str, str]:
        """The meaning and why, for the provenance of the input."""
        return {"higher_is": self.higher_is, "higher_is_from": self.origin}

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """The automatic choices of `higher_is` and of a transform other than ``none``."""
        found = []
        if self.origin != "option":
            rule = "as d2prune score recorded it, else harder"
            numbers = {"origin": self.origin, "score_transform": self.recorded["score_transform"]}
            found.append(Decision("higher_is", self.higher_is, rule, numbers))
        if self.lowest is not None:
            rule = f"none; {self.score_transform} if a score is negative and higher = better"
            numbers = {"lowest_score": self.lowest}
            found.append(Decision("score_transform", self.score_transform, rule, numbers))
        return tuple(found)


def settle_direction(
    source: Source | None,
    options: ScoreOptions,
    option: str = "higher-is",
    inherited: dict[str, Any] | None = None,
    path: str = "",
) -> Direction:
    """What the scores mean: as given, else as recorded, else the default.

    An explicit ``--higher-is`` overrides the recorded direction, with a notice. Use it to keep easy
    examples. With a recorded direction and ``easier``, the transform is ``shift`` unless one is
    given: most values would be negative.

    Args:
        source: the scores, whose provenance may record a direction; None: there are none.
        options: what was given.
        option: the option that gives the direction, for the notice.
        inherited: what the propagated file `path` records: that step has settled it.
    """
    if inherited:
        given = _inherit(options, inherited, path)
        return _direction(given.higher_is, given.score_transform, "recorded")
    recorded = None if source is None else recorded_direction(source)
    if source is None or recorded is None:
        origin = "option" if options.higher_is else "default"
        settled = _direction(options.higher_is, options.score_transform, origin)
        if source is not None and origin == "default":
            settled = replace(settled, notices=contradiction(source, option))
        return settled
    kind, was = recorded
    higher_is = options.higher_is or was
    transform = options.score_transform
    if transform is None and _reversed(higher_is):
        transform = "shift"
    settled = _direction(higher_is, transform, "option" if options.higher_is else "recorded")
    notice = None
    if _reversed(higher_is) != _reversed(was):
        notice = (
            f"{source.name}: using --{option} {higher_is} as given, although {kind} scores are "
            f"recorded as higher = {was}"
        )
    elif options.higher_is is None and _reversed(was):
        notice = (
            f"{source.name}: {kind} scores are recorded as higher = {was}; using --{option} {was}"
        )
        if option == "higher-is":  # scores for the cutoff are only ordered
            notice += f" --score-transform {settled.score_transform}"
    return replace(settled, notices=(notice,)) if notice else settled


#: Words in the name of a column that tell its direction, where the default would be wrong.
_TELLING: dict[HigherIs, tuple[str, ...]] = {
    "better": (
        "similarity", "sim", "clip", "clipscore", "quality", "aesthetic", "aesthetics", "reward",
        "rating", "relevance", "preference", "educational", "edu", "helpfulness",
    ),
    "easier": (
        "aum", "confidence", "conf", "margin", "correctness", "correct", "accuracy", "acc",
        "likelihood", "logprob", "logprobs", "logp", "prob", "probability", "agreement",
        "typicality", "easiness",
    ),
    "harder": (
        "el2n", "grand", "loss", "losses", "forgetting", "entropy", "perplexity", "ppl",
        "difficulty", "hardness", "error", "uncertainty", "variability", "prototypicality",
        "influence", "nll",
    ),
}  # fmt: skip


def names_a_score(name: str) -> bool:
    """Whether the name of a column says that it holds scores."""
    return "score" in name.lower() or _told_by(name) is not None


def _told_by(name: str) -> HigherIs | None:
    """The direction that the words of a name tell; of several, that of the last."""
    words = re.split(r"[^a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower())
    for word in reversed(words):
        for higher_is, telling in _TELLING.items():
            if word in telling:
                return higher_is
    return None


def contradiction(source: Source, option: str) -> tuple[str, ...]:
    """A notice if the name of the scores contradicts the default direction."""
    names = [name for name in (source.column_name, source.parts[0].path.stem) if name]
    told = next((found for found in map(_told_by, names) if found is not None), None)
    if told is None or told == defaults.HIGHER_IS:
        return ()
    says = f"taken as higher = {defaults.HIGHER_IS}, the default"
    return (
        f"{source.name}: {says}, although the name suggests higher = {told}: "
        f"--{option} {told} or --{option} {defaults.HIGHER_IS} settles it",
    )


def _direction(higher_is: HigherIs | None, transform: Transform | None, origin: str) -> Direction:
    return Direction(higher_is or defaults.HIGHER_IS, transform, origin)


def _reversed(higher_is: str) -> bool:
    """Whether a direction reverses the order; ``harder`` and ``better`` read alike."""
    return higher_is == "easier"


# -- budgets ---------------------------------------------------------------------------------------
def settle_size(budget: Budget, n: int, taking_part: int | None = None, included: int = 0) -> int:
    """A budget in rows. n: all; taking_part: those that can be kept; included: that must be.

    For a budget in cost, the most rows that it may keep.
    """
    if budget.cost is not None:
        return n if taking_part is None else taking_part
    size = budget_of(budget.ratio or "nan", n) if budget.size is None else budget.size
    check_size(size, included, n if taking_part is None else taking_part)
    return size


# -- what an earlier step recorded -----------------------------------------------------------------
def _one_of(literal: object) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in choices(literal)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


_USABLE: dict[str, Callable[[Any], bool]] = {
    "higher_is": _one_of(HigherIs),
    "score_transform": _one_of(Transform),
    "mode": _one_of(ModeName),
    "edges": _one_of(EdgeRule),
    "kernel": _one_of(Kernel),
    "bandwidth": lambda value: value == "median" or (_is_number(value) and value > 0),
    "gamma_forward": lambda value: _is_number(value) and value >= 0,
    "hops": lambda value: type(value) is int and 0 <= value <= MAX_HOPS,
}
#: Settings that the propagated file has fixed; another value is refused.
_FIXED = ("mode", "gamma_forward", "hops", "higher_is", "score_transform")


def check_recorded(parameters: dict[str, Any], path: str) -> None:
    """Refuse a parameter, recorded beside `path`, that no option would take.

    Raises:
        DataError: naming it.
    """
    for name, usable in _USABLE.items():
        value = parameters.get(name)
        if value is not None and not usable(value):
            raise DataError(
                f"{path}: the provenance beside it records {name} as {str(value)[:40]!r}",
                "run propagate again",
            )


def _inherit(options: Options, parameters: dict[str, Any], path: str) -> Options:
    """Options with what is None taken from the parameters of the step that made `path`.

    Raises:
        UsageError: if an option contradicts what that step has settled.
    """
    taken = {}
    for name in (f.name for f in fields(options)):
        given, was = getattr(options, name), parameters.get(name)
        if given is None:
            taken[name] = was
        elif name in _FIXED and was is not None and given != was:
            flag = "--" + name.replace("_", "-")
            raise UsageError(
                f"{path}: was propagated with {flag} {was}, and {flag} {given} comes too late",
                f"give {flag} to propagate, or leave it out here",
            )
    return replace(options, **taken)
