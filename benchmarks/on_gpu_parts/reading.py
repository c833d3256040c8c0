"""What a vision-language judge must compute and read from memory at least, by formula."""

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.on_gpu_parts.counting import attention_operations, counted, products_of, weight_bytes
from benchmarks.on_gpu_parts.results import Ceilings, Work
from reward_model.encoding import Showing, video_tensors


class JudgeWork:
    """The least work of asking about ``showings``, which are all as long as the first."""

    def __init__(self, model: Any, showings: Sequence[Showing], ceilings: Ceilings):
        text = model.config.text_config
        self.showings, self.rows = showings, len(showings)
        self.language, self.layers = model.model.language_model, text.num_hidden_layers
        head = text.hidden_size // text.num_attention_heads
        self.width = text.num_attention_heads * head
        element = model.lm_head.weight.element_size()
        self.cached = 2 * self.layers * text.num_key_value_heads * head * element
        self.products, self.head = products_of(self.language), 2.0 * math.prod(model.lm_head.weight.shape)
        # A token's embedding is looked up, not multiplied.
        self.weights = weight_bytes(self.language) - weight_bytes(self.language.embed_tokens)
        self.weights += weight_bytes(model.lm_head)
        tensors = video_tensors([showings[0].videos[0]])
        pixels, grid = (tensors[name].to(model.device) for name in ("pixel_values_videos", "video_grid_thw"))
        self.video = counted(lambda: model.get_video_features(pixels, grid), ceilings, model.model.visual)

    def vision(self, *, shared: bool) -> Work:
        """Of all videos: each once, or each once in every showing."""
        paths = [path for showing in self.showings for path in showing.paths]
        return self.video.times(len(set(paths)) if shared else len(paths))

    def reading(self, batch: int, *, shared: bool) -> Work:
        """Of the prompts, in batches: each to its end, or what showings begin with in common once."""
        length, prefix = len(self.showings[0].ids), self.showings[0].prefix if shared else 0
        firsts = len({showing.paths[0] for showing in self.showings}) if shared else 0
        rest = self.rows * (length - prefix)
        operations = self.products * (firsts * prefix + rest) + self.head * self.rows
        operations += attention_operations(self.layers, self.width, firsts * prefix, prefix / 2)
        operations += attention_operations(self.layers, self.width, rest, (length + prefix) / 2)
        return Work(operations, math.ceil(self.rows / batch) * self.weights + self.rows * length * self.cached)

    def generation(self, batch: int, tokens: int, rows: int | None = None) -> Work:
        """Of the answers to ``rows`` showings (None: all), but for the first token, which reading gives: each step
        reads all weights once a batch and all keys and values.
        """
        rows = self.rows if rows is None else rows
        steps, length = tokens - 1, len(self.showings[0].ids) + tokens / 2
        operations = rows * (self.products + self.head)
        operations += attention_operations(self.layers, self.width, rows, length)
        return Work(operations, math.ceil(rows / batch) * self.weights + rows * length * self.cached).times(steps)

    def scoring(self, rollouts: int, tokens: int) -> Work:
        """Of a forward for the log-probabilities of so many rollouts, each showing read once for all of its own."""
        length = len(self.showings[0].ids)
        prompts, answers = self.rows * length, rollouts * tokens
        operations = self.products * (prompts + answers) + self.head * answers
        operations += attention_operations(self.layers, self.width, prompts, length / 2)
        operations += attention_operations(self.layers, self.width, answers, length + tokens / 2)
        return Work(operations, self.weights)
