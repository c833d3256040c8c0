"""Questions to a vision-language model about any number of videos, answered in text."""

from collections.abc import Sequence

import torch

from reward_model.encoding import ShowingEncoder


class Answerer:
    """Greedy answers of a vision-language model; ``model`` is put into evaluation mode."""

    def __init__(self, model: torch.nn.Module, encoder: ShowingEncoder, max_new_tokens: int):
        self.model, self.encoder, self.max_new_tokens = model.eval(), encoder, max_new_tokens

    @torch.no_grad()
    def answer(self, prompts: Sequence[list[dict]]) -> list[str]:
        """An answer to each of ``prompts`` (chat messages that name videos by path), in one batch.

        Raises InputError where a video cannot be read.
        """
        showings = [self.encoder.showing(messages) for messages in prompts]
        inputs = {
            name: value.to(self.model.device) for name, value in self.encoder.collate(showings, pixels=True).items()
        }
        generated = self.model.generate(**inputs, do_sample=False, max_new_tokens=self.max_new_tokens)
        completions = generated[:, inputs["input_ids"].shape[1] :]
        return self.encoder.processor.tokenizer.batch_decode(completions, skip_special_tokens=True)
