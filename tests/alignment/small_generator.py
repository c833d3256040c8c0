"""A small generator over a real diffusers UNet, and a run directory with preference data for it."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import DDPMScheduler, UNet3DConditionModel
from torch import Tensor, nn

from generators.base import Generator
from videoduet.records import PreferencePair, Prompt, Sample, SamplerSettings, stable_id
from videoduet.seeding import seed_for
from videoduet.store import write_tensors

SETTINGS = SamplerSettings(steps=4, guidance_scale=7.5, fps=8, num_frames=2, height=64, width=64)
SHAPE = (4, 2, 8, 8)


class SmallGenerator(Generator):
    """Random weights, ε-prediction, DDPM noise; texts are embedded by hashing."""

    lora_targets = r".*(to_q|to_k|to_v|resnets\.\d+\.conv1|conv1\.2|conv[2-4]\.3)"
    channels = (16, 32)

    def __init__(self) -> None:
        self.settings = SETTINGS
        self.scheduler = DDPMScheduler()
        self.encoder_is_here = True
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self._unet: nn.Module = UNet3DConditionModel(
                sample_size=8,
                block_out_channels=self.channels,
                down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
                up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
                layers_per_block=1,
                norm_num_groups=8,
                cross_attention_dim=16,
                attention_head_dim=8,
            )

    @classmethod
    def from_pretrained(cls, path, *, sampler, dtype=torch.float32) -> "SmallGenerator":
        return cls()

    @property
    def denoiser(self) -> nn.Module:
        return self._unet

    @denoiser.setter
    def denoiser(self, module: nn.Module) -> None:
        self._unet = module

    def encode_prompts(self, texts: Sequence[str]) -> Tensor:
        assert self.encoder_is_here
        rngs = [torch.Generator().manual_seed(seed_for(text)) for text in texts]
        return torch.stack([torch.randn(4, 16, generator=rng) for rng in rngs])

    def initial_noise(self, seed: int) -> Tensor:
        return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))

    def sample(self, prompt_embeds: Tensor, seeds: Sequence[int]) -> Tensor:
        raise NotImplementedError

    def decode(self, latents: Tensor) -> Tensor:
        raise NotImplementedError

    def encode(self, frames: Tensor) -> Tensor:
        raise NotImplementedError

    def draw_timestep(self, rng: torch.Generator) -> int:
        return int(torch.randint(1000, (1,), generator=rng))

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return self.scheduler.add_noise(latents, noise, timesteps)

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        return noise

    def predict(self, noisy, timesteps, prompt_embeds, settings) -> Tensor:
        return self.denoiser(noisy, timesteps, prompt_embeds).sample.float()

    def to(self, device: str) -> None:
        self.denoiser.to(device)

    def free_encoders(self) -> None:
        self.encoder_is_here = False


class WideGenerator(SmallGenerator):
    """One that learns in a few steps, and takes half as long again for each."""

    channels = (32, 64)


def preference_data(run_dir: Path, num_prompts: int = 3) -> SimpleNamespace:
    """Two samples per prompt in one shard; the chosen latents are smooth, the rejected are noise."""
    prompts, samples, pairs, latents = {}, {}, [], []
    for number in range(num_prompts):
        prompt = Prompt.of(f"prompt {number}")
        prompts[prompt.id] = prompt
        ids = []
        for index in range(2):
            rng = torch.Generator().manual_seed(seed_for(number, index))
            noise = torch.randn(SHAPE, generator=rng)
            latents.append(noise if index else noise.mean(dim=(1, 2, 3), keepdim=True).expand(SHAPE) * 4)
            sample = Sample(
                id=stable_id("video", number, index),
                prompt_id=prompt.id,
                index=index,
                seed=index,
                generator="G_0",
                round=0,
                settings=SETTINGS,
                video_path="none.mp4",
                latents_path=str(run_dir / "latents.safetensors"),
                index_in_shard=len(latents) - 1,
            )
            samples[sample.id] = sample
            ids.append(sample.id)
        pair = PreferencePair(
            prompt_id=prompt.id,
            chosen_id=ids[0],
            rejected_id=ids[1],
            chosen_round=0,
            rejected_round=0,
            margin=1.0,
            agreement=1.0,
            comparison_ids=(),
        )
        pairs.append(pair)
    write_tensors(run_dir / "latents.safetensors", {"latents": torch.stack(latents)})
    return SimpleNamespace(run_dir=run_dir, pairs=pairs, samples=samples, prompts=prompts)
