"""LoRAs and weights of generators: in force whole, under whatever wrapping they were saved, or refused by name."""

import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from alignment.training.config import AlignConfig
from alignment.training.policy import LiveReference, make_policy
from generators import T2VTurboPipeline, load_generator
from generators.loading import with_adapter
from videoduet.adapters import fitted, unwrapped
from videoduet.errors import InputError

WEIGHTS = "adapter_model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345678\n"
NAMES = {
    "compiled": lambda name: f"_orig_mod.{name}",
    "compiled inside": lambda name: name.replace("base_model.model.", "base_model.model._orig_mod."),
    "data-parallel": lambda name: name.replace("base_model.model.", "base_model.model.module."),
    "both": lambda name: f"module._orig_mod.{name}",
    "FSDP": lambda name: name.replace("attentions.", "attentions._fsdp_wrapped_module."),
    "named": lambda name: name.replace(".weight", ".default.weight"),
    "bare": lambda name: name.removeprefix("base_model.model."),
}


@pytest.fixture(scope="module")
def right(shipped_generator, tmp_path_factory) -> Path:
    """An adapter that changes much."""
    lora = LoraConfig(r=2, lora_alpha=2, target_modules=r".*(to_q|to_v)")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy = get_peft_model(load_generator(shipped_generator).denoiser, lora)
        for name, value in policy.named_parameters():
            if "lora_" in name:
                value.data.normal_()
    path = tmp_path_factory.mktemp("adapter")
    policy.save_pretrained(path, save_embedding_layers=False)
    return path


def changed(right: Path, target: Path, change) -> Path:
    shutil.copytree(right, target)
    save_file(change(load_file(right / WEIGHTS)), target / WEIGHTS, metadata={"format": "pt"})
    return target


def half(state: dict) -> dict:
    return {name: state[name] for name in sorted(state)[: len(state) // 2]}


def weights(generator) -> dict[str, torch.Tensor]:
    return generator.denoiser.state_dict()


@pytest.mark.parametrize("name", NAMES)
def test_wrappings_are_taken_off(shipped_generator, right, tmp_path, name):
    wrapped = changed(right, tmp_path / "a", lambda state: {NAMES[name](key): value for key, value in state.items()})
    base, expected, found = (
        weights(with_adapter(load_generator(shipped_generator), adapter)) for adapter in (None, right, wrapped)
    )
    assert not all(torch.equal(base[key], value) for key, value in expected.items())
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (half, "it lacks base_model.model."),
        (lambda state: {**state, "mid_block.else.lora_A.weight": torch.ones(2, 2)}, "nothing takes its mid_block.else"),
        (lambda state: {key: value for key, value in state.items() if "lora_B" not in key}, "lora_B"),
        (lambda state: {f"text_encoder.{key}": value for key, value in state.items()}, "nothing takes its text_enc"),
        (lambda state: {**state, **{f"_orig_mod.{key}": value.clone() for key, value in state.items()}}, "twice"),
    ],
)
@pytest.mark.parametrize("trained", [False, True])
def test_what_does_not_fit_is_refused_by_name(shipped_generator, right, tmp_path, change, words, trained):
    adapter = changed(right, tmp_path / "a", change)
    generator = load_generator(shipped_generator)
    with pytest.raises(InputError, match=r"cannot be put on this generator") as refused:
        if trained:
            make_policy(generator, AlignConfig(lora_rank=2), 0, adapter, None, None)
        else:
            with_adapter(generator, adapter)
    assert words in str(refused.value) and str(adapter) in str(refused.value) and "\n" not in str(refused.value)


def test_the_reference_of_a_continued_training_is_whole_too(shipped_generator, right, tmp_path):
    generator, config = load_generator(shipped_generator), AlignConfig(lora_rank=2)
    generator.denoiser = make_policy(generator, config, 0, right, None, None)
    with pytest.raises(InputError, match="lacks"):
        LiveReference(generator, config, changed(right, tmp_path / "a", half))


def test_an_adapter_that_is_none(shipped_generator, right, tmp_path):
    generator = load_generator(shipped_generator)
    for text, words in ((POINTER, "git-lfs pointer"), ("", "cut short"), ('{"r": 2}', "safetensors")):
        adapter = tmp_path / words
        shutil.copytree(right, adapter)
        (adapter / WEIGHTS).write_text(text)
        with pytest.raises(InputError, match=words):
            with_adapter(generator, adapter)
    (adapter / "adapter_config.json").write_text('{"peft_type": "NOTHING"}')
    with pytest.raises(InputError, match="cannot be put|cut short"):
        with_adapter(generator, adapter)


