"""A vision-language model as a judge of videos: it reasons, then answers, and compares in both orders."""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from transformers import AutoProcessor, LogitsProcessor, LogitsProcessorList
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from reward_model.encoding import Qwen3ShowingEncoder, Showing, ShowingEncoder, video_tensors
from reward_model.loading import base_directory, load_model, local_directory, weights_id
from reward_model.parsing import Choice, parse_choice
from reward_model.presets import PRESETS
from reward_model.prompts import PROMPT_FILES, JudgePrompt, VideoPrompt
from reward_model.video_judge import Answer, Decoding, Prompts, Question, VideoJudge, wording_id
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict, VideoPair, stable_id
from videoduet.seeding import seed_for

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe")
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
        if model.config.model_type not in FAMILIES:
            raise InputError(f"The judge is a {model.config.model_type}; take one of {', '.join(FAMILIES)}.")
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
        kept = {kind: Path(base) / name for kind, name in PROMPT_FILES.items()}
        compare, score, describe = (
            (VideoPrompt if kind != "compare" else JudgePrompt).read(file) if file.exists() else getattr(chosen, kind)
            for kind, file in kept.items()
        )
        prompt, decoding = prompt or compare, decoding or Decoding()
        wording = wording_id(prompt) if prompt else ""
        parts = [weights_id(path), weights_id(base), weights_id(adapter) if adapter else "", wording, dtype, decoding]
        return cls(
            model, AutoProcessor.from_pretrained(base), prompt, judge_id=stable_id(*parts), score_prompt=score,
            describe_prompt=describe, decoding=decoding, batch_size=batch_size,
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
            rows = sorted(showings, key=lambda index: len(showings[index].ids) // LIKE_LENGTH)
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
        device = self.model.device
        inputs = {name: value.to(device) for name, value in encoder.collate(showings, pixels=False).items()}
        inputs |= self._seen(inputs["input_ids"], self._video_features(showings), encoder)
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
        # With embeddings given, some versions return the prompt too.
        completions = generated[:, -len(recorder.steps) :].cpu()
        texts = self.tokenizer.batch_decode(completions, skip_special_tokens=True)
        if not labels:
            return [Answer(text) for text in texts]
        logits = torch.stack(recorder.steps, dim=1)
        return [Answer(row[0], self._verdict(*row).p) for row in zip(texts, completions, logits, strict=True)]

    def _seen(self, ids: Tensor, features: list[Sequence[Tensor]], encoder: ShowingEncoder) -> dict:
        """Vision tokens as ``generate`` takes them."""
        if isinstance(encoder, Qwen3ShowingEncoder):
            pooled, *deep = zip(*features, strict=True)
            output = BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=deep)
            return {"mm_encoder_outputs": {"video": output}}
        embeds = self.model.get_input_embeddings()(ids)
        tokens = torch.cat([pooled for (pooled,) in features])
        places = (ids == encoder.video_token_id)[..., None]
        return {"inputs_embeds": embeds.masked_scatter(places, tokens.to(embeds.dtype))}

    def _video_features(self, showings: list[Showing]) -> list[Sequence[Tensor]]:
        """Vision tokens of all videos shown, in order (with those of deeper layers, where the family has them); those
        of videos seen lately are not computed again.
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
        features = [self._features[path] for showing in showings for path in showing.paths]
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
