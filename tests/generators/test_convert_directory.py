"""Checkpoints in the released layout, written by the test, through the command to a pipeline that samples."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import CLI

from generators import T2VTurboPipeline, load_generator
from generators.convert import directory, merge_turbo_lora, vc2_unet
from generators.convert.strict import read_checkpoint
from pipelines.convert_generator import t2v_turbo
from shapes_world.tokenizers import clip_tokenizer

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
        CLI({"t2v_turbo": t2v_turbo}, args=["t2v_turbo", *map(str, arguments)], as_positional=False)
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
    monkeypatch.setattr(directory, "SHARD_BYTES", 2**22)
    common = {"tokenizer": str(released / "tokenizer"), "fps": 8}
    directory.write_turbo_directory(released / "whole.ckpt", tmp_path / "a", lora=released / "unet_lora.pt", **common)
    directory.write_turbo_directory(released / "whole.ckpt", tmp_path / "b", unet=released / "merged.pt", **common)
    assert len(list((tmp_path / "a" / "unet").glob("*.safetensors"))) > 2
    a, b = (T2VTurboPipeline.from_pretrained(tmp_path / name) for name in "ab")
    expected = vc2_unet(torch.load(released / "merged.pt", weights_only=True), fps=8)
    for name, value in weights(expected).items():
        assert torch.equal(weights(a.unet)[name], value), name
        assert torch.equal(weights(b.unet)[name], value), name
    assert a.tokenizer.pad_token_id == a.tokenizer.convert_tokens_to_ids("!")


def test_the_command_writes_a_generator_that_samples(released, tmp_path):
    arguments = [
        *options(released, tmp_path / "turbo", "whole.ckpt"),
        "--lora",
        released / "unet_lora.pt",
        "--fps",
        "8",
    ]
    command = [sys.executable, "-m", "pipelines.convert_generator", "t2v_turbo", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
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
        assert words in refused(capsys, *options(released, output), *arguments)
        assert not output.exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    assert "already" in refused(capsys, *options(released, tmp_path / "taken"), code=2)
