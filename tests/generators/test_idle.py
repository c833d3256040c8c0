"""Text encoders lie beside a GPU while it draws or learns: real pipelines, their ways watched on a CPU."""

from pathlib import Path

import pytest
import torch
from tiny_families import FAMILIES, make
from tiny_newer_families import FAMILIES as NEWER
from tiny_newer_families import make as make_newer
from torch import nn

from alignment.training.config import AlignConfig
from alignment.training.trainer import align
from generators import idle, load_generator
from generators.sampling import SamplingItem, read_samples, sample_videos
from videoduet.records import PreferencePair, Prompt

PROMPTS = [Prompt.of("a red circle moving left"), Prompt.of("a blue square moving up")]
WAITING, WORKING = "cpu", "cpu:0"
"""One place to torch, but two names."""


@pytest.fixture
def ways(monkeypatch) -> list[str]:
    """Where encoders were put, and each pass of a denoiser, in turn; the device has room for half of the models."""
    seen: list[str] = []
    move = nn.Module.to

    def to(module: nn.Module, *arguments, **named):
        if getattr(module, "watched", False):
            seen.append(str(arguments[0]))
        return move(module, *arguments, **named)

    monkeypatch.setattr(nn.Module, "to", to)
    monkeypatch.setattr(idle, "memory_of", lambda device: 1.0)
    return seen


def watched(path: Path, sampler: dict, ways: list[str]):
    """The generator at ``path``, its encoders watched, on the device."""
    generator = load_generator(path, sampler=sampler)
    for name, part in generator.pipeline.components.items():
        if isinstance(part, nn.Module) and name.startswith("text_encoder"):
            part.watched = True
    generator.denoiser.register_forward_pre_hook(lambda *_: ways.append("pass"))
    # Whoever moves it later means the same device.
    generator.to = lambda _: type(generator).to(generator, WORKING)
    generator.to(WORKING)
    return generator


def when_passing(ways: list[str]) -> set[str]:
    """Where an encoder was last put when the denoiser had its passes."""
    last, found = WAITING, set()
    for step in ways:
        found, last = (found | {last}, last) if step == "pass" else (found, step)
    return found


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("videocrafter2", "ltx2", "hunyuan15")]


@pytest.mark.parametrize("family", ["wan", *SLOW])
def test_encoders_wait_while_the_denoiser_works(family, ways, tmp_path, monkeypatch):
    kinds, maker = (NEWER, make_newer) if family in NEWER else (FAMILIES, make)
    path, sampler = maker(family, tmp_path), kinds[family][1]
    generator = watched(path, sampler, ways)
    items = [SamplingItem(prompt, index, 7 * index) for prompt in PROMPTS for index in (0, 1)]
    samples = drawn(generator, items, tmp_path / "videos")
    assert WORKING in ways and "pass" in ways and when_passing(ways) == {WAITING} and ways[-1] != WORKING
    trains(path, sampler, samples, ways, tmp_path)
    # What is drawn is what a device with room for all draws.
    monkeypatch.setattr(idle, "memory_of", lambda device: float("inf"))
    plain = drawn(load_generator(path, sampler=sampler), items, tmp_path / "plain")
    assert [sample.id for sample in samples] == [sample.id for sample in plain]


def drawn(generator, items, folder):
    for _ in sample_videos(generator, items, folder, root=folder, version="G_0", round_number=0, batch_size=2):
        pass
    return read_samples(folder, root=folder)


def trains(path, sampler, samples, ways, tmp_path):
    ways.clear()
    one, other = [sample for sample in samples if sample.prompt_id == PROMPTS[0].id]
    pair = PreferencePair(
        prompt_id=one.prompt_id, chosen_id=one.id, rejected_id=other.id, chosen_round=0, rejected_round=0, margin=1.0,
        agreement=1.0, comparison_ids=(),
    )  # fmt: skip
    generator = watched(path, sampler, ways)
    config = AlignConfig(
        lora_rank=1, lora_alpha=1, batch_size=1, micro_batch=1, draws_per_pair=1, max_steps=1, tracker="none"
    )
    prompts = {prompt.id: prompt for prompt in PROMPTS}
    align(
        generator, [pair], {sample.id: sample for sample in samples}, prompts, config=config, seed=0,
        output_dir=tmp_path / "align", adapter=None,
    )  # fmt: skip
    assert WORKING in ways and "pass" in ways and when_passing(ways) == {WAITING}
    # Encoded once and kept on the disk: neither encoder nor autoencoder is held by anybody.
    assert generator.pipeline.text_encoder is None and generator.pipeline.vae is None and generator._idle is None


def test_only_where_models_fill_the_device(monkeypatch):
    models = {"text_encoder": nn.Linear(10, 10), "transformer": nn.Linear(10, 10)}
    held = sum(4 * weight.numel() for model in models.values() for weight in model.parameters())
    for memory, names in ((2.1 * held, []), (1.9 * held, ["text_encoder"])):
        monkeypatch.setattr(idle, "memory_of", lambda device, memory=memory: memory)
        assert idle.waiting(models, torch.device("cuda:0")) == names
    monkeypatch.undo()
    assert idle.waiting(models, torch.device("cpu")) == []
