"""What a judge is audited with where nobody gives videos: undamaged clips of the world, each of another prompt."""

import numpy as np

from shapes_world.world import all_scenes, render
from videoduet.seeding import seed_for


def audit_clips(count: int, seed: int = 0) -> list[tuple[np.ndarray, str]]:
    """``count`` clips, frames uint8 (8, 32, 32, 3), of different scenes, and their prompts; 360 at most."""
    scenes = all_scenes()
    chosen: list[int] = np.random.default_rng(seed_for("audit", seed)).permutation(len(scenes))[:count].tolist()
    return [(render(scenes[i].prompt, seed_for("audit", seed, i)), scenes[i].prompt) for i in chosen]
