"""Rebuild the tiny InternVL and the tiny SlowFast: ``python -m shapes_world.build_motion --output DIR``.

Ten minutes on one idle core, three megabytes in all. A SlowFast learns how clips move and is frozen; an InternVL
learns, supervised, to describe and score clips, without a motion token. What is there is left alone, and an interrupted
InternVL goes on.
"""

from dataclasses import dataclass, field
from pathlib import Path

import jsonargparse
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from shapes_world.build_internvl import InternVLBuild, teach_internvl
from shapes_world.build_slowfast import SlowFastBuild, teach_motion
from videoduet.config import resolve

VAE = "shapes_world/models/generator/vae"
SLOWFAST, INTERNVL = "slowfast", "internvl"
"""What they are called in ``output``."""


@dataclass(frozen=True)
class MotionBuild:
    """How long each trains; the defaults are what ships."""

    slowfast: SlowFastBuild = field(default_factory=SlowFastBuild)
    internvl: InternVLBuild = field(default_factory=InternVLBuild)


def build_motion(build: MotionBuild, output: Path) -> None:
    """Build what is missing in ``output``; the InternVL's clips and checkpoints lie in ``output/work``."""
    teach_motion(build.slowfast, output / SLOWFAST)
    vae = AutoencoderKL.from_pretrained(resolve(VAE)).eval()
    teach_internvl(build.internvl, vae, output / INTERNVL, output / "work" / INTERNVL)


def main(output: Path, build: MotionBuild = MotionBuild()) -> None:
    """Train both from nothing.

    Args:
        output: Where they go; ``shapes_world/models`` is where the package looks for them.
        build: How long each trains.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    build_motion(build, output)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False, description=__doc__)
