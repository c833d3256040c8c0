"""Convert released checkpoints into diffusers directories: ``python -m pipelines.convert_generator FAMILY …``.

The directory is what ``generator.path`` of a recipe names, and what ``generators.T2VTurboPipeline.from_pretrained``
loads. Old pickles are read without running anything in them. The weights keep their licences: VideoCrafter2 and
T2V-Turbo say research use, ModelScope's are cc-by-nc-4.0.
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import jsonargparse

from generators import convert
from videoduet.commands import CommandParser, guarded, program
from videoduet.config import Precision
from videoduet.errors import InputError
from videoduet.progress import console


def _convert(output: Path, write: Callable[[], None]) -> None:
    def command() -> None:
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(f"{output} is there already; give another --output, or move it away.", exit_code=2)
        write()
        console.print(f"{output} is written; name it as generator.path.", markup=False, soft_wrap=True)

    guarded(command, "the same command")


def videocrafter2(
    checkpoint: Path, output: Path, tokenizer: str, fps: float = 28.0, dtype: Precision = "float32"
) -> None:
    """VideoCrafter2's model.ckpt.

    Args:
        checkpoint: model.ckpt.
        output: The directory to write.
        tokenizer: Directory (or hub id) of CLIP's tokenizer.
        fps: Frame rate that is folded into the weights (28: the authors' own command).
        dtype: Precision of the weights written.
    """
    _convert(
        output,
        lambda: convert.write_videocrafter2_directory(checkpoint, output, tokenizer, fps=fps, dtype=dtype),
    )


def t2v_turbo(
    checkpoint: Path, output: Path, tokenizer: str, lora: Path | None = None, unet: Path | None = None,
    fps: float = 16.0, keep_fps: bool = False, dtype: Precision = "float32",
    time_cond_proj: Literal["zeros"] | None = None,
) -> None:  # fmt: skip
    """T2V-Turbo on VideoCrafter2: model.ckpt with unet_lora.pt or t2v_turbo_vc2.pt, or one file of all (CodeGoat24's).

    Args:
        checkpoint: VideoCrafter2's model.ckpt, or a whole T2V-Turbo checkpoint in its layout; autoencoder and text
            encoder come from it.
        output: The directory to write.
        tokenizer: Directory (or hub id) of CLIP's tokenizer.
        lora: T2V-Turbo's unet_lora.pt, to be merged.
        unet: A merged UNet (t2v_turbo_vc2.pt) to take instead of the checkpoint's.
        fps: Frame rate that is folded into the weights: what the student was trained on (16).
        keep_fps: Leave the frame rate an input of the UNet, with ``fps`` as its default.
        dtype: Precision of the weights written.
        time_cond_proj: What the base of the guidance embedding is where it was not kept; without this such a
            checkpoint is refused.
    """
    _convert(
        output,
        lambda: convert.write_turbo_directory(
            checkpoint, output, tokenizer, unet=unet, lora=lora, fps=fps, keep_fps=keep_fps,
            dtype=dtype, time_cond_proj=time_cond_proj,
        ),
    )  # fmt: skip


def t2v_turbo_v2(
    checkpoint: Path, unet: Path, output: Path, tokenizer: str, fps: float = 8.0, keep_fps: bool = False,
    dtype: Precision = "float32", motion: Literal["unused"] | None = None,
) -> None:  # fmt: skip
    """T2V-Turbo-v2: unet_no_mg.pt, or unet_mg.pt where its motion guidance is not to be used.

    Args:
        checkpoint: VideoCrafter2's model.ckpt; autoencoder and text encoder come from it.
        unet: unet_no_mg.pt or unet_mg.pt.
        output: The directory to write.
        tokenizer: Directory (or hub id) of CLIP's tokenizer.
        fps: Frame rate that is folded into the weights: what the student was trained on (8).
        keep_fps: Leave the frame rate an input of the UNet, with ``fps`` as its default.
        dtype: Precision of the weights written.
        motion: 'unused' drops a motion branch that was trained; without this such a UNet is refused.
    """
    _convert(
        output,
        lambda: convert.write_turbo_directory(
            checkpoint, output, tokenizer, unet=unet, fps=fps, keep_fps=keep_fps, original_steps=200,
            dtype=dtype, motion_unused=motion == "unused",
        ),
    )  # fmt: skip


def t2v_turbo_ms(
    base: str,
    lora: Path,
    output: Path,
    dtype: Precision = "float32",
    time_cond_proj: Literal["zeros"] | None = None,
) -> None:
    """T2V-Turbo on ModelScope: its unet_lora.pt merged into ali-vilab/text-to-video-ms-1.7b.

    Args:
        base: ModelScope's text-to-video, a diffusers directory or hub id.
        lora: T2V-Turbo-MS's unet_lora.pt.
        output: The directory to write.
        dtype: Precision of the weights written.
        time_cond_proj: What the base of the guidance embedding is, which was not kept; without this the LoRA is
            refused.
    """
    _convert(
        output,
        lambda: convert.write_turbo_ms_directory(base, lora, output, dtype=dtype, time_cond_proj=time_cond_proj),
    )


FAMILIES = {
    "videocrafter2": videocrafter2,
    "t2v_turbo": t2v_turbo,
    "t2v_turbo_v2": t2v_turbo_v2,
    "t2v_turbo_ms": t2v_turbo_ms,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line (None: the process's) and convert."""
    jsonargparse.auto_cli(
        dict(FAMILIES), args=None if arguments is None else list(arguments), as_positional=False, description=__doc__,
        parser_class=CommandParser, prog=program("pipelines.convert_generator"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
