"""Training recipes, and what each is worth: its gain over a *twin* that learns the same from labels by a coin.

More training on a generator's own videos may help by itself, whoever chose them; a twin has all of that and no
preferences. The arms that fine-tune on one side of the pairs alone show how much there is of it.
"""

from typing import Any

import numpy as np

from shapes_world.oracle import DIMENSIONS

RECIPES: dict[str, dict[str, Any]] = {
    "plain": {"sdpo_mu": None, "sft_weight": 0.0},
    "sdpo": {"sdpo_mu": 0.9, "sft_weight": 0.0},
    "sft": {"sdpo_mu": None, "sft_weight": 50.0},
}
"""What each sets of :class:`AlignConfig`."""
DEFAULT = "sdpo"
"""The one that the default run has."""
FINE_TUNING: dict[str, Any] = {"sdpo_mu": None, "sft_weight": 50.0, "beta": 0.001}
"""Hardly any preference: the error on what is called chosen is all that counts."""


def gains(case: dict[str, Any], over: dict[str, Any] | None = None) -> dict[str, list[float]]:
    """By dimension of the oracle, and for their mean: how much better each video is than the base's from the same noise
    (``over`` None), or than the one of the case ``over``.

    Cases are as :func:`benchmarks.closed_loop.scores` makes them.
    """
    after = np.asarray(case["aligned_dimensions"])
    before = np.asarray(case["base_dimensions"] if over is None else over["aligned_dimensions"])
    difference = after - before
    return {**dict(zip(DIMENSIONS, difference.T.tolist(), strict=True)), "mean": difference.mean(1).tolist()}