@pytest.mark.parametrize("layout", ["peft", "diffusers"])
def test_the_pipelines_loader_is_as_strict(shipped_generator, right, tmp_path, layout):
    prefix = "base_model.model." if layout == "peft" else "unet."

    def written(name: str, change) -> Path:
        state = {key.replace("base_model.model.", prefix): v for key, v in load_file(right / WEIGHTS).items()}
        folder = tmp_path / name
        shutil.copytree(right, folder)
        file = folder / WEIGHTS
        if layout == "diffusers":
            shutil.rmtree(folder)
            file = tmp_path / f"{name}.safetensors"
        save_file(change(state), file, metadata={"format": "pt"})
        return folder if layout == "peft" else file

    def loaded(path: Path) -> dict:
        pipeline = T2VTurboPipeline.from_pretrained(shipped_generator)
        pipeline.load_lora_weights(path)
        return pipeline.unet.state_dict()

    expected = loaded(written("right", dict))
    found = loaded(written("wrapped", lambda s: {k.replace(prefix, f"{prefix}_orig_mod."): v for k, v in s.items()}))
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    # In diffusers' layout a module of which nothing is there cannot be missed.
    without = {"peft": half, "diffusers": lambda s: {k: v for k, v in s.items() if "lora_B" not in k}}[layout]
    for change in (without, lambda s: {**s, "text_encoder.q.lora_A.weight": torch.ones(2, 2)}):
        with pytest.raises(InputError):
            loaded(written(f"wrong_{without is change}", change))


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_generator_that_lacks_weights_is_refused(shipped_generator, tmp_path, part):
    shutil.copytree(shipped_generator, tmp_path / "g")
    (file,) = (tmp_path / "g" / part).glob("*.safetensors")
    save_file(half(load_file(file)), file, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"its {part} lacks \S+"):
        load_generator(tmp_path / "g")
    file.write_text(POINTER)
    with pytest.raises(InputError, match=rf"{part}/{file.name} is a git-lfs pointer"):
        load_generator(tmp_path / "g")


def rewritten(generator: Path, part: str, change) -> Path:
    """The generator's copy whose ``part`` has the tensors that ``change`` makes of its own."""
    (file,) = (generator / part).glob("*.safetensors")
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return generator


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("unet", "down_blocks.9.resnets.0.conv1.weight"),
        ("vae", "post_quant_conv.lora_A.weight"),
        ("text_encoder", "text_model.encoder.layers.99.mlp.fc1.weight"),
    ],
)
def test_a_generator_with_weights_that_nothing_takes_is_refused(shipped_generator, tmp_path, part, name):
    """As of a model of more layers, or with an adapter of other software in it."""
    copied = rewritten(
        shutil.copytree(shipped_generator, tmp_path / "g"), part, lambda state: {**state, name: torch.ones(2)}
    )
    with pytest.raises(InputError, match=rf"of its {part}; its config.json may be another") as refused:
        load_generator(copied)
    assert f"nothing takes {name.removeprefix('text_model.')} " in str(refused.value)


def test_what_checkpoints_have_beside_their_weights_is_no_fault(shipped_generator, tmp_path):
    copied = shutil.copytree(shipped_generator, tmp_path / "g")
    one = torch.ones(2)
    rewritten(copied, "unet", lambda state: {**state, "model_ema.decay": one, "ema.conv_in.weight": one.clone()})
    more = ("text_model.embeddings.position_ids", "vision_model.embeddings.class_embedding", "logit_scale")
    rewritten(copied, "text_encoder", lambda state: {**state, **{name: one.clone() for name in more}})
    expected, found = (weights(load_generator(path)) for path in (shipped_generator, copied))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_weights_that_are_no_numbers_are_refused_by_name(shipped_generator, tmp_path, part, value):
    named = []

    def change(state: dict) -> dict:
        named.append(max(state))
        state[max(state)].view(-1)[-1] = value
        return state

    copied = rewritten(shutil.copytree(shipped_generator, tmp_path / "g"), part, change)
    with pytest.raises(InputError, match="NaN or infinity in float32") as refused:
        load_generator(copied)
    assert f"of its {part}" in str(refused.value) and named[0].removeprefix("text_model.") in str(refused.value)


def test_only_what_is_too_large_for_a_precision_is_refused_in_it(shipped_generator, tmp_path):
    copied = shutil.copytree(shipped_generator, tmp_path / "g")

    def of(value: float):
        return lambda state: {**state, "conv_in.bias": torch.full_like(state["conv_in.bias"], value, dtype=torch.float)}

    rewritten(copied, "unet", of(6e4))
    load_generator(copied, dtype="float16")  # the sum of which is more than float16 holds
    rewritten(copied, "unet", of(7e4))
    load_generator(copied)
    with pytest.raises(InputError, match=r"conv_in.bias of its unet: NaN or infinity in float16"):
        load_generator(copied, dtype="float16")


@pytest.mark.parametrize("wrapper", ["", "_orig_mod."])
def test_an_adapter_of_no_numbers_is_refused(shipped_generator, right, tmp_path, wrapper):
    def change(state: dict) -> dict:
        state[min(state)][0, 0] = float("nan")
        return {f"{wrapper}{name}": value for name, value in state.items()}

    with pytest.raises(InputError, match=r"lora_A\S* of its weights: NaN or infinity"):
        with_adapter(load_generator(shipped_generator), changed(right, tmp_path / "a", change))


@pytest.mark.parametrize("text", [None, "", "[]", '{"a": 1}'])
@pytest.mark.parametrize(
    "name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json"]
)
def test_a_generator_of_files_that_say_something_else(shipped_generator, tmp_path, name, text):
    shutil.copytree(shipped_generator, tmp_path / "g")
    file = tmp_path / "g" / name
    file.unlink()
    if text is not None:
        file.write_text(text)
    if (name, text) == ("scheduler/scheduler_config.json", '{"a": 1}'):
        load_generator(tmp_path / "g")  # a schedule of defaults is one
        return
    with pytest.raises(InputError) as refused:
        load_generator(tmp_path / "g")
    assert str(tmp_path / "g") in str(refused.value) and "\n" not in str(refused.value)


def test_names():
    assert unwrapped("base_model.model.module.a._orig_mod.b.lora_A.default.weight") == "a.b.lora_A.weight"
    assert unwrapped("default.modules_to_save.default.weight") == "default.modules_to_save.weight"
    assert fitted({"_orig_mod.module.a": 1}, ["module.a"]) == {"module.a": 1}
    assert fitted({}, []) == {}
