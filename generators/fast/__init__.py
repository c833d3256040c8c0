"""Changes of a denoiser's forward for speed or memory, each of which can be undone."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from generators.fast.config import SpeedConfig
    from generators.fast.drawing import draw_fast
    from generators.fast.speed import speed_up

__all__ = ["SpeedConfig", "draw_fast", "speed_up"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"config": ["SpeedConfig"], "drawing": ["draw_fast"], "speed": ["speed_up"]}
)
