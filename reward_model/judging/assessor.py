"""AIGV-Assessor as a judge: four scores of a video in one forward, a preference between two, and not a word said."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import ProcessorMixin

from reward_model.encoding import ShowingEncoder
from reward_model.families.assessor import Asked, Assessor, level_of
from reward_model.families.base import has_motion, plain_model
from reward_model.families.pairs import Looked, compares
from reward_model.families.scores import PAIRS, score_dimensions
from reward_model.families.sense import see_motion
from reward_model.inputs import GivenPair, GivenVideo
from reward_model.judging.base import Answer, Failure, VideoJudge
from reward_model.judging.config import BatchSize
from reward_model.judging.given import Item, paired, questioned, shown, windows
from reward_model.judging.in_numbers import answer_to, by_logits, rated_in
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
from reward_model.questions import Clips, Question, ScoreQuestion
from reward_model.wordings import Shown
from videoduet.errors import InputError, in_words
from videoduet.records import (
    Comparison,
    DimensionScore,
    VideoPair,
    VideoScore,
    stable_id,
)

AT_ONCE = 16
"""Videos in one forward, where nobody says."""
SLOPE = 0.1
"""Logits for each point between two scores, where nothing was calibrated: 10 points apart, the better one is that in
73 % of cases."""
PAIRS_AT_ONCE = 8
"""Pairs that the pair networks see at once: patches of 8 frames of 448 pixels are 134 MB a video in float32."""
By = Literal["networks", "scores"]


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
        self._calibration: dict[str, Any] = getattr(model.config, "score_calibration", None) or {}

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

    def margin(self, sure: float) -> float:
        """How far apart the mean scores of two videos are where the better one is that with ``sure``, as it was
        calibrated on held-out videos. Raises InputError where it was not, or not for that.
        """
        margins = self._calibration.get("margins", {})
        if f"{sure:g}" not in margins:
            known = f"knows {', '.join(margins)}" if margins else "was never calibrated; train its scores here"
            raise InputError(f"This judge does not say when it is {sure:g} sure of a difference: it {known}.")
        return margins[f"{sure:g}"]

    def answer(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """The scores of a video as a judge in words would write them, in the order of the questions: in the dimensions
        and on the scale that are asked for, whatever the wording. Raises InputError for other questions, and for
        dimensions that it does not rate.
        """
        for window in windows(self._checked(questions), questioned, self.batch_size, self.assessor.encoder):
            good: dict[int, tuple[Item, Asked]] = {}
            answers: dict[int, Answer] = {}
            for place, one in enumerate(window):
                try:
                    good[place] = (one.items[0], self._asked(one.items[0], one.clips))
                except Exception as error:
                    answers[place] = Answer(error=in_words(error))
            for place, score in zip(good, self._scored(list(good.values())), strict=True):
                question = window[place].record
                told = {each.name: each.value for each in score.dimensions}
                answers[place] = answer_to(question, rated_in(question, self.prompt.keys), told)
            yield from (answers[place] for place in range(len(window)))

    def _checked(self, questions: Iterable[Question]) -> Iterator[ScoreQuestion]:
        for question in questions:
            if not isinstance(question, ScoreQuestion):
                raise InputError("This judge answers in numbers, not in words; ask it to score, compare or rank.")
            rated_in(question, self.prompt.keys)
            yield question

    def score(
        self, videos: Iterable[GivenVideo | tuple[GivenVideo, str]], *, failures: list[Failure] | None = None
    ) -> Iterator[VideoScore]:
        """Scores from 0 to 100 of every video, or (video, prompt), in order: one for each dimension, and their mean."""
        for window in windows(videos, shown, self.batch_size, self.assessor.encoder):
            asked: list[tuple[Item, Asked]] = []
            for one in window:
                try:
                    asked.append((one.items[0], self._asked(one.items[0], one.clips)))
                # Whatever is wrong with one item ends no batch.
                except Exception as error:
                    one.fail(failures, error)
            yield from self._scored(asked)

    def compare(self, pairs: Iterable[GivenPair], *, failures: list[Failure] | None = None) -> Iterator[Comparison]:
        """A comparison of every pair, in order, with the probability that the first is better: of both orders at once,
        as nothing comes first.

        It goes by the mean over dimensions of the logits of :meth:`preferences`.
        """
        for pair, logits in self.preferences(pairs, failures=failures):
            yield by_logits(pair, self.judge_id, logits)

    def preferences(
        self, pairs: Iterable[GivenPair], *, by: By | None = None, failures: list[Failure] | None = None
    ) -> Iterator[tuple[VideoPair, dict[str, float]]]:
        """For every pair the logit that its first video is better, by dimension: ``by`` the pair 'networks', or the
        difference of 'scores' (None: the networks, where the judge has some).

        Each video of a window of pairs is looked at once, in the order of their ids, so that no bit depends on which
        was given first.
        """
        by = by or ("networks" if compares(self.assessor.model) else "scores")
        for window in windows(pairs, paired, self.batch_size, self.assessor.encoder):
            known: dict[tuple[str, str], Asked] = {}
            good: list[VideoPair] = []
            for one in window:
                try:
                    for video, prompt in one.items:
                        if (video.id, prompt.id) not in known:
                            known[video.id, prompt.id] = self._asked((video, prompt), one.clips)
                    frames = {_frames(known[video.id, prompt.id]) for video, prompt in one.items}
                    if by == "networks" and len(frames) > 1:
                        raise InputError(f"Videos of {sorted(frames)} frames cannot be compared; show as many of each.")
                    good.append(one.record)
                except Exception as error:
                    one.fail(failures, error)
            for pair, row in zip(good, self._rows(good, known, by), strict=True):
                yield pair, dict(zip(self.prompt.keys, row, strict=True))

    def _rows(self, pairs: list[VideoPair], known: Mapping[tuple[str, str], Asked], by: By) -> list[list[float]]:
        """Logits by dimension of the ``pairs``, whose videos are ``known``: those of as many frames together."""
        lengths = [_frames(known[pair.first.id, pair.prompt.id]) if by == "networks" else 0 for pair in pairs]
        found: dict[int, list[float]] = {}
        for length in sorted(set(lengths)):
            places = [place for place, other in enumerate(lengths) if other == length]
            together = [pairs[place] for place in places]
            firsts = [(pair.first.id, pair.prompt.id) for pair in together]
            seconds = [(pair.second.id, pair.prompt.id) for pair in together]
            keys = sorted({*firsts, *seconds})
            first, second = ([keys.index(key) for key in side] for side in (firsts, seconds))
            found |= dict(zip(places, self._logits([known[key] for key in keys], first, second, by), strict=True))
        return [found[place] for place in range(len(pairs))]

    @torch.no_grad()
    def _logits(self, asked: list[Asked], first: list[int], second: list[int], by: By) -> list[list[float]]:
        """Logits by dimension of pairs of ``asked``, whose places are ``first`` and ``second``."""
        parts = [asked[start : start + self.batch_size] for start in range(0, len(asked), self.batch_size)]
        if by == "scores":
            scores = torch.cat([self.assessor.scores(self.assessor.before_levels(part)) for part in parts])
            slope = self._calibration.get("slope", SLOPE)
            return (100 * slope * (scores[first] - scores[second])).tolist()
        layers = getattr(plain_model(self.assessor.model), PAIRS).layers
        looked = [self.assessor.looked(part, layers) for part in parts]
        held = Looked(
            [torch.cat(each) for each in zip(*(part.layers for part in looked), strict=True)],
            torch.cat([part.before for part in looked]),
        )
        rows: list[list[float]] = []
        for start in range(0, len(first), PAIRS_AT_ONCE):
            sides = (_chosen(held, side[start : start + PAIRS_AT_ONCE]) for side in (first, second))
            rows += self.assessor.pair_logits(*sides).tolist()
        return rows

    def _asked(self, item: Item, clips: Clips) -> Asked:
        video, prompt = item
        asked = self.assessor.asked(video.path, prompt.text, clips)
        see_motion(self.assessor.model, self.assessor.encoder, [asked.video])
        return asked

    @torch.no_grad()
    def _scored(self, asked: Sequence[tuple[Item, Asked]]) -> list[VideoScore]:
        if not asked:
            return []
        before = self.assessor.before_levels([each for _, each in asked])
        scores = (100 * self.assessor.scores(before)).tolist()
        names = self.prompt.keys
        return [
            VideoScore(
                video_id=video.id,
                prompt_id=prompt.id,
                judge_id=self.judge_id,
                text=" ".join(map(self._said, names, values)),
                score=statistics.fmean(values),
                dimensions=tuple(DimensionScore(name=n, value=v) for n, v in zip(names, values, strict=True)),
            )
            for ((video, prompt), _), values in zip(asked, scores, strict=True)
        ]

    def _said(self, dimension: str, score: float) -> str:
        return f"{self.prompt.about(dimension).answer} {level_of(score / 100)} ({score:.1f})."


def _frames(asked: Asked) -> int:
    return len(asked.video.patches)


def _chosen(held: Looked, places: list[int]) -> Looked:
    return Looked([layer[places] for layer in held.layers], held.before[places])
