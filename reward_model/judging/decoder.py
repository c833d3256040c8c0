"""Greedy or sampled answers to many prompts at once, over keys and values that lie still.

``generate`` makes its cache longer at every step by copying it, repeats the keys of grouped queries for every head, and
launches each kernel of each step from Python. Here keys and values have their place from the start, what rows share is
kept and read once (:mod:`reward_model.judging.attention`), and on a GPU a step is one CUDA graph. The layers' own
modules compute, adapters and all, so a step differs from the library's in the order of additions alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.bias import causal_lower_right

from reward_model.families import family_of
from reward_model.judging.attention import Part, attend_grouped
from reward_model.judging.config import READ_AT_ONCE
from reward_model.judging.picking import Picker
from videoduet.gpu import end_recording
from videoduet.progress import console

STEPS_UNSEEN = 8
"""So many steps are taken between two looks at whether all rows have ended."""
Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Prompts:
    """Prompts of B rows in two parts, each filled up on the right: what rows with the same ``owners`` share, ``split``
    columns (0: nothing), and the rest.

    ``ids`` (B, length), ``positions`` (axes, B, length), ``shared`` and ``own`` are tokens of each part of each row;
    ``seen`` are the vision tokens of the videos in what it shares, ``vision`` of the others: of each video (tokens, d),
    then those of deeper layers.
    """

    ids: Tensor
    positions: Tensor
    split: int
    owners: list[int]
    shared: list[int]
    own: list[int]
    seen: list[list[Sequence[Tensor]]]
    vision: list[list[Sequence[Tensor]]]


def rotated(states: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """``states`` (B, length, heads, head dim) turned by their positions (RoFormer, Su et al., 2021)."""
    cos, sin = (each[:, :, None] for each in rotary)
    left, right = states.chunk(2, -1)
    return states * cos + torch.cat([-right, left], -1) * sin


def rms_norm(norm: Any, states: Tensor) -> Tensor:
    """``states`` (…, d) after a language model's ``norm``, in one pass (Zhang & Sennrich, 2019)."""
    return functional.rms_norm(states, states.shape[-1:], norm.weight.to(states.dtype), norm.variance_epsilon)


