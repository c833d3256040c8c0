"""What draws at a speed draws the same videos, and is afterwards what it was."""

import pytest
import tiny_families
import torch
from torch import Tensor, nn

from generators.base import Generator
from generators.fast import draw_fast, graphs
from generators.fps_unet import FpsUNet3DConditionModel
from generators.loading import load_generator
from videoduet.errors import InputError

SIZE = {"num_frames": 5, "height": 32, "width": 32, "steps": 2}


def changed(model: nn.Module) -> int:
    return sum("forward" in vars(part) or part._compiled_call_impl is not None for part in model.modules())


@pytest.fixture(scope="module")
def unet(tmp_path_factory) -> Generator:
    path = tiny_families.videocrafter2(tmp_path_factory.mktemp("unet"))
    return load_generator(path, sampler=SIZE)


def drawn(generator: Generator) -> tuple[Tensor, Tensor]:
    latents = generator.sample(generator.encode_prompts(["a red circle", "a blue square"]), [1, 2])
    return latents, generator.decode(latents)


def test_the_same_videos_are_drawn(unet):
    latents, frames = drawn(unet)
    with unet.at_speed("compiled") as fast:
        assert fast
        assert changed(unet.denoiser) > 5
        assert changed(unet.pipeline.vae) > 5
        ours, shown = drawn(unet)
    assert (ours - latents).norm() <= 1e-4 * latents.norm()
    assert (shown.int() - frames.int()).abs().max() <= 1
    assert changed(unet.denoiser) == changed(unet.pipeline.vae) == 0
    assert all(map(torch.equal, drawn(unet), (latents, frames)))


@pytest.mark.parametrize("speed", ["auto", "eager"])
def test_on_a_cpu_nothing_changes_unasked(unet, speed):
    with unet.at_speed(speed) as fast:
        assert not fast
        assert changed(unet.denoiser) == 0


@pytest.mark.parametrize("family", ["wan", "cogvideox", "ltx"])
def test_a_transformers_blocks_are_compiled_and_let_go(family, tmp_path, capsys):
    generator = load_generator(
        getattr(tiny_families, family)(tmp_path), sampler={"num_frames": 9, "height": 32, "width": 32}
    )
    with generator.at_speed("auto"):
        assert changed(generator.denoiser) == 0
    with generator.at_speed("compiled"):
        assert changed(generator.denoiser) > 0
    assert changed(generator.denoiser) == 0
    assert "compiles the denoiser's" in capsys.readouterr().err


def test_a_denoiser_without_blocks_is_refused():
    with pytest.raises(InputError, match=r"no blocks to compile; give `speed: eager`"):
        draw_fast(nn.Linear(2, 2), None, "compiled")


def test_what_cannot_be_recorded_is_launched_one_by_one(monkeypatch, capsys):
    tries = []

    def refuse(*_: object) -> None:
        tries.append(1)
        raise RuntimeError("Cannot copy between CPU and CUDA tensors\nand more")

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    monkeypatch.setattr(graphs, "Recording", refuse)
    monkeypatch.setattr(graphs, "end_recording", lambda device: None)
    model = nn.Linear(2, 2)
    x = torch.ones(1, 2)
    with torch.no_grad():
        plain = model(x)
        with graphs.record(model, "cpu"):
            assert torch.equal(model(x), plain)
            assert torch.equal(model(x), plain)
    assert tries == [1]
    assert "launched one by one, since they cannot be recorded: Cannot copy" in capsys.readouterr().err


@pytest.mark.parametrize("fps", [8, 8.0, torch.tensor([8, 8])])
def test_a_frame_rate_that_is_a_number_is_none_of_the_cpus(fps):
    model = FpsUNet3DConditionModel(
        sample_size=4, block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=8, attention_head_dim=8,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"), up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    ).to("meta")  # fmt: skip
    with torch.no_grad():
        model(torch.empty(2, 4, 2, 8, 8, device="meta"), 3, torch.empty(2, 5, 8, device="meta"), fps=fps)
    assert model.time_embedding.fps.device.type == "meta"
