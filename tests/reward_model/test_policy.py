"""What is trained of a judge and in which precision: nothing that is learned is rounded away on its way to the next."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from small_judge import SMALL_PROMPT, labelled
from transformers import Qwen2_5_VLForConditionalGeneration

from reward_model.judging.beside import BesideLinear
from reward_model.judging.loading import load_model
from reward_model.judging.local import Judge
from reward_model.training import policy
from reward_model.training import trainer as training
from reward_model.training.config import GRPOTraining
from reward_model.training.grpo import VideoGRPOTrainer
from reward_model.training.trainer import train_judge
from videoduet.errors import InputError
from videoduet.store import read_json

CONFIG = GRPOTraining(steps=2, pairs_per_step=2, num_generations=4, learning_rate=1e-2, lora_rank=2, micro_batch=4,
                      checkpoint_steps=1)  # fmt: skip
EVERYTHING = replace(CONFIG, parameters="all", vision="all", learning_rate=1e-6)
SEED = 5


@pytest.fixture(scope="module")
def pairs(small):
    names = ("red", "green", "first"), ("blue", "white", "second"), ("wide", "yellow", "first")
    return [labelled(small.videos, *each) for each in names]


@pytest.fixture(scope="module")
def adapter(small, pairs, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("adapter")
    train_judge(small.path, pairs, output, CONFIG, seed=SEED)
    return output / "adapter"


@pytest.fixture(scope="module")
def in_half(small, tmp_path_factory) -> Path:
    """The small judge as checkpoints are published: in bfloat16."""
    path = tmp_path_factory.mktemp("half") / "judge"
    judge = Judge.from_pretrained(small.path, device="cpu")
    judge.processor.save_pretrained(path)
    judge.model.to(torch.bfloat16).save_pretrained(path)
    SMALL_PROMPT.save(path)
    return path


def logits(model: torch.nn.Module, small) -> torch.Tensor:
    judge = Judge.from_pretrained(small.path, device="cpu")
    showing = judge.encoder.showing(SMALL_PROMPT.messages("red", *(small.videos[n].path for n in ("red", "blue"))))
    inputs = judge.encoder.collate([showing], pixels=True)
    with torch.no_grad():
        return model.eval()(**inputs).logits.float()


@pytest.mark.parametrize(
    ("options", "device", "half", "expected"),
    [
        ({}, "cpu", True, "float32"),
        ({}, "cuda:0", True, "bfloat16"),
        ({"parameters": "all"}, "cuda:0", True, "float32"),
        # What lies there in float32 was learned in float32.
        ({}, "cuda:0", False, "float32"),
    ],
)
def test_precision(small, in_half, options, device, half, expected):
    assert policy.precision(in_half if half else small.path, GRPOTraining(**options), device) == expected


@pytest.mark.parametrize("vision", ["frozen", "lora"])
def test_a_step_at_the_recipes_rate_is_what_the_next_one_reads(small, in_half, pairs, tmp_path, monkeypatch, vision):
    """The base is in bfloat16 and still; the LoRA is in float32, and all of it moves."""
    seen = []

    class Kept(VideoGRPOTrainer):
        def _compute_loss(self, model, inputs):
            seen.append({name: p.detach().clone() for name, p in self.model.named_parameters()})
            return super()._compute_loss(model, inputs)

    monkeypatch.setattr(policy, "precision", lambda *_: "bfloat16")
    monkeypatch.setattr(training, "VideoGRPOTrainer", Kept)
    # The first step of a warm-up has no rate yet; the second has half of it.
    config = replace(CONFIG, learning_rate=1e-5, vision=vision, steps=3)
    train_judge(in_half, pairs, tmp_path, config, seed=SEED)
    first, last = seen[0], seen[-1]
    lora = {name for name in first if "lora_" in name}
    assert any("visual" in name for name in lora) == (vision == "lora")
    assert {first[name].dtype for name in lora} == {torch.float32}
    assert {first[name].dtype for name in first.keys() - lora} == {torch.bfloat16}
    assert all(torch.equal(first[name], last[name]) for name in first.keys() - lora)
    moved = [name for name in lora if "lora_B" in name and "language_model" in name]
    assert all((first[name] != last[name]).float().mean() > 0.99 for name in moved)


def test_adapter_merged_and_reloaded_judge_agree(small, adapter, tmp_path):
    plain = PeftModel.from_pretrained(Qwen2_5_VLForConditionalGeneration.from_pretrained(small.path), str(adapter))
    expected = logits(plain, small)
    merged = load_model(adapter)
    torch.testing.assert_close(logits(merged, small), expected, atol=1e-4, rtol=0)
    merged.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(load_model(tmp_path), small), expected, atol=1e-4, rtol=0)
    assert (expected - logits(load_model(small.path), small)).abs().max() > 0.1


def test_half_precision_keeps_what_a_small_lora_learned(small, adapter):
    """Merged in bfloat16 it would be gone; beside the weights it is what it is in float32."""
    faint = load_file(adapter / "adapter_model.safetensors")
    with torch.no_grad():
        model = PeftModel.from_pretrained(load_model(small.path, dtype="bfloat16"), str(adapter))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.mul_(1e-3)
    assert faint
    kept = policy_weights(model)
    beside = load_model(adapter, dtype="bfloat16")
    layers = [module for module in beside.modules() if isinstance(module, BesideLinear)]
    assert layers and {layer.weight.dtype for layer in layers} == {torch.bfloat16}
    assert {layer.up.dtype for layer in layers} == {torch.float32}
    before = dict(load_model(small.path, dtype="bfloat16").named_parameters())
    assert all(torch.equal(value, before[name]) for name, value in beside.named_parameters())
    merged = dict(model.merge_and_unload().named_parameters())
    changed = [(merged[name] != before[name]).float().mean() for name in kept]
    assert max(changed) < 0.5, "this is why they are not merged"


def policy_weights(model: torch.nn.Module) -> list[str]:
    """The names of the weights that a LoRA is on, as the base has them."""
    names = [name for name, _ in model.get_base_model().named_parameters() if ".base_layer.weight" in name]
    return [name.replace(".base_layer", "") for name in names]


def test_beside_is_what_peft_gives(small, adapter):
    """In float32, where it can be compared to the last digits; twice over, as stages chain."""
    from reward_model.judging.beside import beside

    def on(model: torch.nn.Module) -> PeftModel:
        return PeftModel.from_pretrained(model, str(adapter))

    once = beside(on(load_model(small.path)))
    torch.testing.assert_close(logits(once, small), logits(load_model(adapter), small), atol=1e-4, rtol=0)
    twice = on(load_model(small.path)).merge_and_unload()
    torch.testing.assert_close(
        logits(beside(on(once)), small), logits(on(twice).merge_and_unload(), small), atol=1e-4, rtol=0
    )


def test_a_stage_on_an_adapter_is_compared_with_the_judge_at_its_start(small, pairs, adapter, tmp_path, monkeypatch):
    """With a base in half precision too: the reference is the LoRA of the stage before, on its base."""
    monkeypatch.setattr(policy, "precision", lambda *_: "bfloat16")
    references = []

    class Kept(VideoGRPOTrainer):
        def _compute_loss(self, model, inputs):
            loss = super()._compute_loss(model, inputs)
            length = inputs["completion_ids"].size(1)
            ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
            mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
            policy_now = self._get_per_token_logps_and_entropies(model, ids, mask, length)[0]
            references.append((policy_now.detach(), inputs["ref_per_token_logps"]))
            return loss

    monkeypatch.setattr(training, "VideoGRPOTrainer", Kept)
    train_judge(adapter, pairs, tmp_path, CONFIG, seed=SEED)
    now, reference = references[0]
    torch.testing.assert_close(now, reference, atol=0.05, rtol=0)
    chained = load_model(tmp_path / "adapter")
    assert (logits(chained, small) - logits(load_model(adapter), small)).abs().max() > 1e-3
    assert Judge.from_pretrained(tmp_path / "adapter", device="cpu").prompt == SMALL_PROMPT


@pytest.mark.parametrize("vision", ["frozen", "all"])
def test_all_weights(small, pairs, tmp_path, vision):
    """At 1e-6 all of them move, in float32; the reference is the judge as it was; the whole judge is left."""
    config = replace(EVERYTHING, vision=vision, steps=3)
    train_judge(small.path, pairs, tmp_path, config, seed=SEED)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "training.json"]
    before = Qwen2_5_VLForConditionalGeneration.from_pretrained(small.path).state_dict()
    after = Qwen2_5_VLForConditionalGeneration.from_pretrained(tmp_path / "model").state_dict()
    assert {value.dtype for value in after.values()} == {torch.float32}
    moved = {name: (after[name] != before[name]).float().mean().item() for name in before}
    language = [share for name, share in moved.items() if "language_model.layers" in name and "weight" in name]
    tower = [share for name, share in moved.items() if "visual" in name]
    assert min(language) > 0.9
    assert max(tower) == 0 if vision == "frozen" else sum(share > 0.5 for share in tower) > len(tower) / 2
    log = [row for row in read_json(tmp_path / "training.json")["log"] if "kl" in row]
    assert abs(log[0]["kl"]) < 1e-7 and log[0]["grad_norm"] > 0
    assert Judge.from_pretrained(tmp_path / "model", device="cpu").prompt == SMALL_PROMPT


def test_all_weights_resume_to_the_same_bytes(small, pairs, tmp_path):
    def stop(step):
        if step == 2:
            raise KeyboardInterrupt

    config = replace(EVERYTHING, steps=3, learning_rate=1e-3)
    train_judge(small.path, pairs, tmp_path / "whole", config, seed=SEED)
    with pytest.raises(KeyboardInterrupt):
        train_judge(small.path, pairs, tmp_path / "stopped", config, seed=SEED, on_step=stop)
    train_judge(small.path, pairs, tmp_path / "stopped", config, seed=SEED)
    weights = "model/model.safetensors"
    assert (tmp_path / "stopped" / weights).read_bytes() == (tmp_path / "whole" / weights).read_bytes()


def test_memory_that_is_missing_is_told(small):
    with pytest.raises(InputError, match=r"takes 0\.0 GiB in each process.* 0\.0 GiB are missing.*parameters: lora"):
        policy.check_memory(small.path, EVERYTHING, "cpu", available=1)
    policy.check_memory(small.path, EVERYTHING, "cpu")


def test_vision_goes_with_the_language_model():
    for options in ({"vision": "all"}, {"vision": "lora", "parameters": "all"}):
        with pytest.raises(InputError, match="give both the same") as error:
            GRPOTraining(**options)
        assert error.value.exit_code == 2
