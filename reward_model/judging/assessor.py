"""AIGV-Assessor as a judge: four scores of a video in one forward, a preference between two, and not a word said."""

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import ProcessorMixin

from reward_model.encoding import ShowingEncoder
from reward_model.families.assessor import LEVELS, Asked, Assessor, asked_about
from reward_model.families.base import has_motion
from reward_model.families.scores import score_dimensions
from reward_model.families.sense import see_motion
from reward_model.inputs import GivenPair, GivenVideo, as_pair
from reward_model.judging.base import Answer, Failure, VideoJudge, as_shown
from reward_model.judging.config import BatchSize
from reward_model.judging.loading import (
    base_directory,
    check_family,
    load_model,
    load_processor,
    local_directory,
    own_prompts,
    weights_id,
)
from reward_model.presets import ASSESSMENT, preset_named
from reward_model.prompts import Prompts, wording_id
from reward_model.questions import Clips, Question
from reward_model.wordings import Shown
from videoduet.errors import InputError, in_words
from videoduet.records import Comparison, DimensionScore, OrderVerdict, Prompt, Video, VideoPair, VideoScore, stable_id

AT_ONCE = 16
"""Videos in one forward, where nobody says."""
SLOPE = 0.1
"""Logits for each point between two scores, where nothing was calibrated: 10 points apart, the better one is that in
73 % of cases."""
Item = tuple[Video, Prompt]


