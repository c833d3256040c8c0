"""From chat messages that name videos by path to a vision-language model's inputs.

Videos are decoded where pixels are needed and once each: paths, not frames, travel in prompts.
"""

import pkgutil
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import ProcessorMixin

from reward_model.patches import VideoInputs as VideoInputs
from reward_model.patches import few_patches as few_patches
from reward_model.patches import frames_in
from reward_model.patches import video_tensors as video_tensors
from reward_model.questions import View, video_paths
from reward_model.reading_ahead import ReadAhead
from reward_model.released_frames import imagenet
from videoduet.errors import InputError
from videoduet.progress import console
from videoduet.video import Clip, Sampling, read_video, sample_clip, written

VIDEO_TOKEN = "<|video_pad|>"
ENCODERS = {
    "Qwen2_5_VL": "reward_model.families.qwen:Qwen25ShowingEncoder",
    "Qwen3VL": "reward_model.families.qwen:Qwen3ShowingEncoder",
    "InternVL": "reward_model.families.internvl:InternVLShowingEncoder",
}
"""What shows videos to each family, by what its processor's name begins with."""


@dataclass(frozen=True)
class Showing:
    """A tokenised prompt with its placeholders expanded, and the videos in their order.

    ``prefix`` counts the tokens up to the end of the first video: what showings of one video first have in common.
    """

    ids: list[int]
    videos: list[VideoInputs]
    paths: list[str]
    prefix: int = 0


