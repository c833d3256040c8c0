"""What a run is planned to cost: before anything is there, against peaks that were measured, and on the toy."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from small_loop import command, recipe

from alignment.training.config import AlignConfig
from generators.loading import load_generator
from pipelines.loop.config import parse
from pipelines.loop.costs import cheapest, judging_memory, on_card, setting, training_memory
from pipelines.loop.plan import counted, planned
from pipelines.loop.rates import cards, generator_size, judge_size, table
from videoduet.errors import InputError

CONFIGS = Path(__file__).parent.parent.parent / "configs"


def paper(generator: str, *options: str):
    files = [CONFIGS / "vidprom.yaml", CONFIGS / "generators" / f"{generator}.yaml"]
    return parse([*(part for file in files for part in ("--config", str(file))), *options])[0]


@pytest.mark.parametrize(
    ("way", "measured"), [(True, 9.85e9), (False, 46.4e9), ("feed_forward", 34.5e9), ("twice", 7.26e9)]
)
def test_memory_of_a_training_step_is_what_was_measured(way, measured):
    """One pair of 16x320x512 through the 1.4B UNet in bfloat16 with a LoRA of rank 64, on an H100."""
    config = AlignConfig(lora_rank=64, gradient_checkpointing=way, mixed_precision="bf16")
    size = generator_size("models/t2v_turbo")
    found = training_memory(size, config, size.tokens(16, 320, 512), weight_bytes=2)
    assert found == pytest.approx(measured, rel=0.15)


def test_memory_of_judging_is_what_was_measured():
    """90 showings of 2,075 tokens and 64 new by a model of 7B: 24.3 GiB."""
    found = judging_memory(judge_size("Qwen/Qwen2.5-VL-7B-Instruct"), 90, 64, weight_bytes=2)
    assert found == pytest.approx(24.3 * 2**30, rel=0.15)


def saved(generator, frames: int, pairs: int) -> float:
    """Bytes that a forward of both sides of so many pairs keeps for its backward, weights left out."""
    generator.settings = replace(generator.settings, num_frames=frames)
    weights = {parameter.untyped_storage().data_ptr() for parameter in generator.denoiser.parameters()}
    found: dict[int, torch.Tensor] = {}

    def pack(tensor):
        if tensor.untyped_storage().data_ptr() not in weights:
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    latents = torch.randn(2 * pairs, 4, frames, 8, 8)
    embeds, steps = torch.randn(2 * pairs, 24, 64), torch.tensor([519] * 2 * pairs)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        prediction = generator.predict(latents, steps, embeds, [generator.settings] * 2 * pairs)
    del prediction
    return float(sum(tensor.untyped_storage().nbytes() for tensor in found.values()))


def test_activations_grow_with_positions_on_the_toy(shipped_generator):
    """The law of the model: bytes kept are those of a position times positions, counted by torch on the CPU."""
    generator = load_generator(shipped_generator)
    generator.denoiser = get_peft_model(generator.denoiser, LoraConfig(r=4, target_modules=generator.lora_targets))
    each = saved(generator, 4, 1) / (2 * 4 * 64)
    size = replace(generator_size("t2v_turbo"), unet={"kept": each / 2})  # the table's are of half precision
    for frames, pairs in ((8, 1), (4, 3), (8, 2)):
        counted_bytes = 2 * 2.0 * pairs * size.kept(frames * 64, False)
        assert counted_bytes == pytest.approx(saved(generator, frames, pairs), rel=0.15)


def test_a_lora_has_as_many_numbers_as_were_trained():
    assert generator_size("t2v_turbo").lora(64) == pytest.approx(113.7e6, rel=0.01)


def test_a_plan_needs_neither_prompts_nor_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = ["--config", str(CONFIGS / "vidprom.yaml"), "--config", str(CONFIGS / "generators" / "wan2.1_1.3b.yaml")]
    assert command(*lines, "--plan") == 0
    said = " ".join(capsys.readouterr().err.split())
    for words in (
        "h100",
        "h200",
        "a100, an estimate",
        "rtx4090, an estimate",
        "cheapest that fits",
        "not on this disk",
        "2,000 held-out pairs for the gate are assumed",
    ):
        assert words in said
    # The judge's training has its own figure among the peaks, whatever the table's lines cut.
    peaks = said[said.index("peak memory on") :].split("run on disk")[0].replace("│", " ")
    assert re.search(r"rank\s+\d+\.\d,\s+refresh\s+\d+\.\d", peaks)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("file", sorted((CONFIGS / "generators").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_generator_that_has_a_recipe_can_be_planned(file):
    rows = planned(paper(file.stem))
    assert all(f"GPU hours on {card.name}" in " ".join(rows) for card in cards())


@pytest.mark.parametrize("option", ["generator.path", "judge.path"])
def test_a_model_that_nobody_knows_is_named(option):
    with pytest.raises(InputError, match=f"{option} nobody/nothing is neither on this disk nor known"):
        planned(paper("t2v_turbo", f"--{option}", "nobody/nothing"))


def hours(config):
    size, judge = generator_size(config.generator.path), judge_size(config.judge.path)
    return setting(config, counted(config, 100, 10), size, judge, cards()[0]).hours


def test_every_arm_is_counted():
    plain = hours(paper("t2v_turbo", "--refresh.enabled", "false"))
    data = ["--refresh.enabled", "true", "--refresh.original_data", "data.jsonl"]
    assert plain["refresh"] == 0 and hours(paper("t2v_turbo", *data))["refresh"] > 0
    assert hours(paper("t2v_turbo", "--judge.samples", "3"))["rank"] == pytest.approx(3 * plain["rank"])
    assert hours(paper("t2v_turbo", "--rounds", "4"))["sample"] == pytest.approx(2 * plain["sample"])
    assert hours(paper("t2v_turbo", "--align.epochs", "2"))["align"] == pytest.approx(2 * plain["align"])
    split = counted(paper("t2v_turbo", "--refresh.cross_fit", "true"), 100, 10)
    whole = counted(paper("t2v_turbo"), 100, 10)
    # In the second of two rounds half of the prompts refresh the judge, and the other half is ranked.
    assert split["rank rollouts"] == 0.75 * whole["rank rollouts"]
    # Whether the newer is preferred is asked of all prompts, by the judges before and after.
    gate = 2 * 2 * 2 * 100
    assert split["refresh rollouts"] - gate == 0.5 * (whole["refresh rollouts"] - gate)
    seconded = counted(paper("t2v_turbo", "--judge.second_path", "judge"), 100, 10)
    assert whole["measure rollouts"] == 0 and seconded["measure rollouts"] == 2 * 10 * 2
    asked = counted(paper("t2v_turbo", "--judge.factory", "x.Judge"), 100, 10)
    assert 2 * asked["score rollouts"] == whole["score rollouts"] == 2 * 2 * 10 * 2
    eleven = hours(paper("t2v_turbo", "--generator.videos_per_prompt", "11"))["rank"]
    assert eleven == pytest.approx(plain["rank"] * 55 / 45)


def test_rates_are_those_that_were_measured():
    """A video's four steps and its decoding, the DPO step of a pair, and 45 pairs of showings, on the H100."""
    rates, size = table()["h100"], generator_size("t2v_turbo")
    operations = size.forward(size.tokens(16, 320, 512)) / 1e12
    assert operations == pytest.approx(12.58, rel=0.01)
    for way, forward, kept, recomputed in (("eager", 0.061, 0.593, 1.14), ("compiled", 0.0335, 0.403, 0.561)):
        assert rates[way]["denoise"] * operations == pytest.approx(forward, rel=0.02)
        # The reference's two passes beside the step.
        for name, step in (("kept", kept), ("recomputed", recomputed)):
            assert rates[way]["dpo"][name] * operations * 8 == pytest.approx(step + 2 * forward, rel=0.02)
    judge = judge_size("Qwen/Qwen2.5-VL-7B-Instruct")
    showing = judge.weights * (rates["read"] * 2075 + rates["answer"] * 64 / 90)
    assert 6.7 < 1 / (2 * showing) < 7.5


def test_what_fits_a_small_card_is_found():
    config = paper("t2v_turbo")
    size, judge = generator_size("t2v_turbo"), judge_size(config.judge.path)
    best = cheapest(config, counted(config, 5000, 100), size, judge)
    assert best is not None and best.fits and max(best.memory.values()) < best.card.memory


def test_auto_takes_what_a_card_has_room_for():
    config = paper("t2v_turbo", "--align.gradient_checkpointing", "auto")
    size, by_name = generator_size("t2v_turbo"), {card.name: card for card in cards()}
    ways = {name: on_card(config, size, None, card).align.gradient_checkpointing for name, card in by_name.items()}
    assert ways["h100"] is False and ways["rtx4090"] is True


def test_on_the_toy_a_batch_is_drawn_and_measured(tmp_path, capsys):
    assert command("--config", recipe(tmp_path), "--plan") == 0
    said = capsys.readouterr().err
    assert "measured on one batch here" in said and "denoiser forwards (sampling)" in said
    assert not (tmp_path / "run").exists()
