"""A vision-language model as a judge of videos: it reasons, then answers, and compares in both orders."""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessorList, ProcessorMixin

from reward_model.encoding import Showing, ShowingEncoder, tokens_per_second
from reward_model.families.base import has_motion
from reward_model.families.sense import see_motion, seen_tokens
from reward_model.judging.base import Answer, VideoJudge
from reward_model.judging.config import BatchSize, Decoding
from reward_model.judging.engine import MOST_AT_ONCE, Drawn, drawn, in_two_parts, rows_that_fit
from reward_model.judging.labels import LabelLogits, label_ids, verdict_at_label
from reward_model.judging.loading import (
    base_directory,
    check_family,
    check_motion,
    load_model,
    load_processor,
    local_directory,
    own_prompts,
    weights_id,
)
from reward_model.judging.picking import Drawing, UnknownSettings
from reward_model.judging.sharing import in_order, positions, prefill, shared_prefixes, vision_output
from reward_model.judging.windows import windows_together
from reward_model.presets import preset_named
from reward_model.prompts import JudgePrompt, Prompts
from reward_model.questions import Question, View
from reward_model.reading_ahead import looked_ahead
from reward_model.wordings import Shown
from videoduet.errors import in_words
from videoduet.progress import console
from videoduet.records import stable_id
from videoduet.seeding import seed_for

BATCHES_AHEAD = 4
"""So many batches of questions are read at once, that those of like length may be asked together."""
BATCH_ON_CPU = 16
LIKE_LENGTH = 64
"""Tokens. Padding up to so many costs less than it would to ask in another order."""


