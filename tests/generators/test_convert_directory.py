"""Checkpoints in the released layout, written by the test, through the command to a pipeline that samples."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from generators import T2VTurboPipeline, load_generator
from generators.convert import directory, merge_turbo_lora, vc2_unet
from shapes_world.tokenizers import clip_tokenizer

GOLDEN = Path(__file__).parent.parent / "golden"
GUIDANCE = "model.diffusion_model.time_cond_proj.weight"


def stored(name: str) -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    """Files as they are released, of a small architecture: model.ckpt, unet_lora.pt, merged.pt, tokenizer/."""
    root = tmp_path_factory.mktemp("released")
    unet = {name: value.float() for name, value in stored("vc2_unet_small_state_dict").items()}
    lora = [value.float() for value in stored("vc2_unet_small_lora").values()]
    rest = stored("vae_small_state_dict") | stored("clip_text_small_state_dict")
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


def convert(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pipelines.convert_generator", "t2v_turbo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def options(released: Path, output: Path, checkpoint: str = "model.ckpt") -> list:
    return ["--checkpoint", released / checkpoint, "--output", output, "--tokenizer", released / "tokenizer"]


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return dict(model.state_dict())


@pytest.mark.parametrize("checkpoint", ["whole.ckpt", "old.ckpt"])
def test_lora_and_merged_unet_give_the_same_pipeline(released, tmp_path, monkeypatch, checkpoint):
    monkeypatch.setattr(directory, "SHARD_BYTES", 2**22)
    common = {"tokenizer": str(released / "tokenizer"), "fps": 8}
    directory.write_turbo_directory(released / checkpoint, tmp_path / "a", lora=released / "unet_lora.pt", **common)
    directory.write_turbo_directory(released / checkpoint, tmp_path / "b", unet=released / "merged.pt", **common)
    assert len(list((tmp_path / "a" / "unet").glob("*.safetensors"))) > 2
    a, b = (T2VTurboPipeline.from_pretrained(tmp_path / name) for name in "ab")
    expected = vc2_unet(torch.load(released / "merged.pt", weights_only=True), fps=8)
    for name, value in weights(expected).items():
        assert torch.equal(weights(a.unet)[name], value), name
        assert torch.equal(weights(b.unet)[name], value), name
    assert a.tokenizer.pad_token_id == a.tokenizer.convert_tokens_to_ids("!")


def test_the_command_writes_a_generator_that_samples(released, tmp_path):
    done = convert(
        *options(released, tmp_path / "turbo", "whole.ckpt"), "--lora", released / "unet_lora.pt", "--fps", "8"
    )
    assert done.returncode == 0, done.stderr
    generator = load_generator(tmp_path / "turbo", sampler={"num_frames": 2, "height": 32, "width": 32, "steps": 2})
    latents = generator.sample(generator.encode_prompts(["a red circle"]), [0])
    assert generator.decode(latents).shape == (1, 2, 32, 32, 3)


def test_bad_input_is_one_sentence_and_writes_nothing(released, tmp_path):
    output, cut = tmp_path / "out", tmp_path / "cut.ckpt"
    cut.write_bytes((released / "model.ckpt").read_bytes()[:100_000])
    for arguments, words in (
        (["--lora", released / "unet_lora.pt"], "time_cond_proj"),
        (["--lora", released / "merged.pt"], "flat list"),
        (["--unet", cut], "cannot be read"),
        (["--unet", tmp_path / "none.pt"], "does not exist"),
    ):
        done = convert(*options(released, output), *arguments)
        assert done.returncode == 1
        assert words in done.stderr
        assert "Traceback" not in done.stderr
        assert not output.exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    done = convert(*options(released, tmp_path / "taken"))
    assert done.returncode == 2
    assert "already" in done.stderr