class AssessorJudge(VideoJudge):
    """A judge that rates in numbers, from 0 to 100, in the dimensions of its checkpoint.

    ``batch_size`` videos go through the model at once. A comparison is of both orders at once, since nothing is shown
    first.
    """

    def __init__(
        self, model: Any, processor: ProcessorMixin, prompts: Prompts, *, judge_id: str, batch_size: BatchSize = AT_ONCE
    ):
        dimensions = score_dimensions(model.config) or ()
        score = prompts.score if prompts.score is not None and prompts.score.answer else ASSESSMENT
        self.prompt = replace(score, keys=dimensions)
        super().__init__(Prompts(score=self.prompt), judge_id=judge_id)
        view = self.prompt.view
        encoder = ShowingEncoder.for_view(processor, view, motion=has_motion(model))
        self.assessor = Assessor(model.eval(), encoder, self.prompt)
        self.batch_size = AT_ONCE if batch_size == "auto" else batch_size

    @classmethod
    def from_pretrained(
        cls, path: str | Path, *, preset: str | None = None, adapter: str | Path | None = None,
        shown: Shown | None = None, dtype: str = "float32", batch_size: BatchSize = AT_ONCE,
        device: str | torch.device | None = None,
    ) -> "AssessorJudge":  # fmt: skip
        """The judge in a directory that ``pipelines.convert_judge aigv_assessor`` or a training wrote; the rest as in
        :meth:`reward_model.judging.local.Judge.from_pretrained`.
        """
        chosen = preset_named(preset)
        path = local_directory(path, chosen.subfolder)
        base = base_directory(path)
        check_family(base)
        processor, model = load_processor(base), load_model(path, adapter, dtype)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        prompts = (shown or Shown()).in_all(own_prompts(path, chosen.prompts, adapter))
        weights = [weights_id(path), weights_id(base), weights_id(adapter) if adapter else ""]
        judge_id = stable_id(*weights, wording_id(prompts.of("score")), dtype)
        return cls(model, processor, prompts, judge_id=judge_id, batch_size=batch_size)

    def answer(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """Raises InputError: it is asked for scores and comparisons alone."""
        raise InputError("This judge answers in numbers, not in words; ask it to score, compare or rank.")

    def score(
        self, videos: Iterable[GivenVideo | tuple[GivenVideo, str]], *, failures: list[Failure] | None = None
    ) -> Iterator[VideoScore]:
        """Scores from 0 to 100 of every video, or (video, prompt), in order: one for each dimension, and their mean."""
        for window in _windows(videos, self.batch_size):
            asked: list[tuple[Item, Asked]] = []
            for given in window:
                try:
                    item, clips = as_shown(given)
                    asked.append((item, self._asked(item, clips)))
                # Whatever is wrong with one item ends no batch.
                except Exception as error:
                    _fail(failures, given, error)
            yield from self._scored(asked)

    def compare(self, pairs: Iterable[GivenPair], *, failures: list[Failure] | None = None) -> Iterator[Comparison]:
        """A comparison of every pair, in order, with the probability that the first is better: of both orders at once,
        as nothing comes first.

        Each video of a window of pairs is looked at once, in the order of their ids, so that no bit depends on which
        was given first.
        """
        for window in _windows(pairs, self.batch_size):
            known: dict[tuple[str, str], tuple[Item, Asked]] = {}
            good: list[VideoPair] = []
            for given in window:
                try:
                    pair, clips = as_pair(given)
                    for video in (pair.first, pair.second):
                        key = (video.id, pair.prompt.id)
                        if key not in known:
                            known[key] = ((video, pair.prompt), self._asked((video, pair.prompt), clips))
                    good.append(pair)
                except Exception as error:
                    _fail(failures, given, error)
            scores: dict[tuple[str, str], VideoScore] = {}
            for start in range(0, len(known), self.batch_size):
                keys = sorted(known)[start : start + self.batch_size]
                scores |= dict(zip(keys, self._scored([known[key] for key in keys]), strict=True))
            for pair in good:
                first, second = (scores[video.id, pair.prompt.id] for video in (pair.first, pair.second))
                yield self._compared(pair, first, second)

    def _asked(self, item: Item, clips: Clips) -> Asked:
        video, prompt = item
        asked = asked_about(self.assessor.encoder, self.prompt, video.path, prompt.text, clips)
        see_motion(self.assessor.model, self.assessor.encoder, [asked.video])
        return asked

    @torch.no_grad()
    def _scored(self, asked: Sequence[tuple[Item, Asked]]) -> list[VideoScore]:
        if not asked:
            return []
        before = self.assessor.before_levels([each for _, each in asked])
        scores = (100 * self.assessor.scores(before)).tolist()
        levels = self.assessor.level_logits(before).argmax(-1).tolist()
        names = self.prompt.keys
        return [
            VideoScore(
                video_id=video.id,
                prompt_id=prompt.id,
                judge_id=self.judge_id,
                text=" ".join(map(self._said, names, named, values)),
                score=statistics.fmean(values),
                dimensions=tuple(DimensionScore(name=n, value=v) for n, v in zip(names, values, strict=True)),
            )
            for ((video, prompt), _), values, named in zip(asked, scores, levels, strict=True)
        ]

    def _said(self, dimension: str, level: int, score: float) -> str:
        return f"{self.prompt.about(dimension).answer} {LEVELS[level]} ({score:.1f})."

    def _compared(self, pair: VideoPair, first: VideoScore, second: VideoScore) -> Comparison:
        """By the difference of the two scores."""
        assert first.score is not None and second.score is not None
        logit = SLOPE * (first.score - second.score)
        return by_logit(pair, self.judge_id, logit, (first.text, second.text))


def by_logit(pair: VideoPair, judge_id: str, logit: float, said: tuple[str, str]) -> Comparison:
    """The comparison that finds the first video better with this ``logit``; ``said`` of the first and the second."""
    verdict = "first" if logit > 0 else "second" if logit < 0 else "tie"
    mirrored = {"first": "second", "second": "first", "tie": "tie"}[verdict]
    p = 1 / (1 + math.exp(-logit)) if logit > -700 else 0.0
    forward = OrderVerdict(text=f"First: {said[0]} Second: {said[1]}", verdict=verdict, p=p)
    backward = OrderVerdict(text=f"First: {said[1]} Second: {said[0]}", verdict=mirrored, p=1 - p)
    return Comparison.of(pair, judge_id, forward, backward, p)


def _windows(given: Iterable, size: int) -> Iterator[list]:
    waiting = iter(given)
    while window := list(itertools.islice(waiting, size)):
        yield window


def _fail(failures: list[Failure] | None, given: object, error: Exception) -> None:
    if failures is None:
        raise InputError(in_words(error)) from error
    failures.append(Failure(given, in_words(error)))
