"""LoRAs written for other tools: what stock pipelines load changes their denoiser as it changes ours."""

import re
from functools import cache

import pytest
import torch
from diffusers import DiffusionPipeline
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tiny_families import make

from generators import T2VTurboPipeline, load_generator
from generators.exporting import as_diffusers, folded
from generators.loading import with_adapter
from pipelines import export
from videoduet.errors import InputError

STOCK = [
    ("wan", "diffusers", True),
    ("wan", "comfyui", False),
    ("cogvideox", "diffusers", False),
    ("ltx", "diffusers", False),
    ("ltx", "comfyui", True),
    ("wan22_experts", "diffusers", False),
    ("wan22_experts", "comfyui", False),
]
"""Families, formats, and whether the LoRA is rank-stabilised."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The directory of a family, and a LoRA of it that changes much; α is no power of two times r."""

    @cache
    def made(family: str, **settings):
        folder = tmp_path_factory.mktemp(family)
        base = make(family, folder)
        generator = load_generator(base)
        config = LoraConfig(
            r=4, lora_alpha=6, target_modules=generator.lora_targets, init_lora_weights=False, **settings
        )
        with torch.random.fork_rng():
            torch.manual_seed(1)
            policy = get_peft_model(generator.denoiser, config)
        policy.peft_config["default"].base_model_name_or_path = str(base)
        policy.save_pretrained(folder / "generator", save_embedding_layers=False)
        return base, folder / "generator"

    return made


def written(adapter, output, form, *more):
    export.main(["--adapter", str(adapter), "--output", str(output), "--format", form, *more])
    return sorted(output.glob("*.safetensors"))


def states(module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in module.state_dict().items() if "lora" not in name}


@pytest.mark.parametrize(("family", "form", "rank_stabilised"), STOCK)
def test_stock_pipelines_load_what_is_written(trained, tmp_path, family, form, rank_stabilised):
    base, adapter = trained(family, use_rslora=rank_stabilised)
    files = written(adapter, tmp_path / "out", form)
    pipeline = DiffusionPipeline.from_pretrained(base)
    for file, second in zip(files, (False, True), strict=False):
        more = {"load_into_transformer_2": True} if second else {}
        pipeline.load_lora_weights(str(file.parent), weight_name=file.name, **more)
    ours = with_adapter(load_generator(base), adapter).pipeline
    for part in ("transformer", "transformer_2"):
        if getattr(ours, part, None) is None:
            continue
        theirs = getattr(pipeline, part)
        for module in theirs.modules():
            if hasattr(module, "merge"):
                module.merge()
        mine = states(getattr(ours, part))
        for name, value in states(theirs).items():
            torch.testing.assert_close(value, mine[name.replace(".base_layer", "")], rtol=0, atol=1e-5)


def test_each_expert_has_its_file(trained, tmp_path, capsys):
    _, adapter = trained("wan22_experts")
    files = written(adapter, tmp_path / "out", "comfyui")
    assert [file.name for file in files] == ["high_noise.safetensors", "low_noise.safetensors"]
    assert "low-noise model" in " ".join(capsys.readouterr().err.split())
    first, second = map(load_file, files)
    assert first.keys() == second.keys() and not torch.equal(*(part[min(first)] for part in (first, second)))


@pytest.mark.parametrize(
    ("family", "modules"),
    [
        ("wan", {f"{kind}_attn.{part}" for kind in ("self", "cross") for part in "qkvo"} | {"ffn.0", "ffn.2"}),
        (
            "ltx",
            {f"attn{n}.{part}" for n in (1, 2) for part in ("to_q", "to_k", "to_v", "to_out.0")}
            | {"ff.net.0.proj", "ff.net.2"},
        ),
    ],
)  # fmt: skip
def test_comfyui_names_are_the_released_models(trained, tmp_path, family, modules):
    """Wan's code calls its layers so, and ComfyUI keeps the released names below ``diffusion_model``."""
    _, adapter = trained(family)
    (file,) = written(adapter, tmp_path / "out", "comfyui", "--dtype", "bfloat16")
    tensors = load_file(file)
    blocks = {"wan": "blocks", "ltx": "transformer_blocks"}[family]
    found = [re.fullmatch(rf"diffusion_model\.{blocks}\.[01]\.(.+)\.lora_([AB])\.weight", name) for name in tensors]
    assert all(found) and {match[1] for match in found if match} == modules
    assert len(tensors) == 2 * 2 * len(modules) and {value.dtype for value in tensors.values()} == {torch.bfloat16}


@pytest.mark.parametrize("form", ["diffusers", "peft", "merged"])
def test_turbo_loads_every_form(shipped_generator, tmp_path, form):
    generator = load_generator(shipped_generator)
    policy = get_peft_model(
        generator.denoiser,
        LoraConfig(r=2, lora_alpha=3, target_modules=generator.lora_targets, init_lora_weights=False),
    )
    policy.peft_config["default"].base_model_name_or_path = str(shipped_generator)
    policy.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    written(tmp_path / "lora", tmp_path / "out", form)
    expected = states(policy.merge_and_unload())
    if form == "merged":
        loaded = T2VTurboPipeline.from_pretrained(tmp_path / "out")
    else:
        loaded = T2VTurboPipeline.from_pretrained(shipped_generator)
        loaded.load_lora_weights(tmp_path / "out" / ("lora.safetensors" if form == "diffusers" else ""))
    for module in loaded.unet.modules():
        if hasattr(module, "merge"):
            module.merge()
    for name, value in states(loaded.unet).items():
        torch.testing.assert_close(value, expected[name.replace(".base_layer", "").removeprefix("base_model.model.")])


def test_what_no_format_holds_is_refused(trained, tmp_path, capsys):
    _, adapter = trained("wan", use_dora=True)
    with pytest.raises(InputError, match=r"no plain LoRA matrix; write it with --format merged"):
        folded(adapter)
    _, adapter = trained("cogvideox")
    with pytest.raises(SystemExit):
        written(adapter, tmp_path / "out", "comfyui")
    assert "known for WanPipeline, LTXPipeline" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(InputError, match="not of a StableDiffusionPipeline; write it with --format merged"):
        as_diffusers({}, "StableDiffusionPipeline")
    (tmp_path / "there").mkdir()
    with pytest.raises(SystemExit):
        written(adapter, tmp_path / "there", "diffusers")
    assert "there already" in " ".join(capsys.readouterr().err.split())
