"""A denoiser that was sped up, undone, is the plain one: its outputs to the bit, its forwards, its processors."""

from pathlib import Path

import pytest
import torch
from diffusers.models.attention_processor import Attention
from peft import LoraConfig, get_peft_model
from tiny_families import FAMILIES, make
from torch import Tensor, nn

from generators import load_generator
from generators.base import Generator
from generators.fast import SpeedConfig, speed_up
from videoduet.rewriting import Rewrites

SMALL = {"steps": 2, "num_frames": 3}


@pytest.fixture(scope="module", params=["t2v_turbo", "modelscope", *FAMILIES])
def generator(request, tmp_path_factory) -> Generator:
    """One of every family, with a LoRA that says something, on the feed-forwards too."""
    if request.param in FAMILIES:
        path, sampler = make(request.param, tmp_path_factory.mktemp("family")), FAMILIES[request.param][1]
    else:
        name = {"t2v_turbo": "shipped_generator", "modelscope": "modelscope_directory"}[request.param]
        path, sampler = request.getfixturevalue(name), SMALL
    generator = load_generator(path, sampler=sampler)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lora = LoraConfig(r=2, target_modules=generator.lora_targets, init_lora_weights=False)
        generator.denoiser = get_peft_model(generator.denoiser, lora).eval()
    return generator


def outputs(generator: Generator) -> list[Tensor]:
    """A prediction, the gradients of its LoRA, and a prediction with the LoRA off."""
    policy = generator.denoiser
    latents = torch.stack([generator.initial_noise(seed) for seed in (0, 1)])
    embeds, timesteps = generator.encode_prompts(["a red circle", "a blue square"]), torch.tensor([300, 900])

    def predict() -> Tensor:
        return generator.predict(latents, timesteps, embeds, [generator.settings] * 2)

    policy.zero_grad()
    prediction = predict()
    prediction.square().mean().backward()
    gradients = [p.grad.clone() for p in policy.parameters() if p.grad is not None]
    with torch.no_grad(), policy.disable_adapter():
        return [prediction.detach(), *gradients, predict()]


def forwards_and_processors(denoiser: nn.Module) -> tuple[list[str], list[object]]:
    own = [name for name, module in denoiser.named_modules() if "forward" in vars(module)]
    return own, [module.processor for module in denoiser.modules() if isinstance(module, Attention)]


@pytest.mark.parametrize("gradient_checkpointing", [False, True, "feed_forward"])
def test_undone_it_is_the_plain_model_to_the_bit(generator, gradient_checkpointing):
    denoiser, plain = generator.denoiser, outputs(generator)
    before = forwards_and_processors(denoiser)
    assert before[0] == []
    sped = speed_up(denoiser, SpeedConfig(gradient_checkpointing=gradient_checkpointing), "cpu")
    assert len(forwards_and_processors(denoiser)[0]) > 10, "nothing was changed"
    fast = outputs(generator)
    sped.undo()
    assert forwards_and_processors(denoiser) == before
    assert not denoiser.get_base_model().is_gradient_checkpointing
    for ours, theirs in zip(outputs(generator), plain, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(fast, plain, strict=True):
        assert (ours - theirs).norm() <= 2e-3 * theirs.norm() + 1e-6, "the fast model is another one"
    sped.undo()
    assert forwards_and_processors(denoiser) == before


def test_a_block_is_undone_where_it_fails(generator):
    before = forwards_and_processors(generator.denoiser)
    with (
        pytest.raises(KeyboardInterrupt),
        speed_up(generator.denoiser, SpeedConfig(gradient_checkpointing=True), "cpu"),
    ):
        assert forwards_and_processors(generator.denoiser) != before
        raise KeyboardInterrupt
    assert forwards_and_processors(generator.denoiser) == before


def test_what_was_changed_before_is_what_comes_back(generator):
    with speed_up(generator.denoiser, SpeedConfig(gradient_checkpointing="feed_forward"), "cpu"):
        outer = [vars(module).get("forward") for module in generator.denoiser.modules()]
        with speed_up(generator.denoiser, SpeedConfig(gradient_checkpointing=True), "cpu"):
            pass
        assert [vars(module).get("forward") for module in generator.denoiser.modules()] == outer


def test_under_autocast_no_lora_is_folded(generator):
    def changed(config: SpeedConfig) -> set[str]:
        with speed_up(generator.denoiser, config, "cpu"):
            return set(forwards_and_processors(generator.denoiser)[0])

    folded = changed(SpeedConfig()) - changed(SpeedConfig(autocast=True))
    assert folded and changed(SpeedConfig(autocast=True)) < changed(SpeedConfig())
    layers = dict(generator.denoiser.named_modules())
    assert all(hasattr(layers[name], "lora_A") for name in folded)


def test_only_one_file_puts_a_forward_into_a_module():
    root = Path(__file__).parents[2]
    rooms = ("videoduet", "generators", "reward_model", "alignment", "pipelines")
    files = [file for room in rooms for file in (root / room).rglob("*.py")]
    assert [file.name for file in files if ".forward = " in file.read_text()] == ["rewriting.py"]


def test_a_change_of_another_kind_is_taken_back_last_first():
    rewrites, taken = Rewrites(), []
    for number in range(3):
        rewrites.add(lambda number=number: taken.append(number))
    rewrites.undo()
    assert taken == [2, 1, 0]
