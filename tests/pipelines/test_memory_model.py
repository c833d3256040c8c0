"""The plan's model of memory against peaks that torch's allocator counts on the CPU: within 15 % on the toy."""

import itertools
import json
import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from small_loop import MODELS, recipe
from test_plan import saved
from torch.profiler import ProfilerActivity, profile

from alignment.training.config import AlignConfig
from alignment.training.run import AlignRun
from alignment.training.trainer import align
from generators.loading import load_generator
from generators.sampling import SamplingItem, read_samples, sample_videos
from pipelines.loop.config import parse
from pipelines.loop.costs import judging_memory, training_memory
from pipelines.loop.rates import generator_size, judge_size
from pipelines.loop.rehearsal.memory import room, too_large
from reward_model.inputs import as_video
from reward_model.judging import engine
from reward_model.judging.decoder import Decoder, Prompts
from reward_model.judging.local import Judge
from videoduet.records import PreferencePair, Prompt, VideoPair
from videoduet.video import write_video


def most_held(work: Callable[[], object], file: Path) -> float:
    """The most bytes that tensors made in ``work`` hold at once, as the allocator of the CPU counts them."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        work()
    profiled.export_chrome_trace(str(file))
    events = [event for event in json.loads(file.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    sizes = [event["args"]["Bytes"] for event in sorted(events, key=lambda event: event["ts"])]
    return float(max(itertools.accumulate(sizes)))


def measured_step(folder: Path, path: Path, frames: int, pairs: int, rank: int, monkeypatch) -> tuple[float, float]:
    """The peak in bytes of a DPO step over ``pairs`` pairs, the second, and how many numbers its LoRA has."""
    generator = load_generator(path, sampler={"steps": 1, "num_frames": frames})
    prompts = [Prompt.of("a red circle moving left"), Prompt.of("a blue square moving up")]
    items = [SamplingItem(prompt, index, 10 * n + index) for n, prompt in enumerate(prompts) for index in range(2)]
    list(sample_videos(generator, items, folder, root=folder, version="G_0", round_number=0, batch_size=4))
    samples = {sample.id: sample for sample in read_samples(folder, root=folder)}
    chosen = [sample for sample in samples.values() if sample.index == 0]
    labels = [
        PreferencePair(
            prompt_id=one.prompt_id, chosen_id=one.id, rejected_id=other.id, chosen_round=0, rejected_round=0,
            margin=1.0, agreement=1.0, comparison_ids=(),
        )
        for one in chosen for other in samples.values() if other.prompt_id == one.prompt_id and other.index == 1
    ]  # fmt: skip
    peaks: list[float] = []
    step = AlignRun.step

    def counted(run: AlignRun, index: int):
        if index == 0:
            return step(run, index)
        kept = itertools.chain.from_iterable(state.values() for state in run.optimizer.state.values())
        before = sum(value.numel() * value.element_size() for value in (*run.policy.parameters(), *kept))
        peaks.append(before + most_held(lambda: step(run, index), folder / "trace.json"))
        return {}

    monkeypatch.setattr(AlignRun, "step", counted)
    config = AlignConfig(
        lora_rank=rank, lora_alpha=rank, batch_size=pairs, micro_batch=pairs, draws_per_pair=pairs, max_steps=2,
        tracker="none",
    )  # fmt: skip
    summary = align(
        generator, labels, samples, {prompt.id: prompt for prompt in prompts}, config=config, seed=0,
        output_dir=folder / "align", adapter=None,
    )  # fmt: skip
    return peaks[0], summary["trainable_parameters"]


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "pairs", "rank"), [(4, 1, 2), (4, 3, 2), (8, 2, 16), (16, 4, 2)])
def test_a_training_step_on_the_toy(shipped_generator, tmp_path, monkeypatch, frames, pairs, rank):
    """What a position keeps is counted by itself, at another shape, as the table's figures were measured."""
    measured, numbers = measured_step(tmp_path, shipped_generator, frames, pairs, rank, monkeypatch)
    generator = load_generator(shipped_generator)
    weights = sum(parameter.numel() for parameter in generator.denoiser.parameters())
    generator.denoiser = get_peft_model(generator.denoiser, LoraConfig(r=2, target_modules=generator.lora_targets))
    kept = saved(generator, 8, 1) / (2 * 8 * 64)
    # The table's are of half precision.
    unet = {"kept": kept / 2, "lora": numbers / rank}
    size = replace(generator_size("t2v_turbo"), weights=[weights / 1e9, 0.0, 0.0], unet=unet)
    config = AlignConfig(lora_rank=rank, micro_batch=pairs, gradient_checkpointing=False)
    assert training_memory(size, config, frames * 64, weight_bytes=4) == pytest.approx(measured, rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("videos", [3, 5, 8])
def test_a_batch_of_judging_on_the_toy(tmp_path, monkeypatch, videos):
    """All pairs of one prompt's videos in both orders, answered at once by the engine that a GPU has."""
    judge = Judge.from_pretrained(MODELS / "judge", device="cpu")
    prompt, made = Prompt.of("a red circle moving left"), list[Any]()
    for number in range(videos):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 32, 32, 3), np.uint8)
        write_video(tmp_path / f"{number}.mp4", pixels, 8)
        made.append(as_video(tmp_path / f"{number}.mp4")[0])
    pairs = [VideoPair(prompt=prompt, first=one, second=two) for one, two in itertools.combinations(made, 2)]
    judge.engine, judge.batch_size = True, 2 * len(pairs)
    shown: list[tuple[Prompts, int]] = []

    class Counted(Decoder):
        def __init__(self, model, prompts, new, *others):
            shown.append((prompts, new))
            super().__init__(model, prompts, new, *others)

    monkeypatch.setattr(engine, "Decoder", Counted)
    # What is made once, at first use, is no batch's.
    list(judge.compare(pairs[:1]))
    shown.clear()
    measured = most_held(lambda: list(judge.compare(pairs)), tmp_path / "trace.json")
    measured += sum(weight.numel() * weight.element_size() for weight in judge.model.parameters())
    ((prompts, new),) = shown
    batch, tokens = len(prompts.own), max(prompts.own) + prompts.split
    own = (max(prompts.own) + prompts.split * len(set(prompts.owners)) / batch) / tokens
    size = judge_size(str(MODELS / "judge"))
    size = replace(size, weights=sum(weight.numel() for weight in judge.model.parameters()) / 1e9)
    found = judging_memory(size, batch, new, weight_bytes=4, tokens=tokens, own=own)
    assert batch == 2 * len(pairs) and found == pytest.approx(measured, rel=0.15)


def test_what_does_not_fit_is_named_before_it_is_loaded(tmp_path):
    judge = {"factory": None, "path": str(MODELS / "judge"), "batch_size": 64}
    small, _ = parse(["--config", str(recipe(tmp_path, judge=judge))])
    assert [said.split()[0] for said in too_large(small, 1e6)] == ["rank"]
    assert "lower judge.batch_size" in next(too_large(small, 1e6)) and list(too_large(small, 64e9)) == []
    large, _ = parse(["--config", str(recipe(tmp_path, generator={"path": "models/t2v_turbo"}))])
    assert [said.split()[0] for said in too_large(large, 1e9)] == ["sample", "align"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone limits what a process may hold")
@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_the_room_is_what_a_process_may_hold(monkeypatch, kind):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    limits = {getattr(resource, kind): 10**9}
    monkeypatch.setattr(resource, "getrlimit", lambda which: (limits.get(which, resource.RLIM_INFINITY),) * 2)
    assert room() == 1e9
