"""What a family of vision-language models does, for judging and training alike: how it sees, and how it counts places.

How a family shows videos, its :class:`reward_model.encoding.ShowingEncoder` says.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
from peft import PeftModel
from torch import Tensor, nn

from reward_model.encoding import VideoInputs
from reward_model.families.shared_vision import SharedVision

Key = TypeVar("Key")
VideoTokens = tuple[Tensor, ...]
"""Vision tokens of a video (n, d), and those of deeper layers, where the family has them."""


def plain_model(model: Any) -> Any:
    """The model itself where it has a LoRA in its layers."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def has_motion(model: Any) -> bool:
    """Whether a judge's ``model`` has a sense of motion (:mod:`reward_model.families.sense`)."""
    return "motion_mlp" in plain_model(model)._modules


class Family:
    """One kind of model. ``sees`` names the modules between pixels and vision tokens, ``vision_lora`` what of them a
    LoRA goes into (a regular expression); ``windowed`` says that its vision tower attends within windows;
    ``by_reward`` that GRPO can train it.
    """

    sees: ClassVar[tuple[str, ...]]
    vision_lora: ClassVar[str]
    windowed: ClassVar[bool] = False
    by_reward: ClassVar[bool] = False
    transformers: ClassVar[str] = "5.0"
    """The oldest version of the library that has it."""

    def seen(self, model: Any) -> list[int]:
        """The ids of the tokens that stand for what is seen."""
        raise NotImplementedError

    def vision_parts(self, model: Any) -> list[nn.Module]:
        """The modules between pixels and vision tokens, of a model however it is wrapped."""
        return [module for name, module in model.named_modules() if name.split(".")[-1] in self.sees]

    def vision_tokens(
        self, model: Any, videos: Mapping[Key, VideoInputs], shared: SharedVision | None = None
    ) -> dict[Key, VideoTokens]:
        """The vision tokens of ``videos``; ``shared`` is what remembers them in this model, where something does."""
        raise NotImplementedError

    def shared_vision(self, model: Any) -> SharedVision:
        """Make the frozen vision tower of ``model`` remember what it saw."""
        raise NotImplementedError

    def positions(self, model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """Positions of the tokens in ``inputs``, as ``generate`` takes them; the last dimensions are (B, length)."""
        raise NotImplementedError

    def axes(self, positions: Tensor) -> Tensor:
        """What of :meth:`positions` turns queries and keys: (axes, B, length)."""
        raise NotImplementedError

    def position_ids(self, axes: Tensor) -> Tensor:
        """``axes`` as a forward takes them."""
        return axes

    def rotary(self, text: Any, hidden: Tensor, axes: Tensor, within: int | None = None) -> tuple[Tensor, Tensor]:
        """Cosines and sines (B, length, head dim) that turn what the language model ``text`` has at ``axes``.

        ``within`` says that no place reaches it, nor did one of what was read just before.
        """
        embed = text.rotary_emb
        if within is not None and embed.rope_type == "dynamic" and within < embed.original_max_seq_len:
            # Dynamic RoPE looks on the host how far places reach, which no graph can hold; here it stretches nothing.
            return type(embed).forward.__wrapped__(embed, hidden, self.position_ids(axes))
        return embed(hidden, self.position_ids(axes))


def text_positions(mask: Tensor) -> Tensor:
    """Each token's place among those that ``mask`` (B, length) does not hide; 0 where it does."""
    return (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)


def on_device(videos: Mapping[Any, VideoInputs], device: torch.device) -> Tensor:
    """The patches of ``videos``, in order, put together on ``device``: 200 MB are not copied twice by one core."""
    return torch.cat([video.patches.to(device, non_blocking=True) for video in videos.values()])
