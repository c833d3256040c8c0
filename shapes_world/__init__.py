"""The embedded default: a world of moving shapes with exact ground truth, an oracle, and the tiny models that live in
it.
"""

from shapes_world.oracle import oracle_score
from shapes_world.world import Scene, all_scenes, render

__all__ = ["Scene", "all_scenes", "oracle_score", "render"]
