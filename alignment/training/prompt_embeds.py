"""Text conditioning, encoded once and kept on the disk, so that training needs no text encoder."""

from collections.abc import Sequence
from pathlib import Path

import torch

from generators.base import Generator
from videoduet.records import Prompt, stable_id
from videoduet.store import write_tensors

PROMPTS_PER_SHARD = 256
PROMPTS_PER_CALL = 16


def store_prompt_embeds(
    generator: Generator, prompts: Sequence[Prompt], folder: Path, *, write: bool
) -> dict[str, tuple[Path, int]]:
    """Where each prompt's text conditioning (L, D) lies: shard (tensor ``embeds``) and row.

    Shards that are missing are encoded if ``write``.
    """
    places = {}
    for start in range(0, len(prompts), PROMPTS_PER_SHARD):
        chunk = prompts[start : start + PROMPTS_PER_SHARD]
        path = folder / f"{stable_id(*(prompt.id for prompt in chunk))}.safetensors"
        if write and not path.exists():
            texts = [prompt.text for prompt in chunk]
            with torch.no_grad():
                parts = [
                    generator.encode_prompts(texts[i : i + PROMPTS_PER_CALL]).float().cpu()
                    for i in range(0, len(texts), PROMPTS_PER_CALL)
                ]
            write_tensors(path, {"embeds": torch.cat(parts)})
        places.update({prompt.id: (path, row) for row, prompt in enumerate(chunk)})
    generator.rest()
    return places
