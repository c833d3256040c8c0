"""What gradient checkpointing saves in a training step of real size: ``python -m benchmarks.checkpointing``.

The 1.4B UNet with random weights and a LoRA of rank 64 sees one pair of 16x320x512 (as latents), forward and backward.
On a GPU in bfloat16 with and without checkpointing, each in a process of its own; on the CPU in float32 with it only.
"""

import os
import resource
import subprocess
import sys
import time
from typing import Literal

import torch
from jsonargparse import CLI
from peft import LoraConfig, get_peft_model

from benchmarks.turbo_models import real_size_turbo
from generators.base import override
from generators.families.t2v_turbo import T2VTurbo
from generators.fast.recomputation import recompute_all
from videoduet.progress import console

MAPPED_FROM = str(2**17)
"""Bytes from which glibc maps a tensor by itself. Left alone it raises this to 32 MB, and the holes that the tensors
below it leave in the heap are never given back: more than the step itself needs.
"""


def step(device: str, checkpointing: bool, frames: int) -> None:
    """One training step; prints seconds and the peak of memory."""
    pipeline = real_size_turbo(device, torch.float32 if device == "cpu" else torch.bfloat16)
    generator = T2VTurbo(pipeline, override(T2VTurbo.default_settings(pipeline), {"num_frames": frames}))
    embeds = generator.encode_prompts(["a red circle"]).to(device).expand(2, -1, -1)
    generator.free_encoders()
    if checkpointing:
        recompute_all(generator.denoiser)
    lora = LoraConfig(r=64, lora_alpha=64, target_modules=generator.lora_targets)
    generator.denoiser = get_peft_model(generator.denoiser, lora).eval()
    latents = generator.noise_batch([0, 1])
    timesteps = torch.tensor([519, 519], device=device)
    started = time.perf_counter()
    prediction = generator.predict(latents, timesteps, embeds, [generator.settings] * 2)
    chosen, rejected = (prediction - latents).square().flatten(1).mean(dim=1)
    torch.nn.functional.softplus(chosen - rejected).backward()
    if device == "cpu":
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    else:
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated()
    console.print(
        f"{device}, {frames} frames, checkpointing {'on' if checkpointing else 'off'}: peak {peak / 1e9:.1f} GB, "
        f"{time.perf_counter() - started:.1f} s"
    )


def main(device: Literal["cpu", "cuda"] | None = None, checkpointing: bool | None = None, frames: int = 16) -> None:
    """Report the peak memory of a training step.

    Args:
        device: Where (None: on the GPU if there is one).
        checkpointing: With or without (None: what the device can hold).
        frames: Frames of each video.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if checkpointing is not None:
        step(device, checkpointing, frames)
        return
    for on in (True,) if device == "cpu" else (True, False):
        command = ["--device", device, "--checkpointing", str(on).lower(), "--frames", str(frames)]
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": MAPPED_FROM}
        subprocess.run([sys.executable, "-m", "benchmarks.checkpointing", *command], check=True, env=environment)


if __name__ == "__main__":
    CLI(main, as_positional=False)
