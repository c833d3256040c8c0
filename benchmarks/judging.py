"""Judging all pairs against the published demonstration's way: ``python -m benchmarks.judging [--size small|real]``.

That way asks about one pair a call, in both orders here, and decodes and encodes both videos each time. Ours is
``reward_model.Judge``. Both have the same weights and decode greedily; their answers are compared, and a text that
differs is told apart by the gap of the two likeliest tokens where it first does. *small* is the tiny judge that ships;
*real* is Qwen2.5-VL-7B's shape, random, in bfloat16, with 8 frames of 448x448 and 256 tokens, for a GPU. ``--family
internvl`` takes an InternVL of random weights, of the tiny judge's width or of InternVL3-8B's shape. Runs alternate,
and the median ratio is told, with where the time of the last run went.
"""

import itertools
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jsonargparse import CLI
from rich.table import Table
from transformers import AutoProcessor, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from benchmarks.internvl_judge import random_internvl
from pipelines.loop.config import parse
from reward_model import Judge
from reward_model.encoding import ShowingEncoder
from reward_model.families import family_of
from reward_model.judging.decoder import Decoder
from reward_model.parsing import parse_choice
from reward_model.prompts import JudgePrompt
from videoduet.config import resolve
from videoduet.progress import console
from videoduet.records import Comparison, Prompt, Video, VideoPair
from videoduet.video import write_video

NEAR_TIE = 1e-3
"""Two tokens whose logits are nearer than this may change places by rounding."""
STAGES = ("decode", "vision", "prefill", "generation", "other")


class Stopwatch:
    """Seconds by stage, from hooks on the model and around decoding."""

    def __init__(self, model: torch.nn.Module):
        self.model, self.seconds = model, defaultdict(float)
        for part in family_of(model).vision_parts(model):
            self._watch(part, lambda kwargs: "vision")
        self._watch(
            model.model.language_model,
            lambda kwargs: "prefill" if kwargs["inputs_embeds"].shape[1] > 1 else "generation",
        )

    def _now(self) -> float:
        if self.model.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def _watch(self, module: torch.nn.Module, stage) -> None:
        started: list[float] = []

        def before(module, args, kwargs):
            started.append(self._now())

        def after(module, args, kwargs, output):
            self.seconds[stage(kwargs)] += self._now() - started.pop()

        module.register_forward_pre_hook(before, with_kwargs=True)
        module.register_forward_hook(after, with_kwargs=True)

    @contextmanager
    def engine(self) -> Iterator[None]:
        """Count what the decoder of a judge on a GPU takes to read and to generate: it does not call the model."""
        own = {name: getattr(Decoder, name) for name in ("read", "run")}

        def timed(name: str, stage: str):
            def method(*args, **kwargs):
                started = self._now()
                try:
                    return own[name](*args, **kwargs)
                finally:
                    self.seconds[stage] += self._now() - started

            return method

        for name, stage in (("read", "prefill"), ("run", "generation")):
            setattr(Decoder, name, timed(name, stage))
        try:
            yield
        finally:
            for name, method in own.items():
                setattr(Decoder, name, method)

    @contextmanager
    def decoding(self, encoder: ShowingEncoder):
        """Count what ``encoder`` takes to decode and patchify videos."""
        video = encoder.video

        def timed(*args):
            started = time.perf_counter()
            try:
                return video(*args)
            finally:
                self.seconds["decode"] += time.perf_counter() - started

        encoder.video = timed
        try:
            yield
        finally:
            del encoder.video


@torch.no_grad()
def plain_way(judge: Judge, pairs: list[VideoPair], watch: Stopwatch) -> list[tuple[str, str]]:
    """One showing a call of the model, pixels and all; the texts of both orders of each pair."""
    answers = []
    for pair in pairs:
        texts = []
        for first, second in ((pair.first, pair.second), (pair.second, pair.first)):
            encoder = ShowingEncoder.for_view(judge.processor, judge.prompt.view)
            with watch.decoding(encoder):
                showing = encoder.showing(judge.prompt.messages(pair.prompt.text, first.path, second.path))
            inputs = {
                name: value.to(judge.model.device) for name, value in encoder.collate([showing], pixels=True).items()
            }
            output = judge.model.generate(**inputs, do_sample=False, max_new_tokens=judge.prompt.max_new_tokens)
            texts.append(judge.tokenizer.decode(output[0, len(showing.ids) :], skip_special_tokens=True))
        answers.append((texts[0], texts[1]))
    return answers


