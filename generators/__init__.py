"""Draws videos: prompts to latents and frames."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from generators.base import Generator
    from generators.families.t2v_turbo import T2VTurbo, T2VTurboPipeline, guidance_embedding, turbo_timesteps
    from generators.families.videocrafter2 import VideoCrafter2Pipeline
    from generators.loading import load_generator

__all__ = [
    "Generator",
    "T2VTurbo",
    "T2VTurboPipeline",
    "VideoCrafter2Pipeline",
    "guidance_embedding",
    "load_generator",
    "turbo_timesteps",
]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["Generator"],
        "families.t2v_turbo": ["T2VTurbo", "T2VTurboPipeline", "guidance_embedding", "turbo_timesteps"],
        "families.videocrafter2": ["VideoCrafter2Pipeline"],
        "loading": ["load_generator"],
    },
)
