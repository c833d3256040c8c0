"""Small clips whose flicker is known."""

from pathlib import Path

import numpy as np

from videoduet.video import write_video


def noisy_video(path: Path, noise: int, seed: int = 0, frames: int = 6, size: int = 64) -> Path:
    """A clip whose frames differ by about ``noise`` grey levels."""
    random = np.random.default_rng(seed)
    base = random.integers(0, 256, (1, size // 8, size // 8, 3)).repeat(8, 1).repeat(8, 2)
    noise = random.integers(-noise, noise + 1, (frames, size, size, 3))
    write_video(path, np.clip(base + noise, 0, 255).astype(np.uint8), 8)
    return path
