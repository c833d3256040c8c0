"""Numbers from a language model's hidden states: AIGV-Assessor's heads (Wang et al. 2025), one for each dimension.

They are ``score_heads`` of the model and saved with it; its config says ``score_dimensions``, what they rate, in order,
and ``score_relu``, whether a head's last layer is cut off at 0 as in the release.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from reward_model.families.base import plain_model
from videoduet.errors import InputError
from videoduet.loading import loading

HEADS, PAIRS = "score_heads", "pair_networks"
"""What the heads, and the networks that compare (:mod:`reward_model.families.pairs`), are called in a model."""
WIDTHS = (1024, 256, 64, 16)
"""What is between the hidden state and the score in the release, whose hidden state is 4096 wide."""


class ScoreHead(nn.Module):
    """A hidden state to a score, MOS / 100: linear layers ``fc1``, ``fc2``, …, as in the release, with a ReLU between
    them; with ``relu`` one behind the last, too.

    The release has that, and its head is dead from the start (0 whatever it sees, and no gradient) in 21 of 100 draws
    of its weights, so it is for heads that were trained with it.
    """

    def __init__(self, width: int, between: Sequence[int] = WIDTHS, *, relu: bool = False):
        super().__init__()
        self.relu = relu
        sizes = [width, *between, 1]
        for number, (given, wide) in enumerate(itertools.pairwise(sizes), 1):
            self.add_module(f"fc{number}", nn.Linear(given, wide))

    def forward(self, hidden: Tensor) -> Tensor:
        """Scores (...) of hidden states (..., width), in float32."""
        *layers, last = self.children()
        value = hidden.float()
        for layer in layers:
            value = layer(value).relu()
        score = last(value)[..., 0]
        return score.relu() if self.relu else score


class ScoreHeads(nn.ModuleList):
    """A :class:`ScoreHead` for each dimension."""

    @property
    def width(self) -> int:
        """How wide the hidden states are that they take."""
        return next(self.parameters()).shape[1]

    @classmethod
    def new(cls, width: int, dimensions: int, between: Sequence[int] = WIDTHS, *, relu: bool = False) -> "ScoreHeads":
        """Heads drawn as torch draws linear layers."""
        return cls([ScoreHead(width, between, relu=relu) for _ in range(dimensions)])

    def forward(self, hidden: Tensor) -> Tensor:
        """Scores (B, dimensions) in float32 of hidden states (B, dimensions, width), each by its own head."""
        # Whatever the forward around this computes in: a score has more digits than bfloat16.
        with torch.autocast(hidden.device.type, enabled=False):
            return torch.stack([head(hidden[:, place]) for place, head in enumerate(self)], dim=1)


def score_dimensions(config: Any) -> tuple[str, ...] | None:
    """What a judge with this ``config`` rates in numbers; None where it answers in words alone."""
    found = getattr(config, "score_dimensions", None)
    return None if found is None else tuple(found)


def scores_in_numbers(model: Any) -> bool:
    """Whether a judge's ``model`` has heads; one that rates without them says levels."""
    return HEADS in plain_model(model)._modules


def put_heads(model: Any, heads: ScoreHeads, dimensions: Sequence[str]) -> None:
    """Make ``heads`` what ``model`` rates ``dimensions`` with."""
    model.config.score_dimensions, model.config.score_relu = list(dimensions), heads[0].relu
    setattr(model, HEADS, heads)


def give_heads(model: Any, directory: str | Path) -> None:
    """Put the heads that lie in ``directory`` into ``model``, in float32. Raises InputError where they do not fit."""
    state = tensors_of(directory, f"{HEADS}.")
    dimensions = score_dimensions(model.config) or ()
    with loading(f"The score heads in {directory} cannot be loaded", "download or copy the checkpoint anew."):
        heads = heads_like(state, relu=bool(getattr(model.config, "score_relu", False)))
        width = model.config.get_text_config().hidden_size
        if len(heads) != len(dimensions) or heads.width != width:
            raise InputError(
                f"{directory} has {len(heads)} score heads for {heads.width} numbers, and config.json "
                f"names {len(dimensions)} dimensions of a model with {width}; are they of one checkpoint?"
            )
    put_heads(model, heads, dimensions)


def heads_like(state: dict[str, Tensor], *, relu: bool) -> ScoreHeads:
    """Heads with the weights of ``state`` (``0.fc1.weight``, …), as many and as wide as these are."""
    number = 1 + max(int(name.partition(".")[0]) for name in state)
    layers = sum(name.startswith("0.") and name.endswith(".weight") for name in state)
    between = [len(state[f"0.fc{layer}.bias"]) for layer in range(1, layers)]
    heads = ScoreHeads.new(state["0.fc1.weight"].shape[1], number, between, relu=relu)
    heads.load_state_dict({name: value.float() for name, value in state.items()})
    return heads


def tensors_of(directory: str | Path, prefix: str) -> dict[str, Tensor]:
    """The tensors in a directory's safetensors whose names begin with ``prefix``, without it."""
    found: dict[str, Tensor] = {}
    for file in sorted(Path(directory).glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            names = [name for name in opened.keys() if name.startswith(prefix)]  # noqa: SIM118 - it is no dict
            found |= {name.removeprefix(prefix): opened.get_tensor(name) for name in names}
    return found