def through_layers(
    text: Any, hidden: Tensor, rotary: tuple[Tensor, Tensor], attend: Attend, places: Tensor | None = None,
    deep: Sequence[Tensor] = (),
) -> Tensor:  # fmt: skip
    """``hidden`` (B, length, d) after all layers of a language model of Qwen's kind, where ``attend`` gets the layer's
    number and its queries, keys and values (B, length, heads, head dim).

    ``deep`` (n, d) is added to the ``places`` (B, length) of vision tokens after the first layers, one each.
    """
    for number, layer in enumerate(text.layers):
        attention, normed = layer.self_attn, rms_norm(layer.input_layernorm, hidden)
        shape = (*normed.shape[:-1], -1, attention.head_dim)
        query, key, value = (
            project(normed).view(shape) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        # Qwen3 norms each head.
        if hasattr(attention, "q_norm"):
            query, key = rms_norm(attention.q_norm, query), rms_norm(attention.k_norm, key)
        found = attend(number, rotated(query, rotary), rotated(key, rotary), value)
        hidden = hidden + attention.o_proj(found.flatten(-2))
        hidden = hidden + layer.mlp(rms_norm(layer.post_attention_layernorm, hidden))
        if number < len(deep):
            hidden[places] += deep[number].to(hidden.dtype)
    return hidden


class Decoder:
    """The state of one batch: its cache, and where each row is. ``new`` tokens at most follow each prompt.

    ``pick`` makes tokens of logits; ``attend`` is the attention of a step.
    """

    def __init__(
        self, model: Any, prompts: Prompts, new: int, pick: Picker,
        attend: Callable[[Tensor, list[Part], float], Tensor] = attend_grouped,
    ):  # fmt: skip
        self.text, self.head, self.prompts, self.pick, self.attend = (
            model.model.language_model, model.lm_head, prompts, pick, attend,
        )  # fmt: skip
        self.family, self.device, self.new = family_of(model), model.device, new
        self.seen = torch.tensor(self.family.seen(model), device=self.device)
        self.dtype, rows = computed_in(self.head.weight), len(prompts.own)
        self.scale = self.text.layers[0].self_attn.scaling
        self.firsts = sorted(set(prompts.owners)) if prompts.split else []
        place = {owner: at for at, owner in enumerate(self.firsts)}
        self.group = [place[owner] for owner in prompts.owners] if prompts.split else []
        own = torch.tensor(prompts.own)
        self.own = self._parts(max(prompts.own) + new, own, [[row] for row in range(rows)])
        self.shared: list[Part] = []
        if prompts.split:
            members = [[row for row in range(rows) if self.group[row] == at] for at in range(len(self.firsts))]
            lengths = torch.tensor([prompts.shared[row] for row in self.firsts])
            self.shared = self._parts(prompts.split, lengths, members)
        self.lengths = self.own[0].lengths
        self.rows = torch.arange(rows, device=self.device)
        self.tokens = torch.zeros(rows, dtype=torch.long, device=self.device)
        self.logits = torch.zeros(rows, self.head.weight.shape[0], device=self.device)
        last = prompts.positions[:, torch.arange(rows), prompts.split + own - 1].amax(0)
        self.position, self.within = (last + 1).to(self.device), int(last.max()) + new

    def _parts(self, length: int, lengths: Tensor, members: list[list[int]]) -> list[Part]:
        """The cache of each layer: ``length`` places for each of ``members``, who share them."""
        config, first = self.text.config, self.text.layers[0].self_attn
        most = max(map(len, members))
        table = torch.tensor([each + [-1] * (most - len(each)) for each in members]).int().to(self.device)
        lengths = lengths.int().to(self.device)
        shape = (2, len(members), config.num_key_value_heads, length, first.head_dim)
        kept = (torch.zeros(shape, dtype=self.dtype, device=self.device) for _ in self.text.layers)
        # One tensor of lengths for all layers: a step makes it longer once.
        return [Part(keys, values, lengths, table) for keys, values in kept]

    @torch.no_grad()
    def read(self) -> Tensor:
        """Read the prompts; logits (B, vocabulary) of the tokens that follow."""
        most = max(1, READ_AT_ONCE // max(self.prompts.split, 1))
        for start in range(0, len(self.firsts), most):
            self._read_shared(slice(start, start + most))
        hidden = torch.cat([self._read_own(rows) for rows in self._chunks()])
        self.logits.copy_(self.head(rms_norm(self.text.norm, hidden)))
        return self.logits

    def _chunks(self) -> list[list[int]]:
        """Neighbouring rows whose shared parts are of one length, few enough to be read at once."""
        most, chunks = max(1, READ_AT_ONCE // max(self.prompts.own)), list[list[int]]()
        for row, shared in enumerate(self.prompts.shared):
            alike = chunks and self.prompts.shared[chunks[-1][0]] == shared
            if alike and len(chunks[-1]) < most:
                chunks[-1].append(row)
            else:
                chunks.append([row])
        return chunks

    def _through(self, rows: list[int], columns: slice, videos: list[Sequence[Tensor]], attend: Attend) -> Tensor:
        ids = self.prompts.ids[rows, columns].to(self.device)
        hidden = self.text.embed_tokens(ids)
        places, deep = torch.isin(ids, self.seen), ()
        if videos:
            pooled, *deep = (torch.cat(tokens) for tokens in zip(*videos, strict=True))
            hidden = hidden.masked_scatter(places[..., None], pooled.to(hidden.dtype))
        rotary = self.family.rotary(self.text, hidden, self.prompts.positions[:, rows, columns].to(self.device))
        return through_layers(self.text, hidden, rotary, attend, places, deep)

    def _read_shared(self, some: slice) -> None:
        def attend(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            query, key, value = (each.transpose(1, 2).to(self.dtype) for each in (query, key, value))
            self.shared[number].keys[some] = key
            self.shared[number].values[some] = value
            return _causal(query, key, value, self.scale).transpose(1, 2)

        rows = self.firsts[some]
        videos = [video for row in rows for video in self.prompts.seen[row]]
        self._through(rows, slice(0, self.prompts.split), videos, attend)

    def _read_own(self, rows: list[int]) -> Tensor:
        """Hidden states (rows, d) of the last token of each of ``rows``, which are neighbours."""
        length = max(self.prompts.own)
        place, seen = slice(rows[0], rows[-1] + 1), self.prompts.shared[rows[0]]
        group = torch.tensor([self.group[row] for row in rows], device=self.device) if self.shared else None

        def attend(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            query, key, value = (each.transpose(1, 2).to(self.dtype) for each in (query, key, value))
            self.own[number].keys[place, :, :length] = key
            self.own[number].values[place, :, :length] = value
            if group is not None:
                shared = self.shared[number]
                key = torch.cat([shared.keys[group, :, :seen], key], 2)
                value = torch.cat([shared.values[group, :, :seen], value], 2)
            return _causal(query, key, value, self.scale).transpose(1, 2)

        videos = [video for row in rows for video in self.prompts.vision[row]]
        hidden = self._through(rows, slice(self.prompts.split, None), videos, attend)
        ends = torch.tensor([self.prompts.own[row] - 1 for row in rows], device=self.device)
        return hidden[torch.arange(len(rows), device=self.device), ends]

    @torch.no_grad()
    def step(self) -> None:
        """Append ``tokens`` to every row, and find the logits and the tokens that follow."""
        # A row that has ended writes over its first place, and sees nothing else of its own.
        self.lengths.add_(1).masked_fill_(self.pick.done, 1)
        place = self.lengths.long() - 1

        def attend(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            own = self.own[number]
            own.keys[self.rows, :, place] = key[:, 0].to(self.dtype)
            own.values[self.rows, :, place] = value[:, 0].to(self.dtype)
            parts = [self.shared[number], own] if self.shared else [own]
            return self.attend(query[:, 0].to(self.dtype), parts, self.scale)[:, None]

        hidden = self.text.embed_tokens(self.tokens)[:, None]
        axes = self.position[None, :, None].expand(len(self.prompts.positions), -1, -1)
        rotary = self.family.rotary(self.text, hidden, axes, self.within)
        hidden = through_layers(self.text, hidden, rotary, attend)
        self.logits.copy_(self.head(rms_norm(self.text.norm, hidden))[:, 0])
        self.tokens.copy_(self.pick(self.logits))
        self.position += 1

    def graphed(self) -> Callable[[], None]:
        """A step as one CUDA graph, or as it is where that cannot be recorded, which is said; the state stays."""
        changed = [self.tokens, self.lengths, self.position, self.logits, *self.pick.state]
        state = [each.clone() for each in changed]

        def restore() -> None:
            for each, kept in zip(changed, state, strict=True):
                each.copy_(kept)

        try:
            return self._recorded()
        except RuntimeError as error:
            end_recording(self.device)
            reason = str(error).strip().partition("\n")[0]
            console.print(
                f"The judge's steps are launched one by one, since they cannot be recorded: {reason}", markup=False
            )
            return self.step
        finally:
            restore()

    def _recorded(self) -> Callable[[], None]:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.step()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # What other threads do meanwhile, such as reading videos ahead, is no part of it.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            self.step()
        return graph.replay

    @torch.no_grad()
    def run(self, graphed: bool) -> int:
        """How many steps it took until all rows had ended, from prompts that are read; the picker has their tokens."""
        self.tokens.copy_(self.pick(self.logits))
        # A graph costs a few steps; a handful of them is sooner done without.
        step = self.graphed() if graphed and self.new > STEPS_UNSEEN else self.step
        for taken in range(1, self.new):
            # To ask whether all have ended is to wait for the GPU.
            if taken % STEPS_UNSEEN == 0 and bool(self.pick.done.all()):
                return taken
            step()
        return self.new


def computed_in(weight: Tensor) -> torch.dtype:
    """The precision of what products with ``weight`` give."""
    kind = weight.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else weight.dtype


def _causal(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention of the last tokens of a row to all that stand before them (B, heads, length, head dim)."""
    asked, seen = query.shape[2], key.shape[2]
    if query.is_cuda and not _flash(query):
        # Grouped queries would have all scores written out; repeated keys let attention save memory.
        key, value = (each.repeat_interleave(query.shape[1] // each.shape[1], 1) for each in (key, value))
    grouped = query.shape[1] != key.shape[1]
    if asked == seen:
        return functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scale, enable_gqa=grouped
        )  # fmt: skip
    mask = causal_lower_right(asked, seen)
    if query.device.type == "cpu":
        mask = torch.ones(asked, seen, dtype=torch.bool).tril(seen - asked)
    return functional.scaled_dot_product_attention(query, key, value, mask, scale=scale, enable_gqa=grouped)


def _flash(query: Tensor) -> bool:
    """Whether flash attention, which knows grouped queries, takes ``query``: half precision, from Ampere on."""
    return query.element_size() == 2 and torch.cuda.get_device_capability(query.device)[0] >= 8
