"""VideoCrafter2 and T2V-Turbo checkpoints as stock diffusers and transformers models.

Each function takes a state dict as it was released, infers the architecture from its shapes, and gives a model that
computes the same; those that write a directory take files. A key too many, a key too few or a wrong shape raises
InputError with its name.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from generators.convert.directory import write_turbo_directory, write_videocrafter2_directory
    from generators.convert.encoders import ldm_vae, open_clip_text
    from generators.convert.lora import lora_modules, merge_turbo_lora
    from generators.convert.modelscope import write_turbo_ms_directory
    from generators.convert.unet import vc2_unet

__all__ = [
    "ldm_vae",
    "lora_modules",
    "merge_turbo_lora",
    "open_clip_text",
    "vc2_unet",
    "write_turbo_directory",
    "write_turbo_ms_directory",
    "write_videocrafter2_directory",
]
__getattr__, __dir__, _ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "directory": ["write_turbo_directory", "write_videocrafter2_directory"],
        "encoders": ["ldm_vae", "open_clip_text"],
        "lora": ["lora_modules", "merge_turbo_lora"],
        "modelscope": ["write_turbo_ms_directory"],
        "unet": ["vc2_unet"],
    },
)