class ShowingEncoder:
    """Turns messages into :class:`Showing` with a Qwen2.5-VL processor; keeps the last ``keep`` videos decoded.

    ``num_frames`` are shown of each video, or what a :class:`videoduet.video.FrameSampling` says, with at most
    ``max_pixels`` pixels each (None: what the processor says). A model that counts time in whole steps, so many
    ``tokens_per_second`` (None: it does not), is told that a shorter patch takes a step.

    With ``motion`` one token more stands for how a video moves. ``layout`` names how frames are written, where a family
    knows several ways.

    A family's encoder says what its chat template writes for a video (``mark``), which token is seen in place of pixels
    (``vision_token``), what else no answer may hold (``special``), and the ``layouts`` that it knows. Raises InputError
    for another layout.
    """

    mark = vision_token = VIDEO_TOKEN
    special: tuple[str, ...] = ("<|image_pad|>", VIDEO_TOKEN, "<|vision_start|>", "<|vision_end|>")
    layouts: tuple[str | None, ...] = (None,)

    def __init__(
        self,
        processor: ProcessorMixin,
        num_frames: Sampling,
        keep: int = 256,
        max_pixels: int | None = None,
        tokens_per_second: float | None = None,
        motion: bool = False,
        layout: str | None = None,
    ):
        if layout not in self.layouts:
            known = ", ".join(filter(None, self.layouts)) or "none"
            raise InputError(f"This judge's family knows no layout {layout} of frames; it knows {known}.", exit_code=2)
        self.motion, self.layout = motion, layout
        self.processor, self.num_frames, self.keep = processor, num_frames, keep
        self.tokens_per_second, self._said_stretched = tokens_per_second, False
        self.video_token_id = processor.tokenizer.convert_tokens_to_ids(self.vision_token)
        self.size = self.sized(max_pixels)
        self._videos: OrderedDict[tuple, VideoInputs] = OrderedDict()
        self._known: dict[tuple, dict[str, Tensor]] = {}
        self._ahead = ReadAhead(self._read)

    @classmethod
    def for_view(
        cls, processor: ProcessorMixin, view: View, tokens_per_second: float | None = None, motion: bool = False
    ) -> "ShowingEncoder":
        """The encoder that shows what ``view`` says, in the way of the processor's family."""
        family = encoder_class(processor)
        return family(
            processor, view.sampling, max_pixels=view.max_pixels, tokens_per_second=tokens_per_second, motion=motion,
            layout=view.layout,
        )  # fmt: skip

    def sized(self, max_pixels: int | None) -> dict[str, Any]:
        """What the processor is told of a frame's size; nothing where it decides."""
        if max_pixels is None:
            return {}
        least = min(max_pixels, self.processor.video_processor.size["shortest_edge"])
        return {"size": {"shortest_edge": least, "longest_edge": max_pixels}}

    def video(self, path: str, clip: Clip | None = None) -> VideoInputs:
        """The patches of one video, or of ``clip``. Raises InputError where the file cannot be read or shown."""
        key = (path, written(path))  # a file that was written anew at an old path is another video
        if key not in self._videos:
            clip = self._ahead.take(path) if clip is None else sample_clip(clip, self.num_frames)
            self._videos[key] = video = self.patchified(path, clip)
            video.known.update(self._known.pop(key, {}))
        # Seen last, so given up last.
        self._videos.move_to_end(key)
        while len(self._videos) > self.keep:
            gone, video = self._videos.popitem(last=False)
            if video.known and len(self._known) < 128 * self.keep:  # 9 kB each, which took a network
                self._known[gone] = video.known
        return self._videos[key]

    def expect(self, path: str) -> None:
        """Have a video file decoded by a thread, since it will be shown soon, after those that are expected already."""
        if (path, written(path)) not in self._videos:
            self._ahead.expect(path)

    def forget(self) -> None:
        """Expect no video any more."""
        self._ahead.forget()

    def _read(self, path: str) -> Clip:
        return read_video(path, self.num_frames)

    def patchified(self, path: str, clip: Clip) -> VideoInputs:
        """The frames of a video that was read. Raises InputError where they cannot be shown."""
        processor = self.processor.video_processor
        frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
        try:
            values = processor([frames], return_tensors="pt", return_metadata=False, **self.size)
        except ValueError as error:
            raise InputError(f"Video {path} cannot be shown ({error}); crop it or scale it.") from error
        step = processor.temporal_patch_size
        # The processor would take 24 frames per second for granted, whatever the file says. It counts in equal parts of
        # the duration; two frames may lie nearer, where sampling rounds.
        seconds = self.told(path, step * clip.spacing, len(frames))
        # The processor fills the last patch with the last frame, which is on screen at its own moment still.
        times = [*(clip.seconds - clip.seconds[0]), *[clip.seconds[-1] - clip.seconds[0]] * (-len(frames) % step)]
        # Qwen3-VL writes the middle of a patch's frames into the text.
        moments = tuple((times[i] + times[i + step - 1]) / 2 for i in range(0, len(times), step))
        return VideoInputs(values["pixel_values_videos"], values["video_grid_thw"][0], seconds, moments)

    def told(self, path: str, seconds: float, frames: int) -> float:
        """What the model is told that a patch of ``seconds`` takes: where neighbours would share a position, a step."""
        step = self.processor.video_processor.temporal_patch_size
        if self.tokens_per_second is None or frames <= step or seconds * self.tokens_per_second >= 1:
            return seconds
        told = 1 / self.tokens_per_second
        # What rounding alone makes shorter is nothing to be told of.
        if seconds < told * (1 - 1e-6) and not self._said_stretched:
            self._said_stretched = True
            console.print(
                f"{path}: {frames} frames in {seconds * frames / step:.2g} s are more than the "
                f"{step * self.tokens_per_second:g} a second that this judge tells apart, so it is told that they take "
                f"{told * frames / step:.2g} s, here and wherever that is so; show fewer (num_frames, frames) for the "
                "true time.",
                markup=False, highlight=False, soft_wrap=True,
            )  # fmt: skip
        return told

    def showing(self, messages: Sequence[dict], clips: Mapping[str, Clip] | None = None, begun: str = "") -> Showing:
        """``messages`` tokenised, with the generation prompt and what is ``begun`` of the answer.

        ``clips`` are videos that lie in no file, by path. Raises InputError where a video cannot be shown, and where
        the words hold what stands for one.
        """
        paths = video_paths(messages)
        text = self.processor.apply_chat_template(self.spelt(messages), tokenize=False, add_generation_prompt=True)
        pieces = f"{text}{begun}".split(self.mark)
        if len(pieces) != len(paths) + 1:
            raise InputError(f"The prompt {text[:80]!r}… holds {self.mark}; take it out: it stands for a video.")
        videos = [self.video(path, (clips or {}).get(path)) for path in paths]
        expanded = pieces[0]
        for video, piece in zip(videos, pieces[1:], strict=True):
            expanded += self.joined(video, piece)
        ids = self._ids(expanded)
        places = self.is_seen(torch.tensor(ids)).nonzero()[:, 0].tolist()
        return Showing(ids, videos, paths, prefix=places[self.tokens(videos[0]) - 1] + 1 if videos else 0)

    def _ids(self, text: str) -> list[int]:
        """Tokens of a text in which what stands for a video stands many times in a row; each row is tokenised once."""
        one, many, ids = self.vision_token, re.compile(f"(?:{re.escape(self.vision_token)})+"), list[int]()
        rows = iter([len(row) // len(one) for row in many.findall(text)])
        for token in self.processor.tokenizer(many.sub(one, text)).input_ids:
            ids += [token] * (next(rows) if token == self.video_token_id else 1)
        return ids

    def spelt(self, messages: Sequence[dict]) -> list[dict]:
        """``messages`` as the chat template takes them."""
        return _without_nones(messages)

    @property
    def stands_in(self) -> int:
        """A token that is no frame's, to stand where motion is read."""
        return self.processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")

    def is_seen(self, ids: Tensor) -> Tensor:
        """Which tokens stand for what is seen, of frames or of motion: bool, of the shape of ``ids``."""
        seen = ids == self.video_token_id
        return seen | (ids == self.stands_in) if self.motion else seen

    def frames_of(self, video: VideoInputs) -> Tensor:
        """The frames of a video as a motion encoder takes them: (T, 3, H, W), normalised as on ImageNet."""
        how = self.processor.video_processor
        return imagenet(frames_in(video, how.temporal_patch_size, how.merge_size, how.image_mean, how.image_std))

    def tokens(self, video: VideoInputs) -> int:
        """How many tokens stand for what is seen of a video."""
        return int(video.grid.prod()) // self.processor.video_processor.merge_size**2 + self.motion

    def placeholder(self, video: VideoInputs) -> str:
        """The text that stands for a video: one token for each of its vision tokens."""
        moved = "<|vision_end|>Motion: <|vision_start|><|image_pad|>" if self.motion else ""
        return self.vision_token * (self.tokens(video) - self.motion) + moved

    def joined(self, video: VideoInputs, following: str) -> str:
        """What stands for a video, and the text that follows."""
        return self.placeholder(video) + following

    def collate(self, showings: Sequence[Showing], *, pixels: bool, prefixes: bool = False) -> dict[str, Tensor]:
        """Left-padded model inputs for a batch: ``input_ids`` and ``attention_mask`` (B, length), and its videos'
        tensors.

        ``pixels=False`` leaves the patches out (features are at hand). ``prefixes`` pads prefixes and what follows them
        apart, so that all prefixes end in the same column.
        """
        columns = [[showing.ids for showing in showings]]
        if prefixes:
            columns = [[each.ids[: each.prefix] for each in showings], [each.ids[each.prefix :] for each in showings]]
        padded = [self._left_padded(rows) for rows in columns]
        ids, mask = (torch.cat(parts, dim=1) for parts in zip(*padded, strict=True))
        videos = [video for showing in showings for video in showing.videos]
        return {"input_ids": ids, "attention_mask": mask, **self.seen(ids, videos, pixels=pixels)}

    def seen(self, ids: Tensor, videos: Sequence[VideoInputs], *, pixels: bool = True) -> dict[str, Tensor]:
        """What a forward on tokens ``ids`` (B, length) takes of their n videos, in order, with their patches or not."""
        return {**self.types(ids), **(self.tensors(videos) if pixels else self.timed(videos))}

    def types(self, ids: Tensor) -> dict[str, Tensor]:
        """What a forward takes besides tokens ``ids``, of their shape, to tell what is seen from what is read."""
        return {"mm_token_type_ids": 2 * (ids == self.video_token_id).int()}

    def tensors(self, videos: Sequence[VideoInputs]) -> dict[str, Tensor]:
        """What a forward takes of n videos, in order."""
        return video_tensors(videos)

    @property
    def frames_in_patch(self) -> int:
        """How many frames a patch holds."""
        return self.processor.video_processor.temporal_patch_size

    def timed(self, videos: Sequence[VideoInputs]) -> dict[str, Tensor]:
        """What positions depend on besides tokens: grids (n, 3), and seconds per grid step (n,), of n videos."""
        tensors = video_tensors([replace(video, patches=torch.empty(0)) for video in videos])
        del tensors["pixel_values_videos"]
        return tensors

    def _left_padded(self, rows: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
        """Token ids and their mask, (rows, longest row)."""
        length, pad = max(map(len, rows)), self.processor.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (length - len(row)) + row for row in rows])
        return ids, torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])


def encoder_class(processor: ProcessorMixin) -> type[ShowingEncoder]:
    """What shows videos in the way of the processor's family."""
    name = type(processor).__name__
    path = next((path for start, path in ENCODERS.items() if name.startswith(start)), None)
    return ShowingEncoder if path is None else pkgutil.resolve_name(path)


def tokens_per_second(config: Any) -> float | None:
    """How many positions a second has for the model with this ``config``; None where time is told in words.

    Qwen2.5-VL cuts a temporal patch's position to a whole number, so patches nearer than one position share it.
    """
    return config.vision_config.tokens_per_second if config.model_type == "qwen2_5_vl" else None


def _without_nones(messages: Sequence[dict]) -> list[dict]:
    # `datasets` gives every part of a message the keys of all parts, with None where there is nothing.
    def filled(content: Any) -> Any:
        if isinstance(content, str):
            return content
        return [{key: value for key, value in part.items() if value is not None} for part in content]

    return [{**message, "content": filled(message["content"])} for message in messages]
