"""Checkpoints in the released layout, written by the test, through the command to a pipeline that samples."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet3DConditionModel

from generators import T2VTurboPipeline, VideoCrafter2Pipeline, load_generator
from generators.convert import directory, merge_turbo_lora, vc2_unet
from generators.convert.lora import modelscope_lora_modules
from generators.convert.motion import without_motion
from generators.convert.state_dict import read_checkpoint
from generators.fps_unet import FpsUNet3DConditionModel
from pipelines import convert_generator
from shapes_world.tokenizers import clip_tokenizer
from videoduet.errors import InputError

GOLDEN = Path(__file__).parent.parent / "golden"
GUIDANCE = "model.diffusion_model.time_cond_proj.weight"


def stored(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


def text_tower(words: int) -> dict[str, torch.Tensor]:
    """OpenCLIP's layout at the width that the small UNet attends to."""
    half = {64: 32, 192: 96, 256: 128, 320: words}
    rng = torch.Generator().manual_seed(0)
    return {
        name: 0.1 * torch.randn([half.get(side, side) for side in value.shape], generator=rng)
        for name, value in stored("clip_text_small_state_dict").items()
    }


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """Files as they are released, of a small architecture: model.ckpt, unet_lora.pt, merged.pt, tokenizer/."""
    root = tmp_path_factory.mktemp("released")
    unet = {name: value.float() for name, value in stored("vc2_unet_small_state_dict").items()}
    lora = [value.float() for value in stored("vc2_unet_small_lora").values()]
    rest = stored("vae_small_state_dict") | text_tower(len(clip_tokenizer()))
    plain = {name: value for name, value in unet.items() if name != GUIDANCE}
    torch.save({"state_dict": plain | rest, "global_step": 1}, root / "model.ckpt")
    torch.save(unet | rest, root / "whole.ckpt")
    torch.save(lora, root / "unet_lora.pt")
    merged = merge_turbo_lora(unet, lora)
    torch.save(
        {name.removeprefix("model.diffusion_model."): value for name, value in merged.items()}, root / "merged.pt"
    )
    torch.save(unet | rest, root / "old.ckpt", _use_new_zipfile_serialization=False)
    clip_tokenizer().save_pretrained(root / "tokenizer")
    return root


def refused(capsys, *arguments, code: int = 1) -> str:
    with pytest.raises(SystemExit) as stopped:
        convert_generator.main([*map(str, arguments)])
    assert stopped.value.code == code
    return capsys.readouterr().err


def options(released: Path, output: Path, checkpoint: str = "model.ckpt") -> list:
    return ["--checkpoint", released / checkpoint, "--output", output, "--tokenizer", released / "tokenizer"]


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


def test_files_of_before_pytorch_1_6_are_read(released):
    old, new = read_checkpoint(released / "old.ckpt"), read_checkpoint(released / "whole.ckpt")
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_lora_and_merged_unet_give_the_same_pipeline(released, tmp_path, monkeypatch):
    monkeypatch.setattr(directory, "SHARD_BYTES", 2**23)
    common = {"tokenizer": str(released / "tokenizer"), "fps": 8}
    directory.write_turbo_directory(released / "whole.ckpt", tmp_path / "a", lora=released / "unet_lora.pt", **common)
    directory.write_turbo_directory(released / "whole.ckpt", tmp_path / "b", unet=released / "merged.pt", **common)
    assert len(list((tmp_path / "a" / "unet").glob("*.safetensors"))) > 1
    a, b = (T2VTurboPipeline.from_pretrained(tmp_path / name) for name in "ab")
    expected = vc2_unet(torch.load(released / "merged.pt", weights_only=True), fps=8)
    one, other = weights(a.unet), weights(b.unet)
    for name, value in weights(expected).items():
        assert torch.equal(one[name], value), name
        assert torch.equal(other[name], value), name
    assert a.tokenizer.pad_token_id == a.tokenizer.convert_tokens_to_ids("!")


def test_the_command_writes_a_generator_that_samples(released, tmp_path):
    arguments = [
        *options(released, tmp_path / "turbo", "whole.ckpt"),
        "--lora",
        released / "unet_lora.pt",
        "--fps",
        "8",
    ]
    convert_generator.main(["t2v_turbo", *map(str, arguments)])
    generator = load_generator(tmp_path / "turbo", sampler={"num_frames": 2, "height": 32, "width": 32, "steps": 2})
    latents = generator.sample(generator.encode_prompts(["a red circle"]), [0])
    assert generator.decode(latents).shape == (1, 2, 32, 32, 3)


