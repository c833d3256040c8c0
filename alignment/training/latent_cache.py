"""Videos encoded once: a cache of latents, addressed by what was encoded and by what."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from alignment.training.config import Frames
from generators.base import Generator
from videoduet.errors import InputError, in_words
from videoduet.records import SamplerSettings, stable_id
from videoduet.store import content_hash, write_tensors
from videoduet.video import Clip, read_video

RATE_TOLERANCE = 0.02
"""Rates that differ by less are the same: 29.97 is 30."""


class LatentCache:
    """Latents in ``folder``, one file for each video; any number of processes, and later trainings, may share it.

    A file's name hashes the video's content, what encodes it (``generator_id`` names the weights; the precision and the
    shape of latents are looked up) and which of its frames, at which size, are encoded.
    """

    def __init__(self, folder: Path, generator: Generator, generator_id: str, frames: Frames = "by_time"):
        self.folder, self.generator, self.frames = folder, generator, frames
        settings = generator.settings
        size = (settings.num_frames, settings.height, settings.width, settings.fps if frames == "by_time" else None)
        latents = tuple(generator.initial_noise(0).shape)
        self.key = stable_id(generator_id, str(generator.denoiser.dtype), size, latents)

    def path(self, video_id: str) -> Path:
        """The file of a video's latents: tensor ``latents`` (1, C, T, h, w), float32."""
        return self.folder / f"{video_id}_{self.key}.safetensors"

    def encode(self, videos: Sequence[Path], process: int = 0, processes: int = 1) -> Iterator["Encoded"]:
        """Encode this process's part of ``videos``, as far as it is missing; yields what became of each."""
        for video in videos[process::processes]:
            video_id, latents, problem = "", None, None
            try:
                video_id = content_hash(video)
                latents = None if self.path(video_id).exists() else self._latents(video)
            # Too little memory is no video's fault; whatever else is wrong with one, the others are encoded.
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                problem = in_words(error)
            if latents is not None:
                write_tensors(self.path(video_id), {"latents": latents})
            yield Encoded(video, video_id, problem)

    def _latents(self, video: Path) -> Tensor:
        latents = self.generator.encode(fitted_frames(video, self.generator.settings, self.frames)[None])
        if not latents.isfinite().all():
            raise InputError(f"Video {video} is not finite once encoded; give dtype 'float32' or 'bfloat16'.")
        return latents


@dataclass(frozen=True)
class Encoded:
    """A video, its content's hash ('' where it cannot be read at all), and why it cannot be used (None: its latents are
    in the cache).
    """

    video: Path
    video_id: str
    problem: str | None


def fitted_frames(video: Path, settings: SamplerSettings, frames: Frames = "by_time") -> Tensor:
    """Frames uint8 (T, H, W, 3) of ``video`` as the generator draws them: its number of frames from the start, cut to
    its aspect ratio in the middle, and resized.

    ``by_time`` takes them at the generator's frame rate, nearest in time; ``as_stored`` takes the first ones whatever
    their rate, as for videos that such a generator drew and somebody stored at another. Raises InputError for a video
    that cannot be read, is too short, or has fewer frames a second than are wanted.
    """
    clip = read_video(video, first=settings.num_frames) if frames == "as_stored" else _in_time(video, settings)
    if len(clip.frames) < settings.num_frames:
        raise InputError(f"Video {video} has {len(clip.frames)} frames; {settings.num_frames} are needed.")
    pixels = torch.from_numpy(clip.frames)
    height, width = pixels.shape[1:3]
    if (height, width) == (settings.height, settings.width):
        return pixels
    # The largest part in the middle that has the generator's aspect ratio.
    scale = min(height / settings.height, width / settings.width)
    crop = round(settings.height * scale), round(settings.width * scale)
    top, left = (height - crop[0]) // 2, (width - crop[1]) // 2
    cut = pixels[:, top : top + crop[0], left : left + crop[1]].permute(0, 3, 1, 2).float()
    resized = F.interpolate(cut, (settings.height, settings.width), mode="bicubic", antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def _in_time(video: Path, settings: SamplerSettings) -> Clip:
    """The frames of ``video`` nearest to the times at which the generator draws; of two as near the earlier."""
    rate = read_video(video, first=1).fps
    if rate < settings.fps * (1 - RATE_TOLERANCE):
        raise InputError(
            f"Video {video} has {rate:g} frames a second, fewer than the {settings.fps:g} that are wanted; give "
            "frames 'as_stored' to take its frames as they are."
        )
    times = np.arange(settings.num_frames) / settings.fps
    # Two frames beyond the last moment: one of them may be the nearest to it.
    clip = read_video(video, first=math.ceil(times[-1] * rate) + 2)
    seconds = clip.seconds - clip.seconds[0]
    length = seconds[-1] + 1 / rate
    # Half a frame's leave: rates that are stored as decimals are never met exactly.
    if times[-1] > length - 0.5 / rate:
        raise InputError(
            f"Video {video} lasts {length:.2f} s; {settings.num_frames} frames at {settings.fps:g} a second need "
            f"{times[-1] + 1 / settings.fps:.2f} s."
        )
    rows = np.searchsorted(seconds, times + (0.5 - 1e-6) / rate, side="right") - 1
    return Clip(clip.frames[rows], clip.seconds[rows], settings.fps)
