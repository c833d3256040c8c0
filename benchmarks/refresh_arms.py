"""The arms of the refresh benchmark: what each changes in the loop, and whose labels a judge is refreshed by."""

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.closed_loop import CLEAR
from benchmarks.refresh_judge import FirstJudge
from pipelines.loop import refresh as refresh_phase
from pipelines.loop.config import RunConfig, parse
from pipelines.loop.labels import Generated
from reward_model.judging.base import PairwiseJudge
from reward_model.training.config import GRPOTraining
from shapes_world.oracle import oracle_score, overall
from videoduet.records import LabelledPair, Prompt, Video
from videoduet.video import read_video


@dataclass(frozen=True)
class Sizes:
    """How large the benchmark is.

    Attributes:
        judge: D_0.
        rounds: Of each run; D_1 is refreshed in the second.
        prompts: Training prompts (None: all).
        videos_per_prompt: N.
        held_out_videos: Of each held-out prompt and version.
        held_out_prompts: A file of them (None: the default's).
        align_steps: Of the generator's training in each round (None: the default's).
        training: Of the judge's.
    """

    judge: FirstJudge = field(default_factory=FirstJudge)
    rounds: int = 3
    prompts: int | None = None
    videos_per_prompt: int = 8
    held_out_videos: int = 4
    held_out_prompts: str | None = None
    align_steps: int | None = None
    training: GRPOTraining = field(default_factory=lambda: GRPOTraining(steps=40, pairs_per_step=8, num_generations=8))


@dataclass(frozen=True)
class Arm:
    """What is changed of ``refresh``, and what is put in the place of names in :mod:`pipelines.loop.refresh`."""

    refresh: dict[str, Any] = field(default_factory=dict[str, Any])
    instead: dict[str, Callable[..., Any]] = field(default_factory=dict[str, Callable[..., Any]])

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """The loop refreshes as this arm does."""
        with contextlib.ExitStack() as stack:
            for name, function in self.instead.items():
                stack.enter_context(patch.object(refresh_phase, name, function))
            yield


def truth(video: Video, prompt: str) -> float:
    """The oracle's overall score."""
    return overall(oracle_score(read_video(video.path).frames, prompt))


def oracle_labels(generated: Generated, judge: PairwiseJudge, round_number: int) -> list[LabelledPair]:
    """The ceiling: the same kinds of pairs as the loop's own, labelled by the oracle instead of the judge."""
    labels: list[LabelledPair] = []
    for prompt in generated.refreshing:
        sides = (generated.new, generated.old)
        new, old = (
            sorted(((truth(video, prompt.text), video) for video in side.get(prompt.id, {}).values()), key=_score)
            for side in sides
        )
        if new and old and new[-1][0] - old[0][0] >= CLEAR:
            labels.append(_label(prompt, new[-1][1], old[0][1], f"across {round_number}"))
        for group, number in ((new, round_number), (old, round_number - 1)):
            labels += [
                _label(prompt, better, worse, f"within {number}")
                for (low, worse), (high, better) in itertools.combinations(group, 2)
                if high - low >= CLEAR
            ]
    return labels


def _score(item: tuple[float, Video]) -> float:
    return item[0]


def _label(prompt: Prompt, better: Video, worse: Video, source: str) -> LabelledPair:
    return LabelledPair(prompt=prompt, first=better, second=worse, preferred="first", source=source)


def own_data_alone(
    new: Sequence[LabelledPair], within: Sequence[LabelledPair], original: Sequence[LabelledPair], *, share: float,
    seed: int,
) -> list[LabelledPair]:  # fmt: skip
    """As many steps on rendered pairs: what more training does by itself."""
    return [original[index] for index in np.random.default_rng(seed).permutation(len(original))]


ARMS: dict[str, Arm] = {
    "none": Arm({"enabled": False}),
    "agreed": Arm({"labels": "agreed"}),
    "paper": Arm({"labels": "paper"}),
    "cross_fit": Arm({"labels": "paper", "cross_fit": True}),
    "oracle": Arm({"labels": "agreed"}, {"generated_labels": oracle_labels}),
    "own_data": Arm({"labels": "agreed"}, {"mixture": own_data_alone}),
}
"""*oracle* is the ceiling, *own_data* the twin without any generated pair."""


def config_of(arm: str, seed: int, output: Path, sizes: Sizes) -> RunConfig:
    """The default recipe with D_0 and its data, and what the arm changes. A gate would hide what a refresh does, so it
    refuses nothing; what it measured is told.
    """
    given, _ = parse(["--seed", str(seed), "--run_dir", str(output / f"seed_{seed}" / arm)])
    data = {name: str(output / "judge" / f"{file}.jsonl") for name, file in
            (("original_data", "train"), ("held_out_data", "held_out"))}  # fmt: skip
    refresh = replace(
        given.refresh, **data, tolerance_original=1.0, tolerance_generated=1.0, training=sizes.training,
        **ARMS[arm].refresh,
    )  # fmt: skip
    # So many tops and bottoms as there are.
    pairs = min(given.pairs.pairs_per_prompt, (sizes.videos_per_prompt // 2) ** 2)
    return replace(
        given,
        rounds=sizes.rounds,
        prompts=replace(
            given.prompts, limit=sizes.prompts, held_out=sizes.held_out_prompts or given.prompts.held_out
        ),
        generator=replace(given.generator, videos_per_prompt=sizes.videos_per_prompt),
        judge=replace(given.judge, path=str(output / "judge" / "judge"), second_path=None),
        refresh=refresh,
        pairs=replace(given.pairs, pairs_per_prompt=pairs),
        align=replace(given.align, max_steps=sizes.align_steps or given.align.max_steps),
        score=replace(
            given.score, videos_per_prompt=sizes.held_out_videos, vbench=replace(given.score.vbench, dimensions=[])
        ),
    )  # fmt: skip