def test_bad_input_is_one_sentence_and_writes_nothing(released, tmp_path, capsys):
    output, cut = tmp_path / "out", tmp_path / "cut.ckpt"
    cut.write_bytes((released / "model.ckpt").read_bytes()[:100_000])
    for arguments, words in (
        (["--lora", released / "unet_lora.pt"], "time_cond_proj"),
        (["--lora", released / "merged.pt"], "flat list"),
        (["--unet", released / "unet_lora.pt"], "no state dict"),
        (["--unet", cut], "cannot be read"),
        (["--unet", tmp_path / "none.pt"], "does not exist"),
    ):
        assert words in refused(capsys, "t2v_turbo", *options(released, output), *arguments)
        assert not output.exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    assert "already" in refused(capsys, "t2v_turbo", *options(released, tmp_path / "taken"), code=2)


def test_fps_may_stay_an_input(released, tmp_path):
    common = {"tokenizer": str(released / "tokenizer"), "lora": released / "unet_lora.pt"}
    for name, keep in (("kept", True), ("eight", False)):
        directory.write_turbo_directory(released / "whole.ckpt", tmp_path / name, fps=8, keep_fps=keep, **common)
    # Smaller videos leave the deepest level one pixel, where groups of two values are normalised: rounding explodes.
    sampler = {"num_frames": 2, "height": 128, "width": 128, "steps": 2}
    kept, eight = (load_generator(tmp_path / name, sampler=sampler) for name in ("kept", "eight"))
    assert isinstance(kept.denoiser, FpsUNet3DConditionModel)
    assert not isinstance(eight.denoiser, FpsUNet3DConditionModel)
    assert kept.settings.fps == eight.settings.fps == 8
    embeds = kept.encode_prompts(["a red circle"])
    drawn = kept.sample(embeds, [0])
    torch.testing.assert_close(drawn, eight.sample(embeds, [0]), atol=1e-4, rtol=0)
    sixteen = load_generator(tmp_path / "kept", sampler={**sampler, "fps": 16})
    assert (sixteen.sample(embeds, [0]) - drawn).abs().max() > 1e-3
    noisy, timestep = kept.noise_batch([0]), torch.tensor([519])
    told = [each.predict(noisy, timestep, embeds, [each.settings]) for each in (kept, eight, sixteen)]
    torch.testing.assert_close(told[0], told[1], atol=1e-4, rtol=0)
    assert (told[0] - told[2]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="8 is folded"):
        eight.pipeline("a red circle", fps=16)
    with pytest.raises(InputError, match="8 is folded"):
        load_generator(tmp_path / "eight", sampler={**sampler, "fps": 16})


def test_the_token_that_pads_is_a_word_too(released, tmp_path):
    directory.write_turbo_directory(released / "whole.ckpt", tmp_path / "turbo", str(released / "tokenizer"))
    pipeline = T2VTurboPipeline.from_pretrained(tmp_path / "turbo")
    seen = []
    pipeline.text_encoder.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    pipeline.encode_prompt(["a red circle", "A  &amp;#114;ed circle!", "a red circle !"])
    plain, one, other = seen[0].tolist()
    end = pipeline.tokenizer.eos_token_id
    assert one == other, "cleaned text differs"
    assert (
        one[one.index(end) - 1] == pipeline.tokenizer.convert_tokens_to_ids("!</w>") and 0 not in one[: one.index(end)]
    )
    assert plain[-1] == pipeline.tokenizer.pad_token_id == 0 and len(plain) == 77


def test_v2_samples_on_its_own_grid(released, tmp_path):
    whole = torch.load(released / "merged.pt", weights_only=True)
    torch.save(whole, tmp_path / "unet_no_mg.pt")
    command = ["--unet", tmp_path / "unet_no_mg.pt", *options(released, tmp_path / "v2")]
    convert_generator.main(["t2v_turbo_v2", *map(str, command)])
    generator = load_generator(tmp_path / "v2")
    assert generator.original_steps == 200 and generator.settings.fps == 8
    assert {generator.draw_timestep(torch.Generator().manual_seed(seed)) % 5 for seed in range(50)} == {4}


