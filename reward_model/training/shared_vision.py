"""Vision tokens computed once for each video, however many rollouts look at it.

In GRPO a group of G responses sees the same videos, and sees them three times: in generation, under the reference and
in the loss. Where nothing in the vision tower is trained, all of these are the same.
"""

from collections import OrderedDict
from collections.abc import Sequence
from types import MethodType

import torch
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from reward_model.encoding import VideoInputs


class SharedVision:
    """Makes the vision tower ``visual`` (frozen) of a Qwen2.5-VL remember the last ``keep`` videos.

    Before each forward :meth:`expect` says which videos come, in their order. Each is encoded alone, so that no bit of
    its tokens depends on what it came with or on what was remembered.
    """

    def __init__(self, visual: torch.nn.Module, keep: int = 256):
        if any(parameter.requires_grad for parameter in visual.parameters()):
            raise ValueError("the vision tower is trained, so its tokens change from step to step")
        self.keep = keep
        self.encoded = 0
        self._expected: list[VideoInputs] = []
        # The video is kept beside its tokens, so that its identity is not given to another.
        self._tokens: OrderedDict[int, tuple[VideoInputs, Tensor]] = OrderedDict()
        self._encode = visual.forward
        visual.forward = MethodType(lambda _, *args, **kwargs: self._forward(*args, **kwargs), visual)

    def expect(self, videos: Sequence[VideoInputs]) -> None:
        """The videos of the next forward, in the order of its patches."""
        self._expected = list(videos)

    def _forward(self, hidden_states: Tensor, grid_thw: Tensor, **kwargs) -> BaseModelOutputWithPooling:
        patches = hidden_states.split(grid_thw.prod(-1).tolist())
        if [len(part) for part in patches] != [len(video.patches) for video in self._expected]:
            raise ValueError("a forward was given other videos than were expected")
        tokens = [
            self._tokens_of(video, part, grid)
            for video, part, grid in zip(self._expected, patches, grid_thw, strict=True)
        ]
        while len(self._tokens) > self.keep:
            self._tokens.popitem(last=False)
        return BaseModelOutputWithPooling(pooler_output=torch.cat(tokens))

    def _tokens_of(self, video: VideoInputs, patches: Tensor, grid: Tensor) -> Tensor:
        if id(video) not in self._tokens:
            with torch.no_grad():
                output = self._encode(patches, grid_thw=grid[None])
            self._tokens[id(video)] = (video, output.pooler_output)
            self.encoded += 1
        self._tokens.move_to_end(id(video))
        return self._tokens[id(video)][1]
