"""What a phase hands on: frozen records, kept as ``summary.json`` in its folder.

Figures that are a record of their own stand beside the rest in the file.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from videoduet.config import to_dict
from videoduet.store import read_json, whole_file, write_json

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Summary = TypeVar("Summary", bound="DataclassInstance")


@dataclass(frozen=True, kw_only=True)
class RefreshFigures:
    """What a refresh measured.

    Attributes:
        held_out: By kind of held-out pairs: accuracies and abstentions before and after, and their number.
        newer_preferred_rate: How often the new judge prefers the newer version among pairs that the judge before found
            equal; None where there were none.
        newer_preferred_n: How many those were.
        steps: Optimizer steps.
        pairs: Labelled pairs trained on.
        reward_first: Mean reward over the first tenth of the steps.
        reward_last: The same over the last tenth.
        new_pairs: Labelled pairs across versions.
        within_pairs: Labelled pairs within one version.
        notes: What kept the judge from learning.
        audited: The audit's verdicts on the new judge, by probe; none where it was not audited.
    """

    held_out: dict[str, dict[str, float | int | None]]
    newer_preferred_rate: float | None
    newer_preferred_n: int
    steps: int
    pairs: int
    reward_first: float
    reward_last: float
    new_pairs: int
    within_pairs: int
    notes: list[str] = field(default_factory=list)
    audited: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class RefreshSummary:
    """What became of a judge's refresh.

    Attributes:
        status: 'accepted' (D_r is new), 'kept_previous' (the gate refused it), 'off' (nothing was trained).
        reason: Why it was refused or off.
        figures: What was measured, where something was trained.
    """

    status: Literal["accepted", "kept_previous", "off"]
    reason: str | None = None
    figures: RefreshFigures | None = None


@dataclass(frozen=True, kw_only=True)
class AuditSummary:
    """What is known of a round's judge.

    Attributes:
        status: 'audited' (its card lies beside this), 'refreshed' (it lies in the round's refresh), 'same_judge' (in an
            earlier round), 'off' (it could not be audited).
        judge: Its name, ``D_0`` where nothing refreshed it.
        verdicts: By probe: passed, failed, cannot_tell or does_not_apply.
        reason: Why it could not be audited.
    """

    status: Literal["audited", "refreshed", "same_judge", "off"]
    judge: str
    verdicts: dict[str, str] = field(default_factory=dict[str, str])
    reason: str | None = None

    def named(self, verdict: str) -> list[str]:
        """The probes with that verdict."""
        return [name for name, found in self.verdicts.items() if found == verdict]


@dataclass(frozen=True, kw_only=True)
class RankSummary:
    """What a judge said about a round's videos, as :func:`alignment.preferences.ranking.judge_statistics` counts.

    Attributes:
        pairs: Preference pairs that came of it.
        skipped: Why there are none (None: there are).
        judges: Comparisons by the id of the judge that made them, where one went first; none where there is but one.
    """

    prompts: int
    comparisons: int
    decided: int
    tie: int
    disagreement: int
    unparsable: int
    agreement: float | None
    abstention: float | None
    showings_with_winner: int
    first_position_rate: float | None
    transitivity: float | None
    pairs: int
    skipped: str | None
    judges: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def status(self) -> Literal["ranked", "skipped"]:
        """Whether there are pairs to learn from."""
        return "ranked" if self.skipped is None else "skipped"


@dataclass(frozen=True, kw_only=True)
class AlignSummary:
    """What became of a generator's training.

    Attributes:
        status: 'trained' (G_(r + 1) is new) or 'skipped' (there were no pairs).
        reason: Why it was skipped.
        figures: What :func:`alignment.training.trainer.align` says, and the metrics of its last step.
    """

    status: Literal["trained", "skipped"]
    reason: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Bet:
    """What a second judge's bets on one version against another hold: :class:`alignment.sequential.WinEProcess`.

    Attributes:
        prompts: Held-out prompts bet on, once each.
        e_better: Evidence that it is better, 1 at the beginning.
        e_worse: The same that it is worse.
        better: Whether it is surely better: the evidence has reached what is ``needed``.
        worse: Whether it is surely worse: the evidence has reached 20.
        needed: The evidence that "better" takes: 20 for a single bet, more where a run shares out its level over many
            (:class:`alignment.sequential.Budget`).
    """

    prompts: int
    e_better: float
    e_worse: float
    better: bool
    worse: bool
    needed: float = 20.0


@dataclass(frozen=True, kw_only=True)
class MeasureSummary:
    """What was measured of a round's new generator.

    Attributes:
        version: Its name, ``G_1`` after round 0.
        win_rate: By judge: the win rate over the base on held-out prompts with its interval, and counts.
        reason: Why no judge was asked.
        notes: What of the prompts was not drawn.
        drift: What changed in the videos against the base's: :meth:`evaluation.drift.Drift.to_json`.
        bets: By the version bet against, the base and the best so far: whether this one is better. None without a
            second judge, and in runs that are older than bets.
        best: The best version so far, this one included; None where there are no bets.
        reported: The second judge's win rate over the base on the held-out prompts that did not bet.
        best_of: What picking the best of several videos of the base gives, by the second judge: ``n``, and a win rate;
            after the first round alone.
    """

    version: str
    win_rate: dict[str, dict[str, float | int]]
    reason: str | None = None
    notes: list[str] = field(default_factory=list[str])
    drift: dict[str, Any] = field(default_factory=dict[str, Any])
    bets: dict[str, Bet] = field(default_factory=dict[str, Bet])
    best: str | None = None
    reported: dict[str, float | int] = field(default_factory=dict[str, float | int])
    best_of: dict[str, float | int] = field(default_factory=dict[str, float | int])

    @property
    def worse(self) -> bool:
        """Whether it is surely worse than the base or the best round before it."""
        return any(bet.worse for bet in self.bets.values())


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """How the versions of a generator compare.

    Attributes:
        versions: ``G_0``, the base, and all later ones.
        win_rate: By judge and version: the win rate over the base with its interval, and counts.
        vbench: What VBench says of the suite that the config chose, or why it says nothing.
        notes: What of the prompts was not drawn.
        measured: Versions that were measured before, each after its round; none in a run that is older than that.
    """

    versions: list[str]
    win_rate: dict[str, dict[str, dict[str, float | int]]]
    vbench: dict[str, Any]
    notes: list[str] = field(default_factory=list[str])
    measured: list[str] = field(default_factory=list[str])


def write_summary(folder: Path, summary: Any) -> None:
    """Keep one of the records above."""
    rows = to_dict(summary)
    if not rows.get("judges", True):
        # Where no judge went first nothing is said of it, as before any could.
        rows.pop("judges")
    write_json(folder / "summary.json", {**(rows.pop("figures", None) or {}), **rows})


def read_summary(kind: type[Summary], folder: Path) -> Summary:
    """The summary of a phase that is done. Raises InputError where it is damaged."""
    with whole_file(path := folder / "summary.json"):
        rows, names = read_json(path), {item.name for item in fields(kind)}
        known = {name: value for name, value in rows.items() if name in names}
        rest = {name: value for name, value in rows.items() if name not in names}
        if kind is RefreshSummary:
            known["figures"] = RefreshFigures(**rest) if rest else None
        elif kind is AlignSummary:
            known["figures"] = rest
        elif kind is MeasureSummary:
            known["bets"] = {name: Bet(**bet) for name, bet in known.get("bets", {}).items()}
        return kind(**known)
