"""Learns a generator from preferences: rankings and pairs from comparisons, and Diffusion-DPO on them."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from alignment.preferences.ranking import bradley_terry, rank
    from alignment.sequential import WinEProcess
    from alignment.training.loss import diffusion_dpo_loss, sdpo_scale

__all__ = ["WinEProcess", "bradley_terry", "diffusion_dpo_loss", "rank", "sdpo_scale"]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "preferences.ranking": ["bradley_terry", "rank"],
        "sequential": ["WinEProcess"],
        "training.loss": ["diffusion_dpo_loss", "sdpo_scale"],
    },
)
