"""What a denoiser is sped up for."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SpeedConfig:
    """What is known of the training that a denoiser is sped up for.

    Attributes:
        gradient_checkpointing: Compute activations again instead of keeping them: all, those of the feed-forward
            layers alone, or 'twice', for the least memory.
        autocast: Whether the forward runs in half precision, where a LoRA's product cannot be folded: the sum would
            round it away.
        lora_in_half: Whether a LoRA over weights in half precision computes in half precision too, outside of autocast.
    """

    gradient_checkpointing: bool | Literal["feed_forward", "twice"] = False
    autocast: bool = False
    lora_in_half: bool = False
