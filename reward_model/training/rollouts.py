"""A group's rollouts drawn by the engine: its prompt is read once, and a step of all rows is one CUDA graph."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from reward_model.encoding import Showing, ShowingEncoder, VideoInputs
from reward_model.families.base import plain_model
from reward_model.families.sense import seen_tokens
from reward_model.judging.engine import drawn, in_two_parts
from reward_model.judging.picking import Drawing, UnknownSettings
from reward_model.judging.sharing import SharedVision
from reward_model.judging.windows import windows_together


def drawing_of(settings: GenerationConfig) -> Drawing | None:
    """How ``settings`` have rollouts drawn; None where only ``generate`` knows."""
    try:
        return Drawing.of(settings)
    except UnknownSettings:
        return None


def rollouts(
    model: Any, encoder: ShowingEncoder, showings: Sequence[Showing], drawing: Drawing, new: int,
    shared: SharedVision | None,
) -> list[list[int]]:  # fmt: skip
    """The tokens of an answer to each of ``showings``, to its end; of those that are the same one is read.

    ``shared`` is what remembers vision tokens, where something does.
    """
    # The model may be told to keep little for gradients, which are not wanted here.
    with torch.no_grad():
        tokens = _vision_tokens(model, encoder, [video for each in showings for video in each.videos], shared)
        features = [[tokens[id(video)] for video in each.videos] for each in showings]
        heads = [len(each.ids) - 1 for each in showings]
        found = drawn(model, in_two_parts(model, encoder, showings, heads, features), drawing, new)
    return [_to_its_end(row, drawing.ends) for row in found.tokens.tolist()]


def _vision_tokens(
    model: Any, encoder: ShowingEncoder, videos: Sequence[VideoInputs], shared: SharedVision | None
) -> dict[int, tuple[Tensor, ...]]:
    """Vision tokens (n, d) of each video, by its identity."""
    different = {id(video): video for video in videos}
    with windows_together(model):
        return seen_tokens(plain_model(model), encoder, different, shared)


def _to_its_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: end + 1]
