"""VideoCrafter2 and T2V-Turbo checkpoints as stock diffusers and transformers models.

Each function takes a state dict as it was released, infers the architecture from its shapes, and gives a model that
computes the same. A key too many, a key too few or a wrong shape raises InputError with its name.
"""

from generators.convert.encoders import ldm_vae, open_clip_text
from generators.convert.lora import lora_modules, merge_turbo_lora
from generators.convert.unet import vc2_unet

__all__ = ["ldm_vae", "lora_modules", "merge_turbo_lora", "open_clip_text", "vc2_unet"]
