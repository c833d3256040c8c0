"""Newer families from prompts to a trained and exported adapter, with what their videos depend on."""

import functools
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from diffusers import DiffusionPipeline, HunyuanVideo15Pipeline
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tiny_newer_families import FAMILIES, make

from alignment.training.config import AlignConfig
from alignment.training.trainer import align
from generators import load_generator
from generators.loading import with_adapter
from generators.sampling import SamplingItem, read_samples, sample_videos
from pipelines import export
from videoduet.records import PreferencePair, Prompt

PROMPTS = ["a red circle moving left fast", "a blue square moving up"]
SEEDS = [3, 2**62]
STEP = AlignConfig(
    beta=10.0, learning_rate=1e-2, warmup_steps=0, max_steps=1, batch_size=1, micro_batch=1, draws_per_pair=1,
    lora_rank=2, lora_alpha=3, gradient_checkpointing=True, tracker="none",
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def short_texts():
    """HunyuanVideo-1.5 reads 1985 tokens whatever the prompt; 153 do here."""
    plain = HunyuanVideo15Pipeline.__init__

    @functools.wraps(plain)
    def shorter(self, *arguments, **named):
        plain(self, *arguments, **named)
        self.tokenizer_max_length, self.tokenizer_2_max_length, self.vision_num_semantic_tokens = 128, 16, 9

    HunyuanVideo15Pipeline.__init__ = shorter
    yield
    HunyuanVideo15Pipeline.__init__ = plain


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A family's directory, and its generator, made once."""
    folder = tmp_path_factory.mktemp("newer")

    @cache
    def generator(name):
        path = make(name, folder)
        return path, load_generator(path, sampler=FAMILIES[name][1])

    return generator


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@torch.no_grad()
def test_a_video_depends_on_its_prompt_and_its_seed_alone(made, family):
    _, generator = made(family)
    embeds = generator.encode_prompts(PROMPTS)
    torch.testing.assert_close(embeds[1:], generator.encode_prompts(PROMPTS[1:]), rtol=1e-4, atol=1e-5)
    both = generator.sample(embeds, SEEDS)
    assert both.dtype == torch.float32 and tuple(both.shape[1:]) == generator.latent_shape() and both.isfinite().all()
    torch.testing.assert_close(both[1:], generator.sample(embeds[1:], SEEDS[1:]), rtol=1e-4, atol=1e-4)
    assert not torch.equal(both[:1], generator.sample(embeds[1:], SEEDS[:1]))
    frames = generator.decode(both)
    settings = generator.settings
    assert frames.dtype == torch.uint8
    assert tuple(frames.shape) == (2, settings.num_frames, settings.height, settings.width, 3)
    assert generator.encode(frames).shape == both.shape
    assert len(generator.tokens(PROMPTS[0])) > 1 and generator.text_length > 1


@torch.no_grad()
def test_guidance_one_is_the_prediction_itself(made, family):
    """One step of the sampler is x - (σ₀ - σ₁)·v with what training sees as v."""
    _, generator = made(family)
    generator.settings = replace(generator.settings, steps=1, guidance_scale=1.0)
    embeds, noise = generator.encode_prompts(PROMPTS[:1]), generator.noise_batch(SEEDS[:1])
    drawn = generator.sample(embeds, SEEDS[:1])
    scheduler = generator.pipeline.scheduler
    velocity = generator.predict(noise, scheduler.timesteps[:1], embeds, [generator.settings])
    first, last = scheduler.sigmas[:2]
    torch.testing.assert_close(drawn, noise - (first - last) * velocity, rtol=1e-4, atol=1e-4)
    generator.settings = replace(generator.settings, **FAMILIES[family][1])


def test_it_learns_and_is_taken_elsewhere(made, family, tmp_path, capsys):
    path, _ = made(family)
    generator, prompt = load_generator(path, sampler=FAMILIES[family][1]), Prompt.of(PROMPTS[0])
    items = [SamplingItem(prompt, index, SEEDS[index]) for index in (0, 1)]
    list(sample_videos(generator, items, tmp_path, root=tmp_path, version="G_0", round_number=0, batch_size=2))
    samples = read_samples(tmp_path, root=tmp_path)
    pair = PreferencePair(
        prompt_id=prompt.id, chosen_id=samples[0].id, rejected_id=samples[1].id, chosen_round=0, rejected_round=0,
        margin=1.0, agreement=1.0, comparison_ids=(),
    )  # fmt: skip
    summary = align(
        generator, [pair], {sample.id: sample for sample in samples}, {prompt.id: prompt}, config=STEP, seed=0,
        output_dir=tmp_path / "trained", adapter=None, base=str(path),
    )  # fmt: skip
    assert summary["steps"] == 1 and summary["last_step"]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    adapter = tmp_path / "trained" / "adapter"
    learned = load_file(adapter / "adapter_model.safetensors")
    assert all(value.abs().max() > 0 for name, value in learned.items() if "lora_B" in name), "all of it learns"
    export.main(["--adapter", str(adapter), "--format", "merged", "--output", str(tmp_path / "merged")])
    merged = DiffusionPipeline.from_pretrained(tmp_path / "merged").transformer.state_dict()
    ours = with_adapter(load_generator(path), adapter).denoiser.state_dict()
    assert all(torch.equal(value, merged[name]) for name, value in ours.items())


def test_ltx2_has_a_stock_loader_and_hunyuan_none(made, tmp_path, capsys):
    for name in FAMILIES:
        path, _ = made(name)
        generator = load_generator(path)
        targets = LoraConfig(r=2, lora_alpha=3, target_modules=generator.lora_targets, init_lora_weights=False)
        policy = get_peft_model(generator.denoiser, targets)
        policy.peft_config["default"].base_model_name_or_path = str(path)
        policy.save_pretrained(tmp_path / name, save_embedding_layers=False)
    export.main(["--adapter", str(tmp_path / "ltx2"), "--output", str(tmp_path / "out")])
    pipeline = DiffusionPipeline.from_pretrained(made("ltx2")[0])
    pipeline.load_lora_weights(tmp_path / "out", weight_name="ltx2.safetensors")
    for module in pipeline.transformer.modules():
        if hasattr(module, "merge"):
            module.merge()
    theirs = {n.replace(".base_layer", ""): v for n, v in pipeline.transformer.state_dict().items() if "lora" not in n}
    ours = with_adapter(load_generator(made("ltx2")[0]), tmp_path / "ltx2").denoiser.state_dict()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-5)
    with pytest.raises(SystemExit):
        export.main(["--adapter", str(tmp_path / "hunyuan15"), "--output", str(tmp_path / "none")])
    said = " ".join(capsys.readouterr().err.split())
    assert "not of a HunyuanVideo15Pipeline; write it with --format merged" in said
