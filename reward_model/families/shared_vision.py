"""What a frozen vision tower saw, remembered: a video is encoded once, however many rollouts and forwards show it."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from reward_model.encoding import VideoInputs
from videoduet.rewriting import Rewrites


class SharedVision(Rewrites):
    """Makes the vision tower ``visual`` (frozen) of a Qwen2.5-VL remember the last ``keep`` videos.

    In GRPO a group of G responses sees the same videos, and sees them three times: in generation, under the reference
    and in the loss. Before each forward :meth:`expect` says which videos come, in their order. Each is encoded alone,
    so that no bit of its tokens depends on what it came with or on what was remembered. Other families see otherwise,
    by a subclass of this.
    """

    def __init__(self, visual: torch.nn.Module, keep: int = 256):
        if any(parameter.requires_grad for parameter in visual.parameters()):
            raise ValueError("the vision tower is trained, so its tokens change from step to step")
        super().__init__()
        self.keep = keep
        self.encoded = 0
        self._expected: list[VideoInputs] = []
        # The video is kept beside its tokens, so that its identity is not given to another.
        self._tokens: OrderedDict[int, tuple[VideoInputs, Tensor]] = OrderedDict()
        self.put_into(visual)

    def put_into(self, visual: Any) -> None:
        """Let ``visual`` see through this."""
        self._plain = visual.forward
        self.forward(visual, self._seen)

    def expect(self, videos: Sequence[VideoInputs]) -> None:
        """The videos of the next forward, in the order of its patches."""
        self._expected = list(videos)

    def _seen(self, hidden_states: Tensor, grid_thw: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        patches = hidden_states.split(grid_thw.prod(-1).tolist())
        found = self.tokens(patches, lambda part, place: self._plain(part, grid_thw=grid_thw[place][None]))
        return BaseModelOutputWithPooling(pooler_output=torch.cat(found))

    def tokens(self, patches: Sequence[Tensor], encode: Any) -> list[Tensor]:
        """The vision tokens of each of the expected videos, whose ``patches`` came; ``encode`` gives those of one,
        by its patches and its place, as a module's output.
        """
        if [len(part) for part in patches] != [len(video.patches) for video in self._expected]:
            raise ValueError("a forward was given other videos than were expected")
        found = []
        for place, (video, part) in enumerate(zip(self._expected, patches, strict=True)):
            if id(video) not in self._tokens:
                with torch.no_grad():
                    self._tokens[id(video)] = (video, encode(part, place).pooler_output)
                self.encoded += 1
            self._tokens.move_to_end(id(video))
            found.append(self._tokens[id(video)][1])
        while len(self._tokens) > self.keep:
            self._tokens.popitem(last=False)
        return found
