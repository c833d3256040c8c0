"""Convert released judges into transformers directories: ``python -m pipelines.convert_judge KIND SOURCE OUT``.

``internvl`` is OpenGVLab's InternVL in the layout of its own code, which is not run (the ``-hf`` checkpoints need no
conversion); ``vqathinker`` is VQAThinker's, with motion encoder and projector; ``aigv_assessor`` is AIGV-Assessor's, of
either stage; ``motion`` gives any judge a motion token that is still to be trained. What is written is what ``--judge``
names. The weights keep their licences.
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonargparse

from videoduet.commands import CommandParser, guarded, program
from videoduet.config import at_least
from videoduet.errors import InputError
from videoduet.progress import console


def _writer(name: str = "convert") -> Any:
    # Help and usage errors come without the libraries of models.
    return importlib.import_module(f"reward_model.families.{name}")


def _convert(out: Path, write: Callable[[], None]) -> None:
    def command() -> None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} is there already; give another OUT, or move it away.", exit_code=2)
        write()
        console.print(f"{out} is written; name it as --judge.", markup=False, soft_wrap=True)

    guarded(command, "the same command")


def internvl(source: Path, out: Path) -> None:
    """InternVL 2.5, 3 or 3.5, as OpenGVLab releases it.

    Args:
        source: The released directory: config.json, *.safetensors, the tokenizer's files.
        out: The directory to write.
    """
    _convert(out, lambda: _writer().convert(source, out, motion=False))


def vqathinker(source: Path, out: Path) -> None:
    """VQAThinker's judge, with its motion encoder (SlowFast) and projector.

    Args:
        source: The released directory: config.json, *.safetensors, the tokenizer's files.
        out: The directory to write.
    """
    _convert(out, lambda: _writer().convert(source, out, motion=True))


def aigv_assessor(
    source: Path,
    out: Path,
    dimension: str | None = None,
    alpha: float | None = None,
    relu: bool = False,
    window: int | None = None,
    num_frames: int = 8,
) -> None:
    """AIGV-Assessor's judge, which rates in numbers: of stage 1 (levels in words) or of stage 2 (a score head).

    Args:
        source: The released directory: config.json, *.safetensors, the tokenizer's files.
        out: The directory to write.
        dimension: What a checkpoint of stage 2 rates, in words (None: static quality).
        alpha: Alpha of its LoRA, which is merged (None: what adapter_config.json says, else twice its rank).
        relu: Keep the ReLU behind the released head, which is 0 wherever a score would be below.
        window: The side of SlowFast's pooling in a map (None: 7, or all of the map where frames are small).
        num_frames: How many frames of a video it was trained with.
    """

    def write() -> None:
        at_least(1, num_frames=num_frames)
        convert = _writer("convert_assessor").convert_assessor
        rated = convert(
            source, out, dimension=dimension, alpha=alpha, relu=relu, window=window, num_frames=num_frames
        )  # fmt: skip
        console.print(f"It rates {', '.join(rated)}; another dimension is named with --dimension.", markup=False)

    _convert(out, write)


def motion(source: Path, slowfast: Path, out: Path, window: int | None = None, seed: int = 0) -> None:
    """Give a judge a motion token: a frozen SlowFast, and a projector that is drawn at random, to be trained.

    Args:
        source: The judge, a transformers directory.
        slowfast: A SlowFast checkpoint, such as pytorchvideo's SLOWFAST_8x8_R50.pyth.
        out: The directory to write.
        window: The side of SlowFast's pooling in a map (None: what stands beside the encoder, else 7, for frames of 193
            pixels or more).
        seed: What the projector is drawn from.
    """
    _convert(out, lambda: _writer().add_motion(source, slowfast, out, window=window, seed=seed))


KINDS = {"internvl": internvl, "vqathinker": vqathinker, "aigv_assessor": aigv_assessor, "motion": motion}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line (None: the process's) and convert."""
    jsonargparse.auto_cli(
        dict(KINDS), args=None if arguments is None else list(arguments), as_positional=True, description=__doc__,
        parser_class=CommandParser, prog=program("pipelines.convert_judge"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
