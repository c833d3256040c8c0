"""The embedded default: a world of moving shapes with exact ground truth, an oracle, and the tiny models that live in
it.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from shapes_world.oracle import oracle_score
    from shapes_world.world import Scene, all_scenes, render

__all__ = ["Scene", "all_scenes", "oracle_score", "render"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__, submod_attrs={"oracle": ["oracle_score"], "world": ["Scene", "all_scenes", "render"]}
)
