"""Convert released judges into transformers directories: ``python -m pipelines.convert_judge KIND SOURCE OUT``.

``internvl`` is OpenGVLab's InternVL in the layout of its own code, which is not run (the ``-hf`` checkpoints need no
conversion); ``vqathinker`` is VQAThinker's, with its motion encoder and projector. What is written is what ``--judge``
names. The weights keep their licences.
"""
# jsonargparse leaves parameters open.
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from pathlib import Path

import jsonargparse

from videoduet.commands import CommandParser, guarded, program
from videoduet.errors import InputError
from videoduet.progress import console


def _convert(source: Path, out: Path, *, motion: bool) -> None:
    def command() -> None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out} is there already; give another OUT, or move it away.", exit_code=2)
        from reward_model.families.convert import convert

        convert(source, out, motion=motion)
        console.print(f"{out} is written; name it as --judge.", markup=False, soft_wrap=True)

    guarded(command, "the same command")


def internvl(source: Path, out: Path) -> None:
    """InternVL 2.5, 3 or 3.5, as OpenGVLab releases it.

    Args:
        source: The released directory: config.json, *.safetensors, the tokenizer's files.
        out: The directory to write.
    """
    _convert(source, out, motion=False)


def vqathinker(source: Path, out: Path) -> None:
    """VQAThinker's judge, with its motion encoder (SlowFast) and projector.

    Args:
        source: The released directory: config.json, *.safetensors, the tokenizer's files.
        out: The directory to write; the motion encoder lies in its folder ``motion``.
    """
    _convert(source, out, motion=True)


KINDS = {"internvl": internvl, "vqathinker": vqathinker}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line (None: the process's) and convert."""
    jsonargparse.auto_cli(
        dict(KINDS), args=None if arguments is None else list(arguments), as_positional=True, description=__doc__,
        parser_class=CommandParser, prog=program("pipelines.convert_judge"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
