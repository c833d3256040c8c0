"""AIGV-Assessor's third stage: a network that sees two videos at once and says which is better, one a dimension.

The paper draws it after LPIPS (Zhang et al. 2018) and says no more; the release has none. As there, features of several
vision layers are brought to unit length over their channels and subtracted place by place. What is left of that is its
mean, which has a sign, and the mean of its squares, which has none; the same of what the language model makes of each
video. A small network g reads all of it, and the logit is g(a, b) - g(b, a), so that swapping turns it exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reward_model.families.base import plain_model
from reward_model.families.scores import PAIRS, score_dimensions, tensors_of
from videoduet.errors import InputError
from videoduet.loading import loading

LAYERS = 4
"""Vision layers that are compared, at equal distances, the last one among them."""
WIDTH = 64
"""Numbers between what a network sees and its logit."""


@dataclass(frozen=True)
class Looked:
    """What is compared of B videos.

    Attributes:
        layers: Patches of each compared vision layer, of all frames (B, places, channels).
        before: What comes to the word before the level (B, dimensions, width).
    """

    layers: list[Tensor]
    before: Tensor


class PairNetwork(nn.Module):
    """g: what is seen of two videos to a number, for one dimension; ``channels`` of the vision layers, ``hidden`` of
    the language model.
    """

    def __init__(self, channels: Sequence[int], hidden: int, width: int = WIDTH):
        super().__init__()
        self.looks = nn.ModuleList([nn.Linear(2 * each, width) for each in channels])
        self.reads = nn.Linear(2 * hidden, width)
        self.decides = nn.Sequential(nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))

    def forward(self, seen: Sequence[Tensor], read: Tensor) -> Tensor:
        """(B,) from differences and their squares: ``seen`` of the layers (B, 2 channels), ``read`` (B, 2 hidden)."""
        found = [look(each) for look, each in zip(self.looks, seen, strict=True)]
        return self.decides(torch.stack([*found, self.reads(read)]).mean(0))[:, 0]


class PairNetworks(nn.ModuleList):
    """A :class:`PairNetwork` for each dimension, and the ``layers`` of the vision tower that they compare."""

    def __init__(self, networks: Sequence[PairNetwork], layers: Sequence[int]):
        super().__init__(networks)
        self.layers = tuple(layers)

    @classmethod
    def new(cls, model: Any, dimensions: int, width: int = WIDTH) -> "PairNetworks":
        """Networks for a judge's ``model``, drawn as torch draws linear layers."""
        config = plain_model(model).config
        vision, layers = config.vision_config, layers_of(config.vision_config.num_hidden_layers)
        hidden = config.get_text_config().hidden_size
        channels = [vision.hidden_size] * len(layers)
        return cls([PairNetwork(channels, hidden, width) for _ in range(dimensions)], layers)

    def forward(self, first: Looked, second: Looked) -> Tensor:
        """Logits (B, dimensions) float32 that the first is better; turned round, their exact negative."""
        with torch.autocast(first.before.device.type, enabled=False):
            one, other = _differences(first, second), _differences(second, first)
            logits = [
                # Each in a call of its own: what is computed side by side may differ in its last bits.
                network(one[0], one[1][:, place]) - network(other[0], other[1][:, place])
                for place, network in enumerate(self)
            ]
        return torch.stack(logits, dim=1)


def layers_of(count: int) -> list[int]:
    """Which of a vision tower's ``count`` layers are compared."""
    wanted = min(LAYERS, count)
    return [(number + 1) * count // wanted - 1 for number in range(wanted)]


def _differences(first: Looked, second: Looked) -> tuple[list[Tensor], Tensor]:
    """What is seen (B, 2 channels) a layer, and read (B, dimensions, 2 width)."""
    if any(one.shape != other.shape for one, other in zip(first.layers, second.layers, strict=True)):
        raise InputError("Two videos shown with other numbers of frames cannot be compared; show as many of each.")
    seen = []
    for one, other in zip(first.layers, second.layers, strict=True):
        gap = _unit(one) - _unit(other)
        seen.append(torch.cat([gap.mean(1), gap.square().mean(1)], dim=-1))
    gap = _unit(first.before) - _unit(second.before)
    return seen, torch.cat([gap, gap.square()], dim=-1)


def _unit(features: Tensor) -> Tensor:
    """Of unit length over channels, times their root, so that a number is near 1."""
    return nn.functional.normalize(features.float(), dim=-1) * features.shape[-1] ** 0.5


def compares(model: Any) -> bool:
    """Whether a judge's ``model`` has pair networks; one without compares by the difference of scores."""
    return PAIRS in plain_model(model)._modules


def put_pairs(model: Any, networks: PairNetworks) -> None:
    """Make ``networks`` what ``model`` compares with."""
    model.config.pair_layers = list(networks.layers)
    setattr(model, PAIRS, networks)


def give_pairs(model: Any, directory: str | Path) -> None:
    """Put the pair networks that lie in ``directory`` into ``model``, in float32. Raises InputError where they do not
    fit.
    """
    state = tensors_of(directory, f"{PAIRS}.")
    dimensions, layers = score_dimensions(model.config) or (), getattr(model.config, "pair_layers", [])
    with loading(f"The pair networks in {directory} cannot be loaded", "download or copy the checkpoint anew."):
        networks = PairNetworks.new(model, len(dimensions), width=len(state["0.reads.bias"]))
        networks.layers = tuple(layers)
        networks.load_state_dict({name: value.float() for name, value in state.items()})
    put_pairs(model, networks)
