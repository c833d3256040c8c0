"""Convert released checkpoints into diffusers directories: ``python -m pipelines.convert_generator FAMILY …``.

The directory is what ``generator.path`` of a recipe names, and what ``generators.T2VTurboPipeline.from_pretrained``
loads. Old pickles are read without running anything in them. The weights keep their licences: VideoCrafter2 and
T2V-Turbo say research use.
"""

from pathlib import Path
from typing import Literal

import torch
from jsonargparse import CLI

from generators.convert.directory import write_turbo_directory
from pipelines.phase import guarded
from videoduet.errors import InputError
from videoduet.progress import console

Precision = Literal["float32", "bfloat16", "float16"]


def _vacant(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} is there already; give another --output, or move it away.", exit_code=2)


def t2v_turbo(
    checkpoint: Path,
    output: Path,
    tokenizer: str,
    lora: Path | None = None,
    unet: Path | None = None,
    fps: float = 16,
    dtype: Precision = "float32",
    time_cond_proj: Literal["zeros"] | None = None,
) -> None:
    """T2V-Turbo on VideoCrafter2: model.ckpt with unet_lora.pt, or with t2v_turbo_vc2.pt, or one file of everything.

    Args:
        checkpoint: VideoCrafter2's model.ckpt, or a whole T2V-Turbo checkpoint in its layout; autoencoder and text
            encoder come from it.
        output: The directory to write.
        tokenizer: Directory (or hub id) of CLIP's tokenizer.
        lora: T2V-Turbo's unet_lora.pt, to be merged.
        unet: A merged UNet (t2v_turbo_vc2.pt) to take instead of the checkpoint's.
        fps: Frame rate that is folded into the weights: what the student was trained on (16).
        dtype: Precision of the weights written.
        time_cond_proj: What the base of the guidance embedding is where it was not kept; without this such a
            checkpoint is refused.
    """

    def command() -> None:
        _vacant(output)
        write_turbo_directory(
            checkpoint, output, tokenizer, unet=unet, lora=lora, fps=fps, dtype=getattr(torch, dtype),
            time_cond_proj=time_cond_proj,
        )  # fmt: skip
        console.print(f"{output} is written; name it as generator.path.", markup=False, soft_wrap=True)

    guarded(command, "the same command")


if __name__ == "__main__":
    CLI({"t2v_turbo": t2v_turbo}, as_positional=False, description=__doc__)
