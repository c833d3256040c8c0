"""A vision-language model as a judge of video pairs: it reasons, then answers, and is asked in both orders."""

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import torch
from peft import PeftConfig, PeftModel
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, LogitsProcessor, LogitsProcessorList

from reward_model.encoding import Showing, ShowingEncoder, video_tensors
from reward_model.parsing import Choice, parse_choice
from reward_model.prompts import JudgePrompt
from videoduet.errors import InputError
from videoduet.records import Comparison, OrderVerdict, VideoPair, stable_id
from videoduet.store import content_hash


class PairwiseJudge(Protocol):
    """Anything with an opinion on pairs of videos: a model, human votes in a file, a metric."""

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """Yield a comparison for each pair that can be judged, in any order."""
        ...


class _LabelLogits(LogitsProcessor):
    """Keeps the logits of the two answer labels at every step of a generation, and changes nothing."""

    def __init__(self, label_ids: Sequence[int]):
        self.label_ids, self.steps = list(label_ids), []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.steps.append(scores[:, self.label_ids].float().cpu())
        return scores


def weights_id(directory: str | Path) -> str:
    """A hash of the weights in a local directory; the name itself for a hub id (whose revision the config pins)."""
    files = sorted(Path(directory).glob("*.safetensors"))
    return stable_id(*map(content_hash, files)) if files else str(directory)


def load_model(path: str | Path, adapter: str | Path | None = None, dtype: str = "float32") -> torch.nn.Module:
    """The vision-language model at ``path`` (or, for a PEFT directory, the base it names with the adapter merged in).

    ``adapter`` is put on top of that, and merged where the weights are float32. Raises InputError where nothing can be
    loaded.
    """
    try:
        if (Path(path) / "adapter_config.json").exists():
            base = PeftConfig.from_pretrained(str(path)).base_model_name_or_path
            model = PeftModel.from_pretrained(load_model(base, dtype=dtype), str(path)).merge_and_unload()
        else:
            model = AutoModelForImageTextToText.from_pretrained(path, dtype=getattr(torch, dtype))
        # PEFT takes a model's name for the base of an adapter that is trained on it, whatever its config says.
        model.name_or_path = str(path)
        return model if adapter is None else _adapted(model, adapter)
    except (OSError, ValueError) as error:
        raise InputError(f"Judge {path} cannot be loaded ({error}); give a transformers or PEFT directory.") from error


def _adapted(model: torch.nn.Module, adapter: str | Path) -> torch.nn.Module:
    # Into half-precision weights most of what the adapter learned would be rounded away.
    adapted = PeftModel.from_pretrained(model, str(adapter))
    return adapted.merge_and_unload() if model.dtype is torch.float32 else adapted


def base_directory(path: str | Path) -> str:
    """Where processor and judge prompt live: the directory itself, or the base that a PEFT directory names."""
    if (Path(path) / "adapter_config.json").exists():
        return base_directory(PeftConfig.from_pretrained(str(path)).base_model_name_or_path)
    return str(path)


