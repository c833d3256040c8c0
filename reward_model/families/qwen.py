"""Qwen2.5-VL and Qwen3-VL, which see videos as patches of two frames and count places in time, height and width."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reward_model.encoding import Showing, ShowingEncoder, VideoInputs, few_patches
from reward_model.families.base import Family, Key, VideoTokens, has_motion, on_device, plain_model, text_positions
from reward_model.families.shared_vision import SharedVision
from videoduet.errors import InputError
from videoduet.video import Clip


class Qwen25(Family):
    """Qwen2.5-VL."""

    sees = ("visual",)
    vision_lora = r".*visual\.(blocks|merger|deepstack_merger_list)\..*(qkv|proj|mlp\.0|mlp\.2|linear_fc1|linear_fc2)"
    windowed = by_reward = True

    def seen(self, model: Any) -> list[int]:
        """The id of what stands for a video, and that of an image, which stands for motion."""
        config = model.config
        return [config.video_token_id, config.image_token_id] if has_motion(model) else [config.video_token_id]

    def vision_tokens(
        self, model: Any, videos: Mapping[Key, VideoInputs], shared: SharedVision | None = None
    ) -> dict[Key, VideoTokens]:
        """The same, of as many videos at once as :func:`few_patches` says."""
        found: dict[Key, VideoTokens] = {}
        for some in few_patches(videos):
            if shared is not None:
                shared.expect(list(some.values()))
            grids = torch.stack([video.grid for video in some.values()]).to(model.device)
            output = model.get_video_features(on_device(some, model.device), grids)
            deep = getattr(output, "deepstack_features", None) or []
            found.update(zip(some, zip(output.pooler_output, *deep, strict=True), strict=True))
        return found

    def shared_vision(self, model: Any) -> SharedVision:
        """The same, of the whole tower with its merger."""
        (visual,) = self.vision_parts(model)
        return SharedVision(visual)

    def positions(self, model: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """(4, B, length): of text, and of time, height and width."""
        axes = plain_model(model).model.get_rope_index(**inputs)[0]
        return torch.cat([text_positions(inputs["attention_mask"])[None], axes])

    def axes(self, positions: Tensor) -> Tensor:
        """Time, height and width."""
        return positions[1:]


class Qwen3(Qwen25):
    """Qwen3-VL, whose vision tokens go into deeper layers too."""

    by_reward = False
    transformers = "5.18"


IMAGES = "images"
"""The layout in which every frame is an image of its own, as judges are asked that were trained on frames."""


class Qwen25ShowingEncoder(ShowingEncoder):
    """Shows videos to Qwen2.5-VL, or their frames as images, one after the other.

    An image is a temporal patch that holds its frame twice and has no time: that is what the processor makes of it, and
    the vision tower sees each patch of a video alone. So a video of such patches, one place in the text for each, is
    the same to the model.
    """

    layouts = (None, IMAGES)

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if self.layout == IMAGES:
            self.mark = f"<|vision_start|>{self.vision_token}<|vision_end|>"

    def sized(self, max_pixels: int | None) -> dict[str, Any]:
        """The same; images have limits of their own."""
        if self.layout != IMAGES or max_pixels is None:
            return super().sized(max_pixels)
        least = min(max_pixels, self.processor.image_processor.size["shortest_edge"])
        return {"size": {"shortest_edge": least, "longest_edge": max_pixels}}

    def patchified(self, path: str, clip: Clip) -> VideoInputs:
        """The same, or the frames as images."""
        if self.layout != IMAGES:
            return super().patchified(path, clip)
        frames = list(torch.from_numpy(clip.frames).permute(0, 3, 1, 2))
        try:
            values = self.processor.image_processor(frames, return_tensors="pt", **self.size)
        except ValueError as error:
            raise InputError(f"Video {path} cannot be shown ({error}); crop it or scale it.") from error
        _, rows, columns = values["image_grid_thw"][0].tolist()
        return VideoInputs(values["pixel_values"], torch.tensor([len(frames), rows, columns]), clip.spacing)

    def placeholder(self, video: VideoInputs) -> str:
        """The same; images have a place each."""
        return super().placeholder(video) if self.layout != IMAGES else self._images(video)

    def _images(self, video: VideoInputs) -> str:
        tokens = int(video.grid[1:].prod()) // self.processor.video_processor.merge_size**2
        shown = f"<|vision_start|>{self.vision_token * tokens}<|vision_end|>" * int(video.grid[0])
        return f"{shown}Motion: <|vision_start|><|image_pad|><|vision_end|>" if self.motion else shown

    def tensors(self, videos: Sequence[VideoInputs]) -> dict[str, Tensor]:
        """The same; images have a grid each."""
        return self._apart(super().tensors(videos))

    def timed(self, videos: Sequence[VideoInputs]) -> dict[str, Tensor]:
        """The same; images have a grid each."""
        return self._apart(super().timed(videos))

    def _apart(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.layout != IMAGES:
            return found
        times = found["video_grid_thw"][:, 0]
        grids = found["video_grid_thw"].repeat_interleave(times, 0)
        grids[:, 0] = 1
        return {
            **found,
            "video_grid_thw": grids,
            "second_per_grid_ts": found["second_per_grid_ts"].repeat_interleave(times),
        }


class Qwen3ShowingEncoder(Qwen25ShowingEncoder):
    """Shows videos to Qwen3-VL, which writes the time of every temporal patch into the text, but not of images."""

    def placeholder(self, video: VideoInputs) -> str:
        """The text that stands for a video: for each temporal patch its moment and its vision tokens."""
        if self.layout == IMAGES:
            return self._images(video)
        frames, tokens = int(video.grid[0]), int(video.grid[1:].prod()) // self.processor.video_processor.merge_size**2
        shown = f"<|vision_start|>{self.vision_token * tokens}<|vision_end|>"
        frames_shown = "".join(f"<{moment:.1f} seconds>{shown}" for moment in video.moments[:frames])
        return f"{frames_shown}Motion: <|vision_start|><|image_pad|><|vision_end|>" if self.motion else frames_shown

    def collate(self, showings: Sequence[Showing], *, pixels: bool, prefixes: bool = False) -> dict[str, Tensor]:
        """The same; seconds per grid step are told in the text."""
        inputs = super().collate(showings, pixels=pixels, prefixes=prefixes)
        inputs.pop("second_per_grid_ts", None)
        return inputs

    def timed(self, videos: Sequence[VideoInputs]) -> dict[str, Tensor]:
        """The grids alone."""
        return {"video_grid_thw": super().timed(videos)["video_grid_thw"]}

    def _apart(self, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Nothing to do: the model itself takes the frames of a grid apart."""
        return found
