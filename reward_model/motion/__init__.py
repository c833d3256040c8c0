"""How a video moves, as one vector: SlowFast's features, always frozen, and their way into a language model."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from reward_model.motion.kept import KeptFeatures
    from reward_model.motion.network import SlowFastNetwork
    from reward_model.motion.projector import MotionProjector
    from reward_model.motion.slowfast import SlowFast

__all__ = ["KeptFeatures", "MotionProjector", "SlowFast", "SlowFastNetwork"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "kept": ["KeptFeatures"],
        "network": ["SlowFastNetwork"],
        "projector": ["MotionProjector"],
        "slowfast": ["SlowFast"],
    },
)
