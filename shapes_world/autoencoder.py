"""The tiny generator's autoencoder, trained from nothing on single frames."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from shapes_world.world import SIZE
from videoduet.progress import track


def train_autoencoder(videos: np.ndarray, steps: int, seed: int) -> AutoencoderKL:
    """An AutoencoderKL of single frames, 32×32×3 to 8×8×4, trained on reconstruction with a light KL term.

    ``videos`` are uint8 (B, T, H, W, 3).
    """
    torch.manual_seed(seed)
    vae = AutoencoderKL(
        block_out_channels=(16, 32, 32), down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, norm_num_groups=8, sample_size=SIZE,
        layers_per_block=1, mid_block_add_attention=False,
    )  # fmt: skip
    frames = torch.from_numpy(videos).flatten(0, 1).permute(0, 3, 1, 2)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    rng = torch.Generator().manual_seed(seed)
    for _ in track(range(steps), "training the autoencoder"):
        pixels = frames[torch.randint(len(frames), (32,), generator=rng)].float() / 127.5 - 1
        posterior = vae.encode(pixels).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=rng)
        reconstruction = vae.decode(latents).sample
        loss = F.l1_loss(reconstruction, pixels) + F.mse_loss(reconstruction, pixels) + 1e-5 * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    vae.eval()
    vae.register_to_config(scaling_factor=float(1 / encode(vae, videos[:64], scale=1.0).std()))
    return vae


@torch.no_grad()
def encode(vae: AutoencoderKL, videos: np.ndarray, scale: float | None = None) -> Tensor:
    """Latents float32 (B, C, T, h, w) of videos uint8 (B, T, H, W, 3), scaled to unit variance."""
    latents = []
    for video in torch.from_numpy(videos):
        pixels = video.permute(0, 3, 1, 2).float() / 127.5 - 1
        latents.append(vae.encode(pixels).latent_dist.mean.transpose(0, 1))
    return torch.stack(latents) * (vae.config.scaling_factor if scale is None else scale)


def load_autoencoder(work: Path) -> AutoencoderKL:
    """The autoencoder that a build has kept in ``work``, ready to encode."""
    return AutoencoderKL.from_pretrained(work / "autoencoder").eval()
