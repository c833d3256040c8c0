"""A UNet and an autoencoder with channels last compute what stock diffusers computes; undone they are stock."""

import pytest
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional

from generators.families.unet_base import UNetGenerator
from generators.fast import channels_last
from generators.fast.channels_last import keep_channels_last
from generators.fast.upsampling import can_sum, doubled_and_convolved

UNET = {
    "sample_size": 8, "block_out_channels": (8, 16, 16, 16), "norm_num_groups": 4, "attention_head_dim": 4,
    "cross_attention_dim": 12, "time_cond_proj_dim": 8, "layers_per_block": 1,
}  # fmt: skip
VAE = {
    "block_out_channels": (8, 16, 16), "norm_num_groups": 4, "layers_per_block": 1, "latent_channels": 4,
    "down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3,
}  # fmt: skip


def said(model: nn.Module) -> nn.Module:
    """``model`` with weights that all say something: diffusers begins with zeros where a block ends."""
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(0, (value[0].numel() if value.ndim > 1 else 9) ** -0.5, generator=rng)
            if value.ndim == 1:
                value.add_(0.5)
    return model.eval()


@pytest.fixture(scope="module", params=["plain", "lora"])
def unet(request) -> nn.Module:
    model = UNet3DConditionModel(**UNET)
    if request.param == "lora":
        model = get_peft_model(
            model, LoraConfig(r=2, target_modules=UNetGenerator.lora_targets, init_lora_weights=False)
        )
    return said(model)


def predicted(unet: nn.Module, height: int = 8, frames: int = 3) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    noisy, text = torch.randn(2, 4, frames, height, 8, generator=rng), torch.randn(2, 5, 12, generator=rng)
    w = torch.randn(2, 8, generator=rng)
    return unet(noisy, torch.tensor([519, 20]), text, timestep_cond=w).sample


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).norm() <= 1e-5 * theirs.norm())


@pytest.mark.parametrize(("height", "frames"), [(8, 3), (8, 1), (6, 4)])
def test_a_unet_computes_what_it_did(unet, height, frames):
    with torch.no_grad():
        plain = predicted(unet, height, frames)
        with keep_channels_last(unet):
            assert sum("forward" in vars(layer) for layer in unet.modules()) > 30, "nothing was changed"
            assert close(predicted(unet, height, frames), plain)
        assert torch.equal(predicted(unet, height, frames), plain)
    assert all(weight.is_contiguous() for weight in unet.parameters())
    assert not any("forward" in vars(layer) for layer in unet.modules())


def test_gradients_are_those_of_the_plain_model(unet):
    def gradients() -> list[Tensor]:
        unet.zero_grad()
        predicted(unet).square().mean().backward()
        return [value.grad.clone() for value in unet.parameters() if value.grad is not None]

    plain = gradients()
    with keep_channels_last(unet):
        ours = gradients()
    for one, other in zip(ours, plain, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm() + 1e-6


def test_an_autoencoder_computes_what_it_did():
    vae = said(AutoencoderKL(**VAE))
    latents, frames = torch.randn(3, 4, 5, 6), torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        plain = vae.decode(latents).sample, vae.encode(frames).latent_dist.mode()
        with keep_channels_last(vae):
            ours = vae.decode(latents).sample, vae.encode(frames).latent_dist.mode()
        assert torch.equal(vae.decode(latents).sample, plain[0])
    assert all(map(close, ours, plain))


@pytest.mark.parametrize("kind", ["unet", "decoder"])
def test_no_layer_sees_channels_first(kind, monkeypatch):
    model, wrong, norms = said(UNet3DConditionModel(**UNET) if kind == "unet" else AutoencoderKL(**VAE)), [], []
    convolve, fused = functional.conv2d, channels_last.group_norm

    def watched(x: Tensor, weight: Tensor, *arguments, **named) -> Tensor:
        if x.shape[1] > 4 and not x.is_contiguous(memory_format=torch.channels_last):
            wrong.append(tuple(x.shape))
        return convolve(x, weight, *arguments, **named)

    monkeypatch.setattr(functional, "conv2d", watched)

    def normed(rows: Tensor, norm: nn.GroupNorm, **named) -> Tensor:
        norms.append(norm)
        assert rows.is_contiguous(), "the kernel would copy"
        return fused(rows, norm, **named).contiguous()  # as the kernel writes it

    monkeypatch.setattr(channels_last, "group_norm", normed)
    part = model if kind == "unet" else model.decoder
    with torch.no_grad(), keep_channels_last(model):
        predicted(model, 16) if kind == "unet" else model.decode(torch.randn(3, 4, 5, 6))
    assert not wrong
    assert set(norms) == {layer for layer in part.modules() if isinstance(layer, nn.GroupNorm)}


def test_attention_that_somebody_chose_stays():
    unet = said(UNet3DConditionModel(**UNET))
    with torch.no_grad():
        plain = predicted(unet)
        unet.set_attn_processor(AttnProcessor())
        with keep_channels_last(unet):
            assert not any("forward" in vars(part) for part in unet.modules() if hasattr(part, "transformer_blocks"))
            assert close(predicted(unet), plain)


@pytest.mark.parametrize("bias", [True, False])
def test_a_doubling_and_its_convolution_are_one(bias):
    conv, x = nn.Conv2d(5, 7, 3, padding=1, bias=bias), torch.randn(2, 5, 3, 4)
    with torch.no_grad():
        assert can_sum(conv)
        ours = doubled_and_convolved(x, conv)
        assert close(ours, conv(nn.functional.interpolate(x, scale_factor=2.0)))
    assert ours.is_contiguous(memory_format=torch.channels_last)


def test_only_such_a_convolution_is_summed():
    with torch.no_grad():
        for other in (nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3, padding=1, groups=2)):
            assert not can_sum(other)
        assert not can_sum(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"))
    assert not can_sum(nn.Conv2d(4, 4, 3, padding=1)), "gradients would be lost"
