"""Prompts that begin alike, with the same first video: the model reads that head once and shares its keys and values.

Of ten videos' comparisons in both orders, nine begin with each video, so that is close to half of all reading. Keys and
values depend on nothing that follows, so answers stay what they are.
"""

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import DynamicCache

from reward_model.encoding import Showing


def shared_heads(showings: Sequence[Showing], slack: int) -> list[int] | None:
    """For each showing the first one whose head is the same; None where sharing would save no reading, or would pad the
    batch by more than ``slack`` tokens.
    """
    first: dict[tuple, int] = {}
    owners = [
        first.setdefault((tuple(each.paths[:1]), tuple(each.ids[: each.head])), index)
        for index, each in enumerate(showings)
    ]
    head, tail = max(each.head for each in showings), max(len(each.ids) - each.head for each in showings)
    whole = max(len(each.ids) for each in showings)
    saves = len(first) * head + len(showings) * tail < len(showings) * whole
    return owners if saves and head + tail <= whole + slack else None


def positions(model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Positions (4, batch, length) of text, and of time, height and width, as ``generate`` counts them."""
    whole, mask = model.get_base_model() if isinstance(model, PeftModel) else model, inputs["attention_mask"]
    text = (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)
    return torch.cat([text[None], whole.model.get_rope_index(**inputs)[0]])


def prefill(
    model: torch.nn.Module, inputs: dict[str, Tensor], owners: Sequence[int], head: int, vision: dict[str, Any]
) -> DynamicCache:
    """Keys and values of the first ``head`` columns of a batch, computed once for all rows with the same owner.
    ``vision`` are the vision tokens of the owners' first videos, as the model takes them, where ``inputs`` hold no
    embeddings with them in place.
    """
    rows = sorted(set(owners))
    cache = DynamicCache(config=model.config)
    text = {name: inputs[name][rows, :head] for name in ("input_ids", "inputs_embeds") if name in inputs}
    if len(text) == 2:
        del text["input_ids"]
    model(
        **text,
        **vision,
        attention_mask=inputs["attention_mask"][rows, :head],
        position_ids=inputs["position_ids"][:, rows, :head],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    place = {row: index for index, row in enumerate(rows)}
    cache.batch_select_indices(torch.tensor([place[owner] for owner in owners], device=model.device))
    return cache
