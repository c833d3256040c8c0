"""Weights in four or eight bits: those that stay as they are under a LoRA, by bitsandbytes, as the libraries load them.

Dettmers et al., "QLoRA: Efficient Finetuning of Quantized LLMs" (2023): NF4 in blocks of 64, whose constants are
quantized too.
"""

import importlib
from importlib.util import find_spec
from typing import Any, Literal

from videoduet.errors import InputError

LoadIn = Literal["4bit", "8bit"]
"""In how many bits a frozen weight is held."""
BYTES: dict[LoadIn, float] = {"4bit": 0.516, "8bit": 1.0}
"""What a weight takes then, with the constants of its block: (4 + 8/64 + 32/(64·256)) / 8 in four bits."""


def check(load_in: LoadIn | None, option: str) -> None:
    """Raises InputError where ``option`` asks for what this machine cannot do: without bitsandbytes, or a GPU."""
    if load_in is None:
        return
    if find_spec("bitsandbytes") is None:
        raise InputError(
            f"{option} is '{load_in}', which needs bitsandbytes; pip install bitsandbytes, or leave it out."
        )
    import torch

    if not torch.cuda.is_available():
        raise InputError(f"{option} is '{load_in}', which is made for a GPU, and there is none here; leave it out.")


def how(load_in: LoadIn, library: Literal["transformers", "diffusers"], dtype: str, whole: tuple[str, ...] = ()) -> Any:
    """What ``from_pretrained`` of ``library`` takes as its ``quantization_config``: products in ``dtype``; modules
    whose names begin as one of ``whole`` (regular expressions, for transformers) stay as they are.
    """
    import torch

    kind = importlib.import_module(library).BitsAndBytesConfig
    skipped = {"llm_int8_skip_modules": list(whole) or None}
    if load_in == "8bit":
        return kind(load_in_8bit=True, **skipped)
    return kind(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype), **skipped,
    )  # fmt: skip