def test_a_motion_branch_is_dropped_only_where_it_says_nothing(released, tmp_path, capsys):
    whole = torch.load(released / "merged.pt", weights_only=True)
    guidance = whole["time_cond_proj.weight"]
    width, dim = guidance.shape
    rng = torch.Generator().manual_seed(0)
    motion, combine = torch.randn(width, dim, generator=rng), torch.randn(width, 2 * width, generator=rng)
    trained = whole | {"motion_cond_proj.weight": motion, "combine_proj.weight": combine}
    with pytest.raises(InputError, match="trained with motion guidance"):
        without_motion(trained)
    assert torch.equal(without_motion(trained, unused=True)["time_cond_proj.weight"], guidance)
    silent = without_motion(trained | {"motion_cond_proj.weight": torch.zeros_like(motion)})
    assert silent.keys() == whole.keys()
    w, m = torch.randn(3, dim, generator=rng), torch.randn(3, dim, generator=rng)
    told = torch.cat([w @ guidance.T, m @ torch.zeros_like(motion).T], dim=1) @ combine.T
    torch.testing.assert_close(w @ silent["time_cond_proj.weight"].T, told, atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="without combine_proj"):
        without_motion(whole | {"motion_cond_proj.weight": motion})
    torch.save(trained, tmp_path / "unet_mg.pt")
    command = ["t2v_turbo_v2", "--unet", tmp_path / "unet_mg.pt", *options(released, tmp_path / "mg")]
    assert "--motion unused" in refused(capsys, *command) and not (tmp_path / "mg").exists()


def test_videocrafter2(released, tmp_path, capsys):
    convert_generator.main(["videocrafter2", *map(str, options(released, tmp_path / "vc2"))])
    generator = load_generator(tmp_path / "vc2", sampler={"num_frames": 2, "height": 32, "width": 32, "steps": 2})
    assert isinstance(generator.pipeline, VideoCrafter2Pipeline) and generator.pipeline.config.scale_b == 0.7
    latents = generator.sample(generator.encode_prompts(["a red circle"]), [0])
    assert generator.decode(latents).shape == (1, 2, 32, 32, 3)
    wrong = ["videocrafter2", *options(released, tmp_path / "wrong", "whole.ckpt")]
    assert "it is a T2V-Turbo" in refused(capsys, *wrong)


def test_modelscope_with_its_lora(modelscope_directory, tmp_path, capsys):
    base = UNet3DConditionModel.from_pretrained(modelscope_directory, subfolder="unet")
    with torch.device("meta"):
        modules = dict(UNet3DConditionModel.from_config(base.config, time_cond_proj_dim=256).named_modules())
    names = modelscope_lora_modules(modules[""])
    assert names[:4] == ["conv_in", "time_embedding.linear_1", "time_embedding.cond_proj", "time_embedding.linear_2"]
    rng, lora = torch.Generator().manual_seed(0), []
    for name in names:
        out, *inside = modules[name].weight.shape
        rank = min(32, out, inside[0])
        up = [out, rank, *[1] * (len(inside) - 1)]
        lora += [0.01 * torch.randn(up, generator=rng), 0.01 * torch.randn(rank, *inside, generator=rng)]
    torch.save(lora, tmp_path / "unet_lora.pt")
    command = ["t2v_turbo_ms", "--base", modelscope_directory, "--lora", tmp_path / "unet_lora.pt"]
    assert "time_cond_proj" in refused(capsys, *command, "--output", tmp_path / "no")
    arguments = [*command, "--output", tmp_path / "ms", "--time_cond_proj", "zeros"]
    convert_generator.main([*map(str, arguments)])
    generator = load_generator(tmp_path / "ms", sampler={"num_frames": 2})
    state, before = generator.denoiser.state_dict(), base.state_dict()
    for name, up, down in zip(names, lora[::2], lora[1::2], strict=True):
        change = torch.einsum("or,r...->o...", up.flatten(1), down)
        was = before.get(f"{name}.weight", torch.zeros(()))
        torch.testing.assert_close(state[f"{name}.weight"], was + change, atol=1e-6, rtol=0)
    assert generator.sample(generator.encode_prompts(["a red circle"]), [0]).isfinite().all()
    torch.save(lora[:-2], tmp_path / "cut.pt")
    cut = ["t2v_turbo_ms", "--base", modelscope_directory, "--lora", tmp_path / "cut.pt", "--time_cond_proj", "zeros"]
    assert "of another" in refused(capsys, *cut, "--output", tmp_path / "no")


def test_the_released_modelscope_lora_is_of_this_size():
    """575 pairs, 58,497,696 numbers at rank 32."""
    with torch.device("meta"):
        unet = UNet3DConditionModel(time_cond_proj_dim=256)
    weights = [unet.get_submodule(name).weight for name in modelscope_lora_modules(unet)]
    sizes = [(w.shape[0] + w[0].numel()) * min(32, w.shape[0], w.shape[1]) for w in weights]
    assert len(weights) == 575 and sum(sizes) == 58_497_696
