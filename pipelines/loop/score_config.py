"""What is measured of a run's generators: on held-out prompts, and by VBench."""

from dataclasses import dataclass, replace
from typing import Literal

from evaluation.vbench.aggregation import DIMENSIONS
from evaluation.vbench.suite import FLICKERING_VIDEOS, NEEDS_LABELS, VIDEOS_PER_PROMPT
from videoduet.config import at_least, execution, identity
from videoduet.errors import InputError

Suite = Literal["held_out", "official"]
NEEDS_NO_WEIGHTS = ["temporal_flickering"]


@dataclass(frozen=True, kw_only=True)
class VBenchConfig:
    """What VBench says of a run's generators, by the real package (python -m pipelines.setup_vbench).

    Attributes:
        suite: On which prompts: held_out, the run's own held-out videos of the base and every round; or official,
            VBench's own prompts, drawn by the base and the rounds chosen, which alone give quality, semantic and total.
        dimensions: Those to score (None: temporal_flickering, which needs no weights, of held-out videos, and all 16 on
            the official prompts); an empty list turns it off.
        rounds: Rounds, counted from 0, whose aligned generator draws the official prompts (None: the last one).
        prompts_per_dimension: Of the official prompts draw that many for each dimension (None: all). There is no total
            then.
        videos_per_prompt: Videos of each official prompt; the official suite has 5.
        flickering_videos: Videos drawn of each official prompt of temporal flickering, of which those that stand still
            count.
        dynamic_degree_tolerance: Fall of dynamic degree below the base's beyond which the alarm is raised: still videos
            win comparisons that they should not.
        when_still: On that alarm warn, or stop before anything is exported.
        processes: Dimensions scored at once.
        trust_pickles: With the official suite, let weights files hold more than tensors, as pipelines.evaluate_vbench
            has it: only for files whose source you trust.
    """

    suite: Suite = identity("held_out")
    dimensions: list[str] | None = identity(None, before=NEEDS_NO_WEIGHTS)
    rounds: list[int] | None = identity(None)
    prompts_per_dimension: int | None = identity(None)
    videos_per_prompt: int = identity(VIDEOS_PER_PROMPT)
    flickering_videos: int = identity(FLICKERING_VIDEOS)
    dynamic_degree_tolerance: float = execution(0.1)
    when_still: Literal["warn", "stop"] = execution("warn")
    processes: int = execution(1)
    trust_pickles: bool = execution(False)

    def __post_init__(self) -> None:
        for name in ("processes", "prompts_per_dimension", "videos_per_prompt", "flickering_videos"):
            at_least(1, **{f"score.vbench.{name}": getattr(self, name)})
        at_least(0, **{"score.vbench.dynamic_degree_tolerance": self.dynamic_degree_tolerance})
        possible = [name for name in DIMENSIONS if self.suite == "official" or name not in NEEDS_LABELS]
        wrong = [name for name in self.names if name not in possible]
        if wrong and self.suite == "official":
            raise InputError(
                f"score.vbench.dimensions has {wrong[0]}, which VBench does not know; choose among "
                f"{', '.join(possible)}.",
                exit_code=2,
            )
        if wrong:
            raise InputError(
                f"score.vbench.dimensions has {wrong[0]}, which cannot be scored on prompts of your own; choose among "
                f"{', '.join(possible)}, or give score.vbench.suite official.",
                exit_code=2,
            )

    @property
    def names(self) -> list[str]:
        """The dimensions to score."""
        if self.dimensions is None:
            return list(DIMENSIONS) if self.suite == "official" else list(NEEDS_NO_WEIGHTS)
        return self.dimensions

    def named(self) -> "VBenchConfig":
        """The same with its dimensions by name: so it is kept with a run, whatever None comes to mean."""
        return replace(self, dimensions=self.names)

    def check_rounds(self, rounds: int) -> None:
        """Raises InputError where a chosen round is none of the run's ``rounds``."""
        for number in self.rounds or ():
            if not 0 <= number < rounds:
                raise InputError(
                    f"score.vbench.rounds has {number}, but the run has {rounds} rounds, counted from 0; choose among "
                    "those.",
                    exit_code=2,
                )

    def versions(self, rounds: int) -> list[int]:
        """Numbers of the versions that draw the official prompts: 0, the base, and r + 1 for each chosen round r."""
        chosen = [rounds - 1] if self.rounds is None else sorted(set(self.rounds))
        # A run may have stopped before a round that was chosen: then its last is scored.
        there = [number for number in chosen if number < rounds] or [rounds - 1]
        return [0, *(number + 1 for number in there)]


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """What is measured on held-out prompts: after each round, and at the end.

    Attributes:
        videos_per_prompt: Videos of each held-out prompt, drawn from the same noise by every generator version.
        keep: What final/ holds: best, the round that the second judge is surest of (docs/run_directory.md), or last.
            Without a second judge it is the last.
        stop: Whether no round follows one that is surely worse than the base or the best before it: when_worse, or
            never.
        vbench: What VBench says.
    """

    videos_per_prompt: int = identity(2)
    keep: Literal["best", "last"] = execution("best")
    stop: Literal["when_worse", "never"] = execution("never")
    vbench: VBenchConfig = VBenchConfig()

    def __post_init__(self) -> None:
        at_least(1, **{"score.videos_per_prompt": self.videos_per_prompt})