def our_way(judge: Judge, pairs: list[VideoPair], watch: Stopwatch) -> list[Comparison]:
    """The comparisons of all pairs in one call, nothing kept from the call before."""
    judge.encoder._videos.clear()
    with watch.decoding(judge.encoder), watch.engine():
        return list(judge.compare(pairs))


@torch.no_grad()
def gap_at_first_difference(judge: Judge, pair: VideoPair, swapped: bool, one: str, other: str) -> float:
    """How far apart the two likeliest tokens are where two answers to one showing part, by the plain model."""
    videos = (pair.second, pair.first) if swapped else (pair.first, pair.second)
    messages = judge.prompt.messages(pair.prompt.text, *(video.path for video in videos))
    showing = judge.encoder.showing(messages)
    ids = [judge.tokenizer(text, add_special_tokens=False).input_ids for text in (one, other)]
    same = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), min(map(len, ids)))
    inputs = judge.encoder.collate([replace(showing, ids=showing.ids + ids[0][:same])], pixels=True)
    inputs = {name: value.to(judge.model.device) for name, value in inputs.items()}
    top = judge.model(**inputs).logits[0, -1].float().topk(2).values
    return float(top[0] - top[1])


def differences(judge: Judge, pairs: list[VideoPair], plain: list, ours: list[Comparison]) -> tuple[int, int, int]:
    """Showings whose text differs, those of them that differ at a near tie, and those whose verdict differs."""
    texts = near = verdicts = 0
    for pair, expected, comparison in zip(pairs, plain, ours, strict=True):
        for swapped, found in enumerate((comparison.forward.text, comparison.backward.text)):
            if found != expected[swapped]:
                gap = gap_at_first_difference(judge, pair, bool(swapped), expected[swapped], found)
                texts, near = texts + 1, near + (gap < NEAR_TIE)
                verdicts += parse_choice(found) != parse_choice(expected[swapped])
                console.print(f"  {pair.first.id} / {pair.second.id}: texts differ, logits {gap:.2e} apart")
    return texts, near, verdicts


def real_size_judge(device: str, batch_size: int, tokens: int) -> Judge:
    """Qwen2.5-VL-7B's shape with random weights; the tiny judge's words, the real pixels."""
    tiny = resolve(parse([])[0].judge.path)
    processor = AutoProcessor.from_pretrained(tiny)
    video = processor.video_processor
    video.patch_size, video.size = 14, {"shortest_edge": 448 * 448, "longest_edge": 448 * 448}
    token = processor.tokenizer.convert_tokens_to_ids
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
            num_key_value_heads=4, max_position_embeddings=32768,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
            pad_token_id=token("<|endoftext|>"),
        ),
        vision_config=dict(
            depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16, out_hidden_size=3584, patch_size=14,
            window_size=112, fullatt_block_indexes=[7, 15, 23, 31], tokens_per_second=2,
        ),
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        torch.set_default_dtype(torch.bfloat16)
        model = Qwen2_5_VLForConditionalGeneration(config)
        torch.set_default_dtype(torch.float32)
    model.generation_config.pad_token_id = token("<|endoftext|>")
    model.generation_config.eos_token_id = None
    # Random weights would answer in words that the tiny tokenizer lacks.
    model.generation_config.suppress_tokens = list(range(len(processor.tokenizer), 152064))
    prompt = JudgePrompt(None, "1", "2", "{prompt}", num_frames=8, max_new_tokens=tokens)
    return Judge(model, processor, prompt, judge_id="real size", batch_size=batch_size)


