"""InternVL (2.5, 3, 3.5 in transformers' layout), which sees a video as numbered images, each a square of its own.

Frames are squared as OpenGVLab's code does it, one tile each; ``max_pixels`` says how large the square is, where it is
not to be as large as the processor says.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import ProcessorMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling

from reward_model.encoding import ShowingEncoder, VideoInputs, few_patches
from reward_model.families.base import Family, Key, VideoTokens, on_device, text_positions
from reward_model.families.shared_vision import SharedVision
from reward_model.released_frames import normalised, squared
from videoduet.errors import InputError
from videoduet.video import Clip, MiddleFrames, Sampling

FRAMES_AT_ONCE = 128
"""Frames in one forward of the vision tower, or one video: 2^17 patches of 448 pixels."""


class InternVL(Family):
    """InternVL, with whatever language model."""

    sees = ("vision_tower", "multi_modal_projector")
    by_reward = True
    vision_lora = (
        r".*(vision_tower\.encoder|multi_modal_projector)\..*(_proj|projection_layer|fc1|fc2|linear_1|linear_2)"
    )

    def seen(self, model: Any) -> list[int]:
        """The id of what stands for a piece of an image, or for motion."""
        return [model.config.image_token_id]

    def vision_tokens(
        self, model: Any, videos: Mapping[Key, VideoInputs], shared: SharedVision | None = None
    ) -> dict[Key, VideoTokens]:
        """The same, of at most ``FRAMES_AT_ONCE`` frames at once, or of one video."""
        found: dict[Key, VideoTokens] = {}
        for some in few_patches(videos, FRAMES_AT_ONCE):
            if shared is not None:
                shared.expect(list(some.values()))
            pooled = model.get_image_features(pixel_values=on_device(some, model.device)).pooler_output
            tokens = pooled.split([len(video.patches) for video in some.values()])
            found.update((key, (frames.flatten(0, 1),)) for key, frames in zip(some, tokens, strict=True))
        return found

    def shared_vision(self, model: Any) -> SharedVision:
        """The same, of tower and projector."""
        return SharedFrames(_backbone(model, self.vision_parts(model)))

    def positions(self, model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(B, length): a token's place in the text, whatever it stands for."""
        return text_positions(inputs["attention_mask"])

    def axes(self, positions: Tensor) -> Tensor:
        """The place alone."""
        return positions[None]

    def position_ids(self, axes: Tensor) -> Tensor:
        """The same, (B, length)."""
        return axes[0]


def _backbone(model: Any, parts: Sequence[torch.nn.Module]) -> Any:
    """The module that holds ``parts``."""
    return next(module for module in model.modules() if parts[0] in module.children())


