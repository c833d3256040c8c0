"""Judges of which something is missing, or is something else: one sentence that names it; adapters whole or refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from small_judge import labelled

from reward_model.judging.loading import load_model, load_processor
from reward_model.judging.local import Judge
from reward_model.training.config import GRPOTraining
from reward_model.training.trainer import train_judge
from videoduet.errors import InputError

WEIGHTS = "adapter_model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345678\n"
TARGETS = r".*language_model.*(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


@pytest.fixture
def copied(small, tmp_path) -> Path:
    return Path(shutil.copytree(small.path, tmp_path / "judge"))


@pytest.fixture(scope="module")
def adapter(small, tmp_path_factory) -> Path:
    """An adapter of rank 2 that changes the judge."""
    path = tmp_path_factory.mktemp("adapter")
    lora = LoraConfig(r=2, lora_alpha=2, target_modules=TARGETS, init_lora_weights=False)
    with torch.random.fork_rng():
        get_peft_model(load_model(small.path), lora).save_pretrained(path)
    return path


def changed(adapter: Path, target: Path, change) -> Path:
    shutil.copytree(adapter, target)
    save_file(change(load_file(adapter / WEIGHTS)), target / WEIGHTS, metadata={"format": "pt"})
    return target


def half(state: dict) -> dict:
    return {name: state[name] for name in sorted(state)[: len(state) // 2]}


def refusal(path: Path, adapter: Path | None = None) -> str:
    with pytest.raises(InputError) as refused:
        Judge.from_pretrained(path, adapter=adapter, device="cpu")
    said = str(refused.value)
    assert "\n" not in said and str(adapter or path) in said
    return said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chat_template.jinja", ("no chat template", "chat_template.jinja", "Qwen2_5_VLProcessor", "download")),
        ("tokenizer.json", ("no tokenizer", "tokenizer.json", "download")),
        ("processor_config.json", ("prepares videos", "preprocessor_config.json", "download")),
        ("config.json", ("model_type",)),
        ("model.safetensors", ("no file named model.safetensors",)),
    ],
)
def test_what_is_missing_is_named(copied, name, words):
    (copied / name).unlink()
    said = refusal(copied)
    assert all(word in said for word in words) and "label" not in said


@pytest.mark.parametrize("text", ["", POINTER, "[]", '{"a": 1}'])
@pytest.mark.parametrize(
    "name", ["tokenizer.json", "processor_config.json", "config.json", "judge_prompt.json", "model.safetensors"]
)
def test_what_is_something_else_is_named(copied, name, text):
    (copied / name).write_text(text)
    said = refusal(copied)
    assert ("git-lfs pointer" in said) == (text == POINTER) and (text not in ("", POINTER) or name in said)


def test_weights_that_are_cut_short_or_lack_some(copied):
    whole = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "model.safetensors is cut short" in refusal(copied) and f"{len(whole):,}" in refusal(copied)
    (copied / "model.safetensors").write_bytes(whole)
    state = load_file(copied / "model.safetensors")
    for change in (half, lambda state: {f"module.{name}": value for name, value in state.items()}):
        save_file(change(state), copied / "model.safetensors", metadata={"format": "pt"})
        assert "its weights lack " in refusal(copied)


def test_weights_that_nothing_takes_or_that_are_no_numbers(copied):
    state = load_file(copied / "model.safetensors")
    norm = next(name for name in sorted(state) if name.endswith("norm.weight"))
    odd = {
        "v_head.summary.weight": torch.ones(2),  # a reward model's head, which nobody would ask
        "model.language_model.layers.99.mlp.up_proj.weight": torch.ones(2),
        norm: torch.full_like(state[norm], float("nan")),
    }
    for name, value in odd.items():
        save_file({**state, name: value}, copied / "model.safetensors", metadata={"format": "pt"})
        said = refusal(copied)
        assert name.removeprefix("model.") in said and ("NaN" if name == norm else "nothing takes") in said
    more = {"model_ema.decay": torch.ones(1), "model.language_model.rotary_emb.inv_freq": torch.ones(4)}
    save_file({**state, **more}, copied / "model.safetensors", metadata={"format": "pt"})
    whole = dict(load_model(copied).named_parameters())
    assert all(torch.isfinite(value).all() for value in whole.values()) and len(whole) >= len(state)


def test_a_processor_without_words_for_videos(copied):
    text = (copied / "tokenizer.json").read_text().replace("<|video_pad|>", "<|other_pad|>")
    (copied / "tokenizer.json").write_text(text)
    config = (copied / "tokenizer_config.json").read_text().replace("<|video_pad|>", "<|other_pad|>")
    (copied / "tokenizer_config.json").write_text(config)
    with pytest.raises(InputError, match="<|video_pad|>"):
        load_processor(copied)


@pytest.mark.parametrize("base", [None, ""])
def test_an_adapter_without_a_base(small, adapter, tmp_path, base):
    config = json.loads((adapter / "adapter_config.json").read_text())
    shutil.copytree(adapter, tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))
    said = refusal(tmp_path / "a")
    assert "names no base model" in said and "--adapter" in said
    Judge.from_pretrained(small.path, adapter=tmp_path / "a", device="cpu")
    (tmp_path / "a" / WEIGHTS).write_text(POINTER)
    assert "git-lfs pointer" in refusal(small.path, tmp_path / "a")


@pytest.mark.parametrize("wrapper", ["_orig_mod.", "module."])
def test_wrappings_are_taken_off(small, adapter, tmp_path, wrapper):
    wrapped = changed(adapter, tmp_path / "a", lambda state: {f"{wrapper}{k}": v for k, v in state.items()})
    base, expected, found = (load_model(small.path, each).state_dict() for each in (None, adapter, wrapped))
    assert not all(torch.equal(base[name], value) for name, value in expected.items())
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    as_judge = load_model(wrapped).state_dict()
    assert all(torch.equal(as_judge[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [(half, "it lacks"), (lambda state: {**state, "else.lora_A.weight": torch.ones(2, 2)}, "nothing takes its else")],
)
def test_what_does_not_fit_is_refused_by_name(small, adapter, tmp_path, change, words):
    wrong = changed(adapter, tmp_path / "a", change)
    assert words in refusal(small.path, wrong) and words in refusal(wrong)
    config = GRPOTraining(steps=1, pairs_per_step=1, num_generations=2, lora_rank=2)
    pairs = [labelled(small.videos, "red", "green", "first")]
    with pytest.raises(InputError, match=words):
        train_judge(small.path, pairs, tmp_path / "out", config, seed=0, adapter=wrong)
    with pytest.raises(InputError, match="its r is 2, where 4 is trained"):
        rank = GRPOTraining(steps=1, pairs_per_step=1, num_generations=2, lora_rank=4)
        train_judge(small.path, pairs, tmp_path / "out", rank, seed=0, adapter=adapter)