class Judge:
    """A judge backed by a transformers vision-language model (Qwen2.5-VL).

    Answers are greedy. ``batch_size`` counts showings (two for each pair). Vision tokens are computed once per video
    and kept for the last ``keep`` videos, however many pairs they appear in.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        processor,
        prompt: JudgePrompt,
        *,
        judge_id: str,
        batch_size: int = 64,
        keep: int = 512,
    ):
        self.model, self.prompt, self.batch_size, self.keep = model.eval(), prompt, batch_size, keep
        self.tokenizer = processor.tokenizer
        self.encoder = ShowingEncoder(processor, prompt.num_frames)
        self.label_ids = [self._single_token(label) for label in prompt.labels]
        if [parse_choice(label) for label in prompt.labels] != ["first", "second"]:
            raise InputError(f"The judge's labels {prompt.labels} cannot be read back; take 1 and 2, or A and B.")
        self.judge_id = judge_id
        self._features: OrderedDict[str, Tensor] = OrderedDict()

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        *,
        adapter: str | Path | None = None,
        prompt: JudgePrompt | None = None,
        dtype: str = "float32",
        batch_size: int = 64,
        device: str | torch.device | None = None,
    ) -> "Judge":
        """Load a judge from a transformers directory, a PEFT directory, or a hub id; ``adapter`` goes on top.

        ``prompt`` defaults to the one kept beside the weights. Raises InputError where the judge cannot be loaded.
        """
        model = load_model(path, adapter, dtype)
        model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        base = base_directory(path)
        prompt = prompt or JudgePrompt.load(base)
        wording = hashlib.sha256(json.dumps(asdict(prompt), sort_keys=True).encode()).hexdigest()
        parts = [weights_id(path), weights_id(base), weights_id(adapter) if adapter else "", wording, dtype, "greedy"]
        processor = AutoProcessor.from_pretrained(base)
        return cls(model, processor, prompt, judge_id=stable_id(*parts), batch_size=batch_size)

    def _single_token(self, label: str) -> int:
        ids = self.tokenizer(label, add_special_tokens=False).input_ids
        if len(ids) != 1:
            raise InputError(f"The judge's label {label!r} is {len(ids)} tokens; choose labels of one token each.")
        return ids[0]

    def compare(self, pairs: Iterable[VideoPair]) -> Iterator[Comparison]:
        """Judge every pair in both orders. Raises InputError where a video cannot be read."""
        pairs, step = list(pairs), max(1, self.batch_size // 2)
        # Features depend in their last bits on the batch they were computed in; no answer may depend on earlier calls.
        self._features.clear()
        for start in range(0, len(pairs), step):
            chunk = pairs[start : start + step]
            showings = []
            for pair in chunk:
                text, first, second = pair.prompt.text, pair.first.path, pair.second.path
                showings.append(self.encoder.showing(self.prompt.messages(text, first, second)))
                showings.append(self.encoder.showing(self.prompt.messages(text, second, first)))
            verdicts = self._answer(showings)
            for pair, forward, backward in zip(chunk, verdicts[::2], verdicts[1::2], strict=True):
                yield Comparison.of(pair, self.judge_id, forward, backward, _mean_probability(forward, backward))

    @torch.no_grad()
    def _answer(self, showings: list[Showing]) -> list[OrderVerdict]:
        device = self.model.device
        inputs = {name: value.to(device) for name, value in self.encoder.collate(showings, pixels=False).items()}
        features = self._video_features(showings)
        embeds = self.model.get_input_embeddings()(inputs["input_ids"])
        places = (inputs["input_ids"] == self.encoder.video_token_id)[..., None]
        inputs["inputs_embeds"] = embeds.masked_scatter(places, features.to(embeds.dtype))
        recorder = _LabelLogits(self.label_ids)
        generated = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=self.prompt.max_new_tokens,
            logits_processor=LogitsProcessorList([recorder]),
        )
        # With embeddings given, some versions return the prompt too.
        completions = generated[:, -len(recorder.steps) :].cpu()
        texts = self.tokenizer.batch_decode(completions, skip_special_tokens=True)
        logits = torch.stack(recorder.steps, dim=1)
        return [self._verdict(*row) for row in zip(texts, completions, logits, strict=True)]

    def _video_features(self, showings: list[Showing]) -> Tensor:
        """Vision tokens of all videos shown, in order; those of videos seen lately are not computed again."""
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
            self._features.update(zip(missing, output.pooler_output, strict=True))
        features = torch.cat([self._features[path] for showing in showings for path in showing.paths])
        while len(self._features) > self.keep:
            self._features.popitem(last=False)
        return features

    def _verdict(self, text: str, completion: Tensor, logits: Tensor) -> OrderVerdict:
        verdict = parse_choice(text)
        if verdict not in ("first", "second"):
            return OrderVerdict(text=text, verdict=verdict)
        label = self.label_ids[verdict == "second"]
        for step in (completion == label).nonzero().flatten().flip(0).tolist():
            # The label that makes the verdict readable, not one in the thought or in what follows.
            before, after = (self._parse(completion[:end]) for end in (step, step + 1))
            if before is None and after == verdict:
                return OrderVerdict(text=text, verdict=verdict, p=float(logits[step].softmax(0)[0]))
        return OrderVerdict(text=text, verdict=verdict)

    def _parse(self, completion: Tensor) -> Choice | None:
        return parse_choice(self.tokenizer.decode(completion, skip_special_tokens=True))


def _mean_probability(forward: OrderVerdict, backward: OrderVerdict) -> float | None:
    """P(first video) from both orders, averaged as logits: a constant preference for a position cancels."""
    if forward.p is None or backward.p is None:
        return None
    tiny = 1e-9
    logit = [math.log(max(p, tiny) / max(1 - p, tiny)) for p in (forward.p, backward.p)]
    return 1 / (1 + math.exp(-(logit[0] - logit[1]) / 2))
