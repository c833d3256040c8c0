"""Qwen2.5-VL and Qwen3-VL, which see videos as patches of two frames and count places in time, height and width."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from reward_model.encoding import Showing, ShowingEncoder, VideoInputs, few_patches
from reward_model.families.base import Family, Key, VideoTokens, has_motion, on_device, plain_model, text_positions
from reward_model.families.shared_vision import SharedVision


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


class Qwen3ShowingEncoder(ShowingEncoder):
    """Shows videos to Qwen3-VL, which writes the time of every temporal patch into the text."""

    def placeholder(self, video: VideoInputs) -> str:
        """The text that stands for a video: for each temporal patch its moment and its vision tokens."""
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
