"""The attention of :mod:`reward_model.judging.attention` as one pass over keys and values, for a GPU (Triton)."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from reward_model.judging.attention import Part

BLOCK = 64
LOG2E = 1.4426950408889634
QUERIES = 64
"""So many queries of one kv head are a program's at most: more have no place in its registers."""


@triton.jit
def _attend_part(
    query, keys, values, out, lse, members, lengths, rows_each, blocks, length, chunk, first, splits,
    scale,
    KV: tl.constexpr, G: tl.constexpr, D: tl.constexpr, M: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    n, h, s = tl.program_id(0) // blocks, tl.program_id(1), tl.program_id(2)
    m, d = tl.program_id(0) % blocks * M + tl.arange(0, M), tl.arange(0, D)
    row = tl.load(members + n * rows_each + m // G, mask=m < rows_each * G, other=-1)
    asked = row >= 0
    at_query = row.to(tl.int64) * (KV * G) + h * G + m % G
    q = tl.load(query + at_query[:, None] * D + d[None, :], mask=asked[:, None], other=0.0)
    best = tl.full([M], float("-inf"), tl.float32)
    total = tl.zeros([M], tl.float32)
    sums = tl.zeros([M, D], tl.float32)
    base = (n.to(tl.int64) * KV + h) * length * D
    start = s * chunk
    end = tl.minimum(start + chunk, tl.load(lengths + n))
    for at in range(start, end, BLOCK):
        c = at + tl.arange(0, BLOCK)
        there = c < end
        place = base + c[:, None] * D + d[None, :]
        k = tl.load(keys + place, mask=there[:, None], other=0.0)
        score = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        score = tl.where(there[None, :], score, float("-inf"))
        higher = tl.maximum(best, tl.max(score, 1))
        weight = tl.exp2(score - higher[:, None])
        fade = tl.exp2(best - higher)
        total = total * fade + tl.sum(weight, 1)
        v = tl.load(values + place, mask=there[:, None], other=0.0)
        sums = sums * fade[:, None] + tl.dot(weight.to(v.dtype), v, input_precision="ieee")
        best = higher
    some = total > 0
    to = at_query * splits + first + s
    tl.store(lse + to, tl.where(some, best + tl.log2(tl.where(some, total, 1.0)), float("-inf")), mask=asked)
    tl.store(out + to[:, None] * D + d[None, :], sums / tl.where(some, total, 1.0)[:, None], mask=asked[:, None])


@triton.jit
def _merge(out, lse, merged, splits, SPLITS: tl.constexpr, D: tl.constexpr):
    at = tl.program_id(0).to(tl.int64)
    s, d = tl.arange(0, SPLITS), tl.arange(0, D)
    share = tl.load(lse + at * splits + s, mask=s < splits, other=float("-inf"))
    best = tl.max(share, 0)
    # A row that has ended sees nothing.
    share = tl.exp2(share - tl.where(best == float("-inf"), 0.0, best))
    parts = tl.load(out + (at * splits + s)[:, None] * D + d[None, :], mask=(s < splits)[:, None], other=0.0)
    total = tl.sum(share, 0)
    whole = tl.sum(parts * share[:, None], 0) / tl.where(total > 0, total, 1.0)  # pyright: ignore[reportOperatorIssue] -- a sum is no tuple here
    tl.store(merged + at * D + d, whole.to(merged.dtype.element_ty))


def splits_of(part: Part, programs: int = 528) -> int:
    """In how many pieces a part is read, so that about ``programs`` programs share the work."""
    each = part.keys.shape[0] * part.keys.shape[1]
    return max(1, min(16, -(-programs // each), -(-part.keys.shape[2] // (2 * BLOCK))))


def attend_fused(query: Tensor, parts: list[Part], scale: float) -> Tensor:
    """The same as :func:`reward_model.judging.attention.attend_grouped`; a row that sees nothing gets zeros."""
    rows, heads, size = query.shape
    pieces = [splits_of(part) for part in parts]
    out = torch.empty(rows, heads, sum(pieces), size, device=query.device)
    lse = torch.empty(rows, heads, sum(pieces), device=query.device)
    merged, query, first = torch.empty_like(query), query.contiguous(), 0
    for part, count in zip(parts, pieces, strict=True):
        n, kv, length, _ = part.keys.shape
        each = part.members.shape[1]
        groups = heads // kv
        chunk = triton.cdiv(triton.cdiv(length, count), BLOCK) * BLOCK
        queries = min(QUERIES, max(16, triton.next_power_of_2(each * groups)))
        blocks = triton.cdiv(each * groups, queries)
        _attend_part[(n * blocks, kv, count)](
            query, part.keys, part.values, out, lse, part.members, part.lengths, each, blocks, length, chunk, first,
            sum(pieces), scale * LOG2E, kv, groups, size, queries, BLOCK,
            num_warps=4,  # pyright: ignore[reportCallIssue] -- Triton's own options are in no signature
        )  # fmt: skip
        first += count
    _merge[(rows * heads,)](
        out, lse, merged, sum(pieces), triton.next_power_of_2(sum(pieces)), size,
        num_warps=2,  # pyright: ignore[reportCallIssue] -- as above
    )  # fmt: skip
    return merged