class SharedFrames(SharedVision):
    """The same for an InternVL's ``backbone``, whose images are frames and come without a grid."""

    def __init__(self, backbone: Any, keep: int = 256):
        sees = torch.nn.ModuleList([backbone.vision_tower, backbone.multi_modal_projector])
        self._into = backbone
        super().__init__(sees, keep)

    def put_into(self, visual: Any) -> None:
        """The same: what the backbone asks for the features of images."""
        plain = self._into.get_image_features
        self._encode = partial(plain, return_dict=True)
        self._into.get_image_features = self._images
        self.add(lambda: delattr(self._into, "get_image_features"))

    def _images(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        frames = pixel_values.split([len(video.patches) for video in self._expected])
        found = self.tokens(frames, lambda part, _: self._encode(pixel_values=part))
        return BaseModelOutputWithPooling(pooler_output=torch.cat(found))


@dataclass(frozen=True)
class Layout:
    """How a video is written: what stands ``before`` it, each ``frame``, and its ``motion``. ``middles``: frames are
    chosen as in the releases with motion.
    """

    before: str
    frame: str
    motion: str
    middles: bool = True


LAYOUTS = {
    None: Layout("", "Frame{number}: {image}\n", "Motion Feature: {image}\n", middles=False),
    "vqathinker": Layout("Now you will receive a video:", "Frame{number}: {image}", "Motion Feature: {image}"),
    "vqathinker-train": Layout(
        "Now you will receive a video:\n", "Frame{number}:{image}\n", "Motion Feature:{image}\n"
    ),
    "aigv-assessor": Layout("", "Frame{number}: {image}\n", "Motion Feature: {image}"),
}
"""InternVL's own, VQAThinker's in its test and in its training, which differ, and AIGV-Assessor's."""


class InternVLShowingEncoder(ShowingEncoder):
    """Shows videos to InternVL: "Frame1: " and an image, and so on, a line each, or in another of ``LAYOUTS``."""

    mark, vision_token = "<video>", "<IMG_CONTEXT>"
    special = ("<IMG_CONTEXT>", "<img>", "</img>", "<video>")
    layouts = tuple(LAYOUTS)

    def __init__(self, processor: ProcessorMixin, num_frames: Sampling, *args: Any, **kwargs: Any):
        super().__init__(processor, num_frames, *args, **kwargs)
        if LAYOUTS[self.layout].middles and isinstance(num_frames, int):
            self.num_frames = MiddleFrames(num_frames)

    def sized(self, max_pixels: int | None) -> dict[str, Any]:
        """Nothing: a frame's ``side`` in pixels, and that of a vision token's ``cell``, are kept here.

        Raises InputError where a frame would have no vision token.
        """
        how: Any = self.processor
        usual = int(how.image_processor.size["height"])
        self.cell = usual // math.isqrt(how.image_seq_length)
        self.side = usual if max_pixels is None else math.isqrt(max_pixels) // self.cell * self.cell
        if self.side < self.cell:
            raise InputError(
                f"Frames of {max_pixels} pixels are too small for this judge, which sees {self.cell}x{self.cell} in a "
                f"token; give max_pixels of {self.cell**2} or more.",
                exit_code=2,
            )
        return {}

    def patchified(self, path: str, clip: Clip) -> VideoInputs:
        """The frames, squared: (T, 3, side, side)."""
        processor = self.processor.image_processor
        frames = normalised(squared(clip.frames, self.side), processor.image_mean, processor.image_std)
        cells = self.side // self.cell
        return VideoInputs(frames, torch.tensor([len(frames), cells, cells]), clip.spacing)

    @property
    def stands_in(self) -> int:
        """The same."""
        return self.processor.tokenizer.convert_tokens_to_ids("<img>")

    def is_seen(self, ids: Tensor) -> Tensor:
        """The same; motion is written as an image."""
        return ids == self.video_token_id

    def frames_of(self, video: VideoInputs) -> Tensor:
        """The very frames that the vision tower sees, as in the releases."""
        return video.patches

    def tokens(self, video: VideoInputs) -> int:
        """How many tokens stand for what is seen of a video."""
        return int(video.grid.prod()) + self.motion

    def placeholder(self, video: VideoInputs) -> str:
        """The text that stands for a video."""
        layout, numbers = LAYOUTS[self.layout], range(1, int(video.grid[0]) + 1)
        image = f"<img>{self.vision_token * int(video.grid[1:].prod())}</img>"
        shown = layout.before + "".join(layout.frame.format(number=number, image=image) for number in numbers)
        return shown + layout.motion.format(image=f"<img>{self.vision_token}</img>") if self.motion else shown

    def joined(self, video: VideoInputs, following: str) -> str:
        """The same; a chat template breaks the line after a video, which has its end here."""
        return self.placeholder(video) + following.removeprefix("\n")

    def spelt(self, messages: Sequence[dict]) -> list[dict]:
        """The same, with nothing in the words that would act as an image: somebody wrote them."""
        return [
            {**message, "content": _words(message["content"])}
            if isinstance(message["content"], str)
            else {**message, "content": [_part(part) for part in message["content"]]}
            for message in super().spelt(messages)
        ]

    def types(self, ids: Tensor) -> dict[str, Tensor]:
        """Nothing: the token says it."""
        return {}

    def tensors(self, videos: Sequence[VideoInputs]) -> dict[str, Tensor]:
        """The frames, (frames, 3, side, side)."""
        return {"pixel_values": torch.cat([video.patches for video in videos])} if videos else {}

    @property
    def frames_in_patch(self) -> int:
        """One: patches are frames."""
        return 1

    def timed(self, videos: Sequence[VideoInputs]) -> dict[str, Tensor]:
        """Nothing: positions depend on tokens alone."""
        return {}


def _part(part: dict) -> dict:
    return {**part, "text": _words(part["text"])} if part["type"] == "text" else part


def _words(text: str) -> str:
    for token in InternVLShowingEncoder.special:
        text = text.replace(token, f"{token[0]} {token[1:]}")
    return text
