"""From prompts with videos to drawn answers by the :class:`reward_model.judging.decoder.Decoder`, and how many at once.

A judge asks it on a GPU, and GRPO draws its rollouts with it. A CPU gains nothing by it and keeps ``generate``.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reward_model.encoding import Showing, ShowingEncoder
from reward_model.families import family_of
from reward_model.families.base import plain_model
from reward_model.judging.attention import Part, attend_grouped
from reward_model.judging.config import LOGITS_KEPT
from reward_model.judging.decoder import Decoder, Prompts, computed_in
from reward_model.judging.picking import Drawing, Picker
from reward_model.judging.sharing import first_alike, positions
from videoduet.gpu import kernels_run

MOST_AT_ONCE = 256
"""Rows. More hardly share the reading of the weights any better."""
KEPT_FREE = 6 * 2**30
"""Bytes of a GPU that reading the longest prompts, and videos, may take."""


@dataclass(frozen=True)
class Drawn:
    """Answers: ``tokens`` (B, T) int64 on the CPU, padded after their ends, and the ``logits`` (B, T, labels) float32
    of labels at each.
    """

    tokens: Tensor
    logits: Tensor


@torch.no_grad()
def drawn(model: Any, prompts: Prompts, drawing: Drawing, new: int, labels: Sequence[int] = ()) -> Drawn:
    """At most ``new`` tokens after each of ``prompts``, picked as ``drawing`` says."""
    whole = plain_model(model)
    on_gpu = whole.device.type == "cuda"
    ids = _tokens_of(prompts) if drawing.repetition != 1.0 else [[0]] * len(prompts.own)
    # Kernels and graphs are for the current device.
    with torch.cuda.device(whole.device) if on_gpu else nullcontext():
        picker = Picker(drawing, new, whole.lm_head.weight.shape[0], whole.device, ids, labels)
        decoder = Decoder(whole, prompts, new, picker, attention(whole) if on_gpu else attend_grouped)
        decoder.read()
        # Under autocast weights are cast anew where a graph cannot see it.
        taken = decoder.run(graphed=on_gpu and not torch.is_autocast_enabled(whole.device.type))
        return Drawn(picker.tokens[:, :taken].cpu(), picker.logits[:, :taken].cpu())


def attention(model: Any) -> Callable[[Tensor, list[Part], float], Tensor]:
    """The attention of a step on a GPU: one kernel, where Triton runs, and heads and numbers have its sizes."""
    size = model.model.language_model.layers[0].self_attn.head_dim
    if size < 16 or size & (size - 1) or computed_in(model.lm_head.weight).itemsize > 2:
        return attend_grouped
    if not kernels_run(model.device):
        return attend_grouped
    from reward_model.judging.attention_kernels import attend_fused

    return attend_fused


def in_two_parts(
    model: Any, encoder: ShowingEncoder, showings: Sequence[Showing], heads: Sequence[int],
    features: Sequence[Sequence[Sequence[Tensor]]],
) -> Prompts:  # fmt: skip
    """``showings``, of which the first ``heads`` tokens each are read once where they, and their videos, are the same.

    ``features`` are the vision tokens of each showing's videos, as :class:`reward_model.judging.decoder.Prompts` keeps
    them. No video may lie in both parts of a showing.
    """
    shown = [
        int(encoder.is_seen(torch.tensor(each.ids[:head])).sum()) for each, head in zip(showings, heads, strict=True)
    ]
    before = [_videos_within(encoder, *pair) for pair in zip(showings, shown, strict=True)]
    owners = list(range(len(showings)))
    if any(heads):
        keys = zip(showings, heads, before, strict=True)
        owners = first_alike((tuple(each.ids[:head]), *map(id, each.videos[:count])) for each, head, count in keys)
    parts = [
        [each.ids[:head] for each, head in zip(showings, heads, strict=True)],
        [each.ids[head:] for each, head in zip(showings, heads, strict=True)],
    ]
    columns = [_right_filled(rows, encoder.processor.tokenizer.pad_token_id) for rows in parts if any(rows)]
    ids, mask = (torch.cat(each, 1) for each in zip(*columns, strict=True))
    videos = [video for each in showings for video in each.videos]
    # On the CPU: a GPU would be waited for at each row and each video.
    inputs = {"input_ids": ids, "attention_mask": mask, **encoder.seen(ids, videos, pixels=False)}
    return Prompts(
        ids,
        family_of(model).axes(positions(model, inputs)),
        max(heads),
        owners,
        list(heads),
        [len(each.ids) - head for each, head in zip(showings, heads, strict=True)],
        [list(each[:count]) for each, count in zip(features, before, strict=True)],
        [list(each[count:]) for each, count in zip(features, before, strict=True)],
    )


def rows_that_fit(model: Any, tokens: int) -> int:
    """How many rows of ``tokens`` (prompt and answer) a model on a GPU can be asked at once; at least 2."""
    whole = plain_model(model)
    config, first = whole.model.language_model.config, whole.model.language_model.layers[0].self_attn
    # Keys and values of every layer, and once more of one layer, while a prompt is read.
    numbers = 2 * config.num_key_value_heads * first.head_dim * (config.num_hidden_layers + 1) * tokens
    each = numbers * whole.lm_head.weight.element_size() + LOGITS_KEPT * 4 * whole.lm_head.weight.shape[0]
    return max(2, min(MOST_AT_ONCE, int(_free(whole.device) - KEPT_FREE) // each))


def _free(device: torch.device) -> int:
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def _videos_within(encoder: ShowingEncoder, showing: Showing, tokens: int) -> int:
    """How many videos the first ``tokens`` vision tokens of a showing are."""
    count = 0
    while tokens > 0:
        tokens -= encoder.tokens(showing.videos[count])
        count += 1
    return count


def _right_filled(rows: Sequence[list[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Token ids and their mask, (rows, longest row)."""
    length = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (length - len(row)) for row in rows])
    return ids, torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])


def _tokens_of(prompts: Prompts) -> list[list[int]]:
    rows = zip(prompts.ids.tolist(), prompts.shared, prompts.own, strict=True)
    return [ids[:shared] + ids[prompts.split : prompts.split + own] for ids, shared, own in rows]
