"""What many rows of a batch have in common, worked out once: vision tokens, and keys and values of how they begin.

Keys and values depend on nothing that follows and on no other row, so answers stay what they are, but for the order of
additions. A judge that generates by itself reads common prefixes beforehand (:func:`prefill`): of ten videos'
comparisons in both orders, nine begin with each video, close to half of all reading. In GRPO the trainer calls
``generate`` on rows that are the same to their end, so there the same is done where a generation begins, in the
forward of the language model (:class:`SharedPrefill`). Every rewriting can be undone.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from reward_model.encoding import Showing
from reward_model.families import family_of
from reward_model.families.shared_vision import SharedVision as SharedVision
from videoduet.rewriting import Rewrites


def first_alike(keys: Iterable[Hashable]) -> list[int]:
    """For each row the first one with the same key."""
    first: dict[Hashable, int] = {}
    return [first.setdefault(key, row) for row, key in enumerate(keys)]


def read_once(owners: Sequence[int]) -> tuple[list[int], list[int]]:
    """The rows that are read, where each row goes on from its owner's, and for each row the place of its owner among
    them.
    """
    rows = sorted(set(owners))
    place = {row: index for index, row in enumerate(rows)}
    return rows, [place[owner] for owner in owners]


def in_order(showings: Mapping[int, Showing], like: int) -> list[int]:
    """Their keys, such that those of like length (to ``like`` tokens), and in these those with the same first video,
    are neighbours.
    """
    seen: dict[str, int] = {}
    place = {index: seen.setdefault(showing.paths[0], index) for index, showing in showings.items()}
    return sorted(showings, key=lambda i: (len(showings[i].ids) // like, showings[i].prefix // like, place[i]))


def shared_prefixes(showings: Sequence[Showing], slack: int) -> list[int] | None:
    """For each showing the first one whose prefix is the same; None where sharing would save no reading, or would pad
    the batch by more than ``slack`` tokens.
    """
    owners = first_alike((tuple(each.paths[:1]), tuple(each.ids[: each.prefix])) for each in showings)
    prefix, rest = max(each.prefix for each in showings), max(len(each.ids) - each.prefix for each in showings)
    whole = max(len(each.ids) for each in showings)
    saves = len(set(owners)) * prefix + len(showings) * rest < len(showings) * whole
    return owners if saves and prefix + rest <= whole + slack else None


def positions(model: torch.nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """Positions as ``generate`` counts them: for Qwen (4, batch, length), of text, and of time, height and width."""
    return family_of(model).positions(model, inputs)


def prefill(
    model: torch.nn.Module, inputs: dict[str, Tensor], owners: Sequence[int], length: int, vision: dict[str, Any]
) -> DynamicCache:
    """Keys and values of the first ``length`` columns of a batch, computed once for all rows with the same owner.
    ``vision`` are the vision tokens of the owners' first videos, as the model takes them, where ``inputs`` hold no
    embeddings with them in place.
    """
    rows, row_of = read_once(owners)
    cache = DynamicCache(config=model.config)
    text = {name: inputs[name][rows, :length] for name in ("input_ids", "inputs_embeds") if name in inputs}
    if len(text) == 2:
        # A model takes one of them.
        del text["input_ids"]
    model(
        **text,
        **vision,
        attention_mask=inputs["attention_mask"][rows, :length],
        position_ids=inputs["position_ids"][..., rows, :length],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    cache.batch_select_indices(torch.tensor(row_of, device=model.device))
    return cache


def vision_output(features: Sequence[Sequence[Tensor]], *, motion: bool = False) -> dict[str, Any]:
    """Videos' vision tokens as a model takes them that also has those of deeper layers (transformers >= 5.18); with
    ``motion`` the last of each says how it moves, and goes in as an image does.
    """
    parts = {"video": features}
    if motion:
        parts = {
            "video": [[tokens[:-1] for tokens in video] for video in features],
            "image": [[tokens[-1:] for tokens in video] for video in features],
        }
    return {"mm_encoder_outputs": {kind: _output(part) for kind, part in parts.items()}}


def _output(features: Sequence[Sequence[Tensor]]) -> BaseModelOutputWithDeepstackFeatures:
    tokens: Any = list(zip(*features, strict=True))
    pooled, *deep = tokens
    return BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=deep)


class SharedPrefill(Rewrites):
    """Makes the ``language_model`` of a judge read rows that are the same once, where a generation begins.

    Before each generation :meth:`expect` says what is shown.
    """

    def __init__(self, language_model: torch.nn.Module):
        super().__init__()
        self._plain = language_model.forward
        self.forward(language_model, self._read)
        self.read = 0
        self._rows: list[int] = []
        self._row_of: list[int] = []

    def expect(self, showings: Sequence[Showing]) -> None:
        """The rows of the next generation; those with the same tokens and the same videos are read once."""
        self._rows, self._row_of = read_once(first_alike((tuple(each.ids), *map(id, each.videos)) for each in showings))

    def _read(self, **inputs: Any) -> BaseModelOutputWithPast:
        cache = inputs.get("cache", inputs.get("past_key_values"))
        # Training has no cache, and a generation that has begun goes on row by row.
        if cache is None or cache.get_seq_length() > 0 or not self._rows:
            return self._plain(**inputs)
        embeds = inputs["inputs_embeds"]
        if len(embeds) != len(self._row_of):
            raise ValueError(f"a generation has {len(embeds)} rows where {len(self._row_of)} were expected")
        rows, row_of = (torch.tensor(index, device=embeds.device) for index in (self._rows, self._row_of))
        self.read, self._rows = self.read + len(rows), []
        if len(rows) == len(row_of):
            return self._plain(**inputs)
        for name, dimension in (("inputs_embeds", 0), ("attention_mask", 0), ("position_ids", -2)):
            if inputs[name] is not None:  # one of no padding
                inputs[name] = inputs[name].index_select(dimension, rows)
        output = self._plain(**inputs)
        cache.batch_select_indices(row_of)
        output.last_hidden_state = output.last_hidden_state[row_of]
        return output