def write_clips(folder: Path, prompts: int, videos: int, side: int) -> list[VideoPair]:
    """All pairs of random moving patterns, ``videos`` for each prompt."""
    rng, pairs = np.random.default_rng(0), []
    for number in range(prompts):
        prompt, group = Prompt.of(f"a red circle moving left fast on a teal background {number}"), []
        for index in range(videos):
            coarse = rng.integers(0, 255, (8, 8, 8, 3), dtype=np.uint8)
            frames = coarse.repeat(side // 8, axis=1).repeat(side // 8, axis=2)
            file = folder / f"{number}_{index}.mp4"
            write_video(file, frames, 8)
            group.append(Video(id=file.stem, path=str(file)))
        pairs += [VideoPair(prompt=prompt, first=a, second=b) for a, b in itertools.combinations(group, 2)]
    return pairs


def main(
    size: Literal["small", "real"] = "small",
    prompts: int = 1,
    videos: int = 10,
    tokens: int | None = None,
    batch_size: int | None = None,
    repeats: int = 3,
    family: Literal["qwen", "internvl"] = "qwen",
) -> None:
    """Time both ways and compare their answers.

    Args:
        size: The tiny judge that ships, or Qwen2.5-VL-7B's shape with random weights (for a GPU).
        prompts: Groups of videos.
        videos: Videos of each prompt; all pairs are judged.
        tokens: New tokens of an answer at most (small: 48, real: 256).
        batch_size: Showings that ours asks at once (small: 64, real: 32).
        repeats: Runs of each way, alternating.
        family: The kind of model.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokens, batch_size = tokens or (48 if size == "small" else 256), batch_size or (64 if size == "small" else 32)
    tiny = resolve(str(parse([])[0].judge.path))
    if family == "internvl":
        frames = JudgePrompt(None, "1", "2", "{prompt}", num_frames=8, max_new_tokens=tokens)
        judge = random_internvl(size, tiny, device, frames, batch_size)
    elif size == "small":
        judge = Judge.from_pretrained(tiny, device=device, batch_size=batch_size)
        judge.prompts = replace(judge.prompts, compare=replace(judge.prompt, max_new_tokens=tokens))
    else:
        judge = real_size_judge(device, batch_size, tokens)
    watch, seconds, stages = Stopwatch(judge.model), defaultdict(list), defaultdict(dict)
    with tempfile.TemporaryDirectory() as name:
        pairs = write_clips(Path(name), prompts, videos, 32 if size == "small" else 448)
        for repeat in range(-1, repeats):
            # The first, uncounted, warms up kernels and caches.
            asked = pairs if repeat >= 0 else pairs[:2]
            for way, judged in (("plain", plain_way), ("ours", our_way)):
                watch.seconds.clear()
                started = time.perf_counter()
                answers = judged(judge, asked, watch)
                took = time.perf_counter() - started
                if repeat >= 0:
                    seconds[way].append(took)
                    stages[way] = {**watch.seconds, "other": took - sum(watch.seconds.values())}
                if way == "plain":
                    expected = answers
        apart = differences(judge, pairs, expected, answers)
    report(seconds, stages, len(pairs), apart, f"{family}, {size}")


def report(seconds: dict, stages: dict, pairs: int, apart: tuple[int, int, int], size: str) -> None:
    """Print pairs a second, where the time went, and how many answers differ."""
    ratios = [plain / ours for plain, ours in zip(seconds["plain"], seconds["ours"], strict=True)]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    table = Table(
        "way", "pairs/s (median)", *STAGES, title=f"Judging, {size}: {pairs} pairs, {device}, torch {torch.__version__}"
    )
    for way, times in seconds.items():
        shares = [f"{stages[way].get(stage, 0.0):.2f} s" for stage in STAGES]
        table.add_row(way, f"{pairs / statistics.median(times):.2f}", *shares)
    console.print(table)
    runs = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    console.print(f"ours against plain: {statistics.median(ratios):.2f} x (runs: {runs})")
    texts, near, verdicts = apart
    console.print(
        f"of {2 * pairs} answers {texts} differ, {near} at a near tie (< {NEAR_TIE}); {verdicts} verdicts differ"
    )


if __name__ == "__main__":
    CLI(main, as_positional=False)