class Judge(VideoJudge):
    """A judge backed by a transformers vision-language model (see :mod:`reward_model.families`).

    Answers are greedy unless ``decoding`` says otherwise. ``batch_size`` counts showings (two for each pair); 'auto'
    are as many as fit into a GPU's free memory, and 16 on a CPU. Vision tokens are computed once per video and kept for
    the last ``keep`` videos, however many pairs they appear in. ``engine`` says whether answers are drawn by
    :mod:`reward_model.judging.engine` (None: on a GPU) or by ``generate``.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        processor: ProcessorMixin,
        prompts: Prompts | JudgePrompt,
        *,
        judge_id: str,
        decoding: Decoding | None = None,
        batch_size: BatchSize = 64,
        keep: int = 512,
        engine: bool | None = None,
    ):
        prompts = Prompts(prompts) if isinstance(prompts, JudgePrompt) else prompts
        super().__init__(prompts, judge_id=judge_id, decoding=decoding)
        self.model, self.batch_size, self.keep = model.eval(), batch_size, keep
        self.engine = model.device.type == "cuda" if engine is None else engine
        self.processor, self.tokenizer = processor, processor.tokenizer
        self._encoders: dict[tuple, ShowingEncoder] = {}
        self._spellings: dict[tuple[str, str], list[int]] = {}
        # Labels that cannot be read are told at once, not after hours.
        if self.prompts.compare is not None:
            self._label_ids(self.prompts.compare.labels)
        self._features: OrderedDict[tuple[ShowingEncoder, str], Sequence[Tensor]] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        preset: str | None = None,
        adapter: str | Path | None = None,
        prompt: JudgePrompt | None = None,
        shown: Shown | None = None,
        dtype: str = "float32",
        batch_size: BatchSize = 64,
        decoding: Decoding | None = None,
        device: str | torch.device | None = None,
    ) -> "Judge":
        """The judge in a transformers directory, a PEFT directory, or at a hub id; ``adapter`` goes on top.

        ``preset`` (a name in :data:`reward_model.presets.PRESETS`) says what the judge is asked and shown, and in which
        subfolder of ``path`` it lies. Prompts kept beside the weights go before the preset's, and ``prompt`` before
        both; ``shown`` says what is shown in place of what they say. Raises InputError where nothing can be loaded.
        """
        chosen = preset_named(preset)
        path = local_directory(path, chosen.subfolder)
        base = base_directory(path)
        # First what is quickly told.
        check_family(base)
        processor = load_processor(base)
        model = load_model(path, adapter, dtype)
        check_motion(model, path, preset)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        prompts, decoding = own_prompts(path, chosen.prompts, adapter), decoding or Decoding()
        if prompt is not None:
            prompts = replace(prompts, compare=prompt)
        prompts = (shown or Shown()).in_all(prompts)
        weights = [weights_id(path), weights_id(base), weights_id(adapter) if adapter else ""]
        judge_id = stable_id(*weights, prompts.compare_id, dtype, decoding)
        return cls(model, processor, prompts, judge_id=judge_id, decoding=decoding, batch_size=batch_size)

    @property
    def prompt(self) -> JudgePrompt | None:
        """How it compares."""
        return self.prompts.compare

    @property
    def encoder(self) -> ShowingEncoder:
        """What shows videos as its prompts say: the comparison's, where there is one."""
        return self._encoder(self.prompts.view)

    @property
    def label_ids(self) -> list[int]:
        """Token ids of the comparison's labels, the first's and the second's in turn; none without a comparison."""
        return self._label_ids(self.prompt.labels) if self.prompt is not None else []

    def _encoder(self, view: View) -> ShowingEncoder:
        key = (view.sampling, view.max_pixels, view.layout)
        if key not in self._encoders:
            told, moves = tokens_per_second(self.model.config), has_motion(self.model)
            self._encoders[key] = ShowingEncoder.for_view(self.processor, view, told, moves)
        return self._encoders[key]

    def _label_ids(self, labels: tuple[str, str]) -> list[int]:
        if labels not in self._spellings:
            self._spellings[labels] = label_ids(self.tokenizer, labels)
        return self._spellings[labels]

    def answer(self, questions: Iterable[Question]) -> Iterator[Answer]:
        """The answers, in the order of the questions, which are asked in batches of like length."""
        # Features depend in their last bits on the batch they were computed in; no answer may depend on earlier calls.
        self._features.clear()
        for encoder in self._encoders.values():
            encoder.forget()
        step = max(1, self._most // 2) * 2
        questions = looked_ahead(questions, step * BATCHES_AHEAD, self._encoder)
        while window := list(itertools.islice(questions, step * BATCHES_AHEAD)):
            # What is shown, drawn and measured alike can share a batch.
            alike: dict[tuple, list[int]] = {}
            for index, question in enumerate(window):
                alike.setdefault((question.view, question.labels, question.sampled), []).append(index)
            answers: dict[int, Answer] = {}
            for indices in alike.values():
                found = self._answered_alike([window[index] for index in indices], step)
                answers.update(zip(indices, found, strict=True))
            yield from (answers[index] for index in range(len(window)))

    def _answered_alike(self, questions: Sequence[Question], step: int) -> list[Answer]:
        """The answers to questions with one view, one pair of labels and one way of drawing, ``step`` at once."""
        encoder = self._encoder(questions[0].view)
        answers: dict[int, Answer] = {}
        showings: dict[int, Showing] = {}
        for index, question in enumerate(questions):
            try:
                showing = encoder.showing(question.messages, question.clips)
                # What shows no motion is told of itself, and ends no batch either.
                see_motion(self.model, encoder, showing.videos)
                showings[index] = showing
            # Whatever is wrong with one item ends no batch.
            except Exception as error:
                answers[index] = Answer(error=in_words(error))
        rows = in_order(showings, LIKE_LENGTH)
        longest = max((len(showing.ids) for showing in showings.values()), default=0) + questions[0].view.max_new_tokens
        while rows:
            if self.batch_size == "auto" and self._on_gpu:
                # Asked anew: features of videos that are kept take room as well.
                step = min(step, rows_that_fit(self.model, longest) // 2 * 2)
            batch, rows = rows[:step], rows[step:]
            seed = seed_for(self.judge_id, *((questions[i].sample, *showings[i].paths) for i in batch))
            found = self._generated([showings[i] for i in batch], encoder, questions[0], seed)
            answers.update(zip(batch, found, strict=True))
        return [answers[index] for index in range(len(questions))]

    @property
    def _on_gpu(self) -> bool:
        return self.model.device.type == "cuda"

    @property
    def _most(self) -> int:
        """So many showings are asked at once at most."""
        if isinstance(self.batch_size, int):
            return self.batch_size
        return MOST_AT_ONCE if self._on_gpu else BATCH_ON_CPU

    @torch.no_grad()
    def _generated(
        self, showings: list[Showing], encoder: ShowingEncoder, question: Question, seed: int
    ) -> list[Answer]:
        """The answers to a batch, whose questions are like ``question``."""
        labels = self._label_ids(question.labels) if question.labels is not None else []
        sampled = self.decoding.samples > 1 and question.sampled
        how: dict[str, Any] = {"do_sample": False}
        if sampled:
            how = {"do_sample": True, "temperature": self.decoding.temperature, "top_p": 1.0, "top_k": 0}
        with torch.random.fork_rng(enabled=sampled):
            if sampled:
                torch.manual_seed(seed)
            found = self._drawn(showings, encoder, how, question.view.max_new_tokens, labels)
        texts = self.tokenizer.batch_decode(found.tokens, skip_special_tokens=True)
        if not labels:
            return [Answer(text) for text in texts]
        rows = zip(texts, found.tokens, found.logits, strict=True)
        return [Answer(row[0], verdict_at_label(self.tokenizer, *row, labels).p) for row in rows]

    def _drawn(
        self, showings: list[Showing], encoder: ShowingEncoder, how: dict[str, Any], new: int, labels: list[int]
    ) -> Drawn:
        """At most ``new`` tokens of each answer, by the engine where it knows ``how``, else by ``generate``."""
        drawing = self._drawing(how) if self.engine else None
        if drawing is not None:
            shares = shared_prefixes(showings, LIKE_LENGTH) is not None
            with windows_together(self.model):
                features = self._video_features(showings, encoder)
            heads = [showing.prefix if shares else 0 for showing in showings]
            prompts = in_two_parts(self.model, encoder, showings, heads, features)
            return drawn(self.model, prompts, drawing, new, labels)
        recorder = LabelLogits(labels)
        model: Any = self.model
        generated = model.generate(
            **self._inputs(showings, encoder),
            **how,
            max_new_tokens=new,
            logits_processor=LogitsProcessorList([recorder]),
        )
        return Drawn(generated[:, -len(recorder.steps) :].cpu(), torch.stack(recorder.steps, dim=1))

    def _drawing(self, how: dict[str, Any]) -> Drawing | None:
        """``how``, and what the model's own settings say; None where they ask for more than the engine knows."""
        model: Any = self.model
        try:
            return Drawing.of(model.generation_config, **how)
        except UnknownSettings as unknown:
            console.print(
                f"The judge's generation config sets {unknown}, which is left to transformers' generate: slower, and "
                "right.",
                markup=False,
            )  # fmt: skip
            self.engine = False
            return None

    def _inputs(self, showings: list[Showing], encoder: ShowingEncoder) -> dict:
        """What ``generate`` takes: with vision tokens instead of pixels, and with what the model has read already."""
        owners = shared_prefixes(showings, LIKE_LENGTH)
        inputs = encoder.collate(showings, pixels=False, prefixes=owners is not None)
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        # Said beforehand, as the model cannot count them from a prefix it has read and what follows alone.
        inputs["position_ids"] = positions(self.model, inputs)
        with windows_together(self.model):
            features = self._video_features(showings, encoder)
        # Without vision tokens of deeper layers, a video's are embeddings in their place; others are handed over.
        in_place, handed = len(features[0][0]) == 1, partial(vision_output, motion=encoder.motion)
        if in_place:
            embeds = self.model.get_input_embeddings()(inputs["input_ids"])
            places = encoder.is_seen(inputs["input_ids"])[..., None]
            tokens = torch.cat([pooled for videos in features for (pooled,) in videos])
            inputs["inputs_embeds"] = embeds.masked_scatter(places, tokens.to(embeds.dtype))
        if owners is not None:
            length = max(showing.prefix for showing in showings)
            firsts = [features[owner][0] for owner in sorted(set(owners))]
            cache = prefill(self.model, inputs, owners, length, {} if in_place else handed(firsts))
            inputs["past_key_values"] = cache
            # The first video of each is in the cache.
            features = [rest for _, *rest in features]
        unread = list(itertools.chain.from_iterable(features))
        return inputs if in_place or not unread else {**inputs, **handed(unread)}

    def _video_features(self, showings: list[Showing], encoder: ShowingEncoder) -> list[list[Sequence[Tensor]]]:
        """Vision tokens (n, d) of each showing's videos (with those of deeper layers, where the family has them); those
        of videos seen lately are not computed again.
        """
        missing = {}
        for showing in showings:
            for path, video in zip(showing.paths, showing.videos, strict=True):
                if (encoder, path) not in self._features:
                    missing[encoder, path] = video
        self._features.update(seen_tokens(self.model, encoder, missing))
        features = [[self._features[encoder, path] for path in showing.paths] for showing in showings]
        while len(self._features) > self.keep:
            self._features.popitem(last=False)
        return features
