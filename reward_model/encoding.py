"""From chat messages that name videos by path to a vision-language model's inputs.

Videos are decoded where pixels are needed and once each: paths, not frames, travel in prompts.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import ProcessorMixin

from videoduet.errors import InputError
from videoduet.video import read_video

VIDEO_TOKEN = "<|video_pad|>"


@dataclass(frozen=True)
class VideoInputs:
    """One video as the vision tower takes it: patches (n, d) float32, grid (3,) = (t, h, w) and seconds per temporal
    patch.
    """

    patches: Tensor
    grid: Tensor
    seconds_per_grid: float


@dataclass(frozen=True)
class Showing:
    """A tokenised prompt with its placeholders expanded, and the videos in their order."""

    ids: list[int]
    videos: list[VideoInputs]
    paths: list[str]


class ShowingEncoder:
    """Turns messages into :class:`Showing` with a Qwen2.5-VL processor; keeps the last ``keep`` videos decoded."""

    def __init__(self, processor: ProcessorMixin, num_frames: int, keep: int = 256):
        self.processor, self.num_frames, self.keep = processor, num_frames, keep
        self.video_token_id = processor.tokenizer.convert_tokens_to_ids(VIDEO_TOKEN)
        self._videos: OrderedDict[str, VideoInputs] = OrderedDict()

    def video(self, path: str) -> VideoInputs:
        """Decode and patchify one video. Raises InputError where the file cannot be read."""
        if path not in self._videos:
            clip = read_video(path, self.num_frames)
            # The duration in equal parts, as the processor counts it; two frames may lie nearer, where sampling rounds.
            spacing = float(clip.seconds[-1] - clip.seconds[0] + 1 / clip.fps) / len(clip.frames)
            values = self.processor.video_processor(
                [torch.from_numpy(clip.frames).permute(0, 3, 1, 2)], return_tensors="pt", return_metadata=False
            )
            # The processor would take 24 frames per second for granted, whatever the file says.
            seconds = self.processor.video_processor.temporal_patch_size * spacing
            self._videos[path] = VideoInputs(values["pixel_values_videos"], values["video_grid_thw"][0], seconds)
        self._videos.move_to_end(path)
        while len(self._videos) > self.keep:
            self._videos.popitem(last=False)
        return self._videos[path]

    def showing(self, messages: Sequence[dict]) -> Showing:
        """Tokenise ``messages`` with the generation prompt; every video placeholder becomes as many tokens as it
        needs.
        """
        paths = [
            part["video"]
            for message in messages
            if not isinstance(message["content"], str)
            for part in message["content"]
            if part["type"] == "video"
        ]
        text = self.processor.apply_chat_template(_without_nones(messages), tokenize=False, add_generation_prompt=True)
        pieces = text.split(VIDEO_TOKEN)
        if len(pieces) != len(paths) + 1:
            raise InputError(f"The prompt {text[:80]!r}… holds {VIDEO_TOKEN}; take it out: it stands for a video.")
        videos = [self.video(path) for path in paths]
        merge = self.processor.video_processor.merge_size**2
        expanded = pieces[0]
        for video, piece in zip(videos, pieces[1:], strict=True):
            expanded += VIDEO_TOKEN * (int(video.grid.prod()) // merge) + piece
        return Showing(self.processor.tokenizer(expanded).input_ids, videos, paths)

    def collate(self, showings: Sequence[Showing], *, pixels: bool) -> dict[str, Tensor]:
        """Left-padded model inputs for a batch; ``pixels=False`` leaves the patches out (features are at hand)."""
        length, pad = max(len(showing.ids) for showing in showings), self.processor.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (length - len(showing.ids)) + showing.ids for showing in showings])
        mask = torch.tensor([[0] * (length - len(showing.ids)) + [1] * len(showing.ids) for showing in showings])
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "mm_token_type_ids": 2 * (ids == self.video_token_id).int(),
            **video_tensors([video for showing in showings for video in showing.videos]),
        }
        if not pixels:
            del inputs["pixel_values_videos"]
        return inputs


def video_tensors(videos: Sequence[VideoInputs]) -> dict[str, Tensor]:
    """The model inputs of some videos, in order: patches, grids, seconds per grid step."""
    return {
        "pixel_values_videos": torch.cat([video.patches for video in videos]),
        "video_grid_thw": torch.stack([video.grid for video in videos]),
        "second_per_grid_ts": torch.tensor([video.seconds_per_grid for video in videos]),
    }


def _without_nones(messages: Sequence[dict]) -> list[dict]:
    # `datasets` gives every part of a message the keys of all parts, with None where there is nothing.
    return [
        message
        if isinstance(message["content"], str)
        else {
            **message,
            "content": [
                {key: value for key, value in part.items() if value is not None} for part in message["content"]
            ],
        }
        for message in messages
    ]
