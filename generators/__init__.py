"""Draws videos: prompts to latents and frames."""

from generators.base import Generator
from generators.loading import load_generator
from generators.t2v_turbo import T2VTurbo, T2VTurboPipeline

__all__ = ["Generator", "T2VTurbo", "T2VTurboPipeline", "load_generator"]
