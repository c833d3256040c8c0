"""Attention of one new token over keys and values that lie still: grouped queries, nothing repeated, nothing copied.

A row's keys are in two parts: those of what it shares with other rows, kept once for all of them, and its own. Its
attention over both is put together from the parts, as in Hydragen (Juravsky et al., 2024) and flash-decoding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Part:
    """Keys and values (N, kv heads, length, head dim), how many of each are there, (N,) int32, and whose they are:
    ``members`` (N, R) int32 are the rows that see them, -1 where fewer than R do.
    """

    keys: Tensor
    values: Tensor
    lengths: Tensor
    members: Tensor

    def __post_init__(self) -> None:
        # Where each row's queries stand among those of a part: looked up once, not at every step.
        n, r = torch.nonzero(self.members >= 0, as_tuple=True)
        order = self.members[n, r].argsort()
        self.part_of, self.place_in = n[order], r[order]
        self.asking = self.members.clamp(min=0).long()


def attend_grouped(query: Tensor, parts: list[Part], scale: float) -> Tensor:
    """Attention (B, heads, head dim) of ``query``, of the same shape, over all parts: products of matrices alone.

    Every row must be a member of every part once.
    """
    rows, heads, size = query.shape
    groups = heads // parts[0].keys.shape[1]
    grouped = query.view(rows, -1, groups, size)
    scores = []
    for part in parts:
        n, r = part.members.shape
        asked = grouped[part.asking]  # (N, R, kv, G, D)
        asked = asked.permute(0, 2, 1, 3, 4).reshape(n, -1, r * groups, size)
        found = (asked @ part.keys.transpose(-1, -2)).float() * scale
        seen = torch.arange(part.keys.shape[2], device=query.device) < part.lengths[:, None]
        found = found.masked_fill(~seen[:, None, None], -torch.inf).view(n, -1, r, groups, found.shape[-1])
        scores.append(found[part.part_of, :, part.place_in])
    weights = torch.cat(scores, -1).softmax(-1).to(query.dtype).split([s.shape[-1] for s in scores], -1)
    output = torch.zeros_like(grouped)
    for part, weight in zip(parts, weights, strict=True):
        n, r = part.members.shape
        spread = weight[part.asking].permute(0, 2, 1, 3, 4).flatten(2, 3)
        found = (spread @ part.values).view(n, -1, r, groups, size)
        output = output + found[part.part_of, :, part.place_in]
    return output.view(rows, heads, size)
