"""What an audit found: a card with one probe for each thing that judges are known to get wrong."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from videoduet.errors import InputError

ProbeVerdict = Literal["passed", "failed", "cannot_tell", "does_not_apply"]
PROBES = (
    "order", "cycles", "repeatable", "reads_prompt", "sees_picture", "sees_time", "not_bribed", "not_still",
    "means_what_it_says", "answers", "agrees_with_people",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure of a probe: the mean ``value`` of ``n`` prompts, with its 95 % interval.

    Attributes:
        name: What was changed, or what is counted.
        least: The margin: a sound judge's figure is no lower (None: that is no fault).
        most: The margin on the other side.
        p: One-sided probability of such a figure, or a worse one, from a judge that is just at the margin; 1 where the
            figure is only told.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    least: float | None = None
    most: float | None = None
    p: float = 1.0

    @property
    def counts(self) -> bool:
        """Whether it has a margin that the probe's verdict hangs on."""
        return self.least is not None or self.most is not None

    @property
    def within(self) -> bool:
        """Whether the whole interval is on the good side of the margin."""
        return (self.least is None or self.low >= self.least) and (self.most is None or self.high <= self.most)

    def __str__(self) -> str:
        bounds = [f"at least {self.least:g}"] if self.least is not None else []
        bounds += [f"at most {self.most:g}"] if self.most is not None else []
        margin = f", sound: {' and '.join(bounds)}" if bounds else ""
        return f"{self.name} {self.value:.2f} ({self.low:.2f} to {self.high:.2f}{margin})"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A pair that the judge got wrong: the paths of what a sound judge prefers and of the other, and what was said."""

    prompt: str
    better: str
    other: str
    why: str
    said: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One question to the judge's soundness.

    Attributes:
        changed: What was changed in the videos, or in how they were asked about.
        sound: What a sound judge does.
        verdict: 'failed' is a figure beyond its margin after Holm's correction (1979) over all probes, at 5 %;
            'passed', all intervals on the good side of their margins; 'cannot_tell', neither: more videos would tell.
        measures: What this judge did.
        cases: Pairs that show it.
        reason: Why the probe does not apply, where it does not.
    """

    name: str
    changed: str
    sound: str
    verdict: ProbeVerdict
    measures: tuple[Measure, ...] = ()
    cases: tuple[Case, ...] = ()
    reason: str = ""

    @property
    def worst(self) -> Measure | None:
        """The figure that speaks most against the judge; None where none has a margin."""
        return min((measure for measure in self.measures if measure.counts), key=_goodness, default=None)


def _goodness(measure: Measure) -> tuple[float, float]:
    """Sort key: the figure nearest to a fault first, by its p, then by its distance from the margin."""
    distances = [measure.value - measure.least] if measure.least is not None else []
    distances += [measure.most - measure.value] if measure.most is not None else []
    return measure.p, min(distances)


@dataclass(frozen=True, kw_only=True)
class AuditCard:
    """What all probes found of one judge, by name, in the order of :data:`PROBES`."""

    probes: dict[str, Probe]
    judge: str = ""
    videos: int = 0
    questions: int = 0
    unanswered: int = 0

    def passed(self, names: Sequence[str] | None = None) -> bool:
        """Whether all these probes passed (None: whether none failed).

        Raises InputError for a name that no probe has.
        """
        if names is None:
            return not self.named("failed")
        check_names(names)
        return all(self.probes[name].verdict == "passed" for name in names)

    def named(self, verdict: ProbeVerdict) -> list[str]:
        """The names of the probes with that verdict."""
        return [name for name, probe in self.probes.items() if probe.verdict == verdict]

    @property
    def line(self) -> str:
        """The card in one line."""
        parts = [
            f"{len(names)} {verdict.replace('_', ' ')}" + (f" ({', '.join(names)})" if verdict != "passed" else "")
            for verdict in ("passed", "failed", "cannot_tell", "does_not_apply")
            if (names := self.named(verdict))
        ]
        return f"{', '.join(parts)}: {self.questions} questions on {self.videos} videos."

    def to_json(self) -> dict[str, Any]:
        """The card as plain data."""
        return asdict(self)


def check_names(names: Sequence[str]) -> None:
    """Raises InputError for a name that no probe has."""
    if unknown := [name for name in names if name not in PROBES]:
        raise InputError(f"There is no probe {unknown[0]}; there are {', '.join(PROBES)}.", exit_code=2)
