"""A vision-language model as a judge of videos: it reasons, then answers, and compares in both orders."""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AutoProcessor, LogitsProcessor, LogitsProcessorList
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from reward_model.encoding import Showing, ShowingEncoder, video_tensors
from reward_model.judging.base import Answer, Decoding, Prompts, Question, VideoJudge, wording_id
from reward_model.judging.loading import base_directory, load_model, local_directory, weights_id
from reward_model.judging.prefixes import positions, prefill, shared_heads
from reward_model.parsing import Choice, parse_choice
from reward_model.presets import PRESETS, kept_prompts
from reward_model.prompts import JudgePrompt, VideoPrompt
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict, VideoPair, stable_id
from videoduet.seeding import seed_for

BATCHES_AHEAD = 4
"""So many batches of questions are read at once, that those of like length may be asked together."""
LIKE_LENGTH = 64
"""Tokens. Padding up to so many costs less than it would to ask in another order."""


class PairwiseJudge(Protocol):
    """Anything with an opinion on pairs of videos: a model, human votes in a file, a metric."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """Yield a comparison for each pair that can be judged, in any order."""
        ...


class _LabelLogits(LogitsProcessor):
    """Keeps the logits of the answer labels at every step of a generation, and changes nothing."""

    def __init__(self, label_ids: Sequence[int]):
        self.label_ids, self.steps = list(label_ids), []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append(scores[:, self.label_ids].float().cpu())
        return scores


class Judge(VideoJudge):
    """A judge backed by a transformers vision-language model (Qwen2.5-VL or Qwen3-VL).

    Answers are greedy unless ``decoding`` says otherwise. ``batch_size`` counts showings (two for each pair). Vision
    tokens are computed once per video and kept for the last ``keep`` videos, however many pairs they appear in.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        processor,
        prompt: JudgePrompt | None,
        *,
        judge_id: str,
        score_prompt: VideoPrompt | None = None,
        describe_prompt: VideoPrompt | None = None,
        decoding: Decoding | None = None,
        batch_size: int = 64,
        keep: int = 512,
    ):
        super().__init__(Prompts(prompt, score_prompt, describe_prompt), judge_id=judge_id, decoding=decoding)
        self.model, self.prompt, self.batch_size, self.keep = model.eval(), prompt, batch_size, keep
        self.processor, self.tokenizer = processor, processor.tokenizer
        self._encoders: dict[tuple, ShowingEncoder] = {}
        self.label_ids: list[int] = []
        if prompt is not None:
            self.encoder = self._encoder(prompt)
            self.label_ids = self._label_ids(prompt.labels)
        self._features: OrderedDict[str, Sequence[Tensor]] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        preset: str | None = None,
        adapter: str | Path | None = None,
        prompt: JudgePrompt | None = None,
        dtype: str = "float32",
        batch_size: int = 64,
        decoding: Decoding | None = None,
        device: str | torch.device | None = None,
    ) -> "Judge":
        """Load a judge from a transformers directory, a PEFT directory, or a hub id; ``adapter`` goes on top.

        ``preset`` (a name in :data:`reward_model.presets.PRESETS`) says what the judge is asked and shown, and in which
        subfolder of ``path`` it lies. Prompts kept beside the weights go before the preset's, and ``prompt`` before
        both. Raises InputError where the judge cannot be loaded.
        """
        if preset is not None and preset not in PRESETS:
            raise InputError(f"There is no preset {preset}; take one of {', '.join(PRESETS)}.", exit_code=2)
        chosen = PRESETS["general" if preset is None else preset]
        path = local_directory(path, chosen.subfolder)
        model = load_model(path, adapter, dtype)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        base = base_directory(path)
        kept = kept_prompts(base, chosen)
        prompt, decoding = prompt or kept.compare, decoding or Decoding()
        wording = wording_id(prompt) if prompt else ""
        parts = [weights_id(path), weights_id(base), weights_id(adapter) if adapter else "", wording, dtype, decoding]
        return cls(
            model, AutoProcessor.from_pretrained(base), prompt, judge_id=stable_id(*parts), score_prompt=kept.score,
            describe_prompt=kept.describe, decoding=decoding, batch_size=batch_size,
        )  # fmt: skip

    def _encoder(self, prompt: JudgePrompt | VideoPrompt) -> ShowingEncoder:
        key = (prompt.sampling, prompt.max_pixels)
        if key not in self._encoders:
            self._encoders[key] = ShowingEncoder.for_prompt(self.processor, prompt)
        return self._encoders[key]

    def _label_ids(self, labels: tuple[str, str]) -> list[int]:
        """Token ids of both labels, and again of the same words with or without a space before them, where those are
        tokens too: an answer may be spelt either way.
        """
        respelt = [label.strip() if label.startswith(" ") else f" {label}" for label in labels]
        spelt = [self.tokenizer(list(each), add_special_tokens=False).input_ids for each in (labels, respelt)]
        ids = [tokens[0] for pair in spelt if all(len(tokens) == 1 for tokens in pair) for tokens in pair]
        if not ids or not all(label.strip() for label in labels):
            raise InputError(f"The judge's labels {labels} are no tokens; choose labels of one token each.")
        if [parse_choice(label) for label in labels] != ["first", "second"]:
            raise InputError(f"The judge's labels {labels} cannot be read back; take 1 and 2, or A and B.")
        return ids

    def _ask(self, questions: Iterator[Question]) -> Iterator[Answer]:
        # Features depend in their last bits on the batch they were computed in; no answer may depend on earlier calls.
        self._features.clear()
        step = max(1, self.batch_size // 2) * 2
        while window := list(itertools.islice(questions, step * BATCHES_AHEAD)):
            encoder = self._encoder(window[0].prompt)
            answers: dict[int, Answer] = {}
            showings: dict[int, Showing] = {}
            for index, question in enumerate(window):
                try:
                    showings[index] = encoder.showing(question.messages, question.clips)
                except InputError as error:
                    answers[index] = Answer(error=str(error))
            rows = _in_order(showings)
            for start in range(0, len(rows), step):
                batch = rows[start : start + step]
                seed = seed_for(self.judge_id, *((window[i].sample, *showings[i].paths) for i in batch))
                answered = self._answer([showings[i] for i in batch], encoder, window[0].prompt, seed)
                answers.update(zip(batch, answered, strict=True))
            yield from (answers[index] for index in range(len(window)))

    @torch.no_grad()
    def _answer(
        self, showings: list[Showing], encoder: ShowingEncoder, prompt: JudgePrompt | VideoPrompt, seed: int
    ) -> list[Answer]:
        inputs = self._inputs(showings, encoder)
        labels = self.label_ids if isinstance(prompt, JudgePrompt) else []
        recorder = _LabelLogits(labels)
        sampled = self.decoding.samples > 1 and prompt is not self.prompts.describe
        drawn = {"do_sample": False}
        if sampled:
            drawn = {"do_sample": True, "temperature": self.decoding.temperature, "top_p": 1.0, "top_k": 0}
        with torch.random.fork_rng(enabled=sampled):
            if sampled:
                torch.manual_seed(seed)
            generated = self.model.generate(
                **inputs,
                **drawn,
                max_new_tokens=prompt.max_new_tokens,
                logits_processor=LogitsProcessorList([recorder]),
            )
        completions = generated[:, -len(recorder.steps) :].cpu()
        texts = self.tokenizer.batch_decode(completions, skip_special_tokens=True)
        if not labels:
            return [Answer(text) for text in texts]
        logits = torch.stack(recorder.steps, dim=1)
        return [Answer(row[0], self._verdict(*row).p) for row in zip(texts, completions, logits, strict=True)]

    def _inputs(self, showings: list[Showing], encoder: ShowingEncoder) -> dict:
        """What ``generate`` takes: with vision tokens instead of pixels, and with what the model has read already."""
        owners = shared_heads(showings, LIKE_LENGTH)
        inputs = encoder.collate(showings, pixels=False, heads=owners is not None)
        inputs = {name: value.to(self.model.device) for name, value in inputs.items()}
        inputs["position_ids"] = positions(self.model, inputs)
        features = self._video_features(showings)
        in_place = len(features[0][0]) == 1
        if in_place:
            embeds = self.model.get_input_embeddings()(inputs["input_ids"])
            places = (inputs["input_ids"] == encoder.video_token_id)[..., None]
            tokens = torch.cat([pooled for videos in features for (pooled,) in videos])
            inputs["inputs_embeds"] = embeds.masked_scatter(places, tokens.to(embeds.dtype))
        if owners is not None:
            head = max(showing.head for showing in showings)
            firsts = [features[owner][0] for owner in sorted(set(owners))]
            cache = prefill(self.model, inputs, owners, head, {} if in_place else _seen(firsts))
            inputs["past_key_values"] = cache
            features = [rest for _, *rest in features]
        unread = list(itertools.chain.from_iterable(features))
        return inputs if in_place or not unread else {**inputs, **_seen(unread)}

    def _video_features(self, showings: list[Showing]) -> list[list[Sequence[Tensor]]]:
        """Vision tokens of each showing's videos (with those of deeper layers, where the family has them); those of
        videos seen lately are not computed again.
        """
        missing = {}
        for showing in showings:
            for path, video in zip(showing.paths, showing.videos, strict=True):
                if path not in self._features:
                    missing[path] = video
        if missing:
            tensors = video_tensors(list(missing.values()))
            output = self.model.get_video_features(
                tensors["pixel_values_videos"].to(self.model.device), tensors["video_grid_thw"].to(self.model.device)
            )
            deep = getattr(output, "deepstack_features", None) or []
            self._features.update(zip(missing, zip(output.pooler_output, *deep, strict=True), strict=True))
        features = [[self._features[path] for path in showing.paths] for showing in showings]
        while len(self._features) > self.keep:
            self._features.popitem(last=False)
        return features

    def _verdict(self, text: str, completion: Tensor, logits: Tensor) -> OrderVerdict:
        verdict = parse_choice(text)
        if verdict not in ("first", "second"):
            return OrderVerdict(text=text, verdict=verdict)
        spellings = [self.label_ids[start : start + 2] for start in range(0, len(self.label_ids), 2)]
        spelt = {pair[verdict == "second"]: 2 * number for number, pair in enumerate(spellings)}
        for step in reversed(range(len(completion))):
            column = spelt.get(int(completion[step]))
            if column is None:
                continue
            # The label that makes the verdict readable, not one in the thought or in what follows.
            before, after = (self._parse(completion[:end]) for end in (step, step + 1))
            if before is None and after == verdict:
                return OrderVerdict(
                    text=text, verdict=verdict, p=float(logits[step, column : column + 2].softmax(0)[0])
                )
        return OrderVerdict(text=text, verdict=verdict)

    def _parse(self, completion: Tensor) -> Choice | None:
        return parse_choice(self.tokenizer.decode(completion, skip_special_tokens=True))


def _in_order(showings: Mapping[int, Showing]) -> list[int]:
    """Their keys, such that those of like length, and in these those with the same first video, are neighbours."""
    seen: dict[str, int] = {}
    place = {index: seen.setdefault(showing.paths[0], index) for index, showing in showings.items()}
    return sorted(
        showings,
        key=lambda i: (len(showings[i].ids) // LIKE_LENGTH, showings[i].head // LIKE_LENGTH, place[i]),
    )


def _seen(features: Sequence[Sequence[Tensor]]) -> dict[str, Any]:
    """Videos' vision tokens as a model takes them that also has those of deeper layers (transformers >= 5.18)."""
    pooled, *deep = zip(*features, strict=True)
    output = BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=deep)
    return {"mm_encoder_outputs": {"video": output}}
