"""Each prompt read once before a group's answers are drawn: all its rollouts go on from the same keys and values."""

from collections.abc import Sequence
from types import MethodType

import torch
from transformers.modeling_outputs import BaseModelOutputWithPast

from reward_model.encoding import Showing


class SharedPrefill:
    """Makes the ``language_model`` of a Qwen2.5-VL read rows that are the same once, where a generation begins.

    Before each generation :meth:`expect` says what is shown. Keys and values of a row depend on no other row, so but
    for the order of additions answers are what they would be.
    """

    def __init__(self, language_model: torch.nn.Module):
        self.read = 0
        self._rows: list[int] = []
        self._row_of: list[int] = []
        self._forward_rows = language_model.forward
        language_model.forward = MethodType(lambda _, **inputs: self._forward(**inputs), language_model)

    def expect(self, showings: Sequence[Showing]) -> None:
        """The rows of the next generation; those with the same tokens and the same videos are read once."""
        first: dict[tuple, int] = {}
        rows = [first.setdefault((tuple(each.ids), *map(id, each.videos)), row) for row, each in enumerate(showings)]
        self._rows = list(first.values())
        place = {row: index for index, row in enumerate(self._rows)}
        self._row_of = [place[row] for row in rows]

    def _forward(self, **inputs) -> BaseModelOutputWithPast:
        cache = inputs.get("cache", inputs.get("past_key_values"))
        if cache is None or cache.get_seq_length() > 0 or not self._rows:
            return self._forward_rows(**inputs)
        embeds = inputs["inputs_embeds"]
        if len(embeds) != len(self._row_of):
            raise ValueError(f"a generation has {len(embeds)} rows where {len(self._row_of)} were expected")
        rows, row_of = (torch.tensor(index, device=embeds.device) for index in (self._rows, self._row_of))
        self.read, self._rows = self.read + len(rows), []
        if len(rows) == len(row_of):
            return self._forward_rows(**inputs)
        for name, dimension in (("inputs_embeds", 0), ("attention_mask", 0), ("position_ids", 1)):
            if inputs[name] is not None:  # one of no padding
                inputs[name] = inputs[name].index_select(dimension, rows)
        output = self._forward_rows(**inputs)
        cache.batch_select_indices(row_of)
        output.last_hidden_state = output.last_hidden_state[row_of]
        return output
